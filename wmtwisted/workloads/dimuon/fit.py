"""The resonance in a spectrum: a Breit-Wigner shape seen with a resolution, on a background."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.polynomial.hermite import hermgauss
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: The Z's natural width in GeV (Particle Data Group); the resolution is what is fitted.
WIDTH = 2.4952
#: GeV around the peak: further out, selection and radiation shape what is seen.
WINDOW = (80.0, 102.0)
#: With fewer events than this in the window there is nothing to fit.
ENOUGH = 300

_NODES, _WEIGHTS = hermgauss(31)


class Fit(NamedTuple):
    """The fitted resonance, with standard errors."""

    #: GeV.
    mass: float
    mass_error: float
    resolution: float
    resolution_error: float
    chi2: float
    freedom: int
    #: The window's edges, and the expected counts between them.
    edges: Array
    expected: Array
    #: For drawing: masses in fine steps, and events per GeV of all and of what is under the peak.
    masses: Array
    curve: Array
    background: Array


def fit_resonance(edges: Array, counts: Array) -> Fit | None:
    """The least-squares fit within the window, or None when there is no resonance to be seen.

    `edges` in GeV are one more than `counts`.
    """
    inside = (edges[:-1] >= WINDOW[0]) & (edges[1:] <= WINDOW[1])
    counts = counts[inside]
    if counts.sum() < ENOUGH:
        return None
    edges = np.append(edges[:-1][inside], edges[1:][inside][-1])
    level = max(float(np.percentile(counts, 10)), 1.0)
    peak = edges[int(np.argmax(counts))] + 0.5
    start = np.array([max(counts.sum() - level * len(counts), 1.0), peak, 1.2, level, 0.0])
    found = _least_squares(edges, counts, start)
    if found is None:
        return None
    best, errors, chi2 = found
    if not _is_resonance(best, errors, edges):
        return None
    masses = np.linspace(edges[0], edges[-1], 401)
    per_gev = (len(masses) - 1) / (edges[-1] - edges[0])
    background = best.copy()
    background[0] = 0.0
    return Fit(
        mass=float(best[1]),
        mass_error=float(errors[1]),
        resolution=abs(float(best[2])),
        resolution_error=float(errors[2]),
        chi2=chi2,
        freedom=len(counts) - len(best),
        edges=edges,
        expected=_expected(best, edges),
        masses=(masses[1:] + masses[:-1]) / 2,
        curve=_expected(best, masses) * per_gev,
        background=_expected(background, masses) * per_gev,
    )


def _expected(parameters: Array, edges: Array) -> Array:
    """Counts between `edges`; parameters: events in the peak, mass, resolution, level, slope.

    The Breit-Wigner shape is integrated exactly over each bin and averaged over the resolution.
    """
    events, mass, resolution, level, slope = parameters
    shifted = edges[:, None] - mass - np.sqrt(2.0) * resolution * _NODES[None, :]
    below = np.arctan(2.0 * shifted / WIDTH) @ _WEIGHTS / np.pi**1.5
    centres, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    under = level * np.exp(np.clip(slope * (centres - 91.0), -50.0, 50.0)) * widths
    return np.asarray(events * np.diff(below) + under, dtype=np.float64)


def _least_squares(
    edges: Array, counts: Array, parameters: Array
) -> tuple[Array, Array, float] | None:
    """The best parameters, their errors, and chi2, by Levenberg and Marquardt; None if it fails."""
    sigma = np.sqrt(np.maximum(counts, 1.0))

    def pulls(values: Array) -> Array:
        return np.asarray((counts - _expected(values, edges)) / sigma, dtype=np.float64)

    damping, now = 1e-3, pulls(parameters)
    for _ in range(200):
        steps = np.maximum(np.abs(parameters), 1e-2) * 1e-5
        jacobian = np.stack(
            [(pulls(parameters + step) - now) / step.sum() for step in np.diag(steps)], axis=1
        )
        normal = jacobian.T @ jacobian
        try:
            move = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -jacobian.T @ now)
            covariance = np.linalg.inv(normal)
        except np.linalg.LinAlgError:
            return None
        then = pulls(parameters + move)
        gain = float(now @ now - then @ then)
        if not np.isfinite(gain) or gain < 0:
            damping *= 10.0
            if damping > 1e12:
                break
            continue
        parameters, now, damping = parameters + move, then, damping / 10.0
        if gain < 1e-6:
            break
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    return parameters, errors, float(now @ now)


def _is_resonance(best: Array, errors: Array, edges: Array) -> bool:
    """Whether the fit is of a narrow peak within the window that stands out from the rest."""
    return bool(
        np.isfinite(errors).all()
        and best[0] > 5 * errors[0]
        and edges[0] < best[1] < edges[-1]
        and errors[1] < 1.0
        and abs(best[2]) < 5.0
    )
