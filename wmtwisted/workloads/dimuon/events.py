"""Events with two muons as CSV: one header line, then one event a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from math import cos, cosh, sqrt
from typing import NamedTuple, TextIO

from wmtwisted.errors import InputError

COLUMNS = (
    *("Run", "Event"),
    *("pt1", "eta1", "phi1", "Q1", "dxy1", "iso1"),
    *("pt2", "eta2", "phi2", "Q2", "dxy2", "iso2"),
)
HEADER = ",".join(COLUMNS)

#: Far outside of what any detector measures; within them no formula here overflows.
MAX_PT, MAX_ETA = 1e6, 20.0

_COUNT = r"\d{1,19}"
_REAL = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?"
_CHARGE = r"[-+]?1"
_PATTERNS = {"Run": _COUNT, "Event": _COUNT, "Q1": _CHARGE, "Q2": _CHARGE}
#: What is used of a line is a group; all of it must match.
_USED = ("Run", "pt1", "eta1", "phi1", "pt2", "eta2", "phi2")
_LINE = re.compile(
    ",".join(
        f"({_PATTERNS.get(name, _REAL)})" if name in _USED else _PATTERNS.get(name, _REAL)
        for name in COLUMNS
    ),
    re.ASCII,
)
_EXPECTED = {_COUNT: "a whole number, 0 or more", _CHARGE: "1 or -1", _REAL: "a number"}


class Event(NamedTuple):
    """What a selection needs of one event."""

    run: int
    #: Transverse momenta in GeV, pseudorapidities, azimuths in radians.
    pt1: float
    eta1: float
    phi1: float
    pt2: float
    eta2: float
    phi2: float

    def mass(self) -> float:
        """The invariant mass of the two muons in GeV, their own masses neglected."""
        _, pt1, eta1, phi1, pt2, eta2, phi2 = self
        return sqrt(2.0 * pt1 * pt2 * (cosh(eta1 - eta2) - cos(phi1 - phi2)))


class Scan(NamedTuple):
    """What a file holds."""

    events: int
    #: The numbers of its runs, ascending.
    runs: tuple[int, ...]


def read(path: str, first: int = 0) -> Iterator[Event]:
    """The events of a CSV file in the file's order, from row `first` (0-based), each line checked.

    The rows before it are skipped unread: they are somebody else's to check.

    Raises InputError, with `file:line:`, at the first line that is not an event.
    """
    try:
        # What is no UTF-8 becomes a character that no column may hold.
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            yield from _events(path, file, first)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def scan(path: str) -> Scan:
    """Check every line of a CSV file; how many events and which runs it holds.

    Raises InputError at the first broken line, or when there is no event in it.
    """
    events, runs = 0, set()
    for event in read(path):
        events += 1
        runs.add(event.run)
    if not events:
        raise InputError(f"{path}:2: the file ends here, expected at least one event")
    return Scan(events, tuple(sorted(runs)))


def _events(path: str, file: TextIO, first: int) -> Iterator[Event]:
    header = file.readline().rstrip("\n")
    if header != HEADER:
        raise InputError(
            f"{path}:1: the header is {_short(header)}, expected {HEADER}",
            "the first line names the columns, in this order",
        )
    match = _LINE.fullmatch
    for number, line in enumerate(islice(file, first, None), start=first + 2):
        found = match(line.rstrip("\n"))
        if found is None:
            raise InputError(*_explain(path, number, line.rstrip("\n")))
        run, *values = found.groups()
        event = Event(int(run), *map(float, values))
        if not (
            0.0 <= event.pt1 <= MAX_PT
            and 0.0 <= event.pt2 <= MAX_PT
            and -MAX_ETA <= event.eta1 <= MAX_ETA
            and -MAX_ETA <= event.eta2 <= MAX_ETA
            and abs(event.phi1) + abs(event.phi2) < MAX_PT
        ):
            raise InputError(*_explain_range(path, number, event))
        yield event


def _explain(path: str, number: int, line: str) -> tuple[str, str]:
    """Message and hint for a line that does not match."""
    place = f"{path}:{number}:"
    hint = f"each line holds {HEADER}"
    if not line.strip():
        return f"{place} the line is empty, expected {len(COLUMNS)} values", hint
    values = line.split(",")
    if len(values) != len(COLUMNS):
        return f"{place} {len(values)} values, expected {len(COLUMNS)}: {_short(line)}", hint
    for name, value in zip(COLUMNS, values, strict=True):
        pattern = _PATTERNS.get(name, _REAL)
        if not re.fullmatch(pattern, value, re.ASCII):
            return f"{place} {name} is {_short(value)}, expected {_EXPECTED[pattern]}", hint
    raise AssertionError("the line matches column by column")


def _explain_range(path: str, number: int, event: Event) -> tuple[str, str]:
    """Message and hint for a line with a number that cannot be measured."""
    bounds = {"pt": (0.0, MAX_PT), "eta": (-MAX_ETA, MAX_ETA), "phi": (-MAX_PT / 2, MAX_PT / 2)}
    for name, value in zip(event._fields[1:], event[1:], strict=True):
        low, high = bounds[name[:-1]]
        if not low <= value <= high:
            break
    expected = f"expected {low:g} to {high:g}"
    return f"{path}:{number}: {name} is {value:g}, {expected}", ""


def _short(text: str) -> str:
    """A value of the file as one may print it: quoted, and not too long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
