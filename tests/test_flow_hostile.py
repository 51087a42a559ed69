"""Hostile flow files: one clear error each, quickly, and nothing in them ever runs."""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.flows import flows, unhurried
from wmtwisted.flow.model import Flow
from wmtwisted.flow.place import FlowError
from wmtwisted.flow.problems import problems
from wmtwisted.flow.spec import print_flow, read_flow

#: What must never come into being.
CANARY = Path(tempfile.gettempdir()) / "wmtwisted-flow-canary"
#: Code that would make it.
TOUCH = f"__import__('pathlib').Path({str(CANARY)!r}).touch()"


def refused(text: str) -> FlowError:
    """The error that a text is refused with, checked for what holds of every such error."""
    started = time.process_time()
    with pytest.raises(FlowError) as caught:
        read_flow(text, "hostile.flow")
    assert time.process_time() - started < 5
    assert not CANARY.exists()
    for problem in caught.value.problems:
        line = str(problem)
        assert line.startswith("hostile.flow:")
        assert ": found " in line
        assert ", expected " in line
        assert line.isprintable()
        assert line.isascii()
        assert len(line) < 500
        assert problem.place.line >= 1
        assert problem.place.column >= 1
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        TOUCH,
        f"handler = {TOUCH}",
        f"handler = {{'component': {TOUCH}}}",
        f"handler = {{{TOUCH}: 'A'}}",
        f"handler = {{**{TOUCH}}}",
        f"handler = {{'component': f'{{{TOUCH}}}'}}".replace(str(CANARY), "x"),
        f"handler = {{'component': 'A' if {TOUCH} else 'B'}}",
        f"handler = {{'component': [{TOUCH} for _ in '1'][0]}}",
        f"handler = {{str(each): {TOUCH} for each in range(3)}}",
        f"handler = (lambda: {TOUCH})()",
        f"handler = {{'component': (x := {TOUCH})}}",
        f"import os; {TOUCH}",
        f"@({TOUCH})\nclass handler: pass",
        f"def handler(x={TOUCH}): pass",
        f"while True: {TOUCH}",
        f"with open('/etc/passwd'): {TOUCH}",
        f"handler: {TOUCH} = {{}}",
        f"handler[{TOUCH}] = {{}}",
        f"a.b = handler = {TOUCH}",
        f"handler += {TOUCH}",
        f"assert {TOUCH}",
        f"del handler, {TOUCH}",
        f"match {TOUCH}:\n    case _: pass",
        f"try: pass\nexcept: {TOUCH}",
        "handler = {'component': b'A', 'messageIn': 'B'}",
        "handler = {'component': 'A' + 'B', 'messageIn': 'B'}",
        "handler = {'component': 'A' * 999999999, 'messageIn': 'B'}",
        "handler = {'component': 'A' 'B', 'messageIn': 1}",
        "handler = {'component': 'A'.__class__, 'messageIn': None}",
        "handler = {'component': 'A', 'messageIn': ...}",
        "handler = {1: 'A', None: 'B', True: 'C', ('a',): 'D', b'e': 'F'}",
        "handler = {'component': {'component': 'A'}, 'messageIn': {'A'}}",
        "handler = {'component', 'messageIn'}",
        "handler = other = {'component': 'A', 'messageIn': 'B'}",
        "handler, = {'component': 'A', 'messageIn': 'B'}",
        "handler = {'component': 'A', 'messageIn': 'B'",
        "handler = {'component': 'A' 'messageIn': 'B'}",
        "handler = {'component': 'A\n', 'messageIn': 'B'}",
        "handler = {'component': '\\d', 'messageIn': 'B'}",
        "handler = {'component': '\\x00', 'messageIn': '\\N{BELL}'}",
        "handler = {'component': 'A', 'messageIn': '\ud800'}",
        "handler = {'component': '../../A', 'messageIn': '/etc/passwd'}",
        "handler = {'component': 'A', 'messageIn': 'B/../C'}",
        "handler = {'component': 'A\\nB', 'messageIn': 'B\\'\\\"'}",
        "handler = {'component': '', 'messageIn': ''}",
        "handler = {'component': 'A', 'messageIn': 'B,C'}",
        "handler = {'component': 'А', 'messageIn': 'B'}",  # noqa: RUF001 (a look-alike)
        "handler = {'component': 'A\u202e', 'messageIn': 'B\u200b'}",
        "hаndler = {'component': 'A', 'messageIn': 'B'}",  # noqa: RUF001 (a look-alike)
        "handler = {\u2018component\u2019: \u2018A\u2019}",
        "handler = {'__class__': 'A', '__init__': 'B'}",
        "handler = {'component': 'A', 'messageIn': 'B', 'retry': '\u0661'}",
        "handler = {'component': 'A', 'messageIn': 'B', 'retry': '" + "9" * 5000 + "'}",
        "handler = {'component': 'A', 'messageIn': 'B', 'delay': '1e999'}",
        "handler = {'component': '" + "A" * 9000 + "', 'messageIn': 'B'}",
        "plugin = {'component': 'A', 'handler': 'B', 'plugins': 'C,,D'}",
        "return {}",
        "await {}",
        "yield",
        "\0",
        "handler = {'component': 'A\0', 'messageIn': 'B'}",
        "#" * 5_000_000,
        "#\n" * 2_500_000,
        "(" * 9000,
        "[" * 9000 + "]" * 9000,
        "-" * 9000 + "1",
        "handler = " + "{'a':" * 300 + "{}" + "}" * 300,
        "x" + ".a" * 4000,
        "1" + "\n+1" * 1,
        "1" + "+1\\\n" * 60_000 + "+1",
        "(1" + "\n+1" * 60_000 + ")",
        "not\\\n" * 60_000 + "1",
        "handler = " + "9" * 9000,
        "if 1:\n" + "".join(" " * depth + "if 1:\n" for depth in range(1, 120)),
        "\ud800",
        "handler = {'component': 'A', 'messageIn': 'B', 'messageOut': '" + "(" * 5000 + "'}",
        "handler = {'component': 'A', 'messageIn': 'B', 'messageOut': '" + "A|" * 4000 + "'}",
    ],
    ids=itertools.count(),
)
def test_refused(text: str) -> None:
    refused(text)


