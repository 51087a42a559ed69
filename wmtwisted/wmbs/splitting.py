"""How the input of a task is cut into jobs: by file, by event, by run, by size. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from wmtwisted.wmbs.model import File, JobInput, JobSpec, Mask, SplitBy, Splitting


@frozen
class Split:
    """What came of cutting: every file is wholly in `jobs` or in `left`, every event once."""

    jobs: tuple[JobSpec, ...]
    #: Files that wait for more to come, in the order given.
    left: tuple[File, ...]


def split(files: Sequence[File], complete: bool, splitting: Splitting, wait: bool = False) -> Split:
    """Cut `files` into jobs.

    While the input is not `complete`, files that do not fill a job are left for a later call, and
    with `wait` all are; once it is, nothing is left. A file without events is still in one job,
    since what reads it may want to say that there were none. Raises ValueError when `per_job` is 0
    for anything but files.
    """
    if splitting.per_job < 1 and splitting.by is not SplitBy.FILE:
        raise ValueError(f"{splitting.per_job} {splitting.by}s per job, expected 1 or more")
    if not complete and (wait or not splitting.per_job):
        return Split((), tuple(files))
    return _RULES[splitting.by](files, complete, splitting.per_job)


def generate(splitting: Splitting) -> tuple[JobSpec, ...]:
    """The jobs of a task that reads nothing: events numbered from 1, without a gap."""
    return tuple(
        JobSpec(events=splitting.per_job, first_event=1 + number * splitting.per_job)
        for number in range(splitting.jobs)
    )


def _whole(files: Sequence[File]) -> JobSpec:
    return JobSpec(tuple(JobInput(file) for file in files))


def _by_file(files: Sequence[File], complete: bool, per_job: int) -> Split:
    size = per_job or max(1, len(files))
    end = len(files) if complete else len(files) - len(files) % size
    jobs = tuple(_whole(files[at : min(at + size, end)]) for at in range(0, end, size))
    return Split(jobs, tuple(files[end:]))


def _by_event(files: Sequence[File], complete: bool, per_job: int) -> Split:
    # A job never reads two files, so there is nothing to wait for.
    jobs = []
    for file in files:
        if file.events <= per_job:
            jobs.append(_whole([file]))
            continue
        for first in range(0, file.events, per_job):
            mask = Mask(first_event=first, events=min(per_job, file.events - first))
            jobs.append(JobSpec((JobInput(file, mask),)))
    return Split(tuple(jobs), ())


def _by_size(files: Sequence[File], complete: bool, per_job: int) -> Split:
    # In order, up to `per_job` bytes; a larger file is a job of its own.
    jobs: list[JobSpec] = []
    pack: list[File] = []
    size = 0
    for file in files:
        if pack and size + file.size > per_job:
            jobs.append(_whole(pack))
            pack, size = [], 0
        pack.append(file)
        size += file.size
    if pack and (complete or size >= per_job):
        jobs.append(_whole(pack))
        pack = []
    return Split(tuple(jobs), tuple(pack))


def _by_run(files: Sequence[File], complete: bool, per_job: int) -> Split:
    """Jobs of `per_job` runs, the lowest first, each reading its runs' part of all their files.

    Files whose runs are not known go together into one job, unmasked.
    """
    known = [file for file in files if file.runs]
    runs = sorted({run for file in known for run in file.runs})
    groups = [runs[at : at + per_job] for at in range(0, len(runs), per_job)]
    left: set[str] = set()
    if groups and len(groups[-1]) < per_job and not complete:
        short = {file.lfn for file in known if not set(file.runs).isdisjoint(groups[-1])}
        # A file leaves as a whole. When one of them is needed now, its other runs go too.
        if all(set(file.runs) <= set(groups[-1]) for file in known if file.lfn in short):
            left = short
            groups.pop()
    by_run: dict[int, list[int]] = {}
    for place, file in enumerate(known):
        for run in file.runs:
            by_run.setdefault(run, []).append(place)
    jobs = []
    for group in groups:
        places = sorted({place for run in group for place in by_run[run]})
        jobs.append(JobSpec(tuple(_masked(known[place], group) for place in places)))
    if unknown := [file for file in files if not file.runs]:
        jobs.append(_whole(unknown))
    return Split(tuple(jobs), tuple(file for file in files if file.lfn in left))


def _masked(file: File, group: Sequence[int]) -> JobInput:
    here = frozenset(group).intersection(file.runs)
    whole = len(here) == len(file.runs)
    return JobInput(file, Mask() if whole else Mask(runs=tuple(sorted(here))))


_RULES: Mapping[SplitBy, Callable[[Sequence[File], bool, int], Split]] = {
    SplitBy.FILE: _by_file,
    SplitBy.EVENT: _by_event,
    SplitBy.RUN: _by_run,
    SplitBy.SIZE: _by_size,
}
