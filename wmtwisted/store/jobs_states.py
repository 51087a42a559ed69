"""The one door through which a job changes its state, and the killing of whole workflows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from attrs import frozen
from sqlalchemy import Connection, Row, select

from wmtwisted.errors import Conflict, NotFound
from wmtwisted.store import jobs_files, jobs_read
from wmtwisted.store.jobs_schema import job, job_history, workflow
from wmtwisted.wmbs.model import File
from wmtwisted.wmbs.records import Job
from wmtwisted.wmbs.states import (
    LIVE,
    OUTCOMES,
    JobState,
    WorkflowState,
    begins_attempt,
    require_legal,
)


@frozen
class Move:
    """What is asked for in one call of `advance`."""

    steps: tuple[JobState, ...]
    expected: Collection[JobState] | None
    who: str
    why: str
    cause: str
    #: Seconds since the epoch.
    now: float
    exit_code: int | None = None
    sandbox: str | None = None
    batch_id: str | None = None


def advance(connection: Connection, job_id: int, move: Move, outputs: Sequence[File]) -> Job:
    """See JobStore.advance."""
    _require_sound(move, outputs)
    row = jobs_files.lock_job(connection, job_id)
    done = select(job_history.c.new).where(
        job_history.c.job == job_id, job_history.c.cause == move.cause
    )
    made = set(connection.execute(done).scalars())
    steps = [step for step in move.steps if step not in made]
    if steps:
        _require_expected(row, steps[0], move)
    for step in steps:
        if step is JobState.SUCCESS and outputs:
            jobs_files.add_outputs(connection, job_id, outputs, move.now)
        row = _step(connection, row, step, move)
    return jobs_read.job(connection, job_id)


def _require_sound(move: Move, outputs: Sequence[File]) -> None:
    if not move.steps:
        raise ValueError("no state to go to")
    if not move.cause:
        raise ValueError("a transition needs a cause")
    if outputs and move.steps[-1] is not JobState.SUCCESS:
        raise ValueError(f"outputs come with a success, not with {move.steps[-1]}")


def _require_expected(row: Row[Any], step: JobState, move: Move) -> None:
    if move.expected is not None and row.state not in move.expected:
        expected = " or ".join(sorted(move.expected))
        raise Conflict(
            f"job {row.id} is {row.state}, expected {expected}: it was not moved to {step}"
        )


def _step(connection: Connection, row: Row[Any], new: JobState, move: Move) -> Row[Any]:
    old = JobState(row.state)
    try:
        require_legal(old, new)
    except Conflict as error:
        raise Conflict(f"job {row.id}: {error}") from None
    values: dict[str, Any] = {"state": new, "why": move.why, "changed": move.now}
    if begins_attempt(old, new):
        values |= {"attempt": row.attempt + 1, "exit_code": None, "batch_id": ""}
    for name in ("exit_code", "sandbox", "batch_id"):
        given = getattr(move, name)
        if given is not None:
            values[name] = given
    if new in OUTCOMES:
        values["outcome"] = new
    changed = connection.execute(
        job.update().where(job.c.id == row.id, job.c.state == old).values(**values)
    )
    if changed.rowcount != 1:
        raise Conflict(f"job {row.id} left {old} while it was being moved to {new}")
    connection.execute(
        job_history.insert().values(
            job=row.id,
            old=old,
            new=new,
            who=move.who,
            why=move.why,
            at=move.now,
            cause=move.cause,
            attempt=values.get("attempt", row.attempt),
            exit_code=move.exit_code,
        )
    )
    if new is JobState.SUCCESS:
        jobs_files.complete_inputs(connection, row.id, row.task)
    elif new in OUTCOMES:
        jobs_files.fail_inputs(connection, row.id)
    return connection.execute(select(job).where(job.c.id == row.id)).one()


def kill(
    connection: Connection, workflow_id: int, who: str, why: str, cause: str, now: float
) -> list[Job]:
    """See JobStore.kill."""
    locked = lock_workflow(connection, workflow_id)
    if locked.state == WorkflowState.RUNNING:
        live = (
            select(job)
            .where(job.c.workflow == workflow_id, job.c.state.in_(sorted(LIVE)))
            .order_by(job.c.id)
            .with_for_update()
        )
        move = Move((JobState.KILLED,), None, who, why, cause, now)
        for row in connection.execute(live).all():
            _step(connection, row, JobState.KILLED, move)
        connection.execute(
            workflow.update()
            .where(workflow.c.id == workflow_id)
            .values(state=WorkflowState.KILLED, finished=now)
        )
    return jobs_read.moved_by(connection, workflow_id, JobState.KILLED, cause)


def lock_workflow(connection: Connection, workflow_id: int) -> Row[Any]:
    """The workflow's row, locked to the end of the transaction; raises NotFound."""
    query = select(workflow).where(workflow.c.id == workflow_id).with_for_update()
    row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"there is no workflow {workflow_id}")
    return row
