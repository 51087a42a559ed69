"""The states of a job: which transitions are legal, and that none is a dead end."""

from __future__ import annotations

import pytest

from wmtwisted.errors import Conflict, NotFound
from wmtwisted.wmbs.states import (
    COOLOFF,
    FINAL,
    LIVE,
    OUTCOMES,
    TRANSITIONS,
    JobState,
    begins_attempt,
    legal,
    parse_state,
    require_legal,
)


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(JobState)


def reachable(start: JobState) -> set[JobState]:
    seen: set[JobState] = set()
    todo = [start]
    while todo:
        state = todo.pop()
        if state not in seen:
            seen.add(state)
            todo.extend(TRANSITIONS[state])
    return seen


def test_every_state_is_reached_and_leads_to_cleanout() -> None:
    assert reachable(JobState.NEW) == set(JobState)
    for state in JobState:
        assert JobState.CLEANOUT in reachable(state)


def test_every_live_state_can_be_killed() -> None:
    for state in JobState:
        assert legal(state, JobState.KILLED) == (state in LIVE)
    assert JobState.COMPLETE in LIVE


def test_a_failed_creation_can_be_tried_again() -> None:
    # It used to go back to `new`, where nothing picked it up.
    assert TRANSITIONS[JobState.CREATECOOLOFF][0] is JobState.CREATED
    assert not legal(JobState.CREATECOOLOFF, JobState.NEW)


def test_only_a_new_try_counts_as_an_attempt() -> None:
    for state in COOLOFF:
        assert begins_attempt(state, JobState.CREATED)
        assert not begins_attempt(state, JobState.KILLED)
    assert not begins_attempt(JobState.NEW, JobState.CREATED)


def test_states_are_live_or_final() -> None:
    assert LIVE.isdisjoint(FINAL)
    assert set(JobState) == LIVE | FINAL
    for state in OUTCOMES:
        assert TRANSITIONS[state] == (JobState.CLEANOUT,)


def test_a_refusal_says_what_is_allowed() -> None:
    with pytest.raises(Conflict, match="from success it may go to cleanout"):
        require_legal(JobState.SUCCESS, JobState.CREATED)
    with pytest.raises(Conflict, match="nothing: it is an end"):
        require_legal(JobState.CLEANOUT, JobState.NEW)


def test_names() -> None:
    assert parse_state("executing") is JobState.EXECUTING
    with pytest.raises(NotFound) as caught:
        parse_state("executin")
    assert caught.value.hint == "did you mean 'executing'?"
