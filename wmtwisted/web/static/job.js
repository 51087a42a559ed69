// One job in a drawer: its facts, its history, its log.

import { h, keep, say, tabs } from "./dom.js";
import { get, getText } from "./feed.js";
import { bytes, count, dateOf, duration, time } from "./format.js";
import { chip, groupOf } from "./states.js";

export class JobView {
  #dialog;
  #id = null;
  #stream = "stdout";
  #parts = null;
  #shown = "";
  #close;

  /** `close()` is called when the drawer was closed by its reader. */
  constructor(dialog, close) {
    this.#dialog = dialog;
    this.#close = close;
    dialog.addEventListener("close", () => {
      this.#id = null;
      this.#close();
    });
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }

  open(id) {
    if (id === this.#id) return;
    this.#id = id;
    this.#shown = "";
    this.#build();
    if (!this.#dialog.open) this.#dialog.showModal();
    this.refresh();
  }

  close() {
    if (this.#dialog.open) this.#dialog.close();
  }

  #build() {
    const parts = {
      title: h("h2", { id: "job-title" }, `Job ${this.#id}`),
      chip: h("span"),
      facts: h("dl", { class: "facts" }),
      history: h("ol", { class: "history", tabindex: 0, "aria-label": "History" }),
      files: h("ul", { class: "files" }),
      log: h("pre", { tabindex: 0, "aria-label": "Log" }),
    };
    const tab = (stream) => h("button", { role: "tab", id: `log-${stream}`, "aria-selected": stream === this.#stream, tabindex: stream === this.#stream ? 0 : -1 }, stream);
    const list = h("div", { class: "tabs", role: "tablist", "aria-label": "Log" }, tab("stdout"), tab("stderr"));
    tabs(list, (id) => {
      this.#stream = id.replace("log-", "");
      this.#refreshLog();
    });
    const close = h("button", { type: "button", class: "plain close", on: { click: () => this.#dialog.close() } }, "Close");
    this.#dialog.replaceChildren(
      h("header", { class: "drawer-top" }, parts.title, parts.chip, close),
      parts.facts,
      h("div", { class: "drawer-body" }, h("section", null, h("h3", null, "History"), parts.history, parts.files), h("section", { class: "log" }, list, parts.log)),
    );
    this.#parts = parts;
  }

  /** Ask again for the job and its log; nothing happens when no job is shown. */
  async refresh() {
    const id = this.#id;
    if (id === null) return;
    let job;
    try {
      job = await get(`/api/jobs/${id}`);
    } catch (error) {
      if (id === this.#id) this.#parts.facts.replaceChildren(fact("", error.message));
      return;
    }
    if (id !== this.#id) return;
    const text = JSON.stringify(job);
    if (text !== this.#shown) this.#show(job);
    this.#shown = text;
    await this.#refreshLog();
  }

  #show(job) {
    const { title, chip: mark, facts, history, files } = this.#parts;
    say(title, job.name);
    mark.replaceChildren(chip(job.state, job.outcome));
    const first = job.history[0];
    const last = job.history.at(-1);
    facts.replaceChildren(
      fact("workflow", job.workflow),
      fact("task", job.task),
      fact("id", job.id),
      fact("attempt", job.attempt),
      fact("exit code", job.exit_code ?? "–"),
      fact("in all", first ? duration(last.time - first.time) : "–"),
    );
    keep(history, job.history.map((row, index) => ({ ...row, index })), (row) => row.index, makeStep, (element, row) => fillStep(element, row, job.history[row.index - 1]));
    history.scrollTop = history.scrollHeight;
    const part = (input) => [input.runs && `runs ${input.runs.join(", ")}`, input.events != null && `rows ${count(input.first_event)} to ${count(input.first_event + input.events - 1)}`].filter(Boolean).join(", ");
    files.replaceChildren(
      ...(job.inputs ?? []).map((input) => h("li", null, h("span", null, "reads "), input.lfn, h("span", null, part(input) && `  ${part(input)}`))),
      ...(job.outputs ?? []).map((output) => h("li", null, h("span", null, "made  "), output.lfn, h("span", null, `  ${bytes(output.size)}, ${count(output.events)} events`))),
    );
    files.hidden = !files.children.length;
  }

  async #refreshLog() {
    const [id, stream, { log }] = [this.#id, this.#stream, this.#parts];
    let text;
    try {
      text = await getText(`/api/jobs/${id}/log/${stream}`);
    } catch (error) {
      text = error.message;
    }
    if (id !== this.#id || stream !== this.#stream) return;
    const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    log.classList.toggle("none", text === "");
    say(log, text === "" ? `Nothing on ${stream}.` : text);
    if (atEnd) log.scrollTop = log.scrollHeight;
  }
}

const fact = (name, value) => h("div", null, h("dt", null, name), h("dd", null, String(value)));

const makeStep = () => h("li", null, h("time"), h("span", { class: "after" }), h("span", { class: "to" }), h("span", { class: "why" }));

function fillStep(element, row, before) {
  const [at, after, to, why] = element.children;
  element.className = `g-${groupOf(row.to)}`;
  say(at, time(row.time));
  at.title = dateOf(row.time);
  say(after, before ? `+${duration(row.time - before.time)}` : "");
  say(to, row.to);
  to.title = row.from ? `from ${row.from}, attempt ${row.attempt}` : `attempt ${row.attempt}`;
  why.replaceChildren(h("b", null, row.who), row.why ? `  ${row.why}` : "");
}
