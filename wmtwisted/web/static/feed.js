// The stream of news, and how fresh it is.

const STALE = 6000; // The server says something at least every second.
const AGAIN = 5000;

/**
 * Calls `listeners[topic](value)` for each piece of news, `onState("live" | "stale" | "lost")`, and
 * `onBeat()` once a second when there is no news.
 * The browser reconnects by itself and says what it saw last; when it was turned away, we do.
 */
export function follow(listeners, onState, onBeat) {
  let source = null;
  let heard = 0;
  let again = 0;

  const alive = () => {
    heard = performance.now();
    onState("live");
  };
  const open = () => {
    clearTimeout(again);
    source?.close();
    source = new EventSource("/api/events");
    source.addEventListener("beat", () => {
      alive();
      onBeat();
    });
    for (const [topic, listener] of Object.entries(listeners)) {
      source.addEventListener(topic, (event) => {
        alive();
        listener(JSON.parse(event.data));
      });
    }
    source.onerror = () => {
      onState("lost");
      if (source.readyState === EventSource.CLOSED) again = setTimeout(open, AGAIN);
    };
  };
  setInterval(() => {
    if (source?.readyState === EventSource.OPEN && heard && performance.now() - heard > STALE) onState("stale");
  }, 1000);
  // A browser has few connections to one server: a page that nobody sees keeps none.
  document.addEventListener("visibilitychange", () => {
    clearTimeout(again);
    source?.close();
    if (!document.hidden) open();
  });
  if (!document.hidden) open();
}

/** JSON from the server. Throws an Error with its one-line explanation. */
export async function get(path, query = {}) {
  return (await ask(path, query)).json();
}

export async function getText(path) {
  return (await ask(path, {})).text();
}

async function ask(path, query) {
  const wanted = Object.entries(query).filter(([, value]) => value !== "" && value != null);
  const parameters = new URLSearchParams(wanted).toString();
  let response;
  try {
    response = await fetch(parameters ? `${path}?${parameters}` : path);
  } catch {
    throw new Error("the broker does not answer");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Error(body.error ? [body.error.message, body.error.hint].filter(Boolean).join("; ") : `error ${response.status}`);
}
