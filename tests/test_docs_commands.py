"""Every command that the documentation shows exists, with the options that it shows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.docs import PAGES, ROOT, blocks, name, prose
from wmtwisted.cli.main import wm as root
from wmtwisted.tap import broker, component

PLUGINS = {"wmbroker": broker.Options, "wmcomponent": component.Options}
#: Where Twisted looks for a plugin's options; its stubs do not know of it.
PARAMETERS = "optParameters"


def shown(path: Path) -> Iterator[tuple[list[str], bool]]:
    """The commands of a page: their words, and whether they are meant to be run as they stand."""
    for one in blocks(path):
        if one.language == "console":
            for line in re.findall(r"^\$ (.+)$", one.text, re.MULTILINE):
                yield from ((words, True) for words in commands(line))
    for code in re.findall(r"`([^`]+)`", prose(path)):
        if re.match(r"(\w+=\S+ )?(wm|make|twistd) ", code):
            yield from ((words, False) for words in commands(" ".join(code.split())))


def commands(line: str) -> Iterator[list[str]]:
    """The words of each command in a line of shell, without variables before it."""
    lexer = shlex.shlex(re.sub(r" > \S+", "", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for token in [*lexer, ";"]:
        if set(token) <= set("|&;<>"):
            if words:
                yield words
            words = []
        elif words or not re.match(r"\w+=", token):
            words.append(token)


def check_wm(words: list[str], whole: bool) -> None:
    """Fails unless `wm` with these words is a command with these options."""
    command: click.Command = root
    context = click.Context(root)
    allowed = options(root) | {"--help", "-h"}
    rest = words[1:]
    while isinstance(command, click.Group):
        assert rest or not whole, f"{words}: no command"
        if not rest:
            return
        if rest[0].startswith("-"):
            assert rest.pop(0) in allowed, words
            continue
        if rest[0] == "...":
            return
        found = command.get_command(context, rest[0])
        assert found is not None, f"{words}: there is no {rest[0]!r}"
        command, rest = found, rest[1:]
    if whole:
        command.make_context(words[-1], list(rest))
        return
    allowed = options(command) | {"--help", "-h"}
    assert {word for word in rest if word.startswith("-")} <= allowed, words


def options(command: click.Command) -> set[str]:
    return {name for one in command.params for name in (*one.opts, *one.secondary_opts)}


def check_twistd(words: list[str]) -> None:
    """Fails unless these are `twistd`, its options, a plugin of ours, and that one's options."""
    place = next((at for at, word in enumerate(words) if word in PLUGINS), None)
    assert place is not None, words
    assert set(words[1:place]) <= {"-n", "--pidfile="}, words
    known = {f"--{row[0]}" for row in getattr(PLUGINS[words[place]], PARAMETERS)}
    assert {word for word in words[place:] if word.startswith("-")} <= known, words


def check_make(words: list[str]) -> None:
    """Fails unless the Makefile has this target, and these variables."""
    makefile = (ROOT / "Makefile").read_text()
    for word in words[1:]:
        variable, equals, _ = word.partition("=")
        pattern = rf"^{variable} \?=" if equals else rf"^{re.escape(word)}:"
        assert re.search(pattern, makefile, re.MULTILINE), words


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_commands_are_as_shown(path: Path) -> None:
    for words, whole in shown(path):
        match words[0]:
            case "wm":
                try:
                    check_wm(words, whole)
                except click.ClickException as error:
                    pytest.fail(f"{words}: {error.format_message()}")
            case "twistd":
                check_twistd(words)
            case "make":
                check_make(words)
            case other:
                assert other in {"sqlite3", "cat", "echo"}, words


@pytest.mark.parametrize(
    "line",
    [
        "wm queue lst",
        "wm job list --nonsense",
        "wm replay --dry-run",
        "wm job list --limit many",
        "twistd -n wmbrker",
        "twistd -n wmbroker --confg wm.toml",
        "make dmo",
        "make demo IN=x",
    ],
)
def test_a_wrong_command_would_be_found(line: str) -> None:
    (words,) = commands(line)
    check = {"wm": lambda: check_wm(words, True), "twistd": lambda: check_twistd(words)}
    with pytest.raises((AssertionError, click.ClickException)):
        check.get(words[0], lambda: check_make(words))()


def test_every_command_is_shown() -> None:
    seen = {" ".join(words[1:3]) for path in PAGES for words, _ in shown(path) if words[0] == "wm"}
    context = click.Context(root)
    for first in root.list_commands(context):
        command = root.get_command(context, first)
        if isinstance(command, click.Group):
            for second in command.list_commands(context):
                assert f"{first} {second}" in seen
        else:
            assert any(words == first or words.startswith(f"{first} ") for words in seen), first
