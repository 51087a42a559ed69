"""The broker: the one place where queues, the ledger's thread and the peers meet.

Everything here runs on the reactor and touches no SQL: batches go to the writer's thread one at a
time, and each takes all that arrived while the last was committed. A result is used only after its
commit: first the peers are answered, then the messages are sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

from attrs import define
from sqlalchemy import Connection
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from wmtwisted.broker.batch import Applied, Batch, Finished, Item, Result, Settlement, Submission
from wmtwisted.broker.counters import Counters
from wmtwisted.broker.intake import bad_outputs, is_name
from wmtwisted.broker.ledger import Ledger
from wmtwisted.broker.queue import Consumer, Entry, Queue, Want
from wmtwisted.broker.replay import Replays
from wmtwisted.broker.retention import Retention
from wmtwisted.errors import Refused
from wmtwisted.store import history, state
from wmtwisted.store.database import read
from wmtwisted.store.messages import Loaded
from wmtwisted.wire import Fatal

#: A commit that takes longer is named as trouble.
STUCK_SECONDS = 2.0


class Run(Protocol):
    """Runs a function on a thread and gives its result."""

    def __call__(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]: ...


@define(frozen=True)
class Settings:
    """The rules of delivery; see the `[broker]` section of the configuration."""

    name: str = "wmbroker"
    window: int = 10_000
    lease: float = 300.0
    attempts: int = 10
    #: Seconds before the second delivery, the third, ...; the last one repeats.
    backoff: tuple[float, ...] = (1.0, 5.0, 30.0, 120.0)
    #: Seconds that handled messages stay in the history.
    retention: float = 14 * 86400.0


@define(eq=False)
class Attached:
    """A component's process: its place in the queue, and how to send it deliveries."""

    component: str
    consumer: Consumer
    deliver: Callable[[list[Entry]], None]


