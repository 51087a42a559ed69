"""A process that runs a workflow's jobs in the job store named on its command line, and may die.

It says each step before it takes it, and starts from what the store knows.
"""

from __future__ import annotations

import sys

from tests.jobstores import S, chain, move
from wmtwisted.store.database import open_engine
from wmtwisted.store.jobs import JobStore
from wmtwisted.wmbs.model import File, SplitBy, Splitting
from wmtwisted.wmbs.records import Job
from wmtwisted.wmbs.states import WorkflowState


def say(text: str) -> None:
    print(text, flush=True)


def run(store: JobStore, job: Job) -> None:
    made = [File(f"/out/{job.name}", f"/storage/{job.name}", 5, 100)]
    for step in (S.CREATED, S.EXECUTING):
        say(f"{job.name} {step}")
        move(store, job, step, cause=f"{step} {job.id}")
    say(f"{job.name} success")
    move(store, job, S.COMPLETE, S.SUCCESS, cause=f"success {job.id}", files=made)


def main(url: str) -> None:
    store = JobStore(open_engine(url, "jobs"))
    say("inject")
    workflow = chain(jobs=6, select=Splitting(SplitBy.EVENT, 40))
    number = store.inject(workflow, cause="new")
    say("split")
    store.split(number, cause="new")
    while store.workflow(number).state is WorkflowState.RUNNING:
        for job in store.jobs(limit=1000):
            if job.outcome is None:
                run(store, job)
            say(f"split after {job.name}")
            store.split(number, cause=f"end of {job.id}")
    say("done")


if __name__ == "__main__":
    main(sys.argv[1])
