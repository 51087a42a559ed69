"""JobSubmitter: hands jobs to the batch system, each attempt once."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from twisted.internet.defer import DeferredLock

from wmtwisted.batch.local import Local
from wmtwisted.batch.model import Busy, Full
from wmtwisted.component.component import Context, Reject, handles
from wmtwisted.errors import BatchError
from wmtwisted.lifecycle.agent import Agent, about, killed
from wmtwisted.lifecycle.environment import chosen
from wmtwisted.message import Delivery, Output, Trigger
from wmtwisted.wmbs.records import Job
from wmtwisted.wmbs.states import COOLOFF, JobState

#: Seconds between looks for a free slot.
LOOK = 0.1

#: What is waited for before a job is cleaned up.
POST_PROCESS = "JobPostProcess"


class JobSubmitter(Agent):
    """The intent is stored before the batch system is called, under a token for each attempt.

    A submitter that is killed between the two finds its own submission by the token. Option
    `environment` names variables that jobs get besides the usual ones: see lifecycle.environment.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        #: Whoever holds it waits for a free slot, for all that wait behind.
        self._door = DeferredLock()
        #: Jobs on their way from the door to a slot.
        self._entering = 0

    def start(self) -> None:
        """Opens the job store and the batch system."""
        super().start()
        self._environment = chosen(os.environ, self.option("environment", []))
        self.batch = Local(self.config.batch.root, self.config.batch.slots)

    @handles("SubmitJob", publishes="TrackJob|JobSubmitFailed", creates=POST_PROCESS)
    async def submit(self, message: Delivery) -> list[Output]:
        """The first attempt."""
        return await self._submit(message, JobState.CREATED)

    @handles("ReSubmitJob", publishes="TrackJob|JobSubmitFailed", creates=POST_PROCESS)
    async def resubmit(self, message: Delivery) -> list[Output]:
        """A further one, after its cool-off."""
        return await self._submit(message, JobState.CREATED, *COOLOFF)

    async def _submit(self, message: Delivery, *ready: JobState) -> list[Output]:
        run = self.context.run
        job: Job = await run(self.job, message)
        if job.state in ready:
            await self._enter()
            try:
                job = await run(self._prepare, message, ready)
                job = await self._hand_over(message, job)
            finally:
                self._entering -= 1
        elif job.state is JobState.EXECUTING:
            # The intent is stored; whether it was carried out, the token tells.
            job = await self._hand_over(message, job)
        outputs: list[Output] = await run(self._outcome, message, job)
        return outputs

    async def _enter(self) -> None:
        """Waits for a slot that is free, and not meant for one that went before."""
        await self._door.acquire()
        try:
            while await self.context.run(self._free) <= self._entering:
                await self.sleep(LOOK)
            self._entering += 1
        finally:
            self._door.release()

    def _free(self) -> int:
        try:
            return self.batch.free()
        except OSError:
            # The submission will meet the same, and say for which job.
            return self._entering + 1

    def _prepare(self, message: Delivery, ready: Collection[JobState]) -> Job:
        """Stores the intent to run the next attempt, and writes what the job is told."""
        # Once more: while a slot was waited for, it may have been killed, or submitted elsewhere.
        job = self.job(message)
        if job.state not in ready:
            return job
        if job.state in COOLOFF:
            if self.did(message, job):
                return job  # an attempt has come and gone since this message was first given
            job = self.advance(message, job, JobState.CREATED, "cooled off")
            if job.state is not JobState.CREATED:
                return job
        try:
            self._write(job)
        except OSError as error:
            why = f"its folder {job.sandbox} cannot be used: {error.strerror}"
            return self.advance(message, job, JobState.SUBMITFAILED, why)
        token = f"{job.name}.{job.attempt}"
        why = f"submitted as {token}"
        return self.advance(message, job, JobState.EXECUTING, why, batch_id=token)

    def _write(self, job: Job) -> None:
        """Leaves in the job's folder what it is told, and nothing of an earlier attempt."""
        folder = Path(job.sandbox)
        for name in ("report.json", *self.task(job).outputs):
            (folder / name).unlink(missing_ok=True)
        text = json.dumps(self.store.description(job.id), indent=1)
        partial = folder / "job.json.part"
        partial.write_text(text)
        os.replace(partial, folder / "job.json")

    async def _hand_over(self, message: Delivery, job: Job) -> Job:
        """Has the batch system take the attempt, as soon as it can; the job as it then is."""
        run = self.context.run
        while job.state is JobState.EXECUTING:
            try:
                await run(self._to_batch, job)
                break
            except (Full, Busy):
                await self.sleep(LOOK)
                # It may be killed while it waits.
                job = await run(self.job, message)
            except BatchError as error:
                job = await run(self._refused, message, job, error)
        return job

    def _to_batch(self, job: Job) -> None:
        task = self.task(job)
        self.batch.submit(
            job.batch_id,
            task.command,
            Path(job.sandbox),
            env=self._environment,
            time_limit=task.time_limit,
        )

    def _refused(self, message: Delivery, job: Job, error: BatchError) -> Job:
        # What did not start in time may still do so, and would run beside the next attempt.
        with suppress(OSError):
            self.batch.cancel(Path(job.sandbox), job.batch_id)
        return self.advance(message, job, JobState.JOBFAILED, str(error))

    def _outcome(self, message: Delivery, job: Job) -> list[Output]:
        """What is published now that the job is where this message could bring it."""
        if killed(job):
            # There may be a process of it, and it is JobTracker who ends that.
            return [about("TrackJob", job)]
        if job.state is not JobState.EXECUTING:
            done = self.did(message, job)
            if {JobState.SUBMITFAILED, JobState.JOBFAILED} & done.keys():
                return [about("JobSubmitFailed", job)]
            if JobState.EXECUTING not in done:
                raise Reject(f"job {job.id} is {job.state}: it does not wait to be submitted")
        cleanup = Trigger(POST_PROCESS, str(job.id), ("DBS", "Phedex"), about("CleanJob", job))
        return [cleanup, about("TrackJob", job)]
