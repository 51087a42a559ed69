"""What the store knows of jobs and workflows, as it hands it out."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from wmtwisted.wmbs.states import JobState, WorkflowState


@frozen
class Job:
    """A job as it stands."""

    id: int
    #: `workflow-task-number`, to be read by people; the id is what is unique.
    name: str
    workflow_id: int
    #: The workflow's name.
    workflow: str
    #: The task's name.
    task: str
    #: Counted from 1 within the task.
    number: int
    state: JobState
    #: `success`, `exhausted` or `killed` once its work has ended, also after `cleanout`; else None.
    outcome: JobState | None
    #: 1 for the first; each leaving of a cooloff for another try adds 1.
    attempt: int
    #: 0 to 2**31-1, the same for every attempt.
    seed: int
    #: The number of the first event to make, for a task that reads nothing; else None.
    first_event: int | None
    #: How many events to make, for a task that reads nothing; else None.
    events: int | None
    #: The folder it runs in; "" before it has one.
    sandbox: str
    #: How the batch system knows its last submission; "" before there is one.
    batch_id: str
    #: Of the last attempt that ended; None before, or when it left none.
    exit_code: int | None
    #: The reason given for the last transition.
    why: str
    #: Seconds since the epoch.
    created: float
    #: When it came into its state, in seconds since the epoch.
    changed: float


@frozen
class Change:
    """One transition of a job, from its history, which only grows."""

    id: int
    job_id: int
    #: None for the first: the job was made.
    old: JobState | None
    new: JobState
    #: The component or person that did it.
    who: str
    why: str
    #: Seconds since the epoch.
    when: float
    #: The id of the message that led to it.
    cause: str
    #: The attempt that it belongs to.
    attempt: int
    exit_code: int | None


@frozen
class TaskStatus:
    """How far a task is."""

    name: str
    #: The task it reads, `input`, or None.
    input: str | None
    #: All its jobs are made and ended: its outputs are complete.
    finished: bool
    #: Jobs by state; states without a job are left out.
    states: Mapping[str, int]
    #: Jobs by outcome (`success`, `exhausted`, `killed`), cleaned out or not.
    outcomes: Mapping[str, int]
    #: Attempts beyond the first, over all jobs.
    retries: int

    @property
    def jobs(self) -> int:
        """How many jobs it has so far."""
        return sum(self.states.values())


@frozen
class WorkflowStatus:
    """How far a workflow is."""

    id: int
    name: str
    state: WorkflowState
    #: Seconds since the epoch.
    created: float
    #: When it reached its last state; None while it runs.
    finished: float | None
    #: In the order of the workflow file.
    tasks: tuple[TaskStatus, ...]


@frozen
class FileCounts:
    """How many files of a task's input are where, each file in exactly one place."""

    available: int
    acquired: int
    complete: int
    failed: int
