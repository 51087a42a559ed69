"""Where the log of a job is: in its folder while it has one, afterwards in the storage."""

from __future__ import annotations

from pathlib import Path

from wmtwisted.batch.local import Local
from wmtwisted.config import Config
from wmtwisted.wmbs.records import Job

#: The two that a command writes.
STREAMS = ("stdout", "stderr")


def written(config: Config, job: Job, stream: str) -> Path | None:
    """Where the last attempt writes it, or None before it was submitted."""
    if not job.sandbox or not job.batch_id:
        return None
    batch = Local(config.batch.root, config.batch.slots)
    return batch.log(Path(job.sandbox), job.batch_id, stream)


def kept(config: Config, job: Job, stream: str) -> Path:
    """Where JobCleanup keeps it."""
    return config.paths.storage / "log" / job.workflow / f"{job.name}.{stream}"


def find(config: Config, job: Job, stream: str) -> Path | None:
    """The file that it is in now, or None when there is none."""
    places = (written(config, job, stream), kept(config, job, stream))
    return next((place for place in places if place is not None and place.is_file()), None)
