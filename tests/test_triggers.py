"""Barriers: whatever the order, the action is published once, and only when all flags are set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bus import DATABASES, Bus, fresh_url, item, output, result
from wmtwisted.broker.triggers import Barrier
from wmtwisted.message import Message, Trigger
from wmtwisted.store.state import trigger_counts

FLAGS = ("x", "y", "z")

flags = st.sets(st.sampled_from(FLAGS)).map(lambda some: tuple(sorted(some)))
#: A declaration is the flags it waits for and its action; a flag is its name.
steps = st.lists(
    st.one_of(st.tuples(flags, st.sampled_from(["Act", "Other"])), st.sampled_from(FLAGS)),
    max_size=12,
)


@given(steps)
def test_it_fires_once_and_only_when_it_is_complete(done: list[Any]) -> None:
    barrier = Barrier()
    wanted: set[str] = set()
    there: set[str] = set()
    action, fired = "", False
    for now, step in enumerate(done):
        if isinstance(step, str):
            there.add(step)
            fires = barrier.set(step, f"by {now}", float(now))
        else:
            if not fired:
                wanted.update(step[0])
                action = step[1]
            trigger = Trigger("T", "1", step[0], Message(step[1]))
            fires = barrier.declare(trigger, f"chain {now}", float(now))
        assert fires == (not fired and action != "" and wanted <= there)
        fired = fired or fires
        assert (barrier.state == "fired") == fired
        assert barrier.action is None or barrier.action.type == action
        if not fired:
            assert {flag for flag, value in barrier.flags.items() if value} == there
            assert set(barrier.flags) == there | wanted


def test_who_set_a_flag_first_is_kept() -> None:
    barrier = Barrier()
    barrier.set("x", "DBS", 1.0)
    barrier.set("x", "Phedex", 2.0)
    assert barrier.flags == {"x": ("DBS", 1.0)}
    assert barrier.declare(Trigger("T", "1", ("x",), Message("Act")), "c", 3.0)
    assert (barrier.declared, barrier.fired, barrier.chain) == (3.0, 3.0, "c")


def test_declaring_again_keeps_the_chain_and_takes_the_action() -> None:
    barrier = Barrier()
    barrier.declare(Trigger("T", "1", ("x",), Message("Act")), "first", 1.0)
    barrier.declare(Trigger("T", "1", ("y",), Message("Other")), "second", 2.0)
    assert (barrier.chain, barrier.declared) == ("first", 1.0)
    assert not barrier.set("x", "s", 3.0)
    assert barrier.set("y", "s", 4.0)
    assert barrier.action == Message("Other")


@pytest.fixture(params=DATABASES)
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bus]:
    """A broker on each database."""
    made = Bus(fresh_url(request.param, tmp_path))
    yield made
    made.close()


def trigger(id: str, *flags: str, name: str = "T") -> list[Any]:
    """A declaration as it crosses the wire."""
    return [name, id, list(flags), output("Act", id.encode())]


def test_many_triggers_in_one_transaction(bus: Bus) -> None:
    """T1: the complete ones fire alone. T2: a flag of one id is no other's. T4: flags come first,
    and triggers without any. T5: the last two flags come at once."""
    ids = [str(number) for number in range(450)]
    work, peer = bus.attach("Work", "A"), bus.attach("Peer", "Act")
    bus.publish("p", *(item(number) for number in range(5)))
    keys = work.keys
    declared = [trigger(id, "x", "y") for id in ids] + [trigger("none")]
    assert work.finish(keys[0], [], [["T", id, "x"] for id in ids[:300]]) == []
    assert work.finish(keys[1], [], [["T", ids[7], "y"]], declared) == []
    assert sorted(one.payload.decode() for one in peer.take()) == [ids[7], "none"]
    bus.crash()
    work, peer = bus.attach("Work", "A"), bus.attach("Peer", "Act", credit=10_000)
    peer.take()
    both = work.settle(
        (),
        [
            [keys[2], [], [["T", id, "x"] for id in ids[200:400]], []],
            [keys[3], [], [["T", id, "y"] for id in ids[100:350]], []],
        ],
    )
    assert result(both) == []
    assert sorted(one.payload.decode() for one in peer.take()) == sorted(ids[100:350])
    everything = [["T", id, flag] for id in ids for flag in ("x", "y")]
    assert work.finish(keys[4], [], [*everything, ["U", "1", "x"]], declared) == []
    fired = [one.payload.decode() for one in peer.take()]
    assert sorted(fired) == sorted({*ids[:100], *ids[350:]} - {ids[7]})
    with bus.engine.connect() as connection:
        assert trigger_counts(connection, bus.tables) == [
            {"name": "T", "pending": 0, "fired": 451},
            {"name": "U", "pending": 1, "fired": 0},
        ]


def test_a_settle_that_is_not_committed_sets_no_flag(bus: Bus) -> None:
    """T3: what the transaction did is undone as a whole, and done again."""
    work, peer = bus.attach("Work", "A"), bus.attach("Peer", "Act")
    bus.publish("p", item(1), item(2))
    assert work.finish(work.keys[0], [], [], [trigger("1", "x")]) == []
    bus.writer.held = True
    work.settle((), [[work.keys[1], [], [["T", "1", "x"]], []]])
    bus.crash()
    work, peer = bus.attach("Work", "A"), bus.attach("Peer", "Act")
    assert bus.rows("trigger", "id", "state") == [("1", "pending")]
    assert work.finish(work.keys[0], [], [["T", "1", "x"]]) == []
    assert [one.payload for one in peer.given] == [b"1"]


def test_the_action_is_whole_after_a_restart(bus: Bus) -> None:
    work, peer = bus.attach("Work", "A"), bus.attach("Peer", "Act")
    bus.publish("p", item(1, chain="c"), item(2, chain="d"))
    payload = bytes(range(256)) * 4
    action = ["Act", payload, 1, 30.0, ""]
    assert work.finish(work.keys[0], [], [], [["T", "1", ["x"], action]]) == []
    bus.crash()
    work, peer = bus.attach("Work", "A"), bus.attach("Peer", "Act")
    assert work.finish(work.keys[0], [], [["T", "1", "x"]]) == []
    fired = bus.clock.seconds()
    bus.advance(29)
    assert peer.given == []
    bus.advance(2)
    (act,) = peer.given
    assert (act.type, act.payload, act.chain) == ("Act", payload, "c")
    assert act.origin == bus.ledger.books.origin("T")
    assert fired + 30 <= act.time <= fired + 31
    assert act.key & 1 == 1
