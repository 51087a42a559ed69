"""How far workflows are: their tasks, and the jobs of each by state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from wmtwisted.store import jobs_schema as tables
from wmtwisted.store.jobs_read import find_workflow
from wmtwisted.wmbs.records import TaskStatus, WorkflowStatus
from wmtwisted.wmbs.states import WorkflowState


def workflows(connection: Connection) -> list[WorkflowStatus]:
    """See JobStore.workflows."""
    rows = connection.execute(select(tables.workflow).order_by(tables.workflow.c.id)).all()
    return _statuses(connection, rows)


def workflow(connection: Connection, key: int | str) -> WorkflowStatus:
    """See JobStore.workflow."""
    return _statuses(connection, [find_workflow(connection, key)])[0]


def _statuses(connection: Connection, rows: Sequence[Row[Any]]) -> list[WorkflowStatus]:
    ids = [row.id for row in rows]
    counts: dict[int, list[Row[Any]]] = {}
    tasks: dict[int, list[Row[Any]]] = {}
    for some in tables.chunks(ids):
        for row in connection.execute(_counts(some)):
            counts.setdefault(row.task, []).append(row)
        for row in connection.execute(_tasks(some)):
            tasks.setdefault(row.workflow, []).append(row)
    return [
        WorkflowStatus(
            id=row.id,
            name=row.name,
            state=WorkflowState(row.state),
            created=row.created,
            finished=row.finished,
            tasks=tuple(_task_status(of, counts.get(of.id, [])) for of in tasks.get(row.id, [])),
        )
        for row in rows
    ]


def _counts(ids: Sequence[int]) -> Select[Any]:
    of = tables.job
    return (
        select(
            of.c.task,
            of.c.state,
            of.c.outcome,
            func.count().label("jobs"),
            func.sum(of.c.attempt - 1).label("retries"),
        )
        .where(of.c.workflow.in_(ids))
        .group_by(of.c.task, of.c.state, of.c.outcome)
    )


def _tasks(ids: Sequence[int]) -> Select[Any]:
    output, read = tables.fileset.alias(), tables.fileset.alias()
    of = tables.task
    return (
        select(of.c.id, of.c.workflow, of.c.name, output.c.open, read.c.name.label("input"))
        .join(output, output.c.id == of.c.output)
        .outerjoin(tables.subscription, tables.subscription.c.task == of.c.id)
        .outerjoin(read, read.c.id == tables.subscription.c.fileset)
        .where(of.c.workflow.in_(ids))
        .order_by(of.c.workflow, of.c.position)
    )


def _task_status(row: Row[Any], counts: Sequence[Row[Any]]) -> TaskStatus:
    states: dict[str, int] = {}
    outcomes: dict[str, int] = {}
    for count in counts:
        states[count.state] = states.get(count.state, 0) + count.jobs
        if count.outcome:
            outcomes[count.outcome] = outcomes.get(count.outcome, 0) + count.jobs
    retries = sum(int(count.retries) for count in counts)
    return TaskStatus(row.name, row.input, not row.open, states, outcomes, retries)
