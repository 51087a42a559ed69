"""JobCleanup: keeps a job's log, removes its folder, and ends its life."""

from __future__ import annotations

import os
import shutil

from wmtwisted.component.component import Reject, handles
from wmtwisted.lifecycle import logs
from wmtwisted.lifecycle.agent import Agent, about
from wmtwisted.lifecycle.stageout import discard, move
from wmtwisted.message import Delivery, Message
from wmtwisted.wmbs.records import Job
from wmtwisted.wmbs.states import JobState


class JobCleanup(Agent):
    """The last component in a job's life."""

    @handles("CleanJob", publishes="JobSuccess")
    def clean(self, message: Delivery) -> Message:
        """A job whose files are registered."""
        job = self.job(message)
        self._end(message, job, JobState.SUCCESS)
        return about("JobSuccess", job)

    @handles("JobFailed")
    def failed(self, message: Delivery) -> None:
        """A job that was given up or killed; its log tells why."""
        job = self.job(message)
        self._end(message, job, JobState.EXHAUSTED, JobState.KILLED)

    def _end(self, message: Delivery, job: Job, *outcomes: JobState) -> None:
        if job.outcome not in outcomes:
            # Before anything is removed: it may be running.
            raise Reject(f"job {job.id} is {job.state}: it is not to be cleaned up")
        if job.state is JobState.CLEANOUT:
            return
        if job.outcome is not JobState.SUCCESS:
            discard(job, self.config.paths.storage)
        done = self._remove(job)
        # The last word on a job that did not succeed is why.
        why = done if job.outcome is JobState.SUCCESS else f"{job.why}; {done}"
        self.advance(message, job, JobState.CLEANOUT, why)

    def _remove(self, job: Job) -> str:
        """Removes the job's folder, but for a log that cannot be kept; what was done."""
        if not job.sandbox:
            return "it had no folder"
        try:
            for stream in logs.STREAMS:
                self._keep(job, stream)
        except OSError as error:
            return f"its log cannot be kept, so its folder stays: {error}"
        shutil.rmtree(job.sandbox, ignore_errors=True)
        if os.path.lexists(job.sandbox):
            return "log kept; its folder cannot be removed"
        return "log kept, folder removed"

    def _keep(self, job: Job, stream: str) -> None:
        log = logs.written(self.config, job, stream)
        # It may never have run, or this was done before a crash.
        if log is not None and log.is_file():
            move(log, logs.kept(self.config, job, stream))
