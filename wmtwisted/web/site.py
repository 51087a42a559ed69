"""The HTTP side of the page: connections that end, bodies that are refused."""

# Twisted Web is not annotated.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request, Site

from wmtwisted.web.pages import make_resource
from wmtwisted.web.source import Source

_TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class BodilessRequest(Request):
    """Refuses a request body before it is stored: reading needs none."""

    _refused = False

    def gotLength(self, length: int | None) -> None:
        """Called when the headers are read; None announces a body of unknown length."""
        if length == 0:
            super().gotLength(length)
            return
        self._refused = True
        transport = self.channel.transport
        if transport is not None:
            transport.write(_TOO_LARGE)
            transport.loseConnection()

    def handleContentChunk(self, data: bytes) -> None:
        """Called with each piece of the body."""

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Called when the whole request is here."""
        if not self._refused:
            super().requestReceived(command, path, version)


class PageSite(Site):
    """A site that shows no tracebacks and forgets idle connections."""

    requestFactory = BodilessRequest
    displayTracebacks = False

    def log(self, request: Any) -> None:
        """Called after each answer: a page that asks every second would fill the log."""


def make_site(
    source: Source,
    clock: IReactorTime,
    *,
    hosts: Iterable[str] = (),
    interval: float = 1.0,
) -> PageSite:
    """The page as a factory for an endpoint; the arguments are those of `make_resource`."""
    resource = make_resource(source, clock, hosts=hosts, interval=interval)
    return PageSite(resource, timeout=60, reactor=clock)
