"""Making jobs from what is available, closing what is finished, and ending the workflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen
from sqlalchemy import Connection, Row, select

from wmtwisted.errors import StoreError
from wmtwisted.store import jobs_files, jobs_read
from wmtwisted.store.jobs_schema import (
    chunks,
    file,
    fileset,
    insert,
    job,
    job_file,
    job_history,
    jobgroup,
    sub_file,
    subscription,
    task,
    workflow,
)
from wmtwisted.store.jobs_states import lock_workflow
from wmtwisted.wmbs import splitting
from wmtwisted.wmbs.model import JobSpec, Task, Workflow
from wmtwisted.wmbs.records import Job
from wmtwisted.wmbs.states import JobState, WorkflowState
from wmtwisted.wmbs.workflow import from_dict


@frozen
class _Call:
    """What one call of `split` works on."""

    connection: Connection
    workflow_id: int
    model: Workflow
    cause: str
    who: str
    now: float


def split(connection: Connection, workflow_id: int, cause: str, who: str, now: float) -> list[Job]:
    """See JobStore.split. The workflow's row is locked, so that calls come one after another.

    Jobs end without that lock. Still no file is missed: a task's outputs close only after all its
    jobs were seen to have ended, a job ends in the transaction that adds its files, and what reads
    a closed input looks at the files after it was closed.
    """
    locked = lock_workflow(connection, workflow_id)
    made = jobs_read.moved_by(connection, workflow_id, JobState.NEW, cause)
    if made or locked.state != WorkflowState.RUNNING:
        return made
    call = _Call(connection, workflow_id, from_dict(locked.document), cause, who, now)
    rows = {row.name: row for row in connection.execute(_tasks(workflow_id))}
    # Each task after the one it reads, so that one pass is enough: what closes is seen below.
    finished = [_serve(call, one, rows[one.name]) for one in call.model.in_order()]
    if all(finished):
        _end(connection, workflow_id, now)
    return jobs_read.moved_by(connection, workflow_id, JobState.NEW, cause)


def _tasks(workflow_id: int) -> Any:
    return (
        select(
            task.c.id,
            task.c.name,
            task.c.jobs,
            task.c.output,
            fileset.c.open.label("unfinished"),
            subscription.c.id.label("subscription"),
            subscription.c.fileset.label("input"),
        )
        .join(fileset, fileset.c.id == task.c.output)
        .outerjoin(subscription, subscription.c.task == task.c.id)
        .where(task.c.workflow == workflow_id)
    )


def _serve(call: _Call, one: Task, row: Row[Any]) -> bool:
    """Make the task's jobs, and close its outputs when it is finished; whether it is."""
    if not row.unfinished:
        return True
    if row.subscription is None:
        complete, left = True, False
        specs: Sequence[JobSpec] = splitting.generate(one.splitting) if row.jobs == 0 else ()
    else:
        is_open = select(fileset.c.open).where(fileset.c.id == row.input)
        complete = not call.connection.execute(is_open).scalar_one()
        specs, left = _cut(call, one, row, complete)
    if specs:
        _make(call, row, specs)
        return False
    if not complete or left or _working(call.connection, row.id):
        return False
    call.connection.execute(fileset.update().where(fileset.c.id == row.output).values(open=False))
    return True


def _working(connection: Connection, task_id: int) -> bool:
    query = select(job.c.id).where(job.c.task == task_id, job.c.outcome == "").limit(1)
    return connection.execute(query).first() is not None


def _cut(call: _Call, one: Task, row: Row[Any], complete: bool) -> tuple[Sequence[JobSpec], bool]:
    """The jobs to make from what is available, its files acquired, and whether any are left."""
    if one.wait and not complete:
        # Nothing is to be made yet: spare the reading of what has piled up.
        return (), True
    available = (
        select(file)
        .join(sub_file, sub_file.c.file == file.c.id)
        .where(sub_file.c.subscription == row.subscription, sub_file.c.status == "available")
        .order_by(file.c.id)
    )
    found = [of for _, of in jobs_files.load(call.connection, available)]
    if not found:
        return (), False
    result = splitting.split(found, complete, one.splitting, one.wait)
    left = {of.lfn for of in result.left}
    taken = [of.lfn for of in found if of.lfn not in left]
    ids = jobs_files.ids_of(call.connection, taken)
    for some in chunks(ids.values()):
        changed = call.connection.execute(
            sub_file.update()
            .where(sub_file.c.subscription == row.subscription, sub_file.c.file.in_(some))
            .where(sub_file.c.status == "available")
            .values(status="acquired")
        )
        if changed.rowcount != len(some):
            raise StoreError(
                f"task {one.name!r}: {len(some) - changed.rowcount} of its available files were "
                "taken by somebody else while its workflow was locked",
                "only the components may write the job store",
            )
    return result.jobs, bool(left)


def _make(call: _Call, row: Row[Any], specs: Sequence[JobSpec]) -> None:
    connection = call.connection
    group_id = insert(connection, jobgroup, task=row.id, cause=call.cause, created=call.now)
    why = f"made from {row.name}'s input" if row.subscription else f"{row.name} reads nothing"
    numbered = list(enumerate(specs, row.jobs + 1))
    for some in chunks(numbered):
        connection.execute(
            job.insert(),
            [
                {
                    "workflow": call.workflow_id,
                    "task": row.id,
                    "jobgroup": group_id,
                    "number": number,
                    "state": JobState.NEW,
                    "outcome": "",
                    "attempt": 1,
                    "seed": call.model.seed(row.name, number),
                    "first_event": spec.first_event,
                    "events": spec.events,
                    "sandbox": "",
                    "batch_id": "",
                    "why": why,
                    "created": call.now,
                    "changed": call.now,
                }
                for number, spec in some
            ],
        )
    connection.execute(
        task.update().where(task.c.id == row.id).values(jobs=row.jobs + len(numbered))
    )
    new = select(job.c.number, job.c.id).where(job.c.jobgroup == group_id)
    ids: dict[int, int] = {row.number: row.id for row in connection.execute(new)}
    for job_ids in chunks(sorted(ids.values())):
        connection.execute(
            job_history.insert(),
            [
                {
                    "job": job_id,
                    "new": JobState.NEW,
                    "who": call.who,
                    "why": why,
                    "at": call.now,
                    "cause": call.cause,
                    "attempt": 1,
                }
                for job_id in job_ids
            ],
        )
    _assign(connection, [(ids[number], spec) for number, spec in numbered])


def _assign(connection: Connection, jobs: Sequence[tuple[int, JobSpec]]) -> None:
    files = jobs_files.ids_of(connection, {i.file.lfn for _, spec in jobs for i in spec.inputs})
    rows = (
        {
            "job": job_id,
            "file": files[one.file.lfn],
            "position": position,
            "runs": None if one.mask.runs is None else list(one.mask.runs),
            "first_event": one.mask.first_event,
            "events": one.mask.events,
        }
        for job_id, spec in jobs
        for position, one in enumerate(spec.inputs)
    )
    for some in chunks(rows):
        connection.execute(job_file.insert(), some)


def _end(connection: Connection, workflow_id: int, now: float) -> None:
    given_up = select(job.c.id).where(
        job.c.workflow == workflow_id, job.c.outcome != JobState.SUCCESS
    )
    lost = connection.execute(given_up.limit(1)).first() is not None
    connection.execute(
        workflow.update()
        .where(workflow.c.id == workflow_id)
        .values(state=WorkflowState.FAILED if lost else WorkflowState.DONE, finished=now)
    )
