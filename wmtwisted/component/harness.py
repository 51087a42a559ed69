"""Runs one component: deliveries in, handlers run, outcomes out. The only place that settles.

A delivery that comes again while its first run goes on in this process (the broker restarted, say)
is not run a second time: the run's outcome settles the newer delivery.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from attrs import define
from twisted.application.service import Service
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    ensureDeferred,
    gatherResults,
    succeed,
)
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from wmtwisted import wire
from wmtwisted.client.client import Client, Interests, Outcomes
from wmtwisted.component.component import Component, Handler, Reject, Retry, outputs
from wmtwisted.message import Delivery, Flag, Message, Output, Trigger

#: Outcomes kept for deliveries that may come again, because their settle was not answered.
KEPT = 10_000
#: The longest reason that is told, in characters.
REASON = 1000


@define
class _Outcome:
    """How a delivery ended: a part of `wire.Settle` by name, and what goes into it."""

    part: str
    value: Any

    def put(self, outcomes: Outcomes) -> None:
        getattr(outcomes, self.part).append(self.value)


class Harness(Service):
    """The process of one component.

    `connect` makes the client for the component's interests; `failed` is called when the component
    cannot start.
    """

    log = Logger()

    def __init__(
        self,
        component: Component,
        connect: Callable[[Interests], Client],
        *,
        threads: int = 4,
        prefetch: int = 64,
        lease: float = 300.0,
        failed: Callable[[Failure], None],
    ) -> None:
        self.component = component
        self._handlers = component.handlers()
        self._clock = component.context.clock
        self._run = component.context.run
        self._threads = threads
        self._lease = lease
        self._failed = failed
        types = tuple((one.type, one.lane) for one in self._handlers.values())
        room = max([prefetch, *(2 * self._limit(one) for one in self._handlers.values())])
        self.client = connect(Interests(types, room, self._received))
        self.client.settled = self._settled
        self.client.disconnected = self._disconnected
        #: What has not begun, by key, the newest delivery of each.
        self._waiting: dict[str, OrderedDict[int, Delivery]] = {
            type: OrderedDict() for type in self._handlers
        }
        self._busy: dict[str, int] = dict.fromkeys(self._handlers, 0)
        #: What runs, by key; the delivery is the newest one of that key.
        self._running: dict[int, Delivery] = {}
        self._coroutines: dict[int, Deferred[Any]] = {}
        self._starting: set[str] = set()
        self._ends: list[Deferred[None]] = []
        #: Outcomes whose settle was not answered yet.
        self._unsettled: dict[int, tuple[str, _Outcome]] = {}
        self._extending: IDelayedCall | None = None
        self._opening: Deferred[Any] = succeed(None)
        self._opened = False

    def _limit(self, handler: Handler) -> int:
        return handler.threads or self._threads

    # Starting and stopping ------------------------------------------------------------------

    def startService(self) -> None:
        """Starts the component, then connects."""
        super().startService()
        opening = self._run(self.component.start)
        self._opening = opening.addCallbacks(self._connect, self._failed)

    def _connect(self, _: object) -> None:
        self._opened = True
        if self.running:
            self._extending = self._clock.callLater(self._lease / 3, self._extend)
            self.client.startService()

    def stopService(self) -> Deferred[Any]:
        """Takes nothing more, waits for what runs on threads, settles it, and disconnects.

        Coroutines are cancelled where they wait: they may do so for hours, and are begun anew by
        the next process. What was not settled is given back.
        """
        super().stopService()
        if self._extending is not None and self._extending.active():
            self._extending.cancel()
        self._disconnected()
        return self._opening.addCallback(self._close)

    def _close(self, _: object) -> Deferred[Any] | None:
        if not self._opened:
            return None
        idle: Deferred[Any] = gatherResults([self._end() for _ in self._running])
        for coroutine in list(self._coroutines.values()):
            coroutine.cancel()
        idle.addCallback(lambda _: self.client.flushed().addTimeout(5.0, self._clock))
        idle.addCallback(lambda _: self.client.detach().addTimeout(5.0, self._clock))
        idle.addBoth(lambda _: self.client.stopService())
        return idle.addBoth(lambda _: self._run(self.component.stop))

    def _end(self) -> Deferred[None]:
        end: Deferred[None] = Deferred()
        self._ends.append(end)
        return end

    # Handling --------------------------------------------------------------------------------

    def _received(self, deliveries: list[Delivery]) -> None:
        if not self.running:
            return  # they come again, to whoever attaches next
        touched = dict.fromkeys([self._take(delivery) for delivery in deliveries])
        for type in touched:
            if type:
                self._start(type)

    def _take(self, delivery: Delivery) -> str:
        """Puts a delivery where it belongs; the type that now has one more to begin, or ""."""
        key = delivery.key
        # `Component:Type` comes under its full name.
        type = delivery.type if delivery.type in self._handlers else delivery.type.partition(":")[2]
        if key in self._running:
            self._running[key] = delivery
        elif (kept := self._kept(delivery)) is not None:
            kept.put(self.client.outcomes)
            self.client.settle()
        elif type in self._handlers:
            self._waiting[type][key] = delivery
            return type
        else:
            # It was published when this component still had a handler for it.
            reason = f"{self.component.name} does not handle {delivery.type!r}"
            self.log.error("{id}: {reason}", id=delivery.id, reason=reason)
            self.client.outcomes.failed.append([key, reason])
            self.client.settle()
        return ""

    def _kept(self, delivery: Delivery) -> _Outcome | None:
        """How this delivery has ended already, as far as the broker does not know."""
        id, outcome = self._unsettled.get(delivery.key, ("", None))
        # A retry that comes as one is what the broker made of it: only the answer was lost.
        retried = outcome is not None and outcome.part == delivery.reason == "retry"
        return outcome if id == delivery.id and not retried else None

    def _start(self, type: str) -> None:
        if type in self._starting:
            return  # a handler that was begun below has ended already: it goes on there
        self._starting.add(type)
        handler, waiting = self._handlers[type], self._waiting[type]
        while waiting and self._busy[type] < self._limit(handler):
            key, delivery = waiting.popitem(last=False)
            self._busy[type] += 1
            self._running[key] = delivery
            method = getattr(self.component, handler.name)
            done: Deferred[Any]
            if handler.coroutine:
                done = self._coroutines[key] = ensureDeferred(_awaited(method, delivery))
            else:
                done = self._run(_called, method, delivery)
            done.addCallback(self._returned, handler, delivery)
            done.addErrback(self._raised, delivery)
            done.addCallback(self._finish, type, delivery)
            done.addErrback(lambda failure: self.log.failure("a bug in the harness", failure))
        self._starting.discard(type)

    def _returned(self, found: list[Output], handler: Handler, delivery: Delivery) -> _Outcome:
        problem = handler.problem(found)
        if problem:
            raise Reject(problem)
        if not found:
            return _Outcome("done", delivery.key)
        row = [delivery.key, *packed(found)]
        try:
            # Found here, it ends this message and not the others of the same settle.
            wire.pack(row)
        except (TypeError, ValueError, OverflowError) as error:
            raise Reject(f"{handler.name}: what it returned cannot be sent: {error}") from error
        return _Outcome("finished", row)

    def _raised(self, failure: Failure, delivery: Delivery) -> _Outcome | None:
        """The one place where what handlers raise is caught; None when we have cancelled it."""
        error, key = failure.value, delivery.key
        if isinstance(error, CancelledError) and not self.running:
            return None
        what: dict[str, Any] = {
            "type": delivery.type,
            "id": delivery.id,
            "correlation": delivery.correlation,
        }
        reason = told(error)
        if isinstance(error, Retry):
            self.log.info("{type} {id} again: {reason}", reason=reason, **what)
            return _Outcome("retry", [key, error.delay, reason])
        if isinstance(error, Reject):
            self.log.error("{type} {id} rejected: {reason}", reason=reason, **what)
            return _Outcome("failed", [key, reason])
        self.log.failure("{type} {id} failed (attempt {n})", failure, n=delivery.attempt, **what)
        return _Outcome("retry", [key, None, f"{type(error).__name__}: {reason}"])

    def _finish(self, outcome: _Outcome | None, type: str, delivery: Delivery) -> None:
        key = delivery.key
        self._busy[type] -= 1
        self._coroutines.pop(key, None)
        newest = self._running.pop(key)
        if outcome is None:
            pass  # the next process begins it anew
        elif newest.id == delivery.id:
            if len(self._unsettled) >= KEPT:
                del self._unsettled[next(iter(self._unsettled))]
            self._unsettled[key] = (delivery.id, outcome)
            outcome.put(self.client.outcomes)
            self.client.settle()
        else:
            # The broker has another store now, with another message under this key.
            self._received([newest])
        self._start(type)
        if self._ends:
            self._ends.pop().callback(None)

    def _settled(self, settled: Outcomes, stale: set[int]) -> None:
        rows = (*settled.finished, *settled.retry, *settled.failed)
        for key in (*settled.done, *(row[0] for row in rows)):
            # A stale one ended before it came again: the outcome waits for it.
            if key not in stale:
                self._unsettled.pop(key, None)

    def _disconnected(self) -> None:
        """What had not begun is the broker's again."""
        for waiting in self._waiting.values():
            waiting.clear()

    def _extend(self) -> None:
        self._extending = self._clock.callLater(self._lease / 3, self._extend)
        waiting = [key for queue in self._waiting.values() for key in queue]
        self.client.extend([*self._running, *waiting])


