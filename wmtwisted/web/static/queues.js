// Queue depths, one row per component, and the totals at the top of the page.

import { h, keep, s, say } from "./dom.js";
import { ago, count, dateOf, duration, rate } from "./format.js";
import { Rates, Trail } from "./rates.js";

const COLUMNS = [
  ["waiting", "ready to be delivered"],
  ["in hand", "delivered, not yet settled"],
  ["later", "not yet due: retries and delayed messages"],
  ["dead", "given up after the attempt limit"],
  ["oldest", "age of the oldest waiting message"],
  ["done", "settled"],
];

function spark(width, height) {
  const line = s("path");
  const under = s("path", { class: "under" });
  const element = s("svg", { class: "spark", width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, under, line);
  const trail = new Trail();
  return {
    element,
    push(value) {
      trail.push(value);
      const [outline, area] = trail.paths(width, height);
      line.setAttribute("d", outline);
      under.setAttribute("d", area);
    },
  };
}

export class QueuesView {
  #rows = h("tbody");
  #rates = new Rates();
  #sparks = new Map();
  #empty = h("p", { class: "empty" }, "No component has registered yet.");

  constructor(host) {
    const head = COLUMNS.map(([name, title]) => h("th", { class: "num", scope: "col", title }, name));
    host.append(h("table", null, h("thead", null, h("tr", null, h("th", { scope: "col" }, "component"), ...head, h("th", { scope: "col", title: "messages done per second, over the last minute" }, "rate"))), this.#rows), this.#empty);
  }

  update(status) {
    this.#rates.look(performance.now() / 1000);
    this.#empty.hidden = status.components.length > 0;
    keep(this.#rows, status.components, (row) => row.name, (row) => this.#make(row), (element, row) => this.#fill(element, row));
  }

  #make(row) {
    const line = spark(52, 18);
    this.#sparks.set(row.name, line);
    const name = h("td", null, h("span", { class: "dot" }), row.name);
    return h("tr", { "data-component": row.name }, name, ...COLUMNS.map(() => h("td", { class: "num" })), h("td", { class: "spark-cell" }, line.element));
  }

  #fill(element, row) {
    element.classList.toggle("away", !row.connected);
    element.title = row.connected ? `${row.name}: ${row.retried} refused for another try` : `${row.name} is not connected`;
    const cells = [...element.children].slice(1, 1 + COLUMNS.length);
    const values = [row.waiting, row.leased, row.delayed, row.dead];
    values.forEach((value, index) => {
      say(cells[index], count(value));
      cells[index].className = `num ${value === 0 ? "zero" : ["wait", "", "wait", "bad"][index]}`;
    });
    say(cells[4], row.oldest == null ? "–" : duration(row.oldest));
    cells[4].className = `num ${row.oldest == null ? "zero" : row.oldest > 60 ? "wait" : ""}`;
    say(cells[5], count(row.handled));
    this.#sparks.get(row.name).push(this.#rates.of(row.name, row.handled).rate);
  }
}

export class FiguresView {
  #figures = {};
  #rates = new Rates();
  #spark = spark(74, 22);
  #broker;

  constructor(host, broker) {
    this.#broker = broker;
    for (const name of ["messages/s", "published", "settled", "waiting", "dead", "commits"]) {
      const value = h("dd", { "data-figure": name }, "–");
      this.#figures[name] = value;
      host.append(h("div", null, name === "messages/s" ? this.#spark.element : null, value, h("dt", null, name)));
    }
  }

  update({ broker, components }) {
    this.#rates.look(performance.now() / 1000);
    const speed = this.#rates.of("settled", broker.settled).rate;
    const sum = (field) => components.reduce((all, row) => all + row[field], 0);
    const dead = sum("dead");
    this.#spark.push(speed);
    say(this.#figures["messages/s"], rate(speed));
    say(this.#figures.published, count(broker.published));
    say(this.#figures.settled, count(broker.settled));
    say(this.#figures.waiting, count(sum("waiting") + sum("delayed")));
    say(this.#figures.dead, count(dead));
    say(this.#figures.commits, count(broker.commits));
    this.#figures.dead.parentElement.classList.toggle("bad", dead > 0);
    const full = broker.durability === "full";
    const key = [broker.name, broker.store, broker.durability, ago(broker.started)].join("|");
    if (this.#broker.dataset.shown === key) return;
    this.#broker.dataset.shown = key;
    this.#broker.title = `process ${broker.pid}, since ${dateOf(broker.started)}`;
    this.#broker.replaceChildren(h("b", null, broker.name), ` on ${broker.store}, `, h("span", { class: full ? "" : "reduced" }, `durability ${broker.durability}`), `, up ${ago(broker.started)}`);
  }
}