def test_a_file_of_long_lines_of_broken_entries_ends_soon() -> None:
    refused("\n".join("x={};" * 1600 for _ in range(31)))


def test_thousands_of_dangling_names_are_checked_soon() -> None:
    lines = [f"sink={{'ID':'A','messageIn':'In{n}'}}" for n in range(3_500)]
    lines += [f"source={{'ID':'A','messageOut':'Other{n}'}}" for n in range(3_500)]
    flow = read_flow("\n".join(lines))
    started = time.process_time()
    assert len(problems(flow)) == 7_000
    assert time.process_time() - started < 5


#: Bits of Python and of flows, to be put anywhere.
BITS = st.sampled_from(
    [
        *"'\"{}[]()|,:=\\\n\t#;*@.%1\0\ud800é\u0430\u2028\f\r",
        *("f'", "b'", "'''", "\\\n", "**", ":=", "lambda:", "if 1:", "class A: ", "async ", "None"),
        *("handler", "handler = ", "'component': ", "'messageOut': ''", "yes"),
        *(TOUCH, f"{{{TOUCH}}}"),
    ]
)


@unhurried
@given(flows, st.data())
def test_mutants_are_read_or_refused(flow: Flow, data: st.DataObject) -> None:
    text = print_flow(flow)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 20)))
        text = text[:start] + data.draw(BITS) + text[end:]
    try:
        found = read_flow(text)
    except FlowError:
        refused(text)
    else:
        assert read_flow(print_flow(found)) == found
        problems(found)
    assert not CANARY.exists()
