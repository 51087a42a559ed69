"""Files in the job store: known once by name, members of filesets, used by subscriptions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from wmtwisted.errors import Conflict, NotFound
from wmtwisted.store.jobs_schema import (
    chunks,
    file,
    file_parent,
    file_run,
    fileset,
    fileset_file,
    job,
    job_file,
    sub_file,
    subscription,
    task,
)
from wmtwisted.wmbs.model import File
from wmtwisted.wmbs.states import JobState

_PRODUCING = (JobState.EXECUTING, JobState.COMPLETE)


def load(connection: Connection, query: Select[Any]) -> list[tuple[int, File]]:
    """The files that `query` selects, as `(id, File)` in its order; its columns are file's."""
    rows = connection.execute(query).all()
    runs: dict[int, list[int]] = {}
    parents: dict[int, list[str]] = {}
    for ids in chunks(row.id for row in rows):
        found = select(file_run.c.file, file_run.c.run).where(file_run.c.file.in_(ids))
        for of, run in connection.execute(found):
            runs.setdefault(of, []).append(run)
        above = (
            select(file_parent.c.child, file.c.lfn)
            .join(file, file.c.id == file_parent.c.parent)
            .where(file_parent.c.child.in_(ids))
        )
        for of, lfn in connection.execute(above):
            parents.setdefault(of, []).append(lfn)
    return [
        (
            row.id,
            File(
                row.lfn,
                row.path,
                row.size,
                row.events,
                tuple(runs.get(row.id, ())),
                row.checksum,
                tuple(parents.get(row.id, ())),
            ),
        )
        for row in rows
    ]


def know(
    connection: Connection, files: Sequence[File], producer: int | None, now: float
) -> list[int]:
    """The ids of `files`, in order; those not yet known are added, with their runs.

    Raises Conflict when one is known from another producer or with other content.
    """
    ids: dict[str, int] = {}
    for some in chunks(files):
        known = _known(connection, [one.lfn for one in some])
        fresh: dict[str, File] = {}
        for one in some:
            old_producer, old = known.get(one.lfn) or (producer, fresh.setdefault(one.lfn, one))
            _require_same(one, producer, old, old_producer)
        new = list(fresh.values())
        if new:
            connection.execute(
                file.insert(),
                [
                    {
                        "lfn": one.lfn,
                        "path": one.path,
                        "size": one.size,
                        "events": one.events,
                        "checksum": one.checksum,
                        "job": producer,
                        "created": now,
                    }
                    for one in new
                ],
            )
        ids |= ids_of(connection, [one.lfn for one in some])
        rows = [{"file": ids[one.lfn], "run": run} for one in new for run in one.runs]
        for part in chunks(rows):
            connection.execute(file_run.insert(), part)
    return [ids[one.lfn] for one in files]


def _known(connection: Connection, lfns: Sequence[str]) -> dict[str, tuple[int | None, File]]:
    producers: dict[str, int | None] = {}
    for lfn, producer in connection.execute(
        select(file.c.lfn, file.c.job).where(file.c.lfn.in_(lfns))
    ):
        producers[lfn] = producer
    found = load(connection, select(file).where(file.c.lfn.in_(list(producers))))
    return {old.lfn: (producers[old.lfn], old) for _, old in found}


def _require_same(new: File, producer: int | None, old: File, old_producer: int | None) -> None:
    if producer != old_producer:
        owner = "an input file" if old_producer is None else f"made by job {old_producer}"
        raise Conflict(f"file {new.lfn!r} is already known as {owner}", "give it another name")
    for name in ("path", "size", "events", "runs", "checksum"):
        if getattr(new, name) != getattr(old, name):
            raise Conflict(
                f"file {new.lfn!r} is known with {name} {getattr(old, name)!r}, "
                f"not {getattr(new, name)!r}",
                "give the changed file another name",
            )


def ids_of(connection: Connection, lfns: Iterable[str]) -> dict[str, int]:
    """The ids of the files of these names, by name; raises NotFound when one is unknown."""
    lfns = list(lfns)
    ids: dict[str, int] = {}
    for some in chunks(lfns):
        query = select(file.c.lfn, file.c.id).where(file.c.lfn.in_(some))
        ids.update((lfn, number) for lfn, number in connection.execute(query))
    for lfn in lfns:
        if lfn not in ids:
            raise NotFound(f"file {lfn!r} is unknown", "submit it as an input, or check its name")
    return ids


