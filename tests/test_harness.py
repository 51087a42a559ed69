"""Components in their harness, over connections in memory, against a real broker and its store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from twisted.internet.defer import Deferred

from tests.memory_bus import Bus
from wmtwisted.component.component import Component, Reject, Retry, handles
from wmtwisted.message import Delivery, Flag, Message, Trigger

#: What a test's component does with a message.
Does = Callable[[Delivery], Any]


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    return Bus(tmp_path, backoff=(1.0, 5.0), attempts=4)


def component(
    does: Does, *, coroutine: bool = False, type: str = "Work", **declared: Any
) -> type[Component]:
    """A component class with one handler, which does that."""
    declared.setdefault("publishes", "Done|()")
    if coroutine:

        class Async(Component):
            @handles(type, **declared)
            async def handle(self, message: Delivery) -> Any:
                return await does(message)

        return Async

    class Worker(Component):
        @handles(type, **declared)
        def handle(self, message: Delivery) -> Any:
            return does(message)

    return Worker


class Gate:
    """A coroutine handler's body: each message waits until the test lets it go."""

    def __init__(self) -> None:
        self.waits: list[tuple[Delivery, Deferred[Any]]] = []

    async def __call__(self, message: Delivery) -> Any:
        waiting: Deferred[Any] = Deferred()
        self.waits.append((message, waiting))
        return await waiting

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message, _ in self.waits]

    def open(self, index: int, result: Any = None) -> None:
        self.waits[index][1].callback(result)


def work(count: int) -> list[Message]:
    return [Message("Work", str(number)) for number in range(count)]


def raising(error: Exception) -> Does:
    def does(message: Delivery) -> Any:
        raise error

    return does


# What handlers do ----------------------------------------------------------------------------


def test_a_handler_on_a_thread(bus: Bus) -> None:
    seen: list[Delivery] = []
    harness = bus.harness(component(seen.append))
    bus.run()
    bus.publish(*work(3))
    assert [one.payload for one in seen] == [b"0", b"1", b"2"]
    assert bus.component()["handled"] == 3
    assert bus.component()["leased"] == bus.component()["waiting"] == 0
    assert harness.client.connected


def test_threads_are_used_for_plain_handlers_and_not_for_coroutines(bus: Bus) -> None:
    gate = Gate()

    class Both(Component):
        @handles("Work")
        def plain(self, message: Delivery) -> None: ...

        @handles("Other")
        async def coroutine(self, message: Delivery) -> Any:
            return await gate(message)

    bus.harness(Both)
    bus.run()
    bus.pool.held = True
    bus.publish(Message("Work"), Message("Other"))
    assert len(bus.pool.calls) == 1
    assert len(gate.waits) == 1


def test_a_handler_that_is_a_generator_runs_on_a_thread_too(bus: Bus) -> None:
    def does(message: Delivery) -> Iterator[Message]:
        assert inside, "it runs on the reactor"
        yield Message("Done")
        yield Message("Done")

    inside: list[bool] = []
    original = bus.pool.work

    def work_() -> bool:
        inside.append(True)
        # The result is used by callbacks within: they have to find everything done.
        if bus.pool.calls:
            done, function, args = bus.pool.calls[0]

            def run(*args: Any) -> Any:
                try:
                    return function(*args)
                finally:
                    inside.clear()

            bus.pool.calls[0] = (done, run, args)
        try:
            return original()
        finally:
            inside.clear()

    bus.pool.work = work_  # type: ignore[method-assign]
    bus.harness(component(does))
    bus.run()
    bus.publish(*work(1))
    assert len(bus.stored("Done")) == 2


@pytest.mark.parametrize("coroutine", [False, True])
def test_outputs_are_published_with_the_settle(bus: Bus, coroutine: bool) -> None:
    trigger = Trigger("Both", "7", ("a", "b"), Message("Opened"))
    found = [Message("Done", {"n": 1}), Message("Done"), trigger, Flag("Both", "7", "a")]

    async def later(message: Delivery) -> Any:
        return found

    does: Does = later if coroutine else lambda message: found
    bus.harness(component(does, coroutine=coroutine, creates="Both", sets="Both"))
    bus.run()
    [id] = bus.publish(*work(1))
    assert bus.stored("Done") == [("Done", b'{"n":1}'), ("Done", b"")]
    assert bus.sql("select name, id, state, action from ms_trigger") == [
        ("Both", "7", "pending", "Opened")
    ]
    assert bus.sql("select distinct chain from ms_message where type = 'Done'") == [(id,)]


