"""The routes of the page: its files, the JSON it reads, and its stream of news."""

# Twisted Web is not annotated.
# mypy: allow-untyped-calls

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, cast, get_args

from klein import Klein
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException

from wmtwisted.errors import NotFound, WMError
from wmtwisted.web.feed import Feed
from wmtwisted.web.files import load_files
from wmtwisted.web.guard import Guard
from wmtwisted.web.source import Health, Source, Stream

#: Seconds until the reader is told that there is no answer.
TIMEOUT = 10.0

#: Seconds within which a healthy broker answers.
HEALTH_TIMEOUT = 2.0

#: Jobs per request: at most, and when not said.
JOBS_MAX, JOBS_DEFAULT = 500, 100

#: The end of a log that is shown, in characters.
LOG_MAX = 256 * 1024

#: The largest id a database gives.
ID_MAX = 2**63 - 1


class BadQuery(WMError):
    """A query of the page cannot be understood."""

    code = "bad-query"


class Pages:
    """What a browser can ask for."""

    app = Klein()
    _log = Logger()

    def __init__(self, source: Source, clock: IReactorTime, interval: float) -> None:
        self._source = source
        self._clock = clock
        self._feed = Feed(source, clock, interval)
        self._files = load_files()

    @app.route("/")
    def index(self, request: Request) -> bytes:
        """The page itself."""
        return self._files["index.html"].send(request)

    @app.route("/static/<path:name>")
    def file(self, request: Request, name: str) -> bytes:
        """A script, a style, a font or a picture of the page."""
        if name not in self._files:
            return _error(request, 404, NotFound(f"there is no file {name[:100]!r}"))
        return self._files[name].send(request)

    @app.route("/health")
    def health(self, request: Request) -> Deferred[bytes]:
        """200 while the broker makes progress, else 503; either way `{"ok", "reason"}`."""

        def failed(failure: Failure) -> Health:
            if failure.check(CancelledError, TimeoutError):
                return {"ok": False, "reason": f"no answer within {HEALTH_TIMEOUT:g} s"}
            if isinstance(failure.value, WMError):
                return {"ok": False, "reason": str(failure.value)}
            self._log.failure("the health check failed", failure)
            return {"ok": False, "reason": "the health check failed; the broker's log says why"}

        def answered(health: Health) -> bytes:
            request.setResponseCode(200 if health["ok"] else 503)
            return _json(request, health)

        deferred: Deferred[Any] = maybeDeferred(self._source.health)
        deferred.addTimeout(HEALTH_TIMEOUT, self._clock)
        return deferred.addErrback(failed).addCallback(answered)

    @app.route("/api/events")
    def events(self, request: Request) -> Deferred[None] | bytes:
        """Server-sent events `status`, `workflows`, `trouble`, and `beat` when nothing is new."""
        if request.method == b"HEAD":
            request.setHeader(b"Content-Type", b"text/event-stream")
            return b""
        if self._feed.full():
            request.setHeader(b"Retry-After", b"10")
            return _error(request, 503, WMError("too many pages are open", "close one"))
        return self._feed.join(request)

    @app.route("/api/flow")
    def flow(self, request: Request) -> Deferred[bytes]:
        """The flow graph."""
        return self._answer(request, self._source.flow)

    @app.route("/api/status")
    def status(self, request: Request) -> Deferred[bytes]:
        """The bus at this moment."""
        return self._answer(request, self._source.status)

    @app.route("/api/workflows")
    def workflows(self, request: Request) -> Deferred[bytes]:
        """All workflows with their tasks."""
        return self._answer(request, self._source.workflows)

    @app.route("/api/spectrum")
    def spectrum(self, request: Request) -> Deferred[bytes]:
        """The merged spectrum of `?workflow=`, or null."""

        def ask() -> Any:
            workflow = _text(request, "workflow")
            if workflow is None:
                raise BadQuery("workflow is missing", "ask for /api/spectrum?workflow=NAME")
            return self._source.spectrum(workflow)

        return self._answer(request, ask)

    @app.route("/api/jobs")
    def jobs(self, request: Request) -> Deferred[bytes]:
        """Jobs by `?workflow=&task=&state=&after=&limit=`, as `{"jobs", "next"}`.

        `next` is the `after` of the following page, or null when this was the last.
        """

        def ask() -> Any:
            limit = _number(request, "limit", JOBS_DEFAULT, 1, JOBS_MAX)
            # One more than asked for tells whether there is a next page.
            found: Deferred[Any] = maybeDeferred(
                self._source.jobs,
                _text(request, "workflow"),
                _text(request, "task"),
                _text(request, "state"),
                _number(request, "after", 0, 0, ID_MAX),
                limit + 1,
            )
            return found.addCallback(
                lambda rows: {
                    "jobs": rows[:limit],
                    "next": rows[limit - 1]["id"] if len(rows) > limit else None,
                }
            )

        return self._answer(request, ask)

    @app.route("/api/jobs/<job_id>")
    def job(self, request: Request, job_id: str) -> Deferred[bytes]:
        """A job with its history."""
        return self._answer(request, lambda: self._source.job(_job_id(job_id)))

    @app.route("/api/jobs/<job_id>/log/<stream>")
    def log(self, request: Request, job_id: str, stream: str) -> Deferred[bytes]:
        """The end of a job's `stdout` or `stderr`, as plain text."""

        def ask() -> Any:
            for known in get_args(Stream):
                if stream == known:
                    return self._source.log(_job_id(job_id), known)
            raise NotFound(f"there is no log {stream[:100]!r}", "stdout or stderr")

        def send(text: str) -> bytes:
            request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
            return text[-LOG_MAX:].encode("utf-8", "replace")

        return self._answer(request, ask, send)

    @app.handle_errors(HTTPException)
    def unknown(self, request: IRequest, failure: Failure) -> bytes:
        """What no route knows."""
        code = getattr(failure.value, "code", None) or 500
        return _error(cast(Request, request), code, NotFound("there is nothing at this address"))

    def _answer(
        self,
        request: Request,
        ask: Callable[[], Any],
        send: Callable[[Any], bytes] | None = None,
    ) -> Deferred[bytes]:
        """What `ask` answers, as JSON or through `send`; every failure as a JSON error."""

        def failed(failure: Failure) -> bytes:
            error = failure.value
            match error:
                case BadQuery():
                    return _error(request, 400, error)
                case NotFound():
                    return _error(request, 404, error)
                case WMError():
                    return _error(request, 503, error)
                case CancelledError() | TimeoutError():
                    return _error(request, 504, WMError(f"no answer within {TIMEOUT:g} s"))
            self._log.failure("the page cannot answer {path}", failure, path=request.path)
            return _error(request, 500, WMError("this failed; the broker's log says why"))

        deferred = maybeDeferred(ask)
        deferred.addTimeout(TIMEOUT, self._clock)
        deferred.addCallback(send or (lambda value: _json(request, value)))
        return deferred.addErrback(failed)