class Broker:
    """Routes, queues and settles on behalf of the peers. Single-threaded, but for `write`/`read`.

    `failed` is called when the store could not be written: what was asked then is neither done nor
    refused, so the process must end and leave its peers to ask again.
    """

    log = Logger()

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        *,
        clock: IReactorTime,
        write: Run,
        read: Run,
        failed: Callable[[Failure], None],
    ) -> None:
        self.ledger = ledger
        self.settings = settings
        self.replays = Replays(self)
        self.queues: dict[str, Queue] = {}
        self.clock = clock
        self.write = write
        self.read = read
        self._failed = failed
        self._attached: list[Attached] = []
        self._pending = Batch()
        self._busy = False
        self._since = 0.0
        #: No more is taken.
        self.stopping = False
        self._stopped: Deferred[None] | None = None
        self._down = False
        self._wakes: dict[str, IDelayedCall] = {}
        self._tick: IDelayedCall | None = None
        self._started = clock.seconds()
        self.counters = Counters()
        self._retention = Retention(settings.retention)

    # Starting and stopping ------------------------------------------------------------------

    def start(self) -> Deferred[None]:
        """Takes over the store; fires when publishes and components can be taken."""

        def opened(waiting: dict[str, dict[int, tuple[int, int]]]) -> None:
            for component, lanes in waiting.items():
                queue = self._queue(component)
                for lane, (count, high) in lanes.items():
                    queue.recover(lane, count, high)
            if not self.stopping:
                self._tick = self.clock.callLater(1.0, self._ticked)
                self.replays.resume()

        def counted(dead: dict[str, int]) -> None:
            for component, count in dead.items():
                self.counters.of(component).dead = count

        started = self.write(self.ledger.open, self.settings.name).addCallback(opened)
        dead: Deferred[dict[str, int]] = started.addCallback(lambda _: self.write(self.ledger.dead))
        return dead.addCallback(counted)

    def stop(self) -> Deferred[None]:
        """Fires when what was taken is committed, or cannot be; what comes later is not taken."""
        stopped: Deferred[None] = Deferred()
        self._stopped = stopped
        self.stopping = True
        for call in (*self._wakes.values(), self._tick):
            if call is not None and call.active():
                call.cancel()
        self._cycle()
        return stopped

    def _queue(self, component: str) -> Queue:
        if component not in self.queues:
            settings = self.settings
            self.queues[component] = Queue(
                window=settings.window, lease=settings.lease, attempts=settings.attempts
            )
        return self.queues[component]

    # Committing -----------------------------------------------------------------------------

    def publish(self, origin: str, items: list[Item]) -> Deferred[list[Result]]:
        """Takes messages of one origin; fires with what became of each, after the commit."""
        self._check_open()
        if not is_name(origin):  # two of them could be one for the store
            raise Refused("bad-name", f"publisher {origin[:60]!r} ends with a space")
        submission = Submission(origin, items)
        self._pending.submissions.append(submission)
        self._cycle()
        return submission.answer

    def _cycle(self) -> None:
        """Starts the next commit unless one runs; the writer's only caller for batches."""
        if self._down:
            self._end()
        if self._busy or self._down:
            return
        batch, now = self._pending, self.clock.seconds()
        self._since = now
        if batch:
            self._pending, self._busy = Batch(), True
            done = self.write(self.ledger.apply, batch, now)
            done.addCallback(lambda applied: self._committed(batch, applied))
            done.addErrback(self._broken)
        elif self.ledger.flush_due(now):
            self._flush(now)
        else:
            self._end()

    def _flush(self, now: float) -> None:
        self._busy, self._since = True, now
        done = self.write(self.ledger.flush, now)
        done.addCallback(lambda _: self._idle()).addErrback(self._broken)

    def _end(self) -> None:
        if self._stopped is not None:
            stopped, self._stopped = self._stopped, None
            stopped.callback(None)

    def _check_open(self) -> None:
        # Fatal closes the connection, so that the peer asks the next broker.
        if self.stopping:
            raise Fatal("the broker is stopping")

    def _idle(self) -> None:
        self._busy = False
        self._cycle()

    def _broken(self, failure: Failure) -> None:
        self.log.failure("the store cannot be used", failure)
        # Nothing may be committed any more by a ledger that does not know what is stored.
        first, self._down = not self._down, True
        self._end()
        if first:
            self._failed(failure)

    def unwritten(self, failure: Failure) -> Failure:
        """What was to be written beside the batches was not: a refusal, or the store's end."""
        if failure.check(Refused) is not None:
            return failure
        self._broken(failure)
        raise Fatal("the store cannot be used")

    def _committed(self, batch: Batch, applied: Applied) -> None:
        self._busy = False
        self.counters.committed(applied)
        for submission, results in zip(batch.submissions, applied.results, strict=True):
            submission.answer.callback(results)
        touched = dict.fromkeys(applied.arrivals)
        for settlement in batch.settlements:
            queue = self.queues[settlement.component]
            gone = len(settlement.done) + len(settlement.finished) + len(settlement.dead)
            queue.settled(gone)
            touched[settlement.component] = None
            settlement.answer.callback(None)
        now = self.clock.seconds()
        for component, entries in applied.arrivals.items():
            self._queue(component).accept(entries, now)
        for component in touched:
            self.pump(component)
        if self.ledger.flush_due(now) and not self._busy:
            # Under load there is always a batch, and the buffers must be emptied all the same.
            self._flush(now)
        else:
            self._cycle()

    def arrived(self, component: str, entries: list[Entry]) -> None:
        """Takes deliveries that another write than a batch has committed."""
        self._queue(component).accept(entries, self.clock.seconds())
        self.pump(component)

    # Delivering -----------------------------------------------------------------------------

    def expect(self, component: str, types: list[str]) -> Deferred[None]:
        """Queues these for `component` from now on, whether or not it has ever attached."""

        def stored(_: None) -> None:
            self._queue(component)

        return self.write(self.ledger.expect, component, types).addCallback(stored)

    def attach(
        self,
        component: str,
        interests: list[tuple[str, int]],
        credit: int,
        deliver: Callable[[list[Entry]], None],
    ) -> Deferred[Attached]:
        """A process of `component` wants deliveries; fires when its interests are stored."""
        self._check_open()

        def stored(_: None) -> Attached:
            attached = Attached(component, Consumer(component, credit), deliver)
            self._queue(component).consumers.append(attached.consumer)
            self._attached.append(attached)
            # After the answer, so that the peer knows that it is attached.
            self.clock.callLater(0, self.pump, component)
            return attached

        attaching = self.write(self.ledger.attach, component, interests)
        return attaching.addCallbacks(stored, self.unwritten)

    def detach(self, attached: Attached) -> None:
        """The process is gone: what it held goes back to its place."""
        self._attached.remove(attached)
        queue = self.queues[attached.component]
        self._put_back(attached.component, queue.lost(attached.consumer), "lost")
        self.pump(attached.component)

    def release(self, attached: Attached) -> None:
        """The process stops: what it held goes back to its place as if it had never been given."""
        self._attached.remove(attached)
        queue, now = self.queues[attached.component], self.clock.seconds()
        for entry in queue.lost(attached.consumer):
            queue.release(entry, now)
        self.pump(attached.component)

    def pump(self, component: str) -> None:
        """Sends what is due to those who have credit, and reads what memory lacks."""
        if self.stopping or self._down:
            return
        queue, now = self.queues[component], self.clock.seconds()
        late = queue.expired(now)
        if late:
            self._put_back(component, late, "lease")
        delivered = self.counters.of(component).delivered
        for consumer, entries in queue.take(now):
            attached = next(one for one in self._attached if one.consumer is consumer)
            attached.deliver(entries)
            delivered.update([entry.message.type for entry in entries if entry.message])
        for want in queue.wants():
            store, id = self.ledger.store, self.ledger.component_id(component)
            engine = self.ledger.engine
            call: tuple[Any, ...]
            if want.seqs:
                call = (store.load_some, id, component, want.lane, want.seqs)
            else:
                call = (store.load, id, component, want.lane, want.after, want.limit)
            done = self.read(read, engine, *call)
            done.addCallback(self._loaded, component, want).addErrback(self._broken)
        self._wake(component, queue.wake_at(), now)

    def _loaded(self, rows: list[Loaded], component: str, want: Want) -> None:
        queue = self.queues[component]
        damaged = queue.loaded(want, rows, self.clock.seconds())
        if damaged and not self.stopping:
            self.log.error(
                "{count} damaged messages of {component} are dead letters now; `wm verify` names "
                "them",
                count=len(damaged),
                component=component,
            )
            done = self.write(
                self.ledger.bury, component, damaged, "checksum", self.clock.seconds()
            )
            done.addErrback(self._broken)
            self.counters.of(component).dead += len(damaged)
        self.pump(component)

    def _wake(self, component: str, at: float | None, now: float) -> None:
        call = self._wakes.get(component)
        if at is None or (call is not None and call.active() and call.getTime() <= at):
            return
        if call is not None and call.active():
            call.cancel()
        self._wakes[component] = self.clock.callLater(max(0.0, at - now), self.pump, component)

    # Settling -------------------------------------------------------------------------------

    def settle(self, attached: Attached, outcomes: list[Any]) -> Deferred[list[int]]:
        """Takes outcomes as in `wire.Settle`; fires with the stale keys, after the commit."""
        self._check_open()
        done, finished, retry, failed = outcomes
        queue, consumer = self.queues[attached.component], attached.consumer
        counts = self.counters.of(attached.component)
        settlement = Settlement(attached.component)
        stale: list[int] = []

        def end(key: int) -> Entry | None:
            entry = queue.settle(consumer, key)
            if entry is None:
                stale.append(key)
            elif entry.message is not None:
                counts.settled[entry.message.type] += 1
            return entry

        for key in done:
            if (entry := end(key)) is not None:
                settlement.done.append(entry)
        for key, messages, flags, triggers in finished:
            if (entry := end(key)) is not None:
                reason = bad_outputs(messages, flags, triggers, self.ledger.books.max_payload)
                if reason:
                    self._bury(settlement, entry, reason)
                else:
                    settlement.finished.append(Finished(entry, messages, flags, triggers))
        for key, reason in failed:
            if (entry := end(key)) is not None:
                self._bury(settlement, entry, reason)
        now = self.clock.seconds()
        for key, delay, reason in retry:
            if (entry := queue.settle(consumer, key)) is not None:
                self._retry(settlement, queue, entry, "retry", delay, reason, now)
            else:
                stale.append(key)
        self._pending.settlements.append(settlement)
        self._cycle()
        return settlement.answer.addCallback(lambda _: stale)

    def extend(self, attached: Attached, keys: list[int]) -> None:
        """The process still works on these."""
        self.queues[attached.component].extend(attached.consumer, keys, self.clock.seconds())

    def _put_back(self, component: str, entries: list[Entry], reason: str) -> None:
        if not entries or self.stopping or self._down:
            return  # the next broker finds them where they were
        settlement, now = Settlement(component), self.clock.seconds()
        for entry in entries:
            self._retry(settlement, self.queues[component], entry, reason, 0.0, reason, now)
        self._pending.settlements.append(settlement)
        self._cycle()

    def _retry(
        self,
        settlement: Settlement,
        queue: Queue,
        entry: Entry,
        reason: str,
        delay: float | None,
        error: str,
        now: float,
    ) -> None:
        """Returns a delivery to its queue; `delay` None means as long as the back-off says."""
        if delay is None:
            backoff = self.settings.backoff
            delay = backoff[min(entry.attempt, len(backoff) - 1)] if backoff else 0.0
        due = now + delay if delay > 0 else None
        if queue.put_back(entry, reason, due, now):
            settlement.returned.append((entry, due, error))
            self.counters.of(settlement.component).retried += 1
        else:
            self._bury(settlement, entry, f"gave up after {entry.attempt} deliveries: {error}")

    def _bury(self, settlement: Settlement, entry: Entry, reason: str) -> None:
        self.log.error(
            "{component}: {type} {id} is a dead letter: {reason}",
            component=settlement.component,
            type=entry.message.type if entry.message else "?",
            id=f"{entry.message.origin}/{entry.message.number}" if entry.message else entry.key,
            reason=reason,
        )
        settlement.dead.append((entry, reason))
        self.counters.of(settlement.component).dead += 1

    # Watching -------------------------------------------------------------------------------

    def _ticked(self) -> None:
        self._tick = self.clock.callLater(1.0, self._ticked)
        self._cycle()
        if not self._down:
            now = self.clock.seconds()
            self._retention.tick(self.ledger, self.write, now).addErrback(self._broken)
        for component in self.queues:
            self.pump(component)

    def history(self, wanted: history.Filter) -> Deferred[list[list[Any]]]:
        """Stored messages, in the form of `wire.History`."""
        return self.read(_look_up, self.ledger, wanted)

    def full_status(self) -> Deferred[dict[str, Any]]:
        """The counters, and those that only the store has."""

        def counted(triggers: list[dict[str, Any]]) -> dict[str, Any]:
            return {**self.status(), "triggers": triggers}

        engine, tables = self.ledger.engine, self.ledger.tables
        return self.read(read, engine, state.trigger_counts, tables).addCallback(counted)

    def trouble(self) -> str:
        """Why the broker makes no progress, or ""."""
        if self._down:
            return "the store cannot be used"
        if self._busy and self.clock.seconds() - self._since > STUCK_SECONDS:
            return f"the store has not answered for {self.clock.seconds() - self._since:.0f} s"
        return ""

    def status(self) -> dict[str, Any]:
        """The counters since the start, and what waits now; plain data."""
        now = self.clock.seconds()
        broker = {
            "name": self.settings.name,
            "pid": os.getpid(),
            "store": self.ledger.engine.dialect.name,
            "durability": "full",
            "started": self._started,
        }
        return self.counters.report(broker, self.queues, now)


def _look_up(ledger: Ledger, wanted: history.Filter) -> list[list[Any]]:
    def look(connection: Connection) -> list[list[Any]]:
        names = {row.id: row.name for row in state.components(connection, ledger.tables)}
        rows = history.records(connection, ledger.tables, wanted)
        return [history.as_row(row, names) for row in rows]

    return read(ledger.engine, look)
