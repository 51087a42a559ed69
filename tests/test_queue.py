"""The queue of one component against a model that keeps everything and sorts when it is asked."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wmtwisted.broker.queue import LOST, PRIORITY_SHARE, Consumer, Entry, Queue, Want
from wmtwisted.store.messages import Loaded, Stored

WINDOW, LEASE, ATTEMPTS = 6, 50.0, 3


def stored(id: int) -> Stored:
    """A message whose payload tells which it is."""
    return Stored(id, "p~1", id, "A", str(id).encode(), 0, float(id), "")


def entry(seq: int, lane: int = 0, due: float | None = None) -> Entry:
    """A new delivery."""
    key = seq * 2 + lane
    return Entry(key, stored(key), due)


def keys(given: list[tuple[Consumer, list[Entry]]]) -> list[int]:
    """What was given to all consumers."""
    return [one.key for _, entries in given for one in entries]


@define
class Row:
    """A delivery in the store, and what the model knows of it."""

    seq: int
    lane: int
    due: float | None
    attempt: int = 0
    damaged: bool = False
    #: The queue was told of it.
    told: bool = False
    holder: int | None = None
    deadline: float = 0.0
    #: Times at which it was given.
    given: list[float] = field(factory=list)

    @property
    def key(self) -> int:
        return self.seq * 2 + self.lane

    def loaded(self) -> Loaded:
        message = None if self.damaged else stored(self.key)
        return Loaded(self.seq, self.due, self.attempt, 0, message)


class QueueMachine(RuleBasedStateMachine):
    """Commits, deliveries, settles and reads from the store in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue(window=WINDOW, lease=LEASE, attempts=ATTEMPTS)
        self.now = 1000.0
        #: What is committed and unsettled, by key.
        self.store: dict[int, Row] = {}
        self.next = [1, 1]
        self.untold: list[Row] = []
        self.wants: list[Want] = []
        self.consumers: list[Consumer] = []
        self.names = 0
        self.accepted = self.gone = 0
        #: The highest key given for the first time, by lane, of those that were never delayed.
        self.first = [0, 0]

    # The store ----------------------------------------------------------------------------

    @precondition(lambda self: self.next == [1, 1])
    @rule(counts=st.tuples(st.integers(0, 15), st.integers(0, 15)), gap=st.integers(1, 3))
    def recover(self, counts: tuple[int, int], gap: int) -> None:
        for lane, count in enumerate(counts):
            for _ in range(count):
                self._commit(lane, None, False).told = True
                self.next[lane] += gap - 1
            high = max((row.seq for row in self.store.values() if row.lane == lane), default=0)
            self.queue.recover(lane, count, high)
            self.accepted += count
        self.untold.clear()

    @rule(
        batch=st.lists(
            st.tuples(
                st.integers(0, 1), st.sampled_from([None, None, None, 5.0, 90.0]), st.booleans()
            ),
            max_size=9,
        )
    )
    def commit(self, batch: list[tuple[int, float | None, bool]]) -> None:
        for lane, delay, damaged in batch:
            self._commit(lane, None if delay is None else self.now + delay, damaged)

    def _commit(self, lane: int, due: float | None, damaged: bool) -> Row:
        row = Row(self.next[lane], lane, due, damaged=damaged)
        self.next[lane] += 1
        self.store[row.key] = row
        self.untold.append(row)
        return row

    @rule()
    def tell(self) -> None:
        """The commit's result comes to the reactor."""
        self.accepted += len(self.untold)
        new = []
        for row in self.untold:
            row.told = True
            new.append(Entry(row.key, stored(row.key), row.due))
        self.untold.clear()
        self.queue.accept(new, self.now)

    @rule()
    def ask(self) -> None:
        found = self.queue.wants()
        assert self.queue.wants() == [], "asked twice for the same"
        self.wants += found
        for want in found:
            assert 0 < (want.limit or len(want.seqs)) <= WINDOW

    @precondition(lambda self: self.wants)
    @rule(which=st.integers(0, 3))
    def answer(self, which: int) -> None:
        want = self.wants.pop(which % len(self.wants))
        rows = sorted(
            (row for row in self.store.values() if row.lane == want.lane), key=lambda row: row.seq
        )
        if want.seqs:
            rows = [row for row in rows if row.seq in want.seqs]
        else:
            # It may see what the queue was not told of.
            rows = [row for row in rows if row.seq > want.after][: want.limit]
        damaged = self.queue.loaded(want, [row.loaded() for row in rows], self.now)
        for one in damaged:
            row = self.store.pop(one.key)
            assert row.damaged
            assert row.told
            self.gone += 1

    # Consumers ----------------------------------------------------------------------------

    @precondition(lambda self: len(self.consumers) < 3)
    @rule(credit=st.integers(1, 8))
    def attach(self, credit: int) -> None:
        self.names += 1
        self.consumers.append(Consumer(str(self.names), credit))
        self.queue.consumers.append(self.consumers[-1])

    @precondition(lambda self: self.consumers)
    @rule(which=st.integers(0, 2))
    def lose(self, which: int) -> None:
        consumer = self.consumers.pop(which % len(self.consumers))
        for one in self.queue.lost(consumer):
            assert self.store[one.key].holder == id(consumer)
            self._back(one, "lost", None)

    @rule()
    def take(self) -> None:
        for consumer, entries in self.queue.take(self.now):
            assert consumer in self.consumers
            for one in entries:
                self._taken(one, consumer)
            assert consumer.room >= 0
        room = any(consumer.room for consumer in self.consumers)
        assert not room or not any(map(len, self.queue.lanes)), "there was room for more"

    def _taken(self, one: Entry, consumer: Consumer) -> None:
        row = self.store[one.key]
        assert row.told
        assert row.holder is None
        assert one.message == stored(one.key)
        assert row.due is None or row.due <= self.now
        assert one.attempt == row.attempt == len(row.given)
        reason = "recovered" if row.seq <= self.queue.lanes[row.lane].recovered else "new"
        assert row.attempt or one.reason == reason
        if not row.given and row.due is None:
            assert one.key > self.first[row.lane], "not in order"
            self.first[row.lane] = one.key
        row.given.append(self.now)
        row.holder, row.deadline = id(consumer), self.now + LEASE

    def _held(self, which: int) -> tuple[Consumer, Row] | None:
        held = [row for row in self.store.values() if row.holder is not None]
        if not held:
            return None
        row = held[which % len(held)]
        return next(one for one in self.consumers if id(one) == row.holder), row

    @rule(which=st.integers(0, 20), how=st.sampled_from(["done", "done", "retry", "later"]))
    def settle(self, which: int, how: str) -> None:
        if (found := self._held(which)) is None:
            return
        consumer, row = found
        for other in self.consumers:
            if other is not consumer:
                assert self.queue.settle(other, row.key) is None
        one = self.queue.settle(consumer, row.key)
        assert one is not None
        assert self.queue.settle(consumer, row.key) is None
        if how == "done":
            self._gone(one)
        else:
            self._back(one, "retry", self.now + 20 if how == "later" else None)

    @rule(which=st.lists(st.integers(0, 20), max_size=3))
    def extend(self, which: list[int]) -> None:
        for number in which:
            if (found := self._held(number)) is not None:
                self.queue.extend(found[0], [found[1].key, 10**9], self.now)
                found[1].deadline = self.now + LEASE
                for other in self.consumers:
                    if other is not found[0]:
                        self.queue.extend(other, [found[1].key], self.now + 1000)

    @rule(seconds=st.sampled_from([0.5, 4.0, 10.0, 30.0, 60.0]))
    def wait(self, seconds: float) -> None:
        """Time passes as it does for the broker, which wakes up when the queue says."""
        end = self.now + seconds
        for _ in range(100):
            at = self.queue.wake_at()
            self.now = end if at is None else max(self.now, min(at, end))
            late = self.queue.expired(self.now)
            assert {one.key for one in late} == {
                row.key
                for row in self.store.values()
                if row.holder is not None and row.deadline <= self.now
            }
            for one in late:
                self._back(one, "lease", None)
            self.take()
            if self.now == end:
                return
        raise AssertionError("the queue wakes for nothing")

    def _gone(self, one: Entry) -> None:
        self.queue.settled(1)
        self.gone += 1
        del self.store[one.key]

    def _back(self, one: Entry, reason: str, due: float | None) -> None:
        row = self.store[one.key]
        row.holder = None
        row.attempt += 1
        most = ATTEMPTS * (1 if reason == "retry" else LOST)
        if self.queue.put_back(one, reason, due, self.now):
            assert row.attempt < most
            row.due = due
            assert one.reason == reason
        else:
            assert row.attempt >= most
            self._gone(one)

    # What always holds --------------------------------------------------------------------

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.queue.depth == sum(row.told for row in self.store.values())
        assert self.queue.depth == self.accepted - self.gone
        held = {row.key for row in self.store.values() if row.holder is not None}
        assert set(self.queue.leased) == held
        for consumer in self.consumers:
            mine = sum(row.holder == id(consumer) for row in self.store.values())
            assert consumer.in_flight == mine <= consumer.credit

    @invariant()
    def memory_is_bounded(self) -> None:
        bodies = [one.message for lane in self.queue.lanes for one in (*lane.fresh, *lane.back)]
        held = sum(consumer.credit for consumer in self.consumers)
        # A lane's window, what was delayed and is due now, and what came back from consumers.
        assert len(bodies) <= 2 * WINDOW + WINDOW + 3 * 8 + held
        delayed = [one for _, _, one in self.queue._delayed if one.message is not None]
        assert len(delayed) <= WINDOW

    def teardown(self) -> None:
        """One process that settles everything gets everything."""
        self.tell()
        consumer = Consumer("last", 4)
        self.queue.consumers.append(consumer)
        self.consumers.append(consumer)
        for _ in range(400):
            self.ask()
            while self.wants:
                self.answer(0)
            self.take()
            while (found := self._held(0)) is not None:
                one = self.queue.settle(found[0], found[1].key)
                assert one is not None
                self._gone(one)
            if not self.store:
                break
            at = self.queue.wake_at()
            self.now = self.now if at is None else max(self.now, at)
        assert self.store == {}, "stuck"
        assert self.queue.depth == 0
        assert self.queue.delayed == 0
        assert self.queue._hollow == {}


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_the_priority_lane_goes_first_and_leaves_a_share() -> None:
    queue = Queue()
    queue.accept([entry(n, lane) for n in range(1, 41) for lane in (0, 1)], 0.0)
    queue.consumers.append(Consumer("c", 1))
    order = []
    while given := queue.take(0.0):
        ((consumer, (one,)),) = given
        order.append(one.key & 1)
        assert queue.settle(consumer, one.key) is one
    assert order[: 2 * (PRIORITY_SHARE + 1)] == ([1] * PRIORITY_SHARE + [0]) * 2
    assert (order.count(0), order.count(1)) == (40, 40)


