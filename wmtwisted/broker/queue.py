"""One component's queue: what waits, what is delayed, what is leased and to whom. Pure.

Memory holds a window of it. A lane whose newer part is only in the store is *cold*: `wants` asks
for the next piece, `loaded` takes it. All times are seconds since the epoch, given by the caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from itertools import islice, takewhile

from attrs import define, field

from wmtwisted.store.messages import Loaded, Stored

#: A delivery that comes back because its process is gone counts this much less than a failure.
LOST = 10

#: After so many deliveries from the priority lane in a row, the normal lane gets one.
PRIORITY_SHARE = 8


@define(eq=False)
class Entry:
    """One delivery: a message and its place in a component's queue."""

    #: `seq * 2 + lane`: within a lane, the order of delivery.
    key: int
    #: None while only the store has the body.
    message: Stored | None
    due: float | None = None
    #: How often it was given to a consumer and came back.
    attempt: int = 0
    #: Why it is delivered, see `message.Delivery.reason`.
    reason: str = "new"
    replay: int = 0
    #: While it is leased: to whom, and until when.
    consumer: Consumer | None = None
    deadline: float = 0.0

    def __lt__(self, other: Entry) -> bool:
        return self.key < other.key


@define(eq=False)
class Consumer:
    """One process of the component, with as many deliveries as it has credit for."""

    name: str
    credit: int
    in_flight: int = 0

    @property
    def room(self) -> int:
        """How many more deliveries it takes."""
        return self.credit - self.in_flight


@define(eq=False)
class _Lane:
    """One priority class. `back` has what returned, and comes before `fresh`."""

    number: int
    fresh: deque[Entry] = field(factory=deque)
    back: list[Entry] = field(factory=list)
    #: The highest sequence number that is committed, and that was taken into memory.
    high: int = 0
    loaded: int = 0
    loading: bool = False
    #: Up to this one they were there when the broker started.
    recovered: int = 0

    def __len__(self) -> int:
        return len(self.fresh) + len(self.back)

    @property
    def cold(self) -> bool:
        return self.loaded < self.high

    def pop(self) -> Entry:
        if self.back and (not self.fresh or self.back[0].key < self.fresh[0].key):
            return heappop(self.back)
        return self.fresh.popleft()


@define(frozen=True)
class Want:
    """A piece of a lane to be read from the store: what is behind `after`, or these `seqs`."""

    lane: int
    after: int
    limit: int
    #: The highest committed sequence number when it was asked for.
    high: int
    seqs: tuple[int, ...] = ()


