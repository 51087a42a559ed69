"""A process of a component that writes down what it received and what was settled.

`python -m tests.promise_consumer CONFIG NAME TYPE CREDIT`

`history/NAME` gets a line for each batch received (`got`: id, key, attempt, reason, payload) and,
after the broker has answered its settle, one with the keys (`settled`).
"""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.endpoints import clientFromString

from tests.instance import write_down
from wmtwisted.client.client import Client, Interests, Outcomes
from wmtwisted.config import load
from wmtwisted.message import Delivery

reactor: Any = installed


def main(path: str, name: str, type: str, credit: str) -> None:
    config = load(path, {})
    log = config.home / "history" / name

    def received(deliveries: list[Delivery]) -> None:
        got = [
            [one.id, one.key, one.attempt, one.reason, one.payload.decode()] for one in deliveries
        ]
        write_down(log, got=got, pid=os.getpid())
        client.outcomes.done.extend(one.key for one in deliveries)
        client.settle()

    def settled(outcomes: Outcomes, stale: set[int]) -> None:
        write_down(log, settled=[key for key in outcomes.done if key not in stale])

    endpoint = clientFromString(reactor, config.broker.listen.client)
    interests = Interests(((type, 0),), int(credit), received)
    client = Client(endpoint, name, clock=reactor, interests=interests)
    client.settled = settled
    client.startService()
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
