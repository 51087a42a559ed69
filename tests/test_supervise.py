"""The supervisor, with small real processes: restarts, crash loops, order and patience."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wmtwisted.cli.child import Crashed, Program, Rules, tail
from wmtwisted.cli.instance import InstanceLock
from wmtwisted.cli.supervise import Supervisor
from wmtwisted.errors import Conflict

#: Writes a line when it has started, and when it is asked to end.
OBEDIENT = """
import signal, sys, threading
name = sys.argv[1]
def end(number, frame):
    with open("ends", "a") as f: f.write(name + chr(10))
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
with open("starts", "a") as f: f.write(name + chr(10))
print("hello from", name, flush=True)
threading.Event().wait()
"""
STUBBORN = OBEDIENT.replace("sys.exit(0)", "return")
FAILING = "import sys; print('first line'); sys.exit('no such flow')"

QUICK = Rules(first_delay=0.01, settled=30.0, grace=20.0)


def program(name: str, source: str, order: int = 0) -> Program:
    return Program(name, (sys.executable, "-S", "-c", source, name), order)


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition of the world outside, which tells nobody when it comes true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.01)


@contextmanager
def supervised(
    folder: Path,
    *programs: Program,
    rules: Rules = QUICK,
    inherit: tuple[int, ...] = (),
    said: list[str] | None = None,
) -> Iterator[Supervisor]:
    lines: list[str] = [] if said is None else said
    supervisor = Supervisor(
        programs, home=folder, logs=folder / "log", inherit=inherit, rules=rules, say=lines.append
    )
    supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def test_stops_in_order_and_waits(tmp_path: Path) -> None:
    names = ("broker", "one", "two")
    started = [program(name, OBEDIENT, order=int(name != "broker")) for name in names]
    with supervised(tmp_path, *started) as supervisor:
        until(lambda: len(lines(tmp_path / "starts")) == 3)
        assert set(supervisor.pids) == set(names)
        assert supervisor.stop() == []
        assert supervisor.pids == {}
    ends = lines(tmp_path / "ends")
    assert sorted(ends) == ["broker", "one", "two"]
    assert ends[-1] == "broker"
    assert lines(tmp_path / "log" / "one.log") == ["hello from one"]


def test_kills_what_does_not_end(tmp_path: Path) -> None:
    rules = Rules(grace=0.2)
    with supervised(tmp_path, program("mule", STUBBORN), rules=rules) as supervisor:
        until(lambda: lines(tmp_path / "starts") == ["mule"])
        assert supervisor.stop() == ["mule"]


def test_starts_again_what_was_killed_and_calls_it_no_crash_loop(tmp_path: Path) -> None:
    said: list[str] = []
    with supervised(tmp_path, program("one", OBEDIENT), said=said) as supervisor:
        for number in range(1, 6):
            until(lambda n=number: len(lines(tmp_path / "starts")) == n)  # type: ignore[misc]
            os.kill(supervisor.pids["one"], signal.SIGKILL)
        until(lambda: len(lines(tmp_path / "starts")) == 6)
        supervisor.wait(0)
    assert len(said) == 5
    assert "was ended by SIGKILL" in said[0]


def test_says_which_one_keeps_ending_and_its_last_words(tmp_path: Path) -> None:
    with (
        supervised(tmp_path, program("one", OBEDIENT), program("two", FAILING)) as supervisor,
        pytest.raises(Crashed) as caught,
    ):
        supervisor.wait(20)
    assert caught.value.name == "two"
    first, *more = str(caught.value).splitlines()
    assert first == "two ended with exit code 1, 3 times in a row"
    assert more[-1].strip() == "no such flow"
    assert str(tmp_path / "log" / "two.log") in caught.value.hint


def test_goes_on_when_nobody_listens(tmp_path: Path) -> None:
    def say(line: str) -> None:
        raise BrokenPipeError

    supervisor = Supervisor(
        [program("one", OBEDIENT)], home=tmp_path, logs=tmp_path / "log", rules=QUICK, say=say
    )
    supervisor.start()
    until(lambda: lines(tmp_path / "starts") == ["one"])
    os.kill(supervisor.pids["one"], signal.SIGKILL)
    until(lambda: lines(tmp_path / "starts") == ["one", "one"])
    assert supervisor.stop() == []


TELLING = """
import sys
print("2026-11-23T07:00:00+0000 [stdout#info] starting")
print("2026-11-23T07:00:00+0000 [stderr#error] error: web.listen: the port is taken")
print("2026-11-23T07:00:00+0000 [stderr#error] hint: choose another")
sys.exit(1)
"""


def test_passes_on_what_the_process_says_of_itself(tmp_path: Path) -> None:
    log = tmp_path / "log" / "broker.log"
    log.parent.mkdir()
    log.write_text("error: of yesterday\n")
    with (
        supervised(tmp_path, program("broker", TELLING)) as supervisor,
        pytest.raises(Crashed) as caught,
    ):
        supervisor.wait(20)
    assert str(caught.value) == "broker: web.listen: the port is taken"
    assert caught.value.hint == "choose another"


def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    with (
        supervised(tmp_path, Program("one", ("/no/such/command",))) as supervisor,
        pytest.raises(Crashed, match=r"one cannot be started.*No such file"),
    ):
        supervisor.wait(20)


def test_children_do_not_share_the_terminals_signals(tmp_path: Path) -> None:
    with supervised(tmp_path, program("one", OBEDIENT)) as supervisor:
        until(lambda: lines(tmp_path / "starts") == ["one"])
        assert os.getsid(supervisor.pids["one"]) != os.getsid(0)


def test_an_instance_runs_once(tmp_path: Path) -> None:
    lock = InstanceLock(tmp_path)
    try:
        with pytest.raises(Conflict, match=rf"running already \(pid {os.getpid()}\)"):
            InstanceLock(tmp_path)
    finally:
        lock.release()
    InstanceLock(tmp_path).release()


def test_the_lock_is_held_until_the_last_child_has_gone(tmp_path: Path) -> None:
    lock = InstanceLock(tmp_path)
    child = program("one", OBEDIENT)
    with supervised(tmp_path, child, inherit=(lock.fileno(),)):
        until(lambda: lines(tmp_path / "starts") == ["one"])
        lock.release()
        # As if the supervisor had been killed: no such process holds it, but a child does.
        lock.path.write_text("999999999")
        with pytest.raises(Conflict):
            InstanceLock(tmp_path, patience=0.3)
    InstanceLock(tmp_path, patience=0).release()


def test_a_long_log_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "log" / "one.log"
    log.parent.mkdir()
    with log.open("wb") as file:
        file.truncate(17 * 1024 * 1024)
    with supervised(tmp_path, program("one", OBEDIENT)):
        until(lambda: lines(tmp_path / "starts") == ["one"])
    assert lines(log) == ["hello from one"]
    assert log.with_suffix(".log.1").exists()


def test_tail(tmp_path: Path) -> None:
    file = tmp_path / "log"
    assert tail(file, 3) == []
    file.write_text("\n".join(f"line {number}" for number in range(5000)) + "\n\n \n")
    assert tail(file, 2) == ["line 4998", "line 4999"]
