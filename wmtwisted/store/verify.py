"""Proves that a store has lost nothing, or names what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from attrs import define, field, frozen
from sqlalchemy import Connection, Table, func, select, text

from wmtwisted.store import history
from wmtwisted.store.history import Fate, Filter, Place, Record
from wmtwisted.store.state import components
from wmtwisted.store.tables import Tables

#: Messages read at a time.
STEP = 2000
#: Findings of one kind that are named one by one.
NAMED = 20


@frozen
class Finding:
    """Something that is not as it must be."""

    #: `database`, `damaged`, `lost`, `double` or `orphan`.
    kind: str
    what: str
    #: What to do about it.
    advice: str


@define
class Balance:
    """One component's deliveries: accepted = waiting + settled + dead + lost."""

    accepted: int = 0
    fates: Counter[Fate] = field(factory=Counter)


@define
class Report:
    """What was found."""

    messages: int = 0
    findings: list[Finding] = field(factory=list)
    #: By kind, also those that are not named.
    counts: Counter[str] = field(factory=Counter)
    balances: dict[str, Balance] = field(factory=dict)

    def add(self, kind: str, what: str, advice: str) -> None:
        """Counts a finding, and names it unless there were many of its kind."""
        self.counts[kind] += 1
        if self.counts[kind] <= NAMED:
            self.findings.append(Finding(kind, what, advice))


def verify(connection: Connection, tables: Tables) -> Report:
    """Checks a store on one snapshot, whether or not a broker is using it.

    Every message against its checksum, every delivery for having exactly one place, and every row
    of a queue for having a message.
    """
    report = Report()
    _check_database(connection, report)
    names = {row.id: row.name for row in components(connection, tables)}
    report.balances = {name: Balance() for name in names.values()}
    seen: Counter[tuple[int, str]] = Counter()
    for rows in _messages(connection, tables):
        report.messages += len(rows)
        _check_messages(report, rows)
        _check_places(connection, tables, report, rows, names, seen)
    for component, name in names.items():
        _check_orphans(connection, tables, report, component, name, seen)
    return report


def _check_database(connection: Connection, report: Report) -> None:
    if connection.dialect.name != "sqlite":
        return
    for (line,) in connection.execute(text("PRAGMA quick_check(20)")):
        if line != "ok":
            report.add("database", f"SQLite: {line}", "restore the file from a copy")


def _messages(connection: Connection, tables: Tables) -> Iterator[list[Record]]:
    after = -1
    while rows := history.records(connection, tables, Filter(after=after, limit=STEP)):
        after = rows[-1].message.id
        yield rows


def _check_messages(report: Report, rows: list[Record]) -> None:
    for row in rows:
        if row.damaged:
            stored = row.message
            report.add(
                "damaged",
                f"message {stored.origin}/{stored.number} (row {stored.id}, type {stored.type!r}) "
                "is not what was accepted",
                "it is never delivered; publish it again from its source",
            )


def _check_places(
    connection: Connection,
    tables: Tables,
    report: Report,
    rows: list[Record],
    names: dict[int, str],
    seen: Counter[tuple[int, str]],
) -> None:
    for component, name in names.items():
        of = {place: row for row in rows for place in row.places if place.component == component}
        found = history.fates(connection, tables, name, list(of))
        balance = report.balances[name]
        balance.accepted += len(of)
        balance.fates.update(found.values())
        for place, fate in found.items():
            seen[component, fate] += 1
            if fate == "lost":
                stored = of[place].message
                report.add(
                    "lost",
                    f"{name}: {stored.type} {stored.origin}/{stored.number} was queued as "
                    f"{place.lane}:{place.seq} and is in no table",
                    f"wm replay --component {name} --lost",
                )
    for row in rows:
        for place in row.places:
            if place.component not in names:
                report.add(
                    "orphan",
                    f"message row {row.message.id} went to component {place.component}, which is "
                    "not known",
                    "restore the component table from a copy",
                )


def _check_orphans(
    connection: Connection,
    tables: Tables,
    report: Report,
    component: int,
    name: str,
    seen: Counter[tuple[int, str]],
) -> None:
    """Rows of the component's tables that no message's routes account for, and rows in two."""
    queue = tables.queue(name)
    places: list[Table] = [queue, tables.buffer_in, tables.history, tables.dead]
    rows = sum(_count(connection, table, component, table is not queue) for table in places)
    known = sum(seen[component, fate] for fate in ("waiting", "settled", "dead"))
    if rows == known:
        return
    found: dict[tuple[int, int], str] = {}
    for table in places:
        query = select(table.c.lane, table.c.seq, table.c.message)
        if table is not queue:
            query = query.where(table.c.component == component)
        for lane, seq, message in connection.execute(query):
            if (lane, seq) in found:
                report.add(
                    "double",
                    f"{name}: delivery {lane}:{seq} is in {found[lane, seq]} and in {table.name}",
                    f"delete the row of {found[lane, seq]} while the broker is stopped",
                )
            found[lane, seq] = table.name
            record = history.records(connection, tables, Filter(after=message - 1, limit=1))
            here = record[0].places if record and record[0].message.id == message else ()
            if Place(component, lane, seq) not in here:
                report.add(
                    "orphan",
                    f"{name}: {table.name} has delivery {lane}:{seq} of message row {message}, "
                    "which does not know of it",
                    f"delete the row of {table.name} while the broker is stopped",
                )


def _count(connection: Connection, table: Table, component: int, shared: bool) -> int:
    query = select(func.count()).select_from(table)
    if shared:
        query = query.where(table.c.component == component)
    return int(connection.execute(query).scalar_one())
