"""What a name in a flow may look like, and which known name a misspelt one was meant to be."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Longest name of a component, source, sink, synchronizer, plugin or job type: the bus, whose
#: tables carry the names of components, takes no longer ones.
LONGEST_NAME = 40
#: Longest message type, e.g. `JobCreator:SetCreator`.
LONGEST_MESSAGE = 128

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_MESSAGE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:[:/][A-Za-z][A-Za-z0-9_]*)*")
_DOTTED = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)+")

#: What a name consists of, for error messages.
LETTERS = "a letter, then letters, digits or _"


def is_name(text: str) -> bool:
    """Whether `text` can name a component, source, sink, synchronizer, plugin or job type."""
    return len(text) <= LONGEST_NAME and _NAME.fullmatch(text) is not None


def is_message(text: str) -> bool:
    """Whether `text` can be a message type: names joined by `:` or `/`."""
    return len(text) <= LONGEST_MESSAGE and _MESSAGE.fullmatch(text) is not None


def is_dotted(text: str) -> bool:
    """Whether `text` is the dotted name of a class, as the actions of older flows are."""
    return len(text) <= LONGEST_MESSAGE and _DOTTED.fullmatch(text) is not None


def quoted(text: str, limit: int = 60) -> str:
    """`text` in quotes as plain ASCII on one line, cut after `limit` characters.

    Letters that only look like ASCII, quotes and newlines are shown as escapes.
    """
    return ascii(text) if len(text) <= limit else ascii(text[:limit]) + "..."


def nearest(name: str, known: Iterable[str]) -> str:
    """The name in `known` that `name` is a near miss of, or "" when none is near.

    Near is: another case, or one letter added, missing, wrong or swapped, or two of these in a name
    of six letters and more. Of several the nearest, then the first in alphabetical order.
    """
    if len(name) > LONGEST_MESSAGE:
        return ""
    best, least = "", 1 + (1 if len(name) < 6 else 2)
    folded = name.casefold()
    for other in sorted(set(known) - {name}):
        if abs(len(other) - len(name)) >= least and least > 0:
            continue
        found = 0 if other.casefold() == folded else _distance(folded, other.casefold(), least)
        if found < least:
            best, least = other, found
    return best


def _distance(one: str, other: str, limit: int) -> int:
    """How many letters to add, drop, change or swap; `limit` when it is that many or more."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        older, before = before, row
        row = [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        if min(row) >= limit and (not before or min(before) >= limit):
            return limit
    return min(row[-1], limit)
