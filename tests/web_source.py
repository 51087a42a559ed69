"""A bus in memory, as far as the page can see: the whole life of jobs, one step at a time."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

from attrs import define, field

from wmtwisted.errors import NotFound, StoreError
from wmtwisted.flow.graph import graph
from wmtwisted.flow.spec import read_flow
from wmtwisted.web.source import (
    Answer,
    Flow,
    Health,
    JobDetail,
    JobRow,
    MessageRow,
    Spectrum,
    Status,
    Stream,
    TaskRow,
    WorkflowRow,
)

SPEC = Path(__file__).parent.parent / "specs" / "lifecycle.flow"

COMPONENTS = (
    "JobCreator",
    "JobSubmitter",
    "JobTracker",
    "ErrorHandler",
    "DBS",
    "Phedex",
    "JobCleanup",
)

#: Who receives what.
ROUTES = {
    "NewWorkflow": ("JobCreator",),
    "CreateJob": ("JobCreator",),
    "SubmitJob": ("JobSubmitter",),
    "ReSubmitJob": ("JobSubmitter",),
    "TrackJob": ("JobTracker",),
    "JobProcessFailed": ("ErrorHandler",),
    "JobProcessSuccess": ("DBS", "Phedex"),
    "CleanJob": ("JobCleanup",),
    "JobSuccess": ("JobCreator",),
    "JobFailed": ("JobCreator", "JobCleanup"),
}

#: Messages a component handles in one step.
PACE = 4


@define
class Queue:
    """A component's messages and counts."""

    waiting: deque[tuple[str, int, float]] = field(factory=deque)
    connected: bool = True
    handled: int = 0
    retried: int = 0
    dead: int = 0