@pytest.mark.parametrize(
    ("rooms", "ready", "shares"),
    [
        ([10], 4, [4]),
        ([10, 10], 5, [3, 2]),
        ([10, 0], 8, [8, 0]),
        ([100, 1], 50, [49, 1]),
        ([1, 100], 1, [1, 0]),
        ([64, 64, 64], 100, [34, 33, 33]),
        ([60, 50], 200, [60, 50]),
        ([5, 5], 0, []),
    ],
)
def test_processes_share_what_there_is(rooms: list[int], ready: int, shares: list[int]) -> None:
    """All that there is room for, as evenly as can be, and one message to the idler."""
    queue = Queue()
    queue.consumers += [Consumer(str(number), room) for number, room in enumerate(rooms)]
    queue.accept([entry(n) for n in range(1, ready + 1)], 0.0)
    given = [len(entries) for _, entries in queue.take(0.0)]
    assert sorted(given, reverse=True) == [share for share in shares if share]


def test_what_came_back_goes_before_what_is_newer() -> None:
    queue = Queue()
    queue.accept([entry(n) for n in range(1, 7)], 0.0)
    consumer = Consumer("c", 3)
    queue.consumers.append(consumer)
    assert keys(queue.take(0.0)) == [2, 4, 6]
    for key in (6, 2):
        one = queue.settle(consumer, key)
        assert one is not None
        assert queue.put_back(one, "retry", None, 0.0)
    assert keys(queue.take(0.0)) == [2, 6]
    assert [one.key for one in queue.lost(consumer)] == [4, 2, 6]


