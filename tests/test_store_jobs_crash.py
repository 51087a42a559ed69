"""The job store under `kill -9`: what one process leaves, the next one finishes."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.jobstores import DATABASES, S, open_store
from wmtwisted.store.jobs import JobStore
from wmtwisted.wmbs.records import FileCounts
from wmtwisted.wmbs.states import WorkflowState

ROOT = Path(__file__).parent.parent

#: After how many of its steps each process is killed; the last one may end.
KILLS = (1, 2, 4, 9, 17, 23, 31)


def work(url: str, steps: int | None) -> list[str]:
    """Run a worker until it has begun `steps` steps; what it said."""
    command = [sys.executable, "-m", "tests.jobworker", url]
    said = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.strip())
            if len(said) == steps:
                process.kill()
                break
    return said


@pytest.mark.parametrize("database", DATABASES)
def test_killed_anywhere_nothing_is_lost_or_doubled(database: str, tmp_path: Path) -> None:
    store = open_store(database, tmp_path)
    url = store.engine.url.render_as_string(hide_password=False)
    for steps in KILLS:
        assert len(work(url, steps)) == steps, "it was killed in its work"
    assert work(url, None)[-1] == "done"
    check(JobStore(store.engine))
    store.engine.dispose()


def check(store: JobStore) -> None:
    status = store.workflow("chain")
    assert status.state is WorkflowState.DONE
    assert [task.jobs for task in status.tasks] == [6, 18, 1]
    jobs = store.jobs(limit=1000)
    assert {job.state for job in jobs} == {S.SUCCESS}
    for job in jobs:
        news = [change.new for change in store.history(job.id)]
        assert news == [S.NEW, S.CREATED, S.EXECUTING, S.COMPLETE, S.SUCCESS]
    rows: Counter[tuple[str, int]] = Counter()
    for job in store.jobs(task="select"):
        for one in store.inputs(job.id):
            assert one.mask.events is not None
            first = one.mask.first_event
            rows.update((one.file.lfn, row) for row in range(first, first + one.mask.events))
    assert rows == {
        (file.lfn, row): 1 for file in store.outputs("chain", "generate") for row in range(100)
    }
    assert store.file_counts("chain") == {
        "select": FileCounts(0, 0, 6, 0),
        "merge": FileCounts(0, 0, 18, 0),
    }
