"""Names, and what a misspelt one was meant to be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmtwisted.flow.names import is_message, is_name, nearest, quoted


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("submitjob", "SubmitJob"),
        ("SubmtJob", "SubmitJob"),
        ("SubmitJobb", "SubmitJob"),
        ("SumbitJob", "SubmitJob"),
        ("SubmitJub", "SubmitJob"),
        ("SubmtJab", "SubmitJob"),
        ("SbmtJab", ""),
        ("ReSubmitJob", "SubmitJob"),
        ("SubmitJob", ""),
        ("DBT", "DBS"),
        ("DTT", ""),
        ("", ""),
        ("x" * 1_000_000, ""),
    ],
)
def test_nearest(name: str, expected: str) -> None:
    assert nearest(name, ["SubmitJob", "DBS", "TrackJob"]) == expected


def test_the_nearest_of_several_is_taken() -> None:
    assert nearest("JobX", ["JobXYZ", "JobY", "jobx"]) == "jobx"
    assert nearest("JobX", ["JobZ", "JobY"]) == "JobY"


@given(st.text(alphabet="abc", max_size=8), st.lists(st.text(alphabet="abcA", max_size=8)))
def test_the_nearest_is_a_known_other_name(name: str, known: list[str]) -> None:
    found = nearest(name, known)
    assert found == "" or (found in known and found != name)


def test_what_a_name_is() -> None:
    assert is_name("JobCreator_2")
    assert is_message("JobCreator:SetCreator/now")
    for text in ("", "1A", "_A", "A-B", "A B", "A\n", "é", "A.B", "../A", "A" * 200):
        assert not is_name(text)
        assert not is_message(text)
    for text in (":A", "A:", "A::B", "A:/B"):
        assert not is_message(text)


@given(st.text())
def test_what_is_shown_is_one_plain_line(text: str) -> None:
    assert quoted(text).isprintable()
    assert quoted(text).isascii()
    assert len(quoted(text)) <= 10 * 60 + 5
