"""Jobs as local processes: what a command is given, its limits, its cancelling."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests.batch_site import DEADLINE, Gate, Site, dead, until
from wmtwisted.batch.local import Local
from wmtwisted.batch.model import Batch, BatchState, Ending
from wmtwisted.errors import BatchError

PYTHON = sys.executable


# What a command is given, and what is told of it.


def test_a_command_runs_in_its_folder_with_its_environment(site: Site) -> None:
    code = "import os, sys; print(os.getcwd(), os.environ['COLOUR'], sys.stdin.read()); 1 / 0"
    result = site.run(PYTHON, "-c", code, env={"COLOUR": "red", "PATH": "/usr/bin"})
    cwd = site.folder()
    assert site.log(cwd) == f"{cwd} red \n"
    assert "ZeroDivisionError" in site.log(cwd, "stderr")
    assert (result.token, result.ending) == ("1-1", Ending.EXITED)
    assert (result.exit_code, result.signal) == (1, None)
    assert result.reason == "exit code 1"
    assert not result.ok
    assert 0 < result.ended - result.started < DEADLINE
    assert 0 < result.cpu < DEADLINE
    assert result.memory > 1_000_000


def test_an_exit_with_0_is_ok(site: Site) -> None:
    result = site.run("true")
    assert result.ok
    assert result.reason == ""


def test_arguments_are_a_list_and_never_a_shell(site: Site) -> None:
    arguments = ["$(touch hacked)", "a b", "*", ";", "'", "", "ü\n"]
    code = "import sys; print(sys.argv[1:])"
    site.run(PYTHON, "-c", code, *arguments, env={"PYTHONUTF8": "1"})
    assert site.log(site.folder()) == f"{arguments}\n"
    assert not (site.folder() / "hacked").exists()


def test_nothing_in_the_folder_can_change_the_wrapper(site: Site) -> None:
    for name in ("json", "os", "struct", "signal", "runner"):
        (site.folder() / f"{name}.py").write_text("raise SystemExit('planted')")
    assert site.run("true", env={"PYTHONPATH": str(site.folder()), "PATH": "/usr/bin:/bin"}).ok


def test_a_command_gets_default_signals_and_no_slot(site: Site, gate: Gate) -> None:
    site.batch.submit("1-1", ["sh", "-c", Gate.script], site.folder())
    pid = gate.arrived()
    status = dict(
        line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    assert int(status["SigBlk"], 16) == 0
    # Signals 32 and 33 are the C library's own.
    assert int(status["SigIgn"], 16) & 0x7FFFFFFF == 0
    files = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
    assert str(site.folder() / "batch" / "lock") in files
    assert not any("slot" in name or "claim" in name for name in files)


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ("no-such-program", 127, "cannot start 'no-such-program': No such file or directory"),
        ("./plain.txt", 126, "cannot start './plain.txt': Permission denied"),
    ],
)
def test_a_command_that_cannot_be_started(site: Site, command: str, code: int, reason: str) -> None:
    (site.folder() / "plain.txt").write_text("not a program")
    result = site.run(command, "argument")
    assert (result.ending, result.exit_code) == (Ending.NOT_STARTED, code)
    assert result.reason == reason
    assert site.log(site.folder(), "stderr") == f"{reason}\n"


@pytest.mark.parametrize(
    ("token", "argv", "limit", "expected"),
    [
        ("../up", ["true"], None, "batch token '../up'"),
        ("", ["true"], None, "batch token ''"),
        ("1-1", [], None, "command []"),
        ("1-1", ["true"], 0.0, "time limit 0.0"),
        ("1-1", ["a\0b"], None, "NUL"),
    ],
)
def test_what_can_never_run_is_refused(
    site: Site, token: str, argv: list[str], limit: float | None, expected: str
) -> None:
    with pytest.raises(BatchError, match=re.escape(expected)):
        site.batch.submit(token, argv, site.folder(), time_limit=limit)
    assert not (site.folder() / "batch").exists()


def test_a_missing_folder_is_refused(site: Site) -> None:
    with pytest.raises(BatchError, match=r"job's folder .*/nowhere"):
        site.batch.submit("1-1", ["true"], site.root / "nowhere")
    assert not (site.root / "nowhere").exists()
    site.batch.cancel(site.root / "nowhere", "1-1")


def test_no_slots_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match="0 batch slots: expected at least 1"):
        Local(tmp_path, 0)


def test_a_log_is_stdout_or_stderr(site: Site) -> None:
    with pytest.raises(BatchError, match="expected stdout or stderr"):
        site.batch.log(site.folder(), "1-1", "../claim")


def test_it_is_a_batch_system(site: Site) -> None:
    batch: Batch = site.batch
    assert not batch.submitted(site.folder(), "1-1")


# Limits.


def test_the_time_limit_ends_a_command_and_its_children(site: Site) -> None:
    cwd = site.folder()
    stubborn = "trap '' TERM; sleep 1000 & echo $! > child; while :; do sleep 1000; done"
    result = site.run("sh", "-c", stubborn, time_limit=1.0)
    assert (result.ending, result.exit_code, result.signal) == (Ending.TIME_LIMIT, 124, 9)
    assert result.reason == "stopped at its time limit of 1 s"
    assert 1.1 <= result.ended - result.started < 10
    until(lambda: dead(int((cwd / "child").read_text())), "the child is dead")


def test_a_command_may_tidy_up_at_its_time_limit_but_has_still_failed(site: Site) -> None:
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('tidied'), sys.exit(0)))\n"
        "signal.pause()"
    )
    result = site.run(PYTHON, "-c", code, time_limit=1.5)
    assert (result.ending, result.exit_code, result.signal) == (Ending.TIME_LIMIT, 124, None)
    assert not result.ok
    assert site.log(site.folder()) == "tidied\n"


def test_the_output_limit_ends_a_command_and_keeps_the_beginning(tmp_path: Path) -> None:
    site = Site(tmp_path, output_limit=10_000)
    result = site.run("yes")
    assert (result.ending, result.exit_code) == (Ending.OUTPUT_LIMIT, 153)
    assert result.reason == "stopped: it wrote more than 10,000 bytes to stdout or stderr"
    assert site.log(site.folder()) == "y\n" * 5_000


@pytest.mark.parametrize("hide", ["", "setsid"])
def test_what_a_command_leaves_running_is_killed(site: Site, hide: str) -> None:
    result = site.run("sh", "-c", f"{hide} sleep 1000 & echo $! > child; exit 0")
    assert result.ok
    pid = int((site.folder() / "child").read_text())
    until(lambda: dead(pid), "the left child is dead")


# Cancelling.


def test_a_running_command_is_cancelled(site: Site, gate: Gate) -> None:
    cwd = site.folder()
    site.batch.submit("1-1", ["sh", "-c", Gate.script], cwd)
    gate.arrived()
    site.batch.cancel(cwd, "1-1")
    site.batch.cancel(cwd, "1-1")
    result = site.done(cwd)
    assert (result.ending, result.exit_code, result.reason) == (Ending.CANCELLED, 143, "cancelled")


def test_a_cancelled_token_never_runs(site: Site) -> None:
    cwd = site.folder()
    site.batch.cancel(cwd, "1-1")
    assert site.batch.status(cwd, "1-1").state is BatchState.UNKNOWN
    assert site.batch.submit("1-1", ["touch", "ran"], cwd)
    assert site.done(cwd).ending is Ending.CANCELLED
    assert not (cwd / "ran").exists()


def test_cancelling_what_is_done_changes_nothing(site: Site) -> None:
    result = site.run("true")
    site.batch.cancel(site.folder(), "1-1")
    assert site.done(site.folder()) == result
