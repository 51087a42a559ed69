"""What a component's class says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock

from wmtwisted.component.component import (
    Component,
    Context,
    Reject,
    Retry,
    handles,
    outputs,
)
from wmtwisted.config import default_text, load
from wmtwisted.errors import ConfigError
from wmtwisted.message import Delivery, Flag, Message, Trigger


class Part(Component):
    """A component with one handler of each kind."""

    @handles("A", publishes="X|Y", threads=3, creates="T, U", sets="V", lane=1)
    def plain(self, message: Delivery) -> Message:
        """Runs on a thread."""
        return Message("X")

    @handles("B")
    @handles("C", publishes="Z")
    async def coroutine(self, message: Delivery) -> None:
        """Runs on the reactor."""


def context(tmp_path: Path, options: str = "") -> Context:
    path = tmp_path / "wm.toml"
    path.write_text(
        default_text({"flow.spec": "my.flow"})
        + f'[components.Part]\nclass = "a:B"\n[components.Part.options]\n{options}\n'
    )

    def run(function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        raise AssertionError

    return Context("Part", load(path, {}), Clock(), run)


def test_handlers() -> None:
    handlers = Part.handlers()
    assert sorted(handlers) == ["A", "B", "C"]
    plain = handlers["A"]
    assert (plain.name, plain.threads, plain.lane, plain.coroutine) == ("plain", 3, 1, False)
    assert plain.creates == {"T", "U"}
    assert plain.sets == {"V"}
    assert handlers["B"].coroutine
    assert handlers["C"].name == "coroutine"
    assert Part.consumes() == {"A", "B", "C"}
    assert Part.publishes() == {"X", "Y", "Z"}


def test_a_handler_is_found_under_the_name_that_it_has_in_its_class() -> None:
    class Short(Component):
        handle = handles("A")(lambda self, message: None)

    assert Short.handlers()["A"].name == "handle"


def test_handlers_are_inherited() -> None:
    class More(Part):
        @handles("D")
        def more(self, message: Delivery) -> None: ...

    assert More.consumes() == {"A", "B", "C", "D"}


def test_two_handlers_for_one_type() -> None:
    class Twice(Part):
        @handles("A")
        def again(self, message: Delivery) -> None: ...

    with pytest.raises(ValueError, match="Twice: again and plain both handle A"):
        Twice.handlers()


def test_outputs_that_cannot_be_read() -> None:
    with pytest.raises(ValueError, match=r"publishes='A\|' of Work: "):
        handles("Work", publishes="A|")


X, Y = Message("X"), Message("Y")


@pytest.mark.parametrize(
    ("publishes", "found", "fine"),
    [
        ("", [], True),
        ("", [X], False),
        ("X", [X], True),
        ("X", [X, X], True),
        ("X", [], False),
        ("X|Y", [Y], True),
        ("X|Y", [X, Y], False),
        ("X,Y", [X, Y], True),
        ("X,Y", [X], False),
        ("X|()", [], True),
        ("X", [X, Trigger("T", "1", ("a",), Y)], True),
        ("X", [X, Trigger("Q", "1", ("a",), Y)], False),
        ("X", [X, Flag("F", "1", "a")], True),
        ("X", [X, Flag("G", "1", "a")], False),
    ],
)
def test_what_a_handler_may_return(publishes: str, found: list[Any], fine: bool) -> None:
    class Worker(Component):
        @handles("Work", publishes=publishes, creates="T", sets="F")
        def handle(self, message: Delivery) -> None: ...

    problem = Worker.handlers()["Work"].problem(found)
    assert (problem == "") is fine
    assert fine or problem.startswith("handle")


def test_outputs_as_a_list() -> None:
    def some() -> Iterator[Message]:
        yield X
        yield Y

    assert outputs(None) == []
    assert outputs(X) == [X]
    assert outputs((X, Y)) == outputs(some()) == [X, Y]
    for wrong in ("X", b"X", {"type": "X"}, 5, [X, "Y"]):
        with pytest.raises(Reject, match="a handler returned "):
            outputs(wrong)


@pytest.mark.parametrize("delay", ["soon", float("nan"), float("inf"), -0.1, True, 1e10])
def test_a_delay_that_is_none(delay: Any) -> None:
    with pytest.raises(TypeError, match="the delay is seconds"):
        Retry(delay)


def test_a_retry() -> None:
    assert (Retry().delay, str(Retry())) == (None, "retry")
    assert (Retry(3).delay, str(Retry(3, "busy"))) == (3, "busy")


def test_options(tmp_path: Path) -> None:
    part = Part(context(tmp_path, 'size = 5\nwait = 3\nname = "x"\non = true'))
    assert part.option("size", 7) == 5
    assert part.option("other", 7) == 7
    assert part.option("wait", 1.5) == 3.0
    assert isinstance(part.option("wait", 1.5), float)
    assert part.option("on", False) is True
    for name, default in (("size", "text"), ("name", 5), ("on", 5), ("on", 1.0)):
        with pytest.raises(ConfigError, match=rf"components\.Part\.options\.{name} is "):
            part.option(name, default)


def test_sleep(tmp_path: Path) -> None:
    given = context(tmp_path)
    part = Part(given)
    done = ensureDeferred(part.sleep(3))
    assert isinstance(given.clock, Clock)
    given.clock.advance(2.9)
    assert not done.called
    given.clock.advance(0.2)
    assert done.called
