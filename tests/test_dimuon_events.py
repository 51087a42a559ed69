"""Reading events: what is counted, and what is said of a broken line."""

from __future__ import annotations

from math import isclose
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmtwisted.errors import InputError
from wmtwisted.workloads.dimuon.events import HEADER, Event, Scan, read, scan

GOOD = (
    "165617,74969122,54.7055,-0.432396,2.57421,1,-0.0745444,0.499921,"
    "34.2464,-0.98848,-0.498704,-1,0.0712224,3.42214"
)


def written(path: Path, *lines: str, header: str = HEADER, end: str = "\n") -> str:
    path.write_bytes(end.join([header, *lines, ""]).encode())
    return str(path)


def changed(column: str, value: str) -> str:
    values = GOOD.split(",")
    values[HEADER.split(",").index(column)] = value
    return ",".join(values)


def refusal(path: str) -> InputError:
    with pytest.raises(InputError) as caught:
        scan(path)
    assert "\n" not in str(caught.value)
    return caught.value


def test_the_mass_of_two_muons(tmp_path: Path) -> None:
    [event] = read(written(tmp_path / "a.csv", GOOD))
    assert event == Event(165617, 54.7055, -0.432396, 2.57421, 34.2464, -0.98848, -0.498704)
    assert isclose(event.mass(), 89.885744, abs_tol=1e-6)
    assert Event(1, 45.0, 0.0, 0.0, 45.0, 0.0, 3.141592653589793).mass() == 90.0


def test_a_scan_counts_events_and_runs(tmp_path: Path) -> None:
    lines = [changed("Run", run) for run in ("7", "3", "7", "12")]
    assert scan(written(tmp_path / "a.csv", *lines)) == Scan(4, (3, 7, 12))


@pytest.mark.parametrize("header", [HEADER, "\ufeff" + HEADER])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_other_systems_files_are_read(tmp_path: Path, header: str, end: str) -> None:
    path = written(tmp_path / "a.csv", GOOD, GOOD, header=header, end=end)
    assert scan(path) == Scan(2, (165617,))


def test_the_last_line_needs_no_end(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEADER}\n{GOOD}")
    assert scan(str(tmp_path / "a.csv")).events == 1


@pytest.mark.parametrize("number", ["0", "-0", ".5", "5.", "1e-05", "-1.5E+2"])
def test_numbers_in_every_usual_form(tmp_path: Path, number: str) -> None:
    assert scan(written(tmp_path / "a.csv", changed("dxy1", number))).events == 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "the line is empty, expected 14 values"),
        (GOOD[:40], "5 values, expected 14: '165617,74969122,54.7055,-0.432396,2.5742'"),
        (GOOD + ",1", "15 values, expected 14: "),
        (changed("pt1", "abc"), "pt1 is 'abc', expected a number"),
        (changed("pt1", ""), "pt1 is '', expected a number"),
        (changed("pt2", "nan"), "pt2 is 'nan', expected a number"),
        (changed("eta1", "inf"), "eta1 is 'inf', expected a number"),
        (changed("iso2", "1_0"), "iso2 is '1_0', expected a number"),
        (changed("dxy1", " 1"), "dxy1 is ' 1', expected a number"),
        (changed("phi1", "٣"), "phi1 is '٣', expected a number"),
        (changed("Run", "-1"), "Run is '-1', expected a whole number, 0 or more"),
        (changed("Event", "1.5"), "Event is '1.5', expected a whole number, 0 or more"),
        (changed("Q2", "0"), "Q2 is '0', expected 1 or -1"),
        (changed("pt1", "-1"), "pt1 is -1, expected 0 to 1e+06"),
        (changed("pt2", "1e999"), "pt2 is inf, expected 0 to 1e+06"),
        (changed("eta2", "21"), "eta2 is 21, expected -20 to 20"),
        (changed("phi1", "1e99"), "phi1 is 1e+99, expected -500000 to 500000"),
        (changed("phi1", "x" * 99), f"phi1 is '{'x' * 57}...', expected a number"),
        (changed("iso1", "\0"), r"iso1 is '\x00', expected a number"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, expected: str) -> None:
    path = written(tmp_path / "a.csv", GOOD, GOOD, line, GOOD)
    assert str(refusal(path)).startswith(f"{path}:4: {expected}")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f"{HEADER}\n".encode() + GOOD.encode().replace(b"54", b"\xff\xfe"))
    assert str(refusal(str(path))).startswith(f"{path}:2: pt1 is ")


@pytest.mark.parametrize("header", ["", GOOD, HEADER.replace("Run,", ""), HEADER + ",x"])
def test_another_header_is_refused(tmp_path: Path, header: str) -> None:
    path = written(tmp_path / "a.csv", GOOD, header=header)
    assert str(refusal(path)).startswith(f"{path}:1: the header is '{header[:57]}")


def test_a_file_without_events_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv")
    assert str(refusal(path)) == f"{path}:2: the file ends here, expected at least one event"
    empty = tmp_path / "b.csv"
    empty.touch()
    assert str(refusal(str(empty))).startswith(f"{empty}:1: the header is ''")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "none.csv")
    assert str(refusal(path)) == f"{path}: cannot be read: No such file or directory"
    assert str(refusal(str(tmp_path))) == f"{tmp_path}: cannot be read: Is a directory"


def test_skipped_rows_are_not_read_but_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "broken", changed("Run", "5"), "broken too")
    events = read(path, 1)
    assert next(events).run == 5
    with pytest.raises(InputError, match=":4: 1 values, expected 14"):
        next(events)


@given(
    st.tuples(
        st.floats(0, 1e6), st.floats(-20, 20), st.floats(-4, 4),
        st.floats(0, 1e6), st.floats(-20, 20), st.floats(-4, 4),
    )
)  # fmt: skip
def test_every_measurable_event_has_a_mass(values: tuple[float, ...]) -> None:
    assert Event(1, *values).mass() >= 0.0
