"""What goes into one commit, and what comes out of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred

from wmtwisted.broker.queue import Entry

#: Messages of a commit that are kept for those who watch what passes.
NEWEST = 50

#: A published message as it crossed the wire: number, type, payload, priority, delay, chain.
Item = list[Any]
#: What became of it: how many components got it, -1 when it was there, or why it was refused.
Result = int | list[str]


@define(eq=False)
class Submission:
    """One Publish of one origin."""

    origin: str
    items: list[Item]
    #: Fires with the results, one for each item, after the commit.
    answer: Deferred[list[Result]] = field(factory=Deferred)


@define(eq=False)
class Finished:
    """A handled message with what its handler returned, in the forms of `wire.Settle`."""

    entry: Entry
    messages: list[list[Any]]
    flags: list[list[str]]
    triggers: list[list[Any]]


@define(eq=False)
class Settlement:
    """One Settle of one consumer, its leases already ended."""

    component: str
    done: list[Entry] = field(factory=list)
    finished: list[Finished] = field(factory=list)
    #: With the time before which it is not to be given again, and the reason.
    returned: list[tuple[Entry, float | None, str]] = field(factory=list)
    #: With the reason.
    dead: list[tuple[Entry, str]] = field(factory=list)
    #: Fires after the commit.
    answer: Deferred[None] = field(factory=Deferred)


@define(eq=False)
class Batch:
    """Everything that arrived while the last commit ran."""

    submissions: list[Submission] = field(factory=list)
    settlements: list[Settlement] = field(factory=list)

    def __bool__(self) -> bool:
        return bool(self.submissions or self.settlements)


@define(eq=False)
class Applied:
    """What a commit brought: the answers, and by component the deliveries that it made."""

    results: list[list[Result]] = field(factory=list)
    arrivals: dict[str, list[Entry]] = field(factory=dict)
    #: By (source, type), how many messages were accepted.
    published: Counter[tuple[str, str]] = field(factory=Counter)
    #: The newest of them, for those who watch: (id, type, source, time, destinations).
    newest: list[tuple[str, str, str, float, list[str]]] = field(factory=list)
