"""The client over connections in memory, against a real broker and its store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import provider

from tests.memory_bus import Bus, Raw, item
from wmtwisted import wire
from wmtwisted.client import client as module
from wmtwisted.client.client import Client, Interests
from wmtwisted.client.session import Session
from wmtwisted.errors import Refused, Unknown, WMError
from wmtwisted.message import Delivery, Message, Receipt


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    return Bus(tmp_path)


def error(done: Deferred[Any]) -> WMError:
    """How a publish failed."""
    caught: list[WMError] = []

    def failed(failure: Failure) -> None:
        assert isinstance(failure.value, WMError), failure
        caught.append(failure.value)

    done.addErrback(failed)
    assert caught, "it has not failed"
    return caught[0]


def receipts(done: Deferred[list[Receipt]]) -> list[Receipt]:
    result = done.result
    assert isinstance(result, list), result
    return result


def sent(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Will have the sizes of the Publish batches that `client` sends."""
    sizes: list[int] = []
    original = Session.call

    def call(self: Any, command: Any, **arguments: Any) -> Any:
        if command is wire.Publish:
            sizes.append(len(wire.unpack(arguments["batch"])))
        return original(self, command, **arguments)

    monkeypatch.setattr(Session, "call", call)
    return sizes


# Publishing ----------------------------------------------------------------------------------


def test_a_receipt_has_the_id_and_the_receivers(bus: Bus) -> None:
    bus.raw("Worker").attach("Work")
    client = bus.client()
    done = client.publish(Message("Work", {"n": 1}), Message("Nobody"))
    bus.run()
    assert receipts(done) == [
        Receipt(f"tester~{client.boot}/0", 1),
        Receipt(f"tester~{client.boot}/1", 0),
    ]
    assert bus.stored() == [("Work", b'{"n":1}'), ("Nobody", b"")]


def test_nothing_to_publish(bus: Bus) -> None:
    assert receipts(bus.client().publish()) == []


