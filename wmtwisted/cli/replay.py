"""`wm replay`: give a component messages of the past again."""

from __future__ import annotations

import time

import click

from wmtwisted.cli.context import pass_config
from wmtwisted.cli.moment import Moment
from wmtwisted.config import Config


@click.command()
@click.option("--component", required=True, help="Who gets them.")
@click.option("--type", default="", help="Only of this type.")
@click.option("--source", default="", help="Only what it published.")
@click.option("--since", type=Moment(), default=0.0, help="E.g. 10m, or 2026-01-31 12:00.")
@click.option("--until", type=Moment(), default=0.0, help="Up to then.")
@click.option("--lost", is_flag=True, help="Only those that it never settled and does not have.")
@click.option("--dead", is_flag=True, help="Only its dead letters.")
@click.option("--dry-run", is_flag=True, help="Say what it would deliver, and do nothing.")
@pass_config
def replay(
    config: Config,
    component: str,
    type: str,
    source: str,
    since: float,
    until: float,
    lost: bool,
    dead: bool,
    dry_run: bool,
) -> None:
    """Queue stored messages once more for a component, in their order.

    They come flagged with the replay's number. What still waits for the component is left out, and
    so is what is damaged. Components find their work done where it was: a replay is harmless, and
    what their handlers published the first time is not published again.
    """
    from wmtwisted.client.blocking import Connection

    with Connection(config, "wm", timeout=600) as broker:
        answer = broker.replay(
            dry_run,
            component=component,
            type=type,
            source=source,
            since=since,
            until=until,
            lost=lost,
            dead=dead,
        )
    count = answer["count"]
    what = f"{count} message{'' if count == 1 else 's'}"
    if not dry_run:
        click.echo(f"replay {answer['replay']}: queued {what} for {component}")
        return
    click.echo(f"would queue {what} for {component}")
    for id, of, published in answer["sample"]:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(published))
        click.echo(f"  {when}  {of}  {id}")
    if count > len(answer["sample"]):
        click.echo(f"  and {count - len(answer['sample'])} more")
