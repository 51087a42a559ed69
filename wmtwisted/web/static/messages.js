// The last messages on the bus, newest first.

import { h, keep } from "./dom.js";
import { dateOf, time } from "./format.js";

export class MessagesView {
  #list = h("ul");
  #empty = h("p", { class: "empty" }, "No message since the broker started.");
  #first = true;

  constructor(host) {
    host.append(this.#list, this.#empty);
  }

  update({ messages }) {
    this.#empty.hidden = messages.length > 0;
    const make = (row) => {
      const destinations = row.destinations.length ? row.destinations.join(", ") : "nobody";
      return h(
        "li",
        { class: this.#first ? "" : "fresh", title: `${row.id}, ${dateOf(row.time)}` },
        h("time", null, time(row.time)),
        h("span", null, row.type),
        h("span", { class: "way" }, h("b", null, row.source), " → ", h("b", null, destinations)),
      );
    };
    keep(this.#list, messages.toReversed(), (row) => row.id, make, () => {});
    this.#first = false;
  }
}
