"""`wm demo` as a process, from an empty folder to the spectrum."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wm import csv
from wmtwisted.cli.instance import InstanceLock
from wmtwisted.cli.read import job_store
from wmtwisted.config import load

WM = (sys.executable, "-m", "wmtwisted.cli.main")


def demo(folder: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*WM, "demo", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def nothing_runs(folder: Path, patience: float = 0.0) -> None:
    """Whatever was started holds the instance's lock."""
    InstanceLock(folder / "var" / "demo", patience).release()


def test_generated_events(tmp_path: Path) -> None:
    process = demo(tmp_path, "--events", "400", "--jobs", "2", "--output", "here")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert err == ""
    spectrum = json.loads((tmp_path / "here" / "spectrum.json").read_text())
    assert spectrum["events"] == 400
    assert len(spectrum["edges"]) == 61
    assert (tmp_path / "here" / "spectrum.png").read_bytes().startswith(b"\x89PNG")
    assert "\ndimuon done\n" in out
    assert "5: 5 succeeded, 0 failed (5 cleanout)" in out
    assert "here/spectrum.json, here/spectrum.png" in out
    nothing_runs(tmp_path)


@pytest.mark.parametrize("splitting", ["run", "event"])
def test_recorded_events_with_failures(tmp_path: Path, splitting: str) -> None:
    recorded = csv(tmp_path / "few.csv", [1] * 20 + [2] * 15 + [3] * 5)
    process = demo(
        tmp_path, "--input", recorded, "--jobs", "3", "--splitting", splitting,
        "--fail-rate", "0.3", "--workers", "2",
    )  # fmt: skip
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    spectrum = json.loads((tmp_path / "out" / "spectrum.json").read_text())
    assert (spectrum["events"], sum(spectrum["counts"])) == (40, 40)
    with job_store(load(tmp_path / "var" / "demo" / "wm.toml")) as store:
        assert {job.task for job in store.jobs()} == {"select", "merge"}
    nothing_runs(tmp_path)


def test_an_interrupt_stops_everything(tmp_path: Path) -> None:
    process = demo(tmp_path, "--events", "100000", "--jobs", "50", "--workers", "1")
    assert process.stdout is not None
    for line in process.stdout:
        if " generate " in line:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    nothing_runs(tmp_path)
    assert not list((tmp_path / "out").iterdir())


def test_a_killed_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    process = demo(tmp_path, "--events", "100000", "--jobs", "50", "--workers", "1")
    assert process.stdout is not None
    for line in process.stdout:
        if " generate " in line:
            break
    process.kill()
    process.communicate()
    nothing_runs(tmp_path, patience=30)
