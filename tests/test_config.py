"""The configuration: defaults, variables, and every mistake told at once with its place."""

# Twisted's endpoints are untyped.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import os
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.testing import MemoryReactorClock

from wmtwisted.config import DEFAULTS, Config, default_text, load
from wmtwisted.endpoint import parse_endpoint
from wmtwisted.errors import ConfigError
from wmtwisted.structure import Invalid, structure
from wmtwisted.tomlfile import toml


def config_of(folder: Path, text: str = "", **variables: str) -> Config:
    file = folder / "wm.toml"
    file.write_text(text)
    return load(file, variables)


def problems_of(folder: Path, text: str = "", **variables: str) -> list[str]:
    """The lines of the error, without the folder."""
    with pytest.raises(ConfigError) as caught:
        config_of(folder, text, **variables)
    assert caught.value.hint
    return [line.replace(f"{folder}/", "") for line in str(caught.value).splitlines()]


def test_an_empty_file_is_a_whole_configuration(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert config.home == tmp_path
    assert config.store.bus == f"sqlite:///{tmp_path}/var/bus.sqlite"
    assert config.broker.listen.path == f"{tmp_path}/run/broker.sock"
    assert config.web.listen is None
    assert config.batch.slots == 2 * (os.cpu_count() or 1)
    assert config.flow.spec.name == "lifecycle.flow"
    assert config.broker.backoff[0] == 1.0
    assert next(iter(config.components)) == "JobCreator"
    assert len(config.components) == 7
    assert config.component("DBS").class_ == "wmtwisted.lifecycle.dbs:DBS"
    for path in (config.paths.log, config.paths.sandbox, config.paths.storage, config.batch.root):
        assert path.is_relative_to(tmp_path)


def test_the_file_of_wm_init_says_every_key_and_changes_none(tmp_path: Path) -> None:
    text, config = default_text(), config_of(tmp_path)
    assert config_of(tmp_path, text) == config
    text = text.split("# [components.NAME]")[0]
    uncommented = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    assert config_of(tmp_path, uncommented) == config
    for section in attrs.fields(Config):
        if section.name not in ("components", "path"):
            assert f"[{section.name}]" in text
            for key in attrs.fields(type(getattr(config, section.name))):
                assert f"\n# {key.name} = " in text
    assert text.startswith("# The configuration of one wmtwisted instance")
    assert max(map(len, text.splitlines())) <= 100


def test_the_file_of_wm_init_with_values(tmp_path: Path) -> None:
    text = default_text({"web.listen": "tcp:8080", "batch.slots": 3, "broker.backoff": [0.5]})
    config = config_of(tmp_path, text)
    assert config.web.listen is not None
    assert config.web.listen.url == "http://127.0.0.1:8080/"
    assert (config.batch.slots, config.broker.backoff) == (3, (0.5,))
    with pytest.raises(ValueError, match=r"web\.lisen"):
        default_text({"web.lisen": "tcp:1"})


def test_every_default_has_a_comment() -> None:
    lines = DEFAULTS.read_text().split("[components.JobCreator]")[0].splitlines()
    for above, line in pairwise(lines):
        if re.match(r"\w+ = ", line):
            assert above.startswith("# "), line


def test_all_mistakes_at_once_each_with_its_line(tmp_path: Path) -> None:
    text = """colour = 1
[stor]
[broker]
leese = 3
listen = "tcp:99:interface=0.0.0.0"
attempts = "3"
backoff = [1, "2", -1]
window = true
[components.DBS]
thread = 2
[components.Mine]
threads = 0
[paths]
log = 3
"""
    assert problems_of(tmp_path, text) == [
        "wm.toml:1: colour: unknown key; expected one of batch, broker, components, flow, paths, "
        "store, web",
        "wm.toml:2: stor: unknown key; did you mean 'store'?",
        "wm.toml:4: broker.leese: unknown key; did you mean 'lease'?",
        "wm.toml:5: broker.listen: found 'tcp:99:interface=0.0.0.0', expected a loopback interface "
        "(127.0.0.1): nothing is encrypted here",
        "wm.toml:6: broker.attempts: found '3', expected a whole number",
        "wm.toml:7: broker.backoff.1: found '2', expected a number",
        "wm.toml:7: broker.backoff.2: found -1, expected 0 or more",
        "wm.toml:8: broker.window: found True, expected a whole number",
        "wm.toml:10: components.DBS.thread: unknown key; did you mean 'threads'?",
        "wm.toml:11: components.Mine.class: is missing: only the components of the package have "
        "one, e.g. 'module:Class'",
        "wm.toml:12: components.Mine.threads: found 0, expected more than 0",
        "wm.toml:14: paths.log: found 3, expected text in quotes",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[store\n", "not TOML"),
        ("store = 3", "wm.toml:1: store: found 3, expected a table"),
        ("components = 3", "wm.toml:1: components: found 3, expected a table"),
        ("web = 3", "wm.toml:1: web: found 3, expected a table"),
        ("[components]\nDBS = 3", "wm.toml:2: components.DBS: found 3, expected a table"),
        ('[store]\nbus = "postgresql://x/y"', "expected sqlite:///FILE or mysql+pymysql://"),
        ('[store]\nbus = "sqlite:///"', "expected sqlite:///FILE"),
        ('[store]\nprefix = "Ms;"', "store.prefix: found 'Ms;', expected a-z"),
        ("[broker]\nlease = 0", "broker.lease: found 0, expected more than 0"),
        ("[broker]\nlease = nan", "broker.lease: found nan, expected a finite number"),
        ("[broker]\nbackoff = []", "broker.backoff: found [], expected one number at least"),
        ("[broker]\nbackoff = 3", "broker.backoff: found 3, expected a list"),
        ("[batch]\nslots = false", "batch.slots: found False, expected a whole number"),
        ("[paths]\nlog = ''", "paths.log: found '', expected a path"),
        ("[components.'a b']\nclass = 'a:B'", "expected a name of a letter"),
        ("[components.broker]\nclass = 'a:B'", "expected another name: 'broker' is the broker's"),
        ("[components.A]\nclass = 'a.B'", "components.A.class: found 'a.B', expected module:Class"),
        (
            "[store]\nbus = 'sqlite:///a'\njobs = 'sqlite:///./a'",
            "the bus' file, which one broker locks for itself",
        ),
    ],
)
def test_one_mistake(tmp_path: Path, text: str, problem: str) -> None:
    lines = problems_of(tmp_path, text)
    assert len(lines) == 1
    assert problem in lines[0]


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    line = problems_of(tmp_path, "[store]\nbus = 'postgresql://me:secret@host/name'")[0]
    assert "secret" not in line
    assert "postgresql://me:***@host/name" in line


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no configuration file .*/none\.toml"):
        load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path)


