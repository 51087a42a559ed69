"""The client for scripts: each call connects, asks, and returns; no reactor runs.

from wmtwisted.client.blocking import publish
publish(config, [Message("NewWorkflow", {"name": "dimuon"})])
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Sequence
from typing import Any

from twisted.protocols.amp import AmpError, Command
from twisted.python.failure import Failure

from wmtwisted import wire
from wmtwisted.client.session import Session
from wmtwisted.config import Config
from wmtwisted.endpoint import Endpoint
from wmtwisted.errors import Refused, Unknown, Unreachable
from wmtwisted.message import Message, Receipt


class _Transport:
    """What AMP needs of a transport, on a blocking socket."""

    disconnecting = False

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        #: AMP has closed it, because what came is not AMP.
        self.given_up = False

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def writeSequence(self, data: Sequence[bytes]) -> None:
        self._socket.sendall(b"".join(data))

    def loseConnection(self) -> None:
        self.given_up = True

    def getPeer(self) -> str:
        return "broker"

    def getHost(self) -> str:
        return "script"


class Connection:
    """One connection to the broker of `config`, to be used in a `with` statement.

    Raises Unreachable when there is no broker, Refused when it will not do what is asked, and
    Unknown when it did not answer within `timeout` seconds. Connecting takes no longer either.
    """

    def __init__(
        self, config: Config, name: str = "script", timeout: float = 10.0, boot: str = ""
    ) -> None:
        """`boot` makes the ids of what is published, with name and number; empty: a new one."""
        self.name = name
        self.boot = boot or f"{os.getpid():x}{secrets.token_hex(4)}"
        self.timeout = timeout
        self._address = config.broker.listen
        self._number = 0

    def __enter__(self) -> Connection:
        end = time.monotonic() + self.timeout
        self._socket = _connect(self._address, self.timeout)
        self._transport = _Transport(self._socket)
        self._session = Session(lambda deliveries: None)
        self._session.makeConnection(self._transport)
        hello = {"name": self.name, "boot": self.boot, "version": wire.VERSION}
        try:
            self._call(wire.Hello, hello, end)
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def call(self, command: type[Command], **arguments: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer."""
        return self._call(command, arguments, time.monotonic() + self.timeout)

    def _call(
        self, command: type[Command], arguments: dict[str, Any], end: float
    ) -> dict[str, Any]:
        results: list[Any] = []
        try:
            self._wait_until(end)
            self._session.call(command, **arguments).addBoth(results.append)
            while not results:
                self._wait_until(end)
                data = self._socket.recv(1 << 16)
                if not data:
                    raise Unknown("the broker closed the connection before it answered")
                try:
                    self._session.dataReceived(data)
                except AmpError:
                    self._transport.given_up = True
                if self._transport.given_up:
                    raise Unreachable(
                        f"what answers at {self._address} is no broker of this version",
                        "look at broker.listen in the configuration, on both sides",
                    )
        except TimeoutError:
            raise Unknown(f"no answer from the broker within {self.timeout:g} s") from None
        except OSError as error:
            why = error.strerror or str(error)
            raise Unknown(f"the connection to the broker broke ({why.lower()})") from error
        if isinstance(results[0], Failure):
            results[0].raiseException()
        answer: dict[str, Any] = results[0]
        return answer

    def _wait_until(self, end: float) -> None:
        """What the socket does next raises TimeoutError at `end`."""
        self._socket.settimeout(max(0.001, end - time.monotonic()))

    def publish(self, messages: Sequence[Message]) -> list[Receipt]:
        """Publishes; returns when all are on disk."""
        first, self._number = self._number, self._number + len(messages)
        items = [
            [first + index, one.type, one.payload, one.priority, one.delay, one.correlation]
            for index, one in enumerate(messages)
        ]
        results = wire.unpack(self.call(wire.Publish, batch=wire.pack(items))["results"])
        receipts = []
        for index, result in enumerate(results):
            if isinstance(result, list):
                raise Refused(*result)
            id = f"{self.name}~{self.boot}/{first + index}"
            receipts.append(Receipt(id, max(result, 0), result < 0))
        return receipts

    def status(self) -> dict[str, Any]:
        """The broker's counters, see `broker.service.Broker.full_status`."""
        status: dict[str, Any] = json.loads(self.call(wire.Status)["status"])
        return status

    def history(self, **filter: Any) -> list[list[Any]]:
        """Stored messages by the parts of `store.history.Filter`.

        Each is id, message id, type, source, time, correlation, payload and who got it.
        """
        answer = self.call(wire.History, filter=wire.pack(filter))
        rows: list[list[Any]] = wire.unpack(answer["records"])
        return rows

    def replay(self, dry_run: bool, **filter: Any) -> dict[str, Any]:
        """Re-queues stored messages for `component`, or says what that would deliver."""
        answer = self.call(wire.Replay, filter=wire.pack(filter), dry_run=dry_run)
        result: dict[str, Any] = wire.unpack(answer["answer"])
        return result


def publish(config: Config, messages: Sequence[Message], timeout: float = 10.0) -> list[Receipt]:
    """Publishes from a script, over a connection of its own."""
    end = time.monotonic() + timeout
    with Connection(config, timeout=timeout) as connection:
        connection.timeout = max(0.1, end - time.monotonic())
        return connection.publish(messages)


def status(config: Config, timeout: float = 10.0) -> dict[str, Any]:
    """The broker's counters."""
    with Connection(config, timeout=timeout) as connection:
        return connection.status()


def _connect(address: Endpoint, timeout: float) -> socket.socket:
    family = socket.AF_UNIX if address.kind == "unix" else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.settimeout(timeout)
    try:
        made.connect(address.path if address.kind == "unix" else (address.host, address.port))
    except OSError as error:
        made.close()
        why = error.strerror or str(error)
        raise Unreachable(
            f"cannot reach the broker at {address} ({why.lower()})",
            "start it with `wm up`, or say which one with --config",
        ) from error
    return made
