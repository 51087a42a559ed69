"""JobCleanup: keeps a job's log, removes its folder, and ends its life."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from wmtwisted.batch.local import Local
from wmtwisted.component.component import handles
from wmtwisted.lifecycle.agent import Agent, about
from wmtwisted.message import Delivery, Message
from wmtwisted.wmbs.records import Job
from wmtwisted.wmbs.states import JobState


class JobCleanup(Agent):
    """The last component in a job's life."""

    def start(self) -> None:
        """Opens the job store and the batch system, which knows where logs are."""
        super().start()
        self.batch = Local(self.config.batch.root, self.config.batch.slots)

    @handles("CleanJob", publishes="JobSuccess")
    def clean(self, message: Delivery) -> Message:
        """A job whose files are registered."""
        job = self.job(message)
        self._remove(message, job)
        return about("JobSuccess", job)

    @handles("JobFailed")
    def failed(self, message: Delivery) -> None:
        """A job that was given up; its log tells why."""
        self._remove(message, self.job(message))

    def _remove(self, message: Delivery, job: Job) -> None:
        if job.state is JobState.CLEANOUT:
            return
        if job.sandbox:
            for stream in ("stdout", "stderr"):
                self._keep(job, stream)
            shutil.rmtree(job.sandbox, ignore_errors=True)
        self.advance(message, job, JobState.CLEANOUT, "log kept, folder removed")

    def _keep(self, job: Job, stream: str) -> None:
        kept = self.config.paths.storage / "log" / job.workflow / f"{job.name}.{stream}"
        log = self.batch.log(Path(job.sandbox), job.batch_id, stream) if job.batch_id else None
        if log is None or not log.is_file():
            return  # it never ran, or was moved before a crash
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f"{kept.name}.part")
        shutil.copyfile(log, partial)
        os.replace(partial, kept)
