// Job states per workflow: one stacked bar per task.

import { h, keep, say } from "./dom.js";
import { count, dateOf, duration } from "./format.js";
import { GROUPS, grouped, total } from "./states.js";

const STATE_GROUP = { running: "running", done: "done", failed: "failed", killed: "failed" };

export class WorkflowsView {
  #list = h("div");
  #empty = h("p", { class: "empty" }, "No workflow yet: submit one with “wm workflow submit”.");
  #choose;
  #pick;
  #fixed = false;
  chosen = null;

  /** `choose(workflow)` when one is chosen; `pick({workflow, task, state})` when jobs are asked for. */
  constructor(host, legend, { choose, pick }) {
    this.#choose = choose;
    this.#pick = pick;
    legend.append(...Object.entries(GROUPS).map(([group, label]) => h("li", { class: `g-${group}` }, h("span", { class: "swatch" }), label)));
    host.append(this.#list, this.#empty);
  }

  update(workflows) {
    this.#empty.hidden = workflows.length > 0;
    // The newest is followed until its reader chooses one.
    if (!this.#fixed || !workflows.some((row) => row.name === this.chosen)) this.#select(workflows[0]?.name ?? null);
    keep(this.#list, workflows, (row) => row.name, (row) => this.#make(row), (element, row) => this.#fill(element, row));
  }

  #fix(name) {
    this.#fixed = true;
    this.#select(name);
  }

  #select(name) {
    if (name === this.chosen) return;
    this.chosen = name;
    for (const button of this.#list.querySelectorAll("h3 button")) button.setAttribute("aria-pressed", button.textContent === name);
    this.#choose(name);
  }

  #make(row) {
    const name = h("button", { type: "button", title: "show its spectrum", "aria-pressed": row.name === this.chosen, on: { click: () => this.#fix(row.name) } }, row.name);
    const title = h("h3", null, name, h("span", { class: "chip" }), h("span", { class: "took", title: `submitted ${dateOf(row.created)}` }));
    return h("article", { class: "workflow", "data-workflow": row.name }, title, h("div", { class: "tasks" }));
  }

  #fill(element, row) {
    const [title, tasks] = element.children;
    const [, state, took] = title.children;
    say(state, row.state);
    state.className = `chip g-${STATE_GROUP[row.state] ?? "waiting"}`;
    say(took, duration((row.finished ?? Date.now() / 1000) - row.created));
    keep(tasks, row.tasks, (task) => task.name, (task) => this.#makeTask(task), (one, task) => this.#fillTask(one, row, task));
  }

  #makeTask(task) {
    return h("div", { class: "task", "data-task": task.name }, h("p", null, h("span", null, task.name), h("span", { class: "tally" })), h("div", { class: "bar", role: "group", "aria-label": `jobs of ${task.name} by state` }));
  }

  #fillTask(element, workflow, task) {
    const [line, bar] = element.children;
    const groups = grouped(task);
    const all = total(task);
    const parts = [h("b", null, count(groups.done.count)), ` of ${count(all)}${task.finished ? "" : " so far"}`];
    if (groups.failed.count) parts.push(`, ${count(groups.failed.count)} failed`);
    if (task.retries) parts.push(`, ${count(task.retries)} ${task.retries === 1 ? "retry" : "retries"}`);
    const tally = line.lastElementChild;
    const shown = all === 0 ? "no jobs yet" : parts.map((part) => part.textContent ?? part).join("");
    if (tally.textContent !== shown) tally.replaceChildren(...(all === 0 ? [shown] : parts));
    const present = Object.keys(GROUPS).filter((group) => groups[group].count > 0);
    keep(
      bar,
      present,
      (group) => group,
      (group) => h("button", { type: "button", class: `g-${group}` }),
      (button, group) => {
        const { count: jobs, states } = groups[group];
        const detail = Object.entries(states).map(([state, number]) => `${number} ${state}`).join(", ");
        button.style.flex = `${jobs} 1 0`;
        button.title = `${detail}: show these jobs`;
        button.setAttribute("aria-label", `${jobs} ${GROUPS[group]} (${detail})`);
        const only = Object.keys(states);
        button.onclick = () => this.#pick({ workflow: workflow.name, task: task.name, state: only.length === 1 ? only[0] : "" });
      },
    );
  }
}