def test_a_message_addressed_to_this_component(bus: Bus) -> None:
    seen: list[Delivery] = []
    bus.harness(component(seen.append))
    bus.run()
    bus.publish(Message("Worker:Work"), Message("Other:Work"))
    assert [one.type for one in seen] == ["Worker:Work"]
    assert bus.component()["handled"] == 1


def test_so_many_run_at_once(bus: Bus) -> None:
    gate = Gate()
    bus.harness(component(gate, coroutine=True, threads=2))
    bus.run()
    bus.publish(*work(5))
    assert gate.payloads == [b"0", b"1"]
    gate.open(1)
    bus.run()
    assert gate.payloads == [b"0", b"1", b"2"]


def test_a_slow_type_does_not_hold_up_another(bus: Bus) -> None:
    slow, fast = Gate(), Gate()

    class Both(Component):
        @handles("Slow", threads=1)
        async def slow(self, message: Delivery) -> Any:
            return await slow(message)

        @handles("Fast", threads=1)
        async def fast(self, message: Delivery) -> Any:
            return await fast(message)

    bus.harness(Both)
    bus.run()
    bus.publish(Message("Slow"), Message("Slow"), Message("Fast"))
    assert (len(slow.waits), len(fast.waits)) == (1, 1)


def test_coroutines_that_never_wait_do_not_pile_up(bus: Bus) -> None:
    seen: list[bytes] = []

    async def does(message: Delivery) -> None:
        seen.append(message.payload)

    bus.harness(component(does, coroutine=True), prefetch=5000)
    bus.run()
    bus.publish(*work(5000))
    assert [int(payload) for payload in seen] == list(range(5000))
    assert bus.component()["handled"] == 5000


def test_settles_of_one_turn_go_together(bus: Bus) -> None:
    harness = bus.harness(component(lambda message: None), threads=50)
    sizes: list[int] = []
    original = harness.client.settled
    assert original is not None

    def settled(outcomes: Any, stale: set[int]) -> None:
        sizes.append(len(outcomes))
        original(outcomes, stale)

    harness.client.settled = settled
    bus.run()
    bus.pool.held = True
    bus.publish(*work(40))
    bus.pool.held = False
    while bus.pool.work():
        pass
    bus.run()
    assert sizes == [40]


# How handlers fail ---------------------------------------------------------------------------


def test_an_exception_is_a_retry_with_back_off(bus: Bus) -> None:
    seen: list[tuple[float, int, str]] = []

    def does(message: Delivery) -> None:
        seen.append((bus.clock.seconds(), message.attempt, message.reason))
        raise ValueError("no luck")

    bus.harness(component(does))
    bus.run()
    start = bus.clock.seconds()
    bus.publish(*work(1))
    bus.advance(30)
    assert [(round(when - start), *rest) for when, *rest in seen] == [
        (0, 1, "new"),
        (1, 2, "retry"),
        (6, 3, "retry"),
        (11, 4, "retry"),
    ]
    assert bus.dead() == ["gave up after 4 deliveries: ValueError: no luck"]


def test_a_retry_names_its_own_delay(bus: Bus) -> None:
    seen: list[float] = []

    def does(message: Delivery) -> None:
        seen.append(bus.clock.seconds())
        if len(seen) == 1:
            raise Retry(3, "not yet")

    bus.harness(component(does))
    bus.run()
    bus.publish(*work(1))
    bus.advance(10)
    assert len(seen) == 2
    assert seen[1] - seen[0] == pytest.approx(3, abs=0.6)
    assert bus.dead() == []


@pytest.mark.parametrize("delay", ["the disk is full", float("nan"), float("inf"), -1, [], True])
def test_a_retry_with_a_delay_that_is_none(bus: Bus, delay: Any) -> None:
    """The mistake is the handler's: it is tried again by the back-off, and nothing else suffers."""

    def does(message: Delivery) -> None:
        if message.payload == b"1":
            raise Retry(delay)

    bus.harness(component(does))
    bus.run()
    bus.publish(*work(3))
    assert bus.component()["handled"] == 2
    bus.advance(60)
    [reason] = bus.dead()
    assert "Retry" in reason
    assert "seconds" in reason
    assert bus.component()["leased"] == bus.component()["waiting"] == 0


