"""The job store: workflows, files and jobs in a database that every component may write."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from wmtwisted.errors import StoreError
from wmtwisted.store import (
    database,
    jobs_files,
    jobs_inject,
    jobs_read,
    jobs_schema,
    jobs_split,
    jobs_states,
    jobs_status,
)
from wmtwisted.store.jobs_schema import run_unique
from wmtwisted.wmbs.model import File, JobInput, Task, Workflow
from wmtwisted.wmbs.records import Change, FileCounts, Job, WorkflowStatus
from wmtwisted.wmbs.states import JobState

P = ParamSpec("P")
T = TypeVar("T")


class JobStore:
    """Workflows, files and jobs. Every method blocks on the database: call it from a thread.

    Each change takes a `cause`, the id of the message that led to it: done again with the same
    cause it changes nothing and returns the same. Each is one transaction, run again as a whole
    on a deadlock. All raise StoreError when the database fails.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        """`engine` comes from `open_engine(url, "jobs")`; `clock` gives seconds since the epoch."""
        self.engine = engine
        self._clock = clock

    def create_tables(self) -> None:
        """Make the tables that are missing; harmless when others do so too.

        Raises StoreError when the tables are of another version.
        """
        self._translated(jobs_schema.create, self.engine)

    def require_tables(self) -> None:
        """Raise StoreError, saying what to do, unless the tables are there and of this version."""
        self._translated(jobs_schema.require, self.engine)

    # Changes

    def inject(self, workflow: Workflow, inputs: Sequence[File] = (), *, cause: str) -> int:
        """Take in a workflow with its input files; its id.

        Raises Conflict when the name is taken by another cause or a file is known with other
        content, InputError when it needs input files and has none (or the other way round),
        NotFound when a parent of a file is unknown.
        """
        return self._run(jobs_inject.inject, workflow, inputs, cause, self._clock())

    def split(self, workflow_id: int, *, cause: str, who: str = "JobCreator") -> list[Job]:
        """Make the jobs that can be made now; the jobs that this cause made, in order of id.

        Closes the outputs of tasks that are finished, and ends the workflow when all are. Call it
        after `inject` and whenever a job has ended. Raises NotFound.
        """
        return self._run(jobs_split.split, workflow_id, cause, who, self._clock())

    def advance(
        self,
        job_id: int,
        to: JobState | Sequence[JobState],
        *,
        who: str,
        why: str,
        cause: str,
        expected: JobState | Collection[JobState] | None = None,
        exit_code: int | None = None,
        sandbox: str | None = None,
        batch_id: str | None = None,
        outputs: Sequence[File] = (),
    ) -> Job:
        """Move a job to a state, or through several in one transaction; the job as it then is.

        The steps that this cause has already made are left out. `expected` holds for the first
        step that is really made. `exit_code`, `sandbox` and `batch_id` are kept when given.
        `outputs` belong to a path that ends in `success`: see add_outputs; they are added with it
        or not at all. A success completes the input files that no other job still needs;
        `exhausted` and `killed` fail them.

        Raises Conflict when the job is elsewhere or may not go there, and NotFound.
        """
        steps = (to,) if isinstance(to, JobState) else tuple(to)
        if expected is not None:
            expected = {expected} if isinstance(expected, JobState) else set(expected)
        move = jobs_states.Move(
            steps, expected, who, why, cause, self._clock(), exit_code, sandbox, batch_id
        )
        return self._run(jobs_states.advance, job_id, move, outputs)

    def add_outputs(self, job_id: int, files: Sequence[File]) -> None:
        """Add what a job made to its task's outputs, available to the tasks that read them.

        The job's input files become the parents, whatever `parents` the files have. A file that
        the job has already added is left alone. Raises Conflict when the job is not `executing`
        or `complete`, or when a file's name belongs to another job or has other content.
        """
        self._run(jobs_files.add_outputs, job_id, files, self._clock())

    def fail_inputs(self, job_id: int) -> None:
        """Give up the job's input files for its task; entering `exhausted` does it as well."""
        self._run(jobs_files.fail_inputs, job_id)

    def kill(self, workflow_id: int, *, who: str, cause: str, why: str = "killed") -> list[Job]:
        """End a workflow and every live job of it; the jobs that this cause killed.

        A workflow that has already ended is left as it is. Raises NotFound.
        """
        return self._run(jobs_states.kill, workflow_id, who, why, cause, self._clock())

    # Reads

    def workflows(self) -> list[WorkflowStatus]:
        """All workflows, the oldest first."""
        return self._read(jobs_status.workflows)

    def workflow(self, key: int | str) -> WorkflowStatus:
        """How far the workflow of this id or name is; raises NotFound."""
        return self._read(jobs_status.workflow, key)

    def model(self, key: int | str) -> Workflow:
        """The workflow of this id or name, as it was submitted; raises NotFound."""
        return self._read(jobs_read.model, key)

    def jobs(
        self,
        workflow: str | None = None,
        task: str | None = None,
        state: JobState | None = None,
        *,
        after: int = 0,
        limit: int = 100,
    ) -> list[Job]:
        """Jobs by workflow name, task name and state, with ids above `after`, in order of id."""
        return self._read(jobs_read.jobs, workflow, task, state, after, limit)

    def job(self, job_id: int) -> Job:
        """A job; raises NotFound."""
        return self._read(jobs_read.job, job_id)

    def task(self, job_id: int) -> Task:
        """The task that a job belongs to: its command, outputs, limits; raises NotFound."""
        return self._read(jobs_read.task, job_id)

    def description(self, job_id: int) -> dict[str, Any]:
        """What a job's command is told, the content of its `job.json`; raises NotFound."""
        return self._read(jobs_read.description, job_id)

    def history(self, job_id: int) -> list[Change]:
        """A job's transitions, the oldest first; raises NotFound."""
        return self._read(jobs_read.history, job_id)

    def inputs(self, job_id: int) -> list[JobInput]:
        """The files a job reads and which part of each; raises NotFound."""
        return self._read(jobs_read.inputs, job_id)

    def job_outputs(self, job_id: int) -> list[File]:
        """The files a job made, with runs and parents; raises NotFound."""
        return self._read(jobs_read.job_outputs, job_id)

    def outputs(self, workflow: str, task: str) -> list[File]:
        """The files a task made, or with `input` those the workflow came with; raises NotFound."""
        return self._read(jobs_read.outputs, workflow, task)

    def file_counts(self, workflow: str) -> Mapping[str, FileCounts]:
        """By task name, where the files of its input are; raises NotFound."""
        return self._read(jobs_read.file_counts, workflow)

    def _run(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return self._translated(lambda: run_unique(self.engine, function, *args, **kwargs))

    def _read(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return self._translated(lambda: database.read(self.engine, function, *args, **kwargs))

    def _translated(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except DBAPIError as error:
            where = self.engine.url.render_as_string(hide_password=True)
            raise StoreError(
                f"the job store at {where} failed: {error.orig}",
                "run `wm init` if its tables were never made",
            ) from error
        except PoolTimeout as error:
            raise StoreError(f"the job store gave no connection: {error}") from error
