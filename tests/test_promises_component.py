"""G4 and G7 for processes of components that die, stand still, share their work, or come first."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from tests.instance import Instance, instance, until
from tests.promise_parts import FLOW, ONE, ONE_FLOW, PARTS
from wmtwisted.message import Message


@pytest.fixture
def one() -> Iterator[Instance]:
    with instance(ONE_FLOW, ONE, broker__lease=1.5) as made:
        made.broker()
        yield made


def begun(one: Instance) -> list[tuple[str, int, str]]:
    """Payload, attempt and reason of what Reader began."""
    rows = one.history("Reader")
    return [
        (row["payload"], row["attempt"], row["reason"]) for row in rows if row["part"] == "begin"
    ]


def has_begun(one: Instance, count: int) -> bool:
    """Whether Reader has begun so many."""
    return len(begun(one)) == count


def work(*payloads: str) -> list[Message]:
    return [Message("Work", payload) for payload in payloads]


def test_a_component_that_stands_still_loses_its_messages_to_another(one: Instance) -> None:
    """The lease takes back what a stopped process holds; what it says later is stale."""
    stuck = one.component("Reader", name="stuck")
    one.publish(*work("slow 0", "slow 1", "slow 2"))
    until(lambda: len(begun(one)) == 2, "two have begun")
    stuck.signal(signal.SIGSTOP)
    other = one.component("Reader", name="other")
    (one.home / "go").touch()

    def all_done() -> bool:
        rows = [row for row in one.history("Reader") if row["pid"] == other.pid]
        return {row["payload"] for row in rows if row["part"] == "end"} >= set(names)

    names = ["slow 0", "slow 1", "slow 2"]
    until(all_done, "the other has handled all")
    stuck.signal(signal.SIGCONT)
    until(lambda: one.drained("Reader"), "the queue is empty")
    again = [row for row in begun(one) if row[1] > 1]
    # It did not answer a ping either.
    assert {reason for _, _, reason in again} <= {"lease", "lost"}
    assert one.queue("Reader")["handled"] == 3
    assert one.sql("select * from ms_dead") == []
    # The one that stood still is a good process again.
    other.kill()
    one.publish(*work("after"))
    until(lambda: any(row[0] == "after" for row in begun(one)), "it works again")
    assert stuck.process.poll() is None


def test_a_component_that_works_longer_than_its_lease_keeps_its_message(one: Instance) -> None:
    one.component("Reader")
    one.publish(*work("slow"))
    until(lambda: len(begun(one)) == 1, "it has begun")
    # Other messages pass by for longer than the lease.
    for number in range(40):
        one.publish(*work(str(number)))
        until(partial(has_begun, one, number + 2), "it is handled")
        until(lambda: one.queue("Reader")["leased"] == 1, "it is settled")
    until(lambda: one.queue("Reader")["oldest"] > 2.5, "the lease would have run out")
    (one.home / "go").touch()
    until(lambda: one.drained("Reader"), "all is settled")
    assert one.queue("Reader")["retried"] == 0
    assert [row for row in begun(one) if row[0] == "slow"] == [("slow", 1, "new")]


def test_a_killed_component_s_messages_come_again_before_newer_ones(one: Instance) -> None:
    one.component("Reader", name="first")
    one.publish(*work("slow 0", "slow 1", "2"))
    until(lambda: len(begun(one)) == 2, "two have begun")
    one.kill("first")
    until(lambda: one.processes_of("Reader") == 0, "the broker knows")
    one.publish(*work("3"))
    (one.home / "go").touch()
    one.component("Reader", name="second")
    until(lambda: one.drained("Reader"), "all is settled")
    later = begun(one)[2:]
    assert [row[0] for row in later] == ["slow 0", "slow 1", "2", "3"]
    assert later[0] == ("slow 0", 2, "lost")
    assert later[3] == ("3", 1, "new")


def test_two_processes_share_a_queue(one: Instance) -> None:
    first, second = one.component("Reader", name="a"), one.component("Reader", name="b")
    names = [str(number) for number in range(600)]
    for start in range(0, 600, 20):
        one.publish(*work(*names[start : start + 20]))
    until(lambda: one.drained("Reader"), "all is settled")
    rows = [row for row in one.history("Reader") if row["part"] == "begin"]
    assert sorted(row["payload"] for row in rows) == sorted(names)
    shares = Counter(row["pid"] for row in rows)
    assert set(shares) == {first.pid, second.pid}
    assert min(shares.values()) > 60


def test_one_of_two_processes_dies(one: Instance) -> None:
    one.component("Reader", name="a")
    one.component("Reader", name="b")
    one.publish(*work("slow 0", "slow 1", "slow 2", "slow 3"))
    until(lambda: len(begun(one)) == 4, "both have begun two")
    one.kill("a")
    (one.home / "go").touch()
    until(lambda: one.drained("Reader"), "all is settled")
    ended = [row["payload"] for row in one.history("Reader") if row["part"] == "end"]
    assert sorted(ended) == ["slow 0", "slow 1", "slow 2", "slow 3"]
    assert one.queue("Reader")["handled"] == 4


def test_a_component_that_is_stopped_gives_back_what_it_has(one: Instance) -> None:
    """At once, whatever its coroutines wait for; the next one gets it as if for the first time."""
    process = one.component("Reader")
    one.publish(*work("slow", "slow too", "waits"))
    until(lambda: len(begun(one)) == 2, "two have begun")
    process.signal(signal.SIGTERM)
    assert process.ended() in (0, -signal.SIGTERM)
    assert "Traceback" not in process.said
    until(lambda: one.queue("Reader")["waiting"] == 3, "all are left")
    (one.home / "go").touch()
    one.component("Reader")
    until(lambda: one.queue("Reader")["handled"] == 3, "all are done")
    assert sorted(begun(one)[2:]) == [
        ("slow", 1, "released"), ("slow too", 1, "released"), ("waits", 1, "released")
    ]  # fmt: skip


def test_a_broker_that_is_not_there_yet() -> None:
    """The component tries on, and says so once; it works as soon as there is one."""
    with instance(ONE_FLOW, ONE) as one:
        process = one.component("Reader", wait=False)
        until(lambda: "no connection to the broker" in process.said, "it says so")
        # It has tried many times when somebody listens at last.
        one.broker()
        one.publish(*work("hello"))
        until(lambda: begun(one), "it works")
        until(lambda: "connected to the broker at unix:" in process.said, "it says so")
        one.kill("broker")
        until(lambda: process.said.count("no connection to the broker") == 2, "it says so again")
        one.broker()
        one.publish(*work("hello again"))
        until(lambda: len(begun(one)) == 2, "it works again")
        lines = process.said.splitlines()
        assert len([line for line in lines if "onnect" in line]) == 4
        assert re.search(
            r"no connection to the broker at unix:\S+broker\.sock \(.*\); trying until", lines[2]
        )
        assert "Traceback" not in process.said


def test_what_is_published_before_a_component_s_first_start_waits_for_it() -> None:
    with instance(ONE_FLOW, ONE) as one:
        one.broker()
        [receipt] = one.publish(*work("early"))
        assert receipt.destinations == 1
        one.kill("broker")
        one.broker()
        one.component("Reader")
        until(lambda: begun(one) == [("early", 1, "recovered")], "it comes")


def test_a_handler_that_dies_in_the_middle_publishes_once() -> None:
    """G7: it ran twice, what it returned is there once."""
    with instance(FLOW, PARTS) as one:
        one.broker()
        for part in ("Left", "Right", "Sink"):
            one.component(part, wait=False)
        names = ["die 0", "1", "die 2"]
        for name in names:
            worker = one.component("Worker", name=f"Worker {name}")
            one.publish(*work(name))
            if name.startswith("die"):
                assert worker.ended() == -signal.SIGKILL
        one.component("Worker", name="last")
        until(lambda: len(one.history("Sink")) == 3, "all three arrive")
        until(lambda: one.drained(*PARTS), "all is settled")
        runs = Counter(row["payload"] for row in one.history("Worker"))
        assert runs == {"die 0": 2, "1": 1, "die 2": 2}
        for part in ("Left", "Right", "Sink"):
            assert Counter(row["payload"] for row in one.history(part)) == dict.fromkeys(names, 1)
        states = one.sql("select state, count(*) from ms_trigger group by state")
        assert states == [("fired", 3)]
