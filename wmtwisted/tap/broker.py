"""The plugin `wmbroker`: the broker, and the page beside it."""

from __future__ import annotations

import gc
import socket
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from wmtwisted.broker.ledger import Ledger
from wmtwisted.broker.protocol import BrokerFactory
from wmtwisted.broker.service import Broker, Settings
from wmtwisted.config import Config, hide_password, load
from wmtwisted.endpoint import Endpoint
from wmtwisted.errors import ConfigError, StoreError, WMError
from wmtwisted.store.database import open_engine
from wmtwisted.store.jobs import JobStore
from wmtwisted.store.lock import StoreLock
from wmtwisted.store.tables import Tables, create
from wmtwisted.tap.process import Orphan, Threads, describe, end, flow_of, private, quiet, refuse


class Options(usage.Options):
    """The command line of `twistd wmbroker`."""

    synopsis = "[--config FILE]"
    longdesc = "The message broker: routes, queues and keeps every message, and serves the page."
    optParameters = [  # noqa: RUF012 (Twisted's own form)
        ["config", "c", "wm.toml", "The configuration file; `wm init` writes one."]
    ]

    def postOptions(self) -> None:
        """Everything that can be refused is refused here, before the process detaches."""
        private()
        try:
            self.read: Config = load(self["config"])
            self.flow = flow_of(self.read)
            self._open()
        except WMError as error:
            refuse(error)

    def _open(self) -> None:
        """Takes the store; raises StoreError when it cannot be written, or another one has it."""
        store = self.read.store
        self.engine = open_engine(store.bus, "bus")
        self.tables = Tables(store.prefix)
        try:
            self.lock = StoreLock(self.engine, store.prefix, self.read.broker.name)
            create(self.engine, self.tables)
        except (OSError, SQLAlchemyError) as error:
            raise StoreError(
                f"cannot write the bus store at {hide_password(store.bus)}: {describe(error)}",
                "the broker needs to write that, and what is beside it",
            ) from error
        self.engine.dispose()  # connections do not survive a fork


class BrokerService(MultiService):
    """The broker with its threads and ports."""

    log = Logger()

    def __init__(self, options: Options, reactor: Any) -> None:
        super().__init__()
        self._reactor = reactor
        self._options = options
        config = options.read
        self._writer = Threads(reactor, 1, "writer")
        self._reader = Threads(reactor, 1, "reader")
        self._rooms = Threads(reactor, 2, "pages")
        for threads in (self._writer, self._reader, self._rooms, Orphan(reactor, reactor)):
            threads.setServiceParent(self)
        rules = config.broker
        days = rules.retention_days
        settings = Settings(
            rules.name, rules.window, rules.lease, rules.attempts, rules.backoff, days * 86400.0
        )
        self.broker = Broker(
            Ledger(options.engine, options.tables),
            settings,
            clock=reactor,
            write=self._writer.run,
            read=self._reader.run,
            failed=self._failed,
        )
        self._ports: list[IListeningPort] = []

    def _failed(self, failure: Failure) -> None:
        end(self._reactor, failure.value)

    def startService(self) -> None:
        """Takes over the store, then listens."""
        super().startService()
        self._options.lock.sign()
        quiet()
        # What lives long is there by now, and messages make no cycles: at tens of thousands of
        # them a second, looking for cycles as often as Python does costs a tenth of all time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        started = self.broker.start()
        # What is published before a component's first start waits for it.
        for component in self._options.flow.components():
            types = sorted(self._options.flow.consumes(component))
            started.addCallback(lambda _, *args: self.broker.expect(*args), component, types)
        started.addCallback(lambda _: self._listen())
        started.addErrback(self._failed)

    def _listen(self) -> Deferred[None]:
        config = self._options.read
        done = self._open(config.broker.listen, BrokerFactory(self.broker), "broker.listen")
        page = config.web.listen
        if page is not None:
            # Without a page a broker starts the sooner, which matters after a crash.
            from wmtwisted.tap.pages import Pages
            from wmtwisted.web.site import make_site

            store = JobStore(open_engine(config.store.jobs, "jobs"))
            pages = Pages(self.broker, store, config, self._options.flow, self._rooms.run)
            site = make_site(pages, self._reactor, hosts=config.web.hosts)
            done.addCallback(lambda _: self._open(page, site, "web.listen"))
            done.addCallback(lambda _: self.log.info("the page is at {url}", url=page.url))
        return done

    def _open(self, endpoint: Endpoint, factory: Any, key: str) -> Deferred[None]:
        def listening(port: IListeningPort) -> None:
            self._ports.append(port)
            self.log.info("listening at {endpoint}", endpoint=str(endpoint))

        def taken(failure: Failure) -> None:
            why = getattr(failure.value, "socketError", failure.value)
            reason = getattr(why, "strerror", None) or str(why)
            raise ConfigError(
                f"{key}: cannot listen at {endpoint}: {reason.lower()}",
                f"stop what listens there, or choose another {key} in {self._options.read.path}",
            ) from failure.value

        if endpoint.kind == "unix":
            clear_stale(Path(endpoint.path))
        listen = serverFromString(self._reactor, endpoint.server).listen
        opened: Deferred[None] = maybeDeferred(listen, factory).addCallbacks(listening, taken)
        return opened

    def stopService(self) -> Deferred[Any]:
        """Closes the ports, commits what was taken, and ends the threads."""
        closed: Deferred[Any] = gatherResults(
            [maybeDeferred(port.stopListening) for port in self._ports]
        )
        closed.addBoth(lambda _: self.broker.stop())
        stop = super().stopService
        closed.addBoth(lambda _: stop())
        # The last connection that closes folds SQLite's log into the file.
        closed.addBoth(lambda _: self._options.engine.dispose())
        return closed.addBoth(lambda _: self._options.lock.release())


def clear_stale(path: Path) -> None:
    """Removes the socket and the lock of a process that is gone; not what anyone listens at.

    Twisted looks whether the process id in the lock is in use, and after a restart of the machine
    or the container it may well be, by another process.
    """
    if path.exists():
        if not path.is_socket():
            return
        with socket.socket(socket.AF_UNIX) as peer:
            peer.setblocking(False)
            try:
                peer.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                return
            else:
                return
    # Twisted's lock is a link whose target is a process id.
    path.with_name(path.name + ".lock").unlink(missing_ok=True)


def makeService(options: Options) -> IService:
    """The broker's service."""
    from twisted.internet import reactor

    service: IService = BrokerService(options, reactor)
    return service
