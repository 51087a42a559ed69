"""Reading the job store: jobs, their histories and their files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from sqlalchemy import Connection, Row, func, select

from wmtwisted.errors import NotFound
from wmtwisted.store import jobs_files
from wmtwisted.store import jobs_schema as tables
from wmtwisted.wmbs.model import WORKFLOW_INPUT, File, JobInput, Mask, Task, Workflow
from wmtwisted.wmbs.records import Change, FileCounts, Job
from wmtwisted.wmbs.states import JobState
from wmtwisted.wmbs.workflow import from_dict

_JOBS = (
    select(
        tables.job,
        tables.workflow.c.name.label("workflow_name"),
        tables.task.c.name.label("task_name"),
    )
    .join(tables.workflow, tables.workflow.c.id == tables.job.c.workflow)
    .join(tables.task, tables.task.c.id == tables.job.c.task)
    .order_by(tables.job.c.id)
)


def _job(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        name=f"{row.workflow_name}-{row.task_name}-{row.number}",
        workflow_id=row.workflow,
        workflow=row.workflow_name,
        task=row.task_name,
        number=row.number,
        state=JobState(row.state),
        outcome=JobState(row.outcome) if row.outcome else None,
        attempt=row.attempt,
        seed=row.seed,
        first_event=row.first_event,
        events=row.events,
        sandbox=row.sandbox,
        batch_id=row.batch_id,
        exit_code=row.exit_code,
        why=row.why,
        created=row.created,
        changed=row.changed,
    )


def jobs(
    connection: Connection,
    workflow: str | None,
    task: str | None,
    state: JobState | None,
    after: int,
    limit: int,
) -> list[Job]:
    """See JobStore.jobs."""
    query = _JOBS.where(tables.job.c.id > after).limit(limit)
    if workflow is not None:
        query = query.where(tables.workflow.c.name == workflow)
    if task is not None:
        query = query.where(tables.task.c.name == task)
    if state is not None:
        query = query.where(tables.job.c.state == state)
    return [_job(row) for row in connection.execute(query)]


def job(connection: Connection, job_id: int) -> Job:
    """See JobStore.job."""
    row = connection.execute(_JOBS.where(tables.job.c.id == job_id)).first()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    return _job(row)


def moved_by(connection: Connection, workflow_id: int, to: JobState, cause: str) -> list[Job]:
    """The workflow's jobs that `cause` brought to `to`, in order of id."""
    if to is JobState.NEW:
        # By the group, whose cause has an index: the history of a long workflow has not.
        group = tables.jobgroup
        query = _JOBS.join(group, group.c.id == tables.job.c.jobgroup).where(
            group.c.cause == cause, tables.job.c.workflow == workflow_id
        )
    else:
        history = tables.job_history
        query = _JOBS.join(history, history.c.job == tables.job.c.id).where(
            history.c.cause == cause, history.c.new == to, tables.job.c.workflow == workflow_id
        )
    return [_job(row) for row in connection.execute(query)]


def history(connection: Connection, job_id: int) -> list[Change]:
    """See JobStore.history."""
    of = tables.job_history
    rows = connection.execute(select(of).where(of.c.job == job_id).order_by(of.c.id)).all()
    if not rows:
        raise NotFound(f"there is no job {job_id}")
    return [
        Change(
            id=row.id,
            job_id=row.job,
            old=None if row.old is None else JobState(row.old),
            new=JobState(row.new),
            who=row.who,
            why=row.why,
            when=row.at,
            cause=row.cause,
            attempt=row.attempt,
            exit_code=row.exit_code,
        )
        for row in rows
    ]


def inputs(connection: Connection, job_id: int) -> list[JobInput]:
    """See JobStore.inputs."""
    job(connection, job_id)
    use = tables.job_file
    rows = connection.execute(select(use).where(use.c.job == job_id).order_by(use.c.position)).all()
    query = select(tables.file).join(use, use.c.file == tables.file.c.id)
    files = dict(jobs_files.load(connection, query.where(use.c.job == job_id)))
    return [
        JobInput(
            files[row.file],
            Mask(None if row.runs is None else tuple(row.runs), row.first_event, row.events),
        )
        for row in rows
    ]


