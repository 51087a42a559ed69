"""A flow: handlers, synchronizers, plugins, and the sources and sinks outside. Pure data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from attrs import field, frozen

from wmtwisted.flow.expression import NOTHING, Expression, names
from wmtwisted.flow.names import is_message
from wmtwisted.flow.place import Place


def _places() -> Mapping[str, Place]:
    return MappingProxyType({})


@frozen(kw_only=True)
class Item:
    """What all parts of a flow have: where they were written, which is no part of what they are."""

    #: The place of each value by its key, and under "" that of the whole.
    places: Mapping[str, Place] = field(factory=_places, eq=False, repr=False)

    def place(self, key: str = "") -> Place:
        """Where the value of `key` stands; the whole, when the file does not have that key."""
        return self.places.get(key) or self.places.get("") or Place()


@frozen(kw_only=True)
class Handler(Item):
    """What one component does with one type of message."""

    component: str
    message_in: str
    #: What it publishes then, in the ordinary course of a job.
    message_out: Expression = NOTHING
    #: Runs on the component's thread pool, several at a time; else one after the other.
    threading: bool = False
    #: The configuration may name another class for it.
    configurable: bool = False
    #: Synchronizers it declares for the job.
    creates: tuple[str, ...] = ()
    #: Synchronizers in which it sets its component's flag for the job.
    completes: tuple[str, ...] = ()
    #: The types of job it is for; none means those that no other handler of the message names.
    job_types: tuple[str, ...] = ()
    #: Seconds by which what it publishes is delayed.
    delay: float | None = None
    #: How often it may try a message again.
    retry: int | None = None
    #: Seconds that handling one message may take.
    timeout: float | None = None


@frozen(kw_only=True)
class Synchronizer(Item):
    """A barrier for parallel states of a job: opens when every component has set its flag."""

    name: str
    #: The message type published when it opens; or, in older flows, the dotted name of a class.
    action: str
    #: Seconds after which it opens no more.
    timeout: float | None = None

    @property
    def message(self) -> str:
        """The message type published when it opens; "" when the action is a class."""
        return self.action if is_message(self.action) else ""


@frozen(kw_only=True)
class Plugin(Item):
    """Interchangeable ways in which a handler does its work."""

    component: str
    #: The type of message whose handler it belongs to.
    handler: str
    plugins: tuple[str, ...]


@frozen(kw_only=True)
class Source(Item):
    """Somebody outside who publishes."""

    name: str
    message_out: Expression


@frozen(kw_only=True)
class Sink(Item):
    """Somebody outside who receives."""

    name: str
    messages_in: tuple[str, ...]


@frozen(kw_only=True)
class Flow:
    """Which component handles which message and publishes what then."""

    #: The file it was read from, for error messages.
    file: str = field(default="<flow>", eq=False)
    handlers: tuple[Handler, ...] = ()
    synchronizers: tuple[Synchronizer, ...] = ()
    plugins: tuple[Plugin, ...] = ()
    sources: tuple[Source, ...] = ()
    sinks: tuple[Sink, ...] = ()

    def components(self) -> tuple[str, ...]:
        """The components in the order in which the file first names them."""
        return tuple(dict.fromkeys(handler.component for handler in self.handlers))

    def handlers_of(self, component: str) -> tuple[Handler, ...]:
        """The component's handlers; none for a component that the flow does not have."""
        return tuple(handler for handler in self.handlers if handler.component == component)

    def handler(self, component: str, message: str, job_type: str = "") -> Handler | None:
        """The handler of a message at a component for a type of job; None when there is none."""
        found = [each for each in self.handlers_of(component) if each.message_in == message]
        for handler in found:
            if job_type in handler.job_types:
                return handler
        return next((handler for handler in found if not handler.job_types), None)

    def consumes(self, component: str) -> frozenset[str]:
        """The message types the component handles."""
        return frozenset(handler.message_in for handler in self.handlers_of(component))

    def publishes(self, component: str) -> frozenset[str]:
        """The message types its handlers publish.

        The message of a synchronizer is not among them: it is published when the last flag is set,
        whoever sets it.
        """
        return frozenset[str]().union(
            *(names(handler.message_out) for handler in self.handlers_of(component))
        )

    def synchronizer(self, name: str) -> Synchronizer | None:
        """The synchronizer of that name; None when there is none."""
        return next((each for each in self.synchronizers if each.name == name), None)

    def flags(self, synchronizer: str) -> tuple[str, ...]:
        """The components that must set their flag before the synchronizer opens."""
        return tuple(
            dict.fromkeys(
                handler.component for handler in self.handlers if synchronizer in handler.completes
            )
        )

    def published(self) -> Iterator[tuple[str, str, Place]]:
        """Every (message type, who publishes it, where that is written)."""
        for source in self.sources:
            for name in sorted(names(source.message_out)):
                yield name, source.name, source.place("messageOut")
        for handler in self.handlers:
            for name in sorted(names(handler.message_out)):
                yield name, handler.component, handler.place("messageOut")
        for synchronizer in self.synchronizers:
            if synchronizer.message:
                yield synchronizer.message, synchronizer.name, synchronizer.place("action")

    def received(self) -> Iterator[tuple[str, str, Place]]:
        """Every (message type, who receives it, where that is written)."""
        for handler in self.handlers:
            yield handler.message_in, handler.component, handler.place("messageIn")
        for sink in self.sinks:
            for name in sink.messages_in:
                yield name, sink.name, sink.place("messageIn")
