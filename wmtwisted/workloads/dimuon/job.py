"""A job's own view of itself: `job.json` in its folder, and what it leaves there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from wmtwisted.errors import InputError


class Input(NamedTuple):
    """A file to read, or the part of it that this job has."""

    #: The file's name in the catalog, and where it is.
    lfn: str
    path: str
    #: Only events of these runs; None: of all runs.
    runs: frozenset[int] | None
    #: The first row (from 0) and how many; None: to the end.
    first_event: int
    events: int | None


class Job(NamedTuple):
    """What to do."""

    name: str
    #: 1 for the first try.
    attempt: int
    seed: int
    #: To generate: the number of the first event, and how many. None when there are inputs.
    first_event: int | None
    events: int | None
    inputs: tuple[Input, ...]
    #: Names of the files to leave.
    outputs: tuple[str, ...]
    parameters: dict[str, str]


class Output(NamedTuple):
    """A file that was left: its name, how many events it stands for, and of which runs."""

    name: str
    events: int
    runs: tuple[int, ...]


def read_job(path: str = "job.json") -> Job:
    """The job described in `path`; raises InputError when it is not one."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
        return Job(
            name=value["name"],
            attempt=int(value["attempt"]),
            seed=int(value["seed"]),
            first_event=value["first_event"],
            events=value["events"],
            inputs=tuple(_input(each) for each in value["inputs"]),
            outputs=tuple(value["outputs"]),
            parameters=dict(value["parameters"]),
        )
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}",
            "a job's command runs in the folder that holds its job.json",
        ) from error
    except KeyError as error:
        raise InputError(f"{path}: it has no {error}, expected a job") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: expected a job: {error}") from error


def _input(value: dict[str, Any]) -> Input:
    runs = value.get("runs")
    return Input(
        lfn=value["lfn"],
        path=value["path"],
        runs=None if runs is None else frozenset(runs),
        first_event=value.get("first_event") or 0,
        events=value.get("events"),
    )


def fails(job: Job) -> bool:
    """Whether this attempt is to fail on purpose: the share `fail_rate` of all attempts does.

    The same attempt always has the same answer. Raises InputError when the rate is not a share.
    """
    text = job.parameters.get("fail_rate") or "0"
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0.0 <= rate <= 1.0:
        raise InputError(f"fail_rate is {text!r}, expected a share from 0 to 1")
    if not rate:
        return False
    # An import that few jobs need.
    from hashlib import sha256

    draw = int.from_bytes(sha256(f"{job.name}/{job.attempt}".encode()).digest()[:8], "big")
    return draw < rate * 2**64


def declared(job: Job, suffix: str) -> str:
    """The one output of the job whose name ends with `suffix`."""
    names = [name for name in job.outputs if name.endswith(suffix)]
    if len(names) != 1:
        raise InputError(f"outputs {list(job.outputs)}: expected one that ends with {suffix}")
    return names[0]


def save(name: str, write: Callable[[str], None]) -> None:
    """Let `write` fill a file beside `name`, then give it its name: it is whole or not there."""
    root, suffix = os.path.splitext(name)
    draft = f"{root}.part{suffix}"
    write(draft)
    os.replace(draft, name)


def save_json(name: str, value: Any) -> None:
    """Leave `value` as the JSON file `name`, whole or not at all."""

    def write(draft: str) -> None:
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(value, file)
            file.write("\n")

    save(name, write)


def report(outputs: Sequence[Output]) -> None:
    """Leave `report.json`: the job is done, and these are its files."""
    save_json("report.json", {"outputs": [output._asdict() for output in outputs]})
