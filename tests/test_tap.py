"""What both plugins refuse: one clear line, a hint, a code, and never a traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from twisted.application.service import IService
from twisted.internet import reactor
from twisted.python.usage import UsageError

from tests.instance import NOBODY, Instance, Process, instance, until
from wmtwisted.config import default_text
from wmtwisted.message import Message
from wmtwisted.tap import broker, component
from wmtwisted.tap.process import explain

FLOW = NOBODY.replace("Elsewhere", "Part")


class Ground:
    """A folder with a configuration that is right until the test makes it wrong."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self.path = home / "wm.toml"
        self._capsys = capsys
        (home / "my.flow").write_text(FLOW)
        self.configure()

    def configure(self, kind: str = "tests.tap_parts:Good", more: str = "", **values: Any) -> None:
        """Writes the configuration."""
        given = {
            "flow.spec": "my.flow",
            "store.bus": "sqlite:///bus.sqlite",
            "broker.listen": "unix:b.sock",
            **{name.replace("__", "."): value for name, value in values.items()},
        }
        text = default_text(given) + f'\n[components.Part]\nclass = "{kind}"\n{more}'
        self.path.write_text(text)

    def refused(self, options: broker.Options | component.Options, *more: str) -> tuple[str, str]:
        """The error and the hint with which these options are refused."""
        with pytest.raises(SystemExit) as ended:
            options.parseOptions(["--config", str(self.path), *more])
        assert ended.value.code == 1
        return self.told()

    def told(self) -> tuple[str, str]:
        """The error and the hint that were printed."""
        said = self._capsys.readouterr()
        assert said.out == ""
        assert "Traceback" not in said.err
        error, _, hint = said.err.partition("\nhint: ")
        assert error.startswith("error: ")
        assert said.err.count("error: ") == 1
        return error.removeprefix("error: ").strip(), hint.strip()

    def broker(self) -> tuple[str, str]:
        """How the broker is refused."""
        return self.refused(broker.Options())

    def component(self, name: str = "Part") -> tuple[str, str]:
        """How the component is refused."""
        return self.refused(component.Options(), "--component", name)


