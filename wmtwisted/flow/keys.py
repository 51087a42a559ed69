"""The kinds of entry in a flow file, their keys, and what each key's value must look like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from wmtwisted.flow import names
from wmtwisted.flow.duration import parse_duration
from wmtwisted.flow.expression import parse
from wmtwisted.flow.names import is_dotted, is_message, is_name, nearest, quoted
from wmtwisted.flow.place import did_you_mean


class Unreadable(Exception):
    """A value is not what its key asks for."""

    def __init__(self, message: str, offset: int = -1, suggestion: str = "") -> None:
        super().__init__(message)
        self.offset = offset
        self.suggestion = suggestion


def _name(text: str) -> str:
    if not is_name(text):
        raise Unreadable(
            f"found {quoted(text)}, expected a name ({names.LETTERS}, {names.LONGEST_NAME} at most)"
        )
    return text


def _message(text: str) -> str:
    if not is_message(text):
        raise Unreadable(
            f"found {quoted(text)}, expected one message name ({names.LETTERS}, "
            f"such names joined by : or /, {names.LONGEST_MESSAGE} at most)"
        )
    return text


def _action(text: str) -> str:
    if not (is_message(text) or is_dotted(text)):
        raise Unreadable(f"found {quoted(text)}, expected the name of the message to publish")
    return text


def _list_of(one: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        if not text.strip():
            return ()
        return tuple(dict.fromkeys(one(part.strip(" \t")) for part in text.split(",")))

    return read


def _some(read: Callable[[str], object]) -> Callable[[str], Any]:
    """The same, for a key that must not be empty."""

    def read_some(text: str) -> Any:
        if not text.strip():
            raise Unreadable("found nothing, expected at least one name")
        return read(text)

    return read_some


def _yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise Unreadable(
            f"found {quoted(text)}, expected 'yes' or 'no'",
            suggestion=did_you_mean(nearest(text, ("yes", "no"))),
        )
    return text == "yes"


def _duration(text: str) -> float:
    seconds = parse_duration(text)
    if seconds is None:
        raise Unreadable(
            f"found {quoted(text)}, expected a time such as '30', '1.5s', '10m', '2h' or '1d'"
        )
    return seconds


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise Unreadable(f"found {quoted(text)}, expected a number from 0 to 999999")
    return int(text)


@frozen
class Key:
    """One key of a kind."""

    #: The attribute of the model that holds it.
    attribute: str
    #: Text to value; raises Unreadable or ExpressionError.
    read: Callable[[str], Any]
    required: bool = False


#: Every kind of entry and every key, in the order in which they are printed.
KINDS: dict[str, dict[str, Key]] = {
    "synchronizer": {
        "ID": Key("name", _name, required=True),
        "action": Key("action", _action, required=True),
        "timeout": Key("timeout", _duration),
    },
    "source": {
        "ID": Key("name", _name, required=True),
        "messageOut": Key("message_out", _some(parse), required=True),
    },
    "handler": {
        "component": Key("component", _name, required=True),
        "messageIn": Key("message_in", _message, required=True),
        "messageOut": Key("message_out", parse),
        "threading": Key("threading", _yes),
        "configurable": Key("configurable", _yes),
        "createSynchronizer": Key("creates", _list_of(_name)),
        "synchronize": Key("completes", _list_of(_name)),
        "jobType": Key("job_types", _list_of(_name)),
        "delay": Key("delay", _duration),
        "retry": Key("retry", _count),
        "timeout": Key("timeout", _duration),
    },
    "plugin": {
        "component": Key("component", _name, required=True),
        "handler": Key("handler", _message, required=True),
        "plugins": Key("plugins", _some(_list_of(_name)), required=True),
    },
    "sink": {
        "ID": Key("name", _name, required=True),
        "messageIn": Key("messages_in", _some(_list_of(_message)), required=True),
    },
}
