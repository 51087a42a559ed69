"""G2 and G3: each publish ends within its time in one of three outcomes, and is stored once."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.instance import Instance, Process, instance, until
from tests.promise_parts import ONE, ONE_FLOW
from wmtwisted import wire
from wmtwisted.client import blocking
from wmtwisted.config import load
from wmtwisted.errors import Refused, Unknown, Unreachable, WMError
from wmtwisted.message import Message


@pytest.fixture(scope="module")
def one() -> Iterator[Instance]:
    with instance(ONE_FLOW, ONE) as made:
        made.broker()
        yield made


@pytest.fixture
def broker(one: Instance) -> Process:
    """A broker that answers."""
    if one.processes["broker"].process.poll() is not None:
        one.broker()
    return one.processes["broker"]


def stored(one: Instance, payload: str) -> int:
    rows = one.sql("select payload from ms_message")
    return sum(row[0] == payload.encode() for row in rows)


def test_a_broker_that_is_stopped_gives_unknown_in_time(one: Instance, broker: Process) -> None:
    """And what was sent before may be stored, once."""
    with blocking.Connection(one.config, timeout=1.0) as connection:
        broker.signal(signal.SIGSTOP)
        try:
            start = time.monotonic()
            with pytest.raises(Unknown, match="within 1 s"):
                connection.publish([Message("Work", "stopped")])
            with pytest.raises(Unknown):
                blocking.publish(one.config, [Message("Work", "never")], timeout=1.0)
            assert time.monotonic() - start < 2 * (1.0 + 1.0)
        finally:
            broker.signal(signal.SIGCONT)
    until(lambda: stored(one, "stopped") == 1, "it is stored after all")
    assert stored(one, "never") == 0


def test_a_broker_that_is_killed_gives_unknown(one: Instance, broker: Process) -> None:
    with blocking.Connection(one.config, timeout=5.0) as connection:
        connection.publish([Message("Work", "before")])
        broker.kill()
        start = time.monotonic()
        with pytest.raises(Unknown):
            connection.publish([Message("Work", "after")])
        assert time.monotonic() - start < 5.0
    with pytest.raises(Unreachable, match="cannot reach the broker at unix:") as caught:
        one.publish(Message("Work", "nobody"))
    assert "wm up" in caught.value.hint
    one.broker()
    assert (stored(one, "before"), stored(one, "after"), stored(one, "nobody")) == (1, 0, 0)


def test_a_peer_that_takes_nothing_gives_unknown_in_time(one: Instance, broker: Process) -> None:
    """More than the socket's buffer holds, to a broker that reads nothing."""
    with blocking.Connection(one.config, timeout=1.0) as connection:
        broker.signal(signal.SIGSTOP)
        try:
            start = time.monotonic()
            with pytest.raises(Unknown):
                connection.publish([Message("Work", bytes(8 << 20))])
            assert time.monotonic() - start < 2.0
        finally:
            broker.signal(signal.SIGCONT)


def test_somebody_who_is_no_broker(one: Instance) -> None:
    path = one.home / "other.sock"
    config = one.path.read_text()
    other = one.home / "other.toml"
    other.write_text(config.replace("unix:broker.sock", "unix:other.sock"))

    def answer() -> None:
        for reply in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x00"):
            peer, _ = server.accept()
            peer.recv(1000)
            peer.sendall(reply)
            peer.close()

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        thread = threading.Thread(target=answer)
        thread.start()
        for _ in range(3):
            with pytest.raises(WMError):
                blocking.publish(load(other, {}), [Message("Work")], timeout=2.0)
        thread.join()


def test_what_is_refused_is_not_stored_and_the_rest_is(one: Instance, broker: Process) -> None:
    with pytest.raises(Refused) as caught:
        one.publish(
            Message("Work", "good"),
            Message("W" * 200, "bad type"),
            Message("Work", "bad delay", delay=-1),
            Message("Work", "good too"),
        )
    assert caught.value.code == "bad-message"
    found = [stored(one, name) for name in ("good", "bad type", "bad delay", "good too")]
    assert found == [1, 0, 0, 1]


def test_an_id_is_stored_once_whatever_is_killed(one: Instance, broker: Process) -> None:
    def publish(text: bytes) -> list[Any]:
        # The same publisher each time, as far as the broker can see.
        with blocking.Connection(one.config, "same", boot="same") as connection:
            rows = [[7, "Work", text, 0, 0.0, ""]]
            answer = connection.call(wire.Publish, batch=wire.pack(rows))
            results: list[Any] = wire.unpack(answer["results"])
            return results

    assert publish(b"once") == [1]
    assert publish(b"once") == [-1]
    one.kill("broker")
    one.broker()
    assert publish(b"once") == [-1]
    assert publish(b"other") == [["id-conflict", "same~same/7 is stored with other content"]]
    assert (stored(one, "once"), stored(one, "other")) == (1, 0)
