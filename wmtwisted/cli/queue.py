"""`wm queue`: what waits for each component."""

from __future__ import annotations

import json

import click

from wmtwisted.cli.context import pass_config, table
from wmtwisted.cli.read import span
from wmtwisted.config import Config

_HEADINGS = [
    *("COMPONENT", "PROCESSES", "WAITING", "LEASED", "DELAYED", "DEAD"),
    *("OLDEST", "HANDLED", "RETRIED"),
]


@click.group()
def queue() -> None:
    """See what waits for each component."""


@queue.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@pass_config
def list_queues(config: Config, as_json: bool) -> None:
    """List the queues of a running broker.

    WAITING are ready, DELAYED are not due yet, LEASED are with the component, DEAD were given up;
    OLDEST is the age of the oldest one.
    """
    from wmtwisted.client.blocking import status

    rows = status(config)["components"]
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    table(
        [
            [
                row["name"],
                row["processes"],
                row["waiting"],
                row["leased"],
                row["delayed"],
                row["dead"],
                "-" if row["oldest"] is None else span(row["oldest"]),
                row["handled"],
                row["retried"],
            ]
            for row in rows
        ],
        _HEADINGS,
        right="lrrrrrrrr",
    )
