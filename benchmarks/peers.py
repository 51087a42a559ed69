"""The two ends of a measurement, each a process: `python -m benchmarks.peers publish|consume ...`.

Each prints one JSON line when it is ready, waits for a line on stdin where that matters, and prints
another when it is done. Times are of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThread

from wmtwisted.client.client import Client, Interests
from wmtwisted.config import load
from wmtwisted.message import Delivery, Message, Receipt

#: The published type.
TYPE = "Work"
#: Messages of one publish call, and unanswered ones, when as fast as possible.
CALL, WINDOW = 500, 8000

clock: IReactorTime = reactor


def say(**values: Any) -> None:
    """Prints one line of JSON."""
    print(json.dumps(values), flush=True)


def end(code: int = 0) -> None:
    """Ends the process."""
    reactor.stop()


def payload(number: int, due: float, size: int) -> bytes:
    """`size` bytes of JSON with a sequence number and a time; 40 bytes at the least, or none."""
    if size == 0:
        return b""
    head = b'{"n":%d,"t":%.6f,"p":"' % (number, due)
    return head + b"x" * (size - len(head) - 2) + b'"}'


class Publisher:
    """Publishes `count` messages: as fast as it can, one at a time, or at a fixed rate."""

    def __init__(self, client: Client, count: int, size: int, window: int, rate: float) -> None:
        self.client = client
        self.count = count
        self.size = size
        self.window = window
        self.rate = rate
        self.sent = self.confirmed = 0
        self.began = 0.0
        self.cpu = 0.0
        self.latencies: list[float] = []

    def start(self, _: object = None) -> None:
        """Begins."""
        self.began, self.cpu = time.monotonic(), time.process_time()
        if self.rate:
            self.tick()
        else:
            self.fill()

    def fill(self) -> None:
        """Publishes as long as the window has room."""
        while self.sent < self.count and self.sent - self.confirmed < self.window:
            room = min(CALL, self.window, self.count - self.sent)
            now = time.monotonic()
            batch = [
                Message(TYPE, payload(self.sent + index, now, self.size)) for index in range(room)
            ]
            self.sent += room
            self.client.publish(*batch).addCallbacks(self.took, self.failed)

    def tick(self) -> None:
        """Publishes what the schedule has due by now; falling behind is charged to us."""
        while self.sent < self.count:
            due = self.began + self.sent / self.rate
            now = time.monotonic()
            if due > now:
                clock.callLater(due - now, self.tick)
                return
            message = Message(TYPE, payload(self.sent, due, self.size))
            self.sent += 1
            self.client.publish(message).addCallbacks(self.took, self.failed, (due,))

    def took(self, receipts: list[Receipt], due: float = 0.0) -> None:
        """Confirmed: on disk."""
        self.confirmed += len(receipts)
        now = time.monotonic()
        if due:
            self.latencies.append(now - due)
        if self.confirmed == self.count:
            cpu = time.process_time() - self.cpu
            say(began=self.began, ended=now, cpu=cpu, latencies=self.latencies)
            end()
        elif not self.rate:
            self.fill()

    def failed(self, failure: Any) -> None:
        """A publish was not confirmed: the run is worth nothing."""
        say(error=str(failure.value))
        end()


class Consumer:
    """Takes and settles `count` messages of a component."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.seen: set[int] = set()
        self.duplicates = 0
        self.began = 0.0
        self.cpu = 0.0
        self.latencies: list[float] = []
        self.client: Client

    def received(self, deliveries: list[Delivery]) -> None:
        """Parses each and settles all of them."""
        now = time.monotonic()
        if not self.began:
            self.began, self.cpu = now, time.process_time()
        for delivery in deliveries:
            if delivery.payload:
                body = json.loads(delivery.payload)
                number = body["n"]
                self.latencies.append(now - body["t"])
            else:
                number = delivery.key
            if number in self.seen:
                self.duplicates += 1
            self.seen.add(number)
        self.client.outcomes.done += [delivery.key for delivery in deliveries]
        self.client.settle()
        if len(self.seen) >= self.count:
            self.client.flushed().addCallback(self.ended)

    def ended(self, _: object) -> None:
        """The broker has taken the last settle."""
        cpu = time.process_time() - self.cpu
        say(
            began=self.began,
            ended=time.monotonic(),
            cpu=cpu,
            duplicates=self.duplicates,
            latencies=self.latencies,
        )
        end()


def main() -> None:
    """Runs one end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("end", choices=["publish", "consume"])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--name", default="Publisher")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--window", type=int, default=WINDOW)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--credit", type=int, default=4000)
    given = parser.parse_args()
    endpoint = clientFromString(reactor, load(given.config).broker.listen.client)
    start: Callable[[object], None]
    if given.end == "publish":
        client = Client(endpoint, given.name, clock=clock, timeout=60.0)
        start = Publisher(client, given.count, given.size, given.window, given.rate).start
    else:
        consumer = Consumer(given.count)
        interests = Interests(((TYPE, 0),), given.credit, consumer.received)
        client = Client(endpoint, given.name, clock=clock, interests=interests)
        consumer.client = client

        def start(_: object) -> None:
            """It has begun already."""

    client.startService()

    def ready(_: object) -> None:
        say(ready=True)
        if given.end == "publish":
            deferToThread(sys.stdin.readline).addCallback(start)

    client.ready().addCallback(ready)
    reactor.run()


if __name__ == "__main__":
    main()