def set_parents(connection: Connection, children: Sequence[int], parents: Sequence[int]) -> None:
    """Each of `parents` becomes a parent of each of `children`; what is known is left alone."""
    for child in children:
        query = select(file_parent.c.parent).where(file_parent.c.child == child)
        known = set(connection.execute(query).scalars())
        rows = [{"child": child, "parent": parent} for parent in parents if parent not in known]
        for some in chunks(rows):
            connection.execute(file_parent.insert(), some)


def add_to_fileset(connection: Connection, fileset_id: int, ids: Sequence[int]) -> None:
    """Put files into a fileset, and make them available to its subscribers.

    A file that is in it already keeps the status that each subscriber gave it. Raises Conflict
    when a new one comes to a closed fileset.
    """
    members = select(fileset_file.c.file).where(fileset_file.c.fileset == fileset_id)
    subscribers = list(
        connection.execute(
            select(subscription.c.id).where(subscription.c.fileset == fileset_id)
        ).scalars()
    )
    for some in chunks(dict.fromkeys(ids)):
        known = set(connection.execute(members.where(fileset_file.c.file.in_(some))).scalars())
        new = [one for one in some if one not in known]
        if not new:
            continue
        found = connection.execute(select(fileset).where(fileset.c.id == fileset_id)).one()
        if not found.open:
            raise Conflict(f"the files of {found.name!r} are complete: none can be added")
        connection.execute(
            fileset_file.insert(), [{"fileset": fileset_id, "file": one} for one in new]
        )
        for one_subscriber in subscribers:
            connection.execute(
                sub_file.insert(),
                [
                    {"subscription": one_subscriber, "file": one, "status": "available"}
                    for one in new
                ],
            )


def add_outputs(connection: Connection, job_id: int, files: Sequence[File], now: float) -> None:
    """See JobStore.add_outputs."""
    row = lock_job(connection, job_id)
    if JobState(row.state) not in _PRODUCING and not _all_there(connection, job_id, files):
        raise Conflict(
            f"job {job_id} is {row.state}: only a job that is executing or complete adds files"
        )
    ids = know(connection, files, job_id, now)
    set_parents(connection, ids, input_ids(connection, job_id))
    output = select(task.c.output).where(task.c.id == row.task)
    add_to_fileset(connection, connection.execute(output).scalar_one(), ids)


def _all_there(connection: Connection, job_id: int, files: Sequence[File]) -> bool:
    query = select(file.c.lfn).where(file.c.job == job_id)
    return {one.lfn for one in files} <= set(connection.execute(query).scalars())


def fail_inputs(connection: Connection, job_id: int) -> None:
    """See JobStore.fail_inputs."""
    row = lock_job(connection, job_id)
    _settle(connection, row.task, input_ids(connection, job_id), "failed")


def complete_inputs(connection: Connection, job_id: int, task_id: int) -> None:
    """Complete the job's input files of which every job of the task has succeeded.

    The rows are locked before the jobs are counted: of two jobs that end at once and share a
    file, the second one sees the first.
    """
    ids = input_ids(connection, job_id)
    reader = _subscription(connection, task_id)
    for some in chunks(ids):
        connection.execute(
            select(sub_file.c.file)
            .where(sub_file.c.subscription == reader, sub_file.c.file.in_(some))
            .order_by(sub_file.c.file)
            .with_for_update()
        ).all()
        unfinished = set(
            connection.execute(
                select(job_file.c.file)
                .join(job, job.c.id == job_file.c.job)
                .where(job_file.c.file.in_(some), job.c.task == task_id)
                .where(job.c.outcome != JobState.SUCCESS)
            ).scalars()
        )
        _settle(connection, task_id, [one for one in some if one not in unfinished], "complete")


def _settle(connection: Connection, task_id: int, ids: Sequence[int], status: str) -> None:
    reader = _subscription(connection, task_id)
    for some in chunks(ids):
        connection.execute(
            sub_file.update()
            .where(sub_file.c.subscription == reader, sub_file.c.file.in_(some))
            .where(sub_file.c.status == "acquired")
            .values(status=status)
        )


def _subscription(connection: Connection, task_id: int) -> int | None:
    query = select(subscription.c.id).where(subscription.c.task == task_id)
    return connection.execute(query).scalar()


def input_ids(connection: Connection, job_id: int) -> list[int]:
    """The ids of the files a job reads, ascending, so that all take their locks in one order."""
    query = select(job_file.c.file).where(job_file.c.job == job_id).order_by(job_file.c.file)
    return list(connection.execute(query).scalars())


def lock_job(connection: Connection, job_id: int) -> Row[Any]:
    """The job's row, locked to the end of the transaction; raises NotFound."""
    row = connection.execute(select(job).where(job.c.id == job_id).with_for_update()).first()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    return row
