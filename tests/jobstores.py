"""Job stores to test with: fresh ones on each database, and a workflow to put into them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

from wmtwisted.store.database import open_engine
from wmtwisted.store.jobs import JobStore
from wmtwisted.wmbs.model import File, SplitBy, Splitting, Task, Workflow
from wmtwisted.wmbs.records import Job
from wmtwisted.wmbs.states import JobState

DATABASES = ("sqlite", "mariadb")

S = JobState


def open_store(database: str, folder: Path) -> JobStore:
    """A new store with its tables; `store.engine` is to be disposed of."""
    if database == "mariadb":
        from tests.mariadb import fresh_url

        url = fresh_url()
    else:
        url = f"sqlite:///{folder}/jobs.sqlite"
    ticks = count(1)
    store = JobStore(open_engine(url, "jobs"), clock=lambda: float(next(ticks)))
    store.create_tables()
    return store


def chain(
    name: str = "chain",
    *,
    jobs: int = 3,
    select: Splitting | None = None,
    generate: bool = True,
    wait: bool = True,
) -> Workflow:
    """generate (or the workflow's input) -> select -> merge."""
    made = Task("generate", ["true"], None, Splitting("event", 100, jobs), outputs=["events.csv"])
    return Workflow(
        name,
        [
            *([made] if generate else []),
            Task(
                "select",
                ["true"],
                "generate" if generate else "input",
                select or Splitting(SplitBy.EVENT, 50),
                outputs=["histogram.json"],
            ),
            Task(
                "merge", ["true"], "select", Splitting(per_job=0 if wait else 2),
                {"title": "m"}, ["spectrum.json"], wait,
            ),
        ],
        {"fail_rate": "0"},
    )  # fmt: skip


def files(number: int, events: int = 100, runs: Sequence[int] = ()) -> list[File]:
    return [
        File(f"/in/{at}", f"/data/{at}", 10 * events, events, tuple(runs)) for at in range(number)
    ]


def move(
    store: JobStore, job: Job, *to: JobState, cause: str = "", files: Sequence[File] = ()
) -> Job:
    return store.advance(
        job.id, to, who="test", why="so", cause=cause or f"m{job.id}/{'/'.join(to)}", outputs=files
    )


def succeed(store: JobStore, job: Job, events: int = 100) -> Job:
    """Run a job to its success, with one output file per declared output."""
    made = [
        File(f"/out/{job.name}/{name}", f"/storage/{job.name}/{name}", 5, events)
        for name in store.task(job.id).outputs
    ]
    return move(store, job, S.CREATED, S.EXECUTING, S.COMPLETE, S.SUCCESS, files=made)


def exhaust(store: JobStore, job: Job) -> Job:
    return move(store, job, S.CREATED, S.EXECUTING, S.JOBFAILED, S.EXHAUSTED)
