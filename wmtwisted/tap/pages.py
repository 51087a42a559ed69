"""What the page shows, read from the broker, the job store and the files on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from attrs import asdict
from twisted.internet.defer import Deferred

from wmtwisted.broker.service import Broker
from wmtwisted.component.component import Run
from wmtwisted.config import Config
from wmtwisted.flow.graph import graph
from wmtwisted.flow.model import Flow
from wmtwisted.lifecycle import logs
from wmtwisted.store.jobs import JobStore
from wmtwisted.web import source
from wmtwisted.wmbs.records import Change, Job
from wmtwisted.wmbs.states import parse_state

#: The most of a log that is shown, in bytes.
LOG_BYTES = 256 * 1024


class Pages:
    """A `web.source.Source`; everything that blocks goes through `run`."""

    def __init__(
        self, broker: Broker, store: JobStore, config: Config, flow: Flow, run: Run
    ) -> None:
        self._broker = broker
        self._store = store
        self._config = config
        self._flow = flow
        self._run = run

    def flow(self) -> source.Flow:
        """See Source.flow."""
        return cast(source.Flow, graph(self._flow))

    def status(self) -> Deferred[source.Status]:
        """See Source.status."""
        return cast(Deferred[source.Status], self._broker.full_status())

    def health(self) -> source.Health:
        """See Source.health."""
        reason = self._broker.trouble()
        return {"ok": not reason, "reason": reason}

    def workflows(self) -> Deferred[list[source.WorkflowRow]]:
        """See Source.workflows."""

        def read() -> list[Any]:
            return [
                {
                    "name": one.name,
                    "state": one.state,
                    "created": one.created,
                    "finished": one.finished,
                    "tasks": [asdict(task) for task in one.tasks],
                }
                for one in reversed(self._store.workflows())
            ]

        return self._run(read)

    def jobs(
        self, workflow: str | None, task: str | None, state: str | None, after: int, limit: int
    ) -> Deferred[list[source.JobRow]]:
        """See Source.jobs."""

        def read() -> list[Any]:
            wanted = parse_state(state) if state else None
            found = self._store.jobs(workflow, task, wanted, after=after, limit=limit)
            return [_job(one) for one in found]

        return self._run(read)

    def job(self, job_id: int) -> Deferred[source.JobDetail]:
        """See Source.job."""

        def read() -> Any:
            job = self._store.job(job_id)
            return {
                **_job(job),
                "history": [_change(one) for one in self._store.history(job_id)],
                "inputs": [
                    {
                        "lfn": one.file.lfn,
                        "runs": None if one.mask.runs is None else list(one.mask.runs),
                        "first_event": one.mask.first_event,
                        "events": one.mask.events,
                    }
                    for one in self._store.inputs(job_id)
                ],
                "outputs": [
                    {"lfn": one.lfn, "size": one.size, "events": one.events}
                    for one in self._store.job_outputs(job_id)
                ],
            }

        return self._run(read)

    def log(self, job_id: int, stream: source.Stream) -> Deferred[str]:
        """See Source.log."""

        def read() -> str:
            job = self._store.job(job_id)
            path = logs.find(self._config, job, stream)
            return "" if path is None else _tail(path)

        return self._run(read)

    def spectrum(self, workflow: str) -> Deferred[source.Spectrum | None]:
        """See Source.spectrum."""

        def read() -> source.Spectrum | None:
            for task in reversed(self._store.model(workflow).tasks):
                if "spectrum.json" in task.outputs:
                    for file in self._store.outputs(workflow, task.name):
                        if file.lfn.endswith("/spectrum.json"):
                            return cast(source.Spectrum, json.loads(Path(file.path).read_text()))
            return None

        return self._run(read)


def _tail(path: Path) -> str:
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - LOG_BYTES))
        return log.read(LOG_BYTES).decode(errors="replace")


def _job(one: Job) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "workflow": one.workflow,
        "task": one.task,
        "state": one.state,
        "outcome": one.outcome,
        "attempt": one.attempt,
        "exit_code": one.exit_code,
        "why": one.why,
        "changed": one.changed,
    }


def _change(one: Change) -> dict[str, Any]:
    return {
        "time": one.when,
        "from": one.old,
        "to": one.new,
        "who": one.who,
        "why": one.why,
        "attempt": one.attempt,
    }
