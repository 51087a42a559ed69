"""Barriers between memory and the store."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from wmtwisted.broker.triggers import Barrier
from wmtwisted.message import Message
from wmtwisted.store import state
from wmtwisted.store.state import FlagRow, TriggerRow
from wmtwisted.store.tables import Tables

#: (trigger, id)
Key = tuple[str, str]


def load(connection: Connection, tables: Tables, keys: Iterable[Key]) -> dict[Key, Barrier]:
    """The barriers under these keys, new ones for those that are not stored."""
    barriers = {key: Barrier() for key in sorted(keys)}
    rows, flags = state.triggers(connection, tables, barriers)
    for row in rows:
        action = None
        if row.action is not None:
            action = Message(row.action, row.payload or b"", row.priority or 0, row.delay or 0.0)
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


def save(connection: Connection, tables: Tables, barriers: dict[Key, Barrier]) -> None:
    """Stores barriers in the place of what was there."""
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
    state.save_triggers(connection, tables, rows, flags)
