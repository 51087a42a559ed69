// Rates from counts that only grow, and a short memory of them.

const LENGTH = 60;

/** Follows any number of counters by name. A counter that fell was restarted. */
export class Rates {
  #last = new Map();
  #now = null;

  /** Start a new look; `at` in seconds. */
  look(at) {
    this.seconds = this.#now === null ? 0 : Math.max(0.2, at - this.#now);
    this.#now = at;
  }

  /** `{grown, rate}` of a counter since the last look; the rate is smoothed. */
  of(name, value) {
    const last = this.#last.get(name);
    const grown = last && value >= last.value ? value - last.value : 0;
    const fresh = this.seconds ? grown / this.seconds : 0;
    let rate = last ? last.rate + 0.5 * (fresh - last.rate) : 0;
    if (rate < 0.05) rate = 0;
    this.#last.set(name, { value, rate });
    return { grown, rate };
  }
}

/** The last values of something, for a sparkline. */
export class Trail {
  values = [];

  push(value) {
    this.values.push(value);
    if (this.values.length > LENGTH) this.values.shift();
  }

  /** SVG paths `[line, area]` in a box of the given size; empty until there are two values. */
  paths(width, height) {
    if (this.values.length < 2) return ["", ""];
    const top = Math.max(...this.values, 1e-9);
    const step = width / (LENGTH - 1);
    const start = width - step * (this.values.length - 1);
    const points = this.values.map((value, index) => `${(start + index * step).toFixed(1)} ${(height - 1 - (height - 2) * (value / top)).toFixed(1)}`);
    const line = `M${points.join("L")}`;
    return [line, `${line}V${height}H${start.toFixed(1)}Z`];
  }
}
