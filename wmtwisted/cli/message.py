"""`wm message`: publish one, and watch them go by."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from wmtwisted.cli.context import pass_config
from wmtwisted.cli.moment import Moment
from wmtwisted.config import Config
from wmtwisted.message import Message

#: Seconds between looks for new messages.
LOOK = 0.3


@click.group()
def message() -> None:
    """Publish a message, watch them go by."""


@message.command()
@click.argument("kind", metavar="TYPE")
@click.argument("payload", default="")
@click.option("--priority", is_flag=True, help="Before all that is not.")
@click.option("--delay", type=click.FloatRange(0), default=0.0, help="Seconds until its delivery.")
@click.option("--correlation", default="", help="The chain of messages it belongs to.")
@pass_config
def publish(
    config: Config, kind: str, payload: str, priority: bool, delay: float, correlation: str
) -> None:
    """Publish a message of TYPE; PAYLOAD is text, mostly JSON, or `-` to read it from stdin.

    When this ends well the message is in the broker's store. Components whose name and a colon
    begin TYPE get it alone, e.g. `JobCreator:JobSuccess`.
    """
    from wmtwisted.client.blocking import Connection

    body = sys.stdin.buffer.read() if payload == "-" else payload.encode()
    with Connection(config, "wm") as broker:
        (receipt,) = broker.publish([Message(kind, body, int(priority), delay, correlation)])
    to = receipt.destinations
    click.echo(f"published {receipt.id} to {to} component{'' if to == 1 else 's'}")
    if not to:
        click.echo("nobody is interested in this type; it stays in the history", err=True)


@message.command()
@click.option(
    "-n",
    "--lines",
    metavar="N",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="The last so many.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--type", default="", help="Only of this type.")
@click.option("--component", default="", help="Only what was queued for it.")
@click.option("--source", default="", help="Only what it published.")
@click.option("--correlation", default="", help="Only of this chain.")
@click.option("--since", type=Moment(), default=0.0, help="E.g. 10m, or 2026-01-31 12:00.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@pass_config
def tail(config: Config, /, lines: int, follow: bool, as_json: bool, **wanted: Any) -> None:
    """Show the last messages that the broker accepted, and with -f the next ones."""
    from wmtwisted.client.blocking import Connection

    with Connection(config, "wm") as broker:
        rows = broker.history(limit=lines, newest=True, **wanted)
        after = 0
        while True:
            for row in rows:
                _show(row, as_json)
                after = row[0]
            if not follow:
                return
            if not rows:
                time.sleep(LOOK)
            rows = broker.history(limit=1000, after=after, **wanted)


def _show(row: list[Any], as_json: bool) -> None:
    _, id, type, source, published, correlation, payload, to = row
    text = payload.decode(errors="replace")
    if as_json:
        values = {
            "id": id,
            "type": type,
            "source": source,
            "published": published,
            "correlation": correlation,
            "to": to,
            "payload": text,
        }
        click.echo(json.dumps(values))
        return
    when = time.strftime("%H:%M:%S", time.localtime(published)) + f"{published % 1:.3f}"[1:]
    short = text if len(text) <= 60 else f"{text[:57]}..."
    receivers = ", ".join(to) or "nobody"
    click.echo(f"{when}  {source} -> {receivers}  {click.style(type, bold=True)}  {short!r}  {id}")
