"""AMP on the broker's side: one connection's commands, turned into calls of the broker."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IDelayedCall, ITCPTransport
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.amp import AMP, AmpBox
from twisted.python.failure import Failure

from wmtwisted import wire
from wmtwisted.broker.intake import all_of, check_outcomes
from wmtwisted.broker.queue import Entry
from wmtwisted.broker.replay import parse
from wmtwisted.broker.service import Attached, Broker
from wmtwisted.errors import Refused, WMError

P = ParamSpec("P")

#: Seconds between pings, at most; a peer that has not answered one by the next is disconnected.
PING_SECONDS = 20.0

#: The longest box, in bytes, before Hello and after it; our clients stay far below.
BOX_BEFORE, BOX_AFTER = 1 << 16, 1 << 26

#: The most records one History answers.
MAX_RECORDS = 1000


def _refusing(function: Callable[P, Any]) -> Callable[P, Deferred[Any]]:
    """Sends our refusals to the peer; anything else is a bug and closes the connection."""

    def refused(failure: Failure) -> Any:
        error = failure.value
        if isinstance(error, Refused):
            raise wire.RefusedOnWire.of(error)
        if isinstance(error, WMError):
            raise wire.RefusedOnWire(f"{error.code}: {error}")
        return failure

    @wraps(function)
    def responder(*args: P.args, **kwargs: P.kwargs) -> Deferred[Any]:
        return maybeDeferred(function, *args, **kwargs).addErrback(refused)

    return responder


class BrokerProtocol(AMP):
    """One peer."""

    log = Logger()

    def __init__(self, broker: Broker) -> None:
        super().__init__()
        self.broker = broker
        self.name = ""
        self._origin = ""
        self._attached: Attached | None = None
        self._attaching = False
        #: Bytes since the last whole box.
        self._unboxed = 0
        self._gone = False
        self._ping: IDelayedCall | None = None
        self._answered = True

    # The connection --------------------------------------------------------------------------

    def connectionMade(self) -> None:
        super().connectionMade()
        self._wait()

    def _wait(self) -> None:
        # With a short lease, a stuck process must be gone before it has used up its messages'
        # attempts: each time a lease runs out it would be given them again.
        period = min(PING_SECONDS, self.broker.settings.lease)
        self._ping = self.broker.clock.callLater(period, self._pinged)

    def _pinged(self) -> None:
        if not self._answered:
            self.log.warn("{name} does not answer: disconnected", name=self.name or "a peer")
            cast(ITCPTransport, self.transport).abortConnection()
            return
        self._answered = False
        self._wait()
        if self.name:
            self.callRemote(wire.Ping).addCallbacks(self._pong, lambda _: None)

    def _pong(self, _: object) -> None:
        self._answered = True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._gone = True
        if self._ping is not None and self._ping.active():
            self._ping.cancel()
        if self._attached is not None:
            self.log.info("{name} is gone", name=self.name)
            self.broker.detach(self._attached)
            self._attached = None

    def dataReceived(self, data: bytes) -> None:
        """Bytes have come; a box that has no end would fill the memory."""
        self._unboxed += len(data)
        super().dataReceived(data)
        if self._unboxed > (BOX_AFTER if self.name else BOX_BEFORE) and not self._gone:
            self.log.warn(
                "{name} sends a box without end: disconnected", name=self.name or "a peer"
            )
            cast(ITCPTransport, self.transport).abortConnection()

    def ampBoxReceived(self, box: AmpBox) -> None:
        """A whole box has come."""
        self._unboxed = 0
        super().ampBoxReceived(box)

    def _known(self) -> None:
        if not self.name:
            raise Refused("no-hello", "the first command must be Hello")

    def _consumer(self) -> Attached:
        if self._attached is None:
            raise Refused("not-attached", "Attach must come first")
        return self._attached

    # Commands --------------------------------------------------------------------------------

    @wire.Hello.responder
    @_refusing
    def hello(self, name: str, boot: str, version: int) -> dict[str, Any]:
        if self.name:
            raise Refused("bad-message", f"{self.name} has said Hello already")
        if version != wire.VERSION:
            raise Refused(
                "version", f"the peer speaks version {version}, this broker {wire.VERSION}"
            )
        for part, text in (("name", name), ("boot", boot)):
            if not text.isprintable() or not 0 < len(text) <= 60 or "~" in text or "/" in text:
                raise Refused("bad-name", f"{part} {text[:60]!r} is not 1 to 60 characters but ~ /")
        if not boot.isalnum():  # a dash would make it a store's
            raise Refused("bad-name", f"boot {boot[:60]!r} is not letters and digits")
        self.name, self._origin = name, f"{name}~{boot}"
        self._answered = True
        return {"broker": self.broker.settings.name}

    @wire.Attach.responder
    @_refusing
    def attach(self, interests: bytes, credit: int) -> Deferred[dict[str, Any]]:
        self._known()
        if self._attaching or self._attached is not None:
            raise Refused("bad-message", f"{self.name} is attached already")
        if not 0 < credit <= 100_000:
            raise Refused("bad-message", f"credit {credit} is not 1 to 100,000")
        try:
            wanted = [(type, lane) for type, lane in wire.unpack(interests)]
        except (TypeError, ValueError):
            raise Refused("bad-message", "interests are pairs of a type and a lane") from None
        self._attaching = True

        def ended(result: Any) -> Any:
            self._attaching = False
            return result

        def attached(mine: Attached) -> dict[str, Any]:
            if self._gone:
                self.broker.detach(mine)
            else:
                self._attached = mine
                self.log.info("{name} attached, credit {credit}", name=self.name, credit=credit)
            return {"waiting": self.broker.queues[self.name].depth}

        done = self.broker.attach(self.name, wanted, credit, self._deliver)
        return done.addBoth(ended).addCallback(attached)

    def _deliver(self, entries: list[Entry]) -> None:
        batch = []
        for entry in entries:
            message = entry.message
            if message is not None:
                batch.append(
                    (
                        entry.key,
                        message.type,
                        message.payload,
                        message.origin,
                        message.number,
                        message.published,
                        entry.attempt + 1,
                        entry.reason,
                        message.priority,
                        message.chain,
                        entry.replay,
                    )
                )
        self.callRemote(wire.Deliver, batch=wire.pack(batch))

    @wire.Publish.responder
    @_refusing
    def publish(self, batch: bytes) -> Deferred[dict[str, Any]]:
        self._known()
        items = wire.unpack(batch)
        if not isinstance(items, list) or not all(isinstance(one, list) for one in items):
            raise Refused("bad-message", "a publish is a list of messages, each a list")
        done = self.broker.publish(self._origin, items)
        return done.addCallback(lambda results: {"results": wire.pack(results)})

    @wire.Settle.responder
    @_refusing
    def settle(self, batch: bytes) -> Deferred[dict[str, Any]]:
        done = self.broker.settle(self._consumer(), check_outcomes(wire.unpack(batch)))
        return done.addCallback(lambda stale: {"stale": wire.pack(stale)})

    @wire.Detach.responder
    @_refusing
    def detach(self) -> dict[str, Any]:
        attached, self._attached = self._consumer(), None
        self.broker.release(attached)
        self.log.info("{name} has stopped", name=self.name)
        return {}

    @wire.Extend.responder
    @_refusing
    def extend(self, keys: bytes) -> dict[str, Any]:
        attached, held = self._consumer(), wire.unpack(keys)
        if not all_of(int, held):
            raise Refused("bad-message", "an extend is a list of keys")
        self.broker.extend(attached, held)
        return {}

    @wire.Ping.responder
    @_refusing
    def ping(self) -> dict[str, Any]:
        return {}

    @wire.Status.responder
    @_refusing
    def status(self) -> Deferred[dict[str, Any]]:
        self._known()
        done = self.broker.full_status()
        return done.addCallback(lambda status: {"status": json.dumps(status).encode()})

    @wire.History.responder
    @_refusing
    def history(self, filter: bytes) -> Deferred[dict[str, Any]]:
        self._known()
        wanted = parse(wire.unpack(filter))
        if wanted.limit > MAX_RECORDS:
            raise Refused("too-large", f"limit {wanted.limit} is over {MAX_RECORDS}")
        done = self.broker.history(wanted)
        return done.addCallback(lambda rows: {"records": wire.pack(rows)})

    @wire.Replay.responder
    @_refusing
    def replay(self, filter: bytes, dry_run: bool) -> Deferred[dict[str, Any]]:
        self._known()
        wanted = parse(wire.unpack(filter))
        replays = self.broker.replays
        done = replays.plan(wanted) if dry_run else replays.start(wanted)
        return done.addCallback(lambda answer: {"answer": wire.pack(answer)})


class BrokerFactory(Factory):
    """Makes the broker's side of each connection."""

    noisy = False

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def buildProtocol(self, addr: IAddress | None) -> BrokerProtocol:
        """A peer's connection."""
        return BrokerProtocol(self.broker)
