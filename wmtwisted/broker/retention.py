"""Forgets what was handled long ago, a bounded number of messages at a time."""

from __future__ import annotations

from attrs import frozen
from sqlalchemy import Connection

from wmtwisted.broker.ledger import Ledger
from wmtwisted.store import history, state
from wmtwisted.store.history import Filter, Place, Record

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


def purge(ledger: Ledger, before: float, cursor: int) -> Purged:
    """Deletes messages accepted before `before` that nobody waits for; on the writer's thread.

    What waits for a component, or is one of its dead letters, stays whatever its age, and so does
    the newest message, from which the next ids follow. To be called after a flush. Triggers that
    fired before go as well.
    """

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
