"""Engines by URL, their durability settings, and whole-transaction retries."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool

from wmtwisted.errors import StoreError

P = ParamSpec("P")
T = TypeVar("T")

#: `bus` is written by one connection of one process; `jobs` by every component.
Role = Literal["bus", "jobs"]

#: MariaDB: deadlock, lock wait, and the ways to lose a connection.
_MYSQL_RETRY = {1205, 1213, 2006, 2013, 2055, 1927, 4031}

#: SQLite: a power cut after COMMIT loses nothing in either mode. WAL with NORMAL, and DELETE with
#: FULL, were both seen to lose acknowledged rows.
_SQLITE_PRAGMAS: dict[Role, dict[str, str]] = {
    "bus": {"journal_mode": "WAL", "synchronous": "FULL"},
    "jobs": {"journal_mode": "DELETE", "synchronous": "EXTRA"},
}
_SQLITE_READ_BACK = {"WAL": "wal", "DELETE": "delete", "FULL": "2", "EXTRA": "3"}


def open_engine(url: str, role: Role) -> Engine:
    """An engine on `url`, with the durability that `role` needs, checked by reading it back.

    `sqlite:///relative.sqlite`, `sqlite:////absolute.sqlite` or `mysql+pymysql://user@host/name`.
    Raises StoreError when the URL is not one of these, the database cannot be opened, or it does
    not sync its commits.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The URL is not shown: there may be a password in what could not be told apart.
        raise StoreError(
            f"the URL of the {role} store cannot be read",
            "expected sqlite:///FILE or mysql+pymysql://USER@HOST/NAME",
        ) from None
    shown = parsed.render_as_string(hide_password=True)
    match parsed.get_backend_name():
        case "sqlite":
            engine = _open_sqlite(parsed.database, url, role)
        case "mysql" | "mariadb":
            engine = _open_mysql(url)
        case other:
            raise StoreError(
                f"database URL {shown!r} names {other}", "expected sqlite or mysql+pymysql"
            )
    try:
        with engine.connect():
            pass
    except DBAPIError as error:
        raise StoreError(f"cannot open the {role} store at {shown}: {error.orig}") from error
    return engine


def _open_sqlite(path: str | None, url: str, role: Role) -> Engine:
    if not path or path == ":memory:":
        raise StoreError(f"database URL {url!r} names no file", "expected sqlite:///FILE")
    if not Path(path).absolute().parent.is_dir():
        raise StoreError(
            f"the folder of {path!r} does not exist", "make it, or run `wm init` to lay it out"
        )
    engine = create_engine(
        url,
        poolclass=QueuePool,
        connect_args={"timeout": 30.0, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, record: object) -> None:
        # The driver's own BEGIN is deferred, and a deferred transaction that turns into a writer
        # fails at once where an immediate one waits.
        connection.isolation_level = None
        cursor = connection.cursor()
        for name, value in _SQLITE_PRAGMAS[role].items():
            cursor.execute(f"PRAGMA {name}={value}")
            found = str(cursor.execute(f"PRAGMA {name}").fetchone()[0])
            if found != _SQLITE_READ_BACK[value]:
                raise StoreError(f"SQLite {path}: {name} is {found}, expected {value}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _open_mysql(url: str) -> Engine:
    engine = create_engine(
        url,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        # connect_timeout alone does not bound the handshake.
        connect_args={
            "connect_timeout": 10,
            "read_timeout": 60,
            "write_timeout": 60,
            "charset": "utf8mb4",
        },
    )

    @event.listens_for(engine, "connect")
    def check(connection: Any, record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@innodb_flush_log_at_trx_commit")
            found = cursor.fetchone()[0]
        if found != 1:
            raise StoreError(
                f"MariaDB: innodb_flush_log_at_trx_commit is {found}: a power cut would lose "
                "acknowledged messages",
                "set it to 1 in the server's configuration",
            )

    return engine


def retriable(error: DBAPIError) -> bool:
    """Whether running the whole transaction again may succeed."""
    original = error.orig
    if isinstance(original, sqlite3.OperationalError):
        return "locked" in str(original) or "busy" in str(original)
    code = original.args[0] if original is not None and original.args else None
    return code in _MYSQL_RETRY


def run(
    engine: Engine,
    function: Callable[Concatenate[Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """`function(connection, ...)` in one transaction, committed.

    A deadlock, a lock wait or a lost connection runs the whole function again, up to five times,
    so it may not have effects outside the database. A commit that failed may have happened: a
    function must find its own work done when it runs again.
    """
    for attempt in range(5):
        try:
            with engine.begin() as connection:
                return function(connection, *args, **kwargs)
        except OperationalError as error:
            if attempt == 4 or not retriable(error):
                raise
            time.sleep(random.uniform(0.01, 0.05) * 2**attempt)  # noqa: S311 (jitter)
    raise AssertionError("not reached")


def read(
    engine: Engine,
    function: Callable[Concatenate[Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """`function(connection, ...)` on one snapshot, without taking the write lock."""
    options: dict[str, Any] = {"read_only": True}
    if engine.dialect.name != "sqlite":
        options["isolation_level"] = "REPEATABLE READ"
    with engine.connect().execution_options(**options) as connection:
        return function(connection, *args, **kwargs)
