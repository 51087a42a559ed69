"""Live news for any number of browsers: the source is asked once, whoever looks.

A listener that reads slowly is not sent less often, it is sent less: while its connection is full
it holds nothing back, and afterwards it gets only the newest of each topic. So a stalled browser
costs no memory, and what it shows when it wakes is the present.
"""

# Twisted Web is not annotated.
# mypy: allow-untyped-calls

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request
from zope.interface import implementer

from wmtwisted.errors import WMError
from wmtwisted.web.source import Source

#: More browsers than this are turned away.
LISTENERS = 64

#: Seconds after which an unanswered question is shown as trouble.
PATIENCE = 5.0

#: How long a browser waits before it connects again, in milliseconds.
RETRY = 2000


@define
class Topic:
    """One subject of the news and the newest that is known about it."""

    name: str
    ask: Callable[[], Any]
    #: JSON without line breaks; "" before the first answer.
    text: str = ""
    #: The feed's number when `text` last changed.
    number: int = 0
    #: When the question that is still open was asked.
    asked: float | None = None
    #: Why there is no newer answer, one line; "" when all is well.
    trouble: str = ""

    def event(self, boot: str) -> bytes:
        """This topic as one server-sent event."""
        return f"id: {boot}-{self.number}\nevent: {self.name}\ndata: {self.text}\n\n".encode()


@implementer(IPushProducer)
@define(eq=False)
class Listener:
    """One browser's stream."""

    request: Request
    feed: Feed
    #: The newest number it has been sent.
    seen: int
    paused: bool = False

    def wake(self) -> bool:
        """Send what it has not seen; False when that was nothing."""
        if self.paused:
            return False
        events = [topic for topic in self.feed.known() if topic.number > self.seen]
        for topic in events:
            self.seen = topic.number
            self.request.write(topic.event(self.feed.boot))
        return bool(events)

    def beat(self) -> None:
        """Tell the browser that the feed is alive, though there is no news."""
        if not self.paused:
            self.request.write(b"event: beat\ndata:\n\n")

    def pauseProducing(self) -> None:
        """The connection is full."""
        self.paused = True

    def resumeProducing(self) -> None:
        """The connection has room again."""
        self.paused = False
        self.wake()

    def stopProducing(self) -> None:
        """The connection is gone."""
        self.paused = True


@define(eq=False)
class Feed:
    """Asks the source once per interval while there are listeners, and tells them what changed."""

    source: Source
    clock: IReactorTime
    #: Seconds between two questions.
    interval: float
    #: Names this feed, so that numbers of an earlier one are not taken for its own.
    boot: str = ""
    number: int = 0
    listeners: set[Listener] = field(factory=set)
    topics: list[Topic] = field(init=False)
    _trouble: Topic = field(init=False)
    _call: IDelayedCall | None = None
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self.boot = self.boot or f"{int(self.clock.seconds() * 1000):x}"
        self.topics = [
            Topic("status", lambda: self.source.status()),
            Topic("workflows", lambda: self.source.workflows()),
        ]
        # That there is no trouble is news to a browser that was told of some before a restart.
        self.number = 1
        self._trouble = Topic("trouble", list, text="[]", number=self.number)

    def known(self) -> list[Topic]:
        """The topics that have news, in the order in which they changed."""
        topics = [topic for topic in (*self.topics, self._trouble) if topic.text]
        return sorted(topics, key=lambda topic: topic.number)

    def full(self) -> bool:
        """Whether one more listener would be too many."""
        return len(self.listeners) >= LISTENERS

    def join(self, request: Request) -> Deferred[None]:
        """Stream to `request`; the Deferred fires when the browser is gone."""
        listener = Listener(request, self, self._seen(request))
        request.setHeader(b"Content-Type", b"text/event-stream")
        request.registerProducer(listener, True)
        request.write(f"retry: {RETRY}\n\n".encode())
        self.listeners.add(listener)
        gone: Deferred[None] = Deferred()

        def leave(result: object) -> None:
            self.listeners.discard(listener)
            if not self.listeners and self._call is not None:
                self._call.cancel()
                self._call = None
            gone.callback(None)

        request.notifyFinish().addBoth(leave)
        if self._call is None:
            self._tick()
        else:
            listener.wake()
        return gone

    def _seen(self, request: Request) -> int:
        """The number in Last-Event-ID when it is one of ours, else 0."""
        value = (request.requestHeaders.getRawHeaders("last-event-id") or [""])[0]
        boot, _, number = value.rpartition("-")
        if boot != self.boot or not (number.isascii() and number.isdigit()) or len(number) > 15:
            return 0
        return int(number)

    def _tick(self) -> None:
        # The next round is arranged first: nothing in this one may end the feed.
        self._call = self.clock.callLater(self.interval, self._tick)
        now = self.clock.seconds()
        before = self.number
        for topic in self.topics:
            if topic.asked is None:
                self._ask(topic, now)
            elif now - topic.asked >= PATIENCE:
                topic.trouble = f"no answer about the {topic.name} for {PATIENCE:g} s"
        self._note_trouble()
        if self.number == before:
            for listener in self.listeners:
                listener.beat()

    def _ask(self, topic: Topic, now: float) -> None:
        topic.asked = now

        def answered(answer: object) -> None:
            text = json.dumps(answer, separators=(",", ":"), allow_nan=False)
            topic.trouble = ""
            if text != topic.text:
                self.number += 1
                topic.text, topic.number = text, self.number

        def failed(failure: Failure) -> None:
            error = failure.value
            if isinstance(error, WMError):
                trouble = str(error)
            else:
                trouble = f"the {topic.name} cannot be read; the broker's log says why"
            if trouble != topic.trouble:
                self._log.failure("the page cannot read the {topic}", failure, topic=topic.name)
            topic.trouble = trouble

        def tell(result: None) -> None:
            topic.asked = None
            self._note_trouble()
            for listener in list(self.listeners):
                listener.wake()

        deferred = maybeDeferred(topic.ask)
        deferred.addCallback(answered).addErrback(failed).addBoth(tell)

    def _note_trouble(self) -> None:
        # One cause may trouble all topics; it is told once.
        lines = dict.fromkeys(topic.trouble for topic in self.topics if topic.trouble)
        text = json.dumps(list(lines))
        if text != self._trouble.text:
            self.number += 1
            self._trouble.text, self._trouble.number = text, self.number
            for listener in list(self.listeners):
                listener.wake()
