"""An instance on disk: its folders, its tables, and the lock that says it is running."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from wmtwisted.config import Config
from wmtwisted.errors import Conflict


def folders(config: Config) -> list[Path]:
    """Every folder that must be there before anything of the instance starts."""
    sqlite = "sqlite:///"
    files = [
        Path(url.removeprefix(sqlite))
        for url in (config.store.bus, config.store.jobs)
        if url.startswith(sqlite)
    ]
    sockets = [
        Path(endpoint.path)
        for endpoint in (config.broker.listen, config.web.listen)
        if endpoint is not None and endpoint.kind == "unix"
    ]
    paths = [config.paths.sandbox, config.paths.storage, config.paths.log, config.batch.root]
    return [*paths, *(path.parent for path in [*files, *sockets])]


def prepare(config: Config) -> None:
    """Make what is missing of the folders, and the tables of workflows and jobs.

    Raises StoreError when the database of jobs cannot be used. The broker makes its own tables.
    """
    from wmtwisted.store.database import open_engine
    from wmtwisted.store.jobs import JobStore

    # Payloads and logs are nobody else's to read: this holds for parents as well, and for files.
    before = os.umask(0o077)
    try:
        for folder in folders(config):
            folder.mkdir(parents=True, exist_ok=True)
        engine = open_engine(config.store.jobs, "jobs")
        try:
            JobStore(engine).create_tables()
        finally:
            engine.dispose()
    finally:
        os.umask(before)


class InstanceLock:
    """Held by the processes of a running instance: by the supervisor, and by all it started.

    Children inherit it, so it is free only when the last of them has gone, whoever died first.
    """

    def __init__(self, home: Path, patience: float = 10.0) -> None:
        """Take the lock of the instance in the folder `home`.

        Waits `patience` seconds for processes that are on their way out; raises Conflict when the
        instance is still running then.
        """
        self.path = home / "supervisor.lock"
        self.file = self.path.open("a+")
        deadline = time.monotonic() + patience
        while not self._locked():
            if time.monotonic() > deadline or self._holder_lives():
                holder = self._holder()
                self.file.close()
                raise Conflict(
                    f"the instance in {home} is running already (pid {holder or 'unknown'})",
                    "stop that one first, or use another folder",
                )
            time.sleep(0.1)
        self.file.truncate(0)
        self.file.write(str(os.getpid()))
        self.file.flush()

    def fileno(self) -> int:
        """The descriptor that children inherit."""
        return self.file.fileno()

    def release(self) -> None:
        """Give up this process' share of it."""
        self.file.close()

    def _locked(self) -> bool:
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _holder(self) -> str:
        return self.path.read_text().strip()

    def _holder_lives(self) -> bool:
        """Whether the supervisor itself is there; without it, its children are ending."""
        try:
            os.kill(int(self._holder()), 0)
        except (ValueError, ProcessLookupError):
            return False
        except PermissionError:
            return True
        return True
