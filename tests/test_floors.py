"""The house's floors: a module imports only from floors below it and from its own folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "wmtwisted"

#: What stands on which floor; a folder stands for all that is in it.
FLOORS = {
    0: (
        "errors",
        "message",
        "config",
        "sections",
        "endpoint",
        "structure",
        "tomlfile",
        "wmbs",
        "flow",
    ),
    1: ("wire", "store", "batch"),
    2: ("client",),
    3: ("broker", "component"),
    4: ("lifecycle", "web", "workloads"),
    5: ("tap", "cli"),
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}

#: Beyond the order of the floors: these never meet.
STRANGERS = {("lifecycle", "broker")}

MODULES = sorted(PACKAGE.rglob("*.py"))
PLUGINS = sorted((ROOT / "twisted" / "plugins").glob("*.py"))


def room(name: str) -> str:
    """`wmtwisted.store.jobs` is in `store`."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every import in a file, also of those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def upward(module: str, imported: str) -> bool:
    """Whether `module` may not import `imported`."""
    here, there = room(module), room(imported)
    if not imported.startswith("wmtwisted.") or here == there:
        return False
    if here == "":
        return True
    # The words of the ground floor are said together.
    return FLOOR_OF[there] >= FLOOR_OF[here] and (FLOOR_OF[here], FLOOR_OF[there]) != (0, 0)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down(path: Path) -> None:
    module = name_of(path)
    wrong = [
        f"{path}:{line}: {module} (floor {FLOOR_OF[room(module)]}) imports {imported}"
        for line, imported in imports(path)
        if upward(module, imported) or (room(module), room(imported)) in STRANGERS
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_doors_import_the_reactor(path: Path) -> None:
    if room(name_of(path)) in FLOORS[5]:
        return
    lines = [line for line, name in imports(path) if name == "twisted.internet.reactor"]
    assert not lines, f"{path}:{lines}: the reactor, the clock and the transport are arguments"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_pickles_executes_or_uses_a_shell(path: Path) -> None:
    tree = ast.parse(path.read_text())
    calls = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    shells = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword)
        and node.arg == "shell"
        and not (isinstance(node.value, ast.Constant) and node.value.value is False)
    ]
    names = {name.split(".")[0] for _, name in imports(path)}
    assert not calls & {"exec", "eval"}
    assert not names & {"pickle", "shelve", "marshal", "dill"}
    assert not shells


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=name_of)
def test_a_package_is_a_docstring(path: Path) -> None:
    body = ast.parse(path.read_text()).body
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path}: says nothing"
    assert len(body) == 1, f"{path}: holds more than its docstring"


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path in MODULES}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def test_every_room_has_a_floor() -> None:
    rooms = {room(name_of(path)) for path in MODULES} - {""}
    assert rooms <= set(FLOOR_OF), f"say in FLOORS where {rooms - set(FLOOR_OF)} stands"


def test_twisteds_own_packages_are_left_alone() -> None:
    # An __init__.py there breaks, and on uninstall deletes, Twisted's own.
    assert not list((ROOT / "twisted").rglob("__init__.py"))


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_only_names_its_service(path: Path) -> None:
    # Twisted imports every plugin file for every `twistd`, whatever it is to run.
    allowed = ("twisted.application.service.ServiceMaker", "__future__.annotations")
    assert all(name in allowed for _, name in imports(path))


@pytest.mark.parametrize(
    ("module", "imported", "wrong"),
    [
        ("wmtwisted.broker.service", "wmtwisted.wire.Publish", False),
        ("wmtwisted.broker.service", "wmtwisted.component.harness", True),
        ("wmtwisted.store.jobs", "wmtwisted.batch.local", True),
        ("wmtwisted.store.jobs", "wmtwisted.store.database", False),
        ("wmtwisted.wmbs.model", "wmtwisted.store.jobs", True),
        ("wmtwisted.wmbs.workflow", "wmtwisted.errors.SpecError", False),
        ("wmtwisted.config", "wmtwisted.tap.broker", True),
        ("wmtwisted.cli.main", "wmtwisted.lifecycle.dbs", False),
        ("wmtwisted.web.site", "twisted.web.server.Site", False),
    ],
)
def test_the_rule_itself(module: str, imported: str, wrong: bool) -> None:
    assert upward(module, imported) is wrong
