"""A store with something wrong in it: `wm verify` names it, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from wmtwisted.broker import retention
from wmtwisted.broker.batch import Batch, Settlement, Submission
from wmtwisted.broker.ledger import Ledger
from wmtwisted.broker.queue import Entry
from wmtwisted.store.database import open_engine, read
from wmtwisted.store.tables import Tables, create
from wmtwisted.store.verify import Report, verify

NOW = 1_000_000.0


class Store:
    """A ledger on a real file, with two components that both get everything."""

    def __init__(self, folder: Path) -> None:
        self.engine: Engine = open_engine(f"sqlite:///{folder}/bus.sqlite", "bus")
        self.tables = Tables()
        create(self.engine, self.tables)
        self.ledger = Ledger(self.engine, self.tables)
        self.ledger.open("test")
        for component in ("DBS", "Phedex"):
            self.ledger.attach(component, [("Work", 0)])
        self.sent = 0

    def publish(self, count: int, now: float = NOW) -> dict[str, list[Entry]]:
        """Accepts messages; the deliveries by component."""
        first, self.sent = self.sent, self.sent + count
        items = [[first + index, "Work", b"%d" % index, 0, 0.0, ""] for index in range(count)]
        batch = Batch([Submission("me~1", items)], [])
        return self.ledger.apply(batch, now).arrivals

    def settle(self, component: str, entries: list[Entry], now: float = NOW) -> None:
        """Settles deliveries as done."""
        self.ledger.apply(Batch([], [Settlement(component, done=entries)]), now)

    def flush(self) -> None:
        """Empties the buffers wholly, which takes two flushes."""
        self.ledger.flush(NOW)
        self.ledger.flush(NOW)

    def damage(self, statement: str) -> None:
        """Does what nobody should."""
        with self.engine.begin() as connection:
            assert connection.execute(text(statement)).rowcount > 0

    def verify(self) -> Report:
        """What `wm verify` finds."""
        return read(self.engine, verify, self.tables)

    def messages(self) -> int:
        """How many the store has."""
        with self.engine.connect() as connection:
            return int(connection.execute(text("SELECT count(*) FROM ms_message")).scalar_one())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.engine.dispose()


def test_a_sound_store_has_no_findings_at_any_moment(store: Store) -> None:
    entries = store.publish(100)
    assert not store.verify().findings
    store.settle("DBS", entries["DBS"][:30])
    report = store.verify()
    assert not report.findings
    assert report.messages == 100
    assert report.balances["DBS"].accepted == 100
    assert report.balances["DBS"].fates == {"settled": 30, "waiting": 70}
    store.flush()
    store.settle("DBS", entries["DBS"][30:50])
    store.settle("Phedex", entries["Phedex"])
    report = store.verify()
    assert not report.findings
    assert report.balances["DBS"].fates == {"settled": 50, "waiting": 50}
    assert report.balances["Phedex"].fates == {"settled": 100}


def test_a_changed_payload_is_damaged(store: Store) -> None:
    store.publish(3)
    store.damage("UPDATE ms_message SET payload = x'00' WHERE id = 2")
    (finding,) = store.verify().findings
    assert finding.kind == "damaged"
    assert "me~1/1" in finding.what


@pytest.mark.parametrize("flushed", [False, True])
def test_a_deleted_delivery_is_lost(store: Store, flushed: bool) -> None:
    store.publish(5)
    if flushed:
        store.flush()
        store.damage("DELETE FROM ms_queue_dbs WHERE seq IN (2, 4)")
    else:
        store.damage("DELETE FROM ms_buffer_in WHERE component = 1 AND seq IN (2, 4)")
    report = store.verify()
    assert [finding.kind for finding in report.findings] == ["lost", "lost"]
    assert "wm replay --component DBS --lost" in report.findings[0].advice
    assert report.balances["DBS"].fates == {"waiting": 3, "lost": 2}
    assert report.balances["Phedex"].fates == {"waiting": 5}


def test_a_delivery_in_two_tables_is_double(store: Store) -> None:
    store.publish(3)
    store.damage(
        "INSERT INTO ms_queue_dbs SELECT lane, seq, message, due, attempt, replay "
        "FROM ms_buffer_in WHERE component = 1 AND seq = 2"
    )
    (finding,) = store.verify().findings
    assert finding.kind == "double"
    assert "0:2" in finding.what


def test_a_delivery_without_its_message_is_an_orphan(store: Store) -> None:
    store.publish(3)
    store.damage("DELETE FROM ms_message WHERE id = 3")
    kinds = {finding.kind for finding in store.verify().findings}
    assert kinds == {"orphan"}


def test_many_findings_of_a_kind_are_counted_and_some_are_named(store: Store) -> None:
    store.publish(100)
    store.damage("DELETE FROM ms_buffer_in WHERE component = 1")
    report = store.verify()
    assert report.counts == {"lost": 100}
    assert len(report.findings) == 20


def test_what_was_handled_long_ago_is_forgotten_and_nothing_else(store: Store) -> None:
    old = store.publish(2500, now=NOW)
    store.publish(10, now=NOW + 100)
    store.settle("DBS", old["DBS"])
    store.settle("Phedex", old["Phedex"][:2000])
    store.flush()
    cursor, gone, more = 0, 0, True
    while more:
        purged = retention.purge(store.ledger, NOW + 50, cursor, NOW)
        cursor, gone, more = purged.cursor, gone + purged.count, purged.more
    assert gone == 2000  # the other 500 wait for Phedex
    assert store.messages() == 510
    report = store.verify()
    assert not report.findings
    assert report.balances["Phedex"].fates == {"waiting": 510}


def test_the_newest_message_stays_so_that_ids_do_not_repeat(store: Store) -> None:
    entries = store.publish(3)
    for component in ("DBS", "Phedex"):
        store.settle(component, entries[component])
    store.flush()
    assert retention.purge(store.ledger, NOW + 50, 0, NOW).count == 2
    assert store.messages() == 1