def test_variables_win_over_the_file(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        "[broker]\nlease = 5\nname = 'one'",
        WM_BROKER_LEASE="7.5",
        WM_BROKER_BACKOFF="1, 2",
        WM_WEB_LISTEN="tcp:81",
        WM_WEB_HOSTS="['a.example']",
        WM_STORE_BUS="mysql+pymysql://me:secret@host/name",
        WM_CONFIG="ignored",
        WM_SUPERVISOR="12",
        HOME="/",
    )
    assert (config.broker.lease, config.broker.name) == (7.5, "one")
    assert config.broker.backoff == (1.0, 2.0)
    assert str(config.web.listen) == "tcp:127.0.0.1:81"
    assert config.web.hosts == ("a.example",)
    assert config.store.bus == "mysql+pymysql://me:secret@host/name"


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    assert problems_of(tmp_path, WM_BROKER_LEASE="long", WM_BROKER_LEESE="3") == [
        "WM_BROKER_LEASE: broker.lease: found 'long', expected a number",
        "WM_BROKER_LEESE: broker.leese: unknown key; did you mean 'lease'?",
    ]


def test_a_flow_of_ones_own_has_only_its_own_components(tmp_path: Path) -> None:
    config = config_of(tmp_path, "[flow]\nspec = 'my.flow'\n[components.A]\nclass = 'my.code:A'")
    assert list(config.components) == ["A"]
    assert config.flow.spec == tmp_path / "my.flow"
    with pytest.raises(ConfigError, match=r"no component 'B'; expected one of A"):
        config.component("B")


def test_options_are_the_components_own(tmp_path: Path) -> None:
    text = "[components.DBS]\nthreads = 2\n[components.DBS.options]\nurl = 'x'\ndeep = {a = [1]}"
    config = config_of(tmp_path, text)
    assert config.component("DBS").options == {"url": "x", "deep": {"a": [1]}}
    assert config.component("DBS").threads == 2


def test_a_long_socket_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    monkeypatch.chdir("/")
    (line,) = problems_of(deep, "")
    assert "expected a socket path of at most 100 bytes" in line
    assert "tcp:PORT" in line
    # From the instance's own folder it is short enough.
    monkeypatch.chdir(deep)
    assert config_of(deep).broker.listen.path == "run/broker.sock"


@pytest.mark.parametrize(
    "text", ["unix:a b:c=d\\e.sock", "tcp:81", "tcp:81:interface=127.0.0.2", "unix:~/x.sock"]
)
def test_twisted_understands_the_endpoints(text: str) -> None:
    endpoint = parse_endpoint(text, Path("/home/of"))
    serverFromString(MemoryReactorClock(), endpoint.server)
    clientFromString(MemoryReactorClock(), endpoint.client)


@pytest.mark.parametrize(
    "text",
    ["", "tcp", "tcp:", "unix:", "tcp:0", "tcp:65536", "tcp:a", "tcp:²", "ssl:1", "tcp:1:host=::",
     "tcp:1:interface=", "tcp:1:interface=::1", "tcp:1:interface=example.org", "tcp6:1"],
)  # fmt: skip
def test_endpoints_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_endpoint(text, Path("/"))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
)


@attrs.frozen
class Shape:
    number: int
    words: tuple[str, ...]
    inner: dict[str, float]


@given(values)
def test_whatever_the_data_is_the_answer_is_an_object_or_problems(data: object) -> None:
    for shaped in (data, {"number": data, "words": data, "inner": data}):
        try:
            assert isinstance(structure(Shape, shaped, {}), Shape)
        except Invalid as invalid:
            problems = invalid.problems
            assert problems


@given(st.text())
def test_text_is_written_as_toml_reads_it(text: str) -> None:
    assert tomllib.loads(f"value = {toml(text)}")["value"] == text
