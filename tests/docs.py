"""The pages of the documentation, and what stands between fences in them."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def name(path: Path) -> str:
    """A page's name in the names of tests."""
    return str(path.relative_to(ROOT))


@frozen
class Block:
    """Text between fences: its language, the name of the file that it is, and its content."""

    language: str
    file: str
    text: str


def blocks(path: Path) -> list[Block]:
    """All that stands between fences in a page."""
    found = re.findall(r"^```(\S*) ?(.*?)\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)
    return [Block(*parts) for parts in found]


def block(path: Path, file: str, number: int = 0) -> str:
    """The content of a file that a page shows; `number` counts those of the same name."""
    return [one.text for one in blocks(path) if one.file == file][number]


def prose(path: Path) -> str:
    """A page without what stands between fences."""
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
