"""The plot, and the fit of the resonance in it."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from wmtwisted.errors import InputError
from wmtwisted.workloads.dimuon import fit as fitting
from wmtwisted.workloads.dimuon.fit import fit_resonance
from wmtwisted.workloads.dimuon.histogram import EDGES, Histogram, merge
from wmtwisted.workloads.dimuon.merge import draw

edges = np.array(EDGES, dtype=np.float64)


def spectrum(mass: float, events: float = 10_000.0, seed: int = 1) -> fitting.Array:
    """Poisson counts around a known resonance."""
    expected = fitting._expected(np.array([events, mass, 1.1, events / 200, -0.05]), edges)
    return np.random.default_rng(seed).poisson(expected).astype(np.float64)


def histogram(counts: fitting.Array) -> Histogram:
    made_of = frozenset([1]), frozenset(["a"]), frozenset(["/store/a"])
    return Histogram(tuple(int(count) for count in counts), 3, 4, *made_of)


@pytest.mark.parametrize("mass", [90.0, 91.19, 92.4])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_fit_finds_what_was_put_in(mass: float, seed: int) -> None:
    found = fit_resonance(edges, spectrum(mass, seed=seed))
    assert found is not None
    assert abs(found.mass - mass) < 4 * found.mass_error < 0.2
    assert abs(found.resolution - 1.1) < 4 * found.resolution_error < 0.4
    assert found.chi2 < 3 * found.freedom == 3 * 17
    assert len(found.edges) == len(found.expected) + 1 == 23
    assert len(found.masses) == len(found.curve) == len(found.background)


def test_the_errors_are_those_of_repeated_measurements() -> None:
    fits = [fit_resonance(edges, spectrum(91.0, seed=seed)) for seed in range(40)]
    pulls = np.array([(fit.mass - 91.0) / fit.mass_error for fit in fits if fit is not None])
    assert len(pulls) == 40
    assert abs(pulls.mean()) < 0.6
    assert 0.65 < pulls.std() < 1.4


@pytest.mark.parametrize(
    "counts",
    [
        np.zeros(60),
        np.eye(60)[31] * 5,
        np.linspace(400, 0, 60),
        np.full(60, 1e9),
        np.eye(60)[22] * 1e4,
    ],
    ids=["empty", "few", "falling", "flat", "one bin at the edge"],
)
def test_spectra_without_a_resonance_are_drawn_too(tmp_path: Path, counts: fitting.Array) -> None:
    draw(histogram(counts), str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert fit_resonance(edges, counts) is None


def test_the_plot_is_a_whole_picture(tmp_path: Path) -> None:
    draw(histogram(spectrum(91.2)), str(tmp_path / "spectrum.png"))
    data = (tmp_path / "spectrum.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data.endswith(b"IEND\xaeB`\x82")
    assert struct.unpack(">II", data[16:24]) == (1200, 1050)
    assert [path.name for path in tmp_path.iterdir()] == ["spectrum.png"]


def test_the_same_spectrum_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw(histogram(spectrum(91.2)), str(tmp_path / name))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_without_matplotlib_one_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "wmtwisted.workloads.dimuon.plot", raising=False)
    with pytest.raises(InputError, match="needs matplotlib, which cannot be imported") as caught:
        draw(merge([]), str(tmp_path / "spectrum.png"))
    assert caught.value.hint == "pip install 'wmtwisted[demo]'"
    assert not list(tmp_path.iterdir())
