"""Moves what a job made out of its folder into the storage.

What is moved is written down first, in the job's folder: whoever comes again after a crash finds
there what was made, and goes on with what is left to move. Nothing that an earlier attempt left in
the storage is taken for an output of this one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

from attrs import asdict

from wmtwisted.errors import InputError
from wmtwisted.wmbs.model import File, Task
from wmtwisted.wmbs.records import Job

#: A report of more bytes than this is none.
REPORT_BYTES = 64 * 1024 * 1024

#: The databases' numbers have 64 bits.
_HIGHEST = (1 << 63) - 1


def stage_out(job: Job, task: Task, storage: Path) -> list[File]:
    """Stores every declared output; done again it finds them stored.

    Raises InputError when the job did not leave one of them, or when its report cannot be used;
    then nothing was moved. Raises OSError when they cannot be stored.
    """
    sandbox = Path(job.sandbox)
    # One for each attempt: another's must not be taken for this one's.
    manifest = sandbox / f".stage-out.{job.attempt}"
    try:
        files = [File(**one) for one in json.loads(manifest.read_bytes())]
    except (FileNotFoundError, ValueError, TypeError):
        # Not there, or not on disk before a power cut.
        files = _outputs(job, task, storage)
        partial = manifest.with_name(f"{manifest.name}.part")
        partial.write_text(json.dumps([asdict(file) for file in files]))
        os.replace(partial, manifest)
    for name, file in zip(task.outputs, files, strict=True):
        move(sandbox / name, Path(file.path))
    return files


def discard(job: Job, storage: Path) -> None:
    """Removes what was stored of a job that did not succeed: a part of its outputs, perhaps."""
    shutil.rmtree(_stored(job, storage), ignore_errors=True)


def move(source: Path, target: Path) -> None:
    """Moves a file, whole and on disk; one that was moved before is left where it is.

    Raises OSError, FileNotFoundError when it is in neither place.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _sync(source)
        try:
            os.replace(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # Another file system. Named by process: two that copy do not write the same file.
            partial = target.with_name(f"{target.name}.{os.getpid()}.part")
            shutil.copyfile(source, partial)
            _sync(partial)
            os.replace(partial, target)
            source.unlink(missing_ok=True)
    except FileNotFoundError:
        if not target.is_file():
            raise
    _sync(target.parent)


def _stored(job: Job, storage: Path) -> Path:
    return storage / job.workflow / job.task / job.name


def _outputs(job: Job, task: Task, storage: Path) -> list[File]:
    """The outputs as they lie in the job's folder, under the names that they will have."""
    sandbox = Path(job.sandbox)
    for name in task.outputs:
        _require_file(job, sandbox / name)
    report = _report(sandbox / "report.json")
    files = []
    for name in task.outputs:
        told = report.get(name, {})
        runs = told.get("runs", ())
        if not isinstance(runs, list | tuple):
            raise InputError(f"report.json: runs of {name!r} are {runs!r:.40}, expected numbers")
        files.append(
            File(
                lfn=f"/store/{job.workflow}/{job.task}/{job.name}/{name}",
                path=str(_stored(job, storage) / name),
                size=(sandbox / name).stat().st_size,
                events=_count(name, "events", told.get("events", 0)),
                runs=tuple(_count(name, "run", run) for run in runs),
                checksum=_checksum(sandbox / name),
            )
        )
    return files


def _require_file(job: Job, path: Path) -> None:
    try:
        # Not what a link leads to: only the link would be moved.
        mode = path.lstat().st_mode
    except FileNotFoundError:
        raise InputError(f"{job.name} ended well, but without its output {path.name!r}") from None
    if not stat.S_ISREG(mode):
        raise InputError(f"{job.name} left an output {path.name!r} that is not a plain file")


def _report(path: Path) -> dict[str, dict[str, Any]]:
    """What the job says of its outputs, by name; a job may leave no report."""
    try:
        with path.open("rb") as file:
            content = file.read(REPORT_BYTES + 1)
        if len(content) > REPORT_BYTES:
            raise ValueError(f"it has more than {REPORT_BYTES} bytes")
        return {str(one["name"]): dict(one) for one in json.loads(content)["outputs"]}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path.name} cannot be read: {error!r:.200}") from error


def _count(output: str, name: str, value: object) -> int:
    if type(value) is not int or not 0 <= value <= _HIGHEST:
        raise InputError(
            f"report.json: {name} of {output!r} is {value!r:.40}, expected a number from 0 on"
        )
    return value


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _checksum(path: Path) -> str:
    with path.open("rb") as content:
        return f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
