"""What crosses the wire, over a real AMP connection in memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.protocols import amp
from twisted.test.iosim import FakeTransport, IOPump, connect

from tests.bus import Bus, fresh_url, item, pending, result
from wmtwisted import wire
from wmtwisted.broker.protocol import BrokerFactory
from wmtwisted.client.session import Session
from wmtwisted.errors import Refused
from wmtwisted.message import Delivery

COMMANDS = [
    value
    for value in vars(wire).values()
    if isinstance(value, type) and issubclass(value, amp.Command) and value.__name__[0] != "_"
]

SIZES = (0, 1, 65_534, 65_535, 65_536, 131_070, 131_071, wire.MAX_PAYLOAD)


def noise(size: int) -> bytes:
    """So many bytes, the same each time."""
    return random.Random(size).randbytes(size)  # noqa: S311 (no secret)


#: Values by the kind of argument.
VALUES: dict[type[amp.Argument], Callable[[int], Any]] = {
    wire.Bulk: noise,
    amp.Unicode: lambda size: "é🦆'\\%\0" * min(size, 3),
    amp.Integer: lambda size: size - 1,
    amp.Boolean: lambda size: bool(size % 2),
}


class Echo(amp.AMP):
    """Answers any of our commands, and keeps what it was asked."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__()
        self.answer = answer
        self.asked: list[dict[str, Any]] = []

    def locateResponder(self, name: bytes) -> Callable[[amp.AmpBox], Deferred[amp.AmpBox]]:
        """A function from the box of the arguments to that of the answer."""
        command = next(one for one in COMMANDS if one.commandName == name)

        def respond(box: amp.AmpBox) -> Deferred[amp.AmpBox]:
            self.asked.append(command.parseArguments(box, self))
            return succeed(command.makeResponse(self.answer, self))

        return respond


def joined(server: amp.AMP, client: amp.AMP) -> IOPump:
    """Connects the two."""
    pump: IOPump = connect(
        server, FakeTransport(server, True), client, FakeTransport(client, False)
    )
    return pump


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_command_crosses_whole(command: type[amp.Command]) -> None:
    for size in SIZES:
        asked, answer = (
            {name.decode(): VALUES[type(kind)](size) for name, kind in parts}
            for parts in (command.arguments, command.response)
        )
        server, client = Echo(answer), amp.AMP()
        pump = joined(server, client)
        done = client.callRemote(command, **asked)
        pump.flush()
        assert server.asked == [asked]
        if command.requiresAnswer:
            assert result(done) == answer
        if not any(isinstance(kind, wire.Bulk) for _, kind in command.arguments + command.response):
            return


def test_two_bulks_with_names_that_begin_alike() -> None:
    """The pieces of one are never those of another."""
    first, second = wire.Bulk(), wire.Bulk()
    for sizes in ((65_535, 3), (65_536, 65_535), (200_000, 140_000)):
        values = {"a": b"a" * sizes[0], "a_b": b"b" * sizes[1]}
        box: dict[bytes, bytes] = {}
        found: dict[str, Any] = {}
        for bulk, name in ((first, b"a"), (second, b"a_b")):
            bulk.toBox(name, box, values, None)
        for bulk, name in ((first, b"a"), (second, b"a_b")):
            bulk.fromBox(name, box, found, None)
        assert found == values


def test_a_refusal_is_the_same_on_the_other_side() -> None:
    for code, text in (("bad-name", "no: 'x': y"), ("too-large", ""), ("x", "é\n")):
        again = wire.RefusedOnWire.of(Refused(code, text)).refused()
        assert (again.code, str(again)) == (code, text)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_batch_are_refused(data: bytes) -> None:
    with suppress(Refused):
        wire.unpack(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x81\x91\x01\x02", b"\x81\x80\x01", b"\x91" * 5000, b"\xdf\xff\xff\xff\xff",
     b"\xc6\xff\xff\xff\xff", b"\xa2\xff\xff", b"\x01\x02", b"\xd6\xff" + b"\xff" * 4 + b"\x01"],
    ids=repr,
)  # fmt: skip
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        wire.unpack(data)


# A broker's connections ---------------------------------------------------------------------


