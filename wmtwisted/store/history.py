"""What was published: found again, followed, and re-queued."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from attrs import evolve, frozen
from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, update

from wmtwisted.store.messages import Stored, chunks, intact, stored_columns
from wmtwisted.store.tables import Tables

#: What became of a delivery. `lost` was routed and is in no table: what a replay is for.
Fate = Literal["waiting", "settled", "dead", "lost"]


@frozen
class Place:
    """A delivery's place: its component, lane and sequence number."""

    component: int
    lane: int
    seq: int


@frozen
class Filter:
    """Which stored messages are meant. Empty parts select all."""

    #: Behind this message id; at most `limit`.
    after: int = 0
    limit: int = 100
    type: str = ""
    #: Those that were queued for this component.
    component: str = ""
    source: str = ""
    correlation: str = ""
    #: Accepted at or after, and before; seconds since the epoch.
    since: float = 0.0
    until: float = 0.0
    #: Only those that this component never settled and does not have.
    lost: bool = False
    #: Only its dead letters.
    dead: bool = False
    #: The last `limit` of them instead of the first.
    newest: bool = False


@frozen
class Record:
    """A stored message; `places` is where it went."""

    message: Stored
    checksum: int
    places: tuple[Place, ...]

    @property
    def damaged(self) -> bool:
        """Whether the stored bytes are not those that were accepted."""
        return not intact(self.message, self.checksum)


def parse_routes(routes: str) -> tuple[Place, ...]:
    """The `routes` column: `component:lane:seq`, separated by spaces."""
    return tuple(Place(*map(int, place.split(":"))) for place in routes.split())


def records(
    connection: Connection, tables: Tables, wanted: Filter, types: Sequence[str] = ()
) -> list[Record]:
    """Stored messages in the order of their acceptance; `types` are several instead of one."""
    message, origin = tables.message, tables.origin
    query = (
        select(
            *stored_columns(tables),
            message.c.routes,
        )
        .select_from(message.outerjoin(origin, message.c.origin == origin.c.id))
        .where(message.c.id > wanted.after)
        .order_by(message.c.id.desc() if wanted.newest else message.c.id)
        .limit(wanted.limit)
    )
    if types or wanted.type:
        query = query.where(message.c.type.in_(types or [wanted.type]))
    if wanted.component:
        id = component_id(connection, tables, wanted.component)
        query = query.where((" " + message.c.routes).like(f"% {id}:%"))
    if wanted.source:
        # A range and no LIKE, which in SQLite takes upper and lower case as the same.
        boots = (origin.c.name >= f"{wanted.source}~") & (origin.c.name < f"{wanted.source}\x7f")
        query = query.where((origin.c.name == wanted.source) | boots)
    if wanted.correlation:
        name, _, number = wanted.correlation.rpartition("/")
        head = (origin.c.name == name) & (message.c.number == _number(number))
        query = query.where((message.c.chain == wanted.correlation) | head)
    if wanted.since:
        query = query.where(message.c.id >= first_id(connection, tables, wanted.since))
    if wanted.until:
        query = query.where(message.c.id < first_id(connection, tables, wanted.until))
    found = [
        Record(Stored(*row[:8]), row[8], parse_routes(row[9])) for row in connection.execute(query)
    ]
    return found[::-1] if wanted.newest else found


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 19 else -1


def component_id(connection: Connection, tables: Tables, name: str) -> int:
    """The id of a component, or -1."""
    found = connection.execute(select(tables.component.c.id).where(tables.component.c.name == name))
    id = found.scalar()
    return -1 if id is None else id


def first_id(connection: Connection, tables: Tables, time: float) -> int:
    """The first message accepted at or after `time`: ids grow with time, so it is bisected."""
    message = tables.message
    low, high = connection.execute(select(func.min(message.c.id), func.max(message.c.id))).one()
    if low is None:
        return 1
    high += 1
    while low < high:
        middle = (low + high) // 2
        query = select(message.c.id, message.c.published).where(message.c.id >= middle)
        row = connection.execute(query.order_by(message.c.id).limit(1)).first()
        if row is None or row.published >= time:
            high = middle
        else:
            low = row.id + 1
    return int(low)


