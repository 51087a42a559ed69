"""One commit: a batch of publishes and settles turned into rows, all of them or none.

It runs on the writer's thread alone, and owns what must be exact: who is interested, the next
sequence number of every lane, the next message id, and the highest number seen of each origin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from attrs import define, evolve
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import IntegrityError

from wmtwisted.broker.batch import Applied, Batch, Item, Result, Settlement
from wmtwisted.broker.queue import Entry
from wmtwisted.broker.routing import Router
from wmtwisted.broker.triggers import Barrier
from wmtwisted.errors import Refused, StoreError
from wmtwisted.message import Message, Trigger
from wmtwisted.store import state
from wmtwisted.store.database import run
from wmtwisted.store.messages import MessageStore, Range, Stored, checksum
from wmtwisted.store.state import FlagRow, TriggerRow
from wmtwisted.store.tables import Tables, check_component, create_queue
from wmtwisted.wire import MAX_PAYLOAD

P = ParamSpec("P")
T = TypeVar("T")

#: Rows, and seconds, after which the buffers are emptied.
FLUSH_ROWS = 5000
FLUSH_SECONDS = 1.0

#: A message has fewer outputs: their numbers are the input's id times this, plus an index, so that
#: a handler that runs twice makes the same ids. The highest index is for what triggers publish.
OUTPUTS = 1 << 16

#: The longest delay of a delivery, in seconds.
MAX_DELAY = 10 * 365 * 86400.0

#: Origins whose ids are kept in memory: each start of each program that publishes is one.
ORIGINS = 10_000


@define
class _Component:
    id: int
    name: str
    #: The next sequence number of each lane.
    next: list[int]
    #: Rows below it have left `buffer_in` for the queue table, by lane.
    moved: list[int]
    #: What `next` was at the last flush: older rows move at the next one.
    mark: list[int]


@define
class _Origin:
    id: int
    #: The highest number stored; a higher one is new without a look.
    highest: int


class Ledger:
    """The writer of one store."""

    def __init__(self, engine: Engine, tables: Tables) -> None:
        self.engine = engine
        self.tables = tables
        self.store = MessageStore(tables, engine.dialect)
        self.router = Router()
        #: The longest payload that the store takes, in bytes.
        self.max_payload = MAX_PAYLOAD
        self._components: dict[str, _Component] = {}
        self._origins: dict[str, _Origin] = {}
        self._next_message = 1
        self._token = ""
        #: How many writes were committed since the store was taken over.
        self._beat = 0
        self._unflushed: list[Range] = []
        self._rows = 0
        self._flushed = 0.0

    # Starting -------------------------------------------------------------------------------

    def open(self, name: str) -> dict[str, dict[int, tuple[int, int]]]:
        """Takes the store over and brings it in order after whatever ended the last broker.

        Returns by component and lane how many deliveries wait and the highest sequence number.
        """
        return run(self.engine, self._open, name)

    def _open(self, connection: Connection, name: str) -> dict[str, dict[int, tuple[int, int]]]:
        self._token, self._beat = state.seize(connection, self.tables, name), 0
        self.max_payload = min(MAX_PAYLOAD, state.max_payload(connection))
        message = self.tables.message
        self._next_message = 1 + (connection.execute(select(func.max(message.c.id))).scalar() or 0)
        self._components.clear()
        self._origins.clear()
        names = {}
        for row in state.components(connection, self.tables):
            names[row.id] = row.name
            mine = _Component(row.id, row.name, list(row.next), [1, 1], [1, 1])
            for lane in (0, 1):
                # What came since the last flush is in the one, or went on to the other.
                for table in (self.tables.buffer_in, self.tables.dead):
                    here = (table.c.component == row.id, table.c.lane == lane)
                    top = connection.execute(select(func.max(table.c.seq)).where(*here)).scalar()
                    mine.next[lane] = max(mine.next[lane], 1 + (top or 0))
                mine.moved[lane] = row.next[lane]
            self._components[row.name] = mine
        interests: dict[int, list[tuple[str, int]]] = {id: [] for id in names}
        for component, type, lane in state.interests(connection, self.tables):
            interests[component].append((type, lane))
        for component, wanted in interests.items():
            self.router.express(names[component], wanted)
        self._unflushed = self.store.ranges(connection)
        for mine in self._components.values():
            # Where a settled row is, is not known now: both places are looked at.
            mine.moved = [1, 1]
            self._settle_both(connection, mine)
        self._unflushed = []
        for mine in self._components.values():
            mine.mark = list(mine.next)
            self._move(connection, mine)
            mine.moved = list(mine.next)
        self._save_counters(connection)
        return {name: self.store.count(connection, name) for name in self._components}

    def _settle_both(self, connection: Connection, mine: _Component) -> None:
        ranges = [row for row in self._unflushed if row[0] == mine.id]
        for edge in (1, 1 << 62):
            moved = {(mine.id, lane): edge for lane in (0, 1)}
            self.store.settle(connection, ranges, {mine.id: mine.name}, moved)

    # Components -----------------------------------------------------------------------------

    def attach(self, name: str, interests: list[tuple[str, int]]) -> None:
        """Registers a component when it is new, and stores its interests."""
        check_component(name)
        for type, lane in interests:
            _check_type(type)
            if lane not in (0, 1):
                raise Refused("bad-message", f"lane {lane!r} of {type!r} is not 0 or 1")
        wanted = list(dict(interests).items())
        if name not in self._components:
            # Making a table ends a transaction on MariaDB, so it has one of its own.
            run(self.engine, create_queue, self.tables.queue(name))
        elif self.router.interests(name) == dict(wanted):
            return
        id = self.write(self._attach, name, wanted)
        self._components.setdefault(name, _Component(id, name, [1, 1], [1, 1], [1, 1]))
        self.router.express(name, wanted)

    def expect(self, name: str, types: list[str]) -> None:
        """Makes sure that a component gets these, before its first process has ever attached."""
        known = self.router.interests(name)
        self.attach(name, [*known.items(), *((type, 0) for type in types if type not in known)])

    def _attach(self, connection: Connection, name: str, wanted: list[tuple[str, int]]) -> int:
        known = self._components.get(name)
        id = known.id if known else len(self._components) + 1
        if known is None:
            state.add_component(connection, self.tables, id, name)
        state.save_interests(connection, self.tables, id, wanted)
        return id

    # Committing -----------------------------------------------------------------------------

    def apply(self, batch: Batch, now: float) -> Applied:
        """Commits `batch`. When it raises, nothing of it is known to be stored."""
        try:
            commit = self.write(self._apply, batch, now, False)
        except IntegrityError:
            # Something that looked new was stored: look each one up.
            commit = self.write(self._apply, batch, now, True)
        commit.keep()
        return commit.applied

    def _apply(self, connection: Connection, batch: Batch, now: float, careful: bool) -> _Commit:
        commit = _Commit(self, connection, now, careful)
        commit.apply(batch)
        return commit

    def flush_due(self, now: float) -> bool:
        """Whether the buffers should be emptied."""
        return self._rows > 0 and (self._rows >= FLUSH_ROWS or now - self._flushed > FLUSH_SECONDS)

    def flush(self, now: float) -> None:
        """Moves what is settled into the history, and what is not into the queue tables."""
        self.write(self._flush)
        self._unflushed = []
        for mine in self._components.values():
            mine.moved, mine.mark = mine.mark, list(mine.next)
        # The next flush moves what this one left; without new rows it has to come all the same.
        self._rows = 1 if self._rows > 1 else 0
        self._flushed = now

    def _flush(self, connection: Connection) -> None:
        names = {one.id: one.name for one in self._components.values()}
        moved = {
            (one.id, lane): one.moved[lane] for one in self._components.values() for lane in (0, 1)
        }
        if self._unflushed:
            self.store.settle(connection, self._unflushed, names, moved)
        for mine in self._components.values():
            self._move(connection, mine)
        self._save_counters(connection)

    def _move(self, connection: Connection, mine: _Component) -> None:
        for lane in (0, 1):
            low, high = mine.moved[lane], mine.mark[lane]
            if low < high:
                self.store.move(connection, mine.id, mine.name, lane, low, high)

    def _save_counters(self, connection: Connection) -> None:
        rows = [(one.id, one.next[0], one.next[1]) for one in self._components.values()]
        self.store.save_counters(connection, rows)

    def bury(self, name: str, entries: list[Entry], reason: str, now: float) -> None:
        """Moves deliveries that cannot be given to anyone to the dead letters."""

        def write(connection: Connection) -> None:
            mine = self._components[name]
            rows = [(one.key & 1, one.key >> 1, one.attempt, reason) for one in entries]
            self.store.bury(connection, mine.id, name, rows, now)

        self.write(write)

    def write(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """`function(connection, ...)` in one transaction, committed once and by this broker alone.

        Raises StoreError when another broker took over, and when a commit that failed was done.
        """

        def fenced(connection: Connection) -> T:
            state.fence(connection, self.tables, self._token, self._beat)
            return function(connection, *args, **kwargs)

        result = run(self.engine, fenced)
        self._beat += 1
        return result

    @property
    def last_message(self) -> int:
        """The id of the newest message."""
        return self._next_message - 1

    def next_seq(self, name: str, lane: int) -> int:
        """The next sequence number of a lane; `took` says that some are committed."""
        return self._components[name].next[lane]

    def took(self, name: str, lane: int, count: int) -> None:
        """So many deliveries were committed by another write than a batch."""
        self._components[name].next[lane] += count
        self._rows += count

    def component_id(self, name: str) -> int:
        """The id of a component. Raises Refused when it never attached."""
        if name not in self._components:
            raise Refused("not-attached", f"no component {name!r} has ever attached to this broker")
        return self._components[name].id


class _Commit:
    """The rows of one commit, while they are collected, and the numbers it took.

    The ledger learns of them in `keep`, when they are stored.
    """

    def __init__(self, ledger: Ledger, connection: Connection, now: float, careful: bool) -> None:
        #: Look every message up before it is inserted, also those that must be new.
        self.careful = careful
        self.ledger = ledger
        self.connection = connection
        self.now = now
        self.applied = Applied()
        self.messages: list[tuple[Any, ...]] = []
        self.deliveries: list[tuple[object, ...]] = []
        self.ranges: list[Range] = []
        self.next_message = ledger._next_message
        #: By component, the next sequence numbers of its lanes.
        self.next: dict[str, list[int]] = {}
        self.origins: dict[str, _Origin] = {}
        #: Type and payload by (origin, number), of the first `_indexed` messages of this commit.
        self.seen: dict[tuple[object, object], tuple[str, bytes]] = {}
        self.indexed = 0

    def apply(self, batch: Batch) -> None:
        """Writes everything."""
        ledger, connection = self.ledger, self.connection
        for submission in batch.submissions:
            self.applied.results.append(self._publish(submission.origin, submission.items))
        for settlement in batch.settlements:
            self._settle(settlement)
        self._triggers(batch.settlements)
        if self.messages:
            ledger.store.insert_messages(connection, self.messages)
        if self.deliveries:
            ledger.store.insert_deliveries(connection, self.deliveries)
        if self.ranges:
            ledger.store.insert_ranges(connection, self.ranges)

    def keep(self) -> None:
        """Tells the ledger; after the commit."""
        ledger = self.ledger
        ledger._next_message = self.next_message
        for component, numbers in self.next.items():
            ledger._components[component].next = numbers
        if len(ledger._origins) > ORIGINS:
            ledger._origins.clear()
        ledger._origins.update(self.origins)
        ledger._unflushed += self.ranges
        ledger._rows += len(self.messages) + len(self.deliveries) + len(self.ranges)

    # Publishing -----------------------------------------------------------------------------

    def _origin(self, name: str) -> _Origin:
        origin = self.origins.get(name)
        if origin is None:
            known = self.ledger._origins.get(name)
            if known is None:
                known = _Origin(*state.origin(self.connection, self.ledger.tables, name))
            origin = self.origins[name] = evolve(known)
        return origin

    def _publish(self, name: str, items: list[Item], *, new: bool = False) -> list[Result]:
        """Accepts what is not stored yet; `new` says that nothing of it can be."""
        origin, most = self._origin(name), self.ledger.max_payload
        checked: list[_Parts | list[str]] = []
        for item in items:
            try:
                checked.append(check_item(item, most))
            except Refused as refused:
                checked.append([refused.code, str(refused)])
        known = {} if new and not self.careful else self._known(origin, checked)
        results: list[Result] = []
        for parts in checked:
            if isinstance(parts, list):
                results.append(parts)
                continue
            number, type, payload, priority, delay, chain = parts
            if (stored := known.get(number)) is not None:
                results.append(-1 if stored == (type, payload) else _conflict(name, number))
                continue
            due = self.now + delay if delay > 0 else None
            results.append(self._accept(origin, name, number, type, payload, priority, due, chain))
            if number > origin.highest:
                origin.highest = number
            known[number] = (type, payload)
        return results

    def _known(
        self, origin: _Origin, checked: list[_Parts | list[str]]
    ) -> dict[int, tuple[str, bytes]]:
        """Those of the messages that may be stored already: resent ones, so mostly none."""
        numbers = [
            parts[0]
            for parts in checked
            if isinstance(parts, tuple) and (self.careful or parts[0] <= origin.highest)
        ]
        if not numbers:
            return {}
        known = self.ledger.store.find(self.connection, origin.id, numbers)
        # This very commit may have them, not inserted yet.
        for row in self.messages[self.indexed :]:
            self.seen[row[1], row[2]] = (row[3], row[10])
        self.indexed = len(self.messages)
        for number in numbers:
            if (seen := self.seen.get((origin.id, number))) is not None:
                known[number] = seen
        return known

    def _accept(
        self,
        origin: _Origin,
        name: str,
        number: int,
        type: str,
        payload: bytes,
        priority: int,
        due: float | None,
        chain: str,
    ) -> int:
        ledger, applied, now = self.ledger, self.applied, self.now
        id = self.next_message
        self.next_message = id + 1
        stored = Stored(id, name, number, type, payload, priority, now, chain)
        places = []
        targets = ledger.router.route(type, priority)
        for component, lane in targets:
            mine = ledger._components[component]
            numbers = self.next.get(component)
            if numbers is None:
                numbers = self.next[component] = list(mine.next)
            seq = numbers[lane]
            numbers[lane] = seq + 1
            places.append(f"{mine.id}:{lane}:{seq}")
            self.deliveries.append((mine.id, lane, seq, id, due, 0, 0))
            entry = Entry(seq * 2 + lane, stored, due)
            applied.arrivals.setdefault(component, []).append(entry)
        self.messages.append(
            (
                id,
                origin.id,
                number,
                type,
                priority,
                due,
                now,
                chain,
                checksum(name, number, type, payload),
                " ".join(places),
                payload,
            )
        )
        source = name.partition("~")[0]
        key = (source, type)
        applied.published[key] = applied.published.get(key, 0) + 1
        if len(applied.newest) < 50:
            to = [component for component, _ in targets]
            applied.newest.append((f"{name}/{number}", type, source, now, to))
        return len(targets)

    # Settling -------------------------------------------------------------------------------

    def _settle(self, settlement: Settlement) -> None:
        name = settlement.component
        mine = self.ledger._components[name]
        keys = [entry.key for entry in settlement.done]
        keys += [one.entry.key for one in settlement.finished]
        self.ranges += ranges(mine.id, keys, self.now)
        for finished in settlement.finished:
            self._outputs(name, finished.entry, finished.messages)
        store = self.ledger.store
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
        results = self._publish(name, items, new=entry.replay == 0)
        for item, result in zip(items, results, strict=True):
            if isinstance(result, list) and result[0] != "id-conflict":
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
        barriers = self._load_barriers(keys)
        for component, finished in ops:
            stored = _body(finished.entry)
            chain = stored.chain or f"{stored.origin}/{stored.number}"
            for trigger, id, flags, (type, payload, priority, delay, own) in finished.triggers:
                action = Message(type, payload, priority, delay, own)
                wanted = Trigger(trigger, id, tuple(flags), action)
                barrier = barriers[trigger, id]
                if barrier.declare(wanted, chain, self.now):
                    self._fire(trigger, barrier)
            for trigger, id, flag in finished.flags:
                barrier = barriers[trigger, id]
                if barrier.set(flag, component, self.now):
                    self._fire(trigger, barrier)
        self._save_barriers(barriers)

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
        (result,) = self._publish(trigger, [item], new=True)
        if isinstance(result, list) or result < 0:
            raise StoreError(f"the action of trigger {trigger!r} was refused: {result}")

    def _load_barriers(self, keys: set[tuple[str, str]]) -> dict[tuple[str, str], Barrier]:
        rows, flags = state.triggers(self.connection, self.ledger.tables, sorted(keys))
        barriers = {key: Barrier() for key in keys}
        for row in rows:
            action = None
            if row.action is not None:
                action = Message(
                    row.action, row.payload or b"", row.priority or 0, row.delay or 0.0
                )
            barriers[row.name, row.id] = Barrier(
                row.state,  # type: ignore[arg-type]
                {},
                action,
                row.chain or "",
                row.declared,
                row.fired,
            )
        for flag in flags:
            value = None if flag.set is None else (flag.source or "", flag.set)
            barriers[flag.trigger, flag.id].flags[flag.flag] = value
        return barriers

    def _save_barriers(self, barriers: dict[tuple[str, str], Barrier]) -> None:
        rows, flags = [], []
        for (name, id), barrier in barriers.items():
            action = barrier.action
            rows.append(
                TriggerRow(
                    name,
                    id,
                    barrier.state,
                    action.type if action else None,
                    action.payload if action else None,
                    action.priority if action else None,
                    action.delay if action else None,
                    barrier.chain,
                    barrier.declared,
                    barrier.fired,
                )
            )
            for flag, value in barrier.flags.items():
                source, when = value or (None, None)
                flags.append(FlagRow(name, id, flag, when, source))
        state.save_triggers(self.connection, self.ledger.tables, rows, flags)


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


#: number, type, payload, priority, delay, chain
_Parts = tuple[int, str, bytes, int, float, str]


def check_item(item: Item, most: int = MAX_PAYLOAD) -> _Parts:
    """A published message's parts. Raises Refused when one of them cannot be."""
    try:
        number, type, payload, priority, delay, chain = item
    except (TypeError, ValueError):
        raise Refused("bad-message", "a message has not the six parts of Publish") from None
    if not isinstance(number, int) or not 0 <= number < 1 << 63:
        raise Refused("bad-message", f"message number {number!r} is not a whole number from 0 up")
    _check_type(type)
    if not isinstance(payload, bytes):
        raise Refused("bad-message", f"the payload of {type!r} is not bytes")
    if len(payload) > most:
        raise Refused(
            "too-large",
            f"the payload of {type!r} has {len(payload):,} bytes, the most is {most:,}",
        )
    if priority not in (0, 1):
        raise Refused("bad-message", f"priority {priority!r} of {type!r} is not 0 or 1")
    # not (delay >= 0) refuses nan as well
    if not isinstance(delay, (int, float)) or not 0 <= delay <= MAX_DELAY:
        raise Refused(
            "bad-message", f"delay {delay!r} of {type!r} is not 0 to 10 years, in seconds"
        )
    if not isinstance(chain, str) or len(chain) > 190:
        raise Refused("bad-message", f"the correlation of {type!r} is not text of at most 190")
    return number, type, payload, priority, delay, chain


def is_name(value: object, most: int = 190) -> bool:
    """Whether `value` is text that can be a key in every database; some pad keys with spaces."""
    return isinstance(value, str) and 0 < len(value) <= most and value[-1] != " "


def _check_type(type: object) -> None:
    if not isinstance(type, str) or not is_name(type) or not type.isprintable():
        raise Refused(
            "bad-message",
            f"message type {str(type)[:60]!r} is not 1 to 190 characters, the last no space",
        )


def _conflict(name: str, number: int) -> list[str]:
    return ["id-conflict", f"{name}/{number} is stored with other content"]
