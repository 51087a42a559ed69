"""Replays on real databases: what they select, and that each message comes once, as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from tests.bus import DATABASES, START, Bus, Given, Peer, fresh_url, item, output, result
from wmtwisted.broker import replay
from wmtwisted.broker.replay import parse
from wmtwisted.errors import Refused
from wmtwisted.store.history import Filter


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


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many commits even for few messages."""
    monkeypatch.setattr(replay, "STEP", 3)


def planned(bus: Bus, **wanted: Any) -> int:
    """What a dry run says, which changes nothing."""
    before = bus.rows("message"), bus.rows("buffer_in"), bus.rows("replay")
    answer = result(bus.broker.replays.plan(Filter(component="One", **wanted)))
    assert answer["replay"] == 0
    assert len(answer["sample"]) == min(10, answer["count"])
    assert before == (bus.rows("message"), bus.rows("buffer_in"), bus.rows("replay"))
    return int(answer["count"])


def replayed(bus: Bus, peer: Peer, **wanted: Any) -> list[Given]:
    """What a replay delivers; what it says, and what a dry run said, is true."""
    count = planned(bus, **wanted)
    answer = result(bus.broker.replays.start(Filter(component="One", **wanted)))
    given = peer.take()
    assert answer["count"] == count == len(given)
    assert all((one.replay, one.reason) == (answer["replay"], "replay") for one in given)
    assert [one.message for one in given] == sorted({one.message for one in given})
    return given


def content(given: list[Given]) -> list[tuple[Any, ...]]:
    """What must be the same each time."""
    return [(one.origin, one.number, one.type, one.payload, one.chain) for one in given]


def settle(peer: Peer, given: list[Given]) -> None:
    assert result(peer.settle([one.key for one in given])) == []


def test_each_message_once_and_as_it_was(bus: Bus) -> None:
    peer = bus.attach("One", "A", "B")
    payloads = [b"", b"\0\xff'\\%s", bytes(range(256)) * 300, "é🦆".encode()]
    items = [
        item(n, "AB"[n % 2], payloads[n % 4], priority=n % 3 == 0, chain="c") for n in range(11)
    ]
    bus.publish("p~1", *items)
    original = sorted(peer.take(), key=lambda one: one.message)
    assert planned(bus) == 0, "what waits is not given again"
    settle(peer, original)
    again = replayed(bus, peer)
    assert content(again) == content(original)
    assert planned(bus) == 0
    settle(peer, again)
    bus.settle_down()
    assert content(replayed(bus, peer, type="B")) == content(original[1::2])
    assert {fate for _, fate in bus.fates()["One"].values()} == {"settled", "waiting"}
    assert len(bus.fates()["One"]) == 11 + 11 + 5


def test_ranges_types_sources_and_chains(bus: Bus) -> None:
    peer = bus.attach("One", "A", "B")
    bus.attach("Two", "C")
    for number in range(6):
        for source in ("p~1", "p~2", "P~1", "pp~1"):
            bus.publish(source, item(number, "ABC"[number % 3], chain=f"chain {number % 2}"))
        bus.advance(10)
    everything = peer.take()
    settle(peer, everything)

    def check(expected: list[Given], **wanted: Any) -> None:
        found = replayed(bus, peer, **wanted)
        assert content(found) == content(expected)
        settle(peer, found)

    check(everything)
    check([one for one in everything if one.type == "B"], type="B")
    check([one for one in everything if one.origin in ("p~1", "p~2")], source="p")
    check([one for one in everything if one.origin == "pp~1"], source="pp~1")
    check([one for one in everything if one.chain == "chain 1"], correlation="chain 1")
    middle = [one for one in everything if 10 <= one.time - START < 40]
    check(middle, since=START + 10, until=START + 40)
    check([one for one in middle if one.type == "A"], type="A", since=START + 10, until=START + 40)
    check([one for one in everything if one.message > 9], after=9)
    check([], since=START + 1000)
    check([], until=START)
    check([], source="p~")
    check([], type="C")
    check([], lost=True)


