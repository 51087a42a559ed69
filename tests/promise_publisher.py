"""A process that publishes as fast as it is told to, and writes down what the broker said.

`python -m tests.promise_publisher CONFIG TYPE BATCHES_PER_SECOND MESSAGES_PER_BATCH [DIE]`

`history/published` gets a line before a batch is published (`try`), and one with the outcome: `ok`
with the ids, `unknown`, or `refused`.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.endpoints import clientFromString
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from tests.instance import write_down
from wmtwisted.client.client import Client
from wmtwisted.config import load
from wmtwisted.errors import Unknown
from wmtwisted.message import Message, Receipt

reactor: Any = installed


def main(path: str, type: str, rate: str, size: str) -> None:
    config = load(path, {})
    log = config.home / "history" / "published"
    endpoint = clientFromString(reactor, config.broker.listen.client)
    client = Client(endpoint, "publisher", clock=reactor, timeout=5.0)
    client.startService()
    numbers = iter(range(1 << 60))

    def publish() -> None:
        names = [f"{os.getpid()}-{next(numbers)}" for _ in range(int(size))]

        def ok(receipts: list[Receipt]) -> None:
            write_down(log, ok=names, ids=[one.id for one in receipts])

        def failed(failure: Failure) -> None:
            outcome = "unknown" if failure.check(Unknown) else "refused"
            write_down(log, **{outcome: names}, why=failure.getErrorMessage())

        write_down(log, **{"try": names})
        client.publish(*[Message(type, name) for name in names]).addCallbacks(ok, failed)

    LoopingCall(publish).start(1.0 / float(rate))
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
