"""A local batch system in a fresh folder, and commands that wait to be let on."""

from __future__ import annotations

import json
import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wmtwisted.batch import runner
from wmtwisted.batch.local import Local
from wmtwisted.batch.model import BatchState, Result

DEADLINE = 30.0


def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`, within the deadline."""
    end = time.monotonic() + DEADLINE
    pause = threading.Event()
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        pause.wait(0.005)
    raise AssertionError(f"not within {DEADLINE:g} s: {what}")


class Site:
    """A batch system in a fresh folder, and what the tests ask of it."""

    def __init__(self, root: Path, slots: int = 2, **options: Any) -> None:
        self.root = root
        self.batch = Local(root / "slots", slots, **options)
        self.folders: list[Path] = []

    def folder(self, name: str = "job") -> Path:
        path = self.root / name
        path.mkdir(exist_ok=True)
        self.folders.append(path)
        return path

    def done(self, cwd: Path, attempt: str = "1-1") -> Result:
        self.ends(cwd, BatchState.DONE, attempt)
        result = self.batch.status(cwd, attempt).result
        assert result is not None
        return result

    def ends(self, cwd: Path, state: BatchState, attempt: str = "1-1") -> None:
        until(lambda: self.batch.status(cwd, attempt).state is state, f"{attempt} is {state}")

    def run(self, *argv: str, **options: Any) -> Result:
        cwd = self.folder()
        assert self.batch.submit("1-1", argv, cwd, **options)
        return self.done(cwd)

    def log(self, cwd: Path, stream: str = "stdout", attempt: str = "1-1") -> str:
        return self.batch.log(cwd, attempt, stream).read_text()

    def close(self) -> None:
        """End all that a failed test may have left."""
        for folder in self.folders:
            for path in (folder / "batch").glob("*/claim"):
                self.batch.cancel(folder, path.parent.name)
                runner.sweep(str(path.parent))

    def wrapper(self, cwd: Path, attempt: str = "1-1") -> int:
        claim = json.loads((cwd / "batch" / attempt / "claim").read_text())
        return int(claim["pid"])


class Gate:
    """Two FIFOs: a command says that it is there, and waits until it may go on."""

    def __init__(self, cwd: Path) -> None:
        for name in ("here", "go"):
            os.mkfifo(cwd / name)
        # Open for reading and writing, so that nobody waits for the other side.
        self._here = os.open(cwd / "here", os.O_RDWR)
        self._go = os.open(cwd / "go", os.O_RDWR)

    #: For `sh -c`: say the shell's pid, then wait.
    script = "echo $$ > here; read line < go"

    def arrived(self) -> int:
        """The pid that was said."""
        ready, _, _ = select.select([self._here], [], [], DEADLINE)
        assert ready, "the command did not start"
        return int(os.read(self._here, 100).split()[0])

    def open(self) -> None:
        os.write(self._go, b"\n")

    def close(self) -> None:
        os.close(self._here)
        os.close(self._go)


def dead(pid: int) -> bool:
    """Whether a process is gone, or a zombie that its new parent has not reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