@define(slots=False)
class Simulation:
    """A Source whose world moves by `step()` and not by itself; the same seed gives the same."""

    clock: Callable[[], float]
    seed: int = 7
    fail_rate: float = 0.2
    slots: int = 6
    #: Raised instead of every answer when not empty.
    broken: str = ""
    queues: dict[str, Queue] = field(factory=lambda: {name: Queue() for name in COMPONENTS})
    published: Counter[tuple[str, str]] = field(factory=Counter)
    received: dict[tuple[str, str], list[int]] = field(factory=dict)
    recent: deque[MessageRow] = field(factory=lambda: deque(maxlen=50))
    all_jobs: dict[int, JobDetail] = field(factory=dict)
    names: dict[str, float] = field(factory=dict)
    flags: Counter[int] = field(factory=Counter)
    running: dict[int, int] = field(factory=dict)
    cooling: dict[int, int] = field(factory=dict)
    fired: int = 0
    commits: int = 0
    started: float = 0.0
    _random: random.Random = field(init=False)
    _numbers: itertools.count[int] = field(factory=lambda: itertools.count(1))

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 (a simulation)
        self.started = self.clock()

    # What happens.

    def submit(self, name: str, jobs: int = 10) -> None:
        """A workflow arrives: `jobs` generate and `jobs` select jobs, then one merge."""
        self.names[name] = self.clock()
        for task, count in (("generate", jobs), ("select", jobs), ("merge", 1)):
            for number in range(1, count + 1):
                self._new_job(name, task, number)
        self._publish("wm", "NewWorkflow", 0)

    def _new_job(self, workflow: str, task: str, number: int) -> None:
        job_id = len(self.all_jobs) + 1
        self.all_jobs[job_id] = {
            "id": job_id,
            "name": f"{workflow}-{task}-{number}",
            "workflow": workflow,
            "task": task,
            "state": "new",
            "outcome": None,
            "attempt": 1,
            "exit_code": None,
            "why": "",
            "changed": self.clock(),
            "history": [],
            "inputs": [],
            "outputs": [],
        }

    def step(self, times: int = 1) -> None:
        """Every connected component handles some of its messages."""
        for _ in range(times):
            self.commits += 1
            self._release()
            self._finish_running()
            for name, queue in self.queues.items():
                for _ in range(min(PACE, len(queue.waiting)) if queue.connected else 0):
                    if name == "JobSubmitter" and self._executing() >= self.slots:
                        break
                    kind, job_id, _time = queue.waiting.popleft()
                    self._settled(name, kind)
                    self._handle(name, kind, job_id)
            for job_id, left in list(self.cooling.items()):
                self.cooling[job_id] = left - 1
                if left <= 0:
                    del self.cooling[job_id]
                    self._move(job_id, "created", "ErrorHandler", "cool-off is over")
                    self.all_jobs[job_id]["attempt"] += 1
                    self._publish("ErrorHandler", "ReSubmitJob", job_id)

    def _executing(self) -> int:
        return sum(job["state"] == "executing" for job in self.all_jobs.values())

    def _release(self) -> None:
        """Jobs whose task's input is there get their CreateJob."""
        creator = self.queues["JobCreator"]
        if not creator.connected or creator.handled == 0:
            return
        for job in self.all_jobs.values():
            if job["state"] == "new" and not job["history"] and self._ready(job):
                self._move(job["id"], "new", "JobCreator", "split")
                self._publish("JobCreator", "CreateJob", job["id"])

    def _ready(self, job: JobDetail) -> bool:
        others = [one for one in self.all_jobs.values() if one["workflow"] == job["workflow"]]
        number = job["name"].rpartition("-")[2]
        match job["task"]:
            case "select":
                needed = [one for one in others if one["name"].endswith(f"-generate-{number}")]
            case "merge":
                needed = [one for one in others if one["task"] == "select"]
            case _:
                needed = []
        return all(one["outcome"] is not None for one in needed)

    def _handle(self, component: str, kind: str, job_id: int) -> None:
        match component, kind:
            case "JobCreator", "CreateJob":
                self._move(job_id, "created", component, "sandbox made")
                self._publish(component, "SubmitJob", job_id)
            case "JobSubmitter", _:
                self._move(job_id, "executing", component, f"slot {job_id % self.slots}")
                self._publish(component, "TrackJob", job_id)
            case "JobTracker", _:
                self.running[job_id] = self._random.randint(2, 5)
            case (("DBS" | "Phedex"), _):
                self.flags[job_id] += 1
                if self.flags[job_id] == 2:
                    self.fired += 1
                    self._publish("JobPostProcess", "CleanJob", job_id)
            case "ErrorHandler", _:
                job = self.all_jobs[job_id]
                if job["attempt"] >= 4:
                    self._move(job_id, "exhausted", component, "4 attempts failed")
                    self._publish(component, "JobFailed", job_id)
                else:
                    self.queues[component].retried += 1
                    self._move(job_id, "jobcooloff", component, f"attempt {job['attempt']} failed")
                    self.cooling[job_id] = 2 * job["attempt"]
            case "JobCleanup", _:
                self._move(job_id, "cleanout", component, "sandbox removed, log kept")
                if kind == "CleanJob":
                    self._publish(component, "JobSuccess", job_id)

    def _finish_running(self) -> None:
        if not self.queues["JobTracker"].connected:
            return
        for job_id, left in list(self.running.items()):
            self.running[job_id] = left - 1
            if left > 0:
                continue
            del self.running[job_id]
            job = self.all_jobs[job_id]
            failed = self._random.random() < self.fail_rate
            job["exit_code"] = 3 if failed else 0
            if failed:
                self._move(job_id, "jobfailed", "JobTracker", "exit code 3")
                self._publish("JobTracker", "JobProcessFailed", job_id)
                continue
            self._move(job_id, "complete", "JobTracker", "exit code 0")
            self._move(job_id, "success", "JobTracker", "1 output stored")
            lfn = f"/store/{job['workflow']}/{job['task']}/{job['name']}.csv"
            job["outputs"] = [{"lfn": lfn, "size": 1_204_331, "events": 10_000}]
            self._publish("JobTracker", "JobProcessSuccess", job_id)

    def _move(self, job_id: int, state: str, who: str, why: str) -> None:
        job = self.all_jobs[job_id]
        now = self.clock()
        before = job["state"] if job["history"] else None
        job["history"].append(
            {
                "time": now,
                "from": before,
                "to": state,
                "who": who,
                "why": why,
                "attempt": job["attempt"],
            }
        )
        job["state"], job["changed"], job["why"] = state, now, why
        if state in ("success", "exhausted", "killed"):
            job["outcome"] = state

    def _publish(self, source: str, kind: str, job_id: int) -> None:
        self.published[source, kind] += 1
        destinations = ROUTES[kind]
        for name in destinations:
            self.queues[name].waiting.append((kind, job_id, self.clock()))
            self.received.setdefault((name, kind), [0, 0])[0] += 1
        number = next(self._numbers)
        self.recent.append(
            {
                "id": f"{source}/{number}",
                "type": kind,
                "source": source,
                "time": self.clock(),
                "destinations": list(destinations),
            }
        )

    def _settled(self, component: str, kind: str) -> None:
        self.queues[component].handled += 1
        self.received[component, kind][1] += 1

    # What can be asked.

    def _check(self) -> None:
        if self.broken:
            raise StoreError(self.broken)

    def flow(self) -> Answer[Flow]:
        self._check()
        flow: Flow = graph(read_flow(SPEC))  # type: ignore[assignment]
        return flow

    def status(self) -> Answer[Status]:
        self._check()
        now = self.clock()
        return {
            "broker": {
                "name": "wm@testbed",
                "pid": 4711,
                "started": self.started,
                "durability": "full",
                "store": "sqlite",
                "published": self.published.total(),
                "delivered": sum(row[0] for row in self.received.values()),
                "settled": sum(row[1] for row in self.received.values()),
                "commits": self.commits,
            },
            "components": [
                {
                    "name": name,
                    "connected": queue.connected,
                    "waiting": len(queue.waiting),
                    "leased": len(self.running) if name == "JobTracker" else 0,
                    "delayed": len(self.cooling) if name == "JobSubmitter" else 0,
                    "dead": queue.dead,
                    "oldest": round(now - queue.waiting[0][2], 1) if queue.waiting else None,
                    "handled": queue.handled,
                    "retried": queue.retried,
                }
                for name, queue in self.queues.items()
            ],
            "published": [
                {"source": source, "type": kind, "count": count}
                for (source, kind), count in self.published.items()
            ],
            "received": [
                {"component": name, "type": kind, "delivered": row[0], "settled": row[1]}
                for (name, kind), row in self.received.items()
            ],
            "triggers": [
                {
                    "name": "JobPostProcess",
                    "pending": sum(1 for count in self.flags.values() if count < 2)
                    + self._executing(),
                    "fired": self.fired,
                }
            ],
            "messages": list(self.recent),
        }

    def workflows(self) -> Answer[list[WorkflowRow]]:
        self._check()
        return [self._workflow(name) for name in reversed(self.names)]

    def _workflow(self, name: str) -> WorkflowRow:
        tasks: list[TaskRow] = []
        mine = [job for job in self.all_jobs.values() if job["workflow"] == name]
        for task, reads in (("generate", None), ("select", "generate"), ("merge", "select")):
            made = [job for job in mine if job["task"] == task and job["history"]]
            outcomes = Counter(job["outcome"] for job in made if job["outcome"])
            tasks.append(
                {
                    "name": task,
                    "input": reads,
                    "finished": outcomes.total() == sum(job["task"] == task for job in mine),
                    "states": dict(Counter(job["state"] for job in made)),
                    "outcomes": {str(key): count for key, count in outcomes.items()},
                    "retries": sum(job["attempt"] - 1 for job in made),
                }
            )
        done = all(job["state"] == "cleanout" for job in mine)
        lost = any(job["outcome"] == "exhausted" for job in mine)
        return {
            "name": name,
            "state": ("failed" if lost else "done") if done else "running",
            "created": self.names[name],
            "finished": max(job["changed"] for job in mine) if done else None,
            "tasks": tasks,
        }

    def jobs(
        self, workflow: str | None, task: str | None, state: str | None, after: int, limit: int
    ) -> Answer[list[JobRow]]:
        self._check()
        rows: list[JobRow] = [
            job
            for job in self.all_jobs.values()
            if job["id"] > after
            and workflow in (None, job["workflow"])
            and task in (None, job["task"])
            and state in (None, job["state"])
        ]
        return rows[:limit]

    def job(self, job_id: int) -> Answer[JobDetail]:
        self._check()
        if job_id not in self.all_jobs:
            raise NotFound(f"there is no job {job_id}", "`wm job list` shows them")
        return self.all_jobs[job_id]

    def log(self, job_id: int, stream: Stream) -> Answer[str]:
        job = self.job(job_id)
        assert isinstance(job, dict)
        failed = job["exit_code"] == 3
        if stream == "stderr":
            return "error: event generator gave up (fail_rate)\n" if failed else ""
        if job["exit_code"] is None:
            return ""
        lines = [f"{job['name']}: attempt {job['attempt']}, seed {8000 + job_id}"]
        if not failed:
            lines += [f"  {done:>6,} events" for done in range(1000, 10_001, 1000)]
            lines.append(f"wrote events.csv: 10,000 events, <{job_id}> & done")
        return "\n".join(lines) + "\n"

    def spectrum(self, workflow: str) -> Answer[Spectrum | None]:
        self._check()
        if workflow not in self.names:
            raise NotFound(f"there is no workflow {workflow!r}")
        mine = [job for job in self.all_jobs.values() if job["workflow"] == workflow]
        ready = sum(job["task"] == "select" and job["outcome"] == "success" for job in mine)
        if not ready:
            return None
        counts = [
            round(ready * 1000 * (_resonance(60.5 + index) + 0.004 * math.exp(-index / 25)))
            for index in range(60)
        ]
        return {
            "events": sum(counts),
            "edges": [60.0 + index for index in range(61)],
            "counts": counts,
            "underflow": 0,
            "overflow": 0,
            "jobs": ready,
            "files": ready,
            "final": any(job["task"] == "merge" and job["outcome"] == "success" for job in mine),
        }

    def health(self) -> Answer[Health]:
        return {"ok": not self.broken, "reason": self.broken}


def _resonance(mass: float) -> float:
    """A smeared Z, as a share of events per GeV."""
    return 0.11 / (1 + ((mass - 90.8) / 2.1) ** 2)
