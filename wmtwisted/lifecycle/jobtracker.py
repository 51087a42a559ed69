"""JobTracker: follows jobs in the batch system, and takes in what they made."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred

from wmtwisted.batch.local import Local
from wmtwisted.batch.model import BatchState, Status
from wmtwisted.component.component import Context, handles
from wmtwisted.errors import WMError
from wmtwisted.lifecycle.agent import Agent, about
from wmtwisted.lifecycle.stageout import stage_out
from wmtwisted.message import Delivery, Message
from wmtwisted.wmbs.records import Job
from wmtwisted.wmbs.states import JobState

#: Jobs that one tracker follows at once.
FOLLOWED = 5000


class JobTracker(Agent):
    """One look at the batch system serves all jobs that are followed."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._followed: dict[tuple[Path, str], list[Deferred[Status]]] = {}
        self._looking = False

    def start(self) -> None:
        """Opens the job store and the batch system."""
        super().start()
        self._interval = self.option("interval", 0.2)
        self.batch = Local(self.config.batch.root, self.config.batch.slots)

    @handles("TrackJob", publishes="JobProcessSuccess|JobProcessFailed", threads=FOLLOWED)
    async def track(self, message: Delivery) -> Message:
        """Waits for the job's end."""
        run = self.context.run
        job: Job = await run(self.job, message)
        if job.state is JobState.EXECUTING:
            status = await self._end_of(Path(job.sandbox), job.batch_id)
            job = await run(self._ended, message, job, status)
        done = await run(self.did, message, job)
        failed = JobState.JOBFAILED in done
        return about("JobProcessFailed" if failed else "JobProcessSuccess", job)

    def _end_of(self, sandbox: Path, token: str) -> Deferred[Status]:
        end: Deferred[Status] = Deferred()
        self._followed.setdefault((sandbox, token), []).append(end)
        if not self._looking:
            self._looking = True
            self._look()
        return end

    def _look(self) -> None:
        """Asks for all at once, on a thread; goes on as long as something is followed."""

        def looked(ended: dict[tuple[Path, str], Status]) -> None:
            for key, status in ended.items():
                for waiting in self._followed.pop(key, []):
                    waiting.callback(status)
            again()

        def again(_: object = None) -> None:
            if self._followed:
                self.context.clock.callLater(self._interval, self._look)
            else:
                self._looking = False

        self.context.run(self._ended_ones, list(self._followed)).addCallbacks(looked, again)

    def _ended_ones(self, keys: list[tuple[Path, str]]) -> dict[tuple[Path, str], Status]:
        live = (BatchState.PENDING, BatchState.RUNNING)
        found = {key: self.batch.status(*key) for key in keys}
        return {key: status for key, status in found.items() if status.state not in live}

    def _ended(self, message: Delivery, job: Job, status: Status) -> Job:
        """Stores how the attempt ended, and what it made if it made everything."""
        result = status.result
        if result is None:
            why = f"the batch system has lost it ({status.state})"
            return self.advance(message, job, JobState.JOBFAILED, why)
        if result.ok:
            try:
                files = stage_out(job, self.store.task(job.id), self.config.paths.storage)
            except WMError as error:
                why = str(error)
            else:
                steps = [JobState.COMPLETE, JobState.SUCCESS]
                return self.advance(
                    message, job, steps, "all outputs stored", exit_code=0, outputs=files
                )
        else:
            why = result.reason
        return self.advance(message, job, JobState.JOBFAILED, why, exit_code=result.exit_code)
