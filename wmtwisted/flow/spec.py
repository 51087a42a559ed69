"""Flow files: text or a file into a `Flow`, with every mistake named, and a `Flow` into text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from attrs import frozen

from wmtwisted.errors import SpecError
from wmtwisted.flow.duration import print_duration
from wmtwisted.flow.expression import ExpressionError
from wmtwisted.flow.keys import KINDS, Unreadable
from wmtwisted.flow.model import Flow, Handler, Item, Plugin, Sink, Source, Synchronizer
from wmtwisted.flow.names import nearest, quoted
from wmtwisted.flow.place import FlowError, Place, Problem, did_you_mean
from wmtwisted.flow.syntax import LONGEST, Entry, Text, read_entries

#: How many mistakes of one file are named.
MOST_PROBLEMS = 100

T = TypeVar("T", bound=Item)


def read_flow(source: Path | str, file: str = "<flow>") -> Flow:
    """The flow in a file (a `Path`) or in a text (a `str`, called `file` in messages).

    Nothing in it is executed. Raises FlowError, a SpecError, with every mistake found, and a plain
    SpecError for a file that cannot be opened. A flow that can be read may still make no sense: see
    `problems`.
    """
    if isinstance(source, Path):
        file = repr(str(source))[1:-1]
        source = _read(source, file)
    entries, problems = read_entries(source, file)
    items = [_Item.read(entry, problems) for entry in entries if len(problems) < MOST_PROBLEMS]
    if problems:
        raise FlowError(tuple(sorted(problems, key=lambda problem: problem.place)))

    def of(kind: type[T], key: str) -> tuple[T, ...]:
        return tuple(
            kind(places=item.places, **item.values)
            for item in items
            if item is not None and item.kind == key
        )

    return Flow(
        file=file,
        handlers=of(Handler, "handler"),
        synchronizers=of(Synchronizer, "synchronizer"),
        plugins=of(Plugin, "plugin"),
        sources=of(Source, "source"),
        sinks=of(Sink, "sink"),
    )


def print_flow(flow: Flow) -> str:
    """The flow as the text of a file; reading it gives an equal flow."""
    entries: list[str] = []
    groups: dict[str, tuple[Item, ...]] = {
        "synchronizer": flow.synchronizers,
        "source": flow.sources,
        "handler": flow.handlers,
        "plugin": flow.plugins,
        "sink": flow.sinks,
    }
    for kind, items in groups.items():
        for item in items:
            lines = [
                f"    {key!r}: {text!r},"
                for key, each in KINDS[kind].items()
                if (text := _print(getattr(item, each.attribute))) or each.required
            ]
            entries.append("\n".join([f"{kind} = {{", *lines, "}\n"]))
    return "\n".join(entries)


def _print(value: Any) -> str:
    """A value as it is written; "" for one that need not be."""
    match value:
        case None | False:
            return ""
        case True:
            return "yes"
        case tuple():
            return ",".join(value)
        case float():
            return print_duration(value)
    return str(value)


def _read(path: Path, file: str) -> str:
    """The text of a file; raises FlowError when it is too long or no UTF-8, else SpecError."""
    expected = "expected a flow file"
    try:
        if path.exists() and not path.is_file():
            raise SpecError(f"{file}:1:1: found what is no file, {expected}")
        with path.open("rb") as stream:
            data = stream.read(LONGEST + 1)
    except OSError as error:
        raise SpecError(
            f"{file}:1:1: found no readable file ({error.strerror}), {expected}"
        ) from error
    except ValueError as error:
        raise SpecError(f"{file}:1:1: found no path ({error}), {expected}") from error
    if len(data) > LONGEST:
        message = f"found more than {LONGEST:,} bytes, expected {LONGEST:,} at most"
        raise FlowError((Problem("syntax", "error", Place(file), message),))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        message = f"found byte 0x{data[error.start]:02x}, expected UTF-8"
        problem = Problem("syntax", "error", Place(file, line, column), message)
        raise FlowError((problem,)) from None


@frozen
class _Item:
    """One entry with its values read."""

    kind: str
    values: Mapping[str, Any]
    places: Mapping[str, Place]

    @classmethod
    def read(cls, entry: Entry, problems: list[Problem]) -> _Item | None:
        """The entry's values; None, and problems added, when some cannot be read."""
        before = len(problems)
        keys = KINDS.get(entry.kind.text)
        if keys is None:
            message = f"found {quoted(entry.kind.text)}, expected {_either(KINDS)}"
            problems.append(_problem("unknown-kind", entry.kind, message, KINDS))
            return None
        values: dict[str, Any] = {}
        places: dict[str, Place] = {"": entry.place}
        for key, text in entry.pairs:
            if key.text not in keys:
                message = f"found the key {quoted(key.text)}, expected {_either(keys)}"
                problems.append(_problem("unknown-key", key, message, keys))
            elif key.text in places:
                message = f"found the key {key.text!r} a second time, expected it once"
                problems.append(_problem("duplicate-key", key, message))
            else:
                places[key.text] = text.place
                try:
                    values[keys[key.text].attribute] = keys[key.text].read(text.text)
                except (Unreadable, ExpressionError) as error:
                    problems.append(_value_problem(key, text, error))
        given = {key.text for key, _ in entry.pairs}
        for name, each in keys.items():
            if each.required and name not in given:
                message = f"found no key {name!r}, expected it in every {entry.kind.text}"
                problems.append(Problem("missing-key", "error", entry.place, message))
        return None if len(problems) > before else cls(entry.kind.text, values, places)


def _either(known: Mapping[str, object]) -> str:
    *first, last = known
    return f"{', '.join(first)} or {last}"


def _problem(code: str, found: Text, message: str, known: Iterable[str] = ()) -> Problem:
    suggestion = did_you_mean(nearest(found.text, known))
    return Problem(code, "error", found.place, message, suggestion)


def _value_problem(key: Text, value: Text, error: Unreadable | ExpressionError) -> Problem:
    place = value.at(error.offset) if error.offset >= 0 else value.place
    suggestion = error.suggestion if isinstance(error, Unreadable) else ""
    return Problem("bad-value", "error", place, f"{key.text}: {error}", suggestion)
