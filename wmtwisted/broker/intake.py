"""Whether what peers send can be stored. Pure; looked at before anything is changed."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from wmtwisted.broker.batch import Item
from wmtwisted.errors import Refused, WMError
from wmtwisted.wire import MAX_DELAY, MAX_PAYLOAD

#: A message has fewer outputs: their numbers are the input's id times this, plus an index, so that
#: a handler that runs twice makes the same ids. The highest index is for what triggers publish.
OUTPUTS = 1 << 16

#: The longest reason of a retry or a dead letter, in characters.
MAX_REASON = 2000

# The parts of a message have that name.
type_of = type

#: number, type, payload, priority, delay, chain
Parts = tuple[int, str, bytes, int, float, str]


def check_item(item: Item, most: int = MAX_PAYLOAD) -> Parts:
    """A published message's parts. Raises Refused when one of them cannot be."""
    try:
        number, type, payload, priority, delay, chain = item
    except (TypeError, ValueError):
        raise Refused("bad-message", "a message has not the six parts of Publish") from None
    # A bool is an int, and would have another checksum when it is read back.
    if type_of(number) is not int or not 0 <= number < 1 << 63:
        raise Refused("bad-message", f"message number {number!r} is not a whole number from 0 up")
    check_type(type)
    if not isinstance(payload, bytes):
        raise Refused("bad-message", f"the payload of {type!r} is not bytes")
    if len(payload) > most:
        raise Refused(
            "too-large",
            f"the payload of {type!r} has {len(payload):,} bytes, the most is {most:,}",
        )
    if type_of(priority) is not int or priority not in (0, 1):
        raise Refused("bad-message", f"priority {priority!r} of {type!r} is not 0 or 1")
    # not (delay >= 0) refuses nan as well
    if type_of(delay) not in (int, float) or not 0 <= delay <= MAX_DELAY:
        raise Refused(
            "bad-message", f"delay {delay!r} of {type!r} is not 0 to 10 years, in seconds"
        )
    if not isinstance(chain, str) or len(chain) > 190:
        raise Refused("bad-message", f"the correlation of {type!r} is not text of at most 190")
    return number, type, payload, priority, delay, chain


def is_name(value: object, most: int = 190) -> bool:
    """Whether `value` is text that can be a key in every database; some pad keys with spaces."""
    return isinstance(value, str) and 0 < len(value) <= most and value[-1] != " "


@lru_cache(maxsize=4096)
def _fits(type: str) -> bool:
    return is_name(type) and type.isprintable()


def check_type(type: object) -> None:
    """Raises Refused when `type` cannot be a message's."""
    if not isinstance(type, str) or not _fits(type):
        raise Refused(
            "bad-message",
            f"message type {str(type)[:60]!r} is not 1 to 190 characters, the last no space",
        )


def bad_outputs(messages: Any, flags: Any, triggers: Any, most: int) -> str:
    """Why what a handler returned cannot be stored, or ""."""
    try:
        if len(messages) + len(flags) + len(triggers) >= OUTPUTS:
            return f"{OUTPUTS} outputs or more"
        for message in messages:
            check_item([0, *message], most)
        for name, id, names, message in triggers:
            check_item([0, *message], most)
            problem = _bad_trigger(name, id, *names)
            if problem:
                return problem
        for name, id, flag in flags:
            problem = _bad_trigger(name, id, flag)
            if problem:
                return problem
    except WMError as error:
        return str(error)
    except (TypeError, ValueError):
        return "an output has not the parts of Settle"
    return ""


def _bad_trigger(name: object, id: object, *flags: object) -> str:
    # The name is the publisher of the action: its ids must not be those of a program's messages.
    if not isinstance(name, str) or not is_name(name, 120) or "~" in name:
        return f"trigger name {name!r:.60} is not 1 to 120 characters but ~, the last no space"
    for part in (id, *flags):
        if not is_name(part):
            return f"trigger {name!r}: {part!r:.60} is not 1 to 190 characters, the last no space"
    return ""


def check_outcomes(outcomes: object) -> list[Any]:
    """The four parts of a `wire.Settle`, which is looked at as a whole before any lease is ended.

    What handlers returned, inside `finished`, is the broker's to judge. Raises Refused.
    """
    match outcomes:
        case [done, list(finished), list(retry), list(failed)] if all_of(int, done):
            try:
                fine = (
                    all(all_of(int, [key]) and all_of(list, rows) for key, *rows in finished)
                    and all(len(row) == 4 for row in finished)
                    and all(all_of(int, [key]) and _is_delay(delay) for key, delay, _ in retry)
                    and all(all_of(int, [key]) for key, _ in failed)
                    and all_of(str, [row[-1] for row in (*retry, *failed)])
                )
            except (TypeError, ValueError):
                fine = False
            if fine:
                # A reason is for people, and its column has an end.
                told = ([*row[:-1], row[-1][:MAX_REASON]] for row in retry)
                why = ([key, reason[:MAX_REASON]] for key, reason in failed)
                return [done, finished, list(told), list(why)]
    raise Refused("bad-message", "a settle has not the four parts of Settle")


def all_of(kind: type, values: object) -> bool:
    """Whether `values` is a list of just this kind."""
    return isinstance(values, list) and all(type(value) is kind for value in values)


def _is_delay(value: object) -> bool:
    # nan is neither
    return value is None or (type(value) in (int, float) and 0 <= value <= MAX_DELAY)  # type: ignore[operator]