def test_what_was_lost_from_the_tables(bus: Bus) -> None:
    peer = bus.attach("One", "A", credit=2)
    bus.attach("Two", "A", credit=1)
    bus.publish("p~1", *(item(n, payload=b"%d" % n) for n in range(10)))
    result(peer.settle([2], failed=[[4, "no"]]))
    bus.settle_down()
    bus.publish("p~1", *(item(n) for n in range(10, 13)))
    queue, young = bus.tables.queue("One"), bus.tables.buffer_in
    with bus.engine.begin() as connection:
        connection.execute(delete(queue).where(queue.c.seq.in_([5, 6, 7])))
        connection.execute(delete(young).where(young.c.seq == 12, young.c.component == 1))
    bus.crash()
    peer = bus.attach("One", "A")
    assert sorted(one.number for one in peer.take()) == [2, 3, 7, 8, 9, 10, 12]
    found = replayed(bus, peer, lost=True)
    assert [(one.number, one.payload) for one in found] == [
        (4, b"4"), (5, b"5"), (6, b"6"), (11, b"")
    ]  # fmt: skip
    assert planned(bus, lost=True) == 0
    settle(peer, found)
    bus.settle_down()
    assert planned(bus, lost=True) == 0
    assert "lost" not in {fate for _, fate in bus.fates()["One"].values()}
    assert len(bus.rows("queue_two")) + len(bus.rows("buffer_in")) >= 12


def test_dead_letters_live_again(bus: Bus) -> None:
    peer = bus.attach("One", "A")
    bus.publish("p", item(1), item(2))
    result(peer.settle(failed=[[one.key, "no"] for one in peer.take()]))
    assert len(bus.rows("dead")) == 2
    found = replayed(bus, peer)
    assert [(one.number, one.attempt) for one in found] == [(1, 1), (2, 1)]
    assert bus.rows("dead") == []
    result(peer.settle([found[0].key], failed=[[found[1].key, "no"]]))
    bus.settle_down()
    assert sorted(fate for _, fate in bus.fates()["One"].values()) == [
        "dead", "settled", "settled", "settled"
    ]  # fmt: skip
    assert not bus.failures


def test_it_goes_on_after_a_crash_between_steps(bus: Bus) -> None:
    peer = bus.attach("One", "A")
    bus.publish("p", *(item(n) for n in range(10)))
    first = peer.take()
    settle(peer, first)
    bus.writer.held = True
    answers: list[Any] = []
    bus.broker.replays.start(Filter(component="One")).addBoth(answers.append)
    for _ in range(2):  # its beginning, and the first step
        bus.writer.work()()
    assert [one.number for one in peer.take()] == [0, 1, 2]
    bus.writer.work()  # the second step is committed, and nobody learns of it
    bus.crash()
    assert answers == []
    peer = bus.attach("One", "A")
    found = peer.take()
    assert content(found) == content(first)
    assert {one.replay for one in found} == {1}
    assert [one.attempt for one in found] == [1] * 10
    settle(peer, found)
    bus.crash()
    assert bus.attach("One", "A").given == []
    assert [row[0] for row in bus.rows("replay", "count")] == [10]


def test_while_messages_go_on_coming(bus: Bus) -> None:
    peer = bus.attach("One", "A", credit=1)
    bus.publish("p", *(item(n) for n in range(9)))
    for _ in range(9):
        settle(peer, peer.take())
    bus.writer.held = True
    answer = bus.broker.replays.start(Filter(component="One"))
    published = []
    for number in range(9, 14):
        published.append(bus.broker.publish("p", [item(number)]))
        bus.writer.work()()
    bus.writer.release()
    got = []
    while given := peer.take():
        got += given
        settle(peer, given)
    assert result(answer)["count"] == 9
    assert [one.number for one in got if one.replay] == list(range(9))
    assert [one.number for one in got if not one.replay] == list(range(9, 14))
    assert all(result(one) == [1] for one in published)
    assert bus.broker.queues["One"].depth == 0


