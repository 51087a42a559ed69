"""What the components of a job's life have in common: the job store, and finding work done.

Every message about a job is the one that the job waits for, so a handler acts when the job is in
the state that the message belongs to, and its change carries the message's id. When the handler
runs again (after a crash, or for a replay) it finds in the job's history what it did.

A killed job goes the way of a failed one: whoever has its message hands it on, JobTracker ends its
process, ErrorHandler gives it no further try, and JobCleanup removes what it left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wmtwisted.component.component import Component, Context, Reject
from wmtwisted.errors import Conflict, NotFound
from wmtwisted.message import Delivery, Message
from wmtwisted.store.database import open_engine
from wmtwisted.store.jobs import JobStore
from wmtwisted.wmbs.model import File, Task, Workflow
from wmtwisted.wmbs.records import Change, Job
from wmtwisted.wmbs.states import JobState

#: Workflows whose tasks are kept at hand.
MODELS = 100


class Agent(Component):
    """A component that works on jobs. Its messages carry `{"job": id}`."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.store: JobStore
        self._models: dict[int, Workflow] = {}

    def start(self) -> None:
        """Opens the job store. Raises StoreError when it cannot be used."""
        self.store = JobStore(open_engine(self.config.store.jobs, "jobs"))
        self.store.require_tables()

    def stop(self) -> None:
        """Closes the job store."""
        self.store.engine.dispose()

    def number(self, message: Delivery) -> int:
        """The id of the job that a message is about. Rejects a message that names none."""
        try:
            number = message.json()["job"]
        except (ValueError, KeyError, TypeError, RecursionError):
            number = None
        if type(number) is not int or not 0 < number < 1 << 63:
            raise Reject(f'payload {message.payload[:80]!r}: expected {{"job": number}}')
        return number

    def job(self, message: Delivery) -> Job:
        """The job that a message is about. Rejects a message about one that there is not."""
        try:
            return self.store.job(self.number(message))
        except NotFound as error:
            raise Reject(str(error)) from None

    def made(self, message: Delivery) -> tuple[Job, list[File]]:
        """The job that a message says has succeeded, and its outputs. Rejects another job."""
        job = self.job(message)
        if job.outcome is not JobState.SUCCESS:
            raise Reject(f"job {job.id} is {job.state}: it has not succeeded")
        return job, self.store.job_outputs(job.id)

    def task(self, job: Job) -> Task:
        """The task of a job, which never changes: read once for all jobs of its workflow."""
        model = self._models.get(job.workflow_id)
        if model is None:
            model = self.store.model(job.workflow_id)
            if len(self._models) >= MODELS:
                self._models.clear()
            self._models[job.workflow_id] = model
        return model.task(job.task)

    def advance(
        self, message: Delivery, job: Job, to: JobState | list[JobState], why: str, **values: Any
    ) -> Job:
        """Moves a job on behalf of a message; done again it changes nothing.

        A job that was killed meanwhile, or that went on after this message did its part, is
        returned as it is. Rejects the message when the job is elsewhere for another reason.
        """
        try:
            return self.store.advance(
                job.id, to, who=self.name, why=why, cause=message.id, **values
            )
        except Conflict as error:
            job = self.store.job(job.id)
            if killed(job) or self.did(message, job):
                return job
            raise Reject(str(error)) from None

    def did(self, message: Delivery, job: Job) -> dict[JobState, Change]:
        """By state, the changes of the job that this message has already led to."""
        return {one.new: one for one in self.store.history(job.id) if one.cause == message.id}

    def sandbox(self, job: Job) -> Path:
        """The job's folder while it lives."""
        return self.config.paths.sandbox / job.workflow / job.name


def killed(job: Job) -> bool:
    """Whether the job was killed, be it cleaned up by now or not."""
    return job.outcome is JobState.KILLED


def about(type: str, job: Job, delay: float = 0.0) -> Message:
    """A message about a job."""
    return Message(type, {"job": job.id}, delay=delay)
