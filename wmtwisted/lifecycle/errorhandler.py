"""ErrorHandler: gives what failed another try after a while, until its tries are used up."""

from __future__ import annotations

from wmtwisted.component.component import Reject, handles
from wmtwisted.errors import ConfigError
from wmtwisted.lifecycle.agent import Agent, about, killed
from wmtwisted.message import Delivery, Message
from wmtwisted.wmbs.records import Job
from wmtwisted.wmbs.states import JobState

#: From how a job failed, where it cools off, and the message that tries it again.
COOLING = {
    JobState.CREATEFAILED: (JobState.CREATECOOLOFF, "CreateJob"),
    JobState.SUBMITFAILED: (JobState.SUBMITCOOLOFF, "ReSubmitJob"),
    JobState.JOBFAILED: (JobState.JOBCOOLOFF, "ReSubmitJob"),
}

#: Exit codes that another try does not mend: the command cannot be run, or is not there.
HOPELESS = [126, 127]


class ErrorHandler(Agent):
    """The wait grows with the number of tries; option `cooloff` is its first length in seconds.

    Jobs that end with one of the exit codes in option `hopeless` are given up at once.
    """

    def start(self) -> None:
        """Opens the job store."""
        super().start()
        self._cooloff = self.option("cooloff", 10.0)
        self._hopeless = self.option("hopeless", HOPELESS)
        if not all(type(code) is int for code in self._hopeless):
            raise ConfigError(
                f"components.{self.name}.options.hopeless is {self._hopeless!r}, "
                "expected exit codes, e.g. [126, 127]"
            )

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
        if killed(job):
            return about("JobFailed", job)
        done = self.did(message, job)
        if not done:
            job = self._decide(message, job)
            if killed(job):
                return about("JobFailed", job)
            done = self.did(message, job)
        for state, again in COOLING.values():
            if state in done:
                # The attempt that failed: by now there may be others.
                return about(again, job, self._cooloff * done[state].attempt)
        return about("JobFailed", job)

    def _decide(self, message: Delivery, job: Job) -> Job:
        if job.state not in COOLING:
            raise Reject(f"job {job.id} is {job.state}: it has not failed")
        tries = self.task(job).retries + 1
        hopeless = job.state is JobState.JOBFAILED and job.exit_code in self._hopeless
        if hopeless or job.attempt >= tries:
            of = "at once" if hopeless else f"after {_counted(job.attempt)}"
            return self.advance(message, job, JobState.EXHAUSTED, f"given up {of}: {job.why}")
        why = f"try {job.attempt} of {tries} failed: {job.why}"
        return self.advance(message, job, COOLING[job.state][0], why)


def _counted(tries: int) -> str:
    return "1 try" if tries == 1 else f"{tries} tries"
