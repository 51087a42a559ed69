"""Simulated events: a Z resonance on a falling continuum, decayed to two muons and measured.

Only `Random.random()` is used of the generator, whose sequence Python promises to keep, so the
same seed gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from math import asinh, atan, atan2, copysign, cos, hypot, log, pi, sin, sqrt, tan
from random import Random

from wmtwisted.errors import InputError
from wmtwisted.workloads.dimuon.events import HEADER
from wmtwisted.workloads.dimuon.job import Job, Output, declared, save

#: Mass and width of the Z in GeV (Particle Data Group), and the range of masses simulated.
Z_MASS, Z_WIDTH = 91.1876, 2.4952
LOW, HIGH = 50.0, 140.0
#: The share of the resonance; the rest falls as the third power of the mass.
Z_SHARE = 0.82
#: Scale of the pair's transverse momentum (GeV), and the largest rapidity.
PT_SCALE, MAX_RAPIDITY = 12.0, 2.6
#: What the detector sees.
MIN_PT, MAX_ETA = 10.0, 2.4
#: Relative resolution of a transverse momentum: constant, and growing with it (1/GeV).
RESOLUTION, RESOLUTION_SLOPE = 0.011, 8e-5
#: The beam's distance from the detector's axis and its direction: it modulates dxy (cm, radians).
BEAM, BEAM_PHI, DXY_NOISE = 0.085, 1.2, 0.004
#: The share of muons with nothing around them, and the mean activity around others (GeV).
ISOLATED, ACTIVITY = 0.67, 3.0
#: Simulated runs are so long.
EVENTS_PER_RUN = 10_000

#: A source of numbers in [0, 1).
Uniform = Callable[[], float]

_ANGLE_LOW = atan((LOW - Z_MASS) * 2.0 / Z_WIDTH)
_ANGLE_SPAN = atan((HIGH - Z_MASS) * 2.0 / Z_WIDTH) - _ANGLE_LOW
_FALL_LOW = LOW**-2.0
_FALL_SPAN = LOW**-2.0 - HIGH**-2.0
_LINE = "%d,%d,%.6g,%.6g,%.6g,%d,%.6g,%.6g,%.6g,%.6g,%.6g,%d,%.6g,%.6g\n"


def generate(job: Job) -> list[Output]:
    """Write the job's events as CSV; raises InputError when it is not told how many."""
    if job.first_event is None or job.events is None or job.first_event < 0 or job.events < 1:
        raise InputError(
            f"job {job.name}: {job.events} events from number {job.first_event}: "
            "expected 1 or more, from 0 or more"
        )
    first, count = job.first_event, job.events
    name = declared(job, ".csv")

    def write(draft: str) -> None:
        with open(draft, "w", encoding="ascii", newline="\n") as file:
            file.write(HEADER + "\n")
            file.writelines(simulate(job.seed, first, count))

    save(name, write)
    runs = range(run_of(first), run_of(first + count - 1) + 1)
    return [Output(name, count, tuple(runs))]


def run_of(event: int) -> int:
    """The run of a simulated event: 1 for the events 1 to `EVENTS_PER_RUN`, and so on."""
    return 1 + max(event - 1, 0) // EVENTS_PER_RUN


def simulate(seed: int, first: int, count: int) -> Iterator[str]:
    """`count` lines of CSV, their events numbered from `first`; the same for the same arguments."""
    muons = _accepted(Random(f"{seed}/{first}").random)  # noqa: S311 (physics, no secrets)
    for number, pair in enumerate(islice(muons, count), start=first):
        yield _LINE % (run_of(number), number, *pair)


def _accepted(uniform: Uniform) -> Iterator[tuple[float, ...]]:
    """Pairs of measured muons within the detector: pt, eta, phi, Q, dxy, iso of each."""
    while True:
        # The pair: its mass, transverse momentum and rapidity.
        if uniform() < Z_SHARE:
            mass = Z_MASS + 0.5 * Z_WIDTH * tan(_ANGLE_LOW + _ANGLE_SPAN * uniform())
        else:
            mass = (_FALL_LOW - _FALL_SPAN * uniform()) ** -0.5
        # 1 - uniform() is never 0.
        pair_pt = PT_SCALE * sqrt((1.0 - uniform()) ** (-2.0 / 3.0) - 1.0)
        rapidity = MAX_RAPIDITY * (uniform() + uniform() - 1.0)
        # The decay in the pair's rest frame: 1 + cos^2, as three parts flat and one part square.
        draw = uniform()
        if draw < 0.75:
            cosine = draw / 0.375 - 1.0
        else:
            cube = (draw - 0.75) / 0.125 - 1.0
            cosine = copysign(abs(cube) ** (1.0 / 3.0), cube)
        angle = 2.0 * pi * uniform()
        half = 0.5 * mass
        across = half * sqrt(max(0.0, 1.0 - cosine * cosine))
        along, aside, ahead = across * cos(angle), across * sin(angle), half * cosine
        # Boosted sideways by the pair's transverse momentum; the boost along the beam only adds
        # to the rapidities.
        boost = pair_pt / mass
        gamma = sqrt(1.0 + boost * boost)
        x1, x2 = boost * half + gamma * along, boost * half - gamma * along
        pt1, pt2 = hypot(x1, aside), hypot(x2, aside)
        if pt1 < MIN_PT or pt2 < MIN_PT:
            continue
        eta1, eta2 = rapidity + asinh(ahead / pt1), rapidity - asinh(ahead / pt2)
        if not (-MAX_ETA < eta1 < MAX_ETA and -MAX_ETA < eta2 < MAX_ETA):
            continue
        turn = 2.0 * pi * uniform()
        phi1, phi2 = _azimuth(turn + atan2(aside, x1)), _azimuth(turn + atan2(-aside, x2))
        # The measurement.
        smear1, smear2 = _normal_pair(uniform)
        pt1 *= max(0.5, 1.0 + (RESOLUTION + RESOLUTION_SLOPE * pt1) * smear1)
        pt2 *= max(0.5, 1.0 + (RESOLUTION + RESOLUTION_SLOPE * pt2) * smear2)
        noise1, noise2 = _normal_pair(uniform)
        dxy1 = BEAM * sin(phi1 - BEAM_PHI) + DXY_NOISE * noise1
        dxy2 = BEAM * sin(phi2 - BEAM_PHI) + DXY_NOISE * noise2
        charge = 1 if uniform() < 0.5 else -1
        iso1, iso2 = _activity(uniform), _activity(uniform)
        yield pt1, eta1, phi1, charge, dxy1, iso1, pt2, eta2, phi2, -charge, dxy2, iso2


def _azimuth(angle: float) -> float:
    """An angle in (-pi, 3 pi] as one in (-pi, pi]."""
    return angle - 2.0 * pi if angle > pi else angle


def _normal_pair(uniform: Uniform) -> tuple[float, float]:
    """Two independent draws of a normal distribution (Box and Muller)."""
    radius = sqrt(-2.0 * log(1.0 - uniform()))
    angle = 2.0 * pi * uniform()
    return radius * cos(angle), radius * sin(angle)


def _activity(uniform: Uniform) -> float:
    """The transverse momentum around a muon in GeV: mostly none."""
    draw = uniform()
    return 0.0 if draw < ISOLATED else -ACTIVITY * log((1.0 - draw) / (1.0 - ISOLATED))
