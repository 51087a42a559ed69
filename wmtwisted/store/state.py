"""What the broker reads at its start, and the rarer writes: who writes, interests, triggers."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable

from attrs import asdict, frozen
from sqlalchemy import (
    Connection,
    Integer,
    delete,
    func,
    insert,
    literal_column,
    select,
    tuple_,
    update,
)

from wmtwisted.errors import Refused, StoreError
from wmtwisted.store.tables import Tables


@frozen
class ComponentRow:
    """A component that the store knows."""

    id: int
    name: str
    #: The next sequence number of the normal and of the priority lane.
    next: tuple[int, int]


@frozen
class TriggerRow:
    """A trigger and its flags, as stored."""

    name: str
    id: str
    state: str
    action: str | None
    payload: bytes | None
    priority: int | None
    delay: float | None
    chain: str | None
    declared: float | None
    fired: float | None


@frozen
class FlagRow:
    """A flag; `set` and `source` are None while it is waited for."""

    trigger: str
    id: str
    flag: str
    set: float | None
    source: str | None


def seize(connection: Connection, tables: Tables, name: str) -> str:
    """Makes this process the one that writes; returns the token that `fence` checks.

    Called while the store's lock is held, so that whoever had the token before is gone or fenced.
    """
    token = secrets.token_hex(16)
    holder = f"{name} (process {os.getpid()} on {socket.gethostname()})"
    connection.execute(delete(tables.broker))
    connection.execute(insert(tables.broker).values(id=1, token=token, holder=holder, beat=0))
    return token


def max_payload(connection: Connection) -> int:
    """The longest payload that one statement can carry, in bytes."""
    if connection.dialect.name == "sqlite":
        return 1 << 30
    packet = literal_column("@@max_allowed_packet", Integer)
    # The driver escapes bytes, which at the most doubles them; the rest of the row is small.
    return (connection.execute(select(packet)).scalar_one() - (1 << 16)) // 2


def tag(connection: Connection, tables: Tables) -> str:
    """What tells the ids of this store from those of another one."""
    return str(connection.execute(select(tables.version.c.tag)).scalar_one())


def fence(connection: Connection, tables: Tables, token: str, beat: int) -> None:
    """The first statement of every write, which is the `beat`th since `seize`, from 0.

    Raises StoreError when another broker has taken over, and when this write is there already: its
    commit was done although the database reported an error.
    """
    table = tables.broker
    mine = (table.c.token == token, table.c.beat == beat)
    if connection.execute(update(table).where(*mine).values(beat=beat + 1)).rowcount != 1:
        found = connection.execute(select(table.c.holder, table.c.token)).first()
        if found is not None and found.token == token:
            raise StoreError(
                "a commit that failed was done all the same",
                "start the broker again: it reads back what is stored",
            )
        raise StoreError(f"the store was taken over by {found.holder if found else 'nobody'}")


def components(connection: Connection, tables: Tables) -> list[ComponentRow]:
    """All known components; the counters are as of the last flush."""
    rows = connection.execute(select(tables.component).order_by(tables.component.c.id))
    return [ComponentRow(row.id, row.name, (row.next_normal, row.next_priority)) for row in rows]


def add_component(connection: Connection, tables: Tables, id: int, name: str) -> None:
    """Registers a component. Its queue table is made before, in a transaction of its own."""
    same = func.lower(tables.component.c.name) == name.lower()
    found = connection.execute(select(tables.component.c.name).where(same)).scalar()
    if found is not None and found != name:
        raise Refused("bad-name", f"component {name!r} differs from {found!r} by case only")
    values = {"id": id, "name": name, "next_normal": 1, "next_priority": 1}
    connection.execute(insert(tables.component).values(**values))


def interests(connection: Connection, tables: Tables) -> list[tuple[int, str, int]]:
    """All interests: (component, type, lane)."""
    return [tuple(row) for row in connection.execute(select(tables.interest))]


def save_interests(
    connection: Connection, tables: Tables, component: int, wanted: Iterable[tuple[str, int]]
) -> None:
    """Replaces the interests of a component."""
    table = tables.interest
    connection.execute(delete(table).where(table.c.component == component))
    rows = [{"component": component, "type": type, "lane": lane} for type, lane in wanted]
    if rows:
        connection.execute(insert(table), rows)


def origin(connection: Connection, tables: Tables, name: str) -> tuple[int, int]:
    """The id of an origin, made when it is new, and the highest number stored from it."""
    table, message = tables.origin, tables.message
    id = connection.execute(select(table.c.id).where(table.c.name == name)).scalar()
    if id is None:
        id = (connection.execute(select(func.max(table.c.id))).scalar() or 0) + 1
        connection.execute(insert(table).values(id=id, name=name))
        return id, -1
    highest = select(func.max(message.c.number)).where(message.c.origin == id)
    found = connection.execute(highest).scalar()
    return id, -1 if found is None else found


def triggers(
    connection: Connection, tables: Tables, keys: Iterable[tuple[str, str]]
) -> tuple[list[TriggerRow], list[FlagRow]]:
    """The stored triggers under these (name, id), with their flags."""
    wanted = list(keys)
    trigger, flag = tables.trigger, tables.flag
    found: list[TriggerRow] = []
    flags: list[FlagRow] = []
    for start in range(0, len(wanted), 200):
        part = wanted[start : start + 200]
        here = tuple_(trigger.c.name, trigger.c.id).in_(part)
        found += (TriggerRow(*row) for row in connection.execute(select(trigger).where(here)))
        here = tuple_(flag.c.trigger, flag.c.id).in_(part)
        flags += (FlagRow(*row) for row in connection.execute(select(flag).where(here)))
    return found, flags


def save_triggers(
    connection: Connection,
    tables: Tables,
    rows: Iterable[TriggerRow],
    flags: Iterable[FlagRow],
) -> None:
    """Stores the new state of triggers, replacing what was there."""
    trigger, flag = tables.trigger, tables.flag
    for row in rows:
        values = asdict(row)
        connection.execute(
            delete(trigger).where(trigger.c.name == row.name, trigger.c.id == row.id)
        )
        connection.execute(delete(flag).where(flag.c.trigger == row.name, flag.c.id == row.id))
        connection.execute(insert(trigger).values(**values))
    values_ = [asdict(row) for row in flags]
    if values_:
        connection.execute(insert(flag), values_)


def trigger_counts(connection: Connection, tables: Tables) -> list[dict[str, object]]:
    """By trigger name: how many are pending (early ones among them) and fired."""
    table = tables.trigger
    query = select(table.c.name, table.c.state, func.count()).group_by(table.c.name, table.c.state)
    counts: dict[str, dict[str, object]] = {}
    for name, state, count in connection.execute(query):
        row = counts.setdefault(name, {"name": name, "pending": 0, "fired": 0})
        column = "fired" if state == "fired" else "pending"
        row[column] = int(str(row[column])) + count
    return list(counts.values())


def dead_counts(connection: Connection, tables: Tables) -> dict[int, int]:
    """By component, how many dead letters it has."""
    dead = tables.dead
    query = select(dead.c.component, func.count()).group_by(dead.c.component)
    return {row[0]: row[1] for row in connection.execute(query)}


def forget_triggers(connection: Connection, tables: Tables, before: float) -> None:
    """Deletes triggers that fired before a time, with their flags."""
    trigger, flag = tables.trigger, tables.flag
    old = (trigger.c.fired < before) & (trigger.c.state == "fired")
    query = select(trigger.c.name, trigger.c.id).where(old).limit(1000)
    for name, id in connection.execute(query).all():
        connection.execute(delete(flag).where(flag.c.trigger == name, flag.c.id == id))
        connection.execute(delete(trigger).where(trigger.c.name == name, trigger.c.id == id))
