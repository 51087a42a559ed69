"""The SQL of the hot path: inserting, settling, flushing and reading back deliveries.

Every method takes the connection whose transaction it is part of. Statements are made once by
SQLAlchemy and run in the driver's own form, because a row through the ORM's or Core's execution
costs ten times the row itself.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    Column,
    Connection,
    Dialect,
    Select,
    Table,
    Update,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.sql.dml import Delete, Insert

from wmtwisted.store.tables import Tables

_NAMED = re.compile(r"%\((\w+)\)s")

#: A settled range as in `buffer_out`: component, lane, low, high, time.
Range = tuple[int, int, int, int, float]


class Stored(NamedTuple):
    """A message as the store has it, shared by all its deliveries."""

    #: Dense, in the order of acceptance.
    id: int
    origin: str
    number: int
    type: str
    payload: bytes
    priority: int
    published: float
    chain: str


class Loaded(NamedTuple):
    """A delivery read back; `message` is None when the stored bytes fail their checksum."""

    seq: int
    due: float | None
    attempt: int
    replay: int
    message: Stored | None


def checksum(origin: str, number: int, type: str, payload: bytes) -> int:
    """CRC-32 over a message's id, type and payload."""
    return zlib.crc32(payload, zlib.crc32(f"{origin}/{number} {type} ".encode()))


