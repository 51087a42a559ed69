"""Every command between the broker and its peers, and how batches cross the wire.

A peer (a component, or a client that only publishes) connects to the broker and says who it is:

    peer   --Hello-->    broker     name and boot; nothing else is answered before it
    peer   --Attach-->   broker     a component's interests and its credit; deliveries follow
    peer   --Publish-->  broker     a batch of messages; answered after the commit
    broker --Deliver-->  peer       a batch of deliveries, never more unsettled ones than the credit
    peer   --Settle-->   broker     a batch of outcomes; answered after the commit
    peer   --Detach-->   broker     the process stops: what it has not settled goes back as it was
    peer   --Extend-->   broker     deliveries that are still worked on: their leases start anew
    broker --Ping-->     peer       a peer that does not answer is disconnected
    tool   --Status, History, Replay-->  broker    what operators ask

Batches are msgpack in one argument, since a box or an `AmpList` row for each message costs tens of
microseconds on each side. The tuples in them are described at the pack and unpack functions.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgpack  # type: ignore[import-untyped]
from twisted.protocols import amp

from wmtwisted.errors import Refused

#: Raised when a peer speaks another version; changed with every incompatible change below.
VERSION = 1

#: The longest payload of one message, in bytes.
MAX_PAYLOAD = 16 * 1024 * 1024

#: The longest delay of a message or of a retry, in seconds.
MAX_DELAY = 10 * 365 * 86400.0

_CHUNK = 0xFFFF


class Bulk(amp.Argument):
    """Bytes of any length: what exceeds AMP's 65,535 continues under `name.1`, `name.2`, ..."""

    def toBox(
        self, name: bytes, strings: dict[bytes, bytes], objects: dict[str, Any], proto: object
    ) -> None:
        value = objects[name.decode()]
        strings[name] = value[:_CHUNK]
        for part, start in enumerate(range(_CHUNK, len(value), _CHUNK), 1):
            strings[b"%s.%d" % (name, part)] = value[start : start + _CHUNK]

    def fromBox(
        self, name: bytes, strings: dict[bytes, bytes], objects: dict[str, Any], proto: object
    ) -> None:
        value = strings[name]
        if len(value) == _CHUNK:
            parts = [value]
            while (more := strings.get(b"%s.%d" % (name, len(parts)))) is not None:
                parts.append(more)
            value = b"".join(parts)
        objects[name.decode()] = value


class Fatal(Exception):
    """The peer broke the protocol, or the broker is going down; the connection is closed."""


class RefusedOnWire(Exception):
    """A refusal as it crosses the wire: `code: message`."""

    @classmethod
    def of(cls, refused: Refused) -> RefusedOnWire:
        """The wire's form of `refused`."""
        return cls(f"{refused.code}: {refused}")

    def refused(self) -> Refused:
        """The refusal again, on the other side."""
        code, _, text = str(self).partition(": ")
        return Refused(code, text)


class _Command(amp.Command):
    # AMP closes the connection on an error that is not listed here, and lists by exact class.
    errors: ClassVar[dict[type[Exception], bytes]] = {RefusedOnWire: b"REFUSED"}
    fatalErrors: ClassVar[dict[type[Exception], bytes]] = {Fatal: b"FATAL"}


class Hello(_Command):
    """Who the peer is. `boot` is new with each start of its process: with the name it makes ids."""

    arguments: ClassVar[list[Any]] = [
        (b"name", amp.Unicode()),
        (b"boot", amp.Unicode()),
        (b"version", amp.Integer()),
    ]
    response: ClassVar[list[Any]] = [(b"broker", amp.Unicode())]


class Attach(_Command):
    """The peer is a process of component `name of Hello`; it gets deliveries from now on.

    `interests` is packed `[[type, lane], ...]`, the whole list: others are withdrawn.
    """

    arguments: ClassVar[list[Any]] = [(b"interests", Bulk()), (b"credit", amp.Integer())]
    response: ClassVar[list[Any]] = [(b"waiting", amp.Integer())]


class Publish(_Command):
    """A batch of messages, each `[number, type, payload, priority, delay, correlation]`.

    The answer has one element for each: how many components got it, -1 for one that was stored
    before, or `[code, text]` for one that was refused.
    """

    arguments: ClassVar[list[Any]] = [(b"batch", Bulk())]
    response: ClassVar[list[Any]] = [(b"results", Bulk())]


class Settle(_Command):
    """A batch of outcomes: `[done, finished, retry, failed]`.

    `done` is a list of keys; `finished` of `[key, messages, flags, triggers]`, where a message is
    as in Publish without its number, a flag `[trigger, id, flag]` and a trigger `[name, id, flags,
    message]`; `retry` of `[key, delay, reason]`; `failed` of `[key, reason]`. The answer lists the
    keys that were not this peer's to settle (any more).
    """

    arguments: ClassVar[list[Any]] = [(b"batch", Bulk())]
    response: ClassVar[list[Any]] = [(b"stale", Bulk())]


class Detach(_Command):
    """No more deliveries. Those that are not settled count as never given."""

    arguments: ClassVar[list[Any]] = []
    response: ClassVar[list[Any]] = []


class Extend(_Command):
    """The keys of deliveries that are still worked on."""

    arguments: ClassVar[list[Any]] = [(b"keys", Bulk())]
    response: ClassVar[list[Any]] = []


class Deliver(_Command):
    """A batch of deliveries, each the fields of `message.Delivery` in their order."""

    arguments: ClassVar[list[Any]] = [(b"batch", Bulk())]
    response: ClassVar[list[Any]] = []
    requiresAnswer = False


class Ping(_Command):
    """Are you there?"""

    arguments: ClassVar[list[Any]] = []
    response: ClassVar[list[Any]] = []


class Status(_Command):
    """The broker's counters, as JSON; `broker.service.Broker.status` has the form."""

    arguments: ClassVar[list[Any]] = []
    response: ClassVar[list[Any]] = [(b"status", Bulk())]


class History(_Command):
    """Stored messages by a packed filter, oldest first; packed rows of `store.history.Record`."""

    arguments: ClassVar[list[Any]] = [(b"filter", Bulk())]
    response: ClassVar[list[Any]] = [(b"records", Bulk())]


class Replay(_Command):
    """Re-queue stored messages for one component, by a packed filter, or count what that would do.

    The answer is packed `{replay, count, sample}`; `replay` is 0 for a dry run.
    """

    arguments: ClassVar[list[Any]] = [(b"filter", Bulk()), (b"dry_run", amp.Boolean())]
    response: ClassVar[list[Any]] = [(b"answer", Bulk())]


pack = msgpack.Packer(autoreset=True).pack


def unpack(data: bytes) -> Any:
    """The value of packed bytes. Raises Refused when they are none."""
    try:
        return msgpack.unpackb(data, strict_map_key=False)
    except (TypeError, ValueError) as error:  # a TypeError is a key that cannot be one
        raise Refused("bad-message", f"a batch cannot be unpacked ({error})") from None
