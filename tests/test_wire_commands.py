"""AMP takes a mistyped attribute of a Command in silence; here it fails."""

# AMP's argument classes are untyped.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import inspect
from types import ModuleType

import pytest
from twisted.protocols import amp

from wmtwisted import wire

#: All that `amp.Command` and its metaclass look at.
KNOWN = {
    "arguments",
    "response",
    "errors",
    "fatalErrors",
    "extra",
    "commandName",
    "commandType",
    "responseType",
    "requiresAnswer",
}
#: What Python and the metaclass put there themselves.
GIVEN = {"allErrors", "reverseErrors", "commandName"}


def commands(module: ModuleType) -> list[type[amp.Command]]:
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, amp.Command) and value is not amp.Command
    ]


def unknown(command: type[amp.Command]) -> set[str]:
    """The attributes of a command, its bases' included, that AMP would ignore."""
    bases = [c for c in command.__mro__ if issubclass(c, amp.Command) and c is not amp.Command]
    names = {name for base in bases for name in vars(base) if not name.startswith("__")}
    return {name for name in names - KNOWN - GIVEN if not name.startswith("_abc")}


@pytest.mark.parametrize("command", commands(wire), ids=lambda command: command.__name__)
def test_every_attribute_is_one_that_amp_knows(command: type[amp.Command]) -> None:
    assert unknown(command) == set()


@pytest.mark.parametrize("command", commands(wire), ids=lambda command: command.__name__)
def test_arguments_and_errors_have_the_right_shape(command: type[amp.Command]) -> None:
    for name, argument in [*command.arguments, *command.response]:
        assert isinstance(name, bytes)
        assert len(name) < 256
        assert isinstance(argument, amp.Argument)
    for errors in (command.errors, command.fatalErrors):
        for error, code in dict(errors).items():
            # A catch-all sends the text of any mistake of ours to the peer.
            assert issubclass(error, Exception)
            assert error not in (Exception, BaseException)
            assert isinstance(code, bytes)
    if not command.requiresAnswer:
        assert not list(command.response)


def test_names_are_unique() -> None:
    names = [command.commandName for command in commands(wire)]
    assert len(names) == len(set(names))


def test_a_slip_is_seen() -> None:
    class Slip(amp.Command):
        argument = ((b"name", amp.Argument()),)

    assert unknown(Slip) == {"argument"}