def test_a_queue_of_delayed_messages_reads_bodies_when_they_are_due() -> None:
    """However many become due at once, memory holds a window of bodies."""
    queue = Queue(window=10)
    queue.accept([entry(n, due=50.0) for n in range(1, 101)], 0.0)
    assert queue.delayed == 100
    consumer = Consumer("c", 5)
    queue.consumers.append(consumer)
    assert queue.take(49.9) == []
    assert queue.wake_at() == 50.0
    got: list[int] = []
    for _ in range(200):
        for _, entries in queue.take(50.0):
            got += [one.key for one in entries]
            for one in entries:
                assert one.message is not None
                queue.settle(consumer, one.key)
                queue.settled(1)
        for want in queue.wants():
            rows = [Loaded(seq, 50.0, 0, 0, stored(seq * 2)) for seq in want.seqs]
            assert queue.loaded(want, rows, 50.0) == []
        assert len(queue.lanes[0]) <= 2 * queue.window
    assert sorted(got) == [n * 2 for n in range(1, 101)]
    assert queue.depth == 0


def test_without_a_consumer_memory_holds_a_window_of_what_is_due() -> None:
    queue = Queue(window=10)
    queue.accept([entry(n, due=50.0) for n in range(1, 101)], 0.0)
    for _ in range(20):
        queue.take(60.0)
        for want in queue.wants():
            queue.loaded(want, [Loaded(n, 50.0, 0, 0, stored(n * 2)) for n in want.seqs], 60.0)
    assert len(queue.lanes[0]) <= 2 * queue.window


