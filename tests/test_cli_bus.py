"""`wm queue`, `message`, `replay` and `verify` on a real broker with a real component."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from tests.instance import Instance, instance, until
from tests.promise_parts import ONE, ONE_FLOW
from tests.wm import Wm


@pytest.fixture
def bus() -> Iterator[Instance]:
    with instance(ONE_FLOW, ONE) as made:
        made.broker()
        yield made


def settled(bus: Instance, count: int) -> bool:
    """Whether the reader has handled so many, and the buffers are empty."""
    moved = bus.sql("SELECT count(*) FROM ms_history")[0][0]
    return bool(moved == count and not bus.sql("SELECT 1 FROM ms_buffer_in"))


def begun(bus: Instance) -> list[dict[str, Any]]:
    """What the reader has begun to handle."""
    return [row for row in bus.history("Reader") if row["part"] == "begin"]


def test_publish_tail_queue_list(bus: Instance, wm: Wm) -> None:
    on = ("-c", bus.path)
    for number in range(3):
        ran = wm(*on, "message", "publish", "Work", json.dumps({"n": number}))
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.endswith("to 1 component\n")
    ran = wm(*on, "message", "publish", "Nothing")
    assert "to 0 components" in ran.out
    assert "nobody is interested" in ran.err
    rows = [json.loads(row) for row in wm(*on, "message", "tail", "--json").out.splitlines()]
    assert [row["type"] for row in rows] == ["Work", "Work", "Work", "Nothing"]
    assert [row["payload"] for row in rows[:3]] == ['{"n": 0}', '{"n": 1}', '{"n": 2}']
    assert [row["to"] for row in rows] == [["Reader"]] * 3 + [[]]
    last = wm(*on, "message", "tail", "-n", "1", "--type", "Work").out
    assert "wm -> Reader  Work" in last
    assert wm(*on, "message", "tail", "--since", "1h", "--source", "nobody").out == ""
    (queue,) = [json.loads(row) for row in wm(*on, "queue", "list", "--json").out.splitlines()]
    assert (queue["name"], queue["waiting"], queue["processes"]) == ("Reader", 3, 0)
    assert wm(*on, "queue", "list").out.split()[:2] == ["COMPONENT", "PROCESSES"]


def test_lost_messages_are_named_and_replayed(bus: Instance, wm: Wm) -> None:
    on = ("-c", bus.path)
    for number in range(4):
        wm(*on, "message", "publish", "Work", str(number))
    bus.kill("broker")
    engine = create_engine(bus.config.store.bus)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM ms_queue_reader WHERE seq IN (2, 3)"))
        connection.execute(text("DELETE FROM ms_buffer_in WHERE seq IN (2, 3)"))
    engine.dispose()
    ran = wm(*on, "verify")
    assert ran.code == 1
    assert ran.out.count("lost: Reader: Work") == 2
    bus.broker()
    bus.component("Reader")
    until(lambda: settled(bus, 2), "what is left has been handled")
    ran = wm(*on, "replay", "--component", "Reader", "--lost", "--dry-run")
    assert ran.out.splitlines()[0] == "would queue 2 messages for Reader"
    assert len(begun(bus)) == 2
    ran = wm(*on, "replay", "--component", "Reader", "--lost")
    assert ran.out == "replay 1: queued 2 messages for Reader\n"
    until(lambda: len(begun(bus)) == 4, "the lost ones have come")
    assert [row["payload"] for row in begun(bus)] == ["0", "3", "1", "2"]
    assert [row["reason"] for row in begun(bus)[2:]] == ["replay", "replay"]
    ran = wm(*on, "verify")
    assert (ran.code, "0 findings" in ran.out) == (0, True)
    ran = wm(*on, "replay", "--component", "Reader", "--lost")
    assert ran.out == "replay 2: queued 0 messages for Reader\n"


def test_replay_by_type_and_time(bus: Instance, wm: Wm) -> None:
    on = ("-c", bus.path)
    bus.component("Reader")
    for number in range(3):
        wm(*on, "message", "publish", "Work", str(number))
    until(lambda: settled(bus, 3), "all are handled")
    replay = (*on, "replay", "--component", "Reader", "--type", "Work")
    assert "queued 0 messages" in wm(*replay, "--until", "1h").out
    assert "queued 3 messages" in wm(*replay, "--since", "10m").out
    until(lambda: len(begun(bus)) == 6, "all have come again")
    assert [row["payload"] for row in begun(bus)] == ["0", "1", "2"] * 2


def test_dead_letters_are_replayed(wm: Wm) -> None:
    with instance(ONE_FLOW, ONE) as bus:
        on = ("-c", bus.path)
        bus.broker()
        bus.component("Reader")
        for number in range(2):
            wm(*on, "message", "publish", "Work", str(number))
        wm(*on, "message", "publish", "Reader:Work", "bad")
        until(lambda: bus.queue("Reader")["dead"] == 1, "one is a dead letter")
        bus.kill("broker")
        bus.broker()
        assert bus.queue("Reader")["dead"] == 1
        (bus.home / "go").touch()
        replay = (*on, "replay", "--component", "Reader", "--type", "Work", "--dead")
        assert "queued 1 message for" in wm(*replay).out
        until(lambda: len(begun(bus)) == 4, "it has come again")
        assert begun(bus)[3]["payload"] == "bad"
        until(lambda: bus.drained("Reader"), "it is done")
        assert bus.queue("Reader")["dead"] == 0
        assert "0 findings" in wm(*on, "verify").out


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["replay", "--component", "Raeder"], "no component 'Raeder' has ever attached"),
        (["replay", "--component", "Reader", "--since", "soon"], "'soon' is no time"),
        (["message", "publish", ""], "message type '' is not 1 to 190 characters"),
        (["message", "publish", "Work", "--delay", "-1"], "-1"),
        (["message", "tail", "-n", "0"], "0 is not in the range 1<=x<=1000"),
    ],
)
def test_what_cannot_be_asked(bus: Instance, wm: Wm, arguments: list[str], error: str) -> None:
    ran = wm("-c", bus.path, *arguments)
    assert ran.code != 0
    assert error in ran.error
    assert "Traceback" not in ran.err


def test_without_a_broker(wm: Wm) -> None:
    with instance(ONE_FLOW, ONE) as made:
        for arguments in (["queue", "list"], ["message", "tail"], ["message", "publish", "Work"]):
            ran = wm("-c", made.path, *arguments)
            assert ran.code == 1
            assert "cannot reach the broker" in ran.error
        ran = wm("-c", made.path, "verify")
        assert (ran.code, "there are no tables" in ran.error) == (1, True)
