"""`wm demo` while everything of it is killed, one after the other: the spectrum is the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from wmtwisted.cli.instance import InstanceLock
from wmtwisted.cli.read import job_store
from wmtwisted.config import load
from wmtwisted.errors import WMError
from wmtwisted.wmbs.records import Job
from wmtwisted.wmbs.states import TRANSITIONS, JobState, WorkflowState
from wmtwisted.workloads.dimuon.events import HEADER, read
from wmtwisted.workloads.dimuon.generate import simulate
from wmtwisted.workloads.dimuon.histogram import fill

DEADLINE = 100.0
JOBS = 24
COMPONENTS = (
    "JobCreator",
    "JobSubmitter",
    "JobTracker",
    "ErrorHandler",
    "DBS",
    "Phedex",
    "JobCleanup",
)


def until(condition: Callable[[], Any], what: str, process: subprocess.Popen[str]) -> Any:
    """The first true value of `condition`, as long as the demo runs."""
    end = time.monotonic() + DEADLINE
    pause = threading.Event()
    while time.monotonic() < end:
        if value := condition():
            return value
        if process.poll() is not None:
            raise AssertionError(f"ended before {what}: {process.communicate()}")
        pause.wait(0.01)
    raise AssertionError(f"not in time: {what}")


def child(demo: int, name: str) -> int:
    """The pid of one of the demo's processes, the broker or a component; 0 when it is not there."""
    mark = b"wmbroker" if name == "broker" else f"--component\0{name}\0".encode()
    for path in Path(f"/proc/{demo}/task").glob("*/children"):
        for pid in path.read_text().split():
            try:
                if mark in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return int(pid)
            except OSError:
                continue
    return 0


def payload(home: Path) -> int:
    """The pid of a job's command that runs now, or 0."""
    prefix = f"WM_BATCH_JOB={home}/".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if any(row.startswith(prefix) for row in path.read_bytes().split(b"\0")):
                return int(path.parent.name)
        except OSError:
            continue
    return 0


def jobs(home: Path) -> list[Job]:
    try:
        with job_store(load(home / "wm.toml", {})) as store:
            return store.jobs(limit=1000)
    except WMError:
        return []


def steps(home: Path) -> int:
    """How much has been done so far."""
    order = [
        JobState.NEW,
        JobState.CREATED,
        JobState.EXECUTING,
        JobState.SUCCESS,
        JobState.CLEANOUT,
    ]
    return sum(
        10 * job.attempt + (order.index(job.state) if job.state in order else 0)
        for job in jobs(home)
    )


def kill(process: subprocess.Popen[str], home: Path, name: str) -> None:
    """Kills one process of the demo, and waits until work goes on: the next dies in its midst."""

    def killed() -> bool:
        pid = payload(home) if name == "job" else child(process.pid, name)
        with suppress(ProcessLookupError):
            if pid:
                os.kill(pid, signal.SIGKILL)
                return True
        return False  # not there, or it has just ended

    before = steps(home)
    until(killed, name, process)
    until(lambda: steps(home) > before, f"progress after {name}", process)


def test_everything_is_killed_once(tmp_path: Path) -> None:
    events = tmp_path / "recorded.csv"
    lines = [HEADER, *(line.rstrip("\n") for line in simulate(7, 1, 1000))]
    events.write_text("\n".join(lines) + "\n")
    expected = fill(read(str(events)), "all", [str(events)])
    home = tmp_path / "var" / "demo"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "wmtwisted.cli.main", "demo", "--input", str(events)),
            *("--jobs", str(JOBS), "--workers", "2", "--fail-rate", "0.2"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        until(lambda: steps(home) > 0, "jobs", process)
        for name in ("broker", *COMPONENTS, "job", "job"):
            kill(process, home, name)
        out, _ = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, out
    for name in ("broker", *COMPONENTS):
        assert f"{name} (pid" in out
    spectrum = json.loads((tmp_path / "out" / "spectrum.json").read_text())
    assert (spectrum["events"], spectrum["counts"]) == (1000, list(expected.counts))
    assert (spectrum["underflow"], spectrum["overflow"]) == (expected.underflow, expected.overflow)
    with job_store(load(home / "wm.toml", {})) as store:
        (workflow,) = store.workflows()
        assert workflow.state is WorkflowState.DONE
        found = store.jobs(limit=1000)
        assert len(found) == JOBS + 1
        for job in found:
            assert (job.state, job.outcome) == (JobState.CLEANOUT, JobState.SUCCESS)
            changes = store.history(job.id)
            submitted = [change.attempt for change in changes if change.new is JobState.EXECUTING]
            assert submitted == list(range(1, job.attempt + 1))
            for old, new in pairwise(changes):
                assert new.new in TRANSITIONS[old.new]
    assert not list((home / "var" / "sandbox").glob("*/*"))
    InstanceLock(home, 0.0).release()
