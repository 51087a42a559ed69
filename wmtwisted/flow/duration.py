"""Lengths of time as they are written in a flow: `300`, `1.5`, `10m`, `2h`."""

from __future__ import annotations

import re

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)?", re.ASCII)
_SECONDS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

#: Longest time: ten years, in seconds.
LONGEST = 3650 * 86400.0


def parse_duration(text: str) -> float | None:
    """The seconds written in `text`, exact to a microsecond; None when it is no length of time."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    seconds = round(float(match[1]) * _SECONDS[match[2]], 6)
    return seconds if seconds <= LONGEST else None


def print_duration(seconds: float) -> str:
    """The shortest way to write so many seconds."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
