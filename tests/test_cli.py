"""The command line: what it says, where it says it, and its exit codes."""

from __future__ import annotations

import stat
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.wm import Wm
from wmtwisted.cli.main import COMMANDS
from wmtwisted.config import load


class TestHelp:
    def test_every_command_is_listed(self, wm: Wm) -> None:
        ran = wm("--help")
        assert ran.code == 0
        for name, (_, text) in COMMANDS.items():
            assert f"  {name} " in ran.out
            assert text in ran.out

    @pytest.mark.parametrize("name", COMMANDS)
    def test_the_list_says_what_the_command_says(self, name: str, wm: Wm) -> None:
        module, _, attribute = COMMANDS[name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert command.help.splitlines()[0] == COMMANDS[name][1]
        ran = wm(name, "--help")
        assert ran.code == 0
        assert ran.out.startswith(f"Usage: wm {name} ")

    def test_help_imports_neither_twisted_nor_sqlalchemy(self) -> None:
        code = (
            "import sys; from wmtwisted.cli.main import wm; wm.main(['--help'], 'wm', "
            "standalone_mode=False); sys.exit(bool({'twisted', 'sqlalchemy', 'rich'} & "
            "set(sys.modules)))"
        )
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)

    def test_no_command(self, wm: Wm) -> None:
        ran = wm()
        assert ran.code == 2
        assert "Commands:" in ran.out + ran.err

    def test_version(self, wm: Wm) -> None:
        assert wm("--version").out.startswith("wmtwisted ")


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["ini"], "error: there is no command 'ini'; did you mean 'init'?"),
            (["job", "lost"], "error: no such command 'lost'"),
            (["job", "list", "--limt", "3"], "error: no such option '--limt'"),
            (["job", "list", "--limit", "0"], "error: invalid value for '--limit': 0 is not in"),
            (["job", "show"], "error: missing argument 'JOB'"),
            (["config", "check"], "error: there is no configuration file "),
            (["workflow", "submit", "none.xml", "-c", "wm.toml"], "error: there is no configura"),
            (["demo", "--splitting", "colour"], "error: invalid value for '--splitting'"),
        ],
    )
    def test_one_clear_line_and_a_hint(self, wm: Wm, arguments: list[str], message: str) -> None:
        ran = wm(*arguments)
        assert ran.code == 2
        assert ran.error.startswith(message)
        assert "\nhint: " in ran.err
        assert "Traceback" not in ran.err
        assert ran.out == ""

    def test_a_mistake_of_ours(self, wm: Wm, monkeypatch: pytest.MonkeyPatch) -> None:
        # An empty list of components would do: the command has no place for the thing it is given.
        monkeypatch.setitem(COMMANDS, "init", ("wmtwisted.cli.init:gone", ""))
        ran = wm("init")
        assert ran.code == 70
        assert ran.error.startswith("error: unexpected AttributeError: ")
        assert "Traceback" not in ran.err
        assert "Traceback" in wm("--debug", "init").err

    def test_all_lines_of_a_configuration_error(self, wm: Wm) -> None:
        Path("wm.toml").write_text("[broker]\nleese = 1\nwindow = 0\n")
        ran = wm("config", "check")
        assert ran.code == 2
        assert "broker.leese" in ran.err
        assert "\n       " in ran.err

    def test_output_that_nobody_reads(self, wm: Wm) -> None:
        assert wm("init").code == 0
        shell = subprocess.Popen(
            [sys.executable, "-m", "wmtwisted.cli.main", "config", "show"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert shell.stdout is not None
        shell.stdout.close()
        assert shell.stderr is not None
        assert shell.stderr.read() == b""
        shell.stderr.close()
        assert shell.wait() == 1


class TestInit:
    def test_lays_out_an_instance(self, wm: Wm, tmp_path: Path) -> None:
        ran = wm("init", "site", "--page", "8080", "--slots", "3")
        assert ran.code == 0
        assert "next: wm up --config" in ran.out
        config = load(tmp_path / "site" / "wm.toml")
        assert config.batch.slots == 3
        assert config.web.listen is not None
        assert config.web.listen.port == 8080
        assert stat.S_IMODE(config.path.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "site" / "run").stat().st_mode) == 0o700
        assert wm("-c", config.path, "workflow", "list").code == 0
        assert wm("config", "check", "-c", config.path).out.endswith("DBS, Phedex, JobCleanup)\n")

    def test_overwrites_nothing(self, wm: Wm) -> None:
        Path("wm.toml").write_text("mine")
        ran = wm("init")
        assert ran.code == 1
        assert "there is a configuration already" in ran.error
        assert Path("wm.toml").read_text() == "mine"

    @pytest.mark.parametrize(
        ("url", "code", "message"),
        [
            ("postgresql://host/name", 2, "store.bus: found 'postgresql://host/name', expected"),
            ("mysql+pymysql://me@127.0.0.1:1/name", 1, "cannot open the jobs store"),
        ],
    )
    def test_leaves_nothing_half_written(self, wm: Wm, url: str, code: int, message: str) -> None:
        ran = wm("init", "--database", url)
        assert ran.code == code
        assert message in ran.error
        assert not list(Path().glob("*wm.toml*"))
        assert wm("init").code == 0


class TestConfig:
    def test_show_hides_passwords(self, wm: Wm, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("wm.toml").write_text("[store]\nbus = 'mysql+pymysql://me:secret@host/name'\n")
        monkeypatch.setenv("WM_BROKER_LEASE", "7")
        monkeypatch.setenv("WM_CONFIG", "wm.toml")
        ran = wm("config", "show")
        assert ran.code == 0
        assert "store.bus = mysql+pymysql://me:***@host/name\n" in ran.out
        assert "broker.lease = 7.0\n" in ran.out
        assert "components.DBS.class = wmtwisted.lifecycle.dbs:DBS\n" in ran.out
