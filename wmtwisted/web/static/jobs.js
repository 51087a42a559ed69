// The list of jobs, with filters; what changed last is on top.

import { h, keep, say } from "./dom.js";
import { get } from "./feed.js";
import { ago, dateOf } from "./format.js";
import { STATES, chip } from "./states.js";

const MOST = 500; // The server gives no more at once.

export class JobsView {
  #filters = {};
  #rows = h("tbody");
  #note = h("p", { class: "empty", role: "status" });
  #asking = false;
  #again = false;

  /** `open(id)` shows a job. */
  constructor(host, open) {
    const select = (name) => {
      const element = h("select", { "aria-label": name, "data-filter": name, on: { change: () => this.refresh() } }, h("option", { value: "" }, `every ${name}`));
      this.#filters[name] = element;
      return element;
    };
    const filters = h("div", { class: "filters" }, select("workflow"), select("task"), select("state"));
    this.#filters.state.append(...STATES.map((state) => h("option", { value: state }, state)));
    const head = [["job"], ["state"], ["try", "num"], ["exit", "num"], ["since", "num"]];
    const table = h("table", null, h("thead", null, h("tr", null, ...head.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)))), this.#rows);
    this.#rows.addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (row && !event.target.closest("a")) open(Number(row.dataset.id));
    });
    host.append(filters, h("div", { class: "rows" }, table, this.#note));
  }

  /** The choices that the filters offer follow the workflows. */
  offer(workflows) {
    this.#options("workflow", workflows.map((row) => row.name));
    this.#options("task", [...new Set(workflows.flatMap((row) => row.tasks.map((task) => task.name)))]);
    this.refresh();
  }

  #options(name, values) {
    const select = this.#filters[name];
    const known = [...select.options].slice(1).map((option) => option.value);
    if (known.join("\n") === values.join("\n")) return;
    const value = select.value;
    select.replaceChildren(select.options[0], ...values.map((one) => h("option", { value: one }, one)));
    select.value = values.includes(value) ? value : "";
  }

  /** Set the filters and show what they let through. */
  pick(filters) {
    for (const [name, value] of Object.entries(filters)) this.#filters[name].value = value;
    this.refresh();
  }

  /** Ask again; questions that come while one is open become one more. */
  async refresh() {
    if (this.#asking) {
      this.#again = true;
      return;
    }
    this.#asking = true;
    const values = Object.fromEntries(Object.entries(this.#filters).map(([name, select]) => [name, select.value]));
    try {
      const { jobs, next } = await get("/api/jobs", { ...values, limit: MOST });
      jobs.sort((one, other) => other.changed - one.changed || other.id - one.id);
      keep(this.#rows, jobs, (job) => job.id, make, update);
      this.#tell(jobs.length === 0 ? "No such job." : next === null ? "" : `There are more than these ${MOST}; narrow the filters to see the others.`);
    } catch (error) {
      this.#tell(error.message);
    } finally {
      this.#asking = false;
    }
    if (this.#again) {
      this.#again = false;
      this.refresh();
    }
  }

  #tell(text) {
    say(this.#note, text);
    this.#note.hidden = text === "";
  }
}

function make(job) {
  const cells = ["", "num", "num", "num"].map((kind) => h("td", { class: kind }));
  return h("tr", { "data-id": job.id }, h("td", null, h("a", { href: `#job=${job.id}`, title: job.name }, job.name)), ...cells);
}

function update(row, job) {
  const [, state, attempt, exit, since] = row.children;
  const key = `${job.state} ${job.outcome}`;
  if (state.dataset.shown !== key) {
    state.dataset.shown = key;
    state.replaceChildren(chip(job.state, job.outcome));
  }
  say(attempt, job.attempt);
  attempt.className = `num ${job.attempt > 1 ? "wait" : "zero"}`;
  say(exit, job.exit_code ?? "–");
  exit.className = `num ${job.exit_code ? "bad" : "zero"}`;
  say(since, ago(job.changed));
  since.title = dateOf(job.changed);
  row.title = job.why;
}
