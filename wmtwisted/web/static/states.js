// The states of a job, in six groups that a person can tell apart at a distance.

import { h } from "./dom.js";

export const GROUPS = {
  done: "done",
  failed: "failed",
  finishing: "finishing",
  running: "running",
  retrying: "retry",
  waiting: "waiting",
};

const GROUP_OF = {
  new: "waiting",
  created: "waiting",
  executing: "running",
  complete: "finishing",
  success: "finishing",
  createfailed: "retrying",
  submitfailed: "retrying",
  jobfailed: "retrying",
  createcooloff: "retrying",
  submitcooloff: "retrying",
  jobcooloff: "retrying",
  exhausted: "failed",
  killed: "failed",
  cleanout: "done",
};

export const STATES = Object.keys(GROUP_OF);

/** The group of one job: a cleaned-out job keeps the outcome it had. */
export function groupOf(state, outcome) {
  if (outcome === "exhausted" || outcome === "killed") return "failed";
  return GROUP_OF[state] ?? "waiting";
}

/** `{group: {count, states: {state: count}}}` of a task, where cleaned-out failures count as failed. */
export function grouped(task) {
  const groups = Object.fromEntries(Object.keys(GROUPS).map((group) => [group, { count: 0, states: {} }]));
  const add = (group, state, count) => {
    if (count <= 0) return;
    groups[group].count += count;
    groups[group].states[state] = count;
  };
  const { exhausted = 0, killed = 0 } = task.outcomes ?? {};
  const lost = exhausted + killed - (task.states.exhausted ?? 0) - (task.states.killed ?? 0);
  for (const [state, count] of Object.entries(task.states)) {
    if (state === "cleanout" && lost > 0) {
      add("failed", state, Math.min(lost, count));
      add("done", state, count - lost);
    } else add(groupOf(state), state, count);
  }
  return groups;
}

export const total = (task) => Object.values(task.states).reduce((sum, count) => sum + count, 0);

export const chip = (state, outcome) =>
  h("span", { class: `chip g-${groupOf(state, outcome)}` }, state === "cleanout" && outcome ? `${outcome}, cleaned` : state);