def test_a_rejected_message_is_a_dead_letter_at_once(bus: Bus) -> None:
    bus.harness(component(raising(Reject("not a job"))))
    bus.run()
    bus.publish(*work(1))
    assert bus.dead() == ["not a job"]
    assert bus.component()["waiting"] == 0


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (Message("Wrong"), "handle: "),
        ([], "handle: "),
        ([Message("Good"), Message("Wrong")], "handle: "),
        ([Message("Good"), Flag("F", "1", "a")], "handle sets a flag of trigger F unannounced"),
        (
            [Message("Good"), Trigger("T", "1", ("a",), Message("X"))],
            "handle declares trigger T unannounced",
        ),
        ("Good", "a handler returned 'Good', expected messages"),
        (b"Good", "a handler returned b'Good', expected messages"),
        ({"type": "Good"}, "a handler returned {'type': 'Good'}, expected messages"),
        (5, "a handler returned 5, expected messages"),
        ([Message("Good"), None], "a handler returned None, expected a message"),
        (Message("Good", correlation="\udc80"), "cannot be sent"),
        (Message("Good", delay="soon"), "delay 'soon'"),  # type: ignore[arg-type]
        (Message("Good", delay=-1), "delay -1"),
        (Message("Good", correlation="x" * 191), "the correlation of 'Good'"),
    ],
    ids=lambda value: None if isinstance(value, str) else repr(value)[:30],
)
def test_wrong_outputs_are_dead_letters_with_the_reason(
    bus: Bus, returned: Any, reason: str
) -> None:
    bus.harness(component(lambda message: returned, publishes="Good"))
    bus.run()
    bus.publish(*work(1))
    [found] = bus.dead()
    assert found.startswith(reason) or reason in found
    assert "\n" not in found
    assert bus.stored("Good") == []


@pytest.mark.parametrize(
    "flag", [Flag("F", Path("7"), "a"), Flag("F", 7, "a"), Flag("F", "\udcff", "a")],  # type: ignore[arg-type]
    ids=["path", "number", "surrogate"],
)  # fmt: skip
def test_an_output_that_cannot_be_sent_harms_no_other_message(bus: Bus, flag: Flag) -> None:
    def does(message: Delivery) -> Any:
        return flag if message.payload == b"1" else None

    bus.harness(component(does, sets="F"))
    bus.run()
    bus.publish(*work(3))
    [reason] = bus.dead()
    assert reason.startswith(("handle: what it returned cannot be sent: ", "trigger 'F': 7 is not"))
    assert bus.component()["handled"] == 3
    assert bus.component()["leased"] == 0


@pytest.mark.parametrize("coroutine", [False, True])
def test_a_handler_that_cannot_be_called_harms_no_other_type(bus: Bus, coroutine: bool) -> None:
    seen: list[bytes] = []

    class Mixed(Component):
        if coroutine:

            @handles("Work")
            async def work(self) -> None: ...
        else:

            @handles("Work")
            def work(self) -> None: ...  # type: ignore[misc]  # one of the two

        @handles("Other")
        def other(self, message: Delivery) -> None:
            seen.append(message.payload)

    bus.harness(Mixed)
    bus.run()
    bus.publish(*work(2), Message("Other", "fine"))
    bus.advance(60)
    assert seen == [b"fine"]
    assert len(bus.dead()) == 2
    assert "takes 1 positional argument but 2 were given" in bus.dead()[0]


