"""Selection: the masses of the job's share of the events, as a histogram."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from wmtwisted.errors import InputError
from wmtwisted.workloads.dimuon.events import Event, read
from wmtwisted.workloads.dimuon.histogram import fill
from wmtwisted.workloads.dimuon.job import Input, Job, Output, declared, save_json


def select(job: Job) -> list[Output]:
    """Fill the histogram of the job's inputs; raises InputError when one is broken or too short."""
    if not job.inputs:
        raise InputError(f"job {job.name} has no inputs, expected files of events")
    name = declared(job, ".json")
    events = (event for each in job.inputs for event in chosen(each))
    histogram = fill(events, job.name, (each.lfn for each in job.inputs))
    save_json(name, histogram.to_dict())
    return [Output(name, histogram.events, tuple(sorted(histogram.runs)))]


def chosen(part: Input) -> Iterator[Event]:
    """The events of one file that the job is to take: its rows, and of these its runs.

    Raises InputError when the file ends before the last of the rows: it is not the file that was
    split.
    """
    rows = 0
    for event in islice(read(part.path, part.first_event), part.events):
        rows += 1
        if part.runs is None or event.run in part.runs:
            yield event
    if part.events is not None and rows < part.events:
        raise InputError(
            f"{part.path}:{part.first_event + rows + 2}: the file ends here, "
            f"expected {part.first_event + part.events} events"
        )
