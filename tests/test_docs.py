"""What the documentation says is so: links, pictures, the tables, the promises."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import JSON, Boolean, Column, Double, Integer, LargeBinary, String, Table

from tests.docs import DOCS, PAGES, ROOT, name, prose
from wmtwisted.store import jobs_schema
from wmtwisted.store.tables import Tables, new_tag

IMAGES = sorted((DOCS / "images").iterdir())
IMAGE_BYTES = 300_000


def anchors(path: Path) -> set[str]:
    """The anchors that a reader's tool makes of the headings."""
    titles = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(path: Path) -> Iterator[tuple[Path, str]]:
    """Where the links of a page lead, within the repository: file and anchor."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if not re.match(r"[a-z]+:", target):
            file, _, anchor = target.partition("#")
            yield (path.parent / file).resolve() if file else path, anchor


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    for file, anchor in links(path):
        assert file.exists(), f"{name(path)}: {file}"
        if anchor:
            assert anchor in anchors(file), f"{name(path)}: {name(file)}#{anchor}"


def test_every_page_is_found_from_the_readme() -> None:
    known, new = set[Path](), {ROOT / "README.md"}
    while new:
        known |= new
        pages = (page for path in new if path.suffix == ".md" for page, _ in links(path))
        new = set(pages) - known
    assert {name(page) for page in PAGES if page not in known} == set()


@pytest.mark.parametrize("path", IMAGES, ids=name)
def test_images_are_small_and_shown(path: Path) -> None:
    assert path.stat().st_size < IMAGE_BYTES
    assert any(path.name in page.read_text() for page in PAGES)


def written_tables() -> dict[str, list[tuple[str, str, str]]]:
    """Name, type and key of each column, by table, as the documentation has them."""
    text = (DOCS / "tables.md").read_text()
    found = {}
    for part in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        table = part[1 : part.index("`", 1)]
        found[table] = re.findall(r"^\| `(\w+)` \| ([^|]*) \| *([^|]*?) *\|", part, re.MULTILINE)
    return found


def kind(column: Column[object]) -> str:
    """A column's type in the words of the documentation."""
    of = column.type
    if isinstance(of, String) and of.length:
        return f"text, {of.length}"
    for type, word in (
        (Boolean, "yes or no"),
        (Integer, "integer"),
        (Double, "number"),
        (JSON, "JSON"),
        (LargeBinary, "bytes"),
        (String, "text"),
    ):
        if isinstance(of, type):
            return word
    raise AssertionError(f"{column}: no word for {of!r}")


def real_table(table: Table) -> list[tuple[str, str, str]]:
    rows = []
    for column in table.columns:
        key = "key" if column.primary_key else "may be empty" if column.nullable else ""
        rows.append((column.name, kind(column), key))
    return rows


def test_the_tables_are_those_of_the_code() -> None:
    bus = Tables()
    bus.queue("DBS")
    real = {
        re.sub("_dbs$", "_*", table.name): real_table(table)
        for table in (*bus.metadata.tables.values(), *jobs_schema.metadata.tables.values())
    }
    written = written_tables()
    assert set(written) == set(real)
    for table, rows in real.items():
        assert written[table] == rows, table


def test_promises_name_tests_that_exist() -> None:
    text = (DOCS / "promises.md").read_text()
    assert re.findall(r"^\| (G\d+) \|", text, re.MULTILINE) == [f"G{n}" for n in range(1, 22)]
    named = set(re.findall(r"`(test_\w+\.py)`", text))
    assert {file for file in named if not (ROOT / "tests" / file).exists()} == set()
    for row in re.findall(r"^\| G\d+ .*$", text, re.MULTILINE):
        state = row.split(" | ")[2]
        assert state.startswith(("Kept", "In part: ", "Not yet: ")), row
        assert not state.startswith("Kept") or "`test_" in row, row


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_ids_have_their_form(path: Path) -> None:
    """A client's `name~boot/number`, or `name~tag/number` of outputs and of triggers' actions."""
    for word in re.findall(r"(?<![\w/.~-])[\w~-]+/\d+\b(?!/)", path.read_text()):
        if re.fullmatch(r"[A-Z]\w+/\d{4,}", word) or "~" in word:
            assert re.fullmatch(r"\w+~(s-[0-9a-f]{8}/\d{4,}|[0-9a-f]{12}/\d+)", word), word


def test_the_tag_is_as_shown() -> None:
    assert re.fullmatch(r"s-[0-9a-f]{8}", new_tag())
