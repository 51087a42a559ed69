"""Keep a set of processes running: start, restart, say which one keeps ending, stop in order.

`twisted.runner.procmon` restarts without end, does not wait for what it stops, and has every
child's output pass through itself. Here a thread waits for each child, so the supervisor needs no
reactor, the children write their own log files, and `stop` returns when the last one has gone.
"""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from wmtwisted.cli.child import Child, Crashed, Program, Rules
from wmtwisted.config import Config

#: `twistd` of this very interpreter; -P keeps the current folder from being imported from.
_TWISTD = (sys.executable, "-P", "-c", "from twisted.scripts.twistd import run; run()")


#: The broker's name among the programs; no component may have it.
BROKER = "broker"


def programs(config: Config) -> list[Program]:
    """The broker and the components of an instance, in starting order."""

    def twistd(*arguments: str) -> tuple[str, ...]:
        command, *more = arguments
        return (*_TWISTD, "-n", "--pidfile=", command, "--config", str(config.path), *more)

    components = [
        Program(name, twistd("wmcomponent", "--component", name), order=1)
        for name in config.components
    ]
    return [Program(BROKER, twistd("wmbroker")), *components]


class Supervisor:
    """Runs programs, each in its own session, with its log in a file of its own."""

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        home: Path,
        logs: Path,
        inherit: Sequence[int] = (),
        rules: Rules | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Nothing is started yet.

        `home` is the current folder of each process, `inherit` are descriptors it keeps open.
        `say` is called, from other threads, with a line for each process that ended unasked.
        """
        self._grace = (rules or Rules()).grace
        self._crashes: queue.SimpleQueue[Crashed] = queue.SimpleQueue()
        self._children = [
            Child(program, home, logs, tuple(inherit), rules or Rules(), say, self._crashes.put)
            for program in programs
        ]

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of those that run now."""
        return {child.program.name: child.pid for child in self._children if child.pid}

    def start(self) -> None:
        """Start all of them."""
        for child in self._children:
            child.start()

    def wait(self, seconds: float | None = None) -> None:
        """Let time pass; raises Crashed, once for each, when a process keeps ending by itself.

        It is still started again, ever more slowly, in case the cause goes away.
        """
        try:
            raise self._crashes.get(timeout=seconds)
        except queue.Empty:
            return

    def stop(self) -> list[str]:
        """Stop all, the highest order first, and return when the last has gone.

        The answer names those that had to be killed since they did not end in time.
        """
        late: list[str] = []
        descending = sorted(self._children, key=lambda child: -child.program.order)
        for _, group in groupby(descending, key=lambda child: child.program.order):
            children = list(group)
            for child in children:
                child.ask()
            deadline = time.monotonic() + self._grace
            late += [c.program.name for c in children if not c.gone(deadline)]
        return late
