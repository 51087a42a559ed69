"""The words of the bus: messages, deliveries, and the triggers that synchronize them. Pure data."""

from __future__ import annotations

import json
from typing import Any

from attrs import define, field, frozen


def encode(value: Any) -> bytes:
    """A payload as bytes: bytes as they are, text as UTF-8, None as nothing, all else as JSON."""
    if isinstance(value, bytes):
        return value
    if value is None:
        return b""
    if isinstance(value, str):
        return value.encode()
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


@frozen
class Message:
    """What is published: a type, which decides who receives it, and a payload."""

    #: What kind of message this is, e.g. `SubmitJob`; `Component:Type` addresses one component.
    type: str
    #: Any JSON value, text or bytes; kept as bytes.
    payload: bytes = field(default=b"", converter=encode)
    #: 1 goes into the priority lane of every receiver, 0 into the lane the receiver chose.
    priority: int = field(default=0, converter=int)
    #: Seconds to wait before the first delivery; the broker turns it into an absolute time.
    delay: float = 0.0
    #: Follows a chain of messages from end to end; inherited from the handled message when empty.
    correlation: str = ""

    def json(self) -> Any:
        """The payload read as JSON."""
        return json.loads(self.payload)


@frozen
class Flag:
    """One of the parallel states that a trigger waits for has been reached."""

    trigger: str
    id: str
    flag: str


@frozen
class Trigger:
    """A barrier: when all `flags` of `(name, id)` are set, `action` is published, exactly once.

    Declaring the same trigger again changes nothing; flags may be set before it is declared.
    """

    name: str
    id: str
    flags: tuple[str, ...]
    action: Message


#: What a handler may return, one or many.
Output = Message | Flag | Trigger


@frozen
class Receipt:
    """What the broker said of one published message."""

    #: The id under which it is stored.
    id: str
    #: How many components it was queued for; what nobody is interested in stays in the history.
    destinations: int
    #: It was stored before, by an earlier call with the same id.
    duplicate: bool = False


@define(eq=False)
class Delivery:
    """A message as a component receives it.

    A delivery is given again when the component's connection is lost, its lease runs out, its
    handler asks for a retry, or an operator replays it: `attempt` and `reason` tell. The fields
    stand in the order in which they cross the wire.
    """

    #: Its place in the component's queue, which with the component's name is unique.
    key: int
    type: str
    payload: bytes
    #: Who published it: `name~boot` for a program, where each start has another boot, and
    #: `name~store` for what a component's handlers return, or what a trigger publishes.
    origin: str
    #: With the origin, the message's id: the same for every receiver and every attempt.
    number: int
    #: When the broker accepted it, in seconds since the epoch.
    published: float
    #: 1 for the first delivery.
    attempt: int
    #: `new`, `lost` (the connection), `lease` (it ran out), `retry`, `released` (the process that
    #: had it was stopped), `recovered` (the broker restarted) or `replay`.
    reason: str
    priority: int = 0
    #: The chain this message belongs to; "" when it starts one.
    chain: str = ""
    #: The number of the replay that brought it back, or 0.
    replay: int = 0

    @property
    def id(self) -> str:
        """The message's id as text, `origin/number`."""
        return f"{self.origin}/{self.number}"

    @property
    def source(self) -> str:
        """The name of the publisher."""
        return self.origin.partition("~")[0]

    @property
    def correlation(self) -> str:
        """The id that follows a chain of messages from end to end."""
        return self.chain or self.id

    def json(self) -> Any:
        """The payload read as JSON."""
        return json.loads(self.payload)
