"""Histograms, and selections: whatever the splitting, every event is counted once."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmtwisted.errors import InputError
from wmtwisted.workloads.dimuon.events import HEADER, Event, read
from wmtwisted.workloads.dimuon.generate import simulate
from wmtwisted.workloads.dimuon.histogram import EDGES, Histogram, fill, merge, read_histogram
from wmtwisted.workloads.dimuon.job import Input, Job
from wmtwisted.workloads.dimuon.merge import merge_all, spectrum
from wmtwisted.workloads.dimuon.select import chosen, select

EVENTS = 300


def at(mass: float, run: int = 1) -> Event:
    """An event of exactly this mass."""
    half = mass / 2
    return Event(run, half, 0.0, 0.0, half, 0.0, 3.141592653589793)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> str:
    """300 events of 3 runs, whose rows are mixed."""
    path = tmp_path_factory.mktemp("sample") / "events.csv"
    lines = [line.split(",", 1)[1] for line in simulate(1, 1, EVENTS)]
    path.write_text(
        HEADER + "\n" + "".join(f"{i * 7 % 3 + 1},{rest}" for i, rest in enumerate(lines))
    )
    return str(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def job(name: str, *inputs: Input, outputs: tuple[str, ...] = ("histogram.json",)) -> Job:
    return Job(name, 1, 1, None, None, inputs, outputs, {})


def part(
    path: str, runs: set[int] | None = None, first: int = 0, events: int | None = None
) -> Input:
    return Input(f"/store{path}", path, None if runs is None else frozenset(runs), first, events)


def test_a_mass_on_an_edge_is_in_the_bin_above() -> None:
    masses = (59.999, 60.0, 60.999, 61.0, 119.999, 120.0, 0.0, 500.0)
    histogram = fill(map(at, masses), "a", ["/store/x"])
    assert (histogram.underflow, histogram.overflow) == (2, 2)
    assert histogram.counts[:2] == (2, 1)
    assert histogram.counts[-1] == 1
    assert histogram.events == len(masses)


def test_edges_are_61_from_60_to_120() -> None:
    assert (len(EDGES), EDGES[0], EDGES[-1]) == (61, 60, 120)
    assert set(pairwise(EDGES)) == {(edge, edge + 1) for edge in range(60, 120)}


@given(st.lists(st.tuples(st.floats(0, 200), st.integers(1, 5))), st.lists(st.integers(0, 3)))
def test_parts_add_up_to_the_whole_in_any_order(
    masses: list[tuple[float, int]], places: list[int]
) -> None:
    events = [at(mass, run) for mass, run in masses]
    shares: list[list[Event]] = [[], [], [], []]
    for number, event in enumerate(events):
        shares[places[number % len(places)] if places else 0].append(event)
    parts = [fill(share, f"job-{n}", [f"/store/{n}"]) for n, share in enumerate(shares)]
    whole = fill(events, "job", [])
    for order in (parts, parts[::-1]):
        total = merge(order)
        assert total[:4] == whole[:4]
        assert (len(total.jobs), len(total.files)) == (4, 4)
    assert merge([merge(parts[:2]), merge(parts[2:])]) == merge(parts)


def test_a_job_cannot_count_twice() -> None:
    once = fill([at(91.0)], "job-7", [])
    with pytest.raises(InputError, match="job job-7 is in two of the histograms"):
        merge([once, fill([], "job-8", []), once])


@given(cuts=st.sets(st.integers(1, EVENTS - 1)), by_run=st.booleans())
def test_whatever_the_splitting_the_sum_is_the_same(
    sample: str, cuts: set[int], by_run: bool
) -> None:
    whole = fill(read(sample), "all", [])
    bounds = [0, *sorted(cuts), EVENTS]
    inputs = [
        part(sample, runs, first, end - first)
        for first, end in pairwise(bounds)
        for runs in ([{1}, {2, 3}] if by_run else [None])
    ]
    parts = [fill(chosen(each), f"job-{n}", [sample]) for n, each in enumerate(inputs)]
    assert merge(parts)[:4] == whole[:4]


def test_a_selection_reports_what_it_counted(sample: str, folder: Path) -> None:
    [output] = select(job("select-1", part(sample, {2}), part(sample, {3}, first=150)))
    found = read_histogram("histogram.json")
    assert output == ("histogram.json", found.events, (2, 3))
    assert found.events == 150
    assert (set(found.jobs), set(found.files)) == ({"select-1"}, {f"/store{sample}"})
    assert [path.name for path in folder.iterdir()] == ["histogram.json"]


def test_a_file_that_is_too_short_is_refused(sample: str, folder: Path) -> None:
    with pytest.raises(InputError, match=":302: the file ends here, expected 301 events"):
        select(job("select-1", part(sample, first=100, events=201)))
    assert not list(folder.iterdir())


@pytest.mark.parametrize("work", [select, merge_all])
def test_a_job_without_inputs_is_refused(work: Any) -> None:
    with pytest.raises(InputError, match="job x has no inputs"):
        work(job("x"))


def saved(folder: Path, name: str, value: object) -> Input:
    (folder / name).write_text(json.dumps(value))
    return part(str(folder / name))


def test_merging_writes_the_spectrum(folder: Path) -> None:
    parts = [
        fill([at(91.0, 1), at(91.5, 2), at(50.0, 2)], "a", ["/store/1", "/store/2"]),
        fill([at(91.2, 7), at(130.0, 7)], "b", ["/store/2"]),
    ]
    inputs = [saved(folder, f"{n}.json", each.to_dict()) for n, each in enumerate(parts)]
    outputs = merge_all(job("merge", *inputs, outputs=("spectrum.json",)))
    assert outputs == [("spectrum.json", 5, (1, 2, 7))]
    value = json.loads((folder / "spectrum.json").read_text())
    assert value == spectrum(merge(parts))
    assert (value["events"], value["underflow"], value["overflow"]) == (5, 1, 1)
    assert (value["runs"], value["jobs"], value["files"]) == (3, 2, 2)
    assert value["run_numbers"] == [1, 2, 7]
    assert value["edges"] == list(range(60, 121))
    assert value["counts"] == [0] * 31 + [3] + [0] * 28


def broken(**changes: object) -> dict[str, Any]:
    return fill([at(91.0)], "a", []).to_dict() | changes


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"counts": 3},
        broken(events=2),
        broken(edges=list(range(61, 122))),
        broken(counts=[1]),
        broken(counts=["x"] * 60),
        broken(jobs=None),
    ],
)
def test_what_is_no_whole_histogram_is_refused(folder: Path, value: object) -> None:
    bad = saved(folder, "bad.json", value)
    with pytest.raises(InputError, match=r"bad\.json: expected "):
        merge_all(job("merge", bad, outputs=("spectrum.json",)))
    assert [path.name for path in folder.iterdir()] == ["bad.json"]


def test_a_missing_histogram_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: cannot be read: No such file"):
        merge_all(job("merge", part("none.json"), outputs=("spectrum.json",)))


def test_an_empty_histogram_has_no_events() -> None:
    empty: Histogram = merge([])
    assert empty.events == 0
    assert empty.counts == (0,) * 60
