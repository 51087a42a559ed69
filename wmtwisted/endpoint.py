"""Where a service listens: a UNIX socket or a loopback TCP port, from `unix:PATH` or `tcp:PORT`."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from attrs import frozen

#: The kernel takes 107 bytes; some room is left for what others append.
SOCKET_PATH_BYTES = 100

EXPECTED = "unix:PATH or tcp:PORT[:interface=127.0.0.1]"


@frozen
class Endpoint:
    """One place to listen at and to connect to, never reachable from another machine."""

    kind: Literal["unix", "tcp"]
    #: The socket's path, absolute, or relative to the current folder when it would be too long.
    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def server(self) -> str:
        """The description that `twisted.application.strports.service` takes."""
        if self.kind == "unix":
            return f"unix:{_escaped(self.path)}:mode=600:lockfile=1"
        return f"tcp:{self.port}:interface={self.host}"

    @property
    def client(self) -> str:
        """The description that `twisted.internet.endpoints.clientFromString` takes."""
        if self.kind == "unix":
            return f"unix:{_escaped(self.path)}"
        return f"tcp:host={self.host}:port={self.port}"

    @property
    def url(self) -> str:
        """The address for a browser; a UNIX socket is shown as the path it has."""
        return self.path if self.kind == "unix" else f"http://{self.host}:{self.port}/"

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.kind == "unix" else f"tcp:{self.host}:{self.port}"


def parse_endpoint(text: str, home: Path) -> Endpoint:
    """The endpoint that `text` describes, its path relative to `home`.

    Raises ValueError("expected ...") for anything else, for an interface that other machines
    reach, and for a socket path that is too long for the kernel even from the current folder.
    """
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest:
        return Endpoint("unix", path=_socket_path(home / Path(rest).expanduser()))
    if kind == "tcp" and rest:
        port, _, options = rest.partition(":")
        name, _, interface = (options or "interface=127.0.0.1").partition("=")
        if name != "interface" or not port.isascii() or not port.isdigit():
            raise ValueError(f"expected {EXPECTED}")
        if not 1 <= int(port) <= 65535:
            raise ValueError("expected a port from 1 to 65535")
        return Endpoint("tcp", host=_loopback(interface), port=int(port))
    raise ValueError(f"expected {EXPECTED}")


def _loopback(interface: str) -> str:
    if interface == "localhost":
        return "127.0.0.1"
    try:
        address = ip_address(interface)
    except ValueError:
        raise ValueError(f"expected {EXPECTED}") from None
    if address.version != 4 or not address.is_loopback:
        raise ValueError("expected a loopback interface (127.0.0.1): nothing is encrypted here")
    return interface


def _socket_path(path: Path) -> str:
    for candidate in (os.path.normpath(path), os.path.relpath(path)):
        if len(os.fsencode(candidate)) <= SOCKET_PATH_BYTES:
            return candidate
    raise ValueError(
        f"expected a socket path of at most {SOCKET_PATH_BYTES} bytes, this one has "
        f"{len(os.fsencode(path))}: use a shorter one, or tcp:PORT"
    )


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace("=", "\\=")