class MessageStore:
    """The bus's statements for one set of tables and one dialect."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self.tables = tables
        self._dialect = dialect
        self._insert_message = self._compile(insert(tables.message))
        self._insert_delivery = self._compile(insert(tables.buffer_in))
        self._insert_range = self._compile(insert(tables.buffer_out))
        self._queues: dict[str, _QueueStatements] = {}

    def _compile(self, statement: Insert | Update | Delete | Select[Any]) -> _Statement:
        compiled = statement.compile(dialect=self._dialect)
        sql = str(compiled)
        if compiled.positiontup is not None:
            return _Statement(sql, tuple(compiled.positiontup))
        # SQLAlchemy 2.1 has PyMySQL take parameters by name; rows are cheaper.
        return _Statement(_NAMED.sub("%s", sql), tuple(_NAMED.findall(sql)))

    def queue(self, component: str) -> _QueueStatements:
        """The statements for one component's queue table."""
        statements = self._queues.get(component)
        if statements is None:
            statements = _QueueStatements(self, self.tables.queue(component))
            self._queues[component] = statements
        return statements

    def insert_messages(self, connection: Connection, rows: list[tuple[Any, ...]]) -> None:
        """Rows in the order of the table's columns."""
        connection.exec_driver_sql(self._insert_message.sql, rows)

    def insert_deliveries(self, connection: Connection, rows: list[tuple[Any, ...]]) -> None:
        """Rows in the order of `buffer_in`'s columns."""
        connection.exec_driver_sql(self._insert_delivery.sql, rows)

    def insert_ranges(self, connection: Connection, rows: list[Range]) -> None:
        """What was settled, as ranges."""
        connection.exec_driver_sql(self._insert_range.sql, rows)

    def ranges(self, connection: Connection) -> list[Range]:
        """What was settled since the last flush."""
        out = self.tables.buffer_out.c
        rows = connection.execute(select(out.component, out.lane, out.low, out.high, out.settled))
        return [tuple(row) for row in rows]

    def find(
        self, connection: Connection, origin: int, numbers: Sequence[int]
    ) -> dict[int, tuple[str, bytes]]:
        """Type and payload of those messages of `origin` that are stored."""
        message = self.tables.message.c
        found: dict[int, tuple[str, bytes]] = {}
        for chunk in chunks(numbers, 500):
            query = select(message.number, message.type, message.payload).where(
                message.origin == origin, message.number.in_(chunk)
            )
            found.update((row[0], (row[1], row[2])) for row in connection.execute(query))
        return found

    def settle(
        self,
        connection: Connection,
        ranges: Sequence[Range],
        names: dict[int, str],
        moved: dict[tuple[int, int], int],
    ) -> None:
        """Moves settled deliveries to the history; the first half of a flush.

        `names` has the components' names by id, `moved` by (component, lane) the sequence number
        below which rows are in the component's queue table and no longer in `buffer_in`.
        """
        for component, name in names.items():
            mine = [row for row in ranges if row[0] == component]
            if not mine:
                continue
            statements = self.queue(name)
            young = [row for row in mine if row[3] >= moved[component, row[1]]]
            old = [row for row in mine if row[2] < moved[component, row[1]]]
            for part, keep, drop in (
                (young, statements.keep_young, statements.drop_young),
                (old, statements.keep_old, statements.drop_old),
            ):
                if part:
                    keep.many(connection, map(_range_values, part))
                    drop.many(connection, map(_range_values, merge(part)))
        connection.execute(delete(self.tables.buffer_out))

    def move(
        self, connection: Connection, component: int, name: str, lane: int, low: int, high: int
    ) -> None:
        """Moves the deliveries left in `buffer_in` with low <= seq < high into the queue table."""
        statements = self.queue(name)
        values = [{"component": component, "lane": lane, "low": low, "high": high - 1}]
        statements.move.many(connection, values)
        statements.drop_young.many(connection, values)

    def save_counters(self, connection: Connection, rows: Iterable[tuple[int, int, int]]) -> None:
        """The next sequence numbers of (component, normal lane, priority lane)."""
        table = self.tables.component
        statement = (
            update(table)
            .where(table.c.id == bindparam("which"))
            .values(next_normal=bindparam("normal"), next_priority=bindparam("priority"))
        )
        values = [{"which": row[0], "normal": row[1], "priority": row[2]} for row in rows]
        if values:
            connection.execute(statement, values)

    def returned(
        self,
        connection: Connection,
        component: int,
        name: str,
        rows: Iterable[tuple[int, int, int, float | None]],
    ) -> None:
        """Notes deliveries that came back: (lane, seq, attempt, due)."""
        values = [
            {"component": component, "l": lane, "s": seq, "attempt": attempt, "due": due}
            for lane, seq, attempt, due in rows
        ]
        for table, mine in self._places(component, name):
            statement = (
                update(table)
                .where(*mine, table.c.lane == bindparam("l"), table.c.seq == bindparam("s"))
                .values(attempt=bindparam("attempt"), due=bindparam("due"))
            )
            connection.execute(statement, values)

    def bury(
        self,
        connection: Connection,
        component: int,
        name: str,
        rows: Iterable[tuple[int, int, int, str]],
        now: float,
    ) -> None:
        """Moves deliveries to the dead letters: (lane, seq, attempt, reason)."""
        dead = self.tables.dead
        for lane, seq, attempt, reason in rows:
            for table, mine in self._places(component, name):
                here = (*mine, table.c.lane == lane, table.c.seq == seq)
                row = connection.execute(select(table).where(*here)).mappings().first()
                if row is None:
                    continue
                values = {**row, "component": component, "attempt": attempt}
                connection.execute(insert(dead).values(**values, died=now, reason=reason))
                connection.execute(delete(table).where(*here))

    def _places(self, component: int, name: str) -> list[tuple[Table, list[Any]]]:
        young = self.tables.buffer_in
        return [(young, [young.c.component == component]), (self.tables.queue(name), [])]

    def load(
        self, connection: Connection, component: int, name: str, lane: int, after: int, limit: int
    ) -> list[Loaded]:
        """The next deliveries of a lane behind `after`, in order, at most `limit`.

        On one snapshot, as `read` gives it: a flush moves rows from one place to the other.
        """
        rows: list[Loaded] = []
        # The queue table holds what is older than anything of the component in buffer_in.
        for table, mine in reversed(self._places(component, name)):
            if len(rows) < limit:
                rows += self._read(
                    connection,
                    table,
                    [*mine, table.c.lane == lane, table.c.seq > after],
                    limit - len(rows),
                )
        return rows

    def load_some(
        self, connection: Connection, component: int, name: str, lane: int, seqs: Sequence[int]
    ) -> list[Loaded]:
        """These deliveries of a lane."""
        rows: list[Loaded] = []
        for table, mine in self._places(component, name):
            for chunk in chunks(seqs, 500):
                where = [*mine, table.c.lane == lane, table.c.seq.in_(chunk)]
                rows += self._read(connection, table, where, len(chunk))
        return sorted(rows)

    def _read(
        self, connection: Connection, table: Table, where: Sequence[Any], limit: int
    ) -> Iterator[Loaded]:
        message, origin = self.tables.message, self.tables.origin
        query = (
            select(
                table.c.seq,
                table.c.due,
                table.c.attempt,
                table.c.replay,
                *stored_columns(self.tables),
            )
            .select_from(
                table.outerjoin(message, table.c.message == message.c.id).outerjoin(
                    origin, message.c.origin == origin.c.id
                )
            )
            .where(*where)
            .order_by(table.c.seq)
            .limit(limit)
        )
        for row in connection.execute(query):
            stored = Stored(*row[4:12])
            found = stored if intact(stored, row[12]) else None
            yield Loaded(row[0], row[1], row[2], row[3], found)

    def count(self, connection: Connection, name: str) -> dict[int, tuple[int, int]]:
        """By lane of a queue table: how many rows, and the highest sequence number."""
        table = self.tables.queue(name)
        query = select(table.c.lane, func.count(), func.max(table.c.seq)).group_by(table.c.lane)
        return {row[0]: (row[1], row[2]) for row in connection.execute(query)}