def test_a_component_that_retries_everything_holds_a_window_of_bodies() -> None:
    queue = Queue(window=10)
    consumer = Consumer("c", 10)
    queue.consumers.append(consumer)
    for seq in range(1, 101):
        queue.accept([entry(seq)], 0.0)
        ((_, (one,)),) = queue.take(0.0)
        assert queue.settle(consumer, one.key) is one
        assert queue.put_back(one, "retry", 500.0, 0.0)
    assert sum(one.message is not None for _, _, one in queue._delayed) <= 10
    assert queue.depth == 100


def test_what_never_fitted_into_memory_is_new() -> None:
    """Only what was there when the broker started may have been delivered before."""
    queue = Queue(window=4)
    queue.recover(0, 3, 3)
    queue.accept([entry(n) for n in range(4, 10)], 0.0)
    consumer = Consumer("c", 100)
    queue.consumers.append(consumer)
    reasons: dict[int, str] = {}
    for _ in range(10):
        for want in queue.wants():
            rows = [n for n in range(1, 10) if n > want.after][: want.limit]
            queue.loaded(want, [Loaded(n, None, 0, 0, stored(n * 2)) for n in rows], 0.0)
        reasons |= {one.key // 2: one.reason for _, got in queue.take(0.0) for one in got}
    assert reasons == {n: "recovered" if n <= 3 else "new" for n in range(1, 10)}


def test_rows_that_are_gone_from_the_store_are_not_waited_for() -> None:
    queue = Queue(window=2)
    queue.accept([entry(n, due=5.0) for n in range(1, 6)], 0.0)
    queue.take(5.0)
    (want,) = queue.wants() or [Want(0, 0, 0, 0)]
    assert queue.loaded(want, [], 5.0) == []
    assert queue.depth == 5 - len(want.seqs)


def test_the_oldest_message_in_memory() -> None:
    queue = Queue()
    assert queue.oldest() is None
    queue.accept([entry(3), entry(2, 1)], 0.0)
    assert queue.oldest() == 5.0
    consumer = Consumer("c", 9)
    queue.consumers.append(consumer)
    queue.take(0.0)
    assert queue.oldest() == 5.0


def test_settling_what_is_no_key_changes_nothing() -> None:
    queue = Queue()
    queue.accept([entry(1)], 0.0)
    consumer: Any = Consumer("c", 9)
    queue.consumers.append(consumer)
    queue.take(0.0)
    assert queue.settle(consumer, 3) is None
    assert queue.settle(Consumer("d", 9), 2) is None
    assert consumer.in_flight == 1


def test_a_lost_process_counts_less_than_a_failure() -> None:
    queue = Queue(window=5, lease=10.0, attempts=2)
    queue.accept([Entry(2, stored(1))], 0.0)
    for times in range(1, 2 * LOST + 1):
        consumer = Consumer("One", 1)
        queue.consumers.append(consumer)
        queue.take(0.0)
        (lost,) = queue.lost(consumer)
        assert queue.put_back(lost, "lost", None, 0.0) == (times < 2 * LOST)
    failed = Entry(4, stored(2), attempt=1)
    assert not queue.put_back(failed, "retry", None, 0.0)
