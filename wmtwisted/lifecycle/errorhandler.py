"""ErrorHandler: gives what failed another try after a while, until its tries are used up."""

from __future__ import annotations

from wmtwisted.component.component import handles
from wmtwisted.lifecycle.agent import Agent, about
from wmtwisted.message import Delivery, Message
from wmtwisted.wmbs.states import JobState

#: From how a job failed, where it cools off, and the message that tries it again.
COOLING = {
    JobState.CREATEFAILED: (JobState.CREATECOOLOFF, "CreateJob"),
    JobState.SUBMITFAILED: (JobState.SUBMITCOOLOFF, "ReSubmitJob"),
    JobState.JOBFAILED: (JobState.JOBCOOLOFF, "ReSubmitJob"),
}


class ErrorHandler(Agent):
    """The wait grows with the number of tries; option `cooloff` is its first length in seconds."""

    def start(self) -> None:
        """Opens the job store."""
        super().start()
        self._cooloff = self.option("cooloff", 10.0)

    @handles("JobCreateFailed", publishes="CreateJob|JobFailed")
    def create_failed(self, message: Delivery) -> Message:
        """Its folder could not be made."""
        return self._failed(message)

    @handles("JobSubmitFailed", publishes="ReSubmitJob|JobFailed")
    def submit_failed(self, message: Delivery) -> Message:
        """The batch system did not take it."""
        return self._failed(message)

    @handles("JobProcessFailed", publishes="ReSubmitJob|JobFailed")
    def process_failed(self, message: Delivery) -> Message:
        """It ended badly."""
        return self._failed(message)

    def _failed(self, message: Delivery) -> Message:
        job = self.job(message)
        done = self.did(message, job)
        if not done:
            retries = self.store.task(job.id).retries
            if job.attempt > retries or job.state not in COOLING:
                why = f"given up after {job.attempt} tries: {job.why}"
                job = self.advance(message, job, JobState.EXHAUSTED, why)
            else:
                state = COOLING[job.state][0]
                why = f"try {job.attempt} of {retries + 1} failed: {job.why}"
                job = self.advance(message, job, state, why)
            done = [job.state]
        for state, again in COOLING.values():
            if state in done:
                return about(again, job, self._cooloff * job.attempt)
        return about("JobFailed", job)
