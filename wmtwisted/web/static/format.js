// Numbers, ages and times for people.

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export const count = (value) => (Math.abs(value) < 100000 ? whole.format(value) : short.format(value));

export const rate = (value) => (value < 9.95 ? value.toFixed(1) : count(Math.round(value)));

/** A duration in seconds, in its two or one largest units. */
export function duration(seconds) {
  const value = Math.max(0, seconds);
  if (value < 9.95) return `${value.toFixed(1)} s`;
  if (value < 99.5) return `${Math.round(value)} s`;
  if (value < 5940) return `${Math.round(value / 60)} min`;
  if (value < 172800) {
    const minutes = Math.round(value / 60);
    return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  }
  return `${Math.round(value / 86400)} d`;
}

/** A point in time, seconds since the epoch: the clock, with the date in `dateOf`. */
export const time = (seconds) => clock.format(new Date(seconds * 1000));
export const dateOf = (seconds) => day.format(new Date(seconds * 1000));

export const ago = (seconds) => duration(Date.now() / 1000 - seconds);

export function bytes(value) {
  if (value < 1000) return `${value} B`;
  return `${short.format(value)}B`.replace("K", "k");
}
