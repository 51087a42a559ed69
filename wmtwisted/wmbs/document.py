"""The text of a workflow file as plain data, with the place of each part, from XML or TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any
from xml.parsers import expat

from attrs import field, frozen

from wmtwisted.errors import SpecError

#: A larger text is no workflow file.
MAX_LENGTH = 1_000_000

#: Keys and list positions from the top: `("task", 1, "retries")`.
Path = tuple[str | int, ...]


@frozen
class Document:
    """Plain data in the form of the TOML file, whatever the text was."""

    data: Mapping[str, Any]
    #: Where it came from: a file name, or what it is.
    source: str
    #: `line:column`, counted from 1, of what was read from a text.
    places: Mapping[Path, str] = field(factory=dict)
    #: What the reader itself found wrong: where and what.
    problems: tuple[tuple[str, str], ...] = ()

    def where(self, path: Path) -> str:
        """`source:line:column` of the part, or of what holds it."""
        if not self.places:
            return ".".join([self.source, *map(str, path)])
        while path and path not in self.places:
            path = path[:-1]
        return f"{self.source}:{self.places.get(path, '1:1')}"


def read_document(text: str, source: str) -> Document:
    """XML when the text begins with `<`, else TOML. Raises SpecError when it is neither."""
    if len(text) > MAX_LENGTH:
        raise SpecError(
            f"{source}:1:1: the text has {len(text)} characters, expected at most {MAX_LENGTH}"
        )
    return (
        _read_xml(text, source)
        if text.lstrip("\ufeff \t\r\n")[:1] == "<"
        else _read_toml(text, source)
    )


def _read_toml(text: str, source: str) -> Document:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        place = f"{found[1]}:{found[2]}" if found else f"{text.count(chr(10)) + 1}:1"
        what = str(error).split(" (at ")[0]
        raise SpecError(
            f"{source}:{place}: this is no TOML: {what}",
            "a workflow file is XML (it begins with `<workflow`) or TOML",
        ) from None
    except RecursionError:
        raise SpecError(f"{source}:1:1: this TOML is nested too deep") from None
    return Document(data, source, _toml_places(text))


_HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.-]+)\s*\]\]?")
_KEY = re.compile(r"(\s*)([\"']?)([A-Za-z0-9_-]+)\2\s*=")


def _toml_places(text: str) -> dict[Path, str]:
    """The places of headers and keys; tomllib does not tell them."""
    places: dict[Path, str] = {(): "1:1"}
    tables: dict[str, int] = {}
    at: Path = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            first, *rest = header[2].split(".")
            if header[1] == "[[" and not rest:
                tables[first] = tables.get(first, -1) + 1
            at = (first, tables[first], *rest) if first in tables else (first, *rest)
            places[at] = f"{number}:1"
        elif key := _KEY.match(line):
            places.setdefault((*at, key[3]), f"{number}:{len(key[1]) + 1}")
    return places


def _read_xml(text: str, source: str) -> Document:
    reader = _XML(source)
    try:
        reader.parser.Parse(text.encode(), True)
    except expat.ExpatError as error:
        what = expat.ErrorString(error.code)
        raise SpecError(
            f"{source}:{error.lineno}:{error.offset + 1}: this is no XML: {what}"
        ) from None
    return Document(reader.data, source, reader.places, tuple(reader.problems))


#: The elements that may stand in each element; those that map to () hold text.
_CHILDREN: dict[str, tuple[str, ...]] = {
    "": ("workflow",),
    "workflow": ("parameter", "task"),
    "task": ("command", "output", "parameter"),
    "command": ("arg",),
    "parameter": (),
    "output": (),
    "arg": (),
}
#: Elements whose attributes are all checked later, with the rest of the data.
_FREE_ATTRIBUTES = ("workflow", "task")


class _XML:
    """Builds the data while expat walks over the text."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.data: dict[str, Any] = {}
        self.places: dict[Path, str] = {}
        self.problems: list[tuple[str, str]] = []
        self._open: list[str] = [""]
        # The elements inside an unknown one are left out with it.
        self._skipped = 0
        self._text: list[str] = []
        self._target: Path = ()
        self._parameter = ""
        self.parser = expat.ParserCreate("utf-8")
        # Everything a document type could bring in (entities, files, URLs) ends here.
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters

    @property
    def _place(self) -> str:
        return f"{self.parser.CurrentLineNumber}:{self.parser.CurrentColumnNumber + 1}"

    def _problem(self, what: str) -> None:
        self.problems.append((f"{self.source}:{self._place}", what))

    def _refuse(self, *_: object) -> None:
        raise SpecError(
            f"{self.source}:{self._place}: a document type is not allowed", "remove <!DOCTYPE ...>"
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        allowed = _CHILDREN[self._open[-1]]
        if self._skipped or name not in allowed:
            if not self._skipped:
                inside = f"<{self._open[-1]}>" if self._open[-1] else "the top"
                expected = " or ".join(f"<{one}>" for one in allowed) or "text only"
                self._problem(f"found <{name}> in {inside}, expected {expected}")
            self._skipped += 1
            return
        self._open.append(name)
        self._text = []
        if name not in _FREE_ATTRIBUTES:
            wanted = {"name"} if name == "parameter" else set()
            for one in attributes.keys() - wanted:
                self._problem(f"<{name}> has no attribute {one!r}")
        match name:
            case "workflow":
                self.data |= attributes
                self.places[()] = self._place
            case "task":
                tasks = self.data.setdefault("task", [])
                tasks.append(dict(attributes))
                self._target = ("task", len(tasks) - 1)
                self.places[self._target] = self._place
            case "parameter":
                self._parameter = attributes.get("name", "")
                if not self._parameter:
                    self._problem("<parameter> needs a name")

    def _end(self, name: str) -> None:
        if self._skipped:
            self._skipped -= 1
            return
        self._open.pop()
        text = "".join(self._text).strip()
        holder = self.data["task"][self._target[1]] if self._target else self.data
        match name:
            case "task":
                self._target = ()
            case "command":
                holder.setdefault("command", [])
            case "arg":
                self._append(holder, "command", text)
            case "output":
                self._append(holder, "outputs", text)
            case "parameter" if self._parameter:
                parameters = holder.setdefault("parameters", {})
                if self._parameter in parameters:
                    self._problem(f"parameter {self._parameter!r} is given twice")
                parameters[self._parameter] = text
                self.places[(*self._target, "parameters", self._parameter)] = self._place
        self._text = []

    def _append(self, holder: dict[str, Any], key: str, text: str) -> None:
        values = holder.setdefault(key, [])
        values.append(text)
        self.places[(*self._target, key, len(values) - 1)] = self._place

    def _characters(self, text: str) -> None:
        if self._skipped:
            return
        if not _CHILDREN[self._open[-1]]:
            self._text.append(text)
        elif text.strip():
            self._problem(f"found text {text.strip()[:40]!r} directly in <{self._open[-1]}>")
