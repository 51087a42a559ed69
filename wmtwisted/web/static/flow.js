// The flow graph with live counts on boxes and arrows; what moves on the bus moves here.

import { s, say } from "./dom.js";
import { count, rate } from "./format.js";
import { place } from "./layout.js";
import { Rates } from "./rates.js";

const BUSY = 0.15; // Messages a second from which on an arrow is shown as busy.
const DOTS = 4; // At most so many dots start on one arrow per look.
const NARROW = 760;

export class FlowView {
  #host;
  #flow = { nodes: [], edges: [] };
  #status = null;
  #rates = new Rates();
  #nodes = new Map();
  #arrows = [];
  #shape = "";

  constructor(host) {
    this.#host = host;
    new ResizeObserver(() => this.#draw()).observe(host);
  }

  show(flow) {
    this.#flow = flow;
    this.#shape = "";
    this.#draw();
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#host;
    const direction = width < NARROW ? "TB" : "LR";
    // Drawn anew when the room has another shape, not for every pixel.
    const aspect = Math.round((4 * (width - 20)) / Math.max(200, height - 10)) / 4;
    const shape = `${direction} ${aspect}`;
    if (shape === this.#shape || !this.#flow.nodes.length) return;
    this.#shape = shape;
    const plan = place(this.#flow, direction, aspect);
    const svg = s(
      "svg",
      { viewBox: `0 0 ${plan.width} ${plan.height}`, preserveAspectRatio: "xMidYMid meet", role: "group", "aria-label": "Components and the messages between them" },
      s("defs", null, arrowHead("arrow"), arrowHead("arrow-flag")),
    );
    // Small flows are not blown up beyond a readable size.
    svg.style.maxWidth = `${plan.width * 1.25}px`;
    svg.style.maxHeight = `${plan.height * 1.25}px`;
    const lines = s("g");
    const tags = s("g");
    this.#arrows = plan.arrows.map((arrow) => this.#drawArrow(arrow, lines, tags));
    svg.append(lines, tags);
    this.#nodes = new Map();
    for (const node of this.#flow.nodes) {
      const view = this.#drawNode(node, plan.nodes.get(node.id));
      this.#nodes.set(node.id, view);
      svg.append(view.element);
      for (const event of ["pointerenter", "focus"]) view.element.addEventListener(event, () => this.#point(svg, node.id));
      for (const event of ["pointerleave", "blur"]) view.element.addEventListener(event, () => svg.classList.remove("pointing"));
    }
    this.#host.replaceChildren(svg);
    const first = plan.nodes.values().next().value;
    this.#host.scrollLeft = (svg.clientWidth * first.x) / plan.width - width / 2;
    if (this.#status) this.update(this.#status);
  }

  #drawArrow(arrow, lines, tags) {
    const name = arrow.flag ? "edge flag" : "edge";
    const line = s("path", { class: "line", d: arrow.path, "marker-end": `url(#${arrow.flag ? "arrow-flag" : "arrow"})` });
    const element = s("g", { class: name }, line);
    lines.append(element);
    const view = { arrow, element, tag: null, messages: [] };
    if (!arrow.label) return { ...view, messages: arrow.edges.map((edge) => ({ edge })) };
    const { x, y, width, height } = arrow.label;
    view.tag = s("g", { class: name }, s("g", { class: "tag" }, s("rect", { x: x - width / 2, y: y - height / 2 + 1, width, height: height - 2, rx: 5 })));
    view.messages = arrow.edges.map((edge, index) => {
      const top = y - height / 2 + index * 28;
      const count = s("tspan", { class: "count" });
      const rate = s("tspan", { class: "rate", dx: 5 });
      const type = s("text", { class: "type", x, y: top + 11, "text-anchor": "middle" }, edge.type);
      view.tag.append(type, s("text", { x, y: top + 24, "text-anchor": "middle" }, count, rate));
      return { edge, count, rate };
    });
    tags.append(view.tag);
    return view;
  }

  #drawNode(node, { x, y, width, height }) {
    const left = x - width / 2;
    const top = y - height / 2;
    const box = { x: left, y: top, width, height, rx: node.kind === "component" ? 9 : height / 2 };
    const element = s("g", { class: `node ${node.kind}`, tabindex: 0, role: "img", "aria-label": node.id, "data-node": node.id });
    element.append(s("rect", { class: "box", ...box }), s("rect", { class: "halo", ...box }));
    const view = { node, element, values: {} };
    if (node.kind === "component") {
      element.append(s("text", { class: "name", x: left + 13, y: top + 21 }, node.id));
      element.append(s("circle", { class: "light", cx: left + width - 15, cy: top + 16.5, r: 3.6 }));
      ["waiting", "in hand", "done"].forEach((label, index) => {
        const at = left + 13 + index * ((width - 20) / 3);
        view.values[label] = s("text", { class: `value ${label.replace(" ", "-")}`, x: at, y: top + 44 });
        element.append(view.values[label], s("text", { class: "label", x: at, y: top + 57 }, label));
      });
      view.room = width - 18;
      view.load = s("rect", { class: "load", x: left + 9, y: top + height - 3.2, height: 3.2, rx: 1.6, width: 0 });
      view.dead = s("text", { x: left + width - 24, y: top + 4, "text-anchor": "middle" });
      element.append(view.load, s("g", { class: "dead" }, s("rect", { x: left + width - 52, y: top - 9, width: 56, height: 18, rx: 9 }), view.dead));
    } else {
      const middle = node.kind === "barrier" ? top + 23 : y + 4.5;
      element.append(s("text", { class: "name", x, y: middle, "text-anchor": "middle" }, node.id));
      if (node.kind === "barrier") {
        view.values.barrier = s("text", { class: "label", x, y: top + 41, "text-anchor": "middle" });
        element.append(view.values.barrier);
      }
    }
    return view;
  }

  #point(svg, id) {
    svg.classList.add("pointing");
    const near = new Set([id]);
    for (const { arrow, element, tag } of this.#arrows) {
      const touches = arrow.from === id || arrow.to === id;
      if (touches) near.add(arrow.from).add(arrow.to);
      for (const part of [element, tag]) part?.classList.toggle("near", touches);
    }
    for (const [name, { element }] of this.#nodes) element.classList.toggle("near", near.has(name));
  }

  update(status) {
    this.#status = status;
    this.#rates.look(performance.now() / 1000);
    const known = new Set(this.#flow.nodes.filter((node) => node.kind !== "source").map((node) => node.id));
    const kinds = new Map(this.#flow.nodes.map((node) => [node.id, node.kind]));
    for (const view of this.#arrows) this.#updateArrow(view, status, known, kinds);
    for (const view of this.#nodes.values()) this.#updateNode(view, status);
  }

  #updateArrow({ arrow, element, tag, messages }, status, known, kinds) {
    let speed = 0;
    let fresh = 0;
    for (const message of messages) {
      const value = carried(message.edge, status, known, kinds);
      const seen = this.#rates.of(`${arrow.key} ${message.edge.type}`, value);
      speed += seen.rate;
      fresh += seen.grown;
      if (!message.count) continue;
      say(message.count, count(value));
      say(message.rate, seen.rate >= BUSY ? `${rate(seen.rate)}/s` : "");
    }
    for (const part of [element, tag]) part?.classList.toggle("busy", speed >= BUSY);
    this.#run(element, arrow.path, Math.min(fresh, DOTS));
  }

  #run(element, path, dots) {
    if (!dots || document.hidden || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    for (let index = 0; index < dots; index += 1) {
      const dot = s("circle", { class: "dot", r: 2.6 });
      dot.style.offsetPath = `path("${path}")`;
      element.append(dot);
      const move = dot.animate(
        [
          { offsetDistance: "0%", opacity: 0 },
          { opacity: 1, offset: 0.15 },
          { opacity: 1, offset: 0.85 },
          { offsetDistance: "100%", opacity: 0 },
        ],
        { duration: 1100, delay: (index * 1000) / dots, easing: "ease-in-out", fill: "backwards" },
      );
      move.onfinish = () => dot.remove();
    }
  }

  #updateNode({ node, element, values, load, room, dead }, status) {
    if (node.kind === "barrier") {
      const trigger = status.triggers.find((row) => row.name === node.id);
      const text = trigger ? `${count(trigger.pending)} pending  ·  ${count(trigger.fired)} opened` : "not used yet";
      say(values.barrier, text);
      element.setAttribute("aria-label", `trigger ${node.id}: ${text}`);
    }
    if (node.kind !== "component") return;
    const row = status.components.find((one) => one.name === node.id);
    const seen = this.#rates.of(`node ${node.id}`, row?.handled ?? 0);
    const waiting = (row?.waiting ?? 0) + (row?.delayed ?? 0);
    say(values.waiting, count(waiting));
    say(values["in hand"], count(row?.leased ?? 0));
    say(values.done, count(row?.handled ?? 0));
    say(dead, row?.dead ? `${count(row.dead)} dead` : "");
    load.style.width = `${room * Math.min(1, Math.log10(1 + waiting) / 4)}px`;
    const halo = element.querySelector(".halo");
    halo.style.opacity = Math.min(1, seen.rate / 5);
    element.classList.toggle("away", !row?.connected);
    element.classList.toggle("waits", waiting > 0);
    element.classList.toggle("dying", (row?.dead ?? 0) > 0);
    element.setAttribute(
      "aria-label",
      `${node.id}, ${row?.connected ? "connected" : "away"}: ${waiting} waiting, ${row?.leased ?? 0} in hand, ${row?.handled ?? 0} done, ${row?.dead ?? 0} dead`,
    );
  }
}

/** How many messages went along an edge. */
function carried(edge, { published, received, triggers }, known, kinds) {
  const sum = (rows, field) => rows.reduce((all, row) => all + row[field], 0);
  if (edge.type === "") return sum(received.filter((row) => row.component === edge.from), "settled");
  const rows = published.filter((row) => row.type === edge.type);
  switch (kinds.get(edge.from)) {
    case "source":
      return sum(rows.filter((row) => !known.has(row.source)), "count");
    case "barrier":
      return triggers.find((row) => row.name === edge.from)?.fired ?? 0;
    default:
      return sum(rows.filter((row) => row.source === edge.from), "count");
  }
}

const arrowHead = (id) =>
  s("marker", { id, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 9, markerHeight: 9, orient: "auto-start-reverse", markerUnits: "userSpaceOnUse" }, s("path", { d: "M0 0.5L8 4L0 7.5Z" }));
