"""Keeping a connection to the broker: made, prepared, and made again when it is lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from wmtwisted.client.session import Session

#: Connecting again starts after this many seconds and slows down to this many.
RETRY_FIRST, RETRY_MOST = 0.05, 2.0
#: A broker that is not there is mentioned at once, and then this often.
REMIND_SECONDS = 60.0
#: A broker that does not take what was still to be sent holds up a stop this long.
CLOSE_SECONDS = 2.0


class _Sessions(Factory):
    noisy = False

    def __init__(self, build: Callable[[], Session]) -> None:
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> Session:
        return self._build()


class Connection(Service):
    """One session at a time. `prepare` makes a new one ready; when it fails the session is closed.

    Twisted's ClientService leaves a session open whose preparation failed, takes its end for the
    end of the next one, and logs every attempt.
    """

    log = Logger()

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        build: Callable[[], Session],
        prepare: Callable[[Session], Deferred[None]],
        *,
        clock: IReactorTime,
        where: str,
    ) -> None:
        self._endpoint = endpoint
        self._factory = _Sessions(build)
        self._prepare = prepare
        self._clock = clock
        self._where = where
        self._failures = 0
        self._reminded: float | None = None
        # Exactly one of the three is there while it runs.
        self._retry: IDelayedCall | None = None
        self._attempt: Deferred[None] | None = None
        self._session: Session | None = None

    def startService(self) -> None:
        """Starts connecting, and never stops until told."""
        super().startService()
        self._connect()

    def stopService(self) -> Deferred[None]:
        """Fires when there is no connection any more."""
        super().stopService()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._attempt is not None:
            self._attempt.cancel()
        if self._session is None:
            return succeed(None)
        session, closed = self._session, Deferred[None]()
        patience = self._clock.callLater(CLOSE_SECONDS, session.disconnect)

        def lost(session: Session) -> Session:
            if patience.active():
                patience.cancel()
            closed.callback(None)
            return session

        session.lost.addCallback(lost)
        cast(ITCPTransport, session.transport).loseConnection()
        return closed

    def _connect(self) -> None:
        self._retry = None
        attempt = cast(Deferred[Session], self._endpoint.connect(self._factory))
        self._attempt = attempt.addCallbacks(self._made, self._failed)
        if attempt.called:
            self._attempt = None

    def _made(self, session: Session) -> None:
        self._attempt = None
        self._session = session
        session.lost.addCallback(self._lost)
        if self.running:
            prepared = self._prepare(session)
            prepared.addCallbacks(self._ready, lambda failure: self._unready(failure, session))
        else:
            session.disconnect()

    def _ready(self, _: object) -> None:
        self._failures = 0
        if self._reminded is not None:
            self._reminded = None
            self.log.info("connected to the broker at {where}", where=self._where)

    def _unready(self, failure: Failure, session: Session) -> None:
        if self._session is session and not session.lost.called:
            self._remind(failure)
            session.disconnect()

    def _lost(self, session: Session) -> Session:
        self._session = None
        self._again()
        return session

    def _failed(self, failure: Failure) -> None:
        self._attempt = None
        if self.running:
            self._remind(failure)
        self._again()

    def _again(self) -> None:
        if self.running:
            delay = min(RETRY_FIRST * 1.5**self._failures, RETRY_MOST)
            self._failures = min(self._failures + 1, 20)
            # So that all components do not come at the same moment.
            delay *= random.uniform(0.5, 1.0)  # noqa: S311 (nothing secret)
            self._retry = self._clock.callLater(delay, self._connect)

    def _remind(self, failure: Failure) -> None:
        now = self._clock.seconds()
        if self._reminded is None or now - self._reminded >= REMIND_SECONDS:
            self._reminded = now
            self.log.warn(
                "no connection to the broker at {where} ({why}); trying until there is one",
                where=self._where,
                why=failure.getErrorMessage().rstrip("."),
            )
