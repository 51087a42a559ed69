"""A broker on a real store in one process: its clock is set by hand, its threads run on command.

A crash is the abandonment of broker, engine and connections as they are; `open` goes on from what
the database has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from sqlalchemy import Pool, select
from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from wmtwisted.broker.ledger import Ledger
from wmtwisted.broker.queue import Entry
from wmtwisted.broker.service import Attached, Broker, Settings
from wmtwisted.store import history
from wmtwisted.store.database import open_engine
from wmtwisted.store.history import Filter, Place
from wmtwisted.store.state import components
from wmtwisted.store.tables import Tables, create

DATABASES = ("sqlite", "mariadb")

#: When the clock starts, in seconds since the epoch.
START = 1_000_000.0


def fresh_url(database: str, folder: Path) -> str:
    """The URL of an empty database."""
    if database == "mariadb":
        from tests import mariadb

        return mariadb.fresh_url()
    return f"sqlite:///{folder}/bus.sqlite"


def item(
    number: int,
    type: str = "A",
    payload: bytes = b"",
    *,
    priority: int = 0,
    delay: float = 0.0,
    chain: str = "",
) -> list[Any]:
    """A published message as it crosses the wire."""
    return [number, type, payload, int(priority), delay, chain]


def output(type: str, payload: bytes = b"", *, delay: float = 0.0, chain: str = "") -> list[Any]:
    """A message that a handler returned, as it crosses the wire."""
    return [type, payload, 0, delay, chain]


@frozen
class Given:
    """A delivery at the moment when it was sent."""

    key: int
    #: The message's number in the store.
    message: int
    origin: str
    number: int
    type: str
    payload: bytes
    attempt: int
    reason: str
    replay: int
    chain: str
    time: float
    #: Its place among all that was sent to anyone.
    turn: int

    @classmethod
    def of(cls, entry: Entry, time: float, turn: int) -> Given:
        """What the protocol would send."""
        one = entry.message
        assert one is not None
        return cls(
            entry.key, one.id, one.origin, one.number, one.type, one.payload, entry.attempt + 1,
            entry.reason, entry.replay, one.chain, time, turn,
        )  # fmt: skip


@define(eq=False)
class Threads:
    """A thread of the broker: runs at once, or, while `held`, when it is told."""

    held: bool = False
    calls: deque[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = field(factory=deque)

    def run(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """As `service.Run`."""
        if not self.held:
            return execute(function, *args)
        done: Deferred[Any] = Deferred()
        self.calls.append((done, function, args))
        return done

    def work(self) -> Callable[[], object]:
        """Runs the next call; what is returned gives its result to the reactor's side."""
        done, function, args = self.calls.popleft()
        ended: Deferred[Any] = execute(function, *args)
        return lambda: ended.chainDeferred(done)

    def release(self) -> None:
        """Runs all that was held, and from now on at once."""
        self.held = False
        while self.calls:
            self.work()()


@define(eq=False)
class Peer:
    """A process of a component."""

    bus: Bus
    attached: Attached
    #: Everything it was sent, in order.
    given: list[Given] = field(factory=list)

    def settle(
        self,
        done: Sequence[Any] = (),
        finished: Sequence[Any] = (),
        retry: Sequence[Any] = (),
        failed: Sequence[Any] = (),
    ) -> Deferred[list[int]]:
        """As `wire.Settle`."""
        return self.bus.broker.settle(self.attached, [list(done), finished, retry, failed])

    def finish(
        self,
        key: int,
        messages: Sequence[Any] = (),
        flags: Sequence[Any] = (),
        triggers: Sequence[Any] = (),
    ) -> list[int]:
        """Settles one with outputs."""
        stale: list[int] = result(self.settle((), [[key, messages, flags, triggers]]))
        return stale

    def take(self) -> list[Given]:
        """What came since it was last asked."""
        given = list(self.given)
        self.given.clear()
        return given

    @property
    def keys(self) -> list[int]:
        """The keys of what came."""
        return [one.key for one in self.given]

    def leave(self) -> None:
        """Its connection is lost."""
        self.bus.broker.detach(self.attached)


