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
