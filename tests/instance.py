"""An instance of its own for a test: a real broker and components as processes, killed by name."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import create_engine, text

from wmtwisted.client import blocking
from wmtwisted.config import Config, default_text, load
from wmtwisted.errors import WMError
from wmtwisted.message import Message, Receipt

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
DEADLINE = 30.0
#: Variables of the environment that processes get besides.
KEPT: dict[str, str] = {}


def until(condition: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
    """The first true value of `condition`, within `deadline` seconds."""
    end = time.monotonic() + deadline
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what}")
        pause.wait(0.01)


class Process:
    """One process, with what it said in a file."""

    def __init__(self, arguments: tuple[str, ...], home: Path, log: Path) -> None:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("WM_")
        }
        environment.update(PYTHONPATH=str(ROOT), **KEPT)
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                arguments,
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def said(self) -> str:
        """All that it said so far."""
        return self.log.read_text()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once, in the middle of what it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def ended(self, deadline: float = DEADLINE) -> int:
        """Waits for its end; the exit code."""
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there after {deadline:g} s:\n{self.said}") from None


class Instance:
    """A folder with a configuration, and the processes that run on it."""

    def __init__(
        self,
        home: Path,
        flow: str = "",
        components: Mapping[str, str] | None = None,
        **values: Any,
    ) -> None:
        """`components` has a class path each; `values` are keys of the configuration, `a__b`."""
        self.home = home
        (home / "history").mkdir()
        (home / "log").mkdir()
        (home / "my.flow").write_text(flow or NOBODY)
        given = {
            "flow.spec": "my.flow",
            "store.bus": "sqlite:///bus.sqlite",
            "store.jobs": "sqlite:///jobs.sqlite",
            "broker.listen": "unix:broker.sock",
            **{name.replace("__", "."): value for name, value in values.items()},
        }
        sections = [
            f'\n[components.{name}]\nclass = "{path}"\n'
            for name, path in (components or {}).items()
        ]
        self.path = home / "wm.toml"
        self.path.write_text(default_text(given) + "".join(sections))
        self.processes: dict[str, Process] = {}
        self.count = 0

    @property
    def config(self) -> Config:
        """The configuration."""
        return load(self.path, {})

    # Processes -----------------------------------------------------------------------------

    def spawn(self, name: str, *arguments: str) -> Process:
        """Starts a process under a name."""
        self.count += 1
        process = Process(arguments, self.home, self.home / "log" / f"{name}.{self.count}.log")
        self.processes[name] = process
        return process

    def twistd(self, name: str, *arguments: str) -> Process:
        """Starts `twistd` with arguments."""
        return self.spawn(name, *TWISTD, "-n", "--pidfile=", *arguments)

    def broker(self, *, wait: bool = True, name: str = "broker") -> Process:
        """Starts the broker, and waits until it answers."""
        process = self.twistd(name, "wmbroker", "--config", str(self.path))
        if wait:
            until(lambda: self.answers(process), "the broker answers")
        return process

    def answers(self, process: Process) -> bool:
        """Whether that process is the broker that answers."""
        if process.process.poll() is not None:
            raise AssertionError(f"the broker has ended:\n{process.said}")
        try:
            return bool(self.status()["broker"]["pid"] == process.pid)
        except WMError:
            return False

    def component(self, component: str, *, wait: bool = True, name: str = "") -> Process:
        """Starts a component, and waits until it is connected."""
        already = self.processes_of(component) if wait else 0
        arguments = ("wmcomponent", "--config", str(self.path), "--component", component)
        process = self.twistd(name or component, *arguments)
        if wait:
            until(lambda: self.processes_of(component) > already, f"{component} is connected")
        return process

    def python(self, name: str, module: str, *arguments: str) -> Process:
        """Starts a module of the tests."""
        return self.spawn(name, sys.executable, "-m", module, str(self.path), *arguments)

    def kill(self, name: str) -> None:
        """kill -9."""
        self.processes[name].kill()

    def close(self) -> None:
        """Nothing is left."""
        for process in self.processes.values():
            process.kill()

    # Asking the broker ---------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The broker's counters."""
        return blocking.status(self.config, timeout=5.0)

    def queue(self, component: str) -> dict[str, Any]:
        """A component's counters."""
        rows = self.status()["components"]
        return next((row for row in rows if row["name"] == component), {})

    def processes_of(self, component: str) -> int:
        """How many processes of a component are attached."""
        return int(self.queue(component).get("processes", 0))

    def drained(self, *components: str) -> bool:
        """Whether these have nothing left to do."""
        try:
            rows = {row["name"]: row for row in self.status()["components"]}
        except WMError:
            return False
        parts = ("waiting", "leased", "delayed")
        return not any(rows[name][part] for name in components for part in parts)

    def publish(self, *messages: Message) -> list[Receipt]:
        """Publishes over a connection of its own."""
        return blocking.publish(self.config, messages)

    # What has happened ---------------------------------------------------------------------

    def history(self, name: str) -> list[dict[str, Any]]:
        """What a process of the tests wrote down, line by line."""
        path = self.home / "history" / name
        if not path.exists():
            return []
        rows = []
        for line in path.read_text().splitlines():
            with suppress(ValueError):  # empty, or cut short by a kill
                rows.append(json.loads(line))
        return rows

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the bus' store."""
        engine = create_engine(self.config.store.bus)
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(text(query))]
        finally:
            engine.dispose()


#: A flow in which nobody does anything.
NOBODY = """
handler = {'component': 'Elsewhere', 'messageIn': 'Something', 'messageOut': ''}
source = {'ID': 'tests', 'messageOut': 'Something'}
"""


@contextmanager
def instance(
    flow: str = "", components: Mapping[str, str] | None = None, **values: Any
) -> Iterator[Instance]:
    """An instance in a folder whose name is short enough for a socket."""
    home = Path(tempfile.mkdtemp(prefix="wm"))
    made = Instance(home, flow, components, **values)
    try:
        yield made
    except BaseException:
        # With the test's output, since the folder goes away.
        for log in sorted((home / "log").iterdir()):
            print(f"--- {log.name}\n{log.read_text()[-3000:]}")
        raise
    finally:
        made.close()
        shutil.rmtree(home)


def write_down(path: Path, **what: Any) -> None:
    """One line, which what a killed writer left of its own cannot spoil."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"\n{json.dumps(what)}\n".encode())
    finally:
        os.close(file)
