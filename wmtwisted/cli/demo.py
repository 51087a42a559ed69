"""`wm demo`: the dimuon workload, from nothing to its spectrum, on an instance of its own."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from wmtwisted.cli.demo_parts import (
    check_output,
    collect,
    fresh_home,
    headline,
    packaged_workflow,
    page_port,
    tailored,
)
from wmtwisted.cli.progress import Progress, progress
from wmtwisted.cli.read import job_store, span, totals
from wmtwisted.cli.submission import describe, submit
from wmtwisted.cli.supervise import Supervisor
from wmtwisted.cli.up import hold, running
from wmtwisted.config import Config
from wmtwisted.errors import NotFound, Unknown, Unreachable, WMError
from wmtwisted.wmbs.states import WorkflowState

if TYPE_CHECKING:
    from wmtwisted.store.jobs import JobStore
    from wmtwisted.wmbs.records import WorkflowStatus

#: A demo in which nothing changes for so long, in seconds, has failed.
PATIENCE = 300.0


@attrs.frozen
class Ended:
    """What is left to tell when the workflow has ended."""

    status: WorkflowStatus
    #: Seconds from the submission to the end.
    took: float
    #: Of the messages: how many were handled, and how many were tried again.
    handled: int
    retried: int
    #: The broker was started again on the way, and has counted from there.
    restarted: bool


@click.command()
@click.option(
    "--input",
    "input_file",
    metavar="CSV",
    type=click.Path(path_type=Path),
    help="Take these recorded events.  [default: generate some]",
)
@click.option(
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default="out",
    show_default=True,
    help="Where spectrum.json and spectrum.png go.",
)
@click.option(
    "--events",
    metavar="N",
    type=click.IntRange(1, 10_000_000),
    default=100_000,
    show_default=True,
    help="Events to generate, rounded up to the same number in each job.",
)
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    help="Jobs to generate with, and about as many to select with.",
)
@click.option(
    "--splitting",
    type=click.Choice(["event", "run", "file", "size"]),
    default="event",
    show_default=True,
    help="What is counted when the events are cut into jobs.",
)
@click.option(
    "--fail-rate",
    metavar="SHARE",
    type=click.FloatRange(0, 0.9),
    default=0.0,
    help="This share of all tries fails, to show what happens then; e.g. 0.2.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1, 1000),
    help="Jobs that run at the same time.  [default: twice the processors]",
)
@click.option(
    "--folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default="var/demo",
    show_default=True,
    help="The demo's own instance; what an earlier demo left there is removed.",
)
@click.option(
    "--page",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    help="Serve the page there.  [default: 8765, or any free one]",
)
@click.option("--stay", is_flag=True, help="Stay up after the end, until Ctrl-C.")
def demo(
    input_file: Path | None,
    output: Path,
    events: int,
    jobs: int,
    splitting: str,
    fail_rate: float,
    workers: int | None,
    folder: Path,
    page: int | None,
    stay: bool,
) -> None:
    """Run the dimuon workload from nothing to its plot.

    Starts a broker, the components and the page on an instance of its own, submits a workflow of
    three tasks (generate, select, merge), shows how far it is, and leaves the mass spectrum of the
    muon pairs in the output folder. Everything is stopped at the end.
    """
    check_output(output)
    inputs = [describe(input_file)] if input_file else []
    workflow = tailored(
        packaged_workflow(recorded=bool(inputs)),
        inputs,
        splitting=splitting,
        jobs=jobs,
        events=events,
        fail_rate=fail_rate,
    )
    values: dict[str, object] = {"web.listen": f"tcp:{page_port(page)}"}
    if workers:
        values["batch.slots"] = workers
    config, lock = fresh_home(folder, values)
    click.echo(f"instance {config.home}, page {_page(config)}")
    with progress(workflow) as shown, running(config, shown.say, lock) as supervisor:
        began = time.monotonic()
        submit(config, workflow, inputs)
        status = _follow(config, workflow.name, supervisor, shown)
        ended = _ended(config, status, time.monotonic() - began)
        results = []
        if status.state == WorkflowState.DONE:
            with job_store(config) as store:
                results = collect(store, workflow, output)
        shown.finish()
        _tell(config, ended, results, shown, stay)
        if stay:
            hold(supervisor)
    if status.state != WorkflowState.DONE:
        raise WMError(
            f"the workflow {workflow.name} ended {status.state}",
            f"`wm -c {config.path} job list` shows its jobs, `wm job log` what they wrote",
        )


def _page(config: Config) -> str:
    return config.web.listen.url if config.web.listen else "off"


def _follow(config: Config, name: str, supervisor: Supervisor, shown: Progress) -> WorkflowStatus:
    """Show how far the workflow is until it has ended; raises Crashed, or WMError when stuck."""
    last: WorkflowStatus | None = None
    changed = time.monotonic()
    with job_store(config) as store:
        while last is None or last.state == WorkflowState.RUNNING:
            supervisor.wait(0.25)
            status = _status(store, name)
            if status is not None and status != last:
                last, changed = status, time.monotonic()
                shown.show(status)
            if time.monotonic() - changed > PATIENCE:
                raise WMError(
                    f"nothing has changed for {span(PATIENCE)}",
                    f"the logs in {config.paths.log} may tell why",
                )
    return last


def _status(store: JobStore, name: str) -> WorkflowStatus | None:
    try:
        return store.workflow(name)
    except NotFound:
        return None


def _ended(config: Config, status: WorkflowStatus, took: float) -> Ended:
    """Let the last messages be handled, clean-ups mostly, and count them."""
    from wmtwisted.client.blocking import status as bus_status

    deadline = time.monotonic() + 10
    rows: list[dict[str, Any]] = []
    restarted = False
    while time.monotonic() < deadline:
        try:
            bus = bus_status(config, timeout=2)
        except (Unreachable, Unknown):
            # It is being started again, perhaps: the numbers are not worth more than this wait.
            time.sleep(0.05)
            continue
        rows, restarted = bus["components"], bus["broker"]["started"] > status.created
        if not any(row["waiting"] + row["leased"] + row["delayed"] for row in rows):
            break
        time.sleep(0.05)
    with job_store(config) as store:
        status = store.workflow(status.id)
    handled, retried = (sum(row[key] for row in rows) for key in ("handled", "retried"))
    return Ended(status, took, handled, retried, restarted)


def _tell(config: Config, ended: Ended, results: list[Path], shown: Progress, stay: bool) -> None:
    """The summary."""
    status = ended.status
    by_state: Counter[str] = Counter()
    for task in status.tasks:
        by_state.update(task.states)
    states = ", ".join(f"{number} {state}" for state, number in by_state.items())
    jobs = totals(status)
    outcome = f"{jobs['done']} succeeded, {jobs['failed']} failed"
    messages = f"{ended.handled / ended.took:.0f} per second"
    if ended.restarted:
        messages = "since the broker was started again"
    rows = {
        "jobs": f"{jobs['jobs']}: {outcome} ({states})",
        "retries": f"{jobs['retries']} of jobs, {ended.retried} of messages",
        "messages": f"{ended.handled} handled, {messages}",
        "time": f"{ended.took:.1f} s from submission to end",
        "results": ", ".join(map(str, results)) or "none",
        "spectrum": headline(results) or "none",
        "page": _page(config) if stay else "down with the demo; `make up` or --stay keeps it up",
    }
    shown.say(f"\n{status.name} {status.state}")
    for name, text in rows.items():
        shown.say(f"  {name:<9} {text}")
    if stay:
        shown.say("\nup until Ctrl-C")
