"""The tables of the job store and of the catalogues, and how they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError

from wmtwisted.errors import StoreError
from wmtwisted.store import database
from wmtwisted.wmbs.model import LFN_LENGTH, NAME_LENGTH

P = ParamSpec("P")
T = TypeVar("T")

#: Raised by one with every change of the tables.
VERSION = 1

#: Rows in one statement, and values in one IN list.
CHUNK = 500

#: A cause is a message id.
CAUSE_LENGTH = 255

metadata = MetaData()

# SQLite numbers rows by itself only in an INTEGER key; there it has 64 bits anyway.
_ID = BigInteger().with_variant(Integer, "sqlite")


def _table(name: str, *columns: Any) -> Table:
    return Table(
        f"wmbs_{name}",
        metadata,
        *columns,
        mysql_engine="InnoDB",
        # Names are compared byte by byte, as SQLite does.
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
        # An id is never given twice, even when the last rows are deleted.
        sqlite_autoincrement=any(c.name == "id" for c in columns if isinstance(c, Column)),
    )


def _ref(table: str, name: str = "", **options: Any) -> Column[int]:
    return Column(name or table, ForeignKey(f"wmbs_{table}.id"), nullable=False, **options)


schema = _table("schema", Column("version", Integer, primary_key=True, autoincrement=False))

workflow = _table(
    "workflow",
    Column("id", _ID, primary_key=True),
    Column("name", String(NAME_LENGTH), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("document", JSON, nullable=False),
    Column("cause", String(CAUSE_LENGTH), nullable=False, unique=True),
    Column("created", Double, nullable=False),
    Column("finished", Double),
)

fileset = _table(
    "fileset",
    Column("id", _ID, primary_key=True),
    _ref("workflow"),
    # The task whose outputs it holds, or `input`.
    Column("name", String(NAME_LENGTH), nullable=False),
    # No file is added once it is closed.
    Column("open", Boolean, nullable=False),
    UniqueConstraint("workflow", "name"),
)

task = _table(
    "task",
    Column("id", _ID, primary_key=True),
    _ref("workflow"),
    # The place in the workflow file.
    Column("position", Integer, nullable=False),
    Column("name", String(NAME_LENGTH), nullable=False),
    _ref("fileset", "output"),
    # How many jobs were made: the number of the last one.
    Column("jobs", Integer, nullable=False),
    UniqueConstraint("workflow", "name"),
)

# A task and what it reads; a task that reads nothing has none. One task, one subscription: what
# was exists-then-insert is a key.
subscription = _table(
    "subscription",
    Column("id", _ID, primary_key=True),
    _ref("task", unique=True),
    _ref("fileset", index=True),
)

file = _table(
    "file",
    Column("id", _ID, primary_key=True),
    Column("lfn", String(LFN_LENGTH), nullable=False, unique=True),
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("checksum", String(160), nullable=False),
    # The job that made it; null for what a workflow came with.
    Column("job", ForeignKey("wmbs_job.id"), index=True),
    Column("created", Double, nullable=False),
)

file_run = _table(
    "file_run",
    _ref("file", primary_key=True),
    Column("run", BigInteger, primary_key=True, autoincrement=False),
)

file_parent = _table(
    "file_parent",
    _ref("file", "child", primary_key=True),
    _ref("file", "parent", primary_key=True, index=True),
)

fileset_file = _table(
    "fileset_file",
    _ref("fileset", primary_key=True),
    _ref("file", primary_key=True, index=True),
)

# The key gives a file exactly one status per subscription: it cannot come back as available
# because it is added again.
sub_file = _table(
    "sub_file",
    _ref("subscription", primary_key=True),
    _ref("file", primary_key=True, index=True),
    # available, acquired, complete, failed
    Column("status", String(16), nullable=False),
    Index("ix_sub_file_status", "subscription", "status"),
)

jobgroup = _table(
    "jobgroup",
    Column("id", _ID, primary_key=True),
    _ref("task"),
    # The message that led to its jobs.
    Column("cause", String(CAUSE_LENGTH), nullable=False, index=True),
    Column("created", Double, nullable=False),
    UniqueConstraint("task", "cause"),
)

job = _table(
    "job",
    Column("id", _ID, primary_key=True),
    _ref("workflow"),
    _ref("task"),
    _ref("jobgroup", index=True),
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    # success, exhausted or killed, once its work has ended; else empty.
    Column("outcome", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("first_event", BigInteger),
    Column("events", BigInteger),
    Column("sandbox", Text, nullable=False),
    Column("batch_id", String(255), nullable=False),
    Column("exit_code", Integer),
    Column("why", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("changed", Double, nullable=False),
    UniqueConstraint("task", "number"),
    Index("ix_job_workflow_state", "workflow", "state"),
    Index("ix_job_task_outcome", "task", "outcome"),
)

job_file = _table(
    "job_file",
    _ref("job", primary_key=True),
    _ref("file", primary_key=True, index=True),
    Column("position", Integer, nullable=False),
    # The mask: a list of runs or null, the first row, how many rows or null.
    Column("runs", JSON(none_as_null=True)),
    Column("first_event", BigInteger, nullable=False),
    Column("events", BigInteger),
)

# Rows are only added. The key is what makes a transition idempotent by its cause.
job_history = _table(
    "job_history",
    Column("id", _ID, primary_key=True),
    _ref("job"),
    # Null for the first row: the job was made.
    Column("old", String(16)),
    Column("new", String(16), nullable=False),
    Column("who", String(255), nullable=False),
    Column("why", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("cause", String(CAUSE_LENGTH), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("exit_code", Integer),
    UniqueConstraint("job", "cause", "new"),
)

catalog_file = _table(
    "catalog_file",
    Column("id", _ID, primary_key=True),
    Column("lfn", String(LFN_LENGTH), nullable=False, unique=True),
    Column("size", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("checksum", String(160), nullable=False),
    Column("runs", JSON, nullable=False),
    Column("created", Double, nullable=False),
)

# By name, not by id: a parent may be registered after its child.
catalog_parent = _table(
    "catalog_parent",
    _ref("catalog_file", "child", primary_key=True),
    Column("parent", String(LFN_LENGTH), primary_key=True, index=True),
)

# By name too: where a file lies may be known before what it is.
catalog_replica = _table(
    "catalog_replica",
    Column("lfn", String(LFN_LENGTH), primary_key=True),
    Column("location", String(120), primary_key=True, index=True),
    Column("created", Double, nullable=False),
)


def create(engine: Engine) -> None:
    """Make the tables that are missing. Raises StoreError when they are of another version."""
    with engine.connect() as connection:
        mysql = connection.dialect.name in ("mysql", "mariadb")
        if mysql:
            # DDL is not in a transaction there, so a lock keeps two makers apart.
            connection.execute(text("SELECT GET_LOCK(CONCAT(DATABASE(), '.wmbs'), 30)"))
        try:
            _check(connection)
            metadata.create_all(connection)
            if connection.execute(select(schema.c.version)).first() is None:
                connection.execute(schema.insert().values(version=VERSION))
            connection.commit()
        finally:
            if mysql:
                connection.execute(text("SELECT RELEASE_LOCK(CONCAT(DATABASE(), '.wmbs'))"))


def require(engine: Engine) -> None:
    """Raise StoreError unless the tables are there and of this version."""
    with engine.connect().execution_options(read_only=True) as connection:
        if not _check(connection):
            where = engine.url.render_as_string(hide_password=True)
            raise StoreError(f"{where} holds no job store", "make it with `wm init`")


def _check(connection: Connection) -> bool:
    if not inspect(connection).has_table(schema.name):
        return False
    found = connection.execute(select(schema.c.version)).scalar()
    if found not in (None, VERSION):
        raise StoreError(
            f"the job store's tables are of version {found}, this program's of {VERSION}",
            "use the program that made them, or another database",
        )
    return found is not None


def run_unique(
    engine: Engine,
    function: Callable[Concatenate[Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """`database.run`, run again when another process made the same row between look and insert.

    Now that the row is there, the next look finds it.
    """
    for _ in range(4):
        try:
            return database.run(engine, function, *args, **kwargs)
        except IntegrityError:
            continue
    return database.run(engine, function, *args, **kwargs)


def insert(connection: Connection, table: Table, **values: Any) -> int:
    """Insert one row; its id."""
    key = connection.execute(table.insert().values(**values)).inserted_primary_key
    if key is None:
        raise StoreError(f"the database gave no id to a new row of {table.name}")
    return int(key[0])


def chunks(values: Iterable[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """`values` in lists of at most `size`."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk
