"""Replays: stored messages queued once more for one component, in order, in bounded steps.

Each step is one commit with the replay's cursor in it, so that a replay goes on where it was after
a crash, and gives every message once.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from attrs import asdict, evolve, fields, frozen
from sqlalchemy import Connection, func, insert, select, update
from twisted.internet.defer import Deferred

from wmtwisted.broker.ledger import Ledger
from wmtwisted.broker.queue import Entry
from wmtwisted.broker.routing import NORMAL
from wmtwisted.errors import Refused
from wmtwisted.store import history
from wmtwisted.store.database import read, run
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
        # The writer's thread knows the types; the rest is done beside it, as it may take long.
        broker = self.broker
        types = broker.write(interests, broker.ledger, wanted.component)
        return types.addCallback(lambda found: broker.read(plan, broker.ledger, wanted, found))

    def start(self, wanted: Filter) -> Deferred[dict[str, Any]]:
        """Re-queues; fires with the replay's id and the count when all is committed."""
        done = self.broker.write(begin, self.broker.ledger, wanted, self.broker.clock.seconds())
        done.addCallback(self._go_on, wanted.component)
        return done.addErrback(self.broker.unwritten)

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

        def stepped(step: Step) -> Any:
            if step.entries:
                broker.arrived(component, step.entries)
            broker.counters.of(component).dead -= step.revived
            more = self._go_on(id, component) if step.more else None
            return more or {"replay": id, "count": step.count}

        done = broker.write(forward, broker.ledger, id, broker.clock.seconds())
        return done.addCallback(stepped)


def interests(ledger: Ledger, component: str) -> list[str]:
    """The types that a component wants. Raises Refused when it never attached."""
    ledger.component_id(component)
    return list(ledger.books.router.interests(component))


def plan(ledger: Ledger, wanted: Filter, types: list[str]) -> dict[str, Any]:
    """Counts what `wanted` selects."""

    def look(connection: Connection) -> dict[str, Any]:
        low, upto = _bounds(connection, ledger, wanted)
        count, cursor = 0, low
        sample: list[list[Any]] = []
        while cursor <= upto:
            found, last = _look(connection, ledger, wanted, types, cursor, upto)
            count += len(found)
            for row, _ in found[: SAMPLE - len(sample)]:
                stored = row.message
                sample.append([f"{stored.origin}/{stored.number}", stored.type, stored.published])
            cursor = last + 1
        return {"replay": 0, "count": count, "sample": sample}

    return read(ledger.engine, look)


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


@frozen
class Step:
    """What one step of a replay has done."""

    entries: list[Entry]
    #: How many messages there were in all so far.
    count: int
    #: How many of this step's had been dead letters.
    revived: int
    #: Whether another step follows.
    more: bool


def forward(ledger: Ledger, id: int, now: float) -> Step:
    """One step; on the writer's thread."""

    def write(connection: Connection) -> tuple[list[tuple[int, Stored]], int, int, bool]:
        table = ledger.tables.replay
        row = connection.execute(select(table).where(table.c.id == id)).one()
        so_far = int(row._mapping["count"])  # row.count is the tuple's method
        if row.cursor > row.upto:
            return [], so_far, 0, False
        wanted = Filter(**json.loads(row.filter))
        types = interests(ledger, name)
        found, last = _look(connection, ledger, wanted, types, row.cursor, row.upto)
        placed, revived = [], 0
        for number, (record, ends) in enumerate(found):
            seq = first + number
            placed.append((seq, record.message))
            history.requeue(connection, ledger.tables, row.component, record, ends, seq, id, now)
            revived += list(ends.values()).count("dead")
        count = so_far + len(found)
        statement = update(table).where(table.c.id == id).values(cursor=last + 1, count=count)
        connection.execute(statement)
        return placed, count, revived, last < row.upto

    def component(connection: Connection) -> str:
        table = ledger.tables.replay
        text = connection.execute(select(table.c.filter).where(table.c.id == id)).scalar_one()
        return str(json.loads(text)["component"])

    name = run(ledger.engine, component)
    first = ledger.next_seq(name, NORMAL)
    placed, count, revived, more = ledger.write(write)
    ledger.took(name, NORMAL, len(placed))
    entries = [
        Entry(seq * 2 + NORMAL, stored, reason="replay", replay=id) for seq, stored in placed
    ]
    return Step(entries, count, revived, more)


def _bounds(connection: Connection, ledger: Ledger, wanted: Filter) -> tuple[int, int]:
    """The first and the last message id that `wanted` can select now."""
    tables = ledger.tables
    top = connection.execute(select(func.max(tables.message.c.id))).scalar() or 0
    low = history.first_id(connection, tables, wanted.since) if wanted.since else 1
    high = history.first_id(connection, tables, wanted.until) - 1 if wanted.until else top
    return max(low, wanted.after + 1), min(top, high)


def _look(
    connection: Connection,
    ledger: Ledger,
    wanted: Filter,
    types: list[str],
    cursor: int,
    upto: int,
) -> tuple[list[tuple[history.Record, dict[history.Place, history.Fate]]], int]:
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