def test_publishes_of_one_turn_go_together(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    client = bus.client()
    bus.run()
    sizes = sent(client, monkeypatch)
    calls = [client.publish(Message("Work", str(n))) for n in range(50)]
    bus.run()
    assert sizes == [50]
    assert [receipts(one)[0].id.rpartition("/")[2] for one in calls] == [str(n) for n in range(50)]


def test_a_batch_is_bounded_by_count_and_by_bytes(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = bus.client()
    bus.run()
    sizes = sent(client, monkeypatch)
    many = client.publish(*[Message("Work") for _ in range(2500)])
    bus.run()
    assert sizes == [1000, 1000, 500]
    assert len(receipts(many)) == 2500
    sizes.clear()
    big = client.publish(*[Message("Work", bytes(400_000)) for _ in range(4)])
    bus.run()
    assert sizes == [3, 1]
    assert len(receipts(big)) == 4


def test_so_many_batches_wait_for_answers_at_once(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = bus.client()
    bus.run()
    sizes = sent(client, monkeypatch)
    bus.writer.held = True
    done = client.publish(*[Message("Work", str(n)) for n in range(10_000)])
    bus.run()
    assert sizes == [1000] * module.WINDOW
    bus.writer.held = False
    bus.run()
    assert sizes == [1000] * 10
    assert len(receipts(done)) == 10_000
    assert [int(payload) for _, payload in bus.stored()] == list(range(10_000))


def test_what_is_published_before_the_connection_goes_when_it_is_there(bus: Bus) -> None:
    bus.down = True
    client = bus.client()
    done = client.publish(Message("Work"))
    bus.advance(3)
    assert not done.called
    bus.down = False
    bus.advance(3)
    assert [one.duplicate for one in receipts(done)] == [False]


def test_answers_that_were_lost_are_asked_for_again(bus: Bus) -> None:
    """The same ids, so that nothing is stored twice."""
    client = bus.client()
    bus.run()
    done = client.publish(*[Message("Work", str(n)) for n in range(20)])
    bus.deaf()
    assert len(bus.stored()) == 20
    assert not done.called
    bus.advance(3)
    assert [one.duplicate for one in receipts(done)] == [True] * 20
    assert [int(payload) for _, payload in bus.stored()] == list(range(20))


def test_what_was_sent_before_a_lost_connection_stays_in_front(bus: Bus) -> None:
    client = bus.client()
    bus.run()
    bus.writer.held = True
    calls = [client.publish(*[Message("Work", str(n)) for n in range(3000)])]
    bus.run()
    bus.kill()
    calls.append(client.publish(*[Message("Work", str(n)) for n in range(3000, 4000)]))
    bus.writer.held = False
    bus.start()
    bus.advance(3)
    assert [len(receipts(one)) for one in calls] == [3000, 1000]
    assert [int(payload) for _, payload in bus.stored()] == list(range(4000))


def test_a_broker_that_does_not_answer_ends_in_unknown(bus: Bus) -> None:
    client = bus.client(timeout=4.0)
    bus.run()
    bus.writer.held = True
    done = client.publish(Message("Work"))
    bus.advance(3.9)
    assert not done.called
    bus.advance(0.2)
    assert isinstance(found := error(done), Unknown)
    assert str(found) == "the broker did not confirm within 4 s (no answer)"
    # It came to be stored, as Unknown allows; the late answer disturbs nothing.
    bus.writer.held = False
    bus.run()
    assert len(bus.stored()) == 1


def test_a_broker_that_is_not_there_ends_in_unknown(bus: Bus) -> None:
    bus.down = True
    done = bus.client(timeout=4.0).publish(Message("Work"))
    bus.advance(4.1)
    assert str(error(done)) == "the broker did not confirm within 4 s (not connected)"


def test_an_unknown_publish_is_sent_again_all_the_same(bus: Bus) -> None:
    bus.down = True
    client = bus.client(timeout=1.0)
    done = client.publish(Message("Work"))
    bus.advance(1.1)
    assert isinstance(error(done), Unknown)
    bus.down = False
    bus.advance(4)
    assert len(bus.stored()) == 1


def test_one_refused_message_does_not_stop_the_others(bus: Bus) -> None:
    client = bus.client()
    good, bad = client.publish(Message("Work")), client.publish(Message("W" * 200))
    both = client.publish(Message("Fine"), Message(""))
    bus.run()
    assert receipts(good)[0].destinations == 0
    assert isinstance(found := error(bad), Refused)
    assert (found.code, str(found)[:13]) == ("bad-message", "message type ")
    assert isinstance(error(both), Refused)
    assert bus.stored() == [("Work", b""), ("Fine", b"")]


@pytest.mark.parametrize(
    "message",
    [
        Message(object()),  # type: ignore[arg-type]
        Message("Work", correlation="\udc80"),
        Message("Work", priority=1 << 70),
        Message("Work", delay="soon"),  # type: ignore[arg-type]
    ],
    ids=["type", "correlation", "priority", "delay"],
)
def test_a_message_that_cannot_be_sent_is_refused_alone(bus: Bus, message: Message) -> None:
    client = bus.client()
    bad, good = client.publish(message), client.publish(Message("Work"))
    bus.run()
    assert isinstance(found := error(bad), Refused)
    assert found.code == "bad-message"
    assert len(receipts(good)) == 1


def test_a_payload_that_is_too_large(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    client = bus.client()
    done = client.publish(Message("Work", bytes(wire.MAX_PAYLOAD + 1)))
    bus.run()
    assert isinstance(found := error(done), Refused)
    assert found.code == "too-large"
    assert bus.stored() == []


def test_stopping_ends_what_waits_in_unknown(bus: Bus) -> None:
    client = bus.client()
    bus.run()
    bus.writer.held = True
    sent, waits = client.publish(Message("A")), client.publish(Message("B"))
    bus.run()
    more = client.publish(Message("C"))
    stopped = client.stopService()
    for one in (sent, waits, more):
        assert str(error(one)) == "tester stopped before the broker answered"
    bus.run()
    assert stopped.called
    assert isinstance(error(client.publish(Message("D"))), Unknown)
    # Nothing is left to happen.
    assert not [call for call in bus.clock.getDelayedCalls() if call.func.__self__ is client]  # type: ignore[attr-defined]


# Asking --------------------------------------------------------------------------------------


def test_status(bus: Bus) -> None:
    bus.publish(Message("Work"))
    client = bus.client()
    done = client.status()
    bus.run()
    status = done.result
    assert isinstance(status, dict)
    assert status["published"] == [{"source": "tester", "type": "Work", "count": 1}]


def test_asking_a_broker_that_is_not_there(bus: Bus) -> None:
    bus.down = True
    done = bus.client(timeout=2.0).status()
    bus.advance(2.1)
    assert str(error(done)) == "no answer from the broker within 2 s"


def test_asking_a_client_that_is_stopped(bus: Bus) -> None:
    bus.down = True
    client = bus.client()
    done = client.status()
    client.stopService()
    bus.run()
    assert isinstance(error(done), Unknown)


# The connection ------------------------------------------------------------------------------


def test_a_connection_lost_during_the_hello_is_made_again(bus: Bus) -> None:
    client = bus.client()
    bus.cut()
    assert not client.connected
    bus.advance(3)
    assert client.connected


def test_a_refused_peer_tells_its_owner_and_closes(bus: Bus) -> None:
    refusals: list[Refused] = []
    received: list[list[Delivery]] = []
    client = bus.client(
        "no good", interests=Interests((("A", 0),), 5, received.append), refused=refusals.append
    )
    bus.run()
    assert [one.code for one in refusals] == ["bad-name"]
    assert not client.connected
    assert bus.pairs == []
    client.stopService()


def test_a_refused_peer_that_nobody_asks_about_tries_again_over_one_connection(bus: Bus) -> None:
    client = bus.client("a/b")
    bus.advance(10)
    assert bus.connects > 2
    assert len(bus.pairs) <= 1
    done = client.stopService()
    bus.advance(3)
    assert done.called
    assert bus.pairs == []


def test_stopping_while_the_hello_waits_closes_the_connection(bus: Bus) -> None:
    client = bus.client()
    done = client.stopService()
    bus.run()
    assert done.called
    assert bus.pairs == []
    assert not client.connected


def test_it_reconnects_each_time(bus: Bus) -> None:
    client = bus.client()
    for number in range(5):
        done = client.publish(Message("Work", str(number)))
        bus.advance(3)
        assert len(receipts(done)) == 1
        bus.cut()
    assert len(bus.stored()) == 5


def test_a_broker_that_is_away_is_mentioned_once_in_a_while(bus: Bus) -> None:
    lines: list[str] = []

    @provider(ILogObserver)
    def observe(event: dict[str, Any]) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        bus.down = True
        client = bus.client(where="unix:run/broker.sock")
        bus.advance(150)
        away, lines = lines, []
        bus.down = False
        bus.advance(3)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert bus.connects > 60
    assert len(away) == 3
    assert set(away) == {
        "no connection to the broker at unix:run/broker.sock (Connection was refused by other "
        "side); trying until there is one"
    }
    assert "connected to the broker at unix:run/broker.sock" in lines
    client.stopService()


# Receiving -----------------------------------------------------------------------------------


def test_deliveries_come_up_to_the_credit_and_settles_go_together(bus: Bus) -> None:
    got: list[Delivery] = []
    client = bus.client("Worker", interests=Interests((("Work", 0),), 3, got.extend))
    bus.run()
    bus.publish(*[Message("Work", str(n)) for n in range(5)])
    assert [one.payload for one in got] == [b"0", b"1", b"2"]
    assert (got[0].attempt, got[0].reason, got[0].source) == (1, "new", "tester")
    answered: list[tuple[int, set[int]]] = []
    client.settled = lambda outcomes, stale: answered.append((len(outcomes), stale))
    client.outcomes.done.extend(one.key for one in got[:2])
    client.outcomes.failed.append([got[2].key, "bad"])
    client.settle()
    client.settle()
    bus.run()
    assert answered == [(3, set())]
    assert [one.payload for one in got[3:]] == [b"3", b"4"]
    assert bus.dead() == ["bad"]


def test_flushed_waits_for_the_answers(bus: Bus) -> None:
    got: list[Delivery] = []
    client = bus.client("Worker", interests=Interests((("Work", 0),), 3, got.extend))
    bus.run()
    assert client.flushed().called
    bus.publish(Message("Work"))
    client.outcomes.done.append(got[0].key)
    client.settle()
    bus.writer.held = True
    flushed = client.flushed()
    bus.run()
    assert not flushed.called
    bus.writer.held = False
    bus.run()
    assert flushed.called


def test_flushed_ends_when_the_connection_does(bus: Bus) -> None:
    got: list[Delivery] = []
    client = bus.client("Worker", interests=Interests((("Work", 0),), 3, got.extend))
    bus.run()
    bus.publish(Message("Work"))
    client.outcomes.done.append(got[0].key)
    client.settle()
    flushed = client.flushed()
    bus.cut()
    assert flushed.called
    assert len(client.outcomes) == 0


# The broker's side of the protocol -----------------------------------------------------------


def test_the_same_id_with_the_same_content_is_stored_once(bus: Bus) -> None:
    raw = bus.raw()
    assert raw.publish(item(1, payload=b"a"), item(1, payload=b"a")) == [0, -1]
    assert raw.publish(item(1, payload=b"a")) == [-1]
    assert bus.raw().publish(item(1, payload=b"a")) == [-1]
    assert bus.stored() == [("Work", b"a")]


def test_the_same_id_with_other_content_is_refused(bus: Bus) -> None:
    raw = bus.raw()
    raw.publish(item(1, payload=b"a"))
    for other in (item(1, payload=b"b"), item(1, "Other", b"a")):
        [[code, text]] = raw.publish(other)
        assert code == "id-conflict"
        assert text == "raw~b1/1 is stored with other content"
    assert bus.raw("raw", "b2").publish(item(1, payload=b"b")) == [0]


def test_nothing_is_answered_before_hello(bus: Bus) -> None:
    raw = bus.raw("")
    for command, arguments in (
        (wire.Publish, {"batch": wire.pack([])}),
        (wire.Attach, {"interests": wire.pack([]), "credit": 1}),
        (wire.Settle, {"batch": wire.pack([[], [], [], []])}),
        (wire.Extend, {"keys": wire.pack([])}),
        (wire.Status, {}),
        (wire.History, {"filter": wire.pack({})}),
        (wire.Replay, {"filter": wire.pack({}), "dry_run": True}),
    ):
        with pytest.raises(Refused):
            raw(command, **arguments)
    assert not raw.lost


@pytest.mark.parametrize(
    ("name", "boot"),
    [("", "b"), ("a~b", "b"), ("a/b", "b"), ("a" * 61, "b"), ("a", ""), ("\n", "")],
)
def test_names_that_are_none(bus: Bus, name: str, boot: str) -> None:
    raw = bus.raw("")
    with pytest.raises(Refused, match="is not 1 to 60 characters") as caught:
        raw(wire.Hello, name=name, boot=boot, version=wire.VERSION)
    assert caught.value.code == "bad-name"


def test_another_version(bus: Bus) -> None:
    with pytest.raises(Refused, match=r"speaks version 99, this broker 1") as caught:
        bus.raw("")(wire.Hello, name="a", boot="b", version=99)
    assert caught.value.code == "version"


def test_a_second_hello_changes_nothing(bus: Bus) -> None:
    raw = bus.raw("Worker")
    with pytest.raises(Refused):
        raw(wire.Hello, name="Other", boot="b", version=wire.VERSION)
    raw.attach("Work")
    assert bus.component()["processes"] == 1


def test_attaching_twice_at_once_is_one_process(bus: Bus) -> None:
    raw = bus.raw("Worker")
    arguments = {"interests": wire.pack([["Work", 0]]), "credit": 5}
    answers = [raw.send(wire.Attach, **arguments) for _ in range(2)]
    bus.run()
    assert [isinstance(one[0], Refused) for one in answers] == [False, True]
    assert bus.component()["processes"] == 1
    bus.cut()
    assert bus.component()["processes"] == 0


@pytest.mark.parametrize(
    "batch",
    [5, [5], ["abcdef"], [{"a": 1}], [None], [[]], [[1]], [item(-1)], [item(1 << 63)], [item("x")]],  # type: ignore[arg-type]
    ids=repr,
)
def test_a_publish_that_is_none_is_refused(bus: Bus, batch: Any) -> None:
    raw = bus.raw()
    try:
        answer = wire.unpack(raw(wire.Publish, batch=wire.pack(batch))["results"])
    except Refused as refused:
        answer = [[refused.code, str(refused)]]
    assert [code for code, _ in answer] == ["bad-message"]
    assert raw.publish(item(5)) == [0]
    assert bus.failures == []


def test_bytes_that_are_no_batch(bus: Bus) -> None:
    raw = bus.raw()
    with pytest.raises(Refused, match="cannot be unpacked"):
        raw(wire.Publish, batch=b"\xc1")
    assert raw.publish(item(5)) == [0]


def worker(bus: Bus) -> Raw:
    """A component's process that holds three deliveries."""
    raw = bus.raw("Worker")
    raw.attach("Work")
    bus.publish(*[Message("Work", str(n)) for n in range(3)])
    assert len(raw.deliveries) == 3
    return raw


@pytest.mark.parametrize(
    "parts",
    [
        lambda key: [5],
        lambda key: [[[key]]],
        lambda key: [[], [[key]]],
        lambda key: [[], [[key, 5, [], []]]],
        lambda key: [[], [5]],
        lambda key: [[], [], [[key, "soon", "why"]]],
        lambda key: [[], [], [[key, float("nan"), "why"]]],
        lambda key: [[], [], [[key, float("inf"), "why"]]],
        lambda key: [[], [], [[key, -1.0, "why"]]],
        lambda key: [[], [], [[key, 1.0, None]]],
        lambda key: [[], [], [[key]]],
        lambda key: [[], [], [], [[key, 7]]],
        lambda key: [[], [], [], [key]],
        lambda key: [[True]],
    ],
)
def test_a_settle_that_is_none_changes_nothing(bus: Bus, parts: Any) -> None:
    """It is refused as a whole, before any lease has ended."""
    raw = worker(bus)
    first, second, third = (one.key for one in raw.deliveries)
    done, *others = [*parts(second), *([[]] * 4)][:4]
    batch = [[first, *done] if isinstance(done, list) else done, *others]
    with pytest.raises(Refused) as caught:
        raw(wire.Settle, batch=wire.pack(batch))
    assert caught.value.code == "bad-message"
    assert not raw.lost
    assert raw.settle([first, second, third]) == []
    assert bus.component()["leased"] == 0
    assert bus.component()["waiting"] == 0
    assert bus.failures == []


def test_a_key_is_settled_once(bus: Bus) -> None:
    raw = worker(bus)
    key = raw.deliveries[0].key
    assert raw.settle([key, key]) == [key]
    assert raw.settle([key, 999]) == [key, 999]
    assert raw.settle([], [], [], [[key, "no"]]) == [key]
    assert bus.dead() == []


def test_a_stuck_peer_is_disconnected_and_its_messages_go_to_another(bus: Bus) -> None:
    stuck, other = worker(bus), bus.raw("Worker", "b2")
    other.attach("Work")
    stuck.end.peer.stuck = True
    bus.advance(45)
    assert stuck.lost
    assert not other.lost
    assert [(one.attempt, one.reason) for one in other.deliveries] == [(2, "lost")] * 3
    assert [one.key for one in other.deliveries] == [one.key for one in stuck.deliveries]


def test_a_stuck_peer_uses_up_no_message_s_attempts(tmp_path: Path) -> None:
    """With a short lease it would be given the same messages time and again."""
    bus = Bus(tmp_path, lease=2.0, attempts=5)
    stuck = worker(bus)
    stuck.end.peer.stuck = True
    bus.advance(60)
    assert stuck.lost
    assert bus.dead() == []
    other = bus.raw("Worker", "b2")
    other.attach("Work")
    bus.run()
    assert [one.payload for one in other.deliveries] == [b"0", b"1", b"2"]


def test_a_peer_that_says_hello_late_is_not_taken_for_stuck(bus: Bus) -> None:
    late = bus.raw("")
    bus.advance(25)
    late(wire.Hello, name="late", boot="b", version=wire.VERSION)
    bus.advance(60)
    assert not late.lost


def test_a_peer_that_never_says_hello_is_disconnected(bus: Bus) -> None:
    silent = bus.raw("")
    bus.advance(45)
    assert silent.lost


def test_a_lease_that_runs_out(tmp_path: Path) -> None:
    bus = Bus(tmp_path, lease=10.0)
    first = worker(bus)
    kept, lost = first.deliveries[0].key, [one.key for one in first.deliveries[1:]]
    bus.advance(6)
    first(wire.Extend, keys=wire.pack([kept]))
    second = bus.raw("Worker", "b2")
    second.attach("Work", credit=50)
    bus.advance(6)
    again = [*first.deliveries[3:], *second.deliveries]
    assert {one.key for one in again} == set(lost)
    assert {(one.attempt, one.reason) for one in again} == {(2, "lease")}
    # It is not the first one's to settle any more, unless it was given to it again.
    mine = [one.key for one in first.deliveries[3:]]
    assert first.settle([kept, *lost]) == [key for key in lost if key not in mine]


@pytest.mark.parametrize("keys", [5, ["a"], [[1]], {"a": 1}], ids=repr)
def test_an_extend_that_is_none(bus: Bus, keys: Any) -> None:
    raw = worker(bus)
    with pytest.raises(Refused):
        raw(wire.Extend, keys=wire.pack(keys))
    assert not raw.lost


@pytest.mark.parametrize(
    "interests", [5, [5], [["A"]], [[["A"], 0]], [["A", 7]], {"a": 1}], ids=repr
)
def test_interests_that_are_none(bus: Bus, interests: Any) -> None:
    raw = bus.raw("Worker")
    with pytest.raises(Refused):
        raw(wire.Attach, interests=wire.pack(interests), credit=5)
    raw.attach("Work")


@pytest.mark.parametrize("credit", [0, -1, 100_001])
def test_a_credit_that_is_none(bus: Bus, credit: int) -> None:
    with pytest.raises(Refused, match="is not 1 to 100,000"):
        bus.raw("Worker").attach("Work", credit=credit)


def test_a_component_name_that_cannot_be_one(bus: Bus) -> None:
    with pytest.raises(Refused) as caught:
        bus.raw("no good").attach("Work")
    assert caught.value.code == "bad-name"
