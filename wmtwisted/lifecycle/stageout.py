"""Moves what a job made out of its folder into the storage."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from wmtwisted.errors import InputError
from wmtwisted.wmbs.model import File, Task
from wmtwisted.wmbs.records import Job


def stage_out(job: Job, task: Task, storage: Path) -> list[File]:
    """Stores every declared output; done again it finds them stored.

    Raises InputError when the job did not leave one of them, or not what its report says.
    """
    sandbox = Path(job.sandbox)
    report = _report(sandbox)
    files = []
    for name in task.outputs:
        lfn = f"/store/{job.workflow}/{job.task}/{job.name}/{name}"
        target = storage / lfn.removeprefix("/store/")
        source = sandbox / name
        if source.is_file():
            _move(source, target)
        elif not target.is_file():
            raise InputError(f"{job.name} ended well, but without its output {name!r}")
        told = report.get(name, {})
        files.append(
            File(
                lfn=lfn,
                path=str(target),
                size=target.stat().st_size,
                events=int(told.get("events", 0)),
                runs=tuple(map(int, told.get("runs", ()))),
                checksum=_checksum(target),
            )
        )
    return files


def _report(sandbox: Path) -> dict[str, dict[str, Any]]:
    """What the job says of its outputs, by name; a job may leave no report."""
    path = sandbox / "report.json"
    try:
        return {str(one["name"]): one for one in json.loads(path.read_text())["outputs"]}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    _sync(source)
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        partial = target.with_name(f"{target.name}.part")
        shutil.copyfile(source, partial)
        _sync(partial)
        os.replace(partial, target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _checksum(path: Path) -> str:
    with path.open("rb") as content:
        return f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
