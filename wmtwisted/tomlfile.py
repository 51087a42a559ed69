"""What TOML does not give: variables over it, tables merged, lines of keys, values written."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wmtwisted.structure import Problem


def overlay(
    given: dict[str, Any], defaults: dict[str, Any], environ: Mapping[str, str]
) -> dict[tuple[str, ...], str]:
    """Put the variables `WM_<SECTION>_<KEY>` into `given`, each read as its default's type.

    The answer says which (section, key) came from which variable.
    """
    origins: dict[tuple[str, ...], str] = {}
    for section in defaults.keys() - {"components"}:
        begin = f"WM_{section.upper()}_"
        for variable in environ:
            table = given.setdefault(section, {})
            if not variable.startswith(begin) or not isinstance(table, dict):
                continue
            key = variable.removeprefix(begin).lower()
            table[key] = _value(environ[variable], defaults[section].get(key))
            origins[(section, key)] = variable
    return origins


def _value(text: str, default: Any) -> Any:
    if isinstance(default, str):
        return text
    if isinstance(default, list) and not text.startswith("["):
        text = f"[{text}]"
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def merged(defaults: Any, given: Any) -> Any:
    """The tables of both, key by key; where only one is a table, or none, what was given."""
    if not isinstance(defaults, dict) or not isinstance(given, dict):
        return given
    both = {key: merged(defaults[key], given[key]) for key in defaults.keys() & given.keys()}
    return {**defaults, **given, **both}


def line(file: Path, text: str, problem: Problem, variables: dict[tuple[str, ...], str]) -> str:
    """`FILE:LINE: key: message`, the line being that of the key or else of its table."""
    key = ".".join(problem.where)
    if problem.where[:2] in variables:
        return f"{variables[problem.where[:2]]}: {key}: {problem.message}"
    place = str(file)
    for depth in range(len(problem.where), 0, -1):
        number = _find(text, problem.where[:depth])
        if number:
            place = f"{file}:{number}"
            break
    return f"{place}: {key}: {problem.message}"


def _find(text: str, where: tuple[str, ...]) -> int:
    """The number of the line that opens the table or sets the key; 0 when there is none."""
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[([^\[\]]+)\]", line)
        if header:
            table = header[1].replace(" ", "").replace('"', "")
            if table == ".".join(where):
                return number
        key = re.match(r'\s*"?([\w.-]+)"?\s*=', line)
        if key and ".".join(filter(None, (table, key[1]))) == ".".join(where):
            return number
    return 0


def by_line(line: str) -> list[int | str]:
    """The key that sorts lines as people do, with line 9 before line 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", line)]


def toml(value: Any) -> str:
    """A str, int, float, bool, or list of those, as TOML."""
    if isinstance(value, str):
        # JSON's escapes are TOML's, but TOML wants DEL escaped too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return repr(value)
