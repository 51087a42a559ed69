"""The environment that jobs run with: chosen variables of the component's own, not all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from wmtwisted.errors import ConfigError

#: What programs need to find each other, their user, and the user's language and time. `*` stands
#: for any further letters.
USUAL = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "PYTHON*",
    "VIRTUAL_ENV",
)

_ENTRY = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<star>\*)|=(?P<value>[^\0]*))?", re.S)


def chosen(environ: Mapping[str, str], more: Sequence[str]) -> dict[str, str]:
    """The usual variables of `environ`, and those that `more` names.

    An entry of `more` is `NAME`, `PREFIX*` or `NAME=value`. Raises ConfigError for another.
    """
    names, values = list(USUAL), {}
    for entry in more:
        found = _ENTRY.fullmatch(entry) if isinstance(entry, str) else None
        if found is None:
            raise ConfigError(f"variable {entry!r}: expected NAME, PREFIX* or NAME=value")
        if found["value"] is not None:
            values[found["name"]] = found["value"]
        else:
            names.append(entry)
    kept = {
        name: value
        for name, value in environ.items()
        if any(fnmatchcase(name, pattern) for pattern in names)
    }
    return {**kept, **values}