def stored_columns(tables: Tables) -> list[Column[Any]]:
    """The columns of a Stored in their order, and the checksum; of `message` joined to `origin`."""
    message = tables.message.c
    return [
        message.id,
        tables.origin.c.name,
        message.number,
        message.type,
        message.payload,
        message.priority,
        message.published,
        message.chain,
        message.checksum,
    ]


def intact(stored: Stored, expected: int) -> bool:
    """Whether a message read back is the one that was stored; damage may have changed its types."""
    try:
        found = checksum(stored.origin, stored.number, stored.type, stored.payload)
    except TypeError:
        return False
    return found == expected


def chunks(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """`values` in pieces, because databases bound the parameters of a statement."""
    return (values[start : start + size] for start in range(0, len(values), size))


def merge(ranges: Sequence[Range]) -> list[Range]:
    """Adjacent ranges of one component joined, whatever their times."""
    merged: list[Range] = []
    for row in sorted(ranges):
        last = merged[-1] if merged else None
        if last is not None and last[1] == row[1] and last[3] + 1 == row[2]:
            merged[-1] = (*last[:3], row[3], last[4])
        else:
            merged.append(row)
    return merged


def _range_values(row: Range) -> dict[str, Any]:
    component, lane, low, high, settled = row
    return {"component": component, "lane": lane, "low": low, "high": high, "settled": settled}


class _Statement(NamedTuple):
    """Driver SQL and the names of its positional parameters."""

    sql: str
    names: tuple[str, ...]

    def many(self, connection: Connection, values: Iterable[dict[str, Any]]) -> None:
        """Runs it for each mapping; names that it does not use are passed over."""
        rows = [tuple(row[name] for name in self.names) for row in values]
        connection.exec_driver_sql(self.sql, rows)


class _QueueStatements:
    """The moves between `buffer_in`, one component's queue and the history."""

    def __init__(self, store: MessageStore, queue: Table) -> None:
        young, history = store.tables.buffer_in, store.tables.history
        component: BindParameter[int] = bindparam("component")
        settled: BindParameter[float] = bindparam("settled")
        wandering = ["lane", "seq", "message", "due", "attempt", "replay"]

        def here(table: Table) -> list[Any]:
            inside = [
                table.c.lane == bindparam("lane"),
                table.c.seq >= bindparam("low"),
                table.c.seq <= bindparam("high"),
            ]
            return [young.c.component == component, *inside] if table is young else inside

        def keep(table: Table) -> _Statement:
            found = select(component, *(table.c[name] for name in wandering), settled)
            names = ["component", *wandering, "settled"]
            return store._compile(insert(history).from_select(names, found.where(*here(table))))

        self.keep_young, self.keep_old = keep(young), keep(queue)
        self.drop_young = store._compile(delete(young).where(*here(young)))
        self.drop_old = store._compile(delete(queue).where(*here(queue)))
        found = select(*(young.c[name] for name in wandering)).where(*here(young))
        self.move = store._compile(insert(queue).from_select(wandering, found))
