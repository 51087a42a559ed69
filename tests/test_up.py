"""`wm up` as a process: it comes up, it is alone, it goes down in order, whatever the signal."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wmtwisted.cli.instance import InstanceLock
from wmtwisted.client.blocking import status
from wmtwisted.config import default_text, load

WM = (sys.executable, "-m", "wmtwisted.cli.main")

#: A flow whose component is not run here: the broker alone is enough.
FLOW = """
handler = {'component': 'Elsewhere', 'messageIn': 'Something', 'messageOut': '()'}
source = {'ID': 'wm', 'messageOut': 'Something'}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance that has a broker and no component."""
    (tmp_path / "my.flow").write_text(FLOW)
    (tmp_path / "wm.toml").write_text(default_text({"flow.spec": "my.flow"}))
    return tmp_path


@contextmanager
def started(home: Path) -> Iterator[subprocess.Popen[str]]:
    """`wm up` from the moment when it says that it is up; it is killed at the end."""
    process = subprocess.Popen(
        [*WM, "up"],
        cwd=home,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line.startswith("up: broker;"):
            process.kill()
            raise AssertionError(line + process.communicate()[1])
        yield process
    finally:
        process.kill()
        process.communicate()
        # The broker sees that it is alone, and ends.
        InstanceLock(home, patience=30).release()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_up_and_down(home: Path, number: signal.Signals) -> None:
    with started(home) as process:
        assert status(load(home / "wm.toml"))["broker"]["name"] == "broker"
        process.send_signal(number)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 0
        # Nothing that it had started is left.
        InstanceLock(home, patience=0).release()


def test_a_second_one(home: Path) -> None:
    with started(home) as process:
        second = subprocess.run([*WM, "up"], cwd=home, capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert re.match(rf"error: the instance in .* \(pid {process.pid}\)\nhint: ", second.stderr)
        assert process.poll() is None


def test_the_broker_ends_when_the_supervisor_is_killed(home: Path) -> None:
    with started(home) as process:
        process.kill()
        process.wait()
        InstanceLock(home, patience=30).release()


def test_the_broker_comes_back_when_it_is_killed(home: Path) -> None:
    with started(home) as process:
        config = load(home / "wm.toml")
        os.kill(status(config)["broker"]["pid"], signal.SIGKILL)
        assert process.stderr is not None
        assert "was ended by SIGKILL; starting it again" in process.stderr.readline()


def test_a_taken_port(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        text = default_text({"flow.spec": "my.flow", "web.listen": f"tcp:{port}"})
        (home / "wm.toml").write_text(text)
        ran = subprocess.run([*WM, "up"], cwd=home, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    error = next(line for line in ran.stderr.splitlines() if line.startswith("error: "))
    assert f"web.listen: cannot listen at tcp:127.0.0.1:{port}: address already in use" in error
    assert "Traceback" not in ran.stderr


def test_an_unreadable_flow(home: Path) -> None:
    (home / "my.flow").write_text("handler = {'component': 'A'\n")
    ran = subprocess.run([*WM, "up"], cwd=home, capture_output=True, text=True, check=False)
    assert ran.returncode != 0
    assert "my.flow:" in ran.stderr
    assert "Traceback" not in ran.stderr
