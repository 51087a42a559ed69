"""AMP on the peer's side: one connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.protocols.amp import AMP, Command
from twisted.python.failure import Failure

from wmtwisted import wire
from wmtwisted.message import Delivery


class Session(AMP):
    """One connection to the broker; `received` is called with each batch of deliveries."""

    def __init__(self, received: Callable[[list[Delivery]], None]) -> None:
        super().__init__()
        self._received = received
        #: Fires with this session when it is over.
        self.lost: Deferred[Session] = Deferred()

    def call(self, command: type[Command], **arguments: Any) -> Deferred[dict[str, Any]]:
        """Sends a command. Raises Refused when the broker says so, or the connection's error."""

        def refused(failure: Failure) -> Failure:
            if isinstance(failure.value, wire.RefusedOnWire):
                raise failure.value.refused() from None
            return failure

        called: Deferred[dict[str, Any]] = self.callRemote(command, **arguments)
        return called.addErrback(refused)

    def disconnect(self) -> None:
        """Ends the connection at once."""
        cast(ITCPTransport, self.transport).abortConnection()

    @wire.Deliver.responder
    def deliver(self, batch: bytes) -> dict[str, Any]:
        """Deliveries have come."""
        self._received([Delivery(*row) for row in wire.unpack(batch)])
        return {}

    @wire.Ping.responder
    def ping(self) -> dict[str, Any]:
        """The broker wants to know whether this process is alive."""
        return {}

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is over; what was not answered fails."""
        super().connectionLost(reason)
        self.lost.callback(self)
