"""`python -m benchmarks [WORKLOAD ...]`: runs them several times and prints one table."""

from __future__ import annotations

import argparse
import os
import statistics

from benchmarks.bench import broker
from benchmarks.workloads import WORKLOADS, Figures


def main() -> None:
    """Runs the workloads that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=", ".join(WORKLOADS))
    parser.add_argument("--runs", type=int, default=3, help="of each; the median counts")
    parser.add_argument("--store", default="", help="a database URL instead of a fresh SQLite file")
    given = parser.parse_args()
    unknown = set(given.workloads) - set(WORKLOADS)
    if unknown:
        parser.error(f"no workload {sorted(unknown)}: expected {', '.join(WORKLOADS)}")
    print(f"{'':8} {'':18} {'median':>12} {'least':>12} {'most':>12}   runs {given.runs}")
    for name in given.workloads or WORKLOADS:
        runs: list[Figures] = []
        for _ in range(given.runs):
            with broker(given.store) as running:
                runs.append(WORKLOADS[name](running))
        for figure in runs[0]:
            values = [run[figure] for run in runs]
            row = (statistics.median(values), min(values), max(values))
            print(f"{name:8} {figure:18} " + " ".join(f"{value:12,.1f}" for value in row))
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
