"""Workflow files, XML or TOML, and workflows as plain data: read, checked, written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import evolve

from wmtwisted.errors import SpecError
from wmtwisted.wmbs.check import PER_JOB, Checker
from wmtwisted.wmbs.document import Document, read_document
from wmtwisted.wmbs.model import Task, Workflow

#: More problems would hide the first ones.
MAX_PROBLEMS = 20


def read_file(path: str | Path) -> Workflow:
    """The workflow in a file. Raises SpecError naming every problem, one a line."""
    try:
        text = Path(path).read_text("utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}:1:1: byte {error.start} is not UTF-8") from None
    return read_text(text, str(path))


def read_text(text: str, source: str) -> Workflow:
    """The workflow in a text, XML or TOML; `source` names it in errors. Raises SpecError."""
    return _build(read_document(text, source))


def from_dict(data: Mapping[str, Any], source: str = "workflow") -> Workflow:
    """The workflow in plain data, as made by `to_dict`. Raises SpecError."""
    return _build(Document(data, source))


def to_dict(workflow: Workflow) -> dict[str, Any]:
    """The workflow as plain data for JSON, in the form of its TOML file."""
    return {
        "name": workflow.name,
        "parameters": dict(workflow.parameters),
        "task": [_task_to_dict(task) for task in workflow.tasks],
    }


def _task_to_dict(task: Task) -> dict[str, Any]:
    data: dict[str, Any] = {"name": task.name, "command": list(task.command)}
    if task.input is None:
        data |= {"jobs": task.splitting.jobs}
    else:
        data |= {"input": task.input}
    data |= {"splitting": str(task.splitting.by)}
    data |= {PER_JOB[task.splitting.by]: task.splitting.per_job}
    if task.wait:
        data |= {"wait": "complete"}
    return data | {
        "time-limit": task.time_limit,
        "retries": task.retries,
        "parameters": dict(task.parameters),
        "outputs": list(task.outputs),
    }


def resolve(workflow: Workflow, python: str) -> Workflow:
    """The workflow with `{python}` in its commands replaced by the interpreter's path."""
    tasks = [
        evolve(task, command=[part.replace("{python}", python) for part in task.command])
        for task in workflow.tasks
    ]
    return evolve(workflow, tasks=tasks)


def _build(document: Document) -> Workflow:
    checker = Checker(document)
    workflow = checker.workflow()
    if checker.problems:
        shown = [f"{place}: {what}" for place, what in checker.problems[:MAX_PROBLEMS]]
        more = len(checker.problems) - len(shown)
        raise SpecError("\n".join(shown), f"and {more} more problems" if more else "")
    return workflow
