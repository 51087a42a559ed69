"""The page's own files, read once and served from memory."""

# Twisted Web is not annotated.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from attrs import frozen
from twisted.web.http import CACHED
from twisted.web.server import Request

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "woff2": "font/woff2",
}


@frozen
class StaticFile:
    """One file, ready to send."""

    content: bytes
    type: str
    #: Changes with the content, so a browser that asks again gets a short answer.
    etag: bytes

    def send(self, request: Request) -> bytes:
        """The body of the answer, empty when the browser has this very content already."""
        request.setHeader(b"Content-Type", self.type.encode())
        # Kept, but asked for every time: an upgrade shows at the next load.
        request.setHeader(b"Cache-Control", b"no-cache")
        if request.setETag(self.etag) is CACHED:
            return b""
        return self.content


def load_files() -> dict[str, StaticFile]:
    """Every file of the page by its path below `static/`, e.g. `vendor/dagre.js`.

    Only what is in this dict can be asked for, so no path leads out of the folder.
    """
    return dict(_walk(files("wmtwisted.web") / "static", ""))


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, StaticFile]]:
    for entry in folder.iterdir():
        path = prefix + entry.name
        if entry.is_dir():
            yield from _walk(entry, path + "/")
        elif (kind := entry.name.rpartition(".")[2]) in _TYPES:
            content = entry.read_bytes()
            etag = b'"%s"' % sha256(content).hexdigest()[:32].encode()
            yield path, StaticFile(content, _TYPES[kind], etag)
