"""`wm verify`: prove that the store has lost nothing."""

from __future__ import annotations

import json
import sys

import click
from attrs import asdict

from wmtwisted.cli.context import pass_config, table
from wmtwisted.config import Config


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The whole report as one JSON object.")
@pass_config
def verify(config: Config, as_json: bool) -> None:
    """Check every message and every delivery of the bus' store.

    Works whether or not the broker runs, on one snapshot. Ends with 1 when something is wrong.
    """
    from wmtwisted.store.database import open_engine, read
    from wmtwisted.store.tables import Tables, require
    from wmtwisted.store.verify import verify as check

    engine = open_engine(config.store.bus, "bus")
    tables = Tables(config.store.prefix)
    require(engine, tables)
    report = read(engine, check, tables)
    engine.dispose()
    if as_json:
        click.echo(json.dumps(asdict(report)))
    else:
        rows = [
            [
                name,
                balance.accepted,
                *(balance.fates[fate] for fate in ("waiting", "settled", "dead", "lost")),
            ]
            for name, balance in report.balances.items()
        ]
        table(rows, ["COMPONENT", "ACCEPTED", "WAITING", "SETTLED", "DEAD", "LOST"], right="lrrrrr")
        click.echo(f"{report.messages} messages, {sum(report.counts.values())} findings")
        for finding in report.findings:
            click.echo(f"{finding.kind}: {finding.what}\n  {finding.advice}")
        for kind, count in report.counts.items():
            named = sum(finding.kind == kind for finding in report.findings)
            if count > named:
                click.echo(f"{kind}: and {count - named} more")
    if report.counts:
        sys.exit(1)