@pytest.fixture
def ground(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ground:
    return Ground(tmp_path, capsys)


BOTH = pytest.mark.parametrize("plugin", ["broker", "component"])


# The configuration -----------------------------------------------------------------------------


@BOTH
def test_no_configuration_file(ground: Ground, plugin: str) -> None:
    ground.path.unlink()
    error, hint = getattr(ground, plugin)()
    assert error == f"there is no configuration file {ground.path}"
    assert "wm init" in hint


@BOTH
def test_a_folder_as_configuration_file(ground: Ground, plugin: str) -> None:
    ground.path.unlink()
    ground.path.mkdir()
    error, _ = getattr(ground, plugin)()
    assert error.startswith(f"cannot read the configuration file {ground.path}")


@BOTH
def test_a_wrong_key(ground: Ground, plugin: str) -> None:
    ground.path.write_text(ground.path.read_text().replace("[broker]", "[broker]\nleese = 5"))
    error, hint = getattr(ground, plugin)()
    assert "leese" in error
    assert "lease" in error
    assert re.search(r"wm\.toml:\d+", error)
    assert hint


@BOTH
def test_a_wrong_value(ground: Ground, plugin: str) -> None:
    ground.configure(broker__lease="long")
    error, hint = getattr(ground, plugin)()
    assert "broker.lease" in error
    assert "'long'" in error
    assert hint


@BOTH
def test_what_is_not_toml(ground: Ground, plugin: str) -> None:
    ground.path.write_text("[broker\n")
    error, hint = getattr(ground, plugin)()
    assert "not TOML" in error
    assert hint


def test_an_option_that_is_none() -> None:
    with pytest.raises(UsageError):
        broker.Options().parseOptions(["--confg", "x"])


# The flow ---------------------------------------------------------------------------------------


@BOTH
def test_an_unreadable_flow(ground: Ground, plugin: str) -> None:
    (ground.home / "my.flow").write_text("handler = {'component': 'A'\n")
    error, hint = getattr(ground, plugin)()
    assert hint
    assert re.search(r"my\.flow:\d+:\d+: ", error)


@BOTH
def test_a_flow_that_is_not_there(ground: Ground, plugin: str) -> None:
    (ground.home / "my.flow").unlink()
    error, hint = getattr(ground, plugin)()
    assert "my.flow" in error
    assert "flow.spec" in hint


# The component ----------------------------------------------------------------------------------


def test_no_component_is_named(ground: Ground) -> None:
    error, hint = ground.component("")
    assert error == "no component is named"
    assert "Part" in hint


def test_an_unknown_component(ground: Ground) -> None:
    error, hint = ground.component("Prat")
    assert "there is no component 'Prat'" in error
    assert "Part" in error
    assert hint


def test_a_component_that_the_flow_does_not_know(ground: Ground) -> None:
    (ground.home / "my.flow").write_text(NOBODY)
    error, hint = ground.component()
    assert "the flow has no component 'Part'" in error
    assert hint


def test_a_component_that_does_something_else(ground: Ground) -> None:
    ground.configure("tests.tap_parts:Other")
    error, hint = ground.component()
    assert error.startswith("Part (tests.tap_parts:Other) does not do what the flow says:")
    assert "Part can handle 'Somethin', but not in the flow" in error
    assert "did you mean 'Something'?" in error
    assert "Part does not handle 'Something', as the flow says at" in error
    assert hint.startswith("change the component, or ")


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("tests.nowhere:Good", "No module named 'tests.nowhere'"),
        ("tests.tap_parts:God", "has no attribute 'God'"),
        ("tests.tap_parts:not_a_class", "is no Component"),
        ("tests.tap_parts:NotAComponent", "is no Component"),
        ("tests.tap_parts:Twice", "again and something both handle Something"),
        ("tests.tap_broken:Broken", "publishes='A|' of Something"),
        ("tests.tap_syntax:Broken", "invalid syntax"),
        ("tests..tap_parts:Good", "tests."),
    ],
)
def test_a_class_that_cannot_be_had(
    ground: Ground, kind: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tests

    folder = ground.home / "modules"
    folder.mkdir()
    (folder / "tap_syntax.py").write_text("class Broken(:\n")
    monkeypatch.setattr(tests, "__path__", [*tests.__path__, str(folder)])
    ground.configure(kind)
    error, hint = ground.component()
    assert error.startswith(f"components.Part.class: {kind!r}")
    assert why in error
    assert "\n" not in error
    assert hint


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("Demanding", "components.Part.options.size is 'big', expected int, e.g. 5"),
        ("Unhappy", "components.Part: Unhappy cannot be made: KeyError: 'no such thing'"),
    ],
)
def test_a_component_that_refuses_to_be_made(ground: Ground, kind: str, expected: str) -> None:
    ground.configure(f"tests.tap_parts:{kind}", '[components.Part.options]\nsize = "big"\n')
    options = component.Options()
    options.parseOptions(["--config", str(ground.path), "--component", "Part"])
    with pytest.raises(SystemExit) as ended:
        component.makeService(options)
    assert ended.value.code == 1
    assert ground.told()[0] == expected


def test_a_component_that_is_right(ground: Ground) -> None:
    options = component.Options()
    options.parseOptions(["--config", str(ground.path), "--component", "Part"])
    assert IService.providedBy(component.ComponentService(options, reactor))


# The store --------------------------------------------------------------------------------------


def test_a_store_in_a_folder_that_is_not_there(ground: Ground) -> None:
    ground.configure(store__bus="sqlite:///nowhere/bus.sqlite")
    error, hint = ground.broker()
    assert "nowhere" in error
    assert hint


def test_a_store_that_is_a_folder(ground: Ground) -> None:
    (ground.home / "bus.sqlite").mkdir()
    error, _ = ground.broker()
    assert "cannot open the bus store" in error


def test_a_store_that_is_something_else(ground: Ground) -> None:
    (ground.home / "bus.sqlite").write_text("this is a letter, not a database\n" * 100)
    error, _ = ground.broker()
    assert "cannot open the bus store" in error
    assert "not a database" in error


def test_a_lock_that_cannot_be_made(ground: Ground) -> None:
    (ground.home / "bus.sqlite.lock").mkdir()
    error, hint = ground.broker()
    assert "bus.sqlite.lock" in error
    assert hint


