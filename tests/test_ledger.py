"""The ledger's commits on real databases: what is stored, what is found again, what is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pymysql
import pytest
from sqlalchemy import Connection, delete, event, select, update

from tests.bus import DATABASES, Bus, fresh_url, item, output, result
from wmtwisted.broker.batch import Batch, Submission
from wmtwisted.broker.intake import OUTPUTS, check_item
from wmtwisted.broker.ledger import Ledger
from wmtwisted.errors import Refused, StoreError
from wmtwisted.store.database import open_engine, read
from wmtwisted.store.lock import StoreLock
from wmtwisted.store.messages import merge
from wmtwisted.wire import MAX_PAYLOAD

#: Names that would break out of SQL, patterns or formats, if anything put them there.
ODD = (
    "a'b",
    'a"b',
    "a`; drop table ms_message; --",
    "a%sb",
    "a%(x)s",
    "a:b",
    "a_b%",
    "?",
    "é€🦆",
    "\\",
)


@pytest.fixture(params=DATABASES)
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bus]:
    """A broker on each database."""
    made = Bus(fresh_url(request.param, tmp_path))
    yield made
    made.close()


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Bus]:
    """A broker on SQLite."""
    made = Bus(fresh_url("sqlite", tmp_path))
    yield made
    made.close()


def test_fan_out_is_atomic_and_duplicates_are_known_after_reopening(bus: Bus) -> None:
    one, two = bus.attach("One", "A", "B"), bus.attach("Two", "B")
    assert bus.publish("p~1", item(0, "A"), item(1, "B"), item(2, "Z")) == [1, 2, 0]
    assert (one.keys, two.keys) == ([2, 4], [2])
    bus.crash()
    two = bus.attach("Two", "B")
    assert bus.publish("p~1", item(1, "B"), item(3, "B"), item(1, "B")) == [-1, 2, -1]
    assert [(given.number, given.reason) for given in two.given] == [(1, "recovered"), (3, "new")]
    conflict = bus.publish("p~1", item(3, "B", b"other"), item(0, "B"))
    assert [found[0] for found in conflict] == ["id-conflict"] * 2
    # Another program of the same name, and another number, are other messages.
    assert bus.publish("p~2", item(3, "B", b"other")) == [2]
    assert len(bus.rows("message")) == 5


def test_one_submission_holds_a_message_twice(lite: Bus) -> None:
    peer = lite.attach("One", "A")
    results = lite.publish("p", item(5), item(5), item(5, payload=b"x"), item(4), item(5))
    assert results[:2] == [1, -1]
    assert results[2][0] == "id-conflict"
    assert results[3:] == [1, -1]
    assert [given.number for given in peer.given] == [5, 4]


def test_one_commit_holds_a_message_twice(lite: Bus) -> None:
    peer = lite.attach("One", "A")
    lite.writer.held = True
    first = lite.broker.publish("p", [item(1)])  # is on its way alone
    answers = [lite.broker.publish("p", [item(number)]) for number in (2, 3, 2, 1)]
    lite.writer.release()
    assert [result(one) for one in (first, *answers)] == [[1], [1], [1], [-1], [-1]]
    assert [given.number for given in peer.given] == [1, 2, 3]


BAD: tuple[Any, ...] = (
    5, None, True, "abcdef", b"abcdef", {}, {"number": 1}, [], [1], [1, "A"], [1] * 7,
    [None, "A", b"", 0, 0, ""], ["1", "A", b"", 0, 0, ""], [1.0, "A", b"", 0, 0, ""],
    [-1, "A", b"", 0, 0, ""], [1 << 63, "A", b"", 0, 0, ""], [1 << 64, "A", b"", 0, 0, ""],
    [1, "", b"", 0, 0, ""], [1, "A\0", b"", 0, 0, ""], [1, "A ", b"", 0, 0, ""],
    [1, "A" * 191, b"", 0, 0, ""], [1, 5, b"", 0, 0, ""], [1, ["A"], b"", 0, 0, ""],
    [1, "A", "", 0, 0, ""], [1, "A", None, 0, 0, ""], [1, "A", b"", 2, 0, ""],
    [1, "A", b"", -1, 0, ""], [1, "A", b"", [], 0, ""], [1, "A", b"", 0, -1, ""],
    [1, "A", b"", 0, float("nan"), ""], [1, "A", b"", 0, float("inf"), ""],
    [1, "A", b"", 0, "0", ""], [1, "A", b"", 0, 0, "c" * 191], [1, "A", b"", 0, 0, None],
    [1, "A", bytes(MAX_PAYLOAD + 1), 0, 0, ""],
)  # fmt: skip


def test_a_bad_message_is_refused_alone(lite: Bus) -> None:
    peer = lite.attach("One", "A")
    results = lite.publish("p", item(7), *BAD, item(8))
    assert (results[0], results[-1]) == (1, 1)
    assert {found[0] for found in results[1:-1]} == {"bad-message", "too-large"}
    # Once more, when the numbers are looked up because they may be stored.
    assert lite.publish("p", item(7), *BAD, item(8))[:: len(BAD) + 1] == [-1, -1]
    assert lite.publish("p", item(9)) == [1]
    for number, bad in enumerate(BAD):
        outputs = [bad[1:]] if isinstance(bad, list) and bad[1:2] != ["A"] else [bad]
        lite.publish("q", item(number))
        assert peer.finish(peer.take()[-1].key, outputs) == []
    assert len(lite.rows("dead")) == len(BAD)
    assert not lite.failures


def test_the_largest_message_of_each_store(bus: Bus) -> None:
    peer = bus.attach("One", "A")
    # Bytes that the MariaDB driver escapes.
    payload = b"\\'\0\"" * (bus.ledger.books.max_payload // 4)
    assert bus.publish("p", item(1, payload=payload)) == [1]
    assert peer.given[0].payload == payload
    (refused,) = bus.publish("p", item(2, payload=payload + b"12345"))
    assert refused[0] == "too-large"
    assert bus.publish("p", item(3)) == [1]
    peer.finish(peer.keys[0], [output("A", payload)])
    peer.finish(peer.keys[1], [output("A", payload + b"12345")])
    ((reason,),) = bus.rows("dead", "reason")
    assert reason.startswith(f"the payload of 'A' has {len(payload) + 5:,} bytes")
    assert not bus.failures
    bus.crash()
    assert bus.attach("One", "A").given[-1].payload == payload


def test_odd_names_everywhere(bus: Bus) -> None:
    peer = bus.attach("One", *ODD)
    for number, name in enumerate(ODD):
        assert bus.publish(f"{name}~1", item(number, name, name.encode(), chain=name)) == [1]
    assert [given.origin for given in peer.given] == [f"{name}~1" for name in ODD]
    for key, name in zip(peer.keys, ODD, strict=True):
        trigger = [name, name, [name, "late"], output(name, b"fired")]
        assert peer.finish(key, [output(name)], [[name, name, name]], [trigger]) == []
    bus.settle_down()
    bus.crash()
    peer = bus.attach("One", *ODD)
    assert [given.type for given in peer.given] == list(ODD)
    assert [given.chain for given in peer.given] == list(ODD)
    for given in peer.take():
        assert peer.finish(given.key, [], [[given.type, given.type, "late"]]) == []
    assert [(given.origin, given.type) for given in peer.given] == [
        (bus.ledger.books.origin(one), one) for one in ODD
    ]
    assert not bus.failures
    with pytest.raises(Refused):
        bus.attach("One; drop table ms_message", "A")


def test_names_that_a_database_would_take_as_the_same(bus: Bus) -> None:
    peer = bus.attach("One", "A", "a", "Á")
    assert bus.publish("p~1", item(1, "A"), item(2, "a"), item(3, "Á")) == [1, 1, 1]
    assert bus.publish("P~1", item(1, "a")) == [1]
    assert bus.publish("p~ 1", item(1, "a")) == [1]
    with pytest.raises(Refused):
        bus.publish("p~1 ", item(1, "a"))
    keys = peer.keys
    for key, id in zip(keys, ["i", "I", "í", " i", "i\t"], strict=True):
        assert peer.finish(key, [], [], [["T", id, ["x", "X"], output("Z")]]) == []
    assert len(bus.rows("trigger")) == 5
    bus.publish("p~1", item(9, "A"))
    assert peer.finish(peer.keys[-1], [], [["T", "i ", "x"]]) == []
    assert "the last no space" in bus.rows("dead", "reason")[0][0]
    assert not bus.failures


def test_settle_outputs_and_flags_are_one_transaction(bus: Bus) -> None:
    peer = bus.attach("One", "A", "B", "Act")
    bus.publish("p~1", item(1), item(2))
    trigger = ["T", "7", ["x", "y"], output("Act", b"go", delay=0)]
    assert (
        peer.finish(2, [output("B", b"1"), output("B", b"2")], [["T", "7", "x"]], [trigger]) == []
    )
    message = peer.given[0].message
    assert [(one.origin, one.number) for one in peer.take()[2:]] == [
        (bus.ledger.books.origin("One"), message * OUTPUTS + index) for index in (0, 1)
    ]  # fmt: skip
    bus.crash()
    peer = bus.attach("One", "A", "B", "Act")
    given = {one.number: one for one in peer.take()}
    assert len(given) == 3  # A 2, and both B
    assert {one.chain for one in given.values()} == {"", "p~1/1"}
    assert peer.finish(given[2].key, [], [["T", "7", "y"]]) == []
    (act,) = peer.take()
    assert (act.type, act.payload, act.chain) == ("Act", b"go", "p~1/1")
    assert act.origin == bus.ledger.books.origin("T")
    assert peer.finish(act.key, [], [["T", "7", "y"], ["T", "7", "x"]], [trigger]) == []
    assert peer.given == []


def test_a_commit_that_fails_leaves_nothing(bus: Bus) -> None:
    """Neither rows nor numbers: the ledger goes on as if it had not been asked."""
    bus.attach("One", "A")
    bus.publish("p", item(1))
    for _ in range(2):
        with (
            patch.object(bus.ledger.store, "insert_deliveries", side_effect=ZeroDivisionError),
            pytest.raises(ZeroDivisionError),
        ):
            bus.ledger.apply(Batch([Submission("q", [item(1)]), Submission("p", [item(2)])]), 5.0)
    applied = bus.ledger.apply(Batch([Submission("r", [item(1)]), Submission("p", [item(2)])]), 5.0)
    assert applied.results == [[1], [1]]
    assert bus.rows("message", "id", "routes") == [(1, "1:0:1"), (2, "1:0:2"), (3, "1:0:3")]
    assert bus.rows("origin", "id", "name") == [(1, "p"), (2, "r")]
    bus.ledger.flush(6.0)
    bus.ledger.flush(7.0)
    assert bus.rows("queue_one", "seq") == [(1,), (2,), (3,)]


class Breaking:
    """Makes the commits of an engine fail before, or after, they are done."""

    def __init__(self, bus: Bus, done: bool, times: int = 1) -> None:
        self.dialect = bus.engine.dialect
        self.real = self.dialect.do_commit
        self.done, self.times = done, times
        self.lite = self.dialect.name == "sqlite"

    def __enter__(self) -> Breaking:
        setattr(self.dialect, "do_commit", self._commit)  # noqa: B010 (a method, says mypy)
        return self

    def __exit__(self, *error: object) -> None:
        setattr(self.dialect, "do_commit", self.real)  # noqa: B010 (a method, says mypy)

    def _commit(self, connection: Any) -> None:
        if not self.times:
            return self.real(connection)
        self.times -= 1
        if self.done:
            self.real(connection)
        if self.lite:
            raise sqlite3.OperationalError("database is locked")
        raise pymysql.err.OperationalError(1213, "Deadlock found when trying to get lock")


def test_a_commit_that_is_tried_again(bus: Bus) -> None:
    peer = bus.attach("One", "A", "B")
    bus.publish("p", item(1), item(2))
    with Breaking(bus, done=False):
        assert bus.publish("p", item(3)) == [1]
    with Breaking(bus, done=False):
        assert peer.finish(2, [output("B")], [["T", "1", "x"]]) == []
    with Breaking(bus, done=False, times=2):
        bus.settle_down()
    assert not bus.failures
    assert bus.rows("buffer_in") == []
    assert bus.rows("buffer_out") == []
    assert bus.rows("history", "seq") == [(1,)]
    assert bus.rows("queue_one", "seq") == [(2,), (3,), (4,)]
    assert bus.publish("p", item(4)) == [1]


def test_a_commit_that_was_done_although_it_failed(bus: Bus) -> None:
    """The broker cannot tell its own rows from those of another: it ends, and finds them."""
    peer = bus.attach("One", "A")
    with Breaking(bus, done=True):
        answer = bus.broker.publish("p", [item(1), item(2)])
    assert not answer.called
    assert isinstance(bus.failures.pop().value, StoreError)
    assert peer.given == []
    bus.crash()
    peer = bus.attach("One", "A")
    assert [one.number for one in peer.given] == [1, 2]
    assert bus.publish("p", item(1), item(2)) == [-1, -1]
    with Breaking(bus, done=True):
        settled = peer.settle([peer.keys[0]])
    assert not settled.called
    assert len(bus.failures) == 1
    bus.crash()
    assert [one.number for one in bus.attach("One", "A").given] == [2]


def test_numbers_are_not_given_twice_after_dead_letters(bus: Bus) -> None:
    """What died since the last flush is in no buffer; its places stay its own."""
    peer = bus.attach("One", "A")
    bus.publish("p", item(0))
    # The first commit is followed by a flush, the next ones are not.
    bus.publish("p", item(1), item(2), item(3))
    result(peer.settle(failed=[[key, "no"] for key in peer.keys]))
    bus.crash()
    peer = bus.attach("One", "A")
    bus.publish("p", item(4))
    assert peer.keys == [10]
    result(peer.settle(failed=[[10, "no"]]))
    bus.settle_down()
    assert {fate for _, fate in bus.fates()["One"].values()} == {"dead"}
    assert not bus.failures


def test_a_second_broker_fences_the_first(bus: Bus) -> None:
    peer = bus.attach("One", "A")
    bus.publish("p", item(1))
    second = Bus(bus.url)
    try:
        answer, settled = bus.broker.publish("p", [item(2)]), peer.settle([2])
        assert not answer.called
        assert not settled.called
        assert "taken over by wmbroker" in str(bus.failures[0].value)
        assert len(bus.failures) == 1
        with pytest.raises(StoreError):
            bus.ledger.flush(1.0)
        with pytest.raises(StoreError):
            bus.ledger.bury("One", [], "", 1.0)
        with pytest.raises(StoreError):
            bus.ledger.attach("Two", [("A", 0)])
        assert [one.number for one in second.attach("One", "A").given] == [1]
    finally:
        second.close()


def test_the_chain_of_an_action(bus: Bus) -> None:
    """Its own correlation if it has one, else that of what declared it; at once or later."""
    peer = bus.attach("One", "A", "Act")
    declaring = [item(n, chain=chain) for n, chain in enumerate(["c0", "c1", ""])]
    setting = [item(n, chain="late") for n in (10, 11, 12)]
    bus.publish("p", *declaring, *setting)
    keys = [given.key for given in peer.take()]
    for number, own in enumerate(["own", "", ""]):
        trigger = ["T", str(number), ["x"], output("Act", chain=own)]
        assert peer.finish(keys[number], [], [], [trigger]) == []
        assert peer.finish(keys[number + 3], [], [["T", str(number), "x"]]) == []
    assert [given.chain for given in peer.given] == ["own", "c1", "p/2"]


def test_a_trigger_with_a_components_name(bus: Bus) -> None:
    """Actions and outputs have the same publisher then, but never the same number."""
    peer = bus.attach("One", "A", "B", "Act")
    for number in range(3):
        bus.publish("p", item(number))
        key = peer.take()[0].key
        trigger = ["One", str(number), [], output("Act")]
        assert peer.finish(key, [output("B")] * 2, [], [trigger]) == []
        assert sorted(given.type for given in peer.take()) == ["Act", "B", "B"]
    assert not bus.failures


@pytest.mark.parametrize(
    ("name", "id", "flag"),
    [("x" * 121, "i", "f"), ("p~1", "i", "f"), ("", "i", "f"), ("x ", "i", "f"), (5, "i", "f"),
     ("x", "", "f"), ("x", "i" * 191, "f"), ("x", "i", ""), ("x", "i", "f "), ("x", None, "f"),
     ("x", "i", ["f"])],
)  # fmt: skip
def test_bad_names_of_triggers_are_dead_letters(lite: Bus, name: Any, id: Any, flag: Any) -> None:
    peer = lite.attach("One", "A")
    lite.publish("p", item(1), item(2), item(3))
    assert peer.finish(2, [], [[name, id, flag]]) == []
    assert peer.finish(4, [], [], [[name, id, [flag], output("A")]]) == []
    assert len(lite.rows("dead")) == 2
    assert lite.rows("trigger") == []
    assert peer.finish(6, [], [], [["x" * 120, "i" * 190, ["f" * 190], output("A")]]) == []
    assert peer.finish(6 + 0, []) == [6]
    assert not lite.failures


def test_chains_stay_short_enough(lite: Bus) -> None:
    """The id of an action, whose publisher has the longest name, is a correlation of others."""
    name = "x" * 120
    peer = lite.attach("One", "A", "Act")
    lite.publish("p", item(1))
    lite.ledger.books.next_message = 1 << 46
    assert peer.finish(2, [], [], [[name, "i", [], output("Act")]]) == []
    assert peer.finish(peer.keys[-1], [output("A")]) == []
    assert peer.given[-1].chain.startswith(name[:50]) or peer.given[-1].chain == "p/1"
    assert not lite.failures


def test_stored_origins_are_not_all_kept_in_memory(
    lite: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wmtwisted.broker.commit.ORIGINS", 10)
    for number in range(50):
        assert lite.publish(f"p~{number}", item(0)) == [0]
        assert lite.publish(f"p~{number // 2}", item(0)) == [-1]
    assert len(lite.ledger.books.origins) <= 12


def test_interests_are_withdrawn_and_kept(bus: Bus) -> None:
    bus.attach("One", "A", "B")
    bus.attach("One", "B", ("C", 1), "C")  # the later one of two for a type
    assert bus.publish("p", item(1, "A"), item(2, "B"), item(3, "C")) == [0, 1, 1]
    bus.crash()
    assert bus.publish("p", item(4, "A"), item(5, "B"), item(6, "C")) == [0, 1, 1]
    result(bus.broker.expect("One", ["A", "C"]))
    result(bus.broker.expect("Two", ["C"]))
    assert bus.publish("p", item(7, "A"), item(8, "One:A"), item(9, "C")) == [1, 1, 2]
    with pytest.raises(Refused, match="case only"):
        bus.attach("one", "A")
    for bad in ([(5, 0)], [("A", 2)], [("", 0)], [("A ", 0)]):
        with pytest.raises(Refused):
            bus.attach("Three", *bad)
    assert [row[1] for row in bus.rows("component", "id", "name")] == ["One", "Two"]


def test_damaged_messages_are_never_delivered(bus: Bus) -> None:
    bus.attach("One", "A").leave()
    bus.publish("p", *(item(number, payload=b"good") for number in range(6)))
    bus.settle_down()
    message = bus.tables.message
    with bus.engine.begin() as connection:
        for id, values in ((2, {"payload": b"bad!"}), (3, {"type": "B"}), (4, {"origin": 77})):
            connection.execute(update(message).where(message.c.id == id).values(**values))
        connection.execute(delete(message).where(message.c.id == 5))
    bus.crash()
    peer = bus.attach("One", "A")
    assert [one.number for one in peer.given] == [0, 5]
    assert bus.rows("dead", "seq", "reason") == [(seq, "checksum") for seq in (2, 3, 4, 5)]
    assert bus.broker.status()["components"][0]["waiting"] == 0
    assert not bus.failures


def test_a_flush_moves_what_waits_and_what_is_settled(bus: Bus) -> None:
    peer = bus.attach("One", "A", ("P", 1), credit=20)
    bus.publish("p", *(item(n, "AP"[n % 2]) for n in range(20)))
    order = sorted(peer.keys, key=lambda key: key * 7 % 11)
    for count, key in enumerate(order[:12]):
        assert result(peer.settle([key])) == []
        if count % 5 == 4:
            bus.ledger.flush(bus.clock.seconds())
    result(peer.settle(retry=[[order[12], 50.0, "later"]], failed=[[order[13], "no"]]))
    fates = list(bus.fates()["One"].values())
    bus.ledger.flush(bus.clock.seconds())
    bus.ledger.flush(bus.clock.seconds())
    assert list(bus.fates()["One"].values()) == fates
    assert (len(bus.rows("history")), len(bus.rows("queue_one"))) == (12, 7)
    assert bus.rows("buffer_in") == bus.rows("buffer_out") == []
    ((attempt, due),) = [row for row in bus.rows("queue_one", "attempt", "due") if row[0]]
    assert (attempt, due) == (1, bus.clock.seconds() + 50)


def test_a_read_that_a_flush_overtakes(bus: Bus) -> None:
    """It sees each delivery once, wherever the flush has moved it meanwhile."""
    bus.attach("One", "A")
    bus.publish("p", *(item(n) for n in range(4)))
    bus.settle_down()
    bus.publish("p", *(item(n) for n in range(4, 8)))
    busy = False

    def overtake(connection: Connection, cursor: object, statement: str, *rest: object) -> None:
        nonlocal busy
        if statement.startswith("SELECT") and "ms_message" in statement and not busy:
            busy = True
            bus.ledger.flush(1.0)
            bus.ledger.flush(2.0)
            busy = False

    event.listen(bus.engine, "after_cursor_execute", overtake)
    store = bus.ledger.store
    rows = read(bus.engine, store.load, 1, "One", 0, 1, 100)
    bus.publish("p", *(item(n) for n in range(8, 12)))
    some = read(bus.engine, store.load_some, 1, "One", 0, range(2, 13))
    event.remove(bus.engine, "after_cursor_execute", overtake)
    assert [row.seq for row in rows] == list(range(2, 9))
    assert [row.seq for row in some] == list(range(2, 13))
    assert len(bus.rows("queue_one")) == 12


def test_one_broker_for_each_store(bus: Bus, tmp_path: Path) -> None:
    lock = StoreLock(bus.engine, "ms_", "first")
    with pytest.raises(StoreError, match="in use by"):
        StoreLock(bus.engine, "ms_", "second")
    lock.release()
    StoreLock(bus.engine, "ms_", "third").release()


def test_two_names_of_one_file_are_one_store(lite: Bus, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.sqlite").symlink_to(tmp_path / "bus.sqlite")
    other = open_engine(f"sqlite:///{tmp_path}/elsewhere/link.sqlite", "bus")
    lock = StoreLock(lite.engine, "ms_", "first")
    with pytest.raises(StoreError, match="in use by first"):
        StoreLock(other, "ms_", "second")
    lock.release()
    other.dispose()


def test_ranges_are_merged() -> None:
    rows = [(1, 0, 5, 6, 2.0), (1, 0, 1, 4, 1.0), (1, 1, 7, 7, 1.0), (1, 0, 8, 9, 1.0)]
    assert [row[1:4] for row in merge(rows)] == [(0, 1, 6), (0, 8, 9), (1, 7, 7)]


def test_good_messages_are_taken_as_they_are() -> None:
    parts = (7, "A", b"x", 1, 2.5, "chain")
    assert check_item(list(parts)) == parts


def test_a_ledger_is_opened_by_name(lite: Bus) -> None:
    assert Ledger(lite.engine, lite.tables).open("again") == {}
    with lite.engine.connect() as connection:
        assert (
            connection.execute(select(lite.tables.broker.c.holder)).scalar_one().startswith("again")
        )


@pytest.mark.parametrize("number", [True, 1.0, "1", None, -1, 1 << 63])
def test_a_number_that_is_none(number: object) -> None:
    with pytest.raises(Refused, match="message number"):
        check_item([number, "A", b"", 0, 0.0, ""])
