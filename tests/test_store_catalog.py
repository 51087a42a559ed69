"""The catalogues on both databases: registering is idempotent, in any order, never half done."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import evolve

from tests.jobstores import DATABASES, files, open_store
from wmtwisted.errors import Conflict, StoreError
from wmtwisted.store.catalog import Catalog, CatalogCounts, FileCatalog
from wmtwisted.store.database import open_engine
from wmtwisted.wmbs.model import File


@pytest.fixture(params=DATABASES)
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    store = open_store(request.param, tmp_path)
    yield Catalog(store.engine)
    store.engine.dispose()


def test_files_are_registered_once(catalog: FileCatalog) -> None:
    some = files(700, 3)
    assert catalog.register_files(some) == 700
    assert catalog.register_files(some[:5]) == 0
    assert catalog.counts() == CatalogCounts(700, 2100, 21000, 0, {})


def test_what_is_registered(catalog: Catalog) -> None:
    child = File("/out/é", "/p", 5, 7, (2, 1), "sha256:aa", ("/in/1", "/in/0"))
    catalog.register_files([child])
    assert catalog.file("/out/é") == evolve(child, path="")
    assert catalog.file("/out/e") is None
    assert catalog.register_files(files(2)) == 2, "the parents come after the child"


def test_a_registered_file_does_not_change(catalog: FileCatalog) -> None:
    known, new = files(2)
    catalog.register_files([known])
    with pytest.raises(Conflict, match=r"'/in/0' is registered with size 1000, not 1"):
        catalog.register_files([new, evolve(known, size=1)])
    assert catalog.counts().files == 1


def test_replicas(catalog: Catalog) -> None:
    assert catalog.register_replicas(["/in/0", "/in/1", "/in/0"], "local") == 2
    assert catalog.register_replicas(["/in/0"], "tape") == 1
    assert catalog.register_replicas(["/in/0"], "tape") == 0
    assert catalog.locations("/in/0") == ["local", "tape"]
    assert catalog.counts() == CatalogCounts(0, 0, 0, 3, {"local": 2, "tape": 1})


def test_by_many_at_once(catalog: FileCatalog) -> None:
    some = files(50)
    with ThreadPoolExecutor(6) as pool:
        new = list(pool.map(lambda _: catalog.register_files(some), range(6)))
    assert sum(new) == 50
    assert catalog.counts().files == 50


def test_a_store_without_tables(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/empty.sqlite", "jobs")
    with pytest.raises(StoreError, match="the catalogue at"):
        Catalog(engine).counts()
    engine.dispose()
