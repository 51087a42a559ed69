"""Live bars on a terminal, one for each task of a workflow."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from wmtwisted.cli.progress import done, summary
from wmtwisted.wmbs.model import Workflow

if TYPE_CHECKING:
    from wmtwisted.wmbs.records import WorkflowStatus


class Bars:
    """A context that draws while it lasts."""

    def __init__(self, workflow: Workflow) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=32, complete_style="cyan", finished_style="green"),
            TextColumn("{task.fields[summary]}"),
            TimeElapsedColumn(),
            console=Console(highlight=False),
        )
        # A task's jobs are made as its input comes, so the total grows; a bar that pulses says
        # that nothing is known yet.
        self._rows: dict[str, TaskID] = {
            task.name: self._progress.add_task(
                task.name, total=task.splitting.jobs or None, start=False, summary="waiting"
            )
            for task in workflow.in_order()
        }

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish()

    def show(self, status: WorkflowStatus) -> None:
        """Draw this."""
        for task in status.tasks:
            row = self._rows[task.name]
            if not task.jobs:
                continue
            if not self._progress.tasks[row].started:
                self._progress.start_task(row)
            self._progress.update(row, completed=done(task), total=task.jobs, summary=summary(task))
            if task.finished:
                self._progress.stop_task(row)

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(line, markup=False)

    def finish(self) -> None:
        """Leave the bars as they are; what is said after this comes below them."""
        self._progress.stop()
