"""The broker on a clock that is set by hand, with threads that run when they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from twisted.python.failure import Failure

from tests.bus import Bus, Peer, fresh_url, item, output, pending, result
from wmtwisted.broker import counters
from wmtwisted.broker.intake import MAX_REASON, check_outcomes
from wmtwisted.broker.queue import Entry
from wmtwisted.errors import Refused
from wmtwisted.wire import Fatal

Make = Callable[..., Bus]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes a broker with other settings."""
    made: list[Bus] = []

    def make(**settings: Any) -> Bus:
        made.append(Bus(fresh_url("sqlite", tmp_path), **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def bus(make: Make) -> Bus:
    """A broker."""
    return make()


def numbers(peer: Peer) -> list[int]:
    """The messages that came since it was last asked."""
    return [given.number for given in peer.take()]


def component(bus: Bus, name: str = "One") -> dict[str, Any]:
    """A component's counters."""
    rows: list[dict[str, Any]] = bus.broker.status()["components"]
    return next(row for row in rows if row["name"] == name)


# Commit, then answer, then send -------------------------------------------------------------


def test_nothing_is_answered_or_sent_before_the_commit(bus: Bus) -> None:
    events: list[str] = []

    def deliver(entries: list[Entry]) -> None:
        events.append(f"sent {len(entries)}")

    result(bus.broker.attach("One", [("A", 0)], 10, deliver))
    bus.writer.held = True
    bus.broker.publish("p", [item(1)]).addCallback(lambda _: events.append("answered"))
    bus.clock.advance(0.1)
    assert events == []
    answer = bus.writer.work()
    assert len(bus.rows("message")) == 1
    assert events == []
    answer()
    assert events == ["answered", "sent 1"]


def test_what_arrives_during_a_commit_shares_the_next(bus: Bus) -> None:
    peer = bus.attach("One", "A")
    bus.publish("p", item(0))
    bus.writer.held = True
    commits = bus.broker.status()["broker"]["commits"]
    answers = [bus.broker.publish(f"p~{number}", [item(1)]) for number in range(20)]
    settled = peer.settle([peer.keys[0]])
    bus.writer.work()()
    assert [pending(answer) for answer in answers] == [False] + [True] * 19
    bus.writer.work()()
    assert not any(map(pending, answers))
    assert result(settled) == []
    assert bus.broker.status()["broker"]["commits"] == commits + 2


def test_a_failing_commit_ends_the_broker(bus: Bus) -> None:
    """Nothing is answered, nothing more is written, and to stop takes no time."""
    peer = bus.attach("One", "A")
    bus.publish("p", item(1))
    bus.ledger.store.insert_messages = None  # type: ignore[method-assign, assignment]
    answers = [bus.broker.publish("p", [item(2)]), bus.broker.publish("p", [item(3)])]
    settled = peer.settle([2])
    bus.advance(5)
    assert len(bus.failures) == 1
    assert all(pending(one) for one in answers)
    assert pending(settled)
    assert bus.broker.trouble()
    assert [row[0] for row in bus.rows("message", "number")] == [1]
    peer.leave()
    result(bus.broker.stop())
    assert bus.clock.getDelayedCalls() == []
    assert len(bus.failures) == 1


def test_a_commit_that_fails_while_the_broker_stops(bus: Bus) -> None:
    bus.writer.held = True
    bus.broker.publish("p", [item(2)])
    stopped = bus.broker.stop()
    assert pending(stopped)
    bus.ledger.store.insert_messages = None  # type: ignore[method-assign, assignment]
    bus.writer.release()
    result(stopped)
    assert len(bus.failures) == 1


def test_a_read_that_fails_ends_the_broker_once(make: Make) -> None:
    bus = make(window=2)
    bus.publish("p", item(1))
    bus.attach("One", "A").leave()
    bus.publish("p", *(item(n) for n in range(2, 12)))
    bus.reader.held = True
    peer = bus.attach("One", "A", credit=5)
    assert numbers(peer) == [2, 3]
    ((done, _, _),) = bus.reader.calls
    done.errback(Failure(OSError("gone")))
    assert [failure.type for failure in bus.failures] == [OSError]
    result(bus.broker.stop())


def test_a_slow_store_is_trouble(bus: Bus) -> None:
    assert bus.broker.trouble() == ""
    bus.writer.held = True
    bus.broker.publish("p", [item(1)])
    bus.clock.advance(1)
    assert bus.broker.trouble() == ""
    bus.clock.advance(2)
    assert "not answered for 3 s" in bus.broker.trouble()
    bus.writer.release()
    assert bus.broker.trouble() == ""


# Delivering ---------------------------------------------------------------------------------


def test_credit_bounds_what_is_unsettled(bus: Bus) -> None:
    peer = bus.attach("One", "A", credit=3)
    bus.publish("p", *(item(n) for n in range(8)))
    assert numbers(peer) == [0, 1, 2]
    bus.advance(3)
    assert numbers(peer) == []
    result(peer.settle([2, 4]))
    assert numbers(peer) == [3, 4]
    assert component(bus) == {
        **component(bus), "waiting": 3, "leased": 3, "handled": 2, "connected": True
    }  # fmt: skip


def test_after_so_many_attempts_it_is_a_dead_letter(make: Make) -> None:
    bus = make(backoff=(1.0, 5.0, 30.0), attempts=6)
    peer = bus.attach("One", "A")
    bus.publish("p", item(1))
    for _ in range(5):
        (given,) = peer.take()
        result(peer.settle(retry=[[given.key, None, "not yet"]]))
        bus.advance(31)
    (given,) = peer.take()
    assert given.attempt == 6
    result(peer.settle(retry=[[given.key, None, "not yet"]]))
    bus.advance(100)
    assert peer.given == []
    assert bus.rows("dead", "attempt", "reason") == [(6, "gave up after 6 deliveries: not yet")]


@pytest.mark.parametrize(("attempt", "seconds"), [(0, 1.0), (1, 5.0), (2, 30.0), (3, 30.0)])
def test_a_retry_comes_when_it_is_due(make: Make, attempt: int, seconds: float) -> None:
    bus = make(backoff=(1.0, 5.0, 30.0))
    peer = bus.attach("One", "A")
    bus.publish("p", item(1))
    for _ in range(attempt):
        result(peer.settle(retry=[[peer.take()[0].key, 0, "at once"]]))
    result(peer.settle(retry=[[peer.take()[0].key, None, "later"]]))
    bus.publish("p", item(2))
    assert numbers(peer) == [2], "what is newer does not wait for it"
    bus.clock.advance(seconds - 0.01)
    assert peer.given == []
    assert component(bus)["delayed"] == 1
    bus.clock.advance(0.02)
    assert [(given.reason, given.attempt) for given in peer.given] == [("retry", attempt + 2)]


def test_a_retry_keeps_attempts_and_due_time_over_a_crash(bus: Bus) -> None:
    peer = bus.attach("One", "A")
    bus.publish("p", item(1), item(2))
    result(peer.settle(retry=[[peer.take()[0].key, 60.0, "later"]]))
    bus.settle_down()
    bus.crash()
    peer = bus.attach("One", "A")
    assert numbers(peer) == [2]
    bus.advance(50)
    assert peer.given == []
    bus.advance(20)
    assert [(given.number, given.attempt) for given in peer.given] == [(1, 2)]


def test_a_lease_that_runs_out(make: Make) -> None:
    bus = make(lease=10.0)
    first, second = bus.attach("One", "A", credit=2), bus.attach("One", "A", credit=0)
    bus.publish("p", item(1), item(2))
    assert numbers(first) == [1, 2]
    bus.clock.advance(8)
    bus.broker.extend(first.attached, [4, 4, 99])
    bus.broker.extend(second.attached, [2])
    second.attached.consumer.credit = 5
    bus.clock.advance(2.5)
    assert [(given.number, given.reason, given.attempt) for given in second.take()] == [
        (1, "lease", 2)
    ]
    assert result(first.settle([2])) == [2], "it is not its own any more"
    assert result(first.settle([4])) == []
    assert result(second.settle([2])) == []
    bus.settle_down()
    assert len(bus.rows("history")) == 2


def test_what_a_lost_process_held_goes_to_the_others_in_order(bus: Bus) -> None:
    first = bus.attach("One", "A", credit=4)
    bus.publish("p", *(item(n) for n in range(6)))
    assert numbers(first) == [0, 1, 2, 3]
    second = bus.attach("One", "A", credit=4)
    assert numbers(second) == [4, 5]
    result(first.settle([4]))
    first.leave()
    assert numbers(second) == [0, 2]
    assert bus.rows("buffer_in", "seq", "attempt") == [
        (1, 1),
        (2, 0),
        (3, 1),
        (4, 1),
        (5, 0),
        (6, 0),
    ]
    result(second.settle([2, 10]))
    assert [(given.number, given.attempt, given.reason) for given in second.take()] == [
        (3, 2, "lost")
    ]
    assert component(bus)["processes"] == 1


def test_several_processes_share_the_work(bus: Bus) -> None:
    peers = [bus.attach("One", "A", credit=10) for _ in range(3)]
    bus.publish("p", *(item(n) for n in range(24)))
    given = [numbers(peer) for peer in peers]
    assert [len(one) for one in given] == [8, 8, 8]
    assert sorted(chain.from_iterable(given)) == list(range(24))
    bus.publish("p", *(item(n) for n in range(24, 40)))
    assert sum(len(numbers(peer)) for peer in peers) == 6, "all that there is credit for"


def test_a_busy_process_does_not_keep_work_from_an_idle_one(bus: Bus) -> None:
    busy, idle = bus.attach("One", "A", credit=2), bus.attach("One", "A", credit=40)
    bus.publish("p", *(item(n) for n in range(3)))
    busy.take(), idle.take()
    bus.publish("p", *(item(n) for n in range(10, 40)))
    assert len(busy.take()) + len(idle.take()) == 30


def test_more_than_memory_holds(make: Make) -> None:
    """Delivered in order although most of it is read back, and never more than the window."""
    bus = make(window=10)
    bus.attach("One", "A", ("P", 1)).leave()
    count = 300
    for start in range(0, count, 25):
        bus.publish("p", *(item(n, "AP"[n % 10 == 0]) for n in range(start, start + 25)))
        bus.advance(0.6)
    queue = bus.broker.queues["One"]
    assert [len(lane) for lane in queue.lanes] == [10, 10]
    bus.crash()
    peer = bus.attach("One", "A", ("P", 1), credit=7)
    got: dict[str, list[int]] = {"A": [], "P": []}
    for number in range(count * 2):
        given = peer.take()
        if not given:
            break
        for one in given:
            got[one.type].append(one.number)
        if number < 20:  # while new ones come
            bus.publish("p", item(count + number))
        assert result(peer.settle([one.key for one in given])) == []
        assert max(len(lane) for lane in bus.broker.queues["One"].lanes) <= 10
    assert got["P"] == list(range(0, count, 10))
    assert got["A"] == [n for n in range(count + 20) if n % 10 or n >= count]
    assert component(bus)["waiting"] == 0
    assert not bus.failures


def test_a_read_that_sees_more_than_was_accepted(make: Make) -> None:
    bus = make(window=4)
    bus.attach("One", "A").leave()
    bus.publish("p", *(item(n) for n in range(6)))
    peer = bus.attach("One", "A", credit=1)
    bus.reader.held = True
    for _ in range(4):
        result(peer.settle([peer.keys[-1]]))
    bus.writer.held = True
    bus.broker.publish("p", [item(n) for n in range(6, 9)])
    answer = bus.writer.work()  # committed, and not known yet
    while bus.reader.calls:
        bus.reader.work()()
    answer()
    bus.writer.release()
    bus.reader.release()
    while peer.given[-1].number < 8:
        result(peer.settle([peer.keys[-1]]))
    assert [given.number for given in peer.given] == list(range(9))


def test_messages_for_components_that_never_came(bus: Bus) -> None:
    result(bus.broker.expect("Two", ["A", "B"]))
    assert bus.publish("p", item(1), item(2, "B")) == [1, 1]
    assert component(bus, "Two")["waiting"] == 2
    bus.crash()
    assert numbers(bus.attach("Two", "A", "B")) == [1, 2]


def test_a_process_that_is_gone_before_its_interests_are_stored(bus: Bus) -> None:
    bus.writer.held = True
    attached = bus.broker.attach("One", [("A", 0)], 5, lambda entries: None)
    bus.broker.publish("p", [item(1)])
    bus.writer.release()
    bus.broker.detach(result(attached))
    bus.clock.advance(1)
    assert component(bus)["connected"] is False
    assert numbers(bus.attach("One", "A")) == [1]


# Settling -----------------------------------------------------------------------------------

HOSTILE: list[Any] = [
    None, 5, "abcd", b"abcd", {}, [], [[]], [[], [], []], [[], [], [], [], []], [1, [], [], []],
    [None, [], [], []], [["2"], [], [], []], [[2.0], [], [], []], [[True], [], [], []],
    [[[2]], [], [], []], [[{}], [], [], []], ["23", [], [], []], [[], [2], [], []],
    [[], [[2]], [], []], [[], [[2, [], []]], [], []], [[], [[[2], [], [], []]], [], []],
    [[], [], [2], []], [[], [], [[2, 0]], []], [[], [], [[2, "0", "r"]], []],
    [[], [], [[2, [], "r"]], []], [[], [], [[2, float("nan"), "r"]], []],
    [[], [], [[2, float("inf"), "r"]], []], [[], [], [[2, -1, "r"]], []],
    [[], [], [[2, 1e300, "r"]], []], [[], [], [[2, 0, None]], []], [[], [], [[2, 0, 5]], []],
    [[], [], [["2", 0, "r"]], []], [[], [], [], [2]], [[], [], [], [[2]]],
    [[], [], [], [[2, None]]], [[], [], [], [[2, {}]]], [[], [], [], [[[], "r"]]],
]  # fmt: skip


def test_a_hostile_settle_changes_nothing(bus: Bus) -> None:
    peer = bus.attach("One", "A")
    bus.publish("p", item(1), item(2))
    for outcomes in HOSTILE:
        if isinstance(outcomes, list) and len(outcomes) == 4:
            # The good part comes first, and counts as little as the bad one.
            outcomes = [[4, *outcomes[0]] if isinstance(outcomes[0], list) else 5, *outcomes[1:]]
        with pytest.raises(Refused):
            bus.broker.settle(peer.attached, check_outcomes(outcomes))
    assert component(bus)["leased"] == 2
    assert result(peer.settle([2, 4])) == []
    assert not bus.failures


@pytest.mark.parametrize(
    "outputs",
    [
        (5, [], []), (None, [], []), ({1: 2}, [], []), ("ab", [], []), ([5], [], []),
        ([["A"]], [], []), ([["A ", b"", 0, 0, ""]], [], []), ([["A", "", 0, 0, ""]], [], []),
        ([["A", b"", 0, 0, "c" * 200]], [], []), ([], 5, []), ([], [5], []), ([], [["T", "1"]], []),
        ([], [["T", 1, "x"]], []), ([], [[b"T", "1", "x"]], []), ([], [], 5), ([], [], [5]),
        ([], [], [["T", "1", 5, output("A")]]), ([], [], [["T", "1", ["x"], None]]),
        ([], [], [["T", "1", [None], output("A")]]), ([], [], [["T", "1", ["x"], [1] * 5]]),
        ([output("A")] * 65_536, [], []),
    ],
    ids=lambda outputs: repr(outputs)[:40],
)  # fmt: skip
def test_bad_outputs_make_a_dead_letter(bus: Bus, outputs: tuple[Any, Any, Any]) -> None:
    peer = bus.attach("One", "A", "B")
    bus.publish("p", item(1), item(2, "B"))
    assert peer.finish(2, *outputs) == []
    assert len(bus.rows("dead")) == 1
    assert len(bus.rows("message")) == 2
    assert result(peer.settle([4])) == []
    assert not bus.failures


def test_a_long_reason_is_cut(bus: Bus) -> None:
    peer = bus.attach("One", "A")
    bus.publish("p", item(1))
    outcomes = check_outcomes([[], [], [], [[2, "é" * 200_000]]])
    assert result(bus.broker.settle(peer.attached, outcomes)) == []
    assert bus.rows("dead", "reason") == [("é" * MAX_REASON,)]


def test_one_settle_names_a_key_twice(bus: Bus) -> None:
    peer = bus.attach("One", "A")
    bus.publish("p", item(1))
    answer = peer.settle([2, 2], [[2, [], [], []]], [[2, 0, "r"]], [[2, "r"]])
    assert result(answer) == [2, 2, 2, 2]
    assert component(bus)["waiting"] == 0


# Stopping -----------------------------------------------------------------------------------


def test_stopping_commits_what_was_taken_and_takes_no_more(bus: Bus) -> None:
    peer = bus.attach("One", "A")
    bus.publish("p", item(1))
    bus.writer.held = True
    answers = [bus.broker.publish("p", [item(2)]), bus.broker.publish("p", [item(3)])]
    settled = peer.settle([2])
    stopped = bus.broker.stop()
    with pytest.raises(Fatal):
        bus.broker.publish("p", [item(4)])
    with pytest.raises(Fatal):
        peer.settle([4])
    with pytest.raises(Fatal):
        bus.broker.attach("One", [("A", 0)], 5, lambda entries: None)
    assert pending(stopped)
    bus.writer.release()
    result(stopped)
    assert [result(one) for one in answers] == [[1], [1]]
    assert result(settled) == []
    assert numbers(peer) == [1], "nothing is sent any more"
    peer.leave()
    assert bus.clock.getDelayedCalls() == []
    assert not bus.writer.calls
    bus.crash()
    assert numbers(bus.attach("One", "A")) == [2, 3]


def test_an_idle_broker_stops_at_once(bus: Bus) -> None:
    bus.attach("One", "A")
    bus.publish("p", item(1, delay=50))
    result(bus.broker.stop())
    assert bus.clock.getDelayedCalls() == []
    bus.clock.advance(100)


# Going on for ever --------------------------------------------------------------------------


def test_the_tick_outlives_what_it_calls(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = bus.attach("One", "A")
    calls = []

    def broken(name: str) -> None:
        calls.append(name)
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(bus.broker, "pump", broken)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                bus.clock.advance(1)
    assert len(calls) >= 3
    bus.publish("p", item(1, delay=1))
    bus.advance(3)
    assert numbers(peer) == [1]


def test_counters_do_not_grow_with_what_comes_from_outside(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "KINDS", 10)
    for start in range(0, 100, 20):
        bus.publish(f"p{start}~1", *(item(n, f"type {n}") for n in range(start, start + 20)))
    status = bus.broker.status()
    assert len(status["published"]) == 11
    assert sum(row["count"] for row in status["published"]) == 100
    assert len(status["messages"]) == 50


def test_status_and_triggers(bus: Bus) -> None:
    peer = bus.attach("One", "A")
    bus.publish("p~1", item(1), item(2, delay=100))
    peer.finish(2, [output("Z")], [["T", "1", "x"]])
    status = result(bus.broker.full_status())
    assert status["triggers"] == [{"name": "T", "pending": 1, "fired": 0}]
    assert status["published"] == [
        {"source": "One", "type": "Z", "count": 1}, {"source": "p", "type": "A", "count": 2}
    ]  # fmt: skip
    assert status["received"] == [{"component": "One", "type": "A", "delivered": 1, "settled": 1}]
    assert [(row["id"], row["destinations"]) for row in status["messages"]] == [
        ("p~1/1", ["One"]), ("p~1/2", ["One"]), (bus.ledger.books.origin("One") + "/65536", [])
    ]  # fmt: skip