def _called(method: Callable[[Delivery], Any], delivery: Delivery) -> list[Output]:
    # What a generator does is the handler's work too, so it is done on the thread.
    return outputs(method(delivery))


async def _awaited(method: Callable[[Delivery], Any], delivery: Delivery) -> list[Output]:
    # Called in here, so that a method that cannot be called fails as any handler does.
    return outputs(await method(delivery))


def told(error: BaseException | None) -> str:
    """What an error says, as text that can be sent."""
    try:
        text = str(error)
    except Exception:
        text = "(it cannot be shown)"
    # One line, whatever it says: it goes into logs and tables.
    shown = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text[:REASON])
    return shown.encode(errors="replace").decode()[:REASON]


def packed(found: list[Output]) -> tuple[list[Any], list[Any], list[Any]]:
    """Outputs as the messages, flags and triggers of `wire.Settle`."""
    messages, flags, triggers = [], [], []
    for one in found:
        match one:
            case Message():
                messages.append(_message(one))
            case Flag():
                flags.append([one.trigger, one.id, one.flag])
            case Trigger():
                triggers.append([one.name, one.id, list(one.flags), _message(one.action)])
    return messages, flags, triggers


def _message(one: Message) -> list[Any]:
    return [one.type, one.payload, one.priority, one.delay, one.correlation]
