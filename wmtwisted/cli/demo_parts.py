"""What the demo is made of: its own folder, its workflow, its page's port, its results."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

import wmtwisted
from wmtwisted.cli.init import write
from wmtwisted.cli.instance import InstanceLock
from wmtwisted.config import Config
from wmtwisted.errors import Conflict, InputError, StoreError
from wmtwisted.wmbs.model import File, SplitBy, Splitting, Workflow
from wmtwisted.wmbs.workflow import read_file

if TYPE_CHECKING:
    from wmtwisted.store.jobs import JobStore

#: What an event takes in a generated file, about, in bytes.
EVENT_BYTES = 120


def packaged_workflow(recorded: bool) -> Workflow:
    """The dimuon workflow of the package: on recorded events, or on those that it makes."""
    name = "recorded.xml" if recorded else "dimuon.xml"
    return read_file(Path(wmtwisted.__file__).parent / "workloads" / "dimuon" / name)


def tailored(
    workflow: Workflow,
    inputs: Sequence[File],
    *,
    splitting: str,
    jobs: int,
    events: int,
    fail_rate: float,
) -> Workflow:
    """The workflow with the numbers of this demo.

    Generating takes `jobs` jobs and makes `events` events, rounded up to the same number in each;
    selecting takes about as many jobs.
    """
    per_job = _share(events, jobs)
    counts = {
        SplitBy.FILE: 1,
        SplitBy.EVENT: per_job,
        SplitBy.RUN: 1,
        SplitBy.SIZE: per_job * EVENT_BYTES,
    }
    if inputs:
        counts = {
            SplitBy.FILE: 1,
            SplitBy.EVENT: _share(sum(file.events for file in inputs), jobs),
            SplitBy.RUN: _share(len({run for file in inputs for run in file.runs}), jobs),
            SplitBy.SIZE: _share(sum(file.size for file in inputs), jobs),
        }
    by = SplitBy(splitting)
    cuts = {
        "generate": Splitting(SplitBy.EVENT, per_job, jobs),
        "select": Splitting(by, counts[by]),
    }
    tasks = [
        attrs.evolve(task, splitting=cuts.get(task.name, task.splitting)) for task in workflow.tasks
    ]
    parameters = {**workflow.parameters, "fail_rate": f"{fail_rate:g}"}
    return attrs.evolve(workflow, tasks=tasks, parameters=parameters)


def _share(whole: int, parts: int) -> int:
    return max(1, -(-whole // parts))


#: A failed try is not worth ten seconds of waiting to somebody who watches.
_IMPATIENT = """
[components.ErrorHandler.options]
cooloff = 0.5
"""


def fresh_home(folder: Path, values: dict[str, object]) -> tuple[Config, InstanceLock]:
    """A new instance in `folder`, in place of an earlier demo's; its configuration and its lock.

    Raises Conflict when a demo runs there, or when what is there is not a demo's.
    """
    home = folder.absolute()
    home.mkdir(parents=True, exist_ok=True)
    entries = {entry.name for entry in home.iterdir()}
    if entries and not entries & {"wm.toml", "supervisor.lock"}:
        raise Conflict(
            f"{home} holds other things than an earlier demo: {', '.join(sorted(entries)[:3])}",
            "name another folder with --folder",
        )
    lock = InstanceLock(home)
    for name in entries - {"supervisor.lock"}:
        entry = home / name
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    try:
        return write(home, values, _IMPATIENT), lock
    except BaseException:
        lock.release()
        raise


def page_port(wanted: int | None) -> int:
    """A free port for the page: the wanted one, else 8765, else any.

    Raises Conflict when the wanted one is taken.
    """
    for port in (wanted,) if wanted else (8765, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port or 0))
            except OSError as error:
                reason = error.strerror
                continue
            free: int = probe.getsockname()[1]
            return free
    raise Conflict(f"cannot serve the page at port {wanted}: {reason}", "choose another --page")


def check_output(folder: Path) -> None:
    """Make the folder of the results, before anything starts that would be in vain without it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the output folder {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cannot write into the output folder {folder}")


def collect(store: JobStore, workflow: Workflow, folder: Path) -> list[Path]:
    """Copy what the last task made into `folder`; the copies.

    Each appears under its name as a whole, in place of an older one. Raises StoreError when a
    result is not there.
    """
    last = workflow.in_order()[-1]
    files = [Path(file.path) for file in store.outputs(workflow.name, last.name)]
    copies = []
    for name in last.outputs:
        source = next((path for path in files if path.name.endswith(name)), None)
        if source is None or not source.is_file():
            raise StoreError(f"task {last.name} is done, but there is no {name} of it")
        draft = folder / f".{name}.new"
        shutil.copyfile(source, draft)
        copies.append(draft.replace(folder / name))
    return copies


def headline(results: Sequence[Path]) -> str:
    """What the spectrum among the results shows, in a line; "" when there is none."""
    for path in results:
        if path.suffix == ".json":
            spectrum = json.loads(path.read_text())
            counts, edges = spectrum["counts"], spectrum["edges"]
            top = counts.index(max(counts))
            low, high = edges[top : top + 2]
            return f"{spectrum['events']:,} events, most of them at {low:g}-{high:g} GeV"
    return ""