class Queue:
    """The unsettled deliveries of one component."""

    def __init__(self, *, window: int = 10_000, lease: float = 300.0, attempts: int = 10) -> None:
        #: How many deliveries each lane, and what is delayed, may hold in memory.
        self.window = window
        #: Seconds after which a delivery that was neither settled nor extended is given again.
        self.lease = lease
        #: A delivery that came back this often becomes a dead letter.
        self.attempts = attempts
        self.lanes = (_Lane(0), _Lane(1))
        self.consumers: list[Consumer] = []
        #: In the order of their deadlines, since every lease is as long and an extended one moves
        #: to the end.
        self.leased: dict[int, Entry] = {}
        #: Unsettled deliveries, leased ones among them.
        self.depth = 0
        self._delayed: list[tuple[float, int, Entry]] = []
        self._hollow: dict[int, Entry] = {}
        self._in_a_row = 0

    @property
    def delayed(self) -> int:
        """How many deliveries in memory wait for their due time."""
        return len(self._delayed)

    def recover(self, lane: int, count: int, high: int) -> None:
        """At start: the store has `count` deliveries of a lane, up to `high`, none in memory."""
        self.depth += count
        self.lanes[lane].high = self.lanes[lane].recovered = high
        self.lanes[lane].loaded = 0 if count else high

    def accept(self, entries: Iterable[Entry], now: float) -> None:
        """Takes newly committed deliveries, in the order of their keys within each lane."""
        for entry in entries:
            lane = self.lanes[entry.key & 1]
            seq = entry.key >> 1
            if not lane.cold and len(lane) < self.window:
                lane.loaded = seq
                self._place(lane, entry, now)
            lane.high = seq
            self.depth += 1

    def wants(self) -> list[Want]:
        """What should be read from the store now. Each is to be answered by `loaded`."""
        wants = []
        for lane in self.lanes:
            if lane.loading or len(lane) > self.window // 2:
                continue
            limit = self.window - len(lane)
            hollow = [key >> 1 for key in self._hollow if key & 1 == lane.number]
            if hollow:
                lane.loading = True
                wants.append(Want(lane.number, 0, 0, 0, tuple(sorted(hollow)[:limit])))
            elif lane.cold:
                lane.loading = True
                wants.append(Want(lane.number, lane.loaded, limit, lane.high))
        return wants

    def loaded(self, want: Want, rows: Sequence[Loaded], now: float) -> list[Entry]:
        """Takes what was read for `want`; returns the deliveries whose stored bytes are damaged."""
        lane = self.lanes[want.lane]
        lane.loading = False
        damaged = []
        # The reader may see a commit before we are told of it: what is above `high` comes later.
        known = [row for row in rows if want.seqs or row.seq <= lane.high]
        for row in known:
            key = row.seq * 2 + want.lane
            if want.seqs:
                entry = self._hollow.pop(key, None)
                if entry is None:
                    continue
                entry.message = row.message
            else:
                # What came later was never given to anyone: there was no room for it in memory.
                reason = "recovered" if row.seq <= lane.recovered else "new"
                reason = "replay" if row.replay else reason
                entry = Entry(key, row.message, row.due, row.attempt, reason, row.replay)
            if row.message is None:
                self.depth -= 1
                damaged.append(entry)
            else:
                self._place(lane, entry, now)
        for seq in want.seqs:  # gone from the store
            if self._hollow.pop(seq * 2 + want.lane, None) is not None:
                self.depth -= 1
        if not want.seqs:
            lane.loaded = max(lane.loaded, known[-1].seq if known else 0)
            if len(rows) < want.limit:
                lane.loaded = max(lane.loaded, want.high)
        return damaged

    def _place(self, lane: _Lane, entry: Entry, now: float) -> None:
        if entry.due is not None and entry.due > now:
            if len(self._delayed) >= self.window:
                entry.message = None
            heappush(self._delayed, (entry.due, entry.key, entry))
        elif entry.message is None:
            self._hollow[entry.key] = entry
        elif lane.fresh and entry.key < lane.fresh[-1].key:
            heappush(lane.back, entry)
        else:
            lane.fresh.append(entry)

    def _next(self) -> Entry | None:
        normal, priority = self.lanes
        if priority and (not normal or self._in_a_row < PRIORITY_SHARE):
            self._in_a_row += 1
            return priority.pop()
        self._in_a_row = 0
        return normal.pop() if normal else None

    def take(self, now: float) -> list[tuple[Consumer, list[Entry]]]:
        """Leases what is due to the consumers that have credit."""
        while self._delayed and self._delayed[0][0] <= now:
            entry = heappop(self._delayed)[2]
            self._place(self.lanes[entry.key & 1], entry, now)
        given = []
        for consumer, share in self._shares():
            entries: list[Entry] = []
            while len(entries) < share and (entry_ := self._next()) is not None:
                entries.append(entry_)
            if entries:
                self._lease(consumer, entries, now)
                given.append((consumer, entries))
        return given

    def _shares(self) -> list[tuple[Consumer, int]]:
        """How much each consumer gets: all that there is room for, as evenly as can be.

        Those with more room come first, so that a busy process does not get what an idle one could
        do.
        """
        if len(self.consumers) == 1:
            return [(self.consumers[0], self.consumers[0].room)]
        ready = len(self.lanes[0]) + len(self.lanes[1])
        shares = []
        by_room = sorted(self.consumers, key=lambda one: one.room)
        for number, consumer in enumerate(by_room):
            share = min(consumer.room, ready // (len(by_room) - number))
            ready -= share
            shares.append((consumer, share))
        return shares[::-1]

    def _lease(self, consumer: Consumer, entries: list[Entry], now: float) -> None:
        deadline = now + self.lease
        leased = self.leased
        for entry in entries:
            entry.consumer, entry.deadline = consumer, deadline
            leased[entry.key] = entry
        consumer.in_flight += len(entries)

    def settle(self, consumer: Consumer, key: int) -> Entry | None:
        """Ends the lease of `key`, or returns None when `consumer` does not hold it (any more)."""
        entry = self.leased.get(key)
        if entry is None or entry.consumer is not consumer:
            return None
        del self.leased[key]
        entry.consumer = None
        consumer.in_flight -= 1
        return entry

    def settled(self, count: int) -> None:
        """So many deliveries have left the queue for good."""
        self.depth -= count

    def extend(self, consumer: Consumer, keys: Iterable[int], now: float) -> None:
        """Starts anew the leases that `consumer` holds of `keys`."""
        for key in keys:
            entry = self.leased.get(key)
            if entry is not None and entry.consumer is consumer:
                entry.deadline = now + self.lease
                del self.leased[key]
                self.leased[key] = entry

    def release(self, entry: Entry, now: float) -> None:
        """A delivery that its consumer gave back untouched returns to its place."""
        entry.consumer, entry.reason = None, "released"
        self._place(self.lanes[entry.key & 1], entry, now)

    def put_back(self, entry: Entry, reason: str, due: float | None, now: float) -> bool:
        """A delivery that came back returns to its place; False when its attempts are used up."""
        entry.attempt += 1
        entry.consumer = None
        # A process that is gone had more than the message that ended it, if one did.
        patience = 1 if reason == "retry" else LOST
        if entry.attempt >= self.attempts * patience:
            return False
        entry.reason, entry.due = reason, due
        self._place(self.lanes[entry.key & 1], entry, now)
        return True

    def lost(self, consumer: Consumer) -> list[Entry]:
        """Forgets a consumer; returns what it held, to be given to `put_back`."""
        self.consumers.remove(consumer)
        held = [entry for entry in self.leased.values() if entry.consumer is consumer]
        for entry in held:
            del self.leased[entry.key]
        return held

    def expired(self, now: float) -> list[Entry]:
        """What was leased for too long, to be given to `put_back`."""
        late = list(takewhile(lambda entry: entry.deadline <= now, self.leased.values()))
        for entry in late:
            del self.leased[entry.key]
            if entry.consumer is not None:
                entry.consumer.in_flight -= 1
        return late

    def wake_at(self) -> float | None:
        """When `take` or `expired` will next have something to do without new input."""
        times = [self._delayed[0][0]] if self._delayed else []
        times += [entry.deadline for entry in islice(self.leased.values(), 1)]
        return min(times, default=None)

    def oldest(self) -> float | None:
        """When the oldest delivery in memory was published."""
        firsts = [lane.fresh[0] for lane in self.lanes if lane.fresh]
        firsts += [lane.back[0] for lane in self.lanes if lane.back]
        firsts += islice(self.leased.values(), 1)
        return min((one.message.published for one in firsts if one.message), default=None)
