"""One commit: a batch of publishes and settles turned into rows, all of them or none."""

from __future__ import annotations

from collections import Counter
from typing import Any

from attrs import evolve
from sqlalchemy import Connection
from twisted.logger import Logger

from wmtwisted.broker import barriers
from wmtwisted.broker.batch import NEWEST, Applied, Batch, Item, Result, Settlement
from wmtwisted.broker.books import Books, Origin
from wmtwisted.broker.intake import OUTPUTS, Parts, check_item
from wmtwisted.broker.queue import Entry
from wmtwisted.broker.triggers import Barrier
from wmtwisted.errors import Refused, StoreError
from wmtwisted.message import Message, Trigger
from wmtwisted.store import state
from wmtwisted.store.messages import Range, Stored, checksum

#: Component, lane, the component's next numbers, its deliveries, and how its routes begin.
_Target = tuple[int, int, list[int], list[Entry], str]

#: Origins whose ids are kept in memory: each start of each program that publishes is one.
ORIGINS = 10_000


class Commit:
    """The rows of one commit, while they are collected, and the numbers it took.

    The books learn of them in `keep`, when they are stored.
    """

    log = Logger()

    def __init__(self, books: Books, connection: Connection, now: float, careful: bool) -> None:
        #: Look every message up before it is inserted, also those that must be new.
        self.careful = careful
        self.books = books
        self.connection = connection
        self.now = now
        self.applied = Applied()
        self.messages: list[tuple[Any, ...]] = []
        self.deliveries: list[tuple[object, ...]] = []
        self.ranges: list[Range] = []
        self.next_message = books.next_message
        #: By component, the next sequence numbers of its lanes.
        self.next: dict[str, list[int]] = {}
        #: By type and priority, where a message goes.
        self.targets: dict[tuple[str, int], list[_Target]] = {}
        self.origins: dict[str, Origin] = {}
        #: Type and payload by (origin, number), of the first `_indexed` messages of this commit.
        self.seen: dict[tuple[object, object], tuple[str, bytes]] = {}
        self.indexed = 0

    def apply(self, batch: Batch) -> None:
        """Writes everything."""
        store, connection = self.books.store, self.connection
        for submission in batch.submissions:
            self.applied.results.append(self._publish(submission.origin, submission.items))
        for settlement in batch.settlements:
            self._settle(settlement)
        self._triggers(batch.settlements)
        if self.messages:
            store.insert_messages(connection, self.messages)
        if self.deliveries:
            store.insert_deliveries(connection, self.deliveries)
        if self.ranges:
            store.insert_ranges(connection, self.ranges)

    def keep(self) -> None:
        """Tells the books; after the commit."""
        books = self.books
        books.next_message = self.next_message
        for component, numbers in self.next.items():
            books.components[component].next = numbers
        if len(books.origins) > ORIGINS:
            books.origins.clear()
        books.origins.update(self.origins)
        books.unflushed += self.ranges
        books.rows += len(self.messages) + len(self.deliveries) + len(self.ranges)

    # Publishing -----------------------------------------------------------------------------

    def _origin(self, name: str) -> Origin:
        origin = self.origins.get(name)
        if origin is None:
            known = self.books.origins.get(name)
            if known is None:
                known = Origin(*state.origin(self.connection, self.books.tables, name))
            origin = self.origins[name] = evolve(known)
        return origin

    def _publish(self, name: str, items: list[Item], *, new: bool = False) -> list[Result]:
        """Accepts what is not stored yet; `new` says that nothing of it can be."""
        origin, most = self._origin(name), self.books.max_payload
        checked: list[Parts | list[str]] = []
        for item in items:
            try:
                checked.append(check_item(item, most))
            except Refused as refused:
                checked.append([refused.code, str(refused)])
        known = {} if new and not self.careful else self._known(origin, checked)
        results: list[Result] = []
        accepted: list[str] = []
        for parts in checked:
            if isinstance(parts, list):
                results.append(parts)
                continue
            number, type, payload, _, _, _ = parts
            if (stored := known.get(number)) is not None:
                results.append(-1 if stored == (type, payload) else _conflict(name, number))
                continue
            results.append(self._accept(origin, name, parts))
            accepted.append(type)
            known[number] = (type, payload)  # it may come twice in one call
            if number > origin.highest:
                origin.highest = number
        source = name.partition("~")[0]
        for type, count in Counter(accepted).items():
            self.applied.published[source, type] += count
        return results

    def _known(
        self, origin: Origin, checked: list[Parts | list[str]]
    ) -> dict[int, tuple[str, bytes]]:
        """Those of the messages that may be stored already: resent ones, so mostly none."""
        numbers = [
            parts[0]
            for parts in checked
            if isinstance(parts, tuple) and (self.careful or parts[0] <= origin.highest)
        ]
        if not numbers:
            return {}
        known = self.books.store.find(self.connection, origin.id, numbers)
        # This very commit may have them, not inserted yet.
        for row in self.messages[self.indexed :]:
            self.seen[row[1], row[2]] = (row[3], row[10])
        self.indexed = len(self.messages)
        for number in numbers:
            if (seen := self.seen.get((origin.id, number))) is not None:
                known[number] = seen
        return known

    def _accept(self, origin: Origin, name: str, parts: Parts) -> int:
        """Numbers one message and its deliveries; how many there are."""
        number, type, payload, priority, delay, chain = parts
        id, now = self.next_message, self.now
        self.next_message = id + 1
        due = now + delay if delay else None
        stored = Stored(id, name, number, type, payload, priority, now, chain)
        targets = self.targets.get((type, priority))
        if targets is None:
            targets = self._find_targets(type, priority)
        routes = []
        for component, lane, numbers, arrivals, prefix in targets:
            seq = numbers[lane]
            numbers[lane] = seq + 1
            routes.append(f"{prefix}{seq}")
            self.deliveries.append((component, lane, seq, id, due, 0, 0))
            arrivals.append(Entry(seq * 2 + lane, stored, due))
        check = checksum(name, number, type, payload)
        route = " ".join(routes)
        self.messages.append(
            (id, origin.id, number, type, priority, due, now, chain, check, route, payload)
        )
        if len(self.applied.newest) < NEWEST:
            to = [one for one, _ in self.books.router.route(type, priority)]
            seen = (f"{name}/{number}", type, name.partition("~")[0], now, to)
            self.applied.newest.append(seen)
        return len(targets)

    def _find_targets(self, type: str, priority: int) -> list[_Target]:
        targets: list[_Target] = []
        for component, lane in self.books.router.route(type, priority):
            mine = self.books.components[component]
            numbers = self.next.setdefault(component, list(mine.next))
            arrivals = self.applied.arrivals.setdefault(component, [])
            targets.append((mine.id, lane, numbers, arrivals, f"{mine.id}:{lane}:"))
        self.targets[type, priority] = targets
        return targets

    # Settling -------------------------------------------------------------------------------

    def _settle(self, settlement: Settlement) -> None:
        name = settlement.component
        mine = self.books.components[name]
        keys = [entry.key for entry in settlement.done]
        keys += [one.entry.key for one in settlement.finished]
        self.ranges += ranges(mine.id, keys, self.now)
        for finished in settlement.finished:
            self._outputs(name, finished.entry, finished.messages)
        store = self.books.store
        if settlement.returned:
            rows = [
                (entry.key & 1, entry.key >> 1, entry.attempt, due)
                for entry, due, _ in settlement.returned
            ]
            store.returned(self.connection, mine.id, name, rows)
        if settlement.dead:
            dead = [
                (entry.key & 1, entry.key >> 1, entry.attempt, reason)
                for entry, reason in settlement.dead
            ]
            store.bury(self.connection, mine.id, name, dead, self.now)

    def _outputs(self, name: str, entry: Entry, messages: list[list[object]]) -> None:
        """Publishes what a handler returned, under ids derived from the message it handled."""
        if not messages:
            return
        stored = _body(entry)
        chain = stored.chain or f"{stored.origin}/{stored.number}"
        number = stored.id * OUTPUTS
        items: list[Item] = []
        for index, (type, payload, priority, delay, own) in enumerate(messages):
            items.append([number + index, type, payload, priority, delay, own or chain])
        # A message is settled once. Only its replays may bring outputs that were there before.
        results = self._publish(self.books.origin(name), items, new=entry.replay == 0)
        for item, result in zip(items, results, strict=True):
            if isinstance(result, list) and result[0] == "id-conflict":
                self.log.warn(
                    "{name} returned another {type} for {id} than the first time; the first stays",
                    name=name,
                    type=item[1],
                    id=f"{stored.origin}/{stored.number}",
                )
            elif isinstance(result, list):
                # Checked when the settle arrived, so this is ours.
                raise StoreError(f"output {item[1]!r} of {name} was refused: {result[1]}")

    # Triggers -------------------------------------------------------------------------------

    def _triggers(self, settlements: list[Settlement]) -> None:
        ops = [
            (settlement.component, finished)
            for settlement in settlements
            for finished in settlement.finished
            if finished.flags or finished.triggers
        ]
        if not ops:
            return
        keys = {(row[0], row[1]) for _, one in ops for row in (*one.flags, *one.triggers)}
        found = barriers.load(self.connection, self.books.tables, keys)
        for component, finished in ops:
            stored = _body(finished.entry)
            chain = stored.chain or f"{stored.origin}/{stored.number}"
            for trigger, id, flags, (type, payload, priority, delay, own) in finished.triggers:
                action = Message(type, payload, priority, delay, own)
                wanted = Trigger(trigger, id, tuple(flags), action)
                barrier = found[trigger, id]
                if barrier.declare(wanted, chain, self.now):
                    self._fire(trigger, barrier)
            for trigger, id, flag in finished.flags:
                barrier = found[trigger, id]
                if barrier.set(flag, component, self.now):
                    self._fire(trigger, barrier)
        barriers.save(self.connection, self.books.tables, found)

    def _fire(self, trigger: str, barrier: Barrier) -> None:
        """Publishes a trigger's action, under its name.

        As it fires once, any new number will do; this one is no output's of a component that has
        the trigger's name.
        """
        action = barrier.action
        if action is None:
            raise StoreError(f"trigger {trigger!r} fired without an action")
        chain = action.correlation or barrier.chain
        number = self.next_message * OUTPUTS + OUTPUTS - 1
        item = [number, action.type, action.payload, action.priority, action.delay, chain]
        (result,) = self._publish(self.books.origin(trigger), [item], new=True)
        if isinstance(result, list) or result < 0:
            raise StoreError(f"the action of trigger {trigger!r} was refused: {result}")


def _body(entry: Entry) -> Stored:
    if entry.message is None:
        raise StoreError(f"delivery {entry.key} was settled, but its message is not in memory")
    return entry.message


def ranges(component: int, keys: list[int], now: float) -> list[Range]:
    """Queue keys as ranges of sequence numbers, by lane."""
    found: list[Range] = []
    for lane in (0, 1):
        seqs = sorted(key >> 1 for key in keys if key & 1 == lane)
        start = 0
        for index in range(1, len(seqs) + 1):
            if index == len(seqs) or seqs[index] != seqs[index - 1] + 1:
                found.append((component, lane, seqs[start], seqs[index - 1], now))
                start = index
    return found


def _conflict(name: str, number: int) -> list[str]:
    return ["id-conflict", f"{name}/{number} is stored with other content"]
