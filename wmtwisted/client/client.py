"""The Twisted client: publish from any program, receive as a component.

Connecting again, sending again what was not answered, coalescing and windows are done here.
A message keeps its id, so sending it again is harmless.
"""

from __future__ import annotations

import json
import os
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgpack  # type: ignore[import-untyped]
from attrs import define, field, frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.protocols.amp import Command
from twisted.python.failure import Failure

from wmtwisted import wire
from wmtwisted.client.connection import Connection
from wmtwisted.client.session import Session
from wmtwisted.errors import Refused, Unknown
from wmtwisted.message import Delivery, Message, Receipt

#: Publishes, and settles, that are under way at once.
WINDOW = 8
#: What one of them carries at the most.
BATCH_MESSAGES = 1000
BATCH_BYTES = 1 << 20


@frozen
class Interests:
    """What makes a client a component's process."""

    #: (type, lane) pairs; lane 1 is the priority lane.
    types: tuple[tuple[str, int], ...]
    #: How many deliveries it holds unsettled.
    credit: int
    #: Called with each batch of deliveries.
    received: Callable[[list[Delivery]], None]


@define(eq=False)
class Outcomes:
    """How deliveries ended, in the parts of `wire.Settle`."""

    done: list[int] = field(factory=list)
    finished: list[list[Any]] = field(factory=list)
    retry: list[list[Any]] = field(factory=list)
    failed: list[list[Any]] = field(factory=list)

    def packed(self) -> bytes:
        """The batch of a Settle."""
        packed: bytes = wire.pack([self.done, self.finished, self.retry, self.failed])
        return packed

    def __len__(self) -> int:
        return len(self.done) + len(self.finished) + len(self.retry) + len(self.failed)


@define(eq=False)
class _Call:
    """One publish of the user: some messages, one answer."""

    numbers: list[int]
    results: dict[int, Any] = field(factory=dict)
    answer: Deferred[list[Receipt]] = field(factory=Deferred)
    timeout: IDelayedCall | None = None


@frozen
class _Item:
    """One message of a call, as it will cross the wire."""

    call: _Call
    number: int
    packed: bytes


