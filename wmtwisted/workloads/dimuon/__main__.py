"""The commands of the dimuon workload: generate, select, merge (each for a job), and scan."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from wmtwisted.errors import InputError
from wmtwisted.workloads.dimuon.job import Job, Output, fails, read_job, report

USAGE = """\
usage: python -m wmtwisted.workloads.dimuon generate|select|merge
       python -m wmtwisted.workloads.dimuon scan FILE.csv

generate, select and merge do the work of the job whose job.json is in this folder; scan checks a
file of events and prints what it holds.
"""
#: Exit codes: the input cannot be used, the command line cannot, and a failure on purpose.
BAD_INPUT, BAD_USAGE, ON_PURPOSE = 1, 2, 3


def main(argv: list[str]) -> int:
    """Run one command; the process's exit code."""
    # An argparse would cost each of the many jobs more than its own work on the command line.
    match argv:
        case [("generate" | "select" | "merge") as command]:
            return explained(lambda: work(command))
        case ["scan", path]:
            return explained(lambda: show(path))
        case ["-h" | "--help"]:
            print(USAGE, end="")
            return 0
    print(USAGE, end="", file=sys.stderr)
    return BAD_USAGE


def explained(command: Callable[[], int]) -> int:
    """The exit code of `command`, with what it refuses told in a line or two."""
    try:
        return command()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return BAD_INPUT


def work(command: str) -> int:
    """Do the job described in this folder, and report it."""
    job = read_job()
    if fails(job):
        rate = job.parameters["fail_rate"]
        print(
            f"error: job {job.name} fails on purpose at attempt {job.attempt} (fail_rate {rate})",
            file=sys.stderr,
        )
        return ON_PURPOSE
    outputs = stage(command)(job)
    report(outputs)
    for output in outputs:
        print(f"{job.name}: {output.name}: {output.events} events, {len(output.runs)} runs")
    return 0


def stage(command: str) -> Callable[[Job], list[Output]]:
    """The function of a stage; only its own module is imported."""
    if command == "generate":
        from wmtwisted.workloads.dimuon.generate import generate

        return generate
    if command == "select":
        from wmtwisted.workloads.dimuon.select import select

        return select
    from wmtwisted.workloads.dimuon.merge import merge_all

    return merge_all


def show(path: str) -> int:
    """Print what a file of events holds, as JSON."""
    from wmtwisted.workloads.dimuon.events import scan

    print(json.dumps(scan(path)._asdict()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
