"""The syntax of a flow file: repeated `kind = {'key': 'value', ...}`, read by `ast`, never run.

Only the shape is known here; which kinds and keys there are is the spec's subject.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

from attrs import frozen

from wmtwisted.flow.names import quoted
from wmtwisted.flow.place import Place, Problem

#: Longest text that is read, in characters: a flow of more than a thousand handlers.
LONGEST = 300_000
#: Longest line, in characters.
LONGEST_LINE = 10_000

_EXPECTED = "expected KIND = {'KEY': 'VALUE', ...}"

#: Words for what people write in the place of a string or a dictionary.
_WORDS = {
    ast.Assert: "an assertion",
    ast.AsyncFunctionDef: "a function",
    ast.Attribute: "an attribute",
    ast.Await: "an await",
    ast.BinOp: "a calculation",
    ast.BoolOp: "a condition",
    ast.Call: "a call",
    ast.ClassDef: "a class",
    ast.Compare: "a comparison",
    ast.Delete: "a del",
    ast.Dict: "a dictionary",
    ast.DictComp: "a comprehension",
    ast.For: "a loop",
    ast.FunctionDef: "a function",
    ast.GeneratorExp: "a comprehension",
    ast.If: "a condition",
    ast.IfExp: "a condition",
    ast.Import: "an import",
    ast.ImportFrom: "an import",
    ast.JoinedStr: "an f-string",
    ast.Lambda: "a function",
    ast.List: "a list",
    ast.ListComp: "a comprehension",
    ast.NamedExpr: "an assignment",
    ast.Set: "a set",
    ast.SetComp: "a comprehension",
    ast.Subscript: "a subscript",
    ast.Tuple: "a tuple",
    ast.UnaryOp: "a calculation",
    ast.While: "a loop",
    ast.With: "a with",
}


@frozen
class Text:
    """A string in the file: a key or a value."""

    text: str
    place: Place
    #: Whether it is written in one piece without escapes, so that offsets in it are columns.
    plain: bool

    def at(self, offset: int) -> Place:
        """The place of the character at `offset`; of the whole string, when that is unknown."""
        if not self.plain:
            return self.place
        return Place(self.place.file, self.place.line, self.place.column + 1 + offset)


@frozen
class Entry:
    """One assignment: `kind = {key: value, ...}`."""

    kind: Text
    #: The dictionary's own place.
    place: Place
    #: In the order of the file; a key may be there twice.
    pairs: tuple[tuple[Text, Text], ...]


def read_entries(text: str, file: str) -> tuple[list[Entry], list[Problem]]:
    """The entries of a text and what in it is none.

    An entry with a problem is left out. A text that Python cannot parse has one problem and no
    entries, since nothing after it can be trusted.
    """
    if len(text) > LONGEST:
        message = f"found {len(text):,} characters, expected {LONGEST:,} at most"
        return [], [_problem(Place(file), message)]
    # Blanks after a backslash come with copying from slides and web pages. The line breaks are
    # made uniform, since Python counts \r as one and str.splitlines() counts others as well.
    text = re.sub(r"\\[ \t]+(?=\n|$)", r"\\", re.sub(r"\r\n?", "\n", text))
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE:
            message = f"found a line of {len(line):,} characters, expected {LONGEST_LINE:,} at most"
            return [], [_problem(Place(file, number), message)]
    try:
        tree = _parse(text)
    except SyntaxError as error:
        place = Place(file, max(error.lineno or 1, 1), max(error.offset or 1, 1))
        reason = quoted(str(error.msg), 100)[1:-1]
        return [], [_problem(place, f"found what is no Python ({reason}), {_EXPECTED}")]
    except (RecursionError, MemoryError):
        return [], [_problem(Place(file), f"found too deep a nesting, {_EXPECTED}")]
    except (ValueError, Warning) as error:
        reason = quoted(str(error), 100)[1:-1]
        return [], [_problem(Place(file), f"found what is no Python ({reason}), {_EXPECTED}")]
    return _Reader(lines, file).entries(tree)


def _parse(text: str) -> ast.Module:
    with warnings.catch_warnings():
        # Python only warns of '\d' in a string; here it is a mistake like any other.
        warnings.simplefilter("error")
        return ast.parse(text)


def _problem(place: Place, message: str) -> Problem:
    return Problem("syntax", "error", place, message)


def _describe(node: ast.AST | None) -> str:
    match node:
        case None:
            return "** (another dictionary)"
        case ast.Constant(value=str(value)):
            return f"the text {quoted(value, 30)}"
        case ast.Constant(value=bool() | None):
            return repr(node.value)
        case ast.Constant(value=bytes()):
            return "bytes"
        case ast.Constant(value=value):
            return "..." if value is ... else "a number"
        case ast.Name(id=name):
            return f"the name {quoted(name, 30)}"
        case ast.Expr(value=value):
            return _describe(value)
    return _WORDS.get(type(node), f"a {type(node).__name__.lower()}")


class _Reader:
    """Turns the syntax tree of one text into entries and problems."""

    def __init__(self, lines: list[str], file: str) -> None:
        self._lines = lines
        self._file = file
        self._problems: list[Problem] = []

    def entries(self, tree: ast.Module) -> tuple[list[Entry], list[Problem]]:
        """All entries and all problems, in the order of the file."""
        found = [entry for node in tree.body for entry in self._entry(node)]
        return found, self._problems

    def _entry(self, node: ast.stmt) -> Iterator[Entry]:
        match node:
            case ast.Assign(targets=[ast.Name(id=kind) as target], value=ast.Dict() as value):
                pairs = list(self._pairs(value))
                if len(pairs) == len(value.keys):
                    name = Text(kind, self._place(target), False)
                    yield Entry(name, self._place(value), tuple(pairs))
            case ast.Assign(targets=[ast.Name()], value=value):
                self._refuse(value, "expected {'KEY': 'VALUE', ...}")
            case ast.Assign(targets=[target]):
                self._refuse(target, _EXPECTED)
            case ast.Assign():
                self._refuse(node, _EXPECTED, "several names for one value")
            case _:
                self._refuse(node, _EXPECTED)

    def _pairs(self, node: ast.Dict) -> Iterator[tuple[Text, Text]]:
        for key, value in zip(node.keys, node.values, strict=True):
            key_text = self._text(key, key or value, "a key in quotes")
            value_text = self._text(value, value, "a value in quotes") if key else None
            if key_text and value_text:
                yield key_text, value_text

    def _text(self, node: ast.expr | None, at: ast.expr, expected: str) -> Text | None:
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            self._problems.append(
                _problem(self._place(at), f"found {_describe(node)}, expected {expected}")
            )
            return None
        line = self._lines[node.lineno - 1].encode()
        written = line[node.col_offset : node.end_col_offset].decode(errors="replace")
        plain = written in (f"'{node.value}'", f'"{node.value}"')
        return Text(node.value, self._place(node), plain)

    def _refuse(self, node: ast.AST, expected: str, found: str = "") -> None:
        message = f"found {found or _describe(node)}, {expected}"
        self._problems.append(_problem(self._place(node), message))

    def _place(self, node: ast.AST) -> Place:
        line, offset = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        text = self._lines[line - 1]
        if not text.isascii():
            # The offset is in bytes.
            offset = len(text.encode()[:offset].decode(errors="replace"))
        return Place(self._file, line, offset + 1)
