"""The tables of the bus, all made from one place, under a configurable prefix.

A message is one row of `message`, written once and never moved. A delivery is one small row that
points at it, and wanders: `buffer_in` -> (`queue_<component>`) -> `history` or `dead`. What is
settled goes as key ranges into `buffer_out`, until a flush applies them in bulk.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    insert,
    inspect,
    select,
)
from sqlalchemy.dialects.mysql import LONGBLOB

from wmtwisted.errors import Refused, StoreError

#: The layout below. A store of another version is refused until it is migrated.
SCHEMA_VERSION = 1

#: What a component may be called: its name becomes part of a table's name.
COMPONENT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")

_BLOB = LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")
_NAME = String(190)


class Tables:
    """The tables under one prefix; `queue(name)` is made when a component is first seen."""

    def __init__(self, prefix: str = "ms_") -> None:
        self.prefix = prefix
        self.metadata = MetaData()
        self.version = self._table(
            "schema",
            Column("version", Integer, primary_key=True, autoincrement=False),
            #: Tells the ids made here from those of another store.
            Column("tag", String(20), nullable=False),
        )
        #: One row: who may write. The first statement of every write checks the token.
        self.broker = self._table(
            "broker",
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("token", String(64), nullable=False),
            Column("holder", String(190), nullable=False),
            Column("beat", BigInteger, nullable=False),
        )
        self.component = self._table(
            "component",
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("name", _NAME, nullable=False, unique=True),
            #: The next sequence number of each lane, as of the last flush.
            Column("next_normal", BigInteger, nullable=False),
            Column("next_priority", BigInteger, nullable=False),
        )
        self.interest = self._table(
            "interest",
            Column("component", Integer, primary_key=True, autoincrement=False),
            Column("type", _NAME, primary_key=True),
            Column("lane", SmallInteger, nullable=False),
        )
        self.origin = self._table(
            "origin",
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("name", _NAME, nullable=False, unique=True),
        )
        self.message = self._table(
            "message",
            #: Dense, in the order of acceptance.
            Column("id", BigInteger, primary_key=True, autoincrement=False),
            Column("origin", Integer, nullable=False),
            Column("number", BigInteger, nullable=False),
            Column("type", _NAME, nullable=False),
            Column("priority", SmallInteger, nullable=False),
            Column("due", Double),
            Column("published", Double, nullable=False),
            Column("chain", _NAME, nullable=False),
            #: CRC-32 over id, type and payload.
            Column("checksum", BigInteger, nullable=False),
            #: Where it went, `component:lane:seq`, separated by spaces.
            Column("routes", Text, nullable=False),
            Column("payload", _BLOB, nullable=False),
        )
        Index(f"{prefix}message_origin", self.message.c.origin, self.message.c.number, unique=True)
        self.buffer_in = self._table(
            "buffer_in",
            Column("component", Integer, primary_key=True, autoincrement=False),
            *_delivery_columns(),
        )
        self.buffer_out = self._table(
            "buffer_out",
            Column("component", Integer, primary_key=True, autoincrement=False),
            Column("lane", SmallInteger, primary_key=True, autoincrement=False),
            Column("low", BigInteger, primary_key=True, autoincrement=False),
            Column("high", BigInteger, nullable=False),
            Column("settled", Double, nullable=False),
        )
        self.history = self._table(
            "history",
            Column("component", Integer, primary_key=True, autoincrement=False),
            *_delivery_columns(),
            Column("settled", Double, nullable=False),
        )
        self.dead = self._table(
            "dead",
            Column("component", Integer, primary_key=True, autoincrement=False),
            *_delivery_columns(),
            Column("died", Double, nullable=False),
            Column("reason", Text, nullable=False),
        )
        self.trigger = self._table(
            "trigger",
            Column("name", _NAME, primary_key=True),
            Column("id", _NAME, primary_key=True),
            #: `early` (flags came before the declaration), `pending` or `fired`.
            Column("state", String(10), nullable=False),
            Column("action", _NAME),
            Column("payload", _BLOB),
            Column("priority", SmallInteger),
            Column("delay", Double),
            Column("chain", _NAME),
            Column("declared", Double),
            Column("fired", Double),
        )
        self.flag = self._table(
            "flag",
            Column("trigger", _NAME, primary_key=True),
            Column("id", _NAME, primary_key=True),
            Column("flag", _NAME, primary_key=True),
            #: When it was set, or null while it is waited for.
            Column("set", Double),
            Column("source", _NAME),
        )
        self.replay = self._table(
            "replay",
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("component", Integer, nullable=False),
            #: The filter as JSON, for the operator.
            Column("filter", Text, nullable=False),
            Column("started", Double, nullable=False),
            #: The next message id to look at, and the last; done when `cursor > upto`.
            Column("cursor", BigInteger, nullable=False),
            Column("upto", BigInteger, nullable=False),
            Column("count", BigInteger, nullable=False),
        )

    def queue(self, component: str) -> Table:
        """The queue table of `component`. Raises Refused on a name that cannot be one."""
        check_component(component)
        name = f"{self.prefix}queue_{component.lower()}"
        table = self.metadata.tables.get(name)
        return (
            self._table(name[len(self.prefix) :], *_delivery_columns()) if table is None else table
        )

    def _table(self, name: str, *columns: Column[Any]) -> Table:
        return Table(
            f"{self.prefix}{name}",
            self.metadata,
            *columns,
            mysql_engine="InnoDB",
            mysql_charset="utf8mb4",
            mysql_collate="utf8mb4_bin",
            # A table keyed by more than one column is its own index.
            sqlite_with_rowid=sum(column.primary_key for column in columns) < 2,
        )


def _delivery_columns() -> list[Column[Any]]:
    return [
        Column("lane", SmallInteger, primary_key=True, autoincrement=False),
        Column("seq", BigInteger, primary_key=True, autoincrement=False),
        Column("message", BigInteger, nullable=False),
        #: Not to be delivered before; null for at once.
        Column("due", Double),
        #: How often it was given to a consumer and came back.
        Column("attempt", Integer, nullable=False),
        Column("replay", Integer, nullable=False),
    ]


def check_component(name: str) -> None:
    """Raises Refused when `name` cannot be a component's."""
    if not COMPONENT_NAME.fullmatch(name):
        raise Refused(
            "bad-name",
            f"component name {name[:60]!r} is not a letter followed by up to 39 letters, digits "
            "or underscores",
        )


def new_tag() -> str:
    """A tag for a store; its dash is in no boot of a program."""
    return f"s-{secrets.token_hex(4)}"


def create(engine: Engine, tables: Tables) -> None:
    """Makes the tables that are not there. Raises StoreError on a store of another version."""
    tables.metadata.create_all(engine, checkfirst=True)
    with engine.begin() as connection:
        found = connection.execute(select(tables.version.c.version)).scalar()
        if found is None:
            connection.execute(insert(tables.version).values(version=SCHEMA_VERSION, tag=new_tag()))
        elif found != SCHEMA_VERSION:
            raise StoreError(
                f"the store has layout {found}, this version expects {SCHEMA_VERSION}",
                "run the version that made it, or migrate it",
            )


def require(engine: Engine, tables: Tables) -> None:
    """Raises StoreError unless the tables are there, in the layout of this version."""
    if not inspect(engine).has_table(tables.version.name):
        raise StoreError(
            f"there are no tables {tables.prefix}* in the store", "start the broker once: `wm up`"
        )
    create(engine, tables)


def create_queue(connection: Connection, table: Table) -> None:
    """Makes one component's queue table when it is not there."""
    if not inspect(connection).has_table(table.name):
        table.create(connection)
