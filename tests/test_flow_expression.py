"""Expressions of what a handler publishes: `A|B`, `A,B`, parentheses, `()`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.flows import expressions, unhurried
from wmtwisted.flow.expression import (
    NOTHING,
    AllOf,
    Expression,
    ExpressionError,
    Name,
    OneOf,
    alternatives,
    check,
    choices,
    names,
    parse,
)

A, B, C = Name("A"), Name("B"), Name("C")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", NOTHING),
        ("  ", NOTHING),
        ("()", NOTHING),
        ("A", A),
        (" ( A ) ", A),
        ("JobCreator:SetCreator", Name("JobCreator:SetCreator")),
        ("A|B", OneOf((A, B))),
        ("A, B", AllOf((A, B))),
        ("A|()", OneOf((A, NOTHING))),
        ("A,()", A),
        ("A,(B|C)", AllOf((A, OneOf((B, C))))),
        ("(A,B)|C", OneOf((AllOf((A, B)), C))),
        ("A|(B|C)", OneOf((A, B, C))),
        ("A|A", A),
    ],
)
def test_parse(text: str, expected: Expression) -> None:
    assert parse(text) == expected


@unhurried
@given(expressions)
def test_parse_of_print_is_identity(expression: Expression) -> None:
    assert parse(str(expression)) == expression


@unhurried
@given(expressions)
def test_every_alternative_fits_and_is_made_of_the_names(expression: Expression) -> None:
    for each in alternatives(expression):
        assert each <= names(expression)
        assert check(expression, each) == ""
    assert set(choices(expression)) == names(expression)


def test_alternatives() -> None:
    assert alternatives(parse("A,(B|C)")) == {frozenset("AB"), frozenset("AC")}
    assert alternatives(parse("A|()")) == {frozenset("A"), frozenset()}
    assert alternatives(NOTHING) == {frozenset()}


def test_check_tells_the_difference() -> None:
    expression = parse("A,(B|C)")
    assert check(expression, ["A", "A", "B"]) == ""
    assert check(expression, ["A", "B", "C"]) == "published 'A', 'B', 'C', expected A,(B|C)"
    assert check(expression, []) == "published nothing, expected A,(B|C)"
    assert check(NOTHING, ["A"]) == "published 'A', expected nothing"


def test_choices_are_those_of_the_sign_beside_the_name() -> None:
    assert choices(parse("A,(B|C)")) == {"A": "all of", "B": "one of", "C": "one of"}
    assert choices(parse("A")) == {"A": ""}


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("A|B,C", 3, "found ',' after '|', expected parentheses"),
        ("A,B|C", 3, "found '|' after ',', expected parentheses"),
        ("A B", 2, "found 'B', expected | or ,"),
        ("A|", 2, "found the end, expected a message name"),
        ("|A", 0, "found '|', expected a message name"),
        ("(A", 2, "found the end, expected ) for the ("),
        ("A)", 1, "found ')', expected | or ,"),
        ("A,1B", 2, "found '1B', expected a message name"),
        ("../etc/passwd", 0, "found '../etc/passwd', expected a message name"),
        ("А", 0, "found '\\u0410', expected a message name"),  # noqa: RUF001 (a look-alike)
        ("A\nB", 0, "found 'A\\nB', expected a message name"),
        ("(" * 30 + "A" + ")" * 30, 21, "found parentheses nested deeper"),
        (",".join(f"(A{n}|B{n})" for n in range(12)), 0, "found more than 1000 alternatives"),
        ("A," * 1000 + "A", 0, "found an expression of 2001 parts"),
    ],
)
def test_mistakes_are_named(text: str, offset: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert str(caught.value).startswith(message)
    assert caught.value.offset == offset


@unhurried
@given(st.text(alphabet="AB|,() :/é'\"\n\0", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    refusal = None
    try:
        expression = parse(text)
    except ExpressionError as error:
        refusal = error
    if refusal is None:
        assert parse(str(expression)) == expression
    else:
        assert str(refusal).startswith("found ")
        assert "\n" not in str(refusal)
        assert 0 <= refusal.offset <= len(text)
