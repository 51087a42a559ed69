"""What has passed since the broker started, for those who watch."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from attrs import define, field

from wmtwisted.broker.batch import NEWEST, Applied
from wmtwisted.broker.queue import Queue

#: Pairs of (source, type) that are counted apart; all beyond them are OTHERS.
KINDS = 1000
OTHERS = ("others", "others")


@define(eq=False)
class Counts:
    """What one component did."""

    #: By message type.
    delivered: Counter[str] = field(factory=Counter)
    settled: Counter[str] = field(factory=Counter)
    retried: int = 0
    #: Dead letters, also those of earlier brokers.
    dead: int = 0


@define(eq=False)
class Counters:
    """All counters of a broker."""

    commits: int = 0
    published: Counter[tuple[str, str]] = field(factory=Counter)
    components: dict[str, Counts] = field(factory=dict)
    newest: deque[tuple[str, str, str, float, list[str]]] = field(
        factory=lambda: deque(maxlen=NEWEST)
    )

    def of(self, component: str) -> Counts:
        """The counts of one component."""
        return self.components.setdefault(component, Counts())

    def committed(self, applied: Applied) -> None:
        """A commit has brought messages."""
        self.commits += 1
        for kind, count in applied.published.items():
            known = kind in self.published or len(self.published) < KINDS
            self.published[kind if known else OTHERS] += count
        self.newest.extend(applied.newest)

    def report(
        self, broker: dict[str, Any], queues: Mapping[str, Queue], now: float
    ) -> dict[str, Any]:
        """The counters and the queues as plain data; `broker` is completed and becomes a part."""
        received = [
            {
                "component": name,
                "type": type,
                "delivered": delivered,
                "settled": counts.settled[type],
            }
            for name, counts in sorted(self.components.items())
            for type, delivered in sorted(counts.delivered.items())
        ]
        return {
            "broker": {
                **broker,
                "published": self.published.total(),
                "delivered": sum(counts.delivered.total() for counts in self.components.values()),
                "settled": sum(counts.settled.total() for counts in self.components.values()),
                "commits": self.commits,
            },
            "components": [
                self._component(name, queue, now) for name, queue in sorted(queues.items())
            ],
            "published": [
                {"source": source, "type": type, "count": count}
                for (source, type), count in sorted(self.published.items())
            ],
            "received": received,
            "messages": [
                dict(zip(("id", "type", "source", "time", "destinations"), row, strict=True))
                for row in self.newest
            ],
        }

    def _component(self, name: str, queue: Queue, now: float) -> dict[str, Any]:
        counts, oldest = self.of(name), queue.oldest()
        return {
            "name": name,
            "connected": bool(queue.consumers),
            "processes": len(queue.consumers),
            "waiting": queue.depth - len(queue.leased) - queue.delayed,
            "leased": len(queue.leased),
            "delayed": queue.delayed,
            "dead": counts.dead,
            "oldest": None if oldest is None else max(0.0, now - oldest),
            "handled": counts.settled.total(),
            "retried": counts.retried,
        }
