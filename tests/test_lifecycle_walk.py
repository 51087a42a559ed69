"""A workflow through all components, in memory: whatever fails on the way, the same comes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lifecycle_world import Crash, Faults, World, store_error, workflow, world
from wmtwisted.store.catalog import Catalog
from wmtwisted.wmbs.states import JobState, WorkflowState


def walk(one: World, jobs: int = 1) -> dict[str, Any]:
    one.submit(workflow(one.folder, jobs=jobs))
    one.run()
    return one.result()


def check(one: World, jobs: int) -> None:
    """The whole of it, once; the rest compares with this."""
    result = one.result()
    assert result["workflows"] == [("w", WorkflowState.DONE)]
    assert result["dead"] == []
    attempts = ["w-add-1.1", "w-make-1.1", "w-make-1.2"]
    assert result["ran"] == sorted([*attempts, *(f"w-make-{n}.1" for n in range(2, jobs + 1))])
    for job in one.jobs():
        assert (job.state, job.outcome) == (JobState.CLEANOUT, JobState.SUCCESS)
        assert one.ends()["JobSuccess", job.id] == 1
    assert result["types"]["JobSuccess"] == jobs + 1
    assert result["types"]["JobFailed"] == 0
    assert result["folders"] == []
    assert len(result["logs"]) == 2 * (jobs + 1)
    assert set(result["barriers"].values()) == {"fired"}
    (whole,) = one.store.outputs("w", "add")
    lines = Path(whole.path).read_text().splitlines()
    expected = ["data of w-make-1.2", *(f"data of w-make-{n}.1" for n in range(2, jobs + 1))]
    assert sorted(lines) == expected
    assert len(whole.parents) == jobs
    counts = Catalog(one.store.engine).counts()
    assert (counts.files, counts.replicas) == (jobs + 1, jobs + 1)


@pytest.mark.parametrize("database", ["sqlite", "mariadb"])
def test_every_message_handled_twice(database: str) -> None:
    url = ""
    if database == "mariadb":
        from tests.mariadb import fresh_url

        url = fresh_url()
    with world(url=url) as one:
        walk(one, jobs=4)
        check(one, jobs=4)
        one.replay()
        check(one, jobs=4)


@pytest.mark.parametrize("seed", range(4))
def test_every_message_in_two_processes_at_once(seed: int) -> None:
    with world(both=True, twice=False, seed=seed) as one:
        walk(one, jobs=3)
        check(one, jobs=3)


# A process that ends is the harder case; of an error that is only raised, every fourth will do.
@pytest.mark.parametrize(("error", "step"), [(Crash, 1), (store_error, 4)])
def test_a_failure_after_any_call(error: Callable[[], BaseException], step: int) -> None:
    with world(twice=False) as one:
        expected = walk(one)
        check(one, jobs=1)
        calls = one.faults.calls
    seen = set()
    for at in range(1, calls + 1, step):
        with world(twice=False, faults=Faults(at, error), seed=at) as one:
            assert walk(one) == expected, f"after call {at}, {one.faults.what}"
            assert one.faults.fired
            seen.add(one.faults.what)
    if step == 1:
        assert {"JobStore.advance", "JobStore.split", "JobStore.inject", "Local.submit"} <= seen
        assert {"Local.status", "Catalog.register_files", "_write", "move", "_remove"} <= seen
