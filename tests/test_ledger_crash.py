"""Random lives of a broker on real databases, with crashes anywhere, against a model of the bus."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
from attrs import define, field
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred

from tests.bus import Bus, Given, Peer, fresh_url, item, output, result
from wmtwisted.broker.intake import OUTPUTS
from wmtwisted.broker.queue import LOST

#: Who is interested in what. Nobody is in Z.
INTERESTS: dict[str, tuple[str | tuple[str, int], ...]] = {
    "X": ("A", "B", ("P", 1)),
    "Y": ("B", "Out", "Act"),
}
RECEIVERS = {"A": "X", "B": "XY", "P": "X", "Z": "", "Out": "Y", "Act": "Y"}

ATTEMPTS = 3

#: (origin, number), the id of a message.
Id = tuple[str, int]


@define
class Copy:
    """What the model knows of one message for one component."""

    type: str
    payload: bytes
    #: May be given from then on.
    due: float
    delayed: bool
    attempts: int = 0
    fate: str = "waiting"


@define(eq=False)
class Undecided:
    """What was asked while the writer was held; a crash may lose it."""

    answer: Deferred[Any]
    origin: str = ""
    items: list[list[Any]] = field(factory=list)


class Life(RuleBasedStateMachine):
    """One store, its broker, two components and two publishers."""

    database: ClassVar[str] = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        base = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.folder = Path(tempfile.mkdtemp(dir=base))
        self.bus = Bus(
            fresh_url(self.database, self.folder),
            window=4,
            lease=100.0,
            attempts=ATTEMPTS,
            backoff=(0.0, 20.0),
        )
        self.copies: dict[tuple[str, Id], Copy] = {}
        self.messages: dict[Id, tuple[str, bytes]] = {}
        self.next = {"p~1": 0, "q~1": 0}
        self.undecided: list[Undecided] = []
        #: Flags set and actions published, by trigger id.
        self.flags: dict[str, set[str]] = {}
        self.declared: set[str] = set()
        self._attach()

    def _attach(self) -> None:
        #: By component: its processes, and what each holds by key.
        self.peers: dict[str, list[Peer]] = {name: [] for name in INTERESTS}
        self.held: dict[Peer, dict[int, Given]] = {}
        #: The highest key first given in this broker's life, by (component, lane).
        self.highest: dict[tuple[str, int], int] = {}
        #: Given before in this broker's life.
        self.seen: set[tuple[str, Id]] = set()
        for name in INTERESTS:
            self._join(name)

    def _join(self, name: str) -> None:
        peer = self.bus.attach(name, *INTERESTS[name], credit=3)
        self.peers[name].append(peer)
        self.held[peer] = {}
        self._receive()

    # What the broker must do --------------------------------------------------------------

    def _receive(self) -> None:
        """Checks everything that was delivered since the last step."""
        for component, peers in self.peers.items():
            new = [(given, peer) for peer in peers for given in peer.take()]
            for given, peer in sorted(new, key=lambda one: one[0].turn):
                self._received(component, peer, given)

    def _received(self, component: str, peer: Peer, given: Given) -> None:
        id = (given.origin, given.number)
        copy = self.copies[component, id]
        assert copy.fate == "waiting", "delivered after it was settled"
        assert (given.type, given.payload) == (copy.type, copy.payload)
        assert copy.due <= given.time, "delivered before its time"
        assert given.attempt == copy.attempts + 1, "attempts were lost"
        assert all(given.key not in self.held[one] for one in self.peers[component])
        if (component, id) not in self.seen:
            if not copy.delayed and copy.attempts == 0:
                lane = (component, given.key & 1)
                assert given.key > self.highest.get(lane, 0), "not in order"
                self.highest[lane] = given.key
        else:
            assert given.reason in ("lost", "retry", "lease")
        self.seen.add((component, id))
        self.held[peer][given.key] = given

    def _accepted(self, id: Id, type: str, payload: bytes, delay: float = 0.0) -> None:
        self.messages[id] = (type, payload)
        for component in RECEIVERS[type]:
            due = self.bus.clock.seconds() + delay
            self.copies[component, id] = Copy(type, payload, due, delay > 0)

    # What can happen ----------------------------------------------------------------------

    @rule(
        origin=st.sampled_from(["p~1", "q~1"]),
        kinds=st.lists(
            st.tuples(st.sampled_from("ABPZ"), st.integers(0, 1), st.sampled_from([0.0, 0.0, 7.0])),
            min_size=1,
            max_size=8,
        ),
    )
    def publish(self, origin: str, kinds: list[tuple[str, int, float]]) -> None:
        items = []
        for type, priority, delay in kinds:
            number = self.next[origin]
            self.next[origin] += 1
            items.append(
                item(number, type, f"{origin} {number}".encode(), priority=priority, delay=delay)
            )
        # Before it is sent: an answer may come after the delivery of another's commit.
        for one in items:
            self._accepted((origin, one[0]), one[1], one[2], one[4])
        answer = self.bus.broker.publish(origin, items)
        if self.bus.writer.held:
            self.undecided.append(Undecided(answer, origin, items))
        else:
            assert result(answer) == [len(RECEIVERS[one[1]]) for one in items]
        self._receive()

    @precondition(lambda self: self.messages and not self.bus.writer.held)
    @rule(which=st.lists(st.integers(0, 200), min_size=1, max_size=4), other=st.booleans())
    def again(self, which: list[int], other: bool) -> None:
        """What was stored is known, and stays as it is."""
        ids = list(self.messages)
        for number in which:
            origin, own = ids[number % len(ids)]
            type, payload = self.messages[origin, own]
            content = b"other" if other else payload
            (found,) = self.bus.publish(origin, item(own, type, content))
            assert (found[0] == "id-conflict") if other else (found == -1)
        self._receive()

    def _one(self, which: int) -> tuple[str, Peer, Given] | None:
        held = [
            (name, peer, given)
            for name, peers in self.peers.items()
            for peer in peers
            for given in self.held[peer].values()
        ]
        return held[which % len(held)] if held else None

    @precondition(lambda self: not self.bus.writer.held)
    @rule(
        which=st.integers(0, 20),
        how=st.sampled_from(["done", "done", "outputs", "flags", "retry", "later", "failed"]),
        count=st.integers(1, 3),
    )
    def settle(self, which: int, how: str, count: int) -> None:
        if (found := self._one(which)) is None:
            return
        component, peer, given = found
        id = (given.origin, given.number)
        copy = self.copies[component, id]
        now, key = self.bus.clock.seconds(), given.key
        del self.held[peer][key]
        copy.attempts += 1
        again = how in ("retry", "later") and copy.attempts < ATTEMPTS
        copy.fate = (
            "waiting" if again else "dead" if how in ("retry", "later", "failed") else "settled"
        )
        match how:
            case "done":
                answer = peer.settle([key])
            case "outputs":
                outputs = [output("Out", bytes([n])) for n in range(count)]
                origin = self.bus.ledger.books.origin(component)
                for index in range(count):
                    self._accepted((origin, given.message * OUTPUTS + index), "Out", bytes([index]))
                answer = peer.settle((), [[key, outputs, [], []]])
            case "flags":
                trigger, flag = str(count), f"{component}{which % 2}"
                declares = which % 3 == 0
                self._flag(trigger, flag, declares)
                names = ["X0", "Y1"]
                wanted = (
                    [["T", trigger, names, output("Act", trigger.encode())]] if declares else []
                )
                answer = peer.settle((), [[key, [], [["T", trigger, flag]], wanted]])
            case "failed":
                answer = peer.settle(failed=[[key, "no"]])
            case _:
                delay = 20.0 if how == "later" else 0.0
                if delay and again:
                    copy.due, copy.delayed = now + delay, True
                answer = peer.settle(retry=[[key, delay, "again"]])
        assert result(answer) == []
        self._actions()
        self._receive()

    def _flag(self, trigger: str, flag: str, declares: bool) -> None:
        self.flags.setdefault(trigger, set()).add(flag)
        if declares:
            self.declared.add(trigger)

    def _actions(self) -> None:
        """Learns the numbers of the actions that must have been published by now."""
        expected = Counter(id for id in self.declared if {"X0", "Y1"} <= self.flags.get(id, set()))
        stored = [
            (origin, number, payload)
            for type, number, payload, origin in self._rows()
            if type == "Act"
        ]
        assert Counter(payload.decode() for _, _, payload in stored) == expected
        for origin, number, payload in stored:
            if (origin, number) not in self.messages:
                self._accepted((origin, number), "Act", payload)

    def _rows(self) -> list[tuple[Any, ...]]:
        names = dict(self.bus.rows("origin", "id", "name"))
        rows = self.bus.rows("message", "type", "number", "payload", "origin")
        return [(*row[:3], names[row[3]]) for row in rows]

    @rule(seconds=st.sampled_from([0.5, 1.5, 3.0, 10.0]))
    def wait(self, seconds: float) -> None:
        if not self.bus.writer.held:
            self.bus.advance(seconds)
            self._receive()

    @precondition(lambda self: not self.bus.writer.held)
    @rule()
    def flush(self) -> None:
        self.bus.ledger.flush(self.bus.clock.seconds())

    @precondition(lambda self: not self.bus.writer.held)
    @rule()
    def leases_end(self) -> None:
        held = [(name, peer) for name, peers in self.peers.items() for peer in peers]
        for name, peer in held:
            for given in self.held[peer].values():
                self._came_back(name, given)
            self.held[peer].clear()
        # Not in steps: what is given again on the way has a lease of its own.
        self.bus.clock.advance(100.0)
        self._receive()

    @precondition(lambda self: not self.bus.writer.held)
    @rule(name=st.sampled_from("XY"), which=st.integers(0, 3))
    def leave(self, name: str, which: int) -> None:
        if not self.peers[name]:
            return
        peer = self.peers[name].pop(which % len(self.peers[name]))
        for given in self.held.pop(peer).values():
            self._came_back(name, given)
        peer.leave()
        self._receive()

    @precondition(lambda self: not self.bus.writer.held)
    @rule(name=st.sampled_from("XY"))
    def join(self, name: str) -> None:
        if len(self.peers[name]) < 3:
            self._join(name)

    def _came_back(self, component: str, given: Given) -> None:
        copy = self.copies[component, (given.origin, given.number)]
        copy.attempts += 1
        copy.due = min(copy.due, self.bus.clock.seconds())
        if copy.attempts >= ATTEMPTS * LOST:
            copy.fate = "dead"

    @rule()
    def hold(self) -> None:
        """From now on nothing is committed until it is let go, or lost."""
        self.bus.writer.held = True

    @precondition(lambda self: self.bus.writer.held)
    @rule()
    def let_go(self) -> None:
        self.bus.writer.release()
        for one in self.undecided:
            assert result(one.answer) == [len(RECEIVERS[item[1]]) for item in one.items]
        self.undecided.clear()
        self._receive()

    @rule(committed=st.integers(0, 2))
    def crash(self, committed: int) -> None:
        """Of what was under way, some is committed; none of it was answered."""
        for _ in range(committed):
            if self.bus.writer.calls:
                self.bus.writer.work()
        self.bus.crash()
        stored = {(origin, number) for _, number, _, origin in self._rows()}
        for one in self.undecided:
            assert not one.answer.called
            ids = [(one.origin, item[0]) for item in one.items]
            assert len({id in stored for id in ids}) == 1, "half of a batch is stored"
            for id in ids:
                if id not in stored:
                    del self.messages[id]
                    for component in INTERESTS:
                        self.copies.pop((component, id), None)
        lost = [one for one in self.undecided if (one.origin, one.items[0][0]) not in stored]
        unanswered, self.undecided = self.undecided, []
        self._attach()
        for one in unanswered:  # its publisher sends it again
            for item_ in one.items if one in lost else ():
                self._accepted((one.origin, item_[0]), item_[1], item_[2], item_[4])
            again = self.bus.publish(one.origin, *one.items)
            fresh = [len(RECEIVERS[item_[1]]) for item_ in one.items]
            assert again == (fresh if one in lost else [-1] * len(one.items))
        self._receive()

    # What always holds --------------------------------------------------------------------

    @invariant()
    def the_broker_lives(self) -> None:
        assert not self.bus.failures, self.bus.failures[0].getTraceback()

    def _conserved(self) -> None:
        ids = {}
        names = dict(self.bus.rows("origin", "id", "name"))
        for id, origin, number in self.bus.rows("message", "id", "origin", "number"):
            ids[id] = (names[origin], number)
        assert set(ids.values()) == set(self.messages)
        found = {
            (component, ids[message]): fate
            for component, places in self.bus.fates().items()
            for message, fate in places.values()
        }
        assert found == {key: copy.fate for key, copy in self.copies.items()}
        for component in INTERESTS:
            waiting = sum(
                copy.fate == "waiting"
                for (name, _), copy in self.copies.items()
                if name == component
            )
            assert self.bus.broker.queues[component].depth == waiting

    def teardown(self) -> None:
        try:
            if not self.bus.failures:
                if self.bus.writer.held:
                    self.let_go()
                self._conserved()
                self.crash(0)
                self._conserved()
                self._drain()
        finally:
            self.bus.close()
            shutil.rmtree(self.folder)

    def _drain(self) -> None:
        for _ in range(300):
            while (found := self._one(0)) is not None:
                component, peer, given = found
                del self.held[peer][given.key]
                self.copies[component, (given.origin, given.number)].fate = "settled"
                assert result(peer.settle([given.key])) == []
                self._receive()
            if not any(copy.fate == "waiting" for copy in self.copies.values()):
                break
            self.bus.advance(2)
            self._receive()
        self.bus.settle_down()
        self._conserved()
        assert {copy.fate for copy in self.copies.values()} <= {"settled", "dead"}
        assert self.bus.rows("buffer_in") == self.bus.rows("buffer_out") == []


class MariaLife(Life):
    """The same on MariaDB."""

    database = "mariadb"


@pytest.mark.parametrize(("life", "examples"), [(Life, 12), (MariaLife, 4)])
def test_nothing_is_lost_and_nothing_comes_twice(life: type[Life], examples: int) -> None:
    run_state_machine_as_test(
        life,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            # A failing life is short enough to read, and shrinking one takes minutes.
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
