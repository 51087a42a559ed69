"""Fixtures of the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.batch_site import Gate, Site
from tests.wm import Wm


@pytest.fixture
def wm(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wm:
    """The command `wm`, run in an empty folder and without WM_* variables."""
    for variable in [name for name in os.environ if name.startswith("WM_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    return Wm(capsys)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A folder with a local batch system, closed with all that runs in it."""
    site = Site(tmp_path, grace=0.2)
    yield site
    site.close()


@pytest.fixture
def gate(site: Site) -> Iterator[Gate]:
    """What a job of the site can be made to wait at."""
    gate = Gate(site.folder())
    yield gate
    gate.close()
