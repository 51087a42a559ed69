"""JobCreator: takes workflows in, splits them into jobs, and makes each job's folder."""

from __future__ import annotations

from wmtwisted.component.component import Reject, handles
from wmtwisted.errors import Conflict, InputError, NotFound, SpecError
from wmtwisted.lifecycle.agent import Agent, about
from wmtwisted.message import Delivery, Message
from wmtwisted.wmbs.model import File
from wmtwisted.wmbs.records import Job
from wmtwisted.wmbs.states import JobState
from wmtwisted.wmbs.workflow import from_dict


class JobCreator(Agent):
    """Workflows become jobs, now and whenever the end of a job makes more of them possible."""

    @handles("NewWorkflow", publishes="CreateJob|()")
    def new_workflow(self, message: Delivery) -> list[Message]:
        """A workflow and its input files, as `wm workflow submit` publishes them."""
        try:
            payload = message.json()
            workflow = from_dict(payload["workflow"], f"message {message.id}")
            inputs = [File(**file) for file in payload.get("inputs", [])]
            number = self.store.inject(workflow, inputs, cause=message.id)
        except (SpecError, InputError, NotFound, ValueError, KeyError, TypeError) as error:
            raise Reject(f"not a workflow: {error}") from error
        except Conflict as error:
            raise Reject(str(error)) from error
        return self._split(message, number)

    @handles("JobSuccess", publishes="CreateJob|()")
    def succeeded(self, message: Delivery) -> list[Message]:
        """A job has ended: what it made may be the input of others."""
        return self._split(message, self.job(message).workflow_id)

    @handles("JobFailed", publishes="CreateJob|()")
    def failed(self, message: Delivery) -> list[Message]:
        """A job was given up: what waited for it goes on with what there is."""
        return self._split(message, self.job(message).workflow_id)

    def _split(self, message: Delivery, workflow: int) -> list[Message]:
        return [about("CreateJob", job) for job in self.store.split(workflow, cause=message.id)]

    @handles("CreateJob", publishes="SubmitJob|JobCreateFailed")
    def create(self, message: Delivery) -> Message:
        """Makes the job's folder."""
        job = self.job(message)
        cool = job.state is JobState.CREATECOOLOFF and not self.did(message, job)
        if job.state is JobState.NEW or cool:
            job = self._make(message, job)
        if job.state is not JobState.CREATED and JobState.CREATEFAILED in self.did(message, job):
            return about("JobCreateFailed", job)
        return about("SubmitJob", job)

    def _make(self, message: Delivery, job: Job) -> Job:
        folder = self.sandbox(job)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            left = next(folder.iterdir(), None)
        except OSError as error:
            why = f"its folder {folder} cannot be made: {error.strerror}"
        else:
            if left is None:
                return self.advance(
                    message, job, JobState.CREATED, "folder made",
                    expected=job.state, sandbox=str(folder),
                )  # fmt: skip
            # Of another instance, say: an old result in it would be taken for this job's.
            why = f"its folder {folder} is not empty: it holds {left.name!r}"
        steps = [JobState.CREATEFAILED]
        if job.state is JobState.CREATECOOLOFF:
            # Only `created` leads out of it.
            steps.insert(0, JobState.CREATED)
        return self.advance(message, job, steps, why, expected=job.state)
