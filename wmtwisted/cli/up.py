"""`wm up`: run an instance until Ctrl-C."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import click

from wmtwisted.cli.child import Crashed
from wmtwisted.cli.context import fail, pass_config
from wmtwisted.cli.instance import InstanceLock, prepare
from wmtwisted.cli.supervise import BROKER, Supervisor, programs
from wmtwisted.config import Config
from wmtwisted.endpoint import Endpoint
from wmtwisted.errors import Conflict, Unknown, Unreachable, WMError


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came; it goes the way of Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        #: The exit code, as shells have it for a process that a signal ended.
        self.code = 128 + number


@click.command()
@pass_config
def up(config: Config) -> None:
    """Run the broker and the components until Ctrl-C.

    A process that ends is started again. The log of each is in the folder paths.log.
    """
    with running(config, lambda line: click.echo(line, err=True)) as supervisor:
        click.echo(f"up: {', '.join([BROKER, *config.components])}; Ctrl-C stops all")
        if config.web.listen is not None:
            click.echo(f"page: {config.web.listen.url}")
        hold(supervisor)


def hold(supervisor: Supervisor) -> None:
    """Stay until Ctrl-C, SIGTERM or SIGHUP; raises Crashed when the broker keeps ending.

    The others get along without a component, so of one that keeps ending it is only told.
    """
    try:
        while True:
            try:
                supervisor.wait()
            except Crashed as crash:
                if crash.name == BROKER:
                    raise
                fail(str(crash), crash.hint)
    except KeyboardInterrupt:
        return


@contextmanager
def running(
    config: Config, say: Callable[[str], None], lock: InstanceLock | None = None
) -> Iterator[Supervisor]:
    """Run an instance for as long as the context; all of it is up when the body starts.

    `say` gets a line for each process that ended unasked, and at the end for each that had to be
    killed. `lock` is the instance's, if the caller has it already; it is released. Raises Conflict
    when the instance runs already, Crashed when a process keeps ending, and KeyboardInterrupt on
    SIGTERM and SIGHUP as well as on Ctrl-C.
    """
    lock = lock or InstanceLock(config.home)
    with interruptible():
        supervisor = Supervisor(
            programs(config),
            home=config.home,
            logs=config.paths.log,
            inherit=[lock.fileno()],
            say=say,
        )
        try:
            prepare(config)
            if listening(config.broker.listen):
                raise Conflict(
                    f"a broker that is not this instance's listens at {config.broker.listen}",
                    f"stop it first, or choose another broker.listen in {config.path}",
                )
            supervisor.start()
            wait_until_up(config, supervisor)
            yield supervisor
        finally:
            with patient(say):
                late = supervisor.stop()
            lock.release()
            if late:
                say(f"killed, since they did not end by themselves: {', '.join(late)}")


@contextmanager
def interruptible() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise a KeyboardInterrupt, in the main thread, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    # What is ignored stays ignored: `nohup` asks for that.
    ends = [number for number in _ENDS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in ends}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def patient(say: Callable[[str], None]) -> Iterator[None]:
    """Let nothing interrupt the stopping, which ends in time by itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def answer(number: int, frame: FrameType | None) -> None:
        say("stopping; a moment")

    numbers = (*_ENDS, signal.SIGINT)
    before = {number: signal.signal(number, answer) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_ENDS = (signal.SIGTERM, signal.SIGHUP)


def wait_until_up(config: Config, supervisor: Supervisor, seconds: float = 60.0) -> None:
    """Wait until the broker answers and every component is connected to it.

    Raises Crashed when a process keeps ending, and WMError when it takes too long.
    """
    from wmtwisted.client.blocking import status

    deadline = time.monotonic() + seconds
    missing = {BROKER}
    while missing:
        if time.monotonic() > deadline:
            raise WMError(
                f"not up after {seconds:.0f} s: {', '.join(sorted(missing))}",
                f"the logs in {config.paths.log} may tell why",
            )
        supervisor.wait(0.05)
        if not listening(config.broker.listen):
            continue
        with suppress(Unreachable, Unknown):
            rows = status(config, timeout=2)["components"]
            connected = {row["name"] for row in rows if row["connected"]}
            missing = set(config.components) - connected


def listening(endpoint: Endpoint) -> bool:
    """Whether something accepts connections there now."""
    unix = endpoint.kind == "unix"
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(endpoint.path if unix else (endpoint.host, endpoint.port))
        except OSError:
            return False
    return True
