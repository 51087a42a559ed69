"""One supervised process: started again when it ends, until it is asked to end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from wmtwisted.errors import WMError

#: How our own processes say why they end, after the prefix that a logger may put before it.
_TOLD = re.compile(r"(?:^|[\]#] )(error|hint): (.*)")

_ROTATE_BYTES = 16 * 1024 * 1024


@frozen
class Program:
    """One process to keep running."""

    name: str
    argv: tuple[str, ...]
    #: Programs with a higher number are stopped before those with a lower one.
    order: int = 0


@frozen
class Rules:
    """When to restart, when to give up on it, and how long to wait for an end."""

    #: Seconds before the first restart; doubled while it keeps ending, up to the last.
    first_delay: float = 0.25
    last_delay: float = 30.0
    #: A process that ran this long, in seconds, counts as one that had started.
    settled: float = 5.0
    #: So many ends before that, one after the other, are a crash loop.
    ends: int = 3
    #: Seconds between SIGTERM and SIGKILL.
    grace: float = 15.0


class Crashed(WMError):
    """A process keeps ending by itself."""

    code = "crashed"

    def __init__(self, name: str, status: str, log: Path, since: int = 0) -> None:
        """`since` is where in its log, in bytes, the process began to write."""
        words = tail(log, 40, since)
        told = [found for found in map(_TOLD.search, words) if found]
        errors = [found[2] for found in told if found[1] == "error"]
        hints = [found[2] for found in told if found[1] == "hint"]
        if errors:
            super().__init__(f"{name}: {errors[-1]}", hints[-1] if hints else f"its log is {log}")
        else:
            lines = "".join(f"\n  {line}" for line in words[-8:])
            super().__init__(f"{name} {status}{lines}", f"its log is {log}")
        #: The program's name.
        self.name = name


class Child:
    """One program: its process of the moment, and the thread that waits for it."""

    def __init__(
        self,
        program: Program,
        home: Path,
        logs: Path,
        inherit: tuple[int, ...],
        rules: Rules,
        say: Callable[[str], None],
        report: Callable[[Crashed], None],
    ) -> None:
        self.program = program
        self.log = logs / f"{program.name}.log"
        self._home, self._inherit, self._rules = home, inherit, rules
        self._say = say
        self._put = report
        self._since = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=program.name, daemon=True)

    @property
    def pid(self) -> int:
        process = self._process
        return process.pid if process is not None and process.returncode is None else 0

    def start(self) -> None:
        self._thread.start()

    def ask(self) -> None:
        """Ask the process to end, and start it no more."""
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                self._process.terminate()

    def gone(self, deadline: float) -> bool:
        """Wait for the end; kill it at the deadline, and then the answer is False."""
        if not self._thread.ident:
            return True
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if not self._thread.is_alive():
            return True
        with self._lock:
            if self._process is not None:
                self._process.kill()
        self._thread.join()
        return False

    def _run(self) -> None:
        history = _History(self._rules)
        while True:
            process = self._spawn()
            if process is None:
                return
            began = time.monotonic()
            status = _status(process.wait())
            if self._stopping.is_set():
                return
            lived = time.monotonic() - began
            delay = history.ended(lived, by_itself=process.returncode != -signal.SIGKILL)
            # Whoever listens may have gone, which is no reason to let the process stay down.
            with suppress(OSError, ValueError):
                self._say(f"{self.program.name} (pid {process.pid}) {status}; starting it again")
            if history.ends == self._rules.ends and process.returncode != -signal.SIGKILL:
                self._report(f"{status}, {history.ends} times in a row")
            if self._stopping.wait(delay):
                return

    def _report(self, status: str) -> None:
        self._put(Crashed(self.program.name, status, self.log, self._since))

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._stopping.is_set():
                return None
            try:
                self._process = self._popen()
            except OSError as error:
                self._report(f"cannot be started: {error}")
                return None
            return self._process

    def _popen(self) -> subprocess.Popen[bytes]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _ROTATE_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as output:
            self._since = output.tell()
            return subprocess.Popen(
                self.program.argv,
                cwd=self._home,
                env={
                    **os.environ,
                    # A process whose parent is not this one any more ends by itself.
                    "WM_SUPERVISOR": str(os.getpid()),
                    "PYTHONUNBUFFERED": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=self._inherit,
                # Ctrl-C reaches the supervisor alone, which then stops the others in order.
                start_new_session=True,
            )


class _History:
    """How often a process ended, and what follows from it."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        #: Ends by itself, one after the other, none of which had settled.
        self.ends = 0
        self._delay = rules.first_delay

    def ended(self, lived: float, *, by_itself: bool) -> float:
        """Note an end after `lived` seconds; the seconds to wait before the next start.

        SIGKILL comes from outside (an operator, the kernel short of memory): no crash loop.
        """
        if lived >= self._rules.settled:
            self.ends, self._delay = 0, self._rules.first_delay
        self.ends += by_itself
        delay = self._delay
        self._delay = min(2 * delay, self._rules.last_delay)
        return delay


def _status(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def tail(path: Path, lines: int, since: int = 0) -> list[str]:
    """The last lines of a text file that are not empty, of those after the first `since` bytes.

    None when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(since, path.stat().st_size - 16384))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]
