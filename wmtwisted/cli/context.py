"""What the commands share: the configuration they work on, and how they speak."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from wmtwisted.config import Config, load

P = ParamSpec("P")
T = TypeVar("T")

_KEY = "wmtwisted.config"


def choose_config(context: click.Context, option: click.Parameter, path: str | None) -> None:
    """Remember the file that `--config` names, before or after the command's name."""
    if path is not None:
        context.meta[_KEY] = path


def config_path() -> str:
    """The configuration file to use: `--config`, else WM_CONFIG, else `wm.toml`."""
    path: str = click.get_current_context().meta.get(_KEY, "wm.toml")
    return path


def pass_config(command: Callable[Concatenate[Config, P], T]) -> Callable[P, T]:
    """Give a command the option `--config`, and the loaded Config as its first argument."""

    @click.option(
        "--config",
        "-c",
        metavar="FILE",
        expose_value=False,
        callback=choose_config,
        help="The instance's configuration.  [env var: WM_CONFIG; default: wm.toml]",
    )
    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        return command(load(config_path()), *args, **kwargs)

    return wrapper


def fail(message: str, hint: str = "") -> None:
    """Say on stderr what is wrong, and what to do about it."""
    label = functools.partial(click.style, bold=True)
    first, *more = message.splitlines() or [""]
    click.echo(f"{label('error:', fg='red')} {first}", err=True)
    for line in more:
        click.echo(f"       {line}", err=True)
    if hint:
        click.echo(f"{label('hint:', fg='yellow')} {hint}", err=True)


def table(rows: list[list[Any]], headings: list[str], right: str = "") -> None:
    """Print rows under headings, columns padded to their widest; `right` has an `r` per number.

    Plain text, so that `grep`, `awk` and a screen reader get along with it.
    """
    lines = [headings, *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = right.ljust(len(headings), "l")
    for number, cells in enumerate(lines):
        padded = [
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(cells, widths, sides, strict=True)
        ]
        text = "  ".join(padded).rstrip()
        click.echo(click.style(text, bold=True) if number == 0 and sys.stdout.isatty() else text)