class Unprintable(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("not even that")


@pytest.mark.parametrize(
    "error",
    [Unprintable(), Reject("\udcff"), Retry(1, "\udcff"), ValueError("\udcff"), SystemExit(3)],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("coroutine", [False, True])
def test_an_error_that_cannot_be_told_harms_nothing(
    bus: Bus, error: Exception, coroutine: bool
) -> None:
    def does(message: Delivery) -> Any:
        if message.payload == b"1":
            raise error

    async def later(message: Delivery) -> Any:
        does(message)

    bus.harness(component(later if coroutine else does, coroutine=coroutine), threads=1)
    bus.run()
    bus.publish(*work(3))
    bus.advance(60)
    assert len(bus.dead()) == 1
    assert bus.component()["leased"] == bus.component()["waiting"] == 0


def test_a_very_long_reason_is_cut(bus: Bus) -> None:
    bus.harness(component(raising(Reject("x" * 1_000_000))))
    bus.run()
    bus.publish(*work(1))
    [reason] = bus.dead()
    assert 100 < len(reason) <= 2000


def test_a_type_that_nobody_handles_any_more(bus: Bus) -> None:
    """A component that lost a handler has messages left for it; the others go on."""
    old = bus.raw("Worker")
    old.attach("Work", "Old")
    bus.cut()
    bus.publish(Message("Old"), *work(2))
    seen: list[Delivery] = []
    bus.harness(component(seen.append))
    bus.advance(5)
    assert [one.type for one in seen] == ["Work", "Work"]
    assert bus.dead() == ["Worker does not handle 'Old'"]
    assert bus.component()["leased"] == bus.component()["waiting"] == 0


# Deliveries that come again -------------------------------------------------------------------


def test_what_runs_is_not_run_twice_when_it_comes_again(bus: Bus) -> None:
    gate = Gate()
    bus.harness(component(gate, coroutine=True), threads=1)
    bus.run()
    bus.publish(*work(1))
    bus.cut()
    bus.advance(3)
    assert bus.component()["leased"] == 1
    gate.open(0, Message("Done"))
    bus.run()
    assert len(gate.waits) == 1
    assert bus.component()["handled"] == 1
    assert len(bus.stored("Done")) == 1


def test_what_runs_while_the_broker_restarts(bus: Bus) -> None:
    gate = Gate()
    bus.harness(component(gate, coroutine=True), threads=2)
    bus.run()
    bus.publish(*work(2))
    bus.kill()
    gate.open(0, Message("Done"))
    bus.start()
    bus.advance(3)
    gate.open(1, Message("Done"))
    bus.run()
    assert len(gate.waits) == 2
    assert bus.component()["handled"] == 2
    assert len(bus.stored("Done")) == 2


def test_an_outcome_is_kept_until_it_is_settled(bus: Bus) -> None:
    """The handler ends while there is no connection; the redelivery is settled, not handled."""
    gate = Gate()
    bus.harness(component(gate, coroutine=True), threads=1)
    bus.run()
    bus.publish(*work(1))
    bus.cut()
    gate.open(0, Message("Done"))
    bus.advance(3)
    assert len(gate.waits) == 1
    assert len(bus.stored("Done")) == 1
    assert bus.component()["handled"] == 1


def test_a_settle_whose_answer_was_lost(bus: Bus) -> None:
    gate = Gate()
    bus.harness(component(gate, coroutine=True), threads=1)
    bus.run()
    bus.publish(*work(2))
    gate.open(0, Message("Done"))
    bus.deaf()
    bus.advance(3)
    # The first was settled, and never comes again; the second did not begin before the cut.
    assert gate.payloads == [b"0", b"1"]
    assert len(bus.stored("Done")) == 1


def test_a_settle_that_the_broker_forgot(bus: Bus) -> None:
    """It was on its way when the broker was killed: the redelivery is settled with it."""
    seen: list[Delivery] = []

    def does(message: Delivery) -> Message:
        seen.append(message)
        return Message("Done")

    bus.harness(component(does))
    bus.run()
    bus.pool.held = True
    bus.publish(*work(2))
    bus.pool.held = False
    bus.writer.held = True
    bus.run()
    assert len(seen) == 2
    bus.kill()
    bus.writer.held = False
    bus.start()
    bus.advance(3)
    assert len(seen) == 2
    assert len(bus.stored("Done")) == 2


def test_a_retry_whose_answer_was_lost_is_one_retry(bus: Bus) -> None:
    """The broker has it: the next delivery is the next try, not the last one's echo."""
    seen: list[tuple[int, str]] = []

    def does(message: Delivery) -> None:
        seen.append((message.attempt, message.reason))
        if len(seen) == 1:
            raise Retry(2)

    bus.harness(component(does))
    bus.run()
    bus.pool.held = True
    bus.publish(*work(1))
    bus.pool.held = False
    bus.pool.work()
    bus.deaf()
    bus.advance(10)
    assert seen == [(1, "new"), (2, "retry")]
    assert bus.component()["retried"] == 1


def test_a_retry_that_the_broker_never_got_keeps_its_delay(bus: Bus) -> None:
    seen: list[float] = []

    def does(message: Delivery) -> None:
        seen.append(bus.clock.seconds())
        if len(seen) == 1:
            raise Retry(5)

    bus.harness(component(does))
    bus.run()
    bus.pool.held = True
    bus.publish(*work(1))
    bus.pool.held = False
    bus.pool.work()
    bus.cut()
    bus.advance(10)
    assert len(seen) == 2
    assert seen[1] - seen[0] >= 5


def test_what_waited_at_a_lost_connection_comes_again_in_order(bus: Bus) -> None:
    gate = Gate()
    bus.harness(component(gate, coroutine=True), threads=1)
    bus.run()
    bus.publish(*work(4))
    bus.cut()
    bus.advance(3)
    for index in range(4):
        gate.open(index)
        bus.run()
    assert gate.payloads == [b"0", b"1", b"2", b"3"]
    assert [message.attempt for message, _ in gate.waits] == [1, 2, 2, 2]


def test_a_lease_that_runs_out_while_a_message_waits_is_not_handled_twice(tmp_path: Path) -> None:
    """A stopped process finds the same delivery twice when it goes on."""
    bus = Bus(tmp_path, lease=5.0)
    gate = Gate()
    harness = bus.harness(component(gate, coroutine=True), threads=1, lease=1000.0)
    bus.run()
    bus.publish(*work(3))
    bus.advance(12)
    assert harness.client.connected
    for index in range(3):
        gate.open(index, Message("Done"))
        bus.run()
    bus.run()
    assert gate.payloads == [b"0", b"1", b"2"]
    assert len(bus.stored("Done")) == 3
    assert bus.component()["leased"] == bus.component()["waiting"] == 0


def test_leases_are_extended_while_messages_run_and_wait(tmp_path: Path) -> None:
    bus = Bus(tmp_path, lease=6.0)
    gate = Gate()
    bus.harness(component(gate, coroutine=True), threads=1, lease=6.0)
    bus.run()
    bus.publish(*work(3))
    bus.advance(60)
    assert bus.component()["retried"] == 0
    for index in range(3):
        gate.open(index)
        bus.run()
    assert [message.attempt for message, _ in gate.waits] == [1, 1, 1]


def test_another_store_has_other_messages_under_the_same_keys(bus: Bus, tmp_path: Path) -> None:
    gate = Gate()
    harness = bus.harness(component(gate, coroutine=True), threads=1)
    bus.run()
    bus.publish(Message("Work", "old"))
    (tmp_path / "new").mkdir()
    other = Bus(tmp_path / "new")
    raw = other.raw("Worker")
    raw.attach("Work")
    other.publish(Message("Work", "new"))
    [new] = raw.deliveries
    assert new.key == gate.waits[0][0].key
    bus.cut()
    harness._received([new])
    gate.open(0)
    bus.run()
    assert gate.payloads == [b"old", b"new"]


# Starting and stopping ------------------------------------------------------------------------


class Recorder(Component):
    """Says when it starts and stops."""

    said: ClassVar[list[str]] = []

    def start(self) -> None:
        self.said.append("start")

    def stop(self) -> None:
        self.said.append("stop")

    @handles("Work")
    async def handle(self, message: Delivery) -> None:
        self.said.append("begin")
        await self.sleep(2)
        self.said.append("end")


@pytest.fixture
def said() -> list[str]:
    Recorder.said.clear()
    return Recorder.said


def test_it_starts_before_it_connects(bus: Bus, said: list[str]) -> None:
    bus.pool.held = True
    harness = bus.harness(Recorder)
    bus.advance(2)
    assert bus.connects == 0
    bus.pool.held = False
    bus.run()
    assert said == ["start"]
    assert harness.client.connected


class Blocking(Recorder):
    """Does its work on a thread."""

    @handles("Work")
    def handle(self, message: Delivery) -> None:  # type: ignore[override]  # no coroutine here
        self.said.append(f"work {message.payload.decode()}")


def test_stop_waits_for_threads_and_settles_what_they_did(bus: Bus, said: list[str]) -> None:
    harness = bus.harness(Blocking, threads=2)
    bus.run()
    bus.pool.held = True
    bus.publish(*work(3))
    harness.stopService().addCallback(lambda _: said.append("stopped"))
    bus.run()
    assert said == ["start"]
    bus.pool.held = False
    bus.run()
    assert said[1:] == ["work 0", "work 1", "stop", "stopped"]
    assert bus.component()["handled"] == 2
    assert bus.component()["waiting"] == 1
    assert bus.pairs == []


def test_stop_cancels_coroutines_and_gives_back_what_is_not_settled(
    bus: Bus, said: list[str]
) -> None:
    harness = bus.harness(Recorder, threads=2)
    bus.run()
    bus.publish(*work(3))
    harness.stopService().addCallback(lambda _: said.append("stopped"))
    bus.run()
    assert said == ["start", "begin", "begin", "stop", "stopped"]
    assert bus.component()["handled"] == 0
    assert bus.component()["waiting"] == 3
    assert bus.pairs == []
    taker = bus.harness(Taker)
    bus.run()
    assert [(one.payload, one.attempt, one.reason) for one in Taker.taken] == [
        (b"0", 1, "released"), (b"1", 1, "released"), (b"2", 1, "released")
    ]  # fmt: skip
    taker.stopService()
    bus.run()


class Taker(Component):
    """Keeps what it is given."""

    taken: ClassVar[list[Delivery]] = []

    @handles("Work")
    def handle(self, message: Delivery) -> None:
        self.taken.append(message)


def test_restarts_do_not_use_up_attempts(bus: Bus, said: list[str]) -> None:
    for started in range(21):
        harness = bus.harness(Recorder)
        bus.run()
        if not started:
            bus.publish(*work(1))
        harness.stopService()
        bus.run()
    assert said.count("begin") >= 20
    assert bus.component()["waiting"] == 1
    assert bus.component()["dead"] == 0


def test_stop_gives_up_on_a_broker_that_does_not_answer(bus: Bus, said: list[str]) -> None:
    harness = bus.harness(Blocking, threads=2)
    bus.run()
    bus.publish(*work(1))
    bus.writer.held = True
    stopped = harness.stopService()
    bus.advance(20)
    assert stopped.called
    assert said == ["start", "work 0", "stop"]


def test_stop_without_a_broker(bus: Bus, said: list[str]) -> None:
    harness = bus.harness(Recorder)
    bus.run()
    bus.down = True
    bus.cut()
    stopped = harness.stopService()
    bus.run()
    assert stopped.called
    assert said == ["start", "stop"]


def test_stop_before_it_has_started(bus: Bus, said: list[str]) -> None:
    bus.pool.held = True
    harness = bus.harness(Recorder)
    bus.run()
    stopped = harness.stopService()
    bus.pool.held = False
    bus.run()
    assert stopped.called
    assert said == ["start", "stop"]
    assert bus.connects == 0


def test_a_component_that_cannot_start(bus: Bus) -> None:
    class Broken(Component):
        def start(self) -> None:
            raise OSError("no such disk")

    harness = bus.harness(Broken)
    bus.run()
    assert [str(one.value) for one in bus.failures] == ["no such disk"]
    assert bus.connects == 0
    assert harness.stopService().called


def test_the_credit_is_enough_for_all_threads(bus: Bus) -> None:
    gate = Gate()
    bus.harness(component(gate, coroutine=True, threads=20), prefetch=1)
    bus.run()
    bus.publish(*work(100))
    assert len(gate.waits) == 20
    assert bus.component()["leased"] == 40


def test_real_threads(bus: Bus) -> None:
    """Handlers run on other threads than the one that settles."""
    names: list[str] = []

    def run(function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(function(*args)), name="other")
        thread.start()
        thread.join()
        done.callback(results[0])
        return done

    bus.pool.run = run  # type: ignore[method-assign]
    kind = component(lambda message: names.append(threading.current_thread().name))
    bus.harness(kind)
    bus.run()
    bus.publish(*work(2))
    assert names == ["other", "other"]
