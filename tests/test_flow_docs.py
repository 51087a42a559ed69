"""What the documentation of flows shows is what happens."""

from __future__ import annotations

import ast
import doctest
import re
from pathlib import Path

import pytest

from wmtwisted.flow.keys import KINDS
from wmtwisted.flow.problems import problems
from wmtwisted.flow.spec import read_flow

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "flows.md").read_text()


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```flow\n(.*?)```", TEXT, re.DOTALL)
    assert problems(read_flow(example)) == []
    (tmp_path / "storage.flow").write_text(example)
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestParser().get_doctest(TEXT, {}, "flows.md", None, 0)
    said: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(examples, out=said.append)
    assert (result.failed, "".join(said)) == (0, "")
    assert result.attempted > 5


def test_every_key_is_explained() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| ")]
    for kind, keys in KINDS.items():
        assert any(row.startswith(f"| `{kind}` |") for row in rows), kind
        for key in keys:
            assert any(f"`{key}`" in row for row in rows), key


def test_every_code_is_explained() -> None:
    codes = set()
    for name in ("problems", "spec", "syntax"):
        path = ROOT / "wmtwisted" / "flow" / f"{name}.py"
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Name("_error" | "_warning" | "_problem" | "Problem"),
                    args=[ast.Constant(str(code)), *_],
                ):
                    codes.add(code)
    assert len(codes) > 20
    assert {code for code in codes if f"`{code}`" not in TEXT} == set()