#: Root may write anywhere, so somebody else is asked.
NOBODY_ELSE = (
    "import os, sys; import encodings.utf_8_sig, sqlalchemy.dialects.sqlite;"
    "from wmtwisted.tap.broker import Options;"
    "os.setgroups([]); os.setegid(65534); os.seteuid(65534); Options().parseOptions(sys.argv[1:])"
)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_that_cannot_be_written() -> None:
    with instance() as one:
        one.home.chmod(0o755)
        for path in (one.path, one.home / "my.flow"):
            path.chmod(0o644)
        ran = subprocess.run(
            [sys.executable, "-c", NOBODY_ELSE, "--config", str(one.path)],
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert re.match(r"error: cannot open the bus store at .*\n", ran.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_store_that_cannot_be_written() -> None:
    """It can be read, and the lock is another one's."""
    with instance() as one:
        one.broker()
        one.kill("broker")
        one.home.chmod(0o777)
        (one.home / "broker.sock.lock").unlink()
        for path in one.home.iterdir():
            path.chmod(0o755 if path.is_dir() else 0o444)
        ran = subprocess.run(
            [sys.executable, "-c", NOBODY_ELSE, "--config", str(one.path)],
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert ran.stderr.startswith("error: ")


def test_a_store_of_another_version(ground: Ground) -> None:
    options = broker.Options()
    options.parseOptions(["--config", str(ground.path)])
    with options.engine.begin() as connection:
        connection.execute(update(options.tables.version).values(version=999))
    options.lock.release()
    options.engine.dispose()
    error, hint = ground.broker()
    assert "layout 999" in error
    assert hint


# As processes -----------------------------------------------------------------------------------


def clear(process: Process, *parts: str) -> None:
    """One line with the error, and no traceback."""
    assert process.ended() == 1
    [line] = [line for line in process.said.splitlines() if line.startswith("error: ")]
    for part in parts:
        assert part in line
    assert "Traceback" not in process.said


def test_as_processes() -> None:
    """The same, as a user sees it."""
    parts = {"Part": "tests.tap_parts:Failing"}
    with instance(FLOW, parts) as one:
        wrong = one.home / "wrong.toml"
        wrong.write_text(one.path.read_text().replace("[broker]", "[broker]\nleese = 5"))
        made = [
            (one.twistd("1", "wmbroker", "--config", "no.toml"), "no configuration file"),
            (one.twistd("2", "wmbroker", "--config", str(wrong)), "leese"),
            (one.component("Part", wait=False), "the disk is not there"),
            (one.component("Nobody", wait=False), "there is no component 'Nobody'"),
        ]
        for process, part in made:
            clear(process, part)


def test_a_component_that_fails_to_start() -> None:
    with instance(FLOW, {"Part": "tests.tap_parts:Crashing"}) as one:
        clear(one.component("Part", wait=False), "OSError", "No space left on device")


def test_the_plugins_are_listed() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "twisted", "--help"], capture_output=True, text=True, check=False
    )
    twistd = subprocess.run(
        [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    for name in ("wmbroker", "wmcomponent"):
        assert name in ran.stdout
        assert name in twistd.stdout


def test_an_orphan_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose supervisor is gone does not stay behind."""
    with instance() as one:
        monkeypatch.setattr("tests.instance.KEPT", {"WM_SUPERVISOR": "1"})
        process = one.broker(wait=False)
        assert process.ended() == 1
        assert "error: the supervisor is gone: stopping" in process.said


def test_an_error_that_is_not_ours() -> None:
    assert explain(ValueError("bad")) == "error: ValueError: bad"


def test_the_broker_in_the_background() -> None:
    """Without -n: twistd detaches, and the lock is the detached process's."""
    with instance() as one:
        log = one.home / "log" / "twistd.log"
        arguments = ("--pidfile=run.pid", f"--logfile={log}", "wmbroker", "--config", str(one.path))
        command = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
        started = one.spawn("parent", *command, *arguments)
        assert started.ended() == 0
        until(log.exists, "it has a log")
        until(lambda: "listening at" in log.read_text(), "it listens")
        pid = int((one.home / "run.pid").read_text())
        try:
            one.publish(Message("Something"))
            second = one.broker(wait=False)
            assert second.ended() == 1
            assert "is in use by broker, process " in second.said
        finally:
            os.kill(pid, 15)
            until(lambda: not Path(f"/proc/{pid}").exists(), "it ends")


def test_home(tmp_path: Path) -> None:
    made = Instance(tmp_path)
    assert made.config.home == tmp_path