class Bus:
    """One store, and one broker after the other on it."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.url = url
        self.settings = Settings(**settings)
        self.clock = Clock()
        self.clock.advance(START)
        self.engine = open_engine(url, "bus")
        self.tables = Tables("ms_")
        create(self.engine, self.tables)
        self._abandoned: list[Pool] = []
        self.failures: list[Failure] = []
        self._turns = count()
        self.open()

    def open(self) -> None:
        """Starts a broker."""
        self.writer, self.reader = Threads(), Threads()
        self.ledger = Ledger(self.engine, self.tables)
        now, self.clock = self.clock.seconds(), Clock()
        self.clock.advance(now)
        self.broker = Broker(
            self.ledger,
            self.settings,
            clock=self.time,
            write=self.writer.run,
            read=self.reader.run,
            failed=self.failures.append,
        )
        result(self.broker.start())

    @property
    def time(self) -> IReactorTime:
        """The clock, by the name of what it does."""
        clock: IReactorTime = self.clock
        return clock

    def crash(self) -> None:
        """The broker's process is killed; another one starts."""
        self.writer.calls.clear()
        # Their connections stay open and are not used again.
        self._abandoned.append(self.engine.pool)
        self.engine.dispose(close=False)
        self.open()

    def close(self) -> None:
        """Gives back all connections, also those of crashed brokers."""
        self.engine.dispose()
        for pool in self._abandoned:
            pool.dispose()

    def advance(self, seconds: float) -> None:
        """Lets time pass, in steps of at most the broker's tick."""
        end = self.clock.seconds() + seconds
        while (left := end - self.clock.seconds()) > 1e-9:
            self.clock.advance(min(left, 0.5))

    def settle_down(self) -> None:
        """Lets the buffers be emptied, by the two flushes which that takes."""
        self.advance(4)

    def publish(self, origin: str, *items: Any) -> list[Any]:
        """The results, committed."""
        results: list[Any] = result(self.broker.publish(origin, list(items)))
        return results

    def attach(self, component: str, *types: str | tuple[str, int], credit: int = 1000) -> Peer:
        """A process of `component`, to which deliveries have been sent."""
        given: list[Given] = []

        def deliver(entries: list[Entry]) -> None:
            now = self.clock.seconds()
            given.extend(Given.of(entry, now, next(self._turns)) for entry in entries)

        wanted = [(type, 0) if isinstance(type, str) else type for type in types]
        attached = result(self.broker.attach(component, wanted, credit, deliver))
        self.clock.advance(0)
        return Peer(self, attached, given)

    def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        """Rows of one of the broker's tables, without its prefix, by their key."""
        found = self.tables.metadata.tables[f"ms_{table}"]
        wanted = [found.c[name] for name in columns or found.c.keys()]
        with self.engine.connect() as connection:
            query = select(*wanted).order_by(*found.primary_key.columns)
            return [tuple(row) for row in connection.execute(query)]

    def fates(self) -> dict[str, dict[Place, tuple[int, str]]]:
        """By component, what became of each place that a message was given: (message, fate)."""
        with self.engine.connect() as connection:
            rows = history.records(connection, self.tables, Filter(limit=1_000_000))
            names = {row.id: row.name for row in components(connection, self.tables)}
            found: dict[str, dict[Place, tuple[int, str]]] = {}
            for id, name in names.items():
                places = {
                    place: row.message.id
                    for row in rows
                    for place in row.places
                    if place.component == id
                }
                assert len(places) == sum(
                    place.component == id for row in rows for place in row.places
                ), "two messages have one place"
                fates = history.fates(connection, self.tables, name, list(places))
                found[name] = {place: (places[place], fates[place]) for place in places}
            return found


def result(done: Deferred[Any]) -> Any:
    """What it fired with. Raises what it failed with."""
    results: list[Any] = []
    done.addBoth(results.append)
    assert results, "nothing has fired it"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


def pending(done: Deferred[Any]) -> bool:
    """Whether it has not fired yet."""
    return not done.called
