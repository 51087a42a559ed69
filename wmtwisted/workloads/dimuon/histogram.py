"""The mass histogram: whole numbers in 1-GeV bins, so that parts add up exactly in any order."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from wmtwisted.errors import InputError
from wmtwisted.workloads.dimuon.events import Event

#: GeV; a mass on an edge belongs to the bin above it, so `HIGH` itself is overflow.
LOW, HIGH = 60, 120
EDGES = tuple(range(LOW, HIGH + 1))


class Histogram(NamedTuple):
    """Counts, and where they came from."""

    counts: tuple[int, ...]
    underflow: int
    overflow: int
    #: Run numbers, names of the jobs that filled it, and logical names of the files they read.
    runs: frozenset[int]
    jobs: frozenset[str]
    files: frozenset[str]

    @property
    def events(self) -> int:
        """How many events are in it, those outside of its range included."""
        return sum(self.counts) + self.underflow + self.overflow

    def to_dict(self) -> dict[str, Any]:
        """As a part of the spectrum is written: mergeable, since the names are kept."""
        return {
            "events": self.events,
            "edges": list(EDGES),
            "counts": list(self.counts),
            "underflow": self.underflow,
            "overflow": self.overflow,
            "runs": sorted(self.runs),
            "jobs": sorted(self.jobs),
            "files": sorted(self.files),
        }


def fill(events: Iterable[Event], job: str, files: Iterable[str]) -> Histogram:
    """The histogram of `events`, filled by `job` from `files`."""
    counts = [0] * (HIGH - LOW)
    underflow = overflow = 0
    runs = set()
    for event in events:
        runs.add(event.run)
        mass = event.mass()
        if mass < LOW:
            underflow += 1
        elif mass >= HIGH:
            overflow += 1
        else:
            counts[int(mass) - LOW] += 1
    made_of = frozenset(runs), frozenset([job]), frozenset(files)
    return Histogram(tuple(counts), underflow, overflow, *made_of)


def merge(parts: Iterable[Histogram]) -> Histogram:
    """The sum; raises InputError when a job is in two parts: its events would count twice."""
    counts = [0] * (HIGH - LOW)
    underflow = overflow = 0
    runs: set[int] = set()
    jobs: set[str] = set()
    files: set[str] = set()
    for part in parts:
        twice = jobs & part.jobs
        if twice:
            raise InputError(f"job {min(twice)} is in two of the histograms, expected one")
        counts = [sum(pair) for pair in zip(counts, part.counts, strict=True)]
        underflow += part.underflow
        overflow += part.overflow
        runs |= part.runs
        jobs |= part.jobs
        files |= part.files
    made_of = frozenset(runs), frozenset(jobs), frozenset(files)
    return Histogram(tuple(counts), underflow, overflow, *made_of)


def read_histogram(path: str) -> Histogram:
    """A histogram as `to_dict` wrote it; raises InputError when it is not one, or not whole."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
        found = Histogram(
            counts=tuple(int(count) for count in value["counts"]),
            underflow=int(value["underflow"]),
            overflow=int(value["overflow"]),
            runs=frozenset(value["runs"]),
            jobs=frozenset(value["jobs"]),
            files=frozenset(value["files"]),
        )
        whole = found.to_dict() == value
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: expected a histogram: {error!r}") from error
    if not whole or len(found.counts) != HIGH - LOW:
        raise InputError(
            f"{path}: expected {HIGH - LOW} counts from {LOW} to {HIGH} GeV that add up"
        )
    return found
