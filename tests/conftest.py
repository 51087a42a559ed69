"""Fixtures of the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.wm import Wm


@pytest.fixture
def wm(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wm:
    """The command `wm`, run in an empty folder and without WM_* variables."""
    for variable in [name for name in os.environ if name.startswith("WM_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    return Wm(capsys)
