"""What the components of a job's life have in common: the job store, and finding work done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wmtwisted.component.component import Component, Context, Reject
from wmtwisted.errors import Conflict, NotFound
from wmtwisted.message import Delivery, Message
from wmtwisted.store.database import open_engine
from wmtwisted.store.jobs import JobStore
from wmtwisted.wmbs.records import Job
from wmtwisted.wmbs.states import JobState


class Agent(Component):
    """A component that works on jobs. Its messages carry `{"job": id}`."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.store: JobStore

    def start(self) -> None:
        """Opens the job store. Raises StoreError when it cannot be used."""
        self.store = JobStore(open_engine(self.config.store.jobs, "jobs"))
        self.store.require_tables()

    def stop(self) -> None:
        """Closes the job store."""
        self.store.engine.dispose()

    def job(self, message: Delivery) -> Job:
        """The job that a message is about. Rejects a message that names none."""
        try:
            return self.store.job(int(message.json()["job"]))
        except (ValueError, KeyError, TypeError):
            raise Reject(f'payload {message.payload[:80]!r}: expected {{"job": number}}') from None
        except NotFound as error:
            raise Reject(str(error)) from None

    def advance(
        self, message: Delivery, job: Job, to: JobState | list[JobState], why: str, **values: Any
    ) -> Job:
        """Moves a job on behalf of a message; done again it changes nothing.

        Rejects the message when the job is elsewhere: it was killed, or this is an old replay.
        """
        try:
            return self.store.advance(
                job.id, to, who=self.name, why=why, cause=message.id, **values
            )
        except Conflict as error:
            raise Reject(str(error)) from None

    def did(self, message: Delivery, job: Job) -> list[JobState]:
        """The states that this message has already brought the job to."""
        return [one.new for one in self.store.history(job.id) if one.cause == message.id]

    def sandbox(self, job: Job) -> Path:
        """The job's folder while it lives."""
        return self.config.paths.sandbox / job.workflow / job.name


def about(type: str, job: Job, delay: float = 0.0) -> Message:
    """A message about a job."""
    return Message(type, {"job": job.id}, delay=delay)
