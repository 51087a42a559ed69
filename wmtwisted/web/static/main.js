// Joins the parts of the page to the stream of news.

import { byId, say, tabs } from "./dom.js";
import { follow, get } from "./feed.js";
import { FlowView } from "./flow.js";
import { JobView } from "./job.js";
import { JobsView } from "./jobs.js";
import { MessagesView } from "./messages.js";
import { FiguresView, QueuesView } from "./queues.js";
import { SpectrumView } from "./spectrum.js";
import { WorkflowsView } from "./workflows.js";

const REFRESH = 4000;

const flow = new FlowView(byId("flow"));
const figures = new FiguresView(byId("figures"), byId("broker"));
const queues = new QueuesView(byId("queues"));
const spectrum = new SpectrumView(byId("spectrum"), byId("spectrum-note"));
const jobs = new JobsView(byId("jobs"), (id) => (location.hash = `job=${id}`));
const messages = new MessagesView(byId("messages"));
const job = new JobView(byId("job"), () => {
  // Without the hash, and without an entry in the history that leads back to an open drawer.
  if (location.hash) history.replaceState(null, "", location.pathname);
});
const showTab = (id) => {
  byId("jobs").hidden = id !== "tab-jobs";
  byId("messages").hidden = id !== "tab-messages";
};
const workflows = new WorkflowsView(byId("workflows"), byId("groups"), {
  choose: (name) => spectrum.show(name),
  pick: (filters) => {
    byId("tab-jobs").click();
    jobs.pick(filters);
  },
});

/** The job named by the address, so that a link to a job can be sent to somebody. */
function openNamed() {
  const id = /^#job=(\d+)$/.exec(location.hash)?.[1];
  if (id) job.open(Number(id));
  else job.close();
}

let started = null;

/** A broker that started anew may follow another flow. */
async function loadFlow(broker) {
  if (started === broker.started) return;
  started = broker.started;
  try {
    await document.fonts.load('600 13.5px "Inter Variable"'); // Boxes are measured in it.
    flow.show(await get("/api/flow"));
  } catch (error) {
    started = null;
    trouble([`the flow cannot be shown: ${error.message}`]);
  }
}

function trouble(lines) {
  say(byId("trouble"), lines.join(" · "));
  byId("trouble").hidden = lines.length === 0;
}

function linkState(state) {
  const text = { live: "live", stale: "no news", lost: "no broker" };
  const link = byId("link");
  if (link.dataset.state === state) return;
  link.dataset.state = state;
  say(link.querySelector(".text"), text[state]);
  document.body.classList.toggle("stale", state !== "live");
}

const last = { status: null, workflows: [] };

function showStatus(status) {
  last.status = status;
  for (const view of [flow, figures, queues, messages]) view.update(status);
}

function showWorkflows(rows) {
  last.workflows = rows;
  workflows.update(rows);
  jobs.offer(rows);
}

/** What grows without a change of state: logs, and ages. */
function refresh() {
  if (document.hidden || byId("link").dataset.state !== "live") return;
  workflows.update(last.workflows);
  jobs.refresh();
  job.refresh();
}

tabs(document.querySelector(".lists .tabs"), showTab);
window.addEventListener("hashchange", openNamed);
openNamed();
follow(
  {
    status(status) {
      loadFlow(status.broker);
      showStatus(status);
      document.title = `${status.broker.name} · wmtwisted`;
    },
    workflows(rows) {
      showWorkflows(rows);
      spectrum.show(workflows.chosen);
      job.refresh();
    },
    trouble,
  },
  linkState,
  () => last.status && showStatus(last.status), // Nothing moved: rates fall, ages grow.
);
setInterval(refresh, REFRESH);
