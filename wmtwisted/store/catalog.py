"""The catalogues: which files exist, from which parents, and where copies of them lie."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from attrs import frozen
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import DBAPIError

from wmtwisted.errors import Conflict, StoreError
from wmtwisted.store import database
from wmtwisted.store.jobs_schema import (
    catalog_file,
    catalog_parent,
    catalog_replica,
    chunks,
    run_unique,
)
from wmtwisted.wmbs.model import File

P = ParamSpec("P")
T = TypeVar("T")


@frozen
class CatalogCounts:
    """What a catalogue holds."""

    files: int
    #: Over all files.
    events: int
    #: Bytes, over all files.
    size: int
    #: Copies known, over all files and locations.
    replicas: int
    #: Replicas by location.
    locations: dict[str, int]


class FileCatalog(Protocol):
    """Where DBS and Phedex register; another service can take its place. Calls block."""

    def register_files(self, files: Sequence[File]) -> int:
        """Register files with their parents and runs; how many were new.

        What is known already is left alone. Parents may be registered later. Raises Conflict when
        a name is known with other content; then none of `files` is registered.
        """
        ...

    def register_replicas(self, lfns: Sequence[str], location: str) -> int:
        """Register that `location` holds copies of these files; how many were new.

        The files themselves may be registered later.
        """
        ...

    def counts(self) -> CatalogCounts:
        """How much is registered."""
        ...


class Catalog:
    """A FileCatalog in tables beside the job store's, made by `JobStore.create_tables`.

    All methods raise StoreError when the database fails.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        """`engine` comes from `open_engine(url, "jobs")`; `clock` gives seconds since the epoch."""
        self.engine = engine
        self._clock = clock

    def register_files(self, files: Sequence[File]) -> int:
        """See FileCatalog."""
        return self._run(_register_files, files, self._clock())

    def register_replicas(self, lfns: Sequence[str], location: str) -> int:
        """See FileCatalog."""
        return self._run(_register_replicas, lfns, location, self._clock())

    def counts(self) -> CatalogCounts:
        """See FileCatalog."""
        return self._translated(lambda: database.read(self.engine, _counts))

    def file(self, lfn: str) -> File | None:
        """A registered file, without a path; None when it is not registered."""
        return self._translated(lambda: database.read(self.engine, _file, lfn))

    def locations(self, lfn: str) -> list[str]:
        """Where copies of a file lie, in order of name."""
        return self._translated(lambda: database.read(self.engine, _locations, lfn))

    def _run(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return self._translated(lambda: run_unique(self.engine, function, *args, **kwargs))

    def _translated(self, function: Callable[[], T]) -> T:
        try:
            return function()
        except DBAPIError as error:
            where = self.engine.url.render_as_string(hide_password=True)
            raise StoreError(f"the catalogue at {where} failed: {error.orig}") from error


def _content(file: File) -> dict[str, Any]:
    return {
        "size": file.size,
        "events": file.events,
        "checksum": file.checksum,
        "runs": list(file.runs),
    }


def _register_files(connection: Connection, files: Sequence[File], now: float) -> int:
    new = 0
    for some in chunks({file.lfn: file for file in files}.values()):
        query = select(catalog_file).where(catalog_file.c.lfn.in_([file.lfn for file in some]))
        known = {row.lfn: row._mapping for row in connection.execute(query)}
        for file in some:
            if file.lfn not in known:
                continue
            for name, value in _content(file).items():
                if known[file.lfn][name] != value:
                    raise Conflict(
                        f"file {file.lfn!r} is registered with {name} "
                        f"{known[file.lfn][name]!r}, not {value!r}",
                        "a registered file does not change: give the new one another name",
                    )
        fresh = [file for file in some if file.lfn not in known]
        if not fresh:
            continue
        connection.execute(
            catalog_file.insert(),
            [{"lfn": file.lfn, "created": now, **_content(file)} for file in fresh],
        )
        of = select(catalog_file.c.lfn, catalog_file.c.id)
        made = connection.execute(of.where(catalog_file.c.lfn.in_([file.lfn for file in fresh])))
        ids: dict[str, int] = {row.lfn: row.id for row in made}
        parents = [
            {"child": ids[file.lfn], "parent": parent} for file in fresh for parent in file.parents
        ]
        for rows in chunks(parents):
            connection.execute(catalog_parent.insert(), rows)
        new += len(fresh)
    return new


def _register_replicas(
    connection: Connection, lfns: Sequence[str], location: str, now: float
) -> int:
    new = 0
    for some in chunks(dict.fromkeys(lfns)):
        query = select(catalog_replica.c.lfn).where(
            catalog_replica.c.location == location, catalog_replica.c.lfn.in_(some)
        )
        known = set(connection.execute(query).scalars())
        fresh = [lfn for lfn in some if lfn not in known]
        if fresh:
            connection.execute(
                catalog_replica.insert(),
                [{"lfn": lfn, "location": location, "created": now} for lfn in fresh],
            )
        new += len(fresh)
    return new


def _counts(connection: Connection) -> CatalogCounts:
    of = catalog_file.c
    totals = select(func.count(), func.coalesce(func.sum(of.events), 0))
    files, events, size = connection.execute(
        totals.add_columns(func.coalesce(func.sum(of.size), 0)).select_from(catalog_file)
    ).one()
    by_location = select(catalog_replica.c.location, func.count()).group_by(
        catalog_replica.c.location
    )
    locations = {str(name): int(count) for name, count in connection.execute(by_location)}
    return CatalogCounts(int(files), int(events), int(size), sum(locations.values()), locations)


def _file(connection: Connection, lfn: str) -> File | None:
    row = connection.execute(select(catalog_file).where(catalog_file.c.lfn == lfn)).first()
    if row is None:
        return None
    above = select(catalog_parent.c.parent).where(catalog_parent.c.child == row.id)
    parents = tuple(connection.execute(above).scalars())
    return File(lfn, "", row.size, row.events, tuple(row.runs), row.checksum, parents)


def _locations(connection: Connection, lfn: str) -> list[str]:
    query = select(catalog_replica.c.location).where(catalog_replica.c.lfn == lfn)
    return list(connection.execute(query.order_by(catalog_replica.c.location)).scalars())