def test_a_handler_that_runs_again_publishes_once(bus: Bus) -> None:
    peer = bus.attach("One", "A", "B", "Act")
    bus.publish("p", item(1))
    key = peer.take()[0].key
    trigger = ["T", "1", ["x"], output("Act")]
    outputs = [output("B", b"1"), output("B", b"2")]
    assert peer.finish(key, outputs, [["T", "1", "x"]], [trigger]) == []
    settle(peer, peer.take())
    bus.crash()
    peer = bus.attach("One", "A", "B", "Act")
    (again,) = replayed(bus, peer, type="A")
    changed = [output("B", b"1"), output("B", b"other"), output("B", b"3")]
    assert peer.finish(again.key, changed, [["T", "1", "x"]], [trigger]) == []
    assert [one.payload for one in peer.take()] == [b"3"], "what is new in it"
    assert not bus.failures


def test_a_message_that_was_never_handled_gets_its_outputs(bus: Bus) -> None:
    """Also when it is settled in the transaction that stores something else."""
    peer = bus.attach("One", "A", "B")
    bus.publish("p", item(1), item(2))
    settle(peer, peer.take())
    first, second = replayed(bus, peer)
    both = peer.settle((), [[one.key, [output("B")], [], []] for one in (first, second)])
    assert result(both) == []
    assert len(peer.take()) == 2


def test_what_came_before_its_interest(lite: Bus) -> None:
    """A component can get what was published before it was there; others' messages it cannot."""
    lite.publish("p", item(1, "A"), item(2, "B"))
    peer = lite.attach("One", "A")
    assert [one.number for one in replayed(lite, peer)] == [1]


def test_damaged_messages_stay_where_they_are(lite: Bus) -> None:
    peer = lite.attach("One", "A")
    lite.publish("p", *(item(n) for n in range(3)))
    settle(peer, peer.take())
    message = lite.tables.message
    with lite.engine.begin() as connection:
        connection.execute(update(message).where(message.c.id == 2).values(payload=b"x"))
    assert [one.number for one in replayed(lite, peer)] == [0, 2]


def test_components_that_are_not_known_are_refused(lite: Bus) -> None:
    for name in ("Nobody", "a; drop table x", ""):
        for start in (lite.broker.replays.plan, lite.broker.replays.start):
            with pytest.raises(Refused):
                result(start(Filter(component=name)))
    assert lite.rows("replay") == []


def test_filters_from_the_wire() -> None:
    assert parse({"component": "One", "since": 5}) == Filter(component="One", since=5)
    bad: list[Any] = [
        None, 5, [], "x", {"nonsense": 1}, {5: 1}, {"limit": "5"}, {"limit": -1}, {"limit": True},
        {"after": None}, {"after": 1 << 63}, {"type": 5}, {"type": ["A"]}, {"component": b"One"},
        {"since": float("nan")}, {"until": float("inf")}, {"since": -1.0}, {"lost": 1},
    ]  # fmt: skip
    for one in bad:
        with pytest.raises(Refused):
            parse(one)


def test_history_by_filters(bus: Bus) -> None:
    bus.attach("One", "A%B", "A_B")
    for number, source in enumerate(["p~1", "P~1", "p%~1", "p_~1", "p"]):
        type = ["A%B", "A_B", "AxB"][number % 3]
        bus.publish(source, item(number, type, chain="" if number else "p/4"))
        bus.advance(10)

    def found(**wanted: Any) -> list[int]:
        return [
            int(row[1].rpartition("/")[2]) for row in result(bus.broker.history(Filter(**wanted)))
        ]

    assert found() == [0, 1, 2, 3, 4]
    assert found(source="p") == [0, 4]
    assert found(source="p_") == [3]
    assert found(source="p%") == [2]
    assert found(type="A_B") == [1, 4]
    assert found(component="One") == [0, 1, 3, 4]
    assert found(component="Nobody") == []
    assert found(correlation="p/4") == [0, 4]
    assert found(correlation="p/x") == []
    assert found(correlation="p~1/0") == [0]
    assert found(correlation="P~1/1") == [1]
    assert found(since=START + 10, until=START + 30) == [1, 2]
    assert found(after=2, limit=2) == [2, 3]
    assert found(limit=2, newest=True) == [3, 4]