def make_resource(
    source: Source,
    clock: IReactorTime,
    *,
    hosts: Iterable[str] = (),
    interval: float = 1.0,
) -> IResource:
    """The whole page over `source`.

    `hosts` are names, besides the loopback's, under which a browser may ask for it; `interval` is
    the time in seconds between two looks at the source while somebody watches.
    """
    return Guard(Pages(source, clock, interval).app.resource(), hosts)


def _json(request: Request, value: object) -> bytes:
    request.setHeader(b"Content-Type", b"application/json")
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _error(request: Request, code: int, error: WMError) -> bytes:
    request.setResponseCode(code)
    body = {"code": error.code, "message": str(error), "hint": error.hint}
    return _json(request, {"error": body})


def _text(request: Request, name: str) -> str | None:
    """A query argument; None when it is absent or empty."""
    values = (request.args or {}).get(name.encode(), [])
    if len(values) > 1:
        raise BadQuery(f"{name} is given {len(values)} times", "give it once")
    try:
        value = values[0].decode() if values else ""
    except UnicodeDecodeError:
        raise BadQuery(f"{name} is not UTF-8") from None
    if len(value) > 500:
        raise BadQuery(f"{name} has {len(value)} characters", "at most 500")
    return value or None


def _number(request: Request, name: str, default: int, low: int, high: int) -> int:
    """A query argument as a whole number within limits."""
    value = _text(request, name)
    if value is None:
        return default
    if not (value.isascii() and value.isdigit() and len(value) < 20 and low <= int(value) <= high):
        raise BadQuery(f"{name} is {value[:30]!r}", f"a number from {low} to {high}")
    return int(value)


def _job_id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 0 < int(text) <= ID_MAX):
        raise NotFound(f"there is no job {text[:30]!r}", "a job's id is a number, e.g. 12")
    return int(text)
