"""The writer of a store: it alone writes, on the writer's thread, one transaction after another.

It keeps the books exact, and empties the buffers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import IntegrityError

from wmtwisted.broker.batch import Applied, Batch
from wmtwisted.broker.books import Books, Component
from wmtwisted.broker.commit import Commit
from wmtwisted.broker.intake import check_type
from wmtwisted.broker.queue import Entry
from wmtwisted.errors import Refused
from wmtwisted.store import state
from wmtwisted.store.database import read, run
from wmtwisted.store.messages import MessageStore
from wmtwisted.store.tables import Tables, check_component, create_queue
from wmtwisted.wire import MAX_PAYLOAD

P = ParamSpec("P")
T = TypeVar("T")

#: Rows, and seconds, after which the buffers are emptied.
FLUSH_ROWS = 5000
FLUSH_SECONDS = 1.0


class Ledger:
    """The writer of one store."""

    def __init__(self, engine: Engine, tables: Tables) -> None:
        self.engine = engine
        self.tables = tables
        self.store = MessageStore(tables, engine.dialect)
        self.books = Books(tables, self.store)
        self._token = ""
        #: How many writes were committed since the store was taken over.
        self._beat = 0
        self._flushed = 0.0

    # Starting -------------------------------------------------------------------------------

    def open(self, name: str) -> dict[str, dict[int, tuple[int, int]]]:
        """Takes the store over and brings it in order after whatever ended the last broker.

        Returns by component and lane how many deliveries wait and the highest sequence number.
        """
        return run(self.engine, self._open, name)

    def _open(self, connection: Connection, name: str) -> dict[str, dict[int, tuple[int, int]]]:
        books = self.books
        self._token, self._beat = state.seize(connection, self.tables, name), 0
        books.tag = state.tag(connection, self.tables)
        books.max_payload = min(MAX_PAYLOAD, state.max_payload(connection))
        message = self.tables.message
        books.next_message = 1 + (connection.execute(select(func.max(message.c.id))).scalar() or 0)
        books.components.clear()
        books.origins.clear()
        names = {}
        for row in state.components(connection, self.tables):
            names[row.id] = row.name
            mine = Component(row.id, row.name, list(row.next), [1, 1], [1, 1])
            for lane in (0, 1):
                # What came since the last flush is in the one, or went on to the other.
                for table in (self.tables.buffer_in, self.tables.dead):
                    here = (table.c.component == row.id, table.c.lane == lane)
                    top = connection.execute(select(func.max(table.c.seq)).where(*here)).scalar()
                    mine.next[lane] = max(mine.next[lane], 1 + (top or 0))
                mine.moved[lane] = row.next[lane]
            books.components[row.name] = mine
        interests: dict[int, list[tuple[str, int]]] = {id: [] for id in names}
        for component, type, lane in state.interests(connection, self.tables):
            interests[component].append((type, lane))
        for component, wanted in interests.items():
            books.router.express(names[component], wanted)
        books.unflushed = self.store.ranges(connection)
        for mine in books.components.values():
            # Where a settled row is, is not known now: both places are looked at.
            mine.moved = [1, 1]
            self._settle_both(connection, mine)
        books.unflushed = []
        for mine in books.components.values():
            mine.mark = list(mine.next)
            self._move(connection, mine)
            mine.moved = list(mine.next)
        self._save_counters(connection)
        return {name: self.store.count(connection, name) for name in books.components}

    def _settle_both(self, connection: Connection, mine: Component) -> None:
        ranges = [row for row in self.books.unflushed if row[0] == mine.id]
        for edge in (1, 1 << 62):
            moved = {(mine.id, lane): edge for lane in (0, 1)}
            self.store.settle(connection, ranges, {mine.id: mine.name}, moved)

    # Components -----------------------------------------------------------------------------

    def attach(self, name: str, interests: list[tuple[str, int]]) -> None:
        """Registers a component when it is new, and stores its interests."""
        check_component(name)
        for type, lane in interests:
            check_type(type)
            if lane not in (0, 1):
                raise Refused("bad-message", f"lane {lane!r} of {type!r} is not 0 or 1")
        wanted = list(dict(interests).items())
        if name not in self.books.components:
            # Making a table ends a transaction on MariaDB, so it has one of its own.
            run(self.engine, create_queue, self.tables.queue(name))
        elif self.books.router.interests(name) == dict(wanted):
            return
        id = self.write(self._attach, name, wanted)
        self.books.components.setdefault(name, Component(id, name, [1, 1], [1, 1], [1, 1]))
        self.books.router.express(name, wanted)

    def expect(self, name: str, types: list[str]) -> None:
        """Makes sure that a component gets these, before its first process has ever attached."""
        known = self.books.router.interests(name)
        self.attach(name, [*known.items(), *((type, 0) for type in types if type not in known)])

    def _attach(self, connection: Connection, name: str, wanted: list[tuple[str, int]]) -> int:
        known = self.books.components.get(name)
        id = known.id if known else len(self.books.components) + 1
        if known is None:
            state.add_component(connection, self.tables, id, name)
        state.save_interests(connection, self.tables, id, wanted)
        return id

    # Committing -----------------------------------------------------------------------------

    def apply(self, batch: Batch, now: float) -> Applied:
        """Commits `batch`. When it raises, nothing of it is known to be stored."""
        try:
            commit = self.write(self._apply, batch, now, False)
        except IntegrityError:
            # Something that looked new was stored: look each one up.
            commit = self.write(self._apply, batch, now, True)
        commit.keep()
        return commit.applied

    def _apply(self, connection: Connection, batch: Batch, now: float, careful: bool) -> Commit:
        commit = Commit(self.books, connection, now, careful)
        commit.apply(batch)
        return commit

    def flush_due(self, now: float) -> bool:
        """Whether the buffers should be emptied."""
        books = self.books
        return books.rows > 0 and (books.rows >= FLUSH_ROWS or now - self._flushed > FLUSH_SECONDS)

    def flush(self, now: float) -> None:
        """Moves what is settled into the history, and what is not into the queue tables."""
        books = self.books
        self.write(self._flush)
        books.unflushed = []
        for mine in books.components.values():
            mine.moved, mine.mark = mine.mark, list(mine.next)
        # The next flush moves what this one left; without new rows it has to come all the same.
        books.rows = 1 if books.rows > 1 else 0
        self._flushed = now

    def _flush(self, connection: Connection) -> None:
        books = self.books
        names = {one.id: one.name for one in books.components.values()}
        moved = {
            (one.id, lane): one.moved[lane] for one in books.components.values() for lane in (0, 1)
        }
        if books.unflushed:
            self.store.settle(connection, books.unflushed, names, moved)
        for mine in books.components.values():
            self._move(connection, mine)
        self._save_counters(connection)

    def _move(self, connection: Connection, mine: Component) -> None:
        for lane in (0, 1):
            low, high = mine.moved[lane], mine.mark[lane]
            if low < high:
                self.store.move(connection, mine.id, mine.name, lane, low, high)

    def _save_counters(self, connection: Connection) -> None:
        rows = [(one.id, one.next[0], one.next[1]) for one in self.books.components.values()]
        self.store.save_counters(connection, rows)

    def bury(self, name: str, entries: list[Entry], reason: str, now: float) -> None:
        """Moves deliveries that cannot be given to anyone to the dead letters."""

        def write(connection: Connection) -> None:
            mine = self.books.components[name]
            rows = [(one.key & 1, one.key >> 1, one.attempt, reason) for one in entries]
            self.store.bury(connection, mine.id, name, rows, now)

        self.write(write)

    def write(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """`function(connection, ...)` in one transaction, committed once and by this broker alone.

        Raises StoreError when another broker took over, and when a commit that failed was done.
        """

        def fenced(connection: Connection) -> T:
            state.fence(connection, self.tables, self._token, self._beat)
            return function(connection, *args, **kwargs)

        result = run(self.engine, fenced)
        self._beat += 1
        return result

    @property
    def last_message(self) -> int:
        """The id of the newest message."""
        return self.books.next_message - 1

    def next_seq(self, name: str, lane: int) -> int:
        """The next sequence number of a lane; `took` says that some are committed."""
        return self.books.components[name].next[lane]

    def took(self, name: str, lane: int, count: int) -> None:
        """So many deliveries were committed by another write than a batch."""
        self.books.components[name].next[lane] += count
        self.books.rows += count

    def dead(self) -> dict[str, int]:
        """How many dead letters each component has."""
        counts = read(self.engine, state.dead_counts, self.tables)
        return {one.name: counts.get(one.id, 0) for one in self.books.components.values()}

    def component_id(self, name: str) -> int:
        """The id of a component. Raises Refused when it never attached."""
        if name not in self.books.components:
            raise Refused("not-attached", f"no component {name!r} has ever attached to this broker")
        return self.books.components[name].id
