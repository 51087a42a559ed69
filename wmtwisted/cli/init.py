"""`wm init`: lay out a new instance."""

from __future__ import annotations

import os
from pathlib import Path

import click

from wmtwisted.cli.instance import prepare
from wmtwisted.config import Config, default_text, load
from wmtwisted.errors import Conflict


def write(folder: Path, values: dict[str, object], more: str = "") -> Config:
    """Write `folder`/wm.toml with `values` (dotted keys) set, and make the folders and tables.

    `more` is TOML that is put at the end of the file.

    The file appears last, so a failure leaves no instance that looks whole. It may come to hold a
    password: it is for its owner alone. Raises Conflict when there is one already.
    """
    file = folder / "wm.toml"
    if file.exists():
        raise Conflict(f"there is a configuration already: {file}", "edit it, or remove it first")
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / ".wm.toml.new"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as output:
            output.write(default_text(values) + more)
        prepare(load(draft))
        draft.rename(file)
    finally:
        draft.unlink(missing_ok=True)
    return load(file)


@click.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--database",
    metavar="URL",
    help="Keep everything in this MariaDB or MySQL: mysql+pymysql://USER:PASSWORD@HOST/NAME.  "
    "[default: SQLite files in FOLDER/var]",
)
@click.option("--page", type=click.IntRange(1, 65535), metavar="PORT", help="Serve the page there.")
@click.option(
    "--slots", type=click.IntRange(1), metavar="N", help="Jobs that run at the same time."
)
def init(folder: Path, database: str | None, page: int | None, slots: int | None) -> None:
    """Lay out a new instance in a folder.

    Makes wm.toml, which has every key and its meaning, the folders and the tables in FOLDER, by
    default this one. Nothing that is there is overwritten.
    """
    values: dict[str, object] = {}
    if database:
        values |= {"store.bus": database, "store.jobs": database}
    if page:
        values["web.listen"] = f"tcp:{page}"
    if slots:
        values["batch.slots"] = slots
    config = write(folder, values)
    click.echo(f"wrote {config.path}")
    option = "" if config.path == Path.cwd() / "wm.toml" else f" --config {config.path}"
    click.echo(f"next: wm up{option}")
