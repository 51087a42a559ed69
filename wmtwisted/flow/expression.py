"""What a handler publishes: `A|B` is one of, `A,B` is all of, parentheses combine, `()` is nothing.

An expression speaks of types, not of numbers: a handler that publishes fifty `CreateJob` fulfils
`CreateJob`, and one that may also publish none says `CreateJob|()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from math import prod
from typing import Literal

from attrs import frozen

from wmtwisted.flow.names import LETTERS, LONGEST_MESSAGE, is_message, quoted

#: How a name stands in its expression: with a choice, with others beside it, or alone.
Choice = Literal["one of", "all of", ""]

#: Bounds on one expression; far beyond what a person can read.
MOST_ALTERNATIVES = 1000
MOST_NAMES = 200
DEEPEST = 20


class ExpressionError(ValueError):
    """An expression cannot be read; `offset` is where in its text, in characters from 0."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


@frozen
class Name:
    """One message type."""

    name: str

    def __str__(self) -> str:
        return self.name


@frozen
class OneOf:
    """Exactly one of the parts, of which there are two or more; made by `one_of`."""

    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return "|".join(_nested(part, AllOf) for part in self.parts)


@frozen
class AllOf:
    """Every one of the parts: none, or two and more; made by `all_of`."""

    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return ",".join(_nested(part, OneOf) for part in self.parts)


Expression = Name | OneOf | AllOf

#: Nothing is published.
NOTHING = AllOf(())


def one_of(parts: Iterable[Expression]) -> Expression:
    """The parts as alternatives in their order, without doubles; a single one is itself."""
    flat = dict.fromkeys(
        inner for part in parts for inner in (part.parts if isinstance(part, OneOf) else (part,))
    )
    return next(iter(flat)) if len(flat) == 1 else OneOf(tuple(flat))


def all_of(parts: Iterable[Expression]) -> Expression:
    """The parts together in their order, without doubles; a single one is itself."""
    flat = dict.fromkeys(
        inner for part in parts for inner in (part.parts if isinstance(part, AllOf) else (part,))
    )
    return next(iter(flat)) if len(flat) == 1 else AllOf(tuple(flat))


def names(expression: Expression) -> frozenset[str]:
    """Every message type that is named."""
    return frozenset(name for name, _ in _named(expression, ""))


def choices(expression: Expression) -> dict[str, Choice]:
    """How each message type stands: `one of`, `all of`, or "" when it stands alone.

    In `A,(B|C)` that is A `all of`, B and C `one of`. A type named twice counts where it is first.
    """
    found: dict[str, Choice] = {}
    for name, choice in _named(expression, ""):
        found.setdefault(name, choice)
    return found


def alternatives(expression: Expression) -> frozenset[frozenset[str]]:
    """Every set of message types that fulfils the expression."""
    match expression:
        case Name(name):
            return frozenset({frozenset({name})})
        case OneOf(parts):
            return frozenset[frozenset[str]]().union(*map(alternatives, parts))
        case AllOf(parts):
            return reduce(_together, map(alternatives, parts), frozenset({frozenset[str]()}))


def check(expression: Expression, published: Iterable[str]) -> str:
    """One line that says how the types published differ from the expression; "" when they fit."""
    found = frozenset(published)
    if found in alternatives(expression):
        return ""
    shown = ", ".join(map(quoted, sorted(found))) or "nothing"
    return f"published {shown}, expected {str(expression) or 'nothing'}"


def parse(text: str) -> Expression:
    """The expression written in `text`; blanks between its parts do not matter.

    Raises ExpressionError: it says what was found, what was expected, and where. `|` and `,` bind
    alike, so that mixing them takes parentheses.
    """
    if not text.strip():
        return NOTHING
    tokens = list(_tokens(text))
    if len(tokens) > 4 * MOST_NAMES:
        raise ExpressionError(
            f"found an expression of {len(tokens)} parts, expected {MOST_NAMES} names at most", 0
        )
    reader = _Reader(tokens, len(text))
    expression = reader.expression(0)
    reader.end()
    if _count(expression) > MOST_ALTERNATIVES:
        raise ExpressionError(
            f"found more than {MOST_ALTERNATIVES} alternatives, expected a readable number", 0
        )
    return expression


def _nested(part: Expression, other: type[OneOf | AllOf]) -> str:
    return f"({part})" if isinstance(part, other) else str(part)


def _named(expression: Expression, choice: Choice) -> Iterator[tuple[str, Choice]]:
    match expression:
        case Name(name):
            yield name, choice
        case OneOf(parts):
            for part in parts:
                yield from _named(part, "one of")
        case AllOf(parts):
            for part in parts:
                yield from _named(part, "all of")


def _together(
    some: frozenset[frozenset[str]], others: frozenset[frozenset[str]]
) -> frozenset[frozenset[str]]:
    return frozenset(one | other for one in some for other in others)


def _count(expression: Expression) -> int:
    """How many alternatives there are at most, without making them."""
    match expression:
        case Name():
            return 1
        case OneOf(parts):
            return sum(map(_count, parts))
        case AllOf(parts):
            return prod(map(_count, parts))


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    """The names and signs of `text`, each with its offset."""
    start = 0
    for offset, character in enumerate(text + ","):
        if character in "|,() \t":
            if start < offset:
                yield text[start:offset], start
            if character in "|,()" and offset < len(text):
                yield character, offset
            start = offset + 1


class _Reader:
    """Reads one expression off its tokens, left to right."""

    def __init__(self, tokens: list[tuple[str, int]], length: int) -> None:
        self._words = [*tokens, ("", length)]
        self._at = 0

    def expression(self, depth: int) -> Expression:
        """Parts joined by one sign, up to the end or to a closing parenthesis."""
        if depth > DEEPEST:
            raise ExpressionError(
                f"found parentheses nested deeper than {DEEPEST}, expected fewer", self._offset
            )
        parts = [self._part(depth)]
        sign = self._word
        while self._word in ("|", ","):
            if self._word != sign:
                raise ExpressionError(
                    f"found {self._word!r} after {sign!r}, expected parentheses that say which "
                    "belong together, as in A,(B|C)",
                    self._offset,
                )
            self._at += 1
            parts.append(self._part(depth))
        return one_of(parts) if sign == "|" else all_of(parts)

    def end(self) -> None:
        """Raises ExpressionError unless everything was read."""
        if self._word:
            raise ExpressionError(f"found {quoted(self._word)}, expected | or ,", self._offset)

    @property
    def _word(self) -> str:
        return self._words[self._at][0]

    @property
    def _offset(self) -> int:
        return self._words[self._at][1]

    def _part(self, depth: int) -> Expression:
        word, offset = self._words[self._at]
        if word == "(":
            self._at += 1
            if self._word == ")":
                self._at += 1
                return NOTHING
            inner = self.expression(depth + 1)
            if self._word != ")":
                raise ExpressionError(
                    f"found {quoted(self._word) if self._word else 'the end'}, "
                    f"expected ) for the ( before",
                    self._offset,
                )
            self._at += 1
            return inner
        if not is_message(word):
            found = quoted(word) if word else "the end"
            raise ExpressionError(
                f"found {found}, expected a message name ({LETTERS}, such names joined by : or /, "
                f"{LONGEST_MESSAGE} at most)",
                offset,
            )
        self._at += 1
        return Name(word)
