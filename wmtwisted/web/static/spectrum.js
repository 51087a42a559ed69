// The merged spectrum: a histogram with its statistical errors.

import uPlot from "./vendor/uplot.js";
import { h, say } from "./dom.js";
import { get } from "./feed.js";
import { count } from "./format.js";

const FONT = '11px "Inter Variable", system-ui, sans-serif';
const AXIS = { stroke: "#8795a8", font: FONT, labelFont: FONT, grid: { stroke: "#1b2430", width: 1 }, ticks: { stroke: "#2d3a4a", width: 1, size: 5 } };

export class SpectrumView {
  #host;
  #note;
  #plot = null;
  #text = "";
  #spectrum = null;
  #asked = 0;

  constructor(host, note) {
    this.#host = host;
    this.#note = note;
    new ResizeObserver(() => this.#plot?.setSize(this.#size())).observe(host);
  }

  /** Ask for a workflow's spectrum and draw it when it is another than the one shown. */
  async show(workflow) {
    const asked = ++this.#asked;
    let spectrum = null;
    let problem = "";
    try {
      spectrum = workflow ? await get("/api/spectrum", { workflow }) : null;
    } catch (error) {
      problem = error.message;
    }
    if (asked !== this.#asked) return; // Another question has overtaken this one.
    const text = JSON.stringify([workflow, spectrum, problem]);
    if (text === this.#text) return;
    this.#text = text;
    this.#spectrum = spectrum;
    if (spectrum) this.#draw();
    else {
      this.#plot?.destroy();
      this.#plot = null;
      this.#note.replaceChildren();
      this.#host.replaceChildren(h("p", { class: "empty" }, problem || (workflow ? "Nothing is merged yet." : "No workflow yet.")));
    }
  }

  #size() {
    return { width: Math.max(200, this.#host.clientWidth - 12), height: Math.max(180, this.#host.clientHeight - 4) };
  }

  #draw() {
    const { edges, counts, events, underflow, overflow, jobs, final = true } = this.#spectrum;
    this.#say();
    const peak = counts.indexOf(Math.max(...counts));
    const outside = underflow + overflow;
    const summary = `${count(events)} events, peak ${edges[peak]} to ${edges[peak + 1]} GeV`;
    this.#host.setAttribute("aria-label", `Histogram: ${summary}${outside ? `, ${count(outside)} outside` : ""}${jobs ? `, from ${jobs} jobs` : ""}`);
    this.#host.setAttribute("role", "img");
    this.#host.dataset.final = final;
    const data = [edges, [...counts, counts.at(-1)]];
    if (this.#plot) {
      this.#plot.setData(data);
      return;
    }
    this.#host.replaceChildren();
    this.#plot = new uPlot(this.#options(), data, this.#host);
  }

  #options() {
    const fillWith = (plot) => {
      const { top, height } = plot.bbox;
      const gradient = plot.ctx.createLinearGradient(0, top, 0, top + height);
      gradient.addColorStop(0, "rgba(92, 200, 255, 0.42)");
      gradient.addColorStop(1, "rgba(92, 200, 255, 0.04)");
      return gradient;
    };
    return {
      ...this.#size(),
      padding: [10, 14, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false } },
      scales: { x: { time: false }, y: { range: (plot, low, high) => [0, Math.max(5, high * 1.12)] } },
      axes: [
        { ...AXIS, label: "m(μμ)  [GeV]", labelSize: 20, size: 30 },
        { ...AXIS, label: "events per bin", labelSize: 20, size: 52, values: (plot, values) => values.map((value) => (Number.isInteger(value) ? count(value) : "")) },
      ],
      series: [{}, { stroke: "#5cc8ff", width: 1.5, fill: fillWith, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } }],
      hooks: { draw: [(plot) => this.#errors(plot)], setCursor: [(plot) => this.#say(plot.cursor.left >= 0 ? plot.posToVal(plot.cursor.left, "x") : null)] },
    };
  }

  /** The square root of each count, as a bar through the middle of its bin. */
  #errors(plot) {
    const { edges, counts } = this.#spectrum;
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.strokeStyle = "rgba(228, 240, 255, 0.75)";
    ctx.lineWidth = devicePixelRatio;
    ctx.beginPath();
    counts.forEach((value, index) => {
      if (!value) return;
      const x = Math.round(plot.valToPos((edges[index] + edges[index + 1]) / 2, "x", true));
      ctx.moveTo(x, plot.valToPos(value + Math.sqrt(value), "y", true));
      ctx.lineTo(x, plot.valToPos(Math.max(0, value - Math.sqrt(value)), "y", true));
    });
    ctx.stroke();
    ctx.restore();
  }

  /** The line above: the bin under the pointer, or the sum and the peak. */
  #say(mass = null) {
    const { edges, counts, events, underflow, overflow, final = true } = this.#spectrum;
    const bin = mass === null ? -1 : edges.findLastIndex((edge) => edge <= mass);
    const strong = h("b");
    const rest = h("span");
    if (bin >= 0 && bin < counts.length) {
      say(strong, count(counts[bin]));
      say(rest, ` ± ${Math.sqrt(counts[bin]).toFixed(0)} in ${edges[bin]}–${edges[bin + 1]} GeV`);
    } else {
      const peak = counts.indexOf(Math.max(...counts));
      const outside = underflow + overflow;
      say(strong, count(events));
      say(rest, ` events, peak ${edges[peak]}–${edges[peak + 1]} GeV${outside ? `, ${count(outside)} outside` : ""}${final ? "" : ", so far"}`);
    }
    this.#note.replaceChildren(strong, rest);
  }
}
