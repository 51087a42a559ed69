"""The sections of the configuration: what each value means, and what it may be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, NewType, TypeVar

from attrs import Factory, frozen

from wmtwisted.endpoint import Endpoint

N = TypeVar("N", int, float)

#: A SQLAlchemy URL; the file of an SQLite one is absolute.
DatabaseURL = NewType("DatabaseURL", str)


def _positive(value: N) -> N:
    if value <= 0:
        raise ValueError("expected more than 0")
    return value


def _not_negative(value: N) -> N:
    if value < 0:
        raise ValueError("expected 0 or more")
    return value


def _not_empty(values: tuple[float, ...]) -> tuple[float, ...]:
    if not values:
        raise ValueError("expected one number at least")
    return values


def _matches(pattern: str, expected: str) -> Any:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"expected {expected}")
        return value

    return check


NAME = r"[A-Za-z][A-Za-z0-9_]{0,39}"
Name = Annotated[str, _matches(NAME, "a letter, then letters, digits or _, 40 at most")]
Prefix = Annotated[str, _matches(r"[a-z][a-z0-9_]{0,15}", "a-z, 0-9 and _, 16 at most")]
ClassPath = Annotated[str, _matches(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", "module:Class")]
Count = Annotated[int, _positive]
Seconds = Annotated[float, _positive]


@frozen
class StoreConfig:
    """The two databases."""

    #: Messages; one broker alone opens it.
    bus: DatabaseURL
    #: Workflows, files and jobs; every component opens it.
    jobs: DatabaseURL
    #: Begins the names of the bus' tables.
    prefix: Prefix


@frozen
class BrokerConfig:
    """The broker and its rules of delivery."""

    listen: Endpoint
    #: The source of the messages that the broker publishes itself.
    name: Name
    #: Messages held in memory for each component.
    window: Count
    #: Seconds a component may keep a message.
    lease: Seconds
    #: Deliveries before a message becomes a dead letter.
    attempts: Count
    #: Seconds before the second delivery, the third, ...; the last one repeats.
    backoff: Annotated[tuple[Annotated[float, _not_negative], ...], _not_empty]
    #: Days that handled messages stay in the history.
    retention_days: Seconds


@frozen
class WebConfig:
    """The page."""

    #: None: no page.
    listen: Endpoint | None
    #: Host names a browser may use, besides the loopback's.
    hosts: tuple[str, ...]


@frozen
class FlowConfig:
    """Which component handles and publishes what."""

    #: The flow file.
    spec: Path


@frozen
class BatchConfig:
    """Where jobs run."""

    #: Jobs that run at the same time.
    slots: Count
    #: The local batch system's own folder.
    root: Path


@frozen
class PathsConfig:
    """Where things are kept."""

    #: A folder per job while it lives.
    sandbox: Path
    #: The files that jobs made, and archived logs.
    storage: Path
    #: A log file per process.
    log: Path


@frozen
class ComponentConfig:
    """One component's process."""

    #: `module:Class` of its component class.
    class_: ClassPath
    #: Handlers that run at the same time.
    threads: Count = 4
    #: Messages held at the component, not yet settled.
    prefetch: Count = 64
    #: What the component itself can be told; it checks them.
    options: dict[str, Any] = Factory(dict)