def job_outputs(connection: Connection, job_id: int) -> list[File]:
    """See JobStore.job_outputs."""
    job(connection, job_id)
    query = select(tables.file).where(tables.file.c.job == job_id).order_by(tables.file.c.id)
    return [one for _, one in jobs_files.load(connection, query)]


def outputs(connection: Connection, workflow: str, task: str) -> list[File]:
    """See JobStore.outputs."""
    found = find_workflow(connection, workflow)
    where = tables.fileset.c.workflow == found.id
    rows = connection.execute(select(tables.fileset.c.name, tables.fileset.c.id).where(where))
    filesets: dict[str, int] = {row.name: row.id for row in rows}
    if task not in filesets:
        names = [name for name in filesets if name != WORKFLOW_INPUT]
        raise NotFound(f"workflow {workflow!r} has no task {task!r}", _hint(task, names))
    member = tables.fileset_file
    query = (
        select(tables.file)
        .join(member, member.c.file == tables.file.c.id)
        .where(member.c.fileset == filesets[task])
        .order_by(tables.file.c.id)
    )
    return [one for _, one in jobs_files.load(connection, query)]


def file_counts(connection: Connection, workflow: str) -> Mapping[str, FileCounts]:
    """See JobStore.file_counts."""
    found = find_workflow(connection, workflow)
    of = tables.sub_file
    rows = connection.execute(
        select(tables.task.c.name, of.c.status, func.count())
        .join(tables.subscription, tables.subscription.c.task == tables.task.c.id)
        .outerjoin(of, of.c.subscription == tables.subscription.c.id)
        .where(tables.task.c.workflow == found.id)
        .group_by(tables.task.c.name, of.c.status)
    ).all()
    counts: dict[str, dict[str, int]] = {}
    for name, status, count in rows:
        counts.setdefault(name, {})[status or ""] = count
    statuses = ("available", "acquired", "complete", "failed")
    return {
        name: FileCounts(*(some.get(status, 0) for status in statuses))
        for name, some in counts.items()
    }


def model(connection: Connection, key: int | str) -> Workflow:
    """See JobStore.model."""
    return from_dict(find_workflow(connection, key).document)


def task(connection: Connection, job_id: int) -> Task:
    """See JobStore.task."""
    found = job(connection, job_id)
    return model(connection, found.workflow_id).task(found.task)


def description(connection: Connection, job_id: int) -> dict[str, Any]:
    """See JobStore.description."""
    found = job(connection, job_id)
    whole = model(connection, found.workflow_id)
    of = whole.task(found.task)
    return {
        "job": found.id,
        "name": found.name,
        "workflow": found.workflow,
        "task": found.task,
        "attempt": found.attempt,
        "seed": found.seed,
        "first_event": found.first_event,
        "events": found.events,
        "inputs": [
            {
                "lfn": one.file.lfn,
                "path": one.file.path,
                "runs": None if one.mask.runs is None else list(one.mask.runs),
                "first_event": one.mask.first_event,
                "events": one.mask.events,
            }
            for one in inputs(connection, job_id)
        ],
        "outputs": list(of.outputs),
        "parameters": {**whole.parameters, **of.parameters},
    }


def find_workflow(connection: Connection, key: int | str) -> Row[Any]:
    """The row of the workflow of this id or name; raises NotFound with the nearest name."""
    column = tables.workflow.c.id if isinstance(key, int) else tables.workflow.c.name
    row = connection.execute(select(tables.workflow).where(column == key)).first()
    if row is None:
        names = list(connection.execute(select(tables.workflow.c.name)).scalars())
        raise NotFound(f"there is no workflow {key!r}", _hint(str(key), names))
    return row


def _hint(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else ""
