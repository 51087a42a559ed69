"""What the bus promises while any of its processes is killed at any moment, under load.

Nothing is asked of the processes themselves: publishers and receivers write down what they were
told, and the files are compared with each other and with the store.
"""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from tests.instance import Instance, instance, until
from tests.promise_parts import FLOW, ONE_FLOW, PARTS

#: Why a delivery may come again.
AGAIN = {"lost", "lease", "retry", "recovered"}


def flat(instance: Instance, outcome: str) -> list[str]:
    """The payloads with that outcome, of all publishers."""
    return [name for row in instance.history("published") for name in row.get(outcome, [])]


def stored(instance: Instance, type: str) -> list[str]:
    """The payloads of the stored messages of a type, in the order of their acceptance."""
    rows = instance.sql("select type, payload from ms_message order by id")
    return [row[1].decode() for row in rows if row[0] == type]


def storm(
    instance: Instance, victims: dict[str, Callable[[], object]], rounds: int, seed: int
) -> None:
    """Kills one of the processes after another, at random moments, and starts it again."""
    dice = random.Random(seed)  # noqa: S311 (to be repeatable)
    names = sorted(victims)
    order = [*names, *dice.choices(names, k=rounds)][:rounds]
    dice.shuffle(order)
    for name in order:
        until(partial(works, instance, name), f"{name} does something", 20)
        # The moment of the kill is the test's input: nothing is waited for here.
        threading.Event().wait(dice.uniform(0.0, 0.3))
        instance.kill(name)
        victims[name]()


def works(instance: Instance, name: str) -> bool:
    """Whether the process of that name has done something since it was started."""
    process = instance.processes[name]
    if name == "broker":
        return instance.answers(process)
    file = {"publisher": "published", "consumer": "Reader"}.get(name, name)
    sign = f'{{"ok": ["{process.pid}-' if name == "publisher" else f'"pid": {process.pid}'
    path = instance.home / "history" / file
    if not path.exists():
        return False
    with path.open("rb") as history:
        history.seek(max(0, path.stat().st_size - 100_000))
        return sign.encode() in history.read()


def explained(rows: Iterable[dict[str, Any]]) -> None:
    """Each delivery after the first says why it came again."""
    seen: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        seen[row["id"]].append(row)
    for deliveries in seen.values():
        first, *later = deliveries
        assert first["reason"] == "new" or first["reason"] in AGAIN, first
        assert (first["reason"] == "new") <= (first["attempt"] == 1), first
        for before, row in zip(deliveries, later, strict=False):
            assert row["reason"] in AGAIN, deliveries
            assert row["attempt"] >= before["attempt"], deliveries
            assert row["attempt"] > 1 or row["reason"] == "recovered", deliveries


def test_a_flow_survives_the_death_of_all_its_processes() -> None:
    """G1, G4, G6, G7: acknowledged is handled, by both or by none, and published once."""
    with instance(FLOW, PARTS) as one:
        one.broker()
        for part in PARTS:
            one.component(part, wait=False)

        def publisher() -> None:
            one.python("publisher", "tests.promise_publisher", "Work", "20", "4")

        victims: dict[str, Callable[[], object]] = {
            name: partial(one.component, name, wait=False) for name in PARTS
        }
        victims["broker"] = lambda: one.broker(wait=False)
        victims["publisher"] = publisher
        publisher()
        until(lambda: len(one.history("Sink")) > 20, "the flow runs")
        storm(one, victims, 12, seed=7)
        one.kill("publisher")
        until(lambda: one.answers(one.processes["broker"]), "the broker answers")
        until(lambda: one.drained(*PARTS), "everything is handled", 60)

        work = stored(one, "Work")
        acknowledged = flat(one, "ok")
        assert len(acknowledged) > 100
        assert set(acknowledged) <= set(work) <= set(flat(one, "try"))
        assert flat(one, "refused") == []
        # Stored once, although it was sent again; published once, although handled again.
        assert len(set(work)) == len(work)
        assert sorted(stored(one, "Half")) == sorted(work)
        assert sorted(stored(one, "Opened")) == sorted(work)
        for part in PARTS:
            history = one.history(part)
            assert {row["payload"] for row in history} == set(work)
            explained(history)
        # One id each: a handler that ran twice made the same one.
        for part in ("Left", "Right", "Sink"):
            assert len({row["id"] for row in one.history(part)}) == len(work)
        assert one.sql("select * from ms_dead") == []
        again = sum(row["reason"] != "new" for part in PARTS for row in one.history(part))
        print(f"{len(work)} pieces of work, {again} deliveries came again")
        assert again > 0


def test_a_stream_survives_the_death_of_all_its_processes() -> None:
    """G1, G3, G4, G5: nothing lost, nothing twice after its settle was answered, all in order."""
    with instance(ONE_FLOW, {"Reader": "tests.promise_parts:Reader"}) as one:
        one.broker()

        def publisher() -> None:
            one.python("publisher", "tests.promise_publisher", "Work", "50", "40")

        def consumer() -> None:
            one.python("consumer", "tests.promise_consumer", "Reader", "Work", "300")

        consumer()
        publisher()
        until(lambda: len(one.history("Reader")) > 20, "messages flow")
        victims: dict[str, Callable[[], object]] = {
            "broker": lambda: one.broker(wait=False),
            "publisher": publisher,
            "consumer": consumer,
        }
        storm(one, victims, 10, seed=11)
        one.kill("publisher")
        until(lambda: one.answers(one.processes["broker"]), "the broker answers")
        until(lambda: one.drained("Reader"), "everything is handled", 60)
        one.kill("consumer")

        work = stored(one, "Work")
        acknowledged = flat(one, "ok")
        assert len(acknowledged) > 1000
        assert set(acknowledged) <= set(work) <= set(flat(one, "try"))
        assert len(set(work)) == len(work)
        history = one.history("Reader")
        got = [row for batch in history for row in batch.get("got", [])]
        assert {payload for *_, payload in got} == set(work)
        names = ("id", "key", "attempt", "reason", "payload")
        explained([dict(zip(names, row, strict=True)) for row in got])
        never_again: set[int] = set()
        for batch in history:
            assert never_again.isdisjoint(row[1] for row in batch.get("got", []))
            never_again.update(batch.get("settled", []))
        first: dict[str, list[int]] = defaultdict(list)
        for origin, _, number in (id.partition("/") for id in dict.fromkeys(row[0] for row in got)):
            first[origin].append(int(number))
        assert len(first) > 1
        for numbers in first.values():
            assert numbers == sorted(numbers)
        again = sum(row[3] != "new" for row in got)
        print(f"{len(work)} messages, {again} deliveries came again")
        assert again > 0