class Line:
    """A peer's connection to the broker of a bus."""

    def __init__(self, bus: Bus, name: str = "One", boot: str = "1") -> None:
        self.given: list[Delivery] = []
        self.session = Session(self.given.extend)
        server = BrokerFactory(bus.broker).buildProtocol(None)
        self.pump = joined(server, self.session)
        if name:
            self(wire.Hello, name=name, boot=boot, version=wire.VERSION)

    def __call__(self, command: type[amp.Command], **arguments: Any) -> Any:
        """The answer. Raises Refused."""
        ended: list[Any] = []
        # Before it is answered: AMP ends a connection whose errors nobody takes.
        self.session.call(command, **arguments).addBoth(ended.append)
        self.pump.flush()
        return result(succeed(ended[0]))

    def publish(self, batch: Any) -> Any:
        """Publishes what may be no batch at all."""
        return wire.unpack(self(wire.Publish, batch=wire.pack(batch))["results"])

    @property
    def lost(self) -> bool:
        """Whether the broker ended it."""
        return not pending(self.session.lost)


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    """A broker."""
    made = Bus(fresh_url("sqlite", tmp_path))
    yield made
    made.close()


BATCHES: list[Any] = [
    None, True, 5, -1, 1.5, "text", b"bytes", {}, {"a": 1}, [5], [None], ["abcdef"], [{}],
    [{"number": 1, "type": "A", "payload": b"", "priority": 0, "delay": 0, "chain": ""}],
    [b"123456"], [[[[[[]]]]]], msgpack.ExtType(5, b"x"), [msgpack.ExtType(5, b"x")],
    [[msgpack.ExtType(5, b"x"), "A", b"", 0, 0, ""]],
]  # fmt: skip


def test_a_hostile_peer_harms_nobody_else(bus: Bus) -> None:
    good, bad = Line(bus, "Good"), Line(bus, "Bad")
    for line in (good, bad):
        line(wire.Attach, interests=wire.pack([["A", 0]]), credit=10)
    assert good.publish([item(0, "A")]) == [2]
    calls: list[tuple[type[amp.Command], dict[str, Any]]] = []
    for batch in BATCHES:
        packed = wire.pack(batch)
        calls += [
            (wire.Publish, {"batch": packed}),
            (wire.Settle, {"batch": packed}),
            (wire.Settle, {"batch": wire.pack([[2], batch, [], []])}),
            (wire.Settle, {"batch": wire.pack([[2], [], batch, []])}),
            (wire.Settle, {"batch": wire.pack([[2], [], [], batch])}),
            (wire.Extend, {"keys": packed}),
            (wire.Attach, {"interests": packed, "credit": 5}),
            (wire.History, {"filter": packed}),
            (wire.Replay, {"filter": packed, "dry_run": False}),
        ]
    for command, arguments in calls:
        try:
            answer = bad(command, **arguments)
        except Refused:
            continue
        if command is wire.Publish:
            results = wire.unpack(answer["results"])
            assert all(isinstance(one, list) and one[0] == "bad-message" for one in results)
        else:
            assert command not in (wire.Attach, wire.Replay)
    assert not bad.lost
    assert good.publish([item(1, "A")]) == [2]
    assert [one.number for one in good.given] == [0, 1]
    assert not bus.failures


def test_before_hello_nothing_is_answered(bus: Bus) -> None:
    line = Line(bus, "")
    for command in COMMANDS:
        if command not in (wire.Hello, wire.Ping, wire.Deliver):
            arguments = {name.decode(): VALUES[type(kind)](1) for name, kind in command.arguments}
            with pytest.raises(Refused):
                line(command, **arguments)
    for name, boot, version in (("a~b", "1", 1), ("", "1", 1), ("a", "", 1), ("a", "1", 99)):
        with pytest.raises(Refused):
            line(wire.Hello, name=name, boot=boot, version=version)
    assert not line.lost


@pytest.mark.parametrize("size", [0, 65_535, 65_536, wire.MAX_PAYLOAD])
def test_a_payload_comes_as_it_was(bus: Bus, size: int) -> None:
    line = Line(bus)
    line(wire.Attach, interests=wire.pack([["A", 0]]), credit=10)
    payload = noise(size)
    assert line.publish([item(1, "A", payload)]) == [1]
    (delivery,) = line.given
    assert delivery.payload == payload
    assert (delivery.id, delivery.attempt, delivery.reason) == ("One~1/1", 1, "new")


def test_a_stopping_broker_ends_connections(bus: Bus) -> None:
    """What it is asked then is for the next one."""
    line = Line(bus)
    result(bus.broker.stop())
    errors: list[Any] = []
    line.session.call(wire.Publish, batch=wire.pack([item(1)])).addErrback(errors.append)
    line.pump.flush()
    assert not isinstance(errors[0].value, Refused)
    assert line.lost
    assert bus.rows("message") == []


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
        | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)  # fmt: skip
def test_packed_values_come_back(value: Any) -> None:
    assert repr(wire.unpack(wire.pack(value))) == repr(value)
