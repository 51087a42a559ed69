"""Components that write down what they receive, for the tests of what the bus promises.

FLOW: each Work makes a Half and a barrier, Left and Right both get the Half and set their flag, and
the barrier's Opened goes to Sink.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from tests.instance import write_down
from wmtwisted.component.component import Component, Reject, handles
from wmtwisted.message import Delivery, Flag, Message, Output, Trigger

FLOW = """
source = {'ID': 'tests', 'messageOut': 'Work'}
handler = {'component': 'Worker', 'messageIn': 'Work', 'messageOut': 'Half',
           'createSynchronizer': 'Both'}
handler = {'component': 'Left', 'messageIn': 'Half', 'synchronize': 'Both'}
handler = {'component': 'Right', 'messageIn': 'Half', 'synchronize': 'Both'}
synchronizer = {'ID': 'Both', 'action': 'Opened'}
handler = {'component': 'Sink', 'messageIn': 'Opened'}
"""
PARTS = {name: f"tests.promise_parts:{name}" for name in ("Worker", "Left", "Right", "Sink")}

#: A flow of one component that only writes down.
ONE_FLOW = """
source = {'ID': 'tests', 'messageOut': 'Work'}
handler = {'component': 'Reader', 'messageIn': 'Work'}
"""
ONE = {"Reader": "tests.promise_parts:Reader"}


class Recording(Component):
    """Writes down each delivery in `history/NAME`."""

    def record(self, message: Delivery, **more: Any) -> None:
        write_down(
            Path(self.config.home, "history", self.name),
            id=message.id,
            payload=message.payload.decode(),
            attempt=message.attempt,
            reason=message.reason,
            pid=os.getpid(),
            **more,
        )


class Worker(Recording):
    """Makes two halves of each piece of work, and says when both are done."""

    @handles("Work", publishes="Half", creates="Both")
    def work(self, message: Delivery) -> list[Output]:
        """Dies in the middle of a piece of work that says so, the first time."""
        self.record(message)
        if message.payload.startswith(b"die") and message.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        id = message.payload.decode()
        both = Trigger("Both", id, ("Left", "Right"), Message("Opened", id))
        return [Message("Half", id), both]


class Left(Recording):
    """One half."""

    @handles("Half", sets="Both")
    def half(self, message: Delivery) -> Flag:
        """Is done."""
        self.record(message)
        return Flag("Both", message.payload.decode(), self.name)


class Right(Left):
    """The other half."""


class Sink(Recording):
    """The end."""

    @handles("Opened")
    def opened(self, message: Delivery) -> None:
        """Is written down."""
        self.record(message)


class Reader(Recording):
    """The end, too; `slow` messages take until a file `go` is there."""

    @handles("Work", threads=2)
    async def work(self, message: Delivery) -> None:
        """Writes down when it begins and when it ends."""
        self.record(message, part="begin")
        if message.payload.startswith(b"bad") and not self.may_go():
            raise Reject("not before it may go")
        if message.payload.startswith(b"slow"):
            while not self.may_go():
                await self.sleep(0.02)
        self.record(message, part="end")

    def may_go(self) -> bool:
        """Whether the test has made the file."""
        return Path(self.config.home, "go").exists()
