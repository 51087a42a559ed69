"""Splitting: every event of every file lands in exactly one job, whatever the parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtwisted.wmbs.model import File, JobSpec, SplitBy, Splitting
from wmtwisted.wmbs.splitting import Split, generate, split

#: A busy machine is no failure.
unhurried = settings(deadline=None)

splittings = st.builds(Splitting, by=st.sampled_from(SplitBy), per_job=st.integers(1, 60))


def make(sizes: Iterable[tuple[int, list[int], int]]) -> list[File]:
    return [
        File(f"/f/{number}", f"/p/{number}", size, events, tuple(runs))
        for number, (events, runs, size) in enumerate(sizes)
    ]


files = st.lists(
    st.tuples(st.integers(0, 200), st.lists(st.integers(1, 8), max_size=4), st.integers(0, 100)),
    max_size=12,
).map(make)


def run_of(file: File, row: int) -> int | None:
    return file.runs[row % len(file.runs)] if file.runs else None


def rows_read(jobs: Iterable[JobSpec]) -> Counter[tuple[str, int]]:
    """How often each row of each file is read, by the meaning that masks have for a job."""
    read: Counter[tuple[str, int]] = Counter()
    for job in jobs:
        for one in job.inputs:
            mask = one.mask
            end = one.file.events if mask.events is None else mask.first_event + mask.events
            assert end <= one.file.events, "a mask goes beyond its file"
            for row in range(mask.first_event, end):
                if mask.runs is None or run_of(one.file, row) in mask.runs:
                    read[one.file.lfn, row] += 1
    return read


def all_rows(some: Iterable[File]) -> Counter[tuple[str, int]]:
    return Counter((file.lfn, row) for file in some for row in range(file.events))


@unhurried
@given(files, splittings, st.booleans())
def test_every_event_is_in_exactly_one_job(
    some: list[File], splitting: Splitting, wait: bool
) -> None:
    result = split(some, True, splitting, wait)
    assert result.left == ()
    assert rows_read(result.jobs) == all_rows(some)
    used = {one.file.lfn for job in result.jobs for one in job.inputs}
    assert used == {file.lfn for file in some}, "a file without events is in a job too"
    assert all(job.inputs for job in result.jobs)


@unhurried
@given(st.lists(files, min_size=1, max_size=5), splittings, st.booleans())
def test_files_that_come_in_waves_are_each_taken_once(
    waves: list[list[File]], splitting: Splitting, wait: bool
) -> None:
    jobs: list[JobSpec] = []
    left: tuple[File, ...] = ()
    everything: list[File] = []
    for number, wave in enumerate(waves):
        new = [
            File(f"/{number}{file.lfn}", file.path, file.size, file.events, file.runs)
            for file in wave
        ]
        everything += new
        available = [*left, *new]
        result = split(available, False, splitting, wait)
        taken = {one.file.lfn for job in result.jobs for one in job.inputs}
        assert taken.isdisjoint(file.lfn for file in result.left)
        assert taken | {file.lfn for file in result.left} == {file.lfn for file in available}
        assert not (wait and result.jobs)
        jobs += result.jobs
        left = result.left
    jobs += split(left, True, splitting, wait).jobs
    assert rows_read(jobs) == all_rows(everything)


@unhurried
@given(files, st.integers(1, 60))
def test_no_job_is_larger_than_asked(some: list[File], per_job: int) -> None:
    for job in split(some, True, Splitting(SplitBy.FILE, per_job)).jobs:
        assert len(job.inputs) <= per_job
    for job in split(some, True, Splitting(SplitBy.EVENT, per_job)).jobs:
        assert len(job.inputs) == 1
        assert sum(rows_read([job]).values()) <= per_job
    for job in split(some, True, Splitting(SplitBy.SIZE, per_job)).jobs:
        assert len(job.inputs) == 1 or sum(one.file.size for one in job.inputs) <= per_job
    for job in split(some, True, Splitting(SplitBy.RUN, per_job)).jobs:
        runs: set[int] = set()
        for one in job.inputs:
            runs.update(one.file.runs if one.mask.runs is None else one.mask.runs)
        assert len(runs) <= per_job


@unhurried
@given(files, st.integers(1, 8))
def test_a_run_is_in_one_job_when_its_files_are_there(some: list[File], per_job: int) -> None:
    where: Counter[int] = Counter()
    for job in split(some, True, Splitting(SplitBy.RUN, per_job)).jobs:
        runs: set[int] = set()
        for one in job.inputs:
            runs.update(one.file.runs if one.mask.runs is None else one.mask.runs)
        where.update(runs)
    assert all(count == 1 for count in where.values())


def shape(result: Split) -> list[list[tuple[str, int, int | None]]]:
    return [
        [(one.file.lfn, one.mask.first_event, one.mask.events) for one in job.inputs]
        for job in result.jobs
    ]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (100, [[("/f/0", 0, None)]]),
        (99, [[("/f/0", 0, None)]]),
        (250, [[("/f/0", 0, 100)], [("/f/0", 100, 100)], [("/f/0", 200, 50)]]),
        (0, [[("/f/0", 0, None)]]),
    ],
)
def test_by_event(events: int, expected: object) -> None:
    assert shape(split(make([(events, [], 1)]), True, Splitting(SplitBy.EVENT, 100))) == expected


def test_full_jobs_only_while_more_may_come() -> None:
    some = make([(1, [1], 4)] * 5)
    by_file = split(some, False, Splitting(SplitBy.FILE, 2))
    assert len(by_file.jobs) == 2
    assert by_file.left == (some[4],)
    by_size = split(some, False, Splitting(SplitBy.SIZE, 10))
    assert [len(job.inputs) for job in by_size.jobs] == [2, 2]
    assert by_size.left == (some[4],)
    by_run = split(some, False, Splitting(SplitBy.RUN, 2))
    assert by_run == Split((), tuple(some))


def test_all_files_in_one_job() -> None:
    some = make([(1, [], 1)] * 5)
    assert split(some, False, Splitting(), wait=True) == Split((), tuple(some))
    assert [len(job.inputs) for job in split(some, True, Splitting(), wait=True).jobs] == [5]
    assert split([], True, Splitting(), wait=True) == Split((), ())


def test_a_file_of_many_runs_leaves_as_a_whole() -> None:
    some = make([(10, [1, 2, 3], 1), (10, [3], 1), (10, [], 1)])
    result = split(some, False, Splitting(SplitBy.RUN, 2))
    assert [[one.mask.runs for one in job.inputs] for job in result.jobs] == [
        [(1, 2)],
        [(3,), None],
        [None],
    ]
    assert result.left == ()


@unhurried
@given(st.integers(1, 50), st.integers(1, 10**6))
def test_generated_events_are_numbered_without_a_gap(jobs: int, per_job: int) -> None:
    made = generate(Splitting(SplitBy.EVENT, per_job, jobs))
    following = 1
    for job in made:
        assert job.inputs == ()
        assert job.first_event == following
        assert job.events == per_job
        following += per_job
    assert len(made) == jobs


@pytest.mark.parametrize("by", [SplitBy.EVENT, SplitBy.RUN, SplitBy.SIZE])
def test_nothing_per_job_is_refused(by: SplitBy) -> None:
    with pytest.raises(ValueError, match=f"0 {by}s per job"):
        split([], True, Splitting(by, 0))
