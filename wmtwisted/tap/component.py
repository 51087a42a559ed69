"""The plugin `wmcomponent`: one process of one component."""

from __future__ import annotations

import importlib
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.python import usage
from twisted.python.failure import Failure

from wmtwisted.client.client import Client, Interests
from wmtwisted.component.component import Component, Context
from wmtwisted.component.harness import Harness
from wmtwisted.config import Config, load
from wmtwisted.errors import ConfigError, WMError
from wmtwisted.flow.conform import mismatch
from wmtwisted.tap.process import Orphan, Threads, describe, end, flow_of, private, quiet, refuse


class Options(usage.Options):
    """The command line of `twistd wmcomponent`."""

    synopsis = "[--config FILE] --component NAME"
    longdesc = "One process of one component: it handles the messages the flow sends it."
    optParameters = [  # noqa: RUF012 (Twisted's own form)
        ["config", "c", "wm.toml", "The configuration file; `wm init` writes one."],
        ["component", "n", "", "The component's name in the configuration."],
    ]

    def postOptions(self) -> None:
        """Everything that can be refused is refused here, before the process detaches."""
        private()
        try:
            self.read: Config = load(self["config"])
            if not self["component"]:
                names = ", ".join(self.read.components)
                raise ConfigError("no component is named", f"add --component with one of: {names}")
            self.component = find(self.read, self["component"])
        except WMError as error:
            refuse(error)


def find(config: Config, name: str) -> type[Component]:
    """The class of component `name` of a configuration, checked against the flow.

    Raises ConfigError when its class cannot be had, or does not do what the flow says.
    """
    path = config.component(name).class_
    module, _, attribute = path.partition(":")
    what = f"components.{name}.class: {path!r}"
    hint = f"it is named in {config.path}, as module:Class"
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        # A module that is imported can fail in any way, and all of them are told alike.
        raise ConfigError(f"{what} cannot be imported: {describe(error)}", hint) from error
    if not isinstance(found, type) or not issubclass(found, Component):
        raise ConfigError(f"{what} is no Component", hint)
    flow = flow_of(config)
    try:
        differences = mismatch(flow, name, found.consumes(), found.publishes())
    except ValueError as error:
        raise ConfigError(f"{what} cannot be used: {error}", hint) from error
    if differences:
        lines = "".join(f"\n  {line}" for line in differences)
        raise ConfigError(
            f"{name} ({path}) does not do what the flow says:{lines}",
            f"change the component, or {config.flow.spec}",
        )
    return found


def make(kind: type[Component], context: Context) -> Component:
    """The component. Raises ConfigError when it refuses to be made, e.g. with these options."""
    try:
        return kind(context)
    except WMError:
        raise
    except Exception as error:
        raise ConfigError(
            f"components.{context.name}: {kind.__name__} cannot be made: {describe(error)}",
            f"look at components.{context.name} in {context.config.path}",
        ) from error


class ComponentService(MultiService):
    """A component with its threads."""

    def __init__(self, options: Options, reactor: Any) -> None:
        super().__init__()
        self._reactor = reactor
        config, name = options.read, options["component"]
        settings = config.component(name)
        handlers = options.component.handlers().values()
        threads = sum(one.threads or settings.threads for one in handlers if not one.coroutine)
        self._threads = Threads(reactor, max(2, threads), name)
        self._threads.setServiceParent(self)
        Orphan(reactor, reactor).setServiceParent(self)

        def connect(interests: Interests) -> Client:
            endpoint = clientFromString(reactor, config.broker.listen.client)
            return Client(
                endpoint,
                name,
                clock=reactor,
                interests=interests,
                refused=lambda error: end(reactor, error),
                where=str(config.broker.listen),
            )

        self.harness = Harness(
            make(options.component, Context(name, config, reactor, self._threads.run)),
            connect,
            threads=settings.threads,
            prefetch=settings.prefetch,
            lease=config.broker.lease,
            failed=self._failed,
        )

    def _failed(self, failure: Failure) -> None:
        end(self._reactor, failure.value)

    def startService(self) -> None:
        """Starts the threads, then the component."""
        super().startService()
        quiet()
        self.harness.startService()

    def stopService(self) -> Deferred[Any]:
        """Lets what runs come to its end, then ends the threads."""
        stop = super().stopService
        return self.harness.stopService().addBoth(lambda _: stop())


def makeService(options: Options) -> IService:
    """The component's service."""
    from twisted.internet import reactor

    try:
        service: IService = ComponentService(options, reactor)
    except WMError as error:
        refuse(error)
    return service
