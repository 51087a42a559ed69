"""What commands read from an instance's job store, and how they show times and records."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any

import attrs
import click

from wmtwisted.config import Config

if TYPE_CHECKING:
    from wmtwisted.store.jobs import JobStore
    from wmtwisted.wmbs.records import Job, WorkflowStatus


@contextmanager
def job_store(config: Config) -> Iterator[JobStore]:
    """The instance's workflows, files and jobs. Raises StoreError when it has no tables."""
    # Late, as SQLAlchemy takes a quarter of a second to import.
    from wmtwisted.store.database import open_engine
    from wmtwisted.store.jobs import JobStore

    engine = open_engine(config.store.jobs, "jobs")
    try:
        store = JobStore(engine)
        store.require_tables()
        yield store
    finally:
        engine.dispose()


def find_job(store: JobStore, key: str) -> Job:
    """The job of this id or name; raises NotFound."""
    from wmtwisted.errors import NotFound

    if key.isascii() and key.isdigit():
        return store.job(int(key))
    after = 0
    while page := store.jobs(after=after, limit=1000):
        for job in page:
            if job.name == key:
                return job
        after = page[-1].id
    raise NotFound(f"there is no job {key!r}", "`wm job list` shows ids and names")


def totals(status: WorkflowStatus) -> dict[str, int]:
    """How many jobs a workflow has: made, done, on their way, given up, and retries."""
    outcomes = [outcome for task in status.tasks for outcome in task.outcomes.items()]
    jobs = sum(task.jobs for task in status.tasks)
    ended = sum(count for _, count in outcomes)
    done = sum(count for name, count in outcomes if name == "success")
    return {
        "jobs": jobs,
        "done": done,
        "live": jobs - ended,
        "failed": ended - done,
        "retries": sum(task.retries for task in status.tasks),
    }


def clock(seconds: float) -> str:
    """A time since the epoch as local time, for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def span(seconds: float) -> str:
    """A duration for people: `42 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`."""
    whole = max(0, round(seconds))
    for size, unit, smaller, smaller_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {smaller_unit}" if rest else "")
    return f"{whole} s"


def print_json(record: attrs.AttrsInstance) -> None:
    """A record as one line of JSON, for programs."""

    def plain(_: object, __: object, value: Any) -> Any:
        return value.value if isinstance(value, Enum) else value

    click.echo(json.dumps(attrs.asdict(record, value_serializer=plain)))
