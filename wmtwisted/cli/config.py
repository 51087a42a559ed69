"""`wm config`: check the configuration, and show it as it is understood."""

from __future__ import annotations

import attrs
import click

from wmtwisted.cli.context import pass_config
from wmtwisted.config import Config, hide_password


@click.group()
def config() -> None:
    """Check the configuration and show it."""


@config.command()
@pass_config
def check(config: Config) -> None:
    """Check the configuration file; say what is wrong, all at once."""
    click.echo(f"{config.path}: good (components: {', '.join(config.components)})")


@config.command()
@pass_config
def show(config: Config) -> None:
    """Show every value in use, after defaults and WM_* variables; passwords are hidden."""
    for field in attrs.fields(Config):
        value = getattr(config, field.name)
        if isinstance(value, dict):
            for name, component in value.items():
                _print(f"{field.name}.{name}", component)
        elif attrs.has(type(value)):
            _print(field.name, value)


def _print(section: str, values: attrs.AttrsInstance) -> None:
    for field in attrs.fields(type(values)):
        value = getattr(values, field.name)
        if isinstance(value, tuple):
            value = ", ".join(map(str, value))
        text = hide_password("" if value is None else str(value))
        click.echo(f"{section}.{field.name.rstrip('_')} = {text}".rstrip())