def fates(
    connection: Connection, tables: Tables, component: str, places: Sequence[Place]
) -> dict[Place, Fate]:
    """What became of deliveries of one component."""
    found: dict[Place, Fate] = dict.fromkeys(places, "lost")
    by_lane: dict[tuple[int, int], list[int]] = {}
    for place in places:
        by_lane.setdefault((place.component, place.lane), []).append(place.seq)
    queue = tables.queue(component)
    for (id, lane), seqs in by_lane.items():
        for part in chunks(seqs, 500):
            looks: list[tuple[Table, Fate]] = [
                (tables.dead, "dead"),
                (tables.history, "settled"),
                (queue, "waiting"),
                (tables.buffer_in, "waiting"),
            ]
            for table, fate in looks:
                query = select(table.c.seq).where(table.c.lane == lane, table.c.seq.in_(part))
                if table is not queue:
                    query = query.where(table.c.component == id)
                for (seq,) in connection.execute(query):
                    found[Place(id, lane, seq)] = fate
            out = tables.buffer_out
            query = select(out.c.low, out.c.high).where(
                out.c.component == id,
                out.c.lane == lane,
                out.c.low <= max(part),
                out.c.high >= min(part),
            )
            # Settled since the last flush: the rows are still where they waited.
            for low, high in connection.execute(query):
                for seq in part:
                    place = Place(id, lane, seq)
                    if low <= seq <= high and found[place] == "waiting":
                        found[place] = "settled"
    return found


def as_row(record: Record, names: dict[int, str]) -> list[Any]:
    """A record in the form of `wire.History`: id, type, source, published, chain, payload, to."""
    stored = record.message
    to = sorted({names.get(place.component, "?") for place in record.places})
    return [
        stored.id,
        f"{stored.origin}/{stored.number}",
        stored.type,
        str(stored.origin).partition("~")[0],
        stored.published,
        stored.chain or f"{stored.origin}/{stored.number}",
        stored.payload,
        to,
    ]


def replayable(
    connection: Connection, tables: Tables, wanted: Filter, types: Sequence[str], upto: int
) -> tuple[list[tuple[Record, dict[Place, Fate]]], int]:
    """Looks at the next `wanted.limit` messages up to id `upto` for what may be re-queued.

    That is what `wanted.component` got, or, when it is interested in it now (`types`), did not get
    because it was not then; never what still waits for it, and never what is damaged. Returns them
    with the fates of their places, and the last id looked at, which is `upto` at the end.
    """
    component = component_id(connection, tables, wanted.component)
    scan = evolve(wanted, component="", type="", since=0.0, until=0.0, newest=False)
    # What is addressed to one component is of the type behind the colon for it.
    kinds = [wanted.type, f"{wanted.component}:{wanted.type}"] if wanted.type else []
    rows = [row for row in records(connection, tables, scan, kinds) if row.message.id <= upto]
    last = rows[-1].message.id if len(rows) == wanted.limit else upto
    mine = {row: [place for place in row.places if place.component == component] for row in rows}
    all_places = [place for places in mine.values() for place in places]
    fate = fates(connection, tables, wanted.component, all_places)
    found = []
    for row, places in mine.items():
        type = row.message.type
        addressed = type.removeprefix(f"{wanted.component}:")
        if row.damaged or not (places or type in types or addressed in types):
            continue
        ends = {place: fate[place] for place in places}
        if "waiting" in ends.values():
            continue
        if wanted.lost and set(ends.values()) != {"lost"}:
            continue
        if wanted.dead and "dead" not in ends.values():
            continue
        found.append((row, ends))
    return found, last


def requeue(
    connection: Connection,
    tables: Tables,
    component: int,
    record: Record,
    ends: dict[Place, Fate],
    seq: int,
    replay: int,
    now: float,
) -> None:
    """Queues a stored message once more, as `seq` of the component's normal lane.

    Its places that were lost or dead become history, so that each place has one fate again.
    """
    id = record.message.id
    delivery = {"component": component, "lane": 0, "seq": seq, "message": id, "due": None}
    connection.execute(insert(tables.buffer_in).values(**delivery, attempt=0, replay=replay))
    message, dead = tables.message, tables.dead
    route = f" {component}:0:{seq}"
    statement = update(message).where(message.c.id == id)
    connection.execute(statement.values(routes=func.ltrim(message.c.routes.concat(route))))
    for place, fate in ends.items():
        if fate == "settled":
            continue
        values = {"component": component, "lane": place.lane, "seq": place.seq, "message": id}
        connection.execute(
            insert(tables.history).values(**values, due=None, attempt=0, replay=replay, settled=now)
        )
        connection.execute(
            delete(dead).where(
                dead.c.component == component, dead.c.lane == place.lane, dead.c.seq == place.seq
            )
        )


def forget(connection: Connection, tables: Tables, rows: Sequence[Record]) -> None:
    """Deletes messages, and the history of their deliveries."""
    message, past = tables.message, tables.history
    places = [place for row in rows for place in row.places]
    if places:
        statement = delete(past).where(
            past.c.component == bindparam("c"),
            past.c.lane == bindparam("l"),
            past.c.seq == bindparam("s"),
        )
        values = [{"c": place.component, "l": place.lane, "s": place.seq} for place in places]
        connection.execute(statement, values)
    for part in chunks([row.message.id for row in rows], 500):
        connection.execute(delete(message).where(message.c.id.in_(part)))
