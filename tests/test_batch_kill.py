"""Jobs as local processes: kill -9 of the submitter, of the wrapper, of the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.batch_site import DEADLINE, Gate, Site, dead, until
from wmtwisted.batch import runner
from wmtwisted.batch.model import BatchState, Busy, Ending

PYTHON = sys.executable


DOOMED = """
import os, signal, subprocess, sys
from pathlib import Path
from wmtwisted.batch import local
where, root = sys.argv[1], Path(sys.argv[2])
batch = local.Local(root / "slots", 2)
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
run = subprocess.run
def start_and_die(argv, **options):
    del options["timeout"], options["check"]
    subprocess.Popen(argv, **options)
    die()
if where == "before the slot":
    batch._take_slot = die
elif where == "before the wrapper":
    local.subprocess.run = die
elif where == "while the wrapper starts":
    local.subprocess.run = start_and_die
batch.submit("1-1", ["sh", "-c", "echo ran >> runs"], root / "job")
die()
"""


@pytest.mark.parametrize(
    "where",
    ["before the slot", "before the wrapper", "while the wrapper starts", "after the wrapper"],
)
def test_a_restarted_submitter_finds_its_own_submission(site: Site, where: str) -> None:
    cwd = site.folder()
    doomed = subprocess.run([PYTHON, "-c", DOOMED, where, str(site.root)], check=False)
    assert doomed.returncode == -signal.SIGKILL
    began = where in ("while the wrapper starts", "after the wrapper")
    assert site.batch.submitted(cwd, "1-1") is began
    if began:
        assert not site.batch.submit("1-1", ["sh", "-c", "echo ran >> runs"], cwd)
    else:
        assert site.batch.free() == 2
        assert site.batch.submit("1-1", ["sh", "-c", "echo ran >> runs"], cwd)
    assert site.done(cwd).ok
    assert (cwd / "runs").read_text() == "ran\n"
    until(lambda: site.batch.free() == 2, "the slots are free")


@pytest.mark.parametrize("after", [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5])
def test_a_submitter_killed_at_any_time_loses_and_doubles_nothing(site: Site, after: float) -> None:
    cwd = site.folder()
    argv = [PYTHON, "-c", DOOMED, "by others", str(site.root)]
    doomed = subprocess.Popen(argv, start_new_session=True)
    try:
        doomed.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(doomed.pid, signal.SIGKILL)
    doomed.wait(DEADLINE)
    if not site.batch.submitted(cwd, "1-1"):
        site.batch.submit("1-1", ["sh", "-c", "echo ran >> runs"], cwd)
    assert site.done(cwd).ok
    assert (cwd / "runs").read_text() == "ran\n"


@pytest.mark.parametrize("hide", ["", "setsid"])
def test_a_killed_wrapper_takes_its_command_along(site: Site, gate: Gate, hide: str) -> None:
    cwd = site.folder()
    script = f"{hide} sleep 1000 & echo $! > child; trap '' TERM; {Gate.script}"
    site.batch.submit("1-1", ["sh", "-c", script], cwd)
    pids = [gate.arrived(), int((cwd / "child").read_text())]
    os.kill(site.wrapper(cwd), signal.SIGKILL)
    until(lambda: site.batch.free() == 2, "the slot is free")
    with pytest.raises(Busy):
        # The command is alive: nothing else may run in its folder.
        site.batch.submit("1-2", ["true"], cwd)
    site.ends(cwd, BatchState.LOST)
    assert all(dead(pid) for pid in pids)
    assert site.batch.submit("1-2", ["true"], cwd)
    assert site.done(cwd, "1-2").ok
    assert site.batch.status(cwd, "1-1").state is BatchState.LOST


def test_an_orphan_that_cannot_be_found_is_never_called_lost(site: Site, gate: Gate) -> None:
    cwd = site.folder()
    site.batch.submit("1-1", ["env", "-i", "/bin/sh", "-c", Gate.script], cwd)
    pid = gate.arrived()
    os.kill(site.wrapper(cwd), signal.SIGKILL)
    until(lambda: site.batch.free() == 2, "the wrapper is dead")
    assert site.batch.status(cwd, "1-1").state is BatchState.RUNNING
    assert not dead(pid)
    gate.open()
    site.ends(cwd, BatchState.LOST)
    assert dead(pid)


def test_a_killed_command_is_told_with_its_signal(site: Site, gate: Gate) -> None:
    cwd = site.folder()
    site.batch.submit("1-1", ["sh", "-c", Gate.script], cwd)
    os.kill(gate.arrived(), signal.SIGKILL)
    result = site.done(cwd)
    assert (result.ending, result.exit_code, result.signal) == (Ending.SIGNALLED, 137, 9)
    assert result.reason == "killed by signal 9 (Killed)"
    assert not result.ok


def test_a_result_that_cannot_be_read_is_no_result(site: Site) -> None:
    site.run("true")
    cwd = site.folder()
    (cwd / "batch" / "1-1" / "result.json").write_text('{"token": "1-1"')
    site.ends(cwd, BatchState.LOST)


def test_the_sweep_spares_jobs_of_other_folders(site: Site, gate: Gate) -> None:
    cwd = site.folder()
    site.batch.submit("1-1", ["sh", "-c", Gate.script], cwd)
    pid = gate.arrived()
    assert runner.sweep(runner.job_folder(str(cwd), "1-10")) == 0
    assert runner.sweep(runner.job_folder(str(site.folder("other")), "1-1")) == 0
    assert not dead(pid)
    assert runner.sweep(runner.job_folder(str(cwd), "1-1")) == 1
    assert site.done(cwd).signal == signal.SIGKILL
