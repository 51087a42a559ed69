"""What both plugins need of a process: how it refuses, how it ends, and with whom."""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any, NoReturn

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogPublisher,
)
from twisted.protocols import amp
from twisted.python.threadpool import ThreadPool

from wmtwisted.config import Config
from wmtwisted.errors import SpecError, WMError
from wmtwisted.flow.model import Flow
from wmtwisted.flow.spec import read_flow


def explain(error: BaseException) -> str:
    """An error as `error: ...` and, when there is one, `hint: ...`."""
    hint = error.hint if isinstance(error, WMError) else ""
    what = str(error) if isinstance(error, WMError) else describe(error)
    return f"error: {what}" + (f"\nhint: {hint}" if hint else "")


def describe(error: BaseException) -> str:
    """An error that is not ours, on one line: a database's has its statement on the next ones."""
    first, *_ = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {first}"


def flow_of(config: Config) -> Flow:
    """The flow of a configuration. Raises SpecError when it cannot be read."""
    try:
        return read_flow(config.flow.spec)
    except SpecError as error:
        error.hint = error.hint or f"it is the file that flow.spec names in {config.path}"
        raise


def refuse(error: WMError) -> NoReturn:
    """Ends the process before anything has started, with one clear line."""
    print(explain(error), file=sys.stderr)
    sys.exit(1)


def end(reactor: IReactorCore, error: BaseException | None) -> None:
    """Ends the running process with code 1 and one clear line; services stop in order."""
    # In the foreground twistd's own stderr is the log, which puts its marks before each line.
    to = sys.__stderr__ if sys.__stderr__ is not None and not _detached() else sys.stderr
    print(explain(error or WMError("unknown")), file=to, flush=True)
    # The reactor stops with code 0 whatever was raised, and twistd has no other way.
    atexit.register(os._exit, 1)
    if reactor.running:
        reactor.stop()
    else:
        reactor.callWhenRunning(reactor.stop)


def _detached() -> bool:
    """Whether twistd runs in the background, where only the log is read."""
    return os.path.samestat(os.fstat(2), os.stat(os.devnull))


def private() -> None:
    """What this process makes is for its own user alone: messages are in it."""
    os.umask(0o077)


def quiet() -> None:
    """Keeps AMP from noting every connection twice; the broker says who comes and goes."""
    amp._log.observer = FilteringLogObserver(
        globalLogPublisher, [LogLevelFilterPredicate(LogLevel.warn)]
    )


class Threads(Service):
    """A pool of threads that lives as long as the service."""

    def __init__(self, reactor: Any, size: int, name: str) -> None:
        self._reactor = reactor
        self.pool = ThreadPool(min(1, size), size, name)

    def startService(self) -> None:
        """Starts the threads."""
        super().startService()
        self.pool.start()

    def stopService(self) -> None:
        """Waits for what runs."""
        super().stopService()
        if self.pool.started:
            self.pool.stop()

    def run(self, function: Any, *args: Any) -> Deferred[Any]:
        """Runs a function on one of the threads."""
        return deferToThreadPool(self._reactor, self.pool, function, *args)


class Orphan(Service):
    """Ends the process when the supervisor that started it is gone."""

    def __init__(self, clock: IReactorTime, reactor: IReactorCore) -> None:
        self._clock = clock
        self._reactor = reactor
        self._supervisor = os.environ.get("WM_SUPERVISOR", "")

    def startService(self) -> None:
        """Looks once a second."""
        super().startService()
        if self._supervisor:
            self._look()

    def _look(self) -> None:
        if not self.running:
            return
        if str(os.getppid()) == self._supervisor:
            self._clock.callLater(1.0, self._look)
        else:
            end(self._reactor, WMError("the supervisor is gone: stopping"))
