"""Merging: the sum of all histograms, as numbers and as a plot."""

from __future__ import annotations

from typing import Any

from wmtwisted.errors import InputError
from wmtwisted.workloads.dimuon.histogram import Histogram, merge, read_histogram
from wmtwisted.workloads.dimuon.job import Job, Output, declared, save, save_json


def merge_all(job: Job) -> list[Output]:
    """Write the spectrum of all the job's inputs; with a plot when one is declared.

    Raises InputError when there are no inputs, one is no histogram, or the plot cannot be drawn.
    """
    if not job.inputs:
        raise InputError(f"job {job.name} has no inputs, expected histograms")
    total = merge(read_histogram(each.path) for each in job.inputs)
    made = total.events, tuple(sorted(total.runs))
    outputs = [Output(declared(job, ".json"), *made)]
    if len(job.outputs) > 1:
        picture = declared(job, ".png")
        draw(total, picture)
        outputs.append(Output(picture, *made))
    save_json(outputs[0].name, spectrum(total))
    return outputs


def spectrum(total: Histogram) -> dict[str, Any]:
    """The result as it is published: `edges` in GeV, one more than `counts`.

    A mass on an edge is counted in the bin above it. `runs`, `jobs` and `files` are numbers of
    runs, of jobs that filled histograms, and of files of events that these read.
    """
    made_of = {
        "runs": len(total.runs),
        "jobs": len(total.jobs),
        "files": len(total.files),
        "run_numbers": sorted(total.runs),
    }
    return total.to_dict() | made_of


def draw(total: Histogram, name: str) -> None:
    """Leave the plot as the PNG file `name`; raises InputError without matplotlib."""
    try:
        # Half a second that no other command should pay for.
        from wmtwisted.workloads.dimuon.plot import save_plot
    except ImportError as error:
        raise InputError(
            f"the plot {name} needs matplotlib, which cannot be imported: {error}",
            "pip install 'wmtwisted[demo]'",
        ) from error
    save(name, lambda draft: save_plot(total, draft))
