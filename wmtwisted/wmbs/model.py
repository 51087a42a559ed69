"""What is to be done: files, tasks, workflows, and the pieces of work that become jobs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum

from attrs import Attribute, field, frozen

#: The `input` of a task that reads the files the workflow was submitted with.
WORKFLOW_INPUT = "input"

#: Names end up in file names, table keys and URLs.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
NAME_LENGTH = 80

LFN_LENGTH = 500


def _sorted_numbers(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(values)))


def _sorted_names(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))


def _words(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def _is_lfn(_: object, attribute: Attribute[str], value: str) -> None:
    if not value or len(value) > LFN_LENGTH or value != value.strip() or not value.isprintable():
        raise ValueError(
            f"{attribute.name} {value[:80]!r} cannot be used: expected 1 to {LFN_LENGTH} printable "
            "characters, no space at either end"
        )


def _not_negative(_: object, attribute: Attribute[int], value: int) -> None:
    if value < 0:
        raise ValueError(f"{attribute.name} is {value}, expected 0 or more")


@frozen
class File:
    """A file of events. Raises ValueError when a value cannot be."""

    #: The logical name, the same wherever copies lie; unique in a store.
    lfn: str = field(validator=_is_lfn)
    #: Where a copy can be read: an absolute path.
    path: str
    #: Bytes.
    size: int = field(default=0, validator=_not_negative)
    #: Rows of data.
    events: int = field(default=0, validator=_not_negative)
    #: The runs its events come from, sorted; empty when that is not known.
    runs: tuple[int, ...] = field(default=(), converter=_sorted_numbers)
    #: `algorithm:hex digest`, e.g. `sha256:9f86...`; "" when not known.
    checksum: str = ""
    #: The logical names of the files it was made from, sorted.
    parents: tuple[str, ...] = field(default=(), converter=_sorted_names)


@frozen
class Mask:
    """The part of a file that a job reads; the default is all of it."""

    #: Only the events of these runs; None: of all runs.
    runs: tuple[int, ...] | None = None
    #: The first row, counted from 0 within the file.
    first_event: int = 0
    #: How many rows; None: all from the first on.
    events: int | None = None


@frozen
class JobInput:
    """A file that a job reads, and which part of it."""

    file: File
    mask: Mask = Mask()


@frozen
class JobSpec:
    """A piece of work, before it is a job."""

    inputs: tuple[JobInput, ...] = ()
    #: Events to make, for a task that reads nothing; else None.
    events: int | None = None
    #: The number of the first event to make, counted from 1 over the task; else None.
    first_event: int | None = None


class SplitBy(StrEnum):
    """What is counted when the input of a task is cut into jobs."""

    FILE = "file"
    EVENT = "event"
    RUN = "run"
    SIZE = "size"


@frozen
class Splitting:
    """How a task's work is cut into jobs."""

    by: SplitBy = field(default=SplitBy.FILE, converter=SplitBy)
    #: Files, events, runs or bytes per job. 0 is for files only: all of them in one job.
    per_job: int = field(default=0, validator=_not_negative)
    #: For a task that reads nothing: how many jobs, of `per_job` events each; else 0.
    jobs: int = field(default=0, validator=_not_negative)


@frozen
class Task:
    """One step of a workflow: a command, run once per job."""

    name: str
    #: The argument list; `{python}` stands for the interpreter until the workflow is submitted.
    command: tuple[str, ...] = field(converter=_words)
    #: The task whose outputs it reads, `input` for the workflow's own files, None: it makes events.
    input: str | None = None
    splitting: Splitting = Splitting()
    #: The task's own parameters, given to its jobs over the workflow's.
    parameters: Mapping[str, str] = field(factory=dict)
    #: The names of the files that each job leaves in its folder.
    outputs: tuple[str, ...] = field(default=(), converter=_words)
    #: Start only when the input is complete, rather than as it comes.
    wait: bool = False
    #: Seconds of wall time that one attempt may take.
    time_limit: float = 3600.0
    #: How often a job may be tried again after the first attempt.
    retries: int = 3


def _tasks(values: Iterable[Task]) -> tuple[Task, ...]:
    return tuple(values)


@frozen
class Workflow:
    """Tasks that feed each other. Made by wmbs.workflow, which checks it."""

    name: str
    #: In the order of the file; a task may come before the one it reads.
    tasks: tuple[Task, ...] = field(converter=_tasks)
    #: Given to every job.
    parameters: Mapping[str, str] = field(factory=dict)

    @property
    def reads_input(self) -> bool:
        """Whether it needs input files at submission."""
        return any(task.input == WORKFLOW_INPUT for task in self.tasks)

    def task(self, name: str) -> Task:
        """The task called `name`; raises KeyError."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise KeyError(name)

    def in_order(self) -> tuple[Task, ...]:
        """The tasks, each after the one it reads."""
        done: dict[str | None, Task | None] = {None: None, WORKFLOW_INPUT: None}
        while len(done) < len(self.tasks) + 2:
            ready = [t for t in self.tasks if t.name not in done and t.input in done]
            if not ready:
                raise ValueError(f"the tasks of workflow {self.name!r} read each other in a circle")
            done.update((task.name, task) for task in ready)
        return tuple(task for task in done.values() if task is not None)

    def seed(self, task: str, number: int) -> int:
        """The seed of a task's job, 0 to 2**31-1: the same for every attempt.

        It depends on the parameter `seed` when there is one, else on the workflow's name, so that
        two workflows do not make the same events unless they are asked to.
        """
        start = self.parameters.get("seed", self.name)
        digest = hashlib.sha256(f"{start}/{task}/{number}".encode()).digest()
        return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF
