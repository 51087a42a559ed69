"""Taking a workflow into the job store: its tasks, filesets and subscriptions, and its input."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from wmtwisted.errors import Conflict, InputError
from wmtwisted.store import jobs_files
from wmtwisted.store.jobs_schema import fileset, insert, subscription, task, workflow
from wmtwisted.wmbs.model import WORKFLOW_INPUT, File, Workflow
from wmtwisted.wmbs.states import WorkflowState
from wmtwisted.wmbs.workflow import from_dict, to_dict


def inject(
    connection: Connection, new: Workflow, inputs: Sequence[File], cause: str, now: float
) -> int:
    """See JobStore.inject.

    Filesets and subscriptions are made in the transaction that makes the workflow, before any
    file can be added, so no file is missed by a subscription made at the same time.
    """
    if not cause:
        raise ValueError("a workflow needs a cause")
    known = connection.execute(select(workflow.c.id).where(workflow.c.cause == cause)).scalar()
    if known is not None:
        return int(known)
    taken = select(workflow.c.id, workflow.c.cause).where(workflow.c.name == new.name)
    holder = connection.execute(taken).first()
    if holder is not None and holder.cause == cause:
        return int(holder.id)  # another has made it since the look above
    if holder is not None:
        raise Conflict(
            f"a workflow called {new.name!r} was already submitted", "give this one another name"
        )
    document = to_dict(new)
    from_dict(document)
    _require_inputs(new, inputs)
    workflow_id = insert(
        connection,
        workflow,
        name=new.name,
        state=WorkflowState.RUNNING,
        document=document,
        cause=cause,
        created=now,
    )
    _add_tasks(connection, workflow_id, new)
    _add_inputs(connection, workflow_id, inputs, now)
    return workflow_id


def _require_inputs(new: Workflow, inputs: Sequence[File]) -> None:
    if new.reads_input and not inputs:
        raise InputError(
            f"workflow {new.name!r} reads its own input files, and came with none",
            "submit it with input files",
        )
    if inputs and not new.reads_input:
        raise InputError(
            f"workflow {new.name!r} came with {len(inputs)} input files, and no task of it reads "
            f"{WORKFLOW_INPUT!r}",
            "submit it without input files",
        )


def _add_tasks(connection: Connection, workflow_id: int, new: Workflow) -> None:
    filesets = {
        name: insert(connection, fileset, workflow=workflow_id, name=name, open=True)
        for name in (WORKFLOW_INPUT, *(one.name for one in new.tasks))
    }
    for position, one in enumerate(new.tasks):
        task_id = insert(
            connection,
            task,
            workflow=workflow_id,
            position=position,
            name=one.name,
            output=filesets[one.name],
            jobs=0,
        )
        if one.input is not None:
            insert(connection, subscription, task=task_id, fileset=filesets[one.input])


def _add_inputs(
    connection: Connection, workflow_id: int, inputs: Sequence[File], now: float
) -> None:
    mine = fileset.c.workflow == workflow_id
    own_input = mine & (fileset.c.name == WORKFLOW_INPUT)
    target = connection.execute(select(fileset.c.id).where(own_input)).scalar_one()
    ids = jobs_files.know(connection, inputs, None, now)
    for number, one in zip(ids, inputs, strict=True):
        if one.parents:
            above = jobs_files.ids_of(connection, one.parents)
            jobs_files.set_parents(connection, [number], list(above.values()))
    jobs_files.add_to_fileset(connection, target, ids)
    connection.execute(fileset.update().where(own_input).values(open=False))
