"""JobTracker: follows jobs in the batch system, and takes in what they made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from wmtwisted.batch.local import Local
from wmtwisted.batch.model import BatchState, Status
from wmtwisted.component.component import Context, Reject, handles
from wmtwisted.errors import Conflict, InputError, WMError
from wmtwisted.lifecycle.agent import Agent, about, killed
from wmtwisted.lifecycle.stageout import stage_out
from wmtwisted.message import Delivery, Message
from wmtwisted.wmbs.records import Job
from wmtwisted.wmbs.states import JobState

#: Jobs that one tracker follows at once.
FOLLOWED = 5000

#: Seconds between looks for jobs that were killed.
KILLED = 1.0

#: Seconds for which a job's folder may be unreadable before the job counts as lost.
TROUBLE = 30.0

#: What became of an attempt: the batch system's last word on it, or why there will be none.
End = Status | str


@define(eq=False)
class _Followed:
    """One attempt that is followed."""

    job: Job
    waiting: list[Deferred[End]] = field(factory=list)
    #: Since when it cannot be looked at; None: it can.
    trouble: float | None = None


class JobTracker(Agent):
    """One look at the batch system serves all jobs that are followed."""

    log = Logger()

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._followed: dict[tuple[int, str], _Followed] = {}
        self._looking = False
        self._killed_at = 0.0

    def start(self) -> None:
        """Opens the job store and the batch system."""
        super().start()
        self._interval = self.option("interval", 0.2)
        self.batch = Local(self.config.batch.root, self.config.batch.slots)

    @handles("TrackJob", publishes="JobProcessSuccess|JobProcessFailed", threads=FOLLOWED)
    async def track(self, message: Delivery) -> Message:
        """Waits for the job's end."""
        run = self.context.run
        job: Job = await run(self._begin, message)
        if job.batch_id and job.state in (JobState.EXECUTING, JobState.KILLED):
            end = await self._end_of(job)
            job = await run(self._ended, message, job, end)
        outcome: Message = await run(self._outcome, message, job)
        return outcome

    def _begin(self, message: Delivery) -> Job:
        job = self.job(message)
        if job.state is JobState.KILLED and job.batch_id:
            self._cancel(job)
        return job

    def _cancel(self, job: Job) -> None:
        try:
            self.batch.cancel(Path(job.sandbox), job.batch_id)
        except (OSError, ValueError) as error:
            self.log.error("{job} cannot be cancelled: {error}", job=job.name, error=error)

    # Looking at the batch system --------------------------------------------------------------

    def _end_of(self, job: Job) -> Deferred[End]:
        end: Deferred[End] = Deferred()
        followed = self._followed.setdefault((job.id, job.batch_id), _Followed(job))
        followed.waiting.append(end)
        if not self._looking:
            self._looking = True
            self._look()
        return end

    def _look(self) -> None:
        """Asks for all at once, on a thread; goes on as long as something is followed."""
        now = self.context.clock.seconds()
        looked = self.context.run(self._ended_ones, list(self._followed.values()), now)
        looked.addCallback(self._looked)
        looked.addErrback(self._not_looked)
        looked.addCallback(lambda _: self._again())

    def _looked(self, ended: list[tuple[_Followed, End]]) -> None:
        for followed, end in ended:
            del self._followed[followed.job.id, followed.job.batch_id]
            for waiting in followed.waiting:
                waiting.callback(end)

    def _not_looked(self, failure: Failure) -> None:
        self.log.failure("the batch system could not be looked at; again in a moment", failure)

    def _again(self) -> None:
        if self._followed:
            self.context.clock.callLater(self._interval, self._look)
        else:
            self._looking = False

    def _ended_ones(self, followed: Sequence[_Followed], now: float) -> list[tuple[_Followed, End]]:
        if now - self._killed_at >= KILLED:
            self._killed_at = now
            self._end_killed({one.job.id: one.job for one in followed})
        found = ((one, self._state_of(one, now)) for one in followed)
        return [(one, end) for one, end in found if end is not None]

    def _state_of(self, one: _Followed, now: float) -> End | None:
        """How the attempt ended; None: it has not."""
        try:
            status = self.batch.status(Path(one.job.sandbox), one.job.batch_id)
        except OSError as error:
            # It may pass, and it is not to keep the others from being looked at.
            if one.trouble is None:
                one.trouble = now
            if now - one.trouble < TROUBLE:
                return None
            return f"its folder cannot be looked at: {error}"
        one.trouble = None
        live = (BatchState.PENDING, BatchState.RUNNING)
        return None if status.state in live else status

    def _end_killed(self, followed: dict[int, Job]) -> None:
        """Cancels those of the followed jobs that were killed since."""
        after = 0
        try:
            while page := self.store.jobs(state=JobState.KILLED, after=after, limit=1000):
                for job in page:
                    if job.id in followed:
                        self._cancel(followed[job.id])
                after = page[-1].id
        except WMError as error:
            self.log.error("killed jobs could not be looked for: {error}", error=error)

    # What comes of it -------------------------------------------------------------------------

    def _ended(self, message: Delivery, job: Job, end: End) -> Job:
        """Stores how the attempt ended, and what it made if it made everything."""
        if killed(job):
            return job
        if isinstance(end, str):
            return self.advance(message, job, JobState.JOBFAILED, end)
        result = end.result
        if result is None:
            why = f"the batch system has lost it ({end.state})"
            return self.advance(message, job, JobState.JOBFAILED, why)
        why = result.reason
        if result.ok:
            try:
                files = stage_out(job, self.task(job), self.config.paths.storage)
                return self.store.advance(
                    job.id,
                    [JobState.COMPLETE, JobState.SUCCESS],
                    who=self.name,
                    why="all outputs stored",
                    cause=message.id,
                    exit_code=0,
                    outputs=files,
                )
            except InputError as error:
                why = str(error)
            except OSError as error:
                why = f"its outputs cannot be stored: {error}"
            except Conflict as error:
                job = self.store.job(job.id)
                if job.state is not JobState.EXECUTING:
                    return job
                # It is where it should be, so it is the outputs that were refused.
                why = str(error)
        return self.advance(message, job, JobState.JOBFAILED, why, exit_code=result.exit_code)

    def _outcome(self, message: Delivery, job: Job) -> Message:
        """What is published, now that the attempt has ended."""
        if killed(job):
            return about("JobProcessFailed", job)
        done = self.did(message, job)
        if JobState.JOBFAILED in done:
            return about("JobProcessFailed", job)
        if JobState.SUCCESS in done:
            return about("JobProcessSuccess", job)
        raise Reject(f"job {job.id} is {job.state}: nothing of it runs for this message")
