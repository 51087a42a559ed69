"""From a wheel and from an editable install alike: both plugins, the command, the data files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLUGINS = ("wmbroker", "wmcomponent")

#: Data that the quick start needs wherever the package is installed.
DATA = (
    "wmtwisted/py.typed",
    "wmtwisted/default.toml",
    "wmtwisted/lifecycle/lifecycle.flow",
    "wmtwisted/workloads/dimuon/dimuon.xml",
    "wmtwisted/workloads/dimuon/recorded.xml",
)


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; fails with all of it when it does not succeed."""
    # Neither the checkout nor this interpreter's packages may be found by accident.
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged, so that nothing is built into the checkout."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("setup.cfg", "pyproject.toml", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy)
    ignore = shutil.ignore_patterns("__pycache__", "dropin.cache", "*.egg-info")
    for name in ("wmtwisted", "twisted"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    return copy


def fresh_python(folder: Path) -> Path:
    """A new virtual environment that finds this one's packages, but not this project."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = next((folder / "lib").glob("python3*")) / "site-packages"
    ours = next(p for p in sys.path if p.endswith("site-packages"))
    # The dependencies are there already; installing them again would need the network. A .pth
    # file would run the editable install's hooks too, so each package is linked by itself.
    for entry in Path(ours).iterdir():
        if "wmtwisted" not in entry.name and entry.suffix != ".pth":
            if entry.name == "twisted":
                copy_twisted(entry, site / entry.name)
            else:
                (site / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


def copy_twisted(source: Path, target: Path) -> None:
    """Twisted with a plugins folder of its own, which a wheel of ours writes into."""
    target.mkdir()
    for entry in source.iterdir():
        if entry.name != "plugins":
            (target / entry.name).symlink_to(entry)
    ignore = shutil.ignore_patterns("wmtwisted*", "__pycache__", "dropin.cache")
    shutil.copytree(source / "plugins", target / "plugins", ignore=ignore)


def listed(python: Path, cwd: Path) -> list[str]:
    """The plugins of ours that `twistd --help` lists."""
    text = run(python, "-c", "from twisted.scripts.twistd import run; run()", "--help", cwd=cwd)
    return [name for name in PLUGINS if any(name in line.split() for line in text.splitlines())]


def test_a_wheel(tree: Path, tmp_path: Path) -> None:
    run(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, tree,
        cwd=tmp_path,
    )  # fmt: skip
    wheel = next(tmp_path.glob("*.whl"))
    with zipfile.ZipFile(wheel) as content:
        ours = [name for name in content.namelist() if name.startswith("twisted/")]
    # An __init__.py among them would overwrite, and on uninstall delete, Twisted's own.
    assert ours == ["twisted/plugins/wmtwisted_plugin.py"]
    python = fresh_python(tmp_path / "venv")
    pip = (sys.executable, "-m", "pip", f"--python={python}")
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    assert listed(python, tmp_path) == list(PLUGINS)
    assert "demo" in run(tmp_path / "venv" / "bin" / "wm", "--help", cwd=tmp_path)
    where = run(python, "-c", "import wmtwisted; print(wmtwisted.__file__)", cwd=tmp_path)
    site = Path(where.strip()).parent.parent
    assert site.is_relative_to(tmp_path / "venv")
    assert [name for name in DATA if not (site / name).exists()] == []


def test_an_editable_install(tree: Path, tmp_path: Path) -> None:
    python = fresh_python(tmp_path / "venv")
    pip = (sys.executable, "-m", "pip", f"--python={python}")
    run(
        *pip, "install", "--no-deps", "--no-index", "--no-build-isolation", "-e", tree, cwd=tmp_path
    )
    assert listed(python, tmp_path) == list(PLUGINS)
    assert "demo" in run(tmp_path / "venv" / "bin" / "wm", "--help", cwd=tmp_path)
