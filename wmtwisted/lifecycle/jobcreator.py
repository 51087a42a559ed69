"""JobCreator: takes workflows in, splits them into jobs, and makes each job's folder."""

from __future__ import annotations

from wmtwisted.component.component import Reject, handles
from wmtwisted.errors import WMError
from wmtwisted.lifecycle.agent import Agent, about
from wmtwisted.message import Delivery, Message
from wmtwisted.wmbs.model import File
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
        except (WMError, ValueError, KeyError, TypeError) as error:
            raise Reject(f"not a workflow: {error}") from error
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
        folder = self.sandbox(job)
        if job.state in (JobState.NEW, JobState.CREATECOOLOFF):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                why = f"its folder {folder} cannot be made: {error.strerror}"
                steps = [JobState.CREATEFAILED]
                if job.state is JobState.CREATECOOLOFF:
                    steps.insert(0, JobState.CREATED)
                self.advance(message, job, steps, why)
                return about("JobCreateFailed", job)
            self.advance(message, job, JobState.CREATED, "folder made", sandbox=str(folder))
        elif JobState.CREATEFAILED in self.did(message, job):
            return about("JobCreateFailed", job)
        return about("SubmitJob", job)
