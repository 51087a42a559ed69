"""The spectrum as a picture: points with errors, the fitted resonance, and how well it fits."""

from __future__ import annotations

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import AutoMinorLocator, StrMethodFormatter

from wmtwisted.workloads.dimuon.fit import Array, Fit, fit_resonance
from wmtwisted.workloads.dimuon.histogram import EDGES, HIGH, LOW, Histogram

_INK, _FILL, _CURVE, _UNDER, _QUIET = "#14181f", "#dbe6f5", "#c8102e", "#1f4e8c", "#5b6470"


def save_plot(total: Histogram, path: str) -> None:
    """Draw the spectrum into the PNG file `path`."""
    edges = np.array(EDGES, dtype=np.float64)
    counts = np.array(total.counts, dtype=np.float64)
    fit = fit_resonance(edges, counts)
    with rc_context(
        {
            "font.size": 11,
            "axes.linewidth": 1.1,
            "axes.edgecolor": _INK,
            "xtick.direction": "in",
            "ytick.direction": "in",
        }
    ):
        # No pyplot: it would look for a screen, and keep the figure.
        figure = Figure(figsize=(8.0, 7.0), dpi=150, facecolor="white")
        FigureCanvasAgg(figure)
        # Room for the label beside long numbers.
        left = 0.115 + 0.02 * (float(np.max(counts)) >= 75_000)
        width = 0.965 - left
        main = figure.add_axes((left, 0.3 if fit else 0.09, width, 0.635 if fit else 0.845))
        _draw_counts(main, edges, counts)
        if fit is not None:
            _draw_fit(main, fit)
            lower = figure.add_axes((left, 0.09, width, 0.19), sharex=main)
            _draw_pulls(lower, edges, counts, fit)
            main.tick_params(labelbottom=False)
        _label(main, total, fit)
        figure.axes[-1].set_xlabel(r"$m_{\mu\mu}$  [GeV]", fontsize=14, loc="right")
        figure.savefig(path, format="png", metadata={"Title": "Dimuon mass spectrum"})


def _draw_counts(axes: Axes, edges: Array, counts: Array) -> None:
    """The counts as points with statistical errors, on a pale histogram."""
    axes.stairs(counts, edges, fill=True, color=_FILL, zorder=1)
    seen = counts > 0
    # Gehrels' intervals: those of a Poisson count, also where it is small.
    errors = np.array([np.sqrt(np.maximum(counts - 0.25, 0.0)), np.sqrt(counts + 0.75) + 1.0])
    errors[:, counts > 50] = np.sqrt(counts[counts > 50])
    centres = (edges[1:] + edges[:-1]) / 2
    axes.errorbar(
        centres[seen],
        counts[seen],
        yerr=errors[:, seen],
        fmt="o",
        color=_INK,
        markersize=4.2,
        elinewidth=1.1,
        zorder=4,
        label="Events, statistical errors",
    )
    axes.set_xlim(LOW, HIGH)
    axes.set_ylim(0, max(1.0, float(np.max(counts + errors[1]))) * 1.25)
    axes.set_ylabel("Events / GeV", fontsize=14, loc="top")
    _ticks(axes)


def _draw_fit(axes: Axes, fit: Fit) -> None:
    """The fitted curve, and what lies under the peak."""
    label = r"Fit: Breit$-$Wigner $\otimes$ resolution + background"
    axes.plot(fit.masses, fit.curve, color=_CURVE, linewidth=2.0, zorder=3, label=label)
    under = axes.plot(fit.masses, fit.background, color=_UNDER, linewidth=1.5, zorder=2)
    under[0].set(linestyle=(0, (5, 2)), label="Background of the fit")


def _draw_pulls(axes: Axes, edges: Array, counts: Array, fit: Fit) -> None:
    """How far the points are from the curve, in units of their errors."""
    inside = (edges[:-1] >= fit.edges[0]) & (edges[1:] <= fit.edges[-1])
    pulls = (counts[inside] - fit.expected) / np.sqrt(np.maximum(counts[inside], 1.0))
    reach = max(3.5, float(np.max(np.abs(pulls))) * 1.15)
    axes.axhspan(-1, 1, color=_FILL, zorder=0)
    axes.axhline(0, color=_CURVE, linewidth=1.2, zorder=1)
    centres = (fit.edges[1:] + fit.edges[:-1]) / 2
    axes.errorbar(centres, pulls, yerr=1.0, fmt="o", color=_INK, markersize=4.0, elinewidth=1.1)
    for edge in (fit.edges[0], fit.edges[-1]):
        axes.axvline(edge, color=_QUIET, linewidth=0.9, linestyle=":")
    axes.set_ylim(-reach, reach)
    axes.set_ylabel("Pull", fontsize=14)
    _ticks(axes)


def _label(axes: Axes, total: Histogram, fit: Fit | None) -> None:
    """What is shown, how much of it, and what the fit says."""
    axes.set_title(r"$\mathbf{Dimuon\ mass\ spectrum}$", loc="left", fontsize=14)
    source = f"{_many(total.events, 'event')} of {_many(len(total.runs), 'run')}"
    axes.set_title(source, loc="right", fontsize=12, color=_QUIET)
    handles, labels = axes.get_legend_handles_labels()
    # The points first, as they come last for being on top.
    axes.legend(
        *(handles[-1:] + handles[:-1], labels[-1:] + labels[:-1]),
        loc="upper left",
        frameon=False,
        fontsize=11,
        borderaxespad=0.9,
    )
    lines = [
        r"$pp \rightarrow Z/\gamma^{*} \rightarrow \mu^{+}\mu^{-}$",
        f"{_many(len(total.jobs), 'job')}, {_many(len(total.files), 'file')}",
        f"below {LOW} GeV: {total.underflow:,}",
        f"above {HIGH} GeV: {total.overflow:,}",
    ]
    if fit is not None:
        lines += [
            "",
            rf"$m = {fit.mass:.3f} \pm {fit.mass_error:.3f}$ GeV",
            rf"$\sigma = {fit.resolution:.3f} \pm {fit.resolution_error:.3f}$ GeV",
            rf"$\chi^{{2}}/\mathrm{{ndf}} = {fit.chi2:.1f}/{fit.freedom}$",
        ]
    axes.text(
        *(0.97, 0.955),
        "\n".join(lines),
        transform=axes.transAxes,
        ha="right",
        va="top",
        fontsize=11.5,
        linespacing=1.55,
        color=_INK,
    )


def _ticks(axes: Axes) -> None:
    """Ticks on all sides, small ones between them."""
    axes.xaxis.set_minor_locator(AutoMinorLocator(5))
    axes.yaxis.set_minor_locator(AutoMinorLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.tick_params(which="major", length=7, top=True, right=True)
    axes.tick_params(which="minor", length=3.5, top=True, right=True)


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
