"""JobSubmitter: hands jobs to the batch system, each attempt once."""

from __future__ import annotations

import json
import os
from pathlib import Path

from wmtwisted.batch.local import Local
from wmtwisted.batch.model import Busy, Full
from wmtwisted.component.component import handles
from wmtwisted.errors import BatchError
from wmtwisted.lifecycle.agent import Agent, about
from wmtwisted.message import Delivery, Output, Trigger
from wmtwisted.wmbs.records import Job
from wmtwisted.wmbs.states import COOLOFF, JobState

#: Seconds between looks for a free slot.
LOOK = 0.1

#: What is waited for before a job is cleaned up.
POST_PROCESS = "JobPostProcess"


class JobSubmitter(Agent):
    """The intent is stored before the batch system is called, under a token for each attempt.

    A submitter that is killed between the two finds its own submission by the token.
    """

    def start(self) -> None:
        """Opens the job store and the batch system."""
        super().start()
        self.batch = Local(self.config.batch.root, self.config.batch.slots)

    @handles("SubmitJob", publishes="TrackJob|JobSubmitFailed", creates=POST_PROCESS)
    async def submit(self, message: Delivery) -> list[Output]:
        """The first attempt."""
        return await self._submit(message)

    @handles("ReSubmitJob", publishes="TrackJob|JobSubmitFailed", creates=POST_PROCESS)
    async def resubmit(self, message: Delivery) -> list[Output]:
        """A further one, after its cool-off."""
        return await self._submit(message)

    async def _submit(self, message: Delivery) -> list[Output]:
        run = self.context.run
        while not await run(self.batch.free):
            await self.sleep(LOOK)
        job: Job = await run(self._prepare, message)
        while job.state is JobState.EXECUTING:
            try:
                await run(self._hand_over, job)
                break
            except (Full, Busy):
                await self.sleep(LOOK)
            except BatchError as error:
                job = await run(self.advance, message, job, JobState.JOBFAILED, str(error))
        if job.state in (JobState.SUBMITFAILED, JobState.JOBFAILED):
            return [about("JobSubmitFailed", job)]
        cleanup = Trigger(POST_PROCESS, str(job.id), ("DBS", "Phedex"), about("CleanJob", job))
        return [cleanup, about("TrackJob", job)]

    def _prepare(self, message: Delivery) -> Job:
        """Stores the intent to run the next attempt, and writes what the job is told."""
        job = self.job(message)
        if job.state in COOLOFF:
            job = self.advance(message, job, JobState.CREATED, "cooled off")
        if job.state is JobState.CREATED:
            try:
                self._write(job)
            except OSError as error:
                why = f"its folder {job.sandbox} cannot be used: {error.strerror}"
                return self.advance(message, job, JobState.SUBMITFAILED, why)
            token = f"{job.name}.{job.attempt}"
            why = f"submitted as {token}"
            return self.advance(message, job, JobState.EXECUTING, why, batch_id=token)
        return job

    def _write(self, job: Job) -> None:
        """Leaves in the job's folder what it is told, and nothing of an earlier attempt."""
        folder = Path(job.sandbox)
        for name in ("report.json", *self.store.task(job.id).outputs):
            (folder / name).unlink(missing_ok=True)
        text = json.dumps(self.store.description(job.id), indent=1)
        partial = folder / "job.json.part"
        partial.write_text(text)
        os.replace(partial, folder / "job.json")

    def _hand_over(self, job: Job) -> None:
        task = self.store.task(job.id)
        self.batch.submit(job.batch_id, task.command, Path(job.sandbox), time_limit=task.time_limit)
