"""`wm job`: list jobs, show the story of one, read its log."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import click

from wmtwisted.cli.context import pass_config, table
from wmtwisted.cli.read import clock, find_job, job_store, print_json
from wmtwisted.config import Config

if TYPE_CHECKING:
    from wmtwisted.wmbs.records import Job


@click.group()
def job() -> None:
    """List jobs, show one's history and its log."""


@job.command("list")
@click.option("--workflow", metavar="NAME", help="Only of this workflow.")
@click.option("--task", metavar="NAME", help="Only of this task.")
@click.option("--state", metavar="STATE", help="Only in this state, e.g. executing.")
@click.option("--after", metavar="ID", type=click.IntRange(0), default=0, help="Above this id.")
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, help="So many at most."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@pass_config
def list_jobs(
    config: Config,
    workflow: str | None,
    task: str | None,
    state: str | None,
    after: int,
    limit: int,
    as_json: bool,
) -> None:
    """List jobs, by ascending id."""
    from wmtwisted.wmbs.states import parse_state

    wanted = parse_state(state) if state else None
    with job_store(config) as store:
        if workflow:
            store.workflow(workflow)
        found = store.jobs(workflow, task, wanted, after=after, limit=limit + 1)
    shown = found[:limit]
    if as_json:
        for one in shown:
            print_json(one)
        return
    rows = [
        [one.id, one.name, _state(one), one.attempt, _code(one), clock(one.changed), one.why]
        for one in shown
    ]
    table(rows, ["ID", "JOB", "STATE", "TRY", "EXIT", "SINCE", "WHY"], right="rllrrll")
    if len(found) > limit:
        click.echo(f"there are more: --after {shown[-1].id}", err=True)


@job.command()
@click.argument("key", metavar="JOB")
@click.option("--json", "as_json", is_flag=True, help="As JSON: the job, then each transition.")
@pass_config
def show(config: Config, key: str, as_json: bool) -> None:
    """Show the story of JOB, an id or a name: what it reads, what it made, every transition."""
    with job_store(config) as store:
        one = find_job(store, key)
        changes = store.history(one.id)
        inputs = store.inputs(one.id)
        outputs = store.job_outputs(one.id)
    if as_json:
        print_json(one)
        for change in changes:
            print_json(change)
        return
    click.echo(f"{one.name}: {_state(one)}, try {one.attempt}")
    click.echo(f"id {one.id}, task {one.task} of {one.workflow}, seed {one.seed}")
    if one.sandbox:
        click.echo(f"sandbox {one.sandbox}")
    for item in inputs:
        mask = item.mask
        runs = "" if mask.runs is None else f" runs {', '.join(map(str, mask.runs))}"
        rows = "" if mask.events is None else f" {mask.events} events from {mask.first_event}"
        click.echo(f"reads {item.file.lfn}{runs}{rows}")
    for file in outputs:
        click.echo(f"made {file.lfn} ({file.events} events, {file.size} bytes)")
    click.echo()
    steps = [
        [clock(c.when), c.old or "-", c.new, c.attempt, c.who, c.why, c.cause] for c in changes
    ]
    table(steps, ["WHEN", "FROM", "TO", "TRY", "WHO", "WHY", "CAUSE"], right="lllrlll")


@job.command()
@click.argument("key", metavar="JOB")
@click.option("--stderr", "stream", flag_value="stderr", help="Only what it wrote to stderr.")
@click.option("--stdout", "stream", flag_value="stdout", help="Only what it wrote to stdout.")
@pass_config
def log(config: Config, key: str, stream: str | None) -> None:
    """Print what the last try of JOB, an id or a name, wrote."""
    from wmtwisted.errors import NotFound
    from wmtwisted.lifecycle import logs

    with job_store(config) as store:
        one = find_job(store, key)
    streams = (stream,) if stream else logs.STREAMS
    found = [path for path in (logs.find(config, one, name) for name in streams) if path]
    if not found:
        raise NotFound(f"{one.name} has no log yet: it is {one.state}, try {one.attempt}")
    for path in found:
        with path.open("rb") as content:
            shutil.copyfileobj(content, sys.stdout.buffer)


def _state(one: Job) -> str:
    """The state, and how the work has ended where the state does not say."""
    told = one.outcome is None or one.outcome == one.state
    return str(one.state) if told else f"{one.state} ({one.outcome})"


def _code(one: Job) -> str:
    return "" if one.exit_code is None else str(one.exit_code)
