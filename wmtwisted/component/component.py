"""Writing a component: a class with handlers. What a handler does must be safe to do twice.

    class JobSubmitter(Component):
        @handles("SubmitJob", publishes="TrackJob|JobSubmitFailed", creates="JobPostProcess")
        def submit(self, message: Delivery) -> Message:
            ...
            return Message("TrackJob", {"job": 12})

A message is handled again after a crash at any moment. What a handler *returns* is published
exactly once all the same; what it does elsewhere (files, databases, other services) it must find
done when it runs again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from wmtwisted.config import Config
from wmtwisted.errors import ConfigError
from wmtwisted.flow.expression import Expression, ExpressionError, check, names, parse
from wmtwisted.message import Delivery, Flag, Message, Output, Trigger
from wmtwisted.wire import MAX_DELAY

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_MARK = "_wmtwisted_handler"


class Retry(Exception):
    """Raised by a handler: give me this message again after `delay` seconds.

    Without a delay the broker's back-off decides. After the configured number of attempts the
    message becomes a dead letter. Raises TypeError when the delay is no number of seconds.
    """

    def __init__(self, delay: float | None = None, reason: str = "retry") -> None:
        super().__init__(reason)
        # not (... <= MOST) refuses nan as well
        if delay is not None and not (type(delay) in (int, float) and 0 <= delay <= MAX_DELAY):
            raise TypeError(f"Retry({delay!r:.80}): the delay is seconds, from 0 to 10 years")
        self.delay = delay


class Reject(Exception):
    """Raised by a handler: this message cannot be handled, now or later; it is a dead letter."""


@frozen
class Handler:
    """One handler, as its decorator describes it."""

    #: The message type that it handles.
    type: str
    #: What it returns: `A|B` one of, `A,B` all of, `()` nothing.
    publishes: Expression
    #: How many messages it handles at once; 0 takes the component's `threads`.
    threads: int
    #: Triggers that it declares, and triggers whose flag it sets.
    creates: frozenset[str]
    sets: frozenset[str]
    #: 1: its messages come before all others.
    lane: int
    #: The method's name.
    name: str
    #: A coroutine function runs on the reactor, any other on a thread.
    coroutine: bool

    def problem(self, outputs: Iterable[Output]) -> str:
        """How what the handler returned differs from what it declares, or ""."""
        types, declared, flagged = set(), set(), set()
        for one in outputs:
            match one:
                case Message():
                    types.add(one.type)
                case Trigger():
                    declared.add(one.name)
                case Flag():
                    flagged.add(one.trigger)
        for found, allowed, what in (
            (declared, self.creates, "declares trigger"),
            (flagged, self.sets, "sets a flag of trigger"),
        ):
            if not found <= allowed:
                return f"{self.name} {what} {', '.join(sorted(found - allowed))} unannounced"
        problem = check(self.publishes, types)
        return f"{self.name}: {problem}" if problem else ""


def handles(
    type: str,
    *,
    publishes: str = "",
    threads: int = 0,
    creates: str = "",
    sets: str = "",
    lane: int = 0,
) -> Callable[[F], F]:
    """Makes a method the handler of messages of `type`; may be given several times.

    The method takes a Delivery and returns a Message, a Trigger, a Flag, an iterable of them, or
    None. Raises ValueError when `publishes` cannot be read.
    """
    try:
        expression = parse(publishes)
    except ExpressionError as error:
        raise ValueError(f"publishes={publishes!r} of {type}: {error}") from None

    def mark(function: F) -> F:
        handler = Handler(
            type,
            expression,
            threads,
            frozenset(creates.replace(",", " ").split()),
            frozenset(sets.replace(",", " ").split()),
            lane,
            function.__name__,
            inspect.iscoroutinefunction(function),
        )
        setattr(function, _MARK, (*getattr(function, _MARK, ()), handler))
        return function

    return mark


class Run(Protocol):
    """Runs a blocking function on one of the component's threads."""

    def __call__(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]: ...


@frozen
class Context:
    """What a component is given: everything that it needs from outside."""

    name: str
    config: Config
    clock: IReactorTime
    #: For coroutines: `await self.run(function, ...)` where a plain handler would just block.
    run: Run

    @property
    def options(self) -> dict[str, Any]:
        """The component's own section of the configuration, `[components.NAME.options]`."""
        return self.config.component(self.name).options


class Component:
    """One component. The process makes one instance; its handlers may run at the same time."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.name = context.name
        self.config = context.config

    def option(self, name: str, default: T) -> T:
        """One of the component's own options; raises ConfigError when its type is not as here."""
        value = self.context.options.get(name, default)
        if isinstance(default, float) and type(value) is int:
            value = float(value)
        if type(value) is not type(default):
            raise ConfigError(
                f"components.{self.name}.options.{name} is {value!r}, "
                f"expected {type(default).__name__}, e.g. {default!r}"
            )
        return value

    async def sleep(self, seconds: float) -> None:
        """For coroutines: lets others run for a while."""
        await deferLater(self.context.clock, seconds)

    def start(self) -> None:
        """Called on a thread before the first message; open here what the handlers need.

        Raises a WMError, which ends the process with its message, when that cannot be had.
        """

    def stop(self) -> None:
        """Called on a thread after the last message."""

    @classmethod
    def handlers(cls) -> dict[str, Handler]:
        """The handlers by message type. Raises ValueError when two handle the same."""
        found: dict[str, Handler] = {}
        for name, method in inspect.getmembers(cls, inspect.isfunction):
            for handler in getattr(method, _MARK, ()):
                handler = evolve(handler, name=name)
                if handler.type in found:
                    other = found[handler.type].name
                    raise ValueError(
                        f"{cls.__name__}: {other} and {handler.name} both handle {handler.type}"
                    )
                found[handler.type] = handler
        return found

    @classmethod
    def consumes(cls) -> frozenset[str]:
        """The message types that it handles."""
        return frozenset(cls.handlers())

    @classmethod
    def publishes(cls) -> frozenset[str]:
        """The message types that its handlers return."""
        found = (names(handler.publishes) for handler in cls.handlers().values())
        return frozenset[str]().union(*found)


def outputs(returned: object) -> list[Output]:
    """What a handler returned, as a list. Raises Reject when it is nothing to publish."""
    if returned is None:
        return []
    if isinstance(returned, (Message, Trigger, Flag)):
        return [returned]
    if isinstance(returned, (str, bytes, dict)) or not isinstance(returned, Iterable):
        raise Reject(f"a handler returned {returned!r:.80}, expected messages, triggers, flags")
    found = list(returned)
    for one in found:
        if not isinstance(one, (Message, Trigger, Flag)):
            raise Reject(f"a handler returned {one!r:.80}, expected a message, trigger or flag")
    return found


__all__ = ["Component", "Context", "Delivery", "Handler", "Reject", "Retry", "handles", "outputs"]
