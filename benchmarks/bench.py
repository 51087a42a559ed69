"""One broker on a fresh store, and the processes that work it; what they took, in numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from wmtwisted.client.blocking import Connection, status
from wmtwisted.config import Config, load
from wmtwisted.errors import Unknown, Unreachable

#: Seconds until a measurement is given up.
PATIENCE = 300
_TWISTD = [sys.executable, "-P", "-c", "from twisted.scripts.twistd import run; run()"]


@frozen
class Broker:
    """A running broker."""

    config: Config
    pid: int

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Its share of resident memory (PSS) in MiB."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def disk(self) -> float:
        """The store's size in MiB."""
        files = (self.config.home / "var").glob("bus.sqlite*")
        return sum(file.stat().st_size for file in files) / 2**20


@contextmanager
def broker(store: str = "") -> Iterator[Broker]:
    """A broker on a new store; `store` is a URL, or "" for SQLite in a temporary folder.

    Where the temporary folder is on tmpfs, syncs cost nothing and the figures mean nothing: set
    TMPDIR to a real disk.
    """
    with tempfile.TemporaryDirectory(prefix="wmbench") as folder:
        home = Path(folder)
        (home / "var").mkdir()
        (home / "run").mkdir()
        (home / "bench.flow").write_text(
            "source = {'ID': 'Publisher', 'messageOut': 'Work'}\n"
            "sink = {'ID': 'Sink', 'messageIn': 'Work'}\n"
        )
        url = store or f"sqlite:///{home}/var/bus.sqlite"
        (home / "wm.toml").write_text(
            f'[store]\nbus = "{url}"\n[flow]\nspec = "{home}/bench.flow"\n'
        )
        with (home / "broker.log").open("wb") as log:
            arguments = ["-n", "--pidfile=", "wmbroker", "--config", str(home / "wm.toml")]
            process = subprocess.Popen([*_TWISTD, *arguments], cwd=home, stdout=log, stderr=log)
        try:
            config = load(home / "wm.toml")
            wait_for(config, process, home / "broker.log")
            yield Broker(config, process.pid)
        finally:
            process.terminate()
            process.wait(60)


def wait_for(config: Config, process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns when the broker answers."""
    while True:
        try:
            status(config)
            return
        except (Unreachable, Unknown):
            if process.poll() is not None:
                raise SystemExit(f"the broker ended:\n{log.read_text()}") from None
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue


class Peer:
    """A publisher or consumer process."""

    def __init__(self, broker: Broker, end: str, count: int, **options: object) -> None:
        arguments = [end, "--config", str(broker.config.path), "--count", str(count)]
        for name, value in options.items():
            arguments += [f"--{name}", str(value)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.line()

    def go(self) -> None:
        """Starts a publisher."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def line(self) -> dict[str, Any]:
        """The next line it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a peer ended with code {self.process.wait()}")
        values: dict[str, Any] = json.loads(line)
        if "error" in values:
            raise SystemExit(f"a publish failed: {values['error']}")
        return values

    def result(self) -> dict[str, Any]:
        """Its figures, when it is done."""
        values = self.line()
        self.process.wait(PATIENCE)
        return values


def interest(broker: Broker, name: str) -> None:
    """Makes a component known, without one of its processes staying."""
    from wmtwisted import wire

    with Connection(broker.config, name) as connection:
        types = wire.pack([["Work", 0]])
        connection.call(wire.Attach, interests=types, credit=1)


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
