"""Simulated events: the same bytes from the same seed, and the physics that was put in."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from wmtwisted.errors import InputError
from wmtwisted.workloads.dimuon.events import HEADER, read, scan
from wmtwisted.workloads.dimuon.generate import EVENTS_PER_RUN, generate, simulate
from wmtwisted.workloads.dimuon.job import Job, Output

#: Of `simulate(8261, 1, 2000)`; another value means that published seeds no longer say the same.
KNOWN = "c33c0dbf82387652b6acd39684363625f811274d31c9b81b028e903436f47a50"


def job(**changes: Any) -> Job:
    plain = Job("dimuon-1-generate-1", 1, 8261, 1, 500, (), ("events.csv",), {})
    return plain._replace(**changes)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("sample") / "events.csv"
    path.write_text(HEADER + "\n" + "".join(simulate(1, 1, 20_000)))
    return str(path)


def test_a_seed_gives_known_bytes() -> None:
    assert sha256("".join(simulate(8261, 1, 2000)).encode()).hexdigest() == KNOWN


def test_a_longer_job_begins_like_a_shorter_one() -> None:
    assert list(simulate(5, 1, 30))[:10] == list(simulate(5, 1, 10))


def test_other_seeds_and_other_places_give_other_events() -> None:
    muons = {
        tuple(line.split(",")[2:])
        for seed, first in ((1, 1), (2, 1), (1, 101))
        for line in simulate(seed, first, 100)
    }
    assert len(muons) == 300


def test_events_and_runs_are_numbered() -> None:
    lines = [line.split(",")[:2] for line in simulate(1, EVENTS_PER_RUN - 1, 4)]
    assert lines == [["1", "9999"], ["1", "10000"], ["2", "10001"], ["2", "10002"]]


def test_the_file_is_whole_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = generate(job(first_event=9_901, events=250))
    assert made == [Output("events.csv", 250, (1, 2))]
    assert scan("events.csv") == (250, (1, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["events.csv"]


@pytest.mark.parametrize(
    "changes",
    [{"events": None}, {"first_event": None}, {"events": 0}, {"first_event": -1}],
)
def test_a_job_that_is_not_told_how_many_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"job dimuon-1-generate-1: .* expected 1 or more"):
        generate(job(**changes))


def test_an_output_of_another_kind_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected one that ends with \.csv"):
        generate(job(outputs=("events.root",)))


def test_there_is_a_resonance_on_a_falling_continuum(sample: str) -> None:
    counts = Counter(int(event.mass()) for event in read(sample))
    assert counts.most_common(1)[0][0] in (90, 91)
    peak = sum(counts[mass] for mass in range(86, 97))
    low = sum(counts[mass] for mass in range(60, 71))
    high = sum(counts[mass] for mass in range(109, 120))
    assert 20 * low > peak > 8 * low > 16 * high > 0


def test_muons_are_within_the_detector_and_all_around(sample: str) -> None:
    events = list(read(sample))
    assert all(abs(eta) < 2.4 for event in events for eta in (event.eta1, event.eta2))
    assert all(abs(phi) <= 3.14160 for event in events for phi in (event.phi1, event.phi2))
    # Smearing comes after the cut at 10 GeV.
    assert all(pt > 9 for event in events for pt in (event.pt1, event.pt2))
    quadrants = Counter(int((event.phi1 + 3.2) // 1.6) for event in events)
    assert all(0.23 < quadrants[quadrant] / len(events) < 0.27 for quadrant in range(4))
    forward = sum(event.eta1 > 0 for event in events) / len(events)
    assert 0.48 < forward < 0.52


def test_charges_are_opposite(sample: str) -> None:
    with open(sample) as file:
        next(file)
        charges = Counter((line.split(",")[5], line.split(",")[11]) for line in file)
    assert set(charges) == {("1", "-1"), ("-1", "1")}
