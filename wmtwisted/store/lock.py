"""One broker for each store: a lock that ends with its process."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from sqlalchemy import Connection, Engine, text

from wmtwisted.errors import StoreError


class StoreLock:
    """The right to write a store, from its making to `release` or the end of the process."""

    def __init__(self, engine: Engine, prefix: str, name: str) -> None:
        """Raises StoreError, naming the holder, when another broker has it."""
        self._file: int | None = None
        self._connection: Connection | None = None
        self._name = name
        if engine.dialect.name == "sqlite":
            # Beside the real file, so that two names of one database are one lock.
            self._lock_file(Path(f"{os.path.realpath(str(engine.url.database))}.lock"))
        else:
            self._lock_server(engine, f"{engine.url.database}.{prefix}broker"[:64])

    def _lock_file(self, path: Path) -> None:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            first = os.read(file, 200).decode(errors="replace").strip()
            os.close(file)
            raise StoreError(
                f"the store {path.with_suffix('')} is in use by {first or 'another broker'}",
                "stop that broker first, or use another store",
            ) from None
        self._file = file
        self.sign()

    def sign(self) -> None:
        """Notes who holds it; to be called again by a process that was forked with it."""
        if self._file is not None:
            holder = f"{self._name}, process {os.getpid()} on {socket.gethostname()}\n"
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, holder.encode(), 0)

    def _lock_server(self, engine: Engine, name: str) -> None:
        connection = engine.connect()
        if connection.execute(text("SELECT GET_LOCK(:name, 0)"), {"name": name}).scalar() != 1:
            owner = connection.execute(text("SELECT IS_USED_LOCK(:name)"), {"name": name}).scalar()
            connection.close()
            raise StoreError(
                f"the store is in use by another broker (database connection {owner})",
                "stop that broker first, or use another store or prefix",
            )
        # The server ends what is idle for longer, and the lock with it.
        connection.execute(text("SET SESSION wait_timeout = 31536000"))
        connection.detach()  # its end is the lock's; the pool would keep it open
        self._connection = connection

    def release(self) -> None:
        """Lets the next broker in."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
