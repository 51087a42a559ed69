"""Plain data (from TOML) into attrs classes, strictly, with every problem found at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from math import isfinite
from typing import Annotated, Any, TypeVar, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override

T = TypeVar("T")


@attrs.frozen
class Problem:
    """One thing that is wrong in the data."""

    #: Where: the keys from the top, e.g. `("broker", "lease")`.
    where: tuple[str, ...]
    #: What was found, what was expected, and the nearest valid name if there is one.
    message: str


class Invalid(Exception):
    """The data does not have the shape of the class; carries every Problem."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{'.'.join(p.where)}: {p.message}" for p in problems))
        self.problems = problems


def structure(cls: type[T], data: Any, hooks: Mapping[Any, Callable[..., Any]]) -> T:
    """`data` as an instance of the attrs class `cls`; a key is a field's name without final `_`.

    Nothing is converted silently: `"3"` and `true` are no numbers. `hooks` says for further types
    how a TOML value becomes one (a function that raises ValueError("expected ...")). A field typed
    `Annotated[T, check]` also runs `check(value)`, which raises likewise. Raises Invalid.
    """
    converter = Converter(detailed_validation=True)
    for plain, expected in _PLAIN.items():
        converter.register_structure_hook(plain, _strict(plain, expected))
    for other, hook in hooks.items():
        converter.register_structure_hook(other, _one_argument(hook))
    converter.register_structure_hook_factory(attrs.has, lambda c: _table(c, converter))
    converter.register_structure_hook_factory(_is(Annotated), lambda t: _checked(t, converter))
    converter.register_structure_hook_factory(_is(tuple), lambda t: _array(t, converter))
    converter.register_structure_hook_factory(_is(dict), lambda t: _tables(t, converter))
    try:
        return converter.structure(data, cls)
    except (BaseValidationError, ValueError) as error:
        raise Invalid(list(_problems(error, data, ()))) from None


def nearest(name: str, names: list[str]) -> str:
    """`; did you mean 'x'?` or, when nothing is near, the names there are."""
    close = get_close_matches(name, names, 1, 0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; expected one of {', '.join(sorted(names))}" if names else ""


_PLAIN: dict[type, str] = {
    str: "text in quotes",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}


def _one_argument(hook: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda value, _: hook(value)


def _is(origin: Any) -> Callable[[Any], bool]:
    return lambda cls: get_origin(cls) is origin


def _strict(plain: type, expected: str) -> Callable[[Any, Any], Any]:
    accepted = (int, float) if plain is float else (plain,)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, accepted) or (isinstance(value, bool) and plain is not bool):
            raise ValueError(f"expected {expected}")
        try:
            read = plain(value)
        except OverflowError:
            raise ValueError("expected a smaller number") from None
        if isinstance(read, float) and not isfinite(read):
            raise ValueError("expected a finite number")
        return read

    return hook


def _table(cls: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    names: Any = {a.name: override(rename=a.name.rstrip("_")) for a in attrs.fields(cls)}
    fill = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True, **names)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("expected a table")
        return fill(dict(value), cls)

    return hook


def _tables(cls: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    fill: Any = converter.gen_structure_mapping(cls)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("expected a table")
        return fill(value, cls)

    return hook


def _array(cls: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    items: Any = list[get_args(cls)[0]]  # type: ignore[misc]
    inner = converter.get_structure_hook(items)

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError("expected a list, e.g. [1, 2]")
        return tuple(inner(value, items))

    return hook


def _checked(cls: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    inner, check = get_args(cls)[:2]
    hook = converter.get_structure_hook(inner)
    return lambda value, _: check(hook(value, inner))


def _problems(error: BaseException, data: Any, where: tuple[str, ...]) -> Iterator[Problem]:
    if isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            key = _key(inner)
            if key is None:
                yield from _problems(inner, data, where)
            else:
                yield from _problems(inner, _item(data, key), (*where, str(key)))
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [a.name.rstrip("_") for a in attrs.fields(error.cl)]
        for name in sorted(error.extra_fields):
            yield Problem((*where, name), f"unknown key{nearest(name, known)}")
    elif isinstance(error, KeyError):
        yield Problem(where, "is missing")
    else:
        yield Problem(where, f"found {data!r}, {error}")


def _key(error: BaseException) -> str | int | None:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return note.name.rstrip("_")
        if isinstance(note, IterableValidationNote):
            return note.index
    return None


def _item(data: Any, key: str | int) -> Any:
    try:
        return data[key]
    except (KeyError, IndexError, TypeError):
        return None
