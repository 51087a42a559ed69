"""`wm workflow`: submit workflows, and see how far they are."""

from __future__ import annotations

import time
from pathlib import Path

import click

from wmtwisted.cli.context import pass_config, table
from wmtwisted.cli.read import clock, job_store, print_json, span, totals
from wmtwisted.config import Config


@click.group()
def workflow() -> None:
    """Submit and list workflows."""


@workflow.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", default="", help="Its name, which is unique.  [default: as in FILE]")
@click.option(
    "--input",
    "inputs",
    metavar="CSV",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file that its first tasks read; repeatable.",
)
@click.option(
    "--parameter",
    "-p",
    "parameters",
    metavar="NAME=VALUE",
    multiple=True,
    help="Given to every job, over what FILE says; repeatable.",
)
@pass_config
def submit(
    config: Config, file: Path, name: str, inputs: tuple[Path, ...], parameters: tuple[str, ...]
) -> None:
    """Submit the workflow in FILE (XML or TOML).

    FILE and the inputs are checked first. Once this ends well, the workflow is in the broker's
    store, and goes its way whatever is running now.
    """
    from wmtwisted.cli import submission
    from wmtwisted.wmbs.workflow import read_file

    wanted = submission.named(read_file(file), name, submission.parse_parameters(parameters))
    message = submission.submit(config, wanted, [submission.describe(path) for path in inputs])
    click.echo(f"submitted {wanted.name} (message {message})")


@workflow.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@pass_config
def list_workflows(config: Config, as_json: bool) -> None:
    """List the workflows, the oldest first."""
    with job_store(config) as store:
        found = store.workflows()
    if as_json:
        for status in found:
            print_json(status)
        return
    rows = [
        [s.name, s.state, *totals(s).values(), span((s.finished or time.time()) - s.created)]
        for s in found
    ]
    headings = ["WORKFLOW", "STATE", "JOBS", "DONE", "LIVE", "FAILED", "RETRIES", "TIME"]
    table(rows, headings, right="llrrrrrr")


@workflow.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@pass_config
def show(config: Config, name: str, as_json: bool) -> None:
    """Show how far each task of the workflow NAME is."""
    with job_store(config) as store:
        status = store.workflow(int(name) if name.isascii() and name.isdigit() else name)
    if as_json:
        print_json(status)
        return
    ended = f", ended {clock(status.finished)}" if status.finished else ""
    click.echo(f"{status.name}: {status.state}, submitted {clock(status.created)}{ended}")
    rows = []
    for task in status.tasks:
        states = ", ".join(f"{count} {state}" for state, count in task.states.items())
        finished = "yes" if task.finished else "no"
        rows.append([task.name, task.input or "-", finished, task.jobs, task.retries, states])
    table(rows, ["TASK", "READS", "FINISHED", "JOBS", "RETRIES", "JOBS BY STATE"], right="lllrrl")
