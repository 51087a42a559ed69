"""What holds of every file in the repository, whoever writes it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "wmtwisted"
TESTS = ROOT / "tests"

MODULES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "twisted").rglob("*.py"), *TESTS.rglob("*.py")])

#: Vendored, or made by tools.
FOREIGN = {"vendor", "__pycache__", "node_modules"}

#: Files of text by their endings, wherever they are.
WRITTEN = {".py", ".md", ".cfg", ".toml", ".xml", ".flow", ".js", ".css", ".html", ".sh", ""}

#: Modules that turn data into code or objects of any class.
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve"}
#: Functions that run text.
UNSAFE_CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "os.execl", "os.spawnl"}

#: Places that only some machines have: what is in somebody's home, or in a folder at the root. Put
#: together here, since this file is searched as well.
_PLACES = ("/home" + r"/\w+/", "/Users" + r"/\w+/", "/root" + "/", "/work" + "/")
MACHINE = re.compile(rf"(?<![\w.:~-])(?:{'|'.join(_PLACES)})\w")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def written() -> Iterator[Path]:
    """Every text file of ours: those at the top, and all in the folders of the repository."""
    folders = ("wmtwisted", "twisted", "tests", "specs", "docs", ".ci")
    for path in [*ROOT.iterdir(), *(p for folder in folders for p in (ROOT / folder).rglob("*"))]:
        ours = not FOREIGN & set(path.relative_to(ROOT).parts)
        if ours and path.is_file() and path.suffix in WRITTEN and path.name != "dropin.cache":
            yield path


FILES = sorted(written())


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an attribute or a name; "" of all else."""
    match node:
        case ast.Name(identifier):
            return identifier
        case ast.Attribute(value, attribute) if dotted(value):
            return f"{dotted(value)}.{attribute}"
    return ""


def unsafe(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of everything by which data could become code."""
    for node in ast.walk(module):
        match node:
            case ast.Import(names):
                imported = [alias.name for alias in names]
            case ast.ImportFrom(module=str(package), names=names):
                imported = [package, *(f"{package}.{alias.name}" for alias in names)]
            case ast.Call(func=function, keywords=keywords):
                imported = []
                if dotted(function) in UNSAFE_CALLS:
                    yield node.lineno, f"{dotted(function)}()"
                for each in keywords:
                    if each.arg == "shell" and not is_false(each.value):
                        yield node.lineno, "shell="
            case _:
                continue
        for what in imported:
            if what.split(".")[0] in UNSAFE_MODULES or what in UNSAFE_CALLS:
                yield node.lineno, what


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def sleeps(module: ast.Module) -> Iterator[int]:
    """The lines on which `time.sleep` is called or imported."""
    for node in ast.walk(module):
        match node:
            case ast.Attribute(value=ast.Name("time"), attr="sleep"):
                yield node.lineno
            case ast.ImportFrom(module="time", names=names) if "sleep" in {n.name for n in names}:
                yield node.lineno


def test_there_is_something_to_check() -> None:
    assert PACKAGE / "message.py" in MODULES
    assert ROOT / "setup.cfg" in FILES
    assert Path(__file__) in FILES


def test_twisted_stays_a_namespace() -> None:
    # With one of these files, the plugins of every other package would be hidden.
    for folder in (ROOT / "twisted", ROOT / "twisted" / "plugins"):
        assert not (folder / "__init__.py").exists()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_says_what_it_is(path: Path) -> None:
    text = ast.get_docstring(tree(path)) or ""
    first = text.partition("\n")[0]
    assert first.strip(), f"{name(path)} has no docstring"
    assert first[-1] in ".:", f"{name(path)}: the docstring's first line is no sentence: {first!r}"


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=name)
def test_a_package_holds_its_docstring_and_public_names(path: Path) -> None:
    for node in tree(path).body[1:]:
        match node:
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] == "wmtwisted":
                pass
            case ast.ImportFrom(module="__future__"):
                pass
            case ast.Assign(targets=[ast.Name("__all__" | "__version__")]):
                pass
            case _:
                pytest.fail(f"{name(path)}:{node.lineno} is neither docstring nor public name")


def test_every_folder_of_modules_is_a_package() -> None:
    # Packaging would find them all the same, but mypy and readers would not.
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert {name(folder) for folder in folders if not (folder / "__init__.py").exists()} == set()


@pytest.mark.parametrize("path", [p for p in MODULES if TESTS not in p.parents], ids=name)
def test_data_never_becomes_code(path: Path) -> None:
    found = [f"{name(path)}:{line}: {what}" for line, what in unsafe(tree(path))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", [p for p in MODULES if TESTS in p.parents], ids=name)
def test_tests_wait_for_events_and_never_sleep(path: Path) -> None:
    found = [f"{name(path)}:{line}: time.sleep" for line in sleeps(tree(path))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_no_path_of_one_machine(path: Path) -> None:
    lines = path.read_text().split("\n")
    found = [f"{name(path)}:{n}: {line}" for n, line in enumerate(lines, 1) if MACHINE.search(line)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix == ".md"], ids=name)
def test_links_in_the_documentation_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", path.read_text())
    targets += re.findall(r"""<img[^>]+src=["']([^"']+)["']""", path.read_text())
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        found = (path.parent / target).resolve()
        assert found.is_relative_to(ROOT), f"{name(path)}: {target} is outside the repository"
        assert found.exists(), f"{name(path)}: {target} is not there"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_lint_exception_has_its_reason(path: Path) -> None:
    for number, line in enumerate(path.read_text().split("\n"), 1):
        if re.search(r"#\s*noqa\b", line):
            good = re.search(r"# noqa: [A-Z]+\d+(, [A-Z]+\d+)* \(.+\)", line)
            assert good or path == Path(__file__), f"{name(path)}:{number}: {line.strip()}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_is_whole(path: Path) -> None:
    text = path.read_text()
    assert not text or text.endswith("\n"), f"{name(path)} does not end with a newline"
    assert "\r" not in text, f"{name(path)} has line breaks of another system"
    markers = [
        n for n, line in enumerate(text.split("\n"), 1) if re.match("(<{7}|>{7})( |$)", line)
    ]
    assert not markers, f"{name(path)}:{markers}: left over from a merge"


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import multiprocessing, shelve",
        "from os import system",
        "eval('1')",
        "exec('1')",
        "import os\nos.system('ls')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "import subprocess\nsubprocess.run('ls', shell=a)",
    ],
)
def test_unsafe_code_would_be_found(text: str) -> None:
    assert list(unsafe(ast.parse(text)))


def test_safe_code_is_left_alone() -> None:
    lines = ("import re", "re.compile('a')", "run(['ls'], shell=False)", "c.exec_driver_sql('')")
    assert not list(unsafe(ast.parse("\n".join(lines))))


def test_sleeping_and_machines_would_be_found() -> None:
    assert list(sleeps(ast.parse("import time\ntime.sleep(1)"))) == [2]
    assert list(sleeps(ast.parse("from time import monotonic, sleep"))) == [1]
    assert MACHINE.search("see " + "/home" + "/me/file")
    assert not MACHINE.search("https://example.org" + "/home" + "/me/file")
