"""Times as people give them to commands: `10m` ago, or a date."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any

import click

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Moment(click.ParamType[float]):
    """`30s`, `10m`, `2h`, `7d` before now, or `2026-01-31[ 12:00[:00]]` in local time."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds since the epoch."""
        if isinstance(value, float):
            return value
        ago = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value.strip())
        if ago:
            return time.time() - float(ago[1]) * _UNITS[ago[2]]
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            self.fail(
                f"{value!r} is no time: expected 30s, 10m, 2h or 7d ago, or 2026-01-31 12:00",
                param,
                ctx,
            )
