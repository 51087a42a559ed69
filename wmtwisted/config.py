"""The configuration of one instance: a TOML file over the defaults in `default.toml`.

`load("wm.toml")` gives a Config whose paths are absolute and whose values have all been checked:
nothing that runs needs to look at the file, the environment or a default again.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from wmtwisted.endpoint import Endpoint, parse_endpoint
from wmtwisted.errors import ConfigError
from wmtwisted.sections import (
    NAME,
    BatchConfig,
    BrokerConfig,
    ComponentConfig,
    DatabaseURL,
    FlowConfig,
    PathsConfig,
    StoreConfig,
    WebConfig,
)
from wmtwisted.structure import Invalid, Problem, nearest, structure
from wmtwisted.tomlfile import by_line, line, merged, overlay, toml

DEFAULTS = Path(__file__).with_name("default.toml")
PACKAGED_FLOW = Path(__file__).parent / "lifecycle" / "lifecycle.flow"


@frozen
class _File:
    """The shape of the file."""

    store: StoreConfig
    broker: BrokerConfig
    web: WebConfig
    flow: FlowConfig
    batch: BatchConfig
    paths: PathsConfig
    components: dict[str, ComponentConfig]


@frozen
class Config(_File):
    """Everything there is to know about an instance. All paths are absolute."""

    #: The file this was read from.
    path: Path

    @property
    def home(self) -> Path:
        """The instance's folder: where its configuration file is."""
        return self.path.parent

    def component(self, name: str) -> ComponentConfig:
        """The configuration of the component `name`; raises ConfigError when there is none."""
        if name not in self.components:
            raise ConfigError(
                f"{self.path}: there is no component {name!r}{nearest(name, [*self.components])}",
                "components are the life cycle's, and those with a [components.NAME]",
            )
        return self.components[name]


def load(path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration in the file `path`, with `WM_<SECTION>_<KEY>` of `environ` over it.

    Raises ConfigError with every problem, one per line: file and line, key, what was found, what
    was expected, and the nearest valid name.
    """
    file = Path(path).absolute()
    text = _read(file)
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not TOML: {error}", _HINT) from None
    defaults = tomllib.loads(DEFAULTS.read_text())
    variables = overlay(given, defaults, environ)
    if isinstance(given.get("flow"), dict) and given["flow"].get("spec"):
        # The seven components of the life cycle belong to its flow, not to another one.
        defaults["components"] = {}
    data = _resolved(merged(defaults, given))
    try:
        read = structure(_File, data, _hooks(file.parent))
        problems = _contradictions(read)
    except Invalid as error:
        problems = error.problems
    if problems:
        lines = [line(file, text, problem, variables) for problem in map(_explained, problems)]
        raise ConfigError("\n".join(sorted(lines, key=by_line)), _HINT)
    parts = {name: getattr(read, name) for name in data}
    return Config(**parts, path=file)


_HINT = "`wm init` in an empty folder writes a file with every key and its meaning"


def default_text(values: Mapping[str, Any] | None = None) -> str:
    """The text of a configuration file: every key, commented out, but for those in `values`.

    `values` has dotted keys (`"web.listen"`) and str, int, float or list values.
    """
    wanted = dict(values or {})
    section, lines = "", []
    for row in DEFAULTS.read_text().split("\n[components.JobCreator]")[0].splitlines():
        header = re.fullmatch(r"\[(\w+)\]", row)
        key = re.match(r"(\w+) = ", row)
        if header:
            section = header[1]
        if key:
            name = f"{section}.{key[1]}"
            row = f"{key[1]} = {toml(wanted.pop(name))}" if name in wanted else f"# {row}"
        lines.append(row)
    if wanted:
        raise ValueError(f"there is no key {', '.join(wanted)}")
    return "\n".join(lines) + "\n"


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        raise ConfigError(
            f"there is no configuration file {file}",
            "make one with `wm init`, or name another with --config or WM_CONFIG",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration file {file}: {error}") from error


def _resolved(data: dict[str, Any]) -> dict[str, Any]:
    """Give the empty values their meaning."""
    meanings = {
        ("web", "listen", ""): None,
        ("flow", "spec", ""): str(PACKAGED_FLOW),
        ("batch", "slots", 0): 2 * (os.cpu_count() or 1),
    }
    for (section, key, empty), meaning in meanings.items():
        table = data[section]
        if isinstance(table, dict) and repr(table.get(key)) == repr(empty):
            data = {**data, section: {**table, key: meaning}}
    return data


def _hooks(home: Path) -> dict[Any, Any]:
    def text(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("expected text in quotes")
        return value

    def database(value: Any) -> DatabaseURL:
        url = text(value)
        if url.startswith("sqlite:///") and url != "sqlite:///":
            file = os.path.normpath(home / url.removeprefix("sqlite:///"))
            return DatabaseURL(f"sqlite:///{file}")
        if re.match(r"mysql\+pymysql://\S+/\w+", url):
            return DatabaseURL(url)
        raise ValueError("expected sqlite:///FILE or mysql+pymysql://USER@HOST/NAME")

    def path(value: Any) -> Path:
        if not text(value):
            raise ValueError("expected a path")
        return Path(os.path.normpath(home / Path(value).expanduser()))

    def endpoint(value: Any) -> Endpoint:
        return parse_endpoint(text(value), home)

    return {
        DatabaseURL: database,
        Path: path,
        Endpoint: endpoint,
        Endpoint | None: lambda value: None if value is None else endpoint(value),
    }


def _contradictions(config: _File) -> list[Problem]:
    """What is wrong although each value is right by itself."""
    problems = []
    if config.store.bus == config.store.jobs and config.store.bus.startswith("sqlite:"):
        message = f"{config.store.jobs!r} is the bus' file, which one broker locks for itself"
        problems.append(Problem(("store", "jobs"), message))
    for name in config.components:
        if not re.fullmatch(NAME, name):
            message = "expected a name of a letter, then letters, digits or _, 40 at most"
            problems.append(Problem(("components", name), message))
        if name in ("broker", config.broker.name):
            message = f"expected another name: {name!r} is the broker's"
            problems.append(Problem(("components", name), message))
    return problems


def hide_password(text: str) -> str:
    """`text` with the passwords of the URLs in it replaced by `***`."""
    return re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", text)


def _explained(problem: Problem) -> Problem:
    """A missing class says why it is needed; a password is hidden."""
    if problem.where[0] == "components" and problem.message == "is missing":
        why = "is missing: only the components of the package have one, e.g. 'module:Class'"
        return Problem(problem.where, why)
    return Problem(problem.where, hide_password(problem.message))
