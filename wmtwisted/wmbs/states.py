"""The states of a job and the table of legal transitions between them."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum

from wmtwisted.errors import Conflict, NotFound


class JobState(StrEnum):
    """Where a job stands; it is in exactly one of these."""

    NEW = "new"
    CREATED = "created"
    EXECUTING = "executing"
    COMPLETE = "complete"
    SUCCESS = "success"
    CREATEFAILED = "createfailed"
    SUBMITFAILED = "submitfailed"
    JOBFAILED = "jobfailed"
    CREATECOOLOFF = "createcooloff"
    SUBMITCOOLOFF = "submitcooloff"
    JOBCOOLOFF = "jobcooloff"
    EXHAUSTED = "exhausted"
    KILLED = "killed"
    CLEANOUT = "cleanout"


_S = JobState

#: From each state, the states a job may go to; the first is the ordinary way on.
#:
#: Every live state can be killed, `complete` too: its data is not yet registered. A cooloff goes
#: back to `created`, which is picked up again whatever had failed; a creation that fails again
#: goes createcooloff -> created -> createfailed.
TRANSITIONS: Mapping[JobState, tuple[JobState, ...]] = {
    _S.NEW: (_S.CREATED, _S.CREATEFAILED, _S.KILLED),
    _S.CREATED: (_S.EXECUTING, _S.SUBMITFAILED, _S.CREATEFAILED, _S.KILLED),
    _S.EXECUTING: (_S.COMPLETE, _S.JOBFAILED, _S.KILLED),
    _S.COMPLETE: (_S.SUCCESS, _S.JOBFAILED, _S.KILLED),
    _S.SUCCESS: (_S.CLEANOUT,),
    _S.CREATEFAILED: (_S.CREATECOOLOFF, _S.EXHAUSTED, _S.KILLED),
    _S.SUBMITFAILED: (_S.SUBMITCOOLOFF, _S.EXHAUSTED, _S.KILLED),
    _S.JOBFAILED: (_S.JOBCOOLOFF, _S.EXHAUSTED, _S.KILLED),
    _S.CREATECOOLOFF: (_S.CREATED, _S.KILLED),
    _S.SUBMITCOOLOFF: (_S.CREATED, _S.KILLED),
    _S.JOBCOOLOFF: (_S.CREATED, _S.KILLED),
    _S.EXHAUSTED: (_S.CLEANOUT,),
    _S.KILLED: (_S.CLEANOUT,),
    _S.CLEANOUT: (),
}

#: How a job's work ended. A cleaned-out job keeps its outcome, so it is known what it had been.
OUTCOMES = frozenset({_S.SUCCESS, _S.EXHAUSTED, _S.KILLED})

#: Nothing more is done for the job's result in these states.
FINAL = OUTCOMES | {_S.CLEANOUT}

#: All others: the job can still be killed.
LIVE = frozenset(JobState) - FINAL

#: The job waits here before it is tried again.
COOLOFF = frozenset({_S.CREATECOOLOFF, _S.SUBMITCOOLOFF, _S.JOBCOOLOFF})


class WorkflowState(StrEnum):
    """Where a workflow stands."""

    RUNNING = "running"
    #: All tasks are finished and every job succeeded.
    DONE = "done"
    #: All tasks are finished and at least one job was given up.
    FAILED = "failed"
    KILLED = "killed"


def legal(old: JobState, new: JobState) -> bool:
    """Whether a job may go from `old` to `new`."""
    return new in TRANSITIONS[old]


def require_legal(old: JobState, new: JobState) -> None:
    """Raise Conflict, naming what is allowed, unless a job may go from `old` to `new`."""
    if not legal(old, new):
        allowed = ", ".join(TRANSITIONS[old]) or "nothing: it is an end"
        raise Conflict(f"a job cannot go from {old} to {new}; from {old} it may go to {allowed}")


def begins_attempt(old: JobState, new: JobState) -> bool:
    """Whether this transition begins another attempt at the job."""
    return old in COOLOFF and new is _S.CREATED


def parse_state(text: str) -> JobState:
    """The state called `text`; raises NotFound with the nearest name."""
    try:
        return JobState(text)
    except ValueError:
        near = get_close_matches(text, [str(state) for state in JobState], n=1)
        raise NotFound(
            f"there is no job state {text!r}; expected one of {', '.join(JobState)}",
            f"did you mean {near[0]!r}?" if near else "",
        ) from None
