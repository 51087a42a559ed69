"""Forgets what was handled long ago, a bounded number of messages at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen
from sqlalchemy import Connection
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from wmtwisted.broker.ledger import Ledger
from wmtwisted.store import history, state
from wmtwisted.store.history import Filter, Place, Record

#: Runs a function on the writer's thread.
Write = Callable[..., Deferred[Any]]

#: Messages looked at in one commit.
STEP = 1000


@frozen
class Purged:
    """One step of a purge."""

    #: How many messages were forgotten.
    count: int
    #: The last message that was looked at; the next step goes on behind it.
    cursor: int
    #: Whether there may be more that are old enough.
    more: bool


class Retention:
    """Purges by age, once a minute; the whole store is looked through once an hour."""

    def __init__(self, seconds: float) -> None:
        #: How long handled messages are kept.
        self.seconds = seconds
        self._cursor = 0
        self._running = False
        self._next = self._again = 0.0

    def tick(self, ledger: Ledger, write: Write, now: float) -> Deferred[None]:
        """Does what is due; fires at its end."""
        if self._running or now < self._next:
            return succeed(None)
        if now >= self._again:
            # Below the cursor is what was held; its time may have come.
            self._cursor, self._again = 0, now + 3600.0
        self._running, self._next = True, now + 60.0
        return self._step(ledger, write, now).addBoth(self._ended)

    def _step(self, ledger: Ledger, write: Write, now: float) -> Deferred[None]:
        def stepped(purged: Purged) -> Deferred[None] | None:
            self._cursor = purged.cursor
            return self._step(ledger, write, now) if purged.more else None

        done = write(purge, ledger, now - self.seconds, self._cursor, now)
        return done.addCallback(stepped)

    def _ended(self, result: Failure | None) -> Failure | None:
        self._running = False
        return result


def purge(ledger: Ledger, before: float, cursor: int, now: float) -> Purged:
    """Deletes messages accepted before `before` that nobody waits for; on the writer's thread.

    What waits for a component, or is one of its dead letters, stays whatever its age, and so does
    the newest message, from which the next ids follow. Triggers that fired before go as well.
    """
    if ledger.books.unflushed:
        ledger.flush(now)  # so that what is settled is history

    def write(connection: Connection) -> Purged:
        tables = ledger.tables
        old = [
            row
            for row in history.records(connection, tables, Filter(after=cursor, limit=STEP))
            if row.message.published < before
        ]
        if not old:
            return Purged(0, cursor, False)
        held = _held(connection, ledger, old) | {ledger.last_message}
        gone = [row for row in old if row.message.id not in held]
        history.forget(connection, tables, gone)
        state.forget_triggers(connection, tables, before)
        return Purged(len(gone), old[-1].message.id, len(old) == STEP)

    return ledger.write(write)


def _held(connection: Connection, ledger: Ledger, rows: list[Record]) -> set[int]:
    """The ids of those that a component has yet to settle."""
    names = {row.id: row.name for row in state.components(connection, ledger.tables)}
    held = set()
    for component, name in names.items():
        of: dict[Place, int] = {
            place: row.message.id
            for row in rows
            for place in row.places
            if place.component == component
        }
        fates = history.fates(connection, ledger.tables, name, list(of))
        held |= {of[place] for place, fate in fates.items() if fate in ("waiting", "dead")}
    return held
