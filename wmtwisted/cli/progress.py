"""How far a workflow is: a live bar per task on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click

from wmtwisted.wmbs.model import Workflow
from wmtwisted.wmbs.states import OUTCOMES, JobState, WorkflowState

if TYPE_CHECKING:
    from wmtwisted.wmbs.records import TaskStatus, WorkflowStatus


class Progress(Protocol):
    """Shows how far a workflow is."""

    def show(self, status: WorkflowStatus) -> None:
        """Show this, if it differs from what is shown."""

    def say(self, line: str) -> None:
        """Print a line beside it."""

    def finish(self) -> None:
        """Leave what is shown as it is; what is said after this comes below it."""


@contextmanager
def progress(workflow: Workflow, clock: Callable[[], float] = time.monotonic) -> Iterator[Progress]:
    """The way that suits where the output goes."""
    if not sys.stdout.isatty():
        yield _Lines(clock)
        return
    # Late: it takes a tenth of a second to import, and only a terminal needs it.
    from wmtwisted.cli.bars import Bars

    with Bars(workflow) as bars:
        yield bars


class _Lines:
    """A line for a change, one a second at most: seconds since the start, then each task."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._last = -1.0
        self._shown = ""

    def show(self, status: WorkflowStatus) -> None:
        text = "  ".join(f"{task.name} {summary(task)}" for task in status.tasks if task.jobs)
        now = self._clock() - self._began
        ended = status.state != WorkflowState.RUNNING
        if text and text != self._shown and (ended or now >= self._last + 1.0):
            self._shown, self._last = text, now
            click.echo(f"{now:6.1f} s  {text}")

    def say(self, line: str) -> None:
        click.echo(line)

    def finish(self) -> None:
        pass


def done(task: TaskStatus) -> int:
    """How many of its jobs have ended well."""
    return task.outcomes.get(JobState.SUCCESS, 0)


def summary(task: TaskStatus) -> str:
    """`7/10`, and what else there is to say."""
    failed = sum(count for state, count in task.outcomes.items() if state in OUTCOMES)
    failed -= done(task)
    notes = [
        f"{count} {word}"
        for count, word in (
            (task.states.get(JobState.EXECUTING, 0), "running"),
            (task.retries, "retried"),
            (failed, "failed"),
        )
        if count
    ]
    return f"{done(task)}/{task.jobs}" + (f" ({', '.join(notes)})" if notes else "")
