"""Replays: stored messages queued once more for one component, in order, in bounded steps.

Each step is one commit with the replay's cursor in it, so that a replay goes on where it was after
a crash, and gives every message once.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from attrs import asdict, evolve, fields
from sqlalchemy import Connection, func, insert, select, update
from twisted.internet.defer import Deferred

from wmtwisted.broker.ledger import Ledger
from wmtwisted.broker.queue import Entry
from wmtwisted.broker.routing import NORMAL
from wmtwisted.errors import Refused
from wmtwisted.store import history
from wmtwisted.store.database import run
from wmtwisted.store.history import Filter
from wmtwisted.store.messages import Stored

if TYPE_CHECKING:
    from wmtwisted.broker.service import Broker

#: Messages looked at in one commit.
STEP = 1000
#: Messages named in the answer to a dry run.
SAMPLE = 10


class Replays:
    """Starts replays, and goes on with those that a crash cut short."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def plan(self, wanted: Filter) -> Deferred[dict[str, Any]]:
        """What a replay would deliver: how many, and the first few."""
        return self.broker.write(plan, self.broker.ledger, wanted)

    def start(self, wanted: Filter) -> Deferred[dict[str, Any]]:
        """Re-queues; fires with the replay's id and the count when all is committed."""
        done = self.broker.write(begin, self.broker.ledger, wanted, self.broker.clock.seconds())
        return done.addCallback(self._go_on, wanted.component)

    def resume(self) -> None:
        """Goes on with what was not finished when the last broker ended."""
        broker = self.broker

        def found(open_ones: list[tuple[int, str]]) -> None:
            for id, component in open_ones:
                broker.log.info("going on with replay {id} for {to}", id=id, to=component)
                self._go_on(id, component).addErrback(broker._broken)

        broker.write(unfinished, broker.ledger).addCallback(found).addErrback(broker._broken)

    def _go_on(self, id: int, component: str) -> Deferred[dict[str, Any]]:
        broker = self.broker
        if broker.stopping:
            return Deferred()  # the next broker goes on with it

        def stepped(step: tuple[list[Entry], int, bool]) -> Any:
            entries, count, more = step
            if entries:
                broker.arrived(component, entries)
            return self._go_on(id, component) if more else {"replay": id, "count": count}

        done = broker.write(forward, broker.ledger, id, broker.clock.seconds())
        return done.addCallback(stepped)


def plan(ledger: Ledger, wanted: Filter) -> dict[str, Any]:
    """Counts what `wanted` selects; on the writer's thread."""

    def look(connection: Connection) -> dict[str, Any]:
        low, upto = _bounds(connection, ledger, wanted)
        count, cursor = 0, low
        sample: list[list[Any]] = []
        while cursor <= upto:
            found, last = _look(connection, ledger, wanted, cursor, upto)
            count += len(found)
            for row, _ in found[: SAMPLE - len(sample)]:
                stored = row.message
                sample.append([f"{stored.origin}/{stored.number}", stored.type, stored.published])
            cursor = last + 1
        return {"replay": 0, "count": count, "sample": sample}

    ledger.component_id(wanted.component)
    return run(ledger.engine, look)


def begin(ledger: Ledger, wanted: Filter, now: float) -> int:
    """Stores a replay's filter and bounds; on the writer's thread."""

    def write(connection: Connection) -> int:
        table = ledger.tables.replay
        id = 1 + (connection.execute(select(func.max(table.c.id))).scalar() or 0)
        low, upto = _bounds(connection, ledger, wanted)
        connection.execute(
            insert(table).values(
                id=id,
                component=component,
                filter=json.dumps(asdict(wanted)),
                started=now,
                cursor=low,
                upto=upto,
                count=0,
            )
        )
        return id

    component = ledger.component_id(wanted.component)
    return ledger.write(write)


def unfinished(ledger: Ledger) -> list[tuple[int, str]]:
    """Replays that have not come to their end: (id, component)."""

    def look(connection: Connection) -> list[tuple[int, str]]:
        table = ledger.tables.replay
        query = select(table.c.id, table.c.filter).where(table.c.cursor <= table.c.upto)
        return [(id, json.loads(text)["component"]) for id, text in connection.execute(query)]

    return run(ledger.engine, look)


def forward(ledger: Ledger, id: int, now: float) -> tuple[list[Entry], int, bool]:
    """One step: the new deliveries, how many there were in all so far, and whether more follow."""

    def write(connection: Connection) -> tuple[list[tuple[int, Stored]], int, bool]:
        table = ledger.tables.replay
        row = connection.execute(select(table).where(table.c.id == id)).one()
        so_far = int(row._mapping["count"])  # row.count is the tuple's method
        if row.cursor > row.upto:
            return [], so_far, False
        wanted = Filter(**json.loads(row.filter))
        found, last = _look(connection, ledger, wanted, row.cursor, row.upto)
        placed = []
        for number, (record, ends) in enumerate(found):
            seq = first + number
            placed.append((seq, record.message))
            history.requeue(connection, ledger.tables, row.component, record, ends, seq, id, now)
        count = so_far + len(found)
        statement = update(table).where(table.c.id == id).values(cursor=last + 1, count=count)
        connection.execute(statement)
        return placed, count, last < row.upto

    def component(connection: Connection) -> str:
        table = ledger.tables.replay
        text = connection.execute(select(table.c.filter).where(table.c.id == id)).scalar_one()
        return str(json.loads(text)["component"])

    name = run(ledger.engine, component)
    first = ledger.next_seq(name, NORMAL)
    placed, count, more = ledger.write(write)
    ledger.took(name, NORMAL, len(placed))
    entries = [
        Entry(seq * 2 + NORMAL, stored, reason="replay", replay=id) for seq, stored in placed
    ]
    return entries, count, more


def _bounds(connection: Connection, ledger: Ledger, wanted: Filter) -> tuple[int, int]:
    """The first and the last message id that `wanted` can select now."""
    tables = ledger.tables
    top = connection.execute(select(func.max(tables.message.c.id))).scalar() or 0
    low = history.first_id(connection, tables, wanted.since) if wanted.since else 1
    high = history.first_id(connection, tables, wanted.until) - 1 if wanted.until else top
    return max(low, wanted.after + 1), min(top, high)


def _look(
    connection: Connection, ledger: Ledger, wanted: Filter, cursor: int, upto: int
) -> tuple[list[tuple[history.Record, dict[history.Place, history.Fate]]], int]:
    types = list(ledger.books.router.interests(wanted.component))
    step = evolve(wanted, after=cursor - 1, limit=STEP)
    return history.replayable(connection, ledger.tables, step, types, upto)


def parse(filter: object) -> Filter:
    """A filter as it crossed the wire. Raises Refused when it is none."""
    try:
        wanted = Filter(**filter)  # type: ignore[arg-type]
    except TypeError as error:
        raise Refused("bad-message", f"not a filter: {error}") from None
    for part in fields(Filter):
        value, kind = getattr(wanted, part.name), type(part.default)
        good = type(value) is kind or (kind is float and type(value) is int)
        # not (value >= 0) refuses nan as well
        if not good or (kind in (int, float) and not 0 <= value < 1 << 62):
            raise Refused("bad-message", f"not a filter: {part.name} cannot be {value!r:.60}")
    return wanted
