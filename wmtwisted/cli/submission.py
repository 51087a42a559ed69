"""A workflow and its input files, checked and made into the message that starts it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from wmtwisted.config import Config
from wmtwisted.errors import Conflict, InputError, NotFound, SpecError
from wmtwisted.message import Message
from wmtwisted.wmbs.model import File, Workflow
from wmtwisted.wmbs.workflow import from_dict, resolve, to_dict

#: The name under which commands publish, which is the source in the flow of the life cycle.
SOURCE = "wm"


def describe(path: Path) -> File:
    """An input file as the job store knows it; a CSV is read and every line of it checked.

    Its logical name holds the begin of its checksum, so the same name means the same content.
    Raises InputError when it cannot be read or has a broken line.
    """
    from wmtwisted.workloads.dimuon.events import scan

    file = path.absolute()
    events, runs = scan(str(file)) if file.suffix.lower() == ".csv" else (0, ())
    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        size = file.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return File(
        lfn=f"/store/input/{digest[:12]}/{file.name}",
        path=str(file),
        size=size,
        events=events,
        runs=runs,
        checksum=f"sha256:{digest}",
    )


def named(workflow: Workflow, name: str = "", parameters: Mapping[str, str] = {}) -> Workflow:
    """The workflow under another name and with further parameters; raises SpecError as a file."""
    changed = attrs.evolve(
        workflow,
        name=name or workflow.name,
        parameters={**workflow.parameters, **parameters},
    )
    return from_dict(to_dict(changed), "--name or --parameter")


def new_workflow(workflow: Workflow, inputs: Sequence[File]) -> Message:
    """The message NewWorkflow: `{"workflow": as to_dict has it, "inputs": [a File's fields]}`.

    Raises InputError when the workflow needs input files and there are none, or the reverse.
    """
    if workflow.reads_input and not inputs:
        raise InputError(
            f"workflow {workflow.name!r} reads input files, but none are given",
            "name them with --input FILE, once for each",
        )
    if inputs and not workflow.reads_input:
        raise InputError(
            f"workflow {workflow.name!r} reads no input files, but {len(inputs)} are given",
            'leave --input out, or have a task with input="input"',
        )
    payload = {
        "workflow": to_dict(resolve(workflow, sys.executable)),
        "inputs": [attrs.asdict(file) for file in inputs],
    }
    return Message("NewWorkflow", payload)


def submit(config: Config, workflow: Workflow, inputs: Sequence[File]) -> str:
    """Publish a workflow; the id of the message, which the broker then has on disk.

    Raises Conflict when the name is taken, InputError as `new_workflow`, NotFound when no component
    wants workflows, Unreachable and Unknown.
    """
    from wmtwisted.cli.read import job_store
    from wmtwisted.client.blocking import Connection

    message = new_workflow(workflow, inputs)
    with job_store(config) as store:
        if any(status.name == workflow.name for status in store.workflows()):
            raise Conflict(
                f"there is a workflow {workflow.name!r} already",
                "give this one another name with --name",
            )
    with Connection(config, SOURCE) as broker:
        (receipt,) = broker.publish([message])
    if not receipt.destinations:
        raise NotFound(
            "no component has told this broker that it handles NewWorkflow",
            "start the components, with `wm up` or one by one, and submit it again",
        )
    return receipt.id


def parse_parameters(texts: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` texts as a dict; raises SpecError for anything else."""
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise SpecError(f"--parameter {text!r}: expected NAME=VALUE")
        pairs[name] = value
    return pairs
