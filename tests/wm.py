"""Runs `wm` within the test's process, and small files to run it on."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from wmtwisted.cli.main import main

HEADER = "Run,Event,pt1,eta1,phi1,Q1,dxy1,iso1,pt2,eta2,phi2,Q2,dxy2,iso2"
ROW = "{run},{event},45.1,0.2,1.0,1,0.01,0.1,44.9,-0.3,-2.1,-1,0.01,0.1"

#: A workflow that reads nothing.
WORKFLOW = """
name = "tiny"
[[task]]
name = "make"
command = ["true"]
jobs = 2
events-per-job = 5
outputs = ["a.txt"]
"""
#: A workflow that reads input files.
READING = """
name = "reading"
[[task]]
name = "read"
command = ["true"]
input = "input"
splitting = "event"
events-per-job = 2
"""


@attrs.frozen
class Ran:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The first line of the error."""
        return self.err.splitlines()[0] if self.err else ""


class Wm:
    """Runs `wm` in this process, in a folder of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Ran:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        said = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, said.out, said.err)


def csv(path: Path, runs: list[int]) -> Path:
    """A file of dimuon events, one for each run."""
    rows = [ROW.format(run=run, event=number) for number, run in enumerate(runs, 1)]
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path
