"""What `make` runs, and what it says when a machine lacks something. Nothing is installed here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"] if path is None else path, "LC_ALL": "C"}
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )


def tools(folder: Path, *names: str) -> str:
    """A PATH with these programs and no others."""
    for name in names:
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    return str(folder)


@pytest.mark.parametrize("target", ["demo", "up"])
def test_the_command_of_the_demo(target: str) -> None:
    ran = run("make", "-n", target, "INPUT=my events.csv", "OUT=there", "ARGS=--splitting run")
    last = ran.stdout.splitlines()[-1]
    begin = ".venv/bin/wm demo --output 'there' --input 'my events.csv' --splitting run"
    assert last == begin + (" --stay" if target == "up" else "")


def test_the_demo_without_arguments() -> None:
    assert run("make", "-n", "demo").stdout.splitlines()[-1].split() == [
        ".venv/bin/wm", "demo", "--output", "'out'",
    ]  # fmt: skip


def test_the_tests_are_linted_first() -> None:
    lines = run("make", "-n", "test").stdout
    assert lines.index("ruff check") < lines.index("mypy") < lines.index("pytest")


def test_every_target_is_told() -> None:
    text = run("make").stdout
    for target in ("demo", "up", "test", "lint", "clean"):
        assert f"make {target} " in text


def test_ci_runs_make_test() -> None:
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec make test")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_nothing_is_installed_that_is_there() -> None:
    ran = run(".ci/packages", "bash=bash", "env=coreutils")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_a_machine_without_apt_get(tmp_path: Path) -> None:
    ran = run("/bin/bash", ".ci/packages", "nosuchthing=that-package", path=tools(tmp_path, "bash"))
    assert ran.returncode == 1
    assert ran.stderr.splitlines() == [
        "error: these are missing, and there is no apt-get: that-package",
        "hint: install by hand, then run make again: apt-get install that-package",
    ]


def test_apt_get_that_fails(tmp_path: Path) -> None:
    path = tools(tmp_path, "bash", "id", "env", "mktemp", "tail", "rm")
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/bash\necho no network >&2\nexit 100\n")
    apt.chmod(0o755)
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/bash\nexec "$@"\n')
    sudo.chmod(0o755)
    ran = run("/bin/bash", ".ci/packages", "nosuchthing=that-package", path=path)
    assert ran.returncode == 1
    assert "no network" in ran.stderr
    assert "error: apt-get could not install that-package" in ran.stderr


def test_a_python_that_is_too_old(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/bash\nexit 1\n")
    old.chmod(0o755)
    ran = run(".ci/python", str(tmp_path / "venv"), str(old))
    assert ran.returncode == 1
    assert ran.stderr == f"error: PYTHON={old} is no Python 3.11 or later\n"
    ran = run("/bin/bash", ".ci/python", str(tmp_path / "venv"), path=str(tmp_path))
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: there is no Python 3.11 or later on PATH\nhint: ")
    assert not (tmp_path / "venv").exists()
