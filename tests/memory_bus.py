"""A broker, its store and its peers in one process: a clock that is set, connections in memory.

The broker and its SQLite ledger are the real ones. Threads are queues of calls that run in `run`,
one after the other, and connections are pairs of buffers that are emptied there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import text
from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.task import Clock
from twisted.protocols.amp import Command
from twisted.python.failure import Failure
from zope.interface import implementer

from wmtwisted import wire
from wmtwisted.broker.ledger import Ledger
from wmtwisted.broker.protocol import BrokerFactory
from wmtwisted.broker.service import Broker, Settings
from wmtwisted.client.client import Client
from wmtwisted.client.session import Session
from wmtwisted.component.component import Component, Context
from wmtwisted.component.harness import Harness
from wmtwisted.config import Config, default_text, load
from wmtwisted.message import Delivery, Message
from wmtwisted.store.database import open_engine
from wmtwisted.store.tables import Tables, create

#: When the clock starts, in seconds since the epoch.
START = 1_700_000_000.0


class End:
    """One side's transport: what it writes waits until the bus carries it over."""

    disconnecting = False

    def __init__(self, protocol: IProtocol) -> None:
        self.protocol = protocol
        self.peer: End = self
        self.out = bytearray()
        self.closing = False
        self.lost = False
        #: The peer reads nothing, as a stopped process does.
        self.stuck = False

    def write(self, data: bytes) -> None:
        if not self.closing:
            self.out += data

    def writeSequence(self, data: list[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.closing = True

    def abortConnection(self) -> None:
        self.out.clear()
        self.closing = True

    def getPeer(self) -> str:
        return "the other"

    def getHost(self) -> str:
        return "this one"

    def carry(self) -> bool:
        """Gives the peer what was written; False when there was nothing."""
        if not self.out or self.lost or self.stuck:
            return False
        data, self.out = bytes(self.out), bytearray()
        self.peer.protocol.dataReceived(data)
        return True

    def lose(self, reason: Exception) -> None:
        """Ends this side."""
        if not self.lost:
            self.lost = self.closing = True
            self.out.clear()
            self.protocol.connectionLost(Failure(reason))


class Pool:
    """Threads that run what they were given when the bus runs; `held` makes them wait."""

    def __init__(self) -> None:
        self.calls: deque[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self.held = False

    def run(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.calls.append((done, function, args))
        return done

    def work(self) -> bool:
        """Runs one call; False when there is none, or they are held."""
        if self.held or not self.calls:
            return False
        done, function, args = self.calls.popleft()
        execute(function, *args).chainDeferred(done)
        return True


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Connects to the broker of a bus, unless it is down."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """A connection at once."""
        self.bus.connects += 1
        if self.bus.down:
            return fail(ConnectionRefusedError())
        protocol = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        assert protocol is not None
        self.bus.connect(protocol)
        return succeed(protocol)


class Bus:
    """One broker and what talks to it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.folder = folder
        self.settings = Settings(**settings)
        self.engine = open_engine(f"sqlite:///{folder}/bus.sqlite", "bus")
        self.tables = Tables("ms_")
        create(self.engine, self.tables)
        #: The broker's threads, and those of components.
        self.writer, self.pool = Pool(), Pool()
        #: Connections, each as (the peer's side, the broker's side).
        self.pairs: list[tuple[End, End]] = []
        #: Whether nobody listens.
        self.down = False
        self.connects = 0
        #: What ended the broker.
        self.failures: list[Failure] = []
        #: The commands that the broker was sent.
        self.commands: list[str] = []
        self.start()

    @property
    def time(self) -> IReactorTime:
        """The clock, by the name of what it does."""
        clock: IReactorTime = self.clock
        return clock

    def start(self) -> None:
        """A new broker on the store."""
        self.broker = Broker(
            Ledger(self.engine, self.tables),
            self.settings,
            clock=self.time,
            write=self.writer.run,
            read=self.writer.run,
            failed=self.failures.append,
        )
        self.factory = BrokerFactory(self.broker)
        self.down = False
        started = self.broker.start()
        self.run()
        assert started.called

    def kill(self) -> None:
        """The broker is gone, with all that it had in memory."""
        self.down = True
        self.writer.calls.clear()
        for call in self.clock.getDelayedCalls():
            owner = getattr(getattr(call, "func", None), "__self__", None)
            if owner is self.broker or getattr(owner, "broker", None) is self.broker:
                call.cancel()
        for peer, mine in self.pairs:
            mine.lost = True
            peer.lose(ConnectionDone())
        self.pairs.clear()

    def connect(self, protocol: IProtocol) -> End:
        """Connects a peer's protocol."""
        theirs = self.factory.buildProtocol(None)
        peer, mine = End(protocol), End(theirs)
        peer.peer, mine.peer = mine, peer
        self.pairs.append((peer, mine))
        theirs.makeConnection(mine)
        protocol.makeConnection(peer)  # type: ignore[arg-type]
        return peer

    def carry(self) -> bool:
        """Carries what was written to the other sides, and ends what was closed."""
        moved = False
        for pair in list(self.pairs):
            for end in pair:
                moved = end.carry() or moved
            if any(end.closing and not end.out for end in pair):
                self.pairs.remove(pair)
                for end in pair:
                    end.lose(ConnectionDone())
                moved = True
        return moved

    def run(self) -> None:
        """Until nothing happens any more at this time."""
        for _ in range(100_000):
            self.clock.advance(0)
            if not (self.writer.work() or self.pool.work() or self.carry()):
                return
        raise AssertionError("it goes on for ever")

    def advance(self, seconds: float, step: float = 0.5) -> None:
        """Lets time pass."""
        end = self.clock.seconds() + seconds
        while (left := end - self.clock.seconds()) > 1e-6:
            self.clock.advance(min(step, left))
            self.run()

    def cut(self) -> None:
        """All connections break; what was under way is lost."""
        pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for end in pair:
                end.lose(ConnectionLost())

    def deaf(self) -> None:
        """The broker gets, and does, all that was sent to it; its answers are lost."""
        for _ in range(100):
            self.clock.advance(0)
            for peer, mine in self.pairs:
                peer.carry()
                mine.out.clear()
            while self.writer.work():
                pass
        self.cut()

    # What runs on it ---------------------------------------------------------------------------

    def client(self, name: str = "tester", **options: Any) -> Client:
        """A client that is connecting."""
        client = Client(MemoryEndpoint(self), name, clock=self.time, **options)
        client.startService()
        return client

    def harness(self, kind: type[Component], name: str = "Worker", **options: Any) -> Harness:
        """A process of a component that is starting; `failed` collects why it could not."""

        def connect(interests: Any) -> Client:
            return Client(MemoryEndpoint(self), name, clock=self.time, interests=interests)

        context = Context(name, self.config(name), self.time, self.pool.run)
        options.setdefault("failed", self.failures.append)
        harness = Harness(kind(context), connect, **options)
        harness.startService()
        return harness

    def config(self, name: str) -> Config:
        """A configuration with a component of that name."""
        path = self.folder / "wm.toml"
        path.write_text(
            default_text({"flow.spec": "my.flow"}) + f'\n[components.{name}]\nclass = "a:B"\n'
        )
        return load(path)

    def raw(self, name: str = "raw", boot: str = "b1") -> Raw:
        """A peer that says what the test wants."""
        return Raw(self, name, boot)

    def publish(self, *messages: Message, name: str = "tester") -> list[str]:
        """Publishes over a connection of its own; the ids."""
        client = self.client(name)
        done = client.publish(*messages)
        self.run()
        receipts = done.result
        assert isinstance(receipts, list), receipts
        client.stopService()
        self.run()
        return [one.id for one in receipts]

    # What is in the store ----------------------------------------------------------------------

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the store."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def stored(self, type: str = "") -> list[tuple[str, bytes]]:
        """Types and payloads of the stored messages, in the order of their acceptance."""
        rows = self.sql("select type, payload from ms_message order by id")
        return [(row[0], row[1]) for row in rows if type in ("", row[0])]

    def dead(self) -> list[str]:
        """The reasons of the dead letters."""
        return [row[0] for row in self.sql("select reason from ms_dead order by seq")]

    def component(self, name: str = "Worker") -> dict[str, Any]:
        """A component's counters."""
        rows: list[dict[str, Any]] = self.broker.status()["components"]
        return next(row for row in rows if row["name"] == name)


class Raw:
    """A peer that speaks AMP by hand."""

    def __init__(self, bus: Bus, name: str, boot: str) -> None:
        self.bus = bus
        self.deliveries: list[Delivery] = []
        self.session = Session(self.deliveries.extend)
        self.end = bus.connect(self.session)
        if name:
            self(wire.Hello, name=name, boot=boot, version=wire.VERSION)

    @property
    def lost(self) -> bool:
        """Whether the connection is over."""
        return self.end.lost

    def send(self, command: type[Command], **arguments: Any) -> list[Any]:
        """Sends a command; its answer or its error comes into the list."""
        result: list[Any] = []

        def failed(failure: Failure) -> None:
            result.append(failure.value)

        self.session.call(command, **arguments).addCallbacks(result.append, failed)
        return result

    def __call__(self, command: type[Command], **arguments: Any) -> Any:
        """Sends a command and gives its answer, or raises its error."""
        result = self.send(command, **arguments)
        self.bus.run()
        assert result, "no answer"
        if isinstance(result[0], Exception):
            raise result[0]
        return result[0]

    def publish(self, *items: Any) -> Any:
        """Publishes items as they are; the results."""
        return wire.unpack(self(wire.Publish, batch=wire.pack(list(items)))["results"])

    def attach(self, *types: str, credit: int = 100) -> None:
        """Becomes a component's process."""
        interests = wire.pack([[type, 0] for type in types])
        self(wire.Attach, interests=interests, credit=credit)

    def settle(self, *parts: Any) -> Any:
        """Settles; the stale keys."""
        padded = [*parts, *([[]] * (4 - len(parts)))]
        return wire.unpack(self(wire.Settle, batch=wire.pack(padded))["stale"])


def item(number: int, type: str = "Work", payload: bytes = b"") -> list[Any]:
    """A message as it crosses the wire."""
    return [number, type, payload, 0, 0.0, ""]