class Client(Service):
    """A connection to the broker that comes back.

    `name` is who publishes. With `interests` the client is a process of the component `name`.
    `refused` is called when the broker will not have this peer at all. `where` names the broker's
    address in the log.
    """

    log = Logger()

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        name: str,
        *,
        clock: IReactorTime,
        interests: Interests | None = None,
        refused: Callable[[Refused], None] | None = None,
        timeout: float = 10.0,
        where: str = "its address",
    ) -> None:
        self.name = name
        #: With the name and a number it makes the ids of what is published here.
        self.boot = f"{os.getpid():x}{secrets.token_hex(4)}"
        self.timeout = timeout
        self._clock = clock
        self._interests = interests
        self._refused = refused
        self._session: Session | None = None
        self._number = 0
        self._waiting: deque[_Item] = deque()
        self._sent: dict[int, list[_Item]] = {}
        self._batches = 0
        self._flush: IDelayedCall | None = None
        self._connecting: list[Deferred[Session]] = []
        #: Called with the outcomes of each settle that the broker has committed, and their stale
        #: keys.
        self.settled: Callable[[Outcomes, set[int]], None] | None = None
        #: Called when the connection is lost.
        self.disconnected: Callable[[], None] | None = None
        self._outcomes = Outcomes()
        self._settling = 0
        self._flushed: list[Deferred[None]] = []
        self._connection = Connection(
            endpoint, lambda: Session(self._received), self._prepare, clock=clock, where=where
        )

    # The connection --------------------------------------------------------------------------

    def startService(self) -> None:
        """Starts connecting, and never stops until told."""
        super().startService()
        self._connection.startService()

    def stopService(self) -> Deferred[None]:
        """Disconnects. What was not answered ends as unknown."""
        super().stopService()
        stopped = self._connection.stopService()
        why = Failure(Unknown(f"{self.name} stopped before the broker answered"))
        for item in (*self._waiting, *(one for sent in self._sent.values() for one in sent)):
            self._end(item.call, why)
        waiting, self._connecting = self._connecting, []
        for one in waiting:
            one.errback(why)
        return stopped

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted this peer."""
        return self._session is not None

    def _prepare(self, session: Session) -> Deferred[None]:
        def attach(_: object) -> Any:
            if self._interests is None:
                return None
            types = wire.pack([list(pair) for pair in self._interests.types])
            return session.call(wire.Attach, interests=types, credit=self._interests.credit)

        def ready(_: object) -> None:
            self._session = session
            session.lost.addCallback(self._lost)
            waiting, self._connecting = self._connecting, []
            for one in waiting:
                one.callback(session)
            self._schedule()

        def refused(failure: Failure) -> Failure:
            if isinstance(failure.value, Refused) and self._refused is not None:
                # Not from inside the connecting, which the owner will now stop.
                self._clock.callLater(0, self._refused, failure.value)
            return failure

        hello: Deferred[Any] = session.call(
            wire.Hello, name=self.name, boot=self.boot, version=wire.VERSION
        )
        hello.addCallback(attach).addCallbacks(ready, refused)
        return hello

    def _lost(self, session: Session) -> None:
        self._session = None
        self._settling = 0
        self._outcomes = Outcomes()
        for number in sorted(self._sent, reverse=True):
            self._waiting.extendleft(reversed(self._sent.pop(number)))
        self._fire_flushed()
        if self.disconnected is not None:
            self.disconnected()

    def ready(self) -> Deferred[Session]:
        """Fires when there is a connection, with it."""
        if self._session is not None:
            return succeed(self._session)
        if not self.running:
            return fail(Unknown(f"{self.name} is not running"))
        waiting: Deferred[Session] = Deferred()
        self._connecting.append(waiting)
        return waiting

    def ask(self, command: type[Command], **arguments: Any) -> Deferred[dict[str, Any]]:
        """Sends one of the operators' commands, once; raises Refused, or Unknown after a while."""

        def unknown(_: object, seconds: float) -> Failure:
            raise Unknown(f"no answer from the broker within {seconds:g} s")

        done = self.ready().addCallback(lambda session: session.call(command, **arguments))
        return done.addTimeout(self.timeout, self._clock, unknown)

    def status(self) -> Deferred[dict[str, Any]]:
        """The broker's counters, see `broker.service.Broker.full_status`."""
        return self.ask(wire.Status).addCallback(lambda answer: json.loads(answer["status"]))

    # Publishing ------------------------------------------------------------------------------

    def publish(self, *messages: Message) -> Deferred[list[Receipt]]:
        """Publishes; fires when the broker has all of them on disk.

        They are sent again until the broker answers. Raises Refused when it will not have one of
        them (the others are stored) or one cannot be sent at all (none is), and Unknown when there
        was no answer within `timeout`: it may still come to be stored.
        """
        if not messages:
            return succeed([])
        if not self.running:
            return fail(Unknown(f"{self.name} is not running"))
        call = _Call(list(range(self._number, self._number + len(messages))))
        try:
            # Packed here, so that what cannot be packed is the caller's error, and only that.
            items = [
                _Item(call, *one)
                for one in zip(call.numbers, map(_packed, call.numbers, messages), strict=True)
            ]
        except Refused as refused:
            return fail(refused)
        self._number += len(messages)
        self._waiting.extend(items)
        call.timeout = self._clock.callLater(self.timeout, self._timed_out, call)
        self._schedule()
        return call.answer

    def _timed_out(self, call: _Call) -> None:
        why = "not connected" if self._session is None else "no answer"
        error = Unknown(f"the broker did not confirm within {self.timeout:g} s ({why})")
        self._end(call, Failure(error))

    def _end(self, call: _Call, result: list[Receipt] | Failure) -> None:
        if call.timeout is not None and call.timeout.active():
            call.timeout.cancel()
        call.timeout = None
        if not call.answer.called:
            call.answer.callback(result)

    def _schedule(self) -> None:
        """Sends at the end of this reactor turn, together with what else comes in it."""
        if self._session is not None and (self._flush is None or not self._flush.active()):
            self._flush = self._clock.callLater(0, self._send)

    def _send(self) -> None:
        session = self._session
        if session is None:
            return
        while self._waiting and len(self._sent) < WINDOW:
            batch: list[_Item] = []
            size = 0
            while self._waiting and len(batch) < BATCH_MESSAGES and size < BATCH_BYTES:
                item = self._waiting.popleft()
                size += len(item.packed)
                batch.append(item)
            self._batches += 1
            self._sent[self._batches] = batch
            parts = [_array(len(batch)), *(item.packed for item in batch)]
            done = session.call(wire.Publish, batch=b"".join(parts))
            done.addCallbacks(
                self._answered, self._unanswered, (self._batches,), {}, (self._batches,)
            )
        self._send_outcomes(session)

    def _answered(self, answer: dict[str, Any], number: int) -> None:
        batch = self._sent.pop(number, [])
        for item, result in zip(batch, wire.unpack(answer["results"]), strict=True):
            item.call.results[item.number] = result
            if len(item.call.results) == len(item.call.numbers):
                self._complete(item.call)
        if self._waiting:
            self._send()

    def _unanswered(self, failure: Failure, number: int) -> None:
        if failure.check(Refused) is None:
            return  # the connection was lost: `_lost` sends again
        for item in self._sent.pop(number, []):
            self._end(item.call, failure)
        self._schedule()

    def _complete(self, call: _Call) -> None:
        receipts = []
        for number in call.numbers:
            result = call.results[number]
            if isinstance(result, list):
                self._end(call, Failure(Refused(*result)))
                return
            id = f"{self.name}~{self.boot}/{number}"
            receipts.append(Receipt(id, max(result, 0), result < 0))
        self._end(call, receipts)

    # Receiving -------------------------------------------------------------------------------

    def _received(self, deliveries: list[Delivery]) -> None:
        if self._interests is not None:
            self._interests.received(deliveries)

    @property
    def outcomes(self) -> Outcomes:
        """Where to put how deliveries ended; call `settle` afterwards.

        What is in it when the connection is lost is dropped, because the deliveries come again.
        """
        return self._outcomes

    def settle(self) -> None:
        """Sends the outcomes at the end of this reactor turn."""
        self._schedule()

    def _send_outcomes(self, session: Session) -> None:
        if not self._outcomes or self._settling >= WINDOW:
            return
        outcomes, self._outcomes = self._outcomes, Outcomes()
        self._settling += 1

        def settled(answer: dict[str, Any]) -> None:
            if session is not self._session:
                return
            self._settling -= 1
            if self.settled is not None:
                self.settled(outcomes, set(wire.unpack(answer["stale"])))
            if self._outcomes:
                self._send_outcomes(session)
            self._fire_flushed()

        def lost(failure: Failure) -> None:
            if failure.check(Refused) is not None:
                self.log.failure("the broker refused a settle", failure)
                session.disconnect()

        session.call(wire.Settle, batch=outcomes.packed()).addCallbacks(settled, lost)

    def extend(self, keys: Sequence[int]) -> None:
        """Tells the broker that these deliveries are still worked on."""
        if self._session is not None and keys:
            self._session.call(wire.Extend, keys=wire.pack(list(keys))).addErrback(lambda _: None)

    def detach(self) -> Deferred[Any]:
        """Gives back what is not settled; fires when the broker knows, or is not there."""
        if self._session is None or self._interests is None:
            return succeed(None)
        return self._session.call(wire.Detach).addErrback(lambda _: None)

    def flushed(self) -> Deferred[None]:
        """Fires when the broker has answered every settle, or the connection is lost."""
        flushed: Deferred[None] = Deferred()
        self._flushed.append(flushed)
        self._fire_flushed()
        return flushed

    def _fire_flushed(self) -> None:
        if self._session is None or not (self._settling or self._outcomes):
            flushed, self._flushed = self._flushed, []
            for one in flushed:
                one.callback(None)


#: The head of a packed list of so many elements, which follow it.
_array = msgpack.Packer(autoreset=True).pack_array_header


def _packed(number: int, one: Message) -> bytes:
    """A message as an element of `wire.Publish`. Raises Refused when it cannot be packed."""
    item = [number, one.type, one.payload, one.priority, one.delay, one.correlation]
    try:
        packed: bytes = wire.pack(item)
    except (TypeError, ValueError, OverflowError) as error:
        raise Refused("bad-message", f"message {one.type!r:.60} cannot be sent: {error}") from None
    return packed
