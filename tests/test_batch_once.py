"""Jobs as local processes: one run of a job at a time, and no more jobs than slots."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.batch_site import DEADLINE, Gate, Site, until
from wmtwisted.batch import runner
from wmtwisted.batch.model import BatchState, Busy, Full

PYTHON = sys.executable


# Never two copies of one job.


def test_a_token_runs_once(site: Site, gate: Gate) -> None:
    cwd = site.folder()
    argv = ["sh", "-c", f"echo ran >> runs; {Gate.script}"]
    assert site.batch.submit("1-1", argv, cwd)
    gate.arrived()
    assert site.batch.status(cwd, "1-1").state is BatchState.RUNNING
    assert not site.batch.submit("1-1", argv, cwd)
    gate.open()
    site.done(cwd)
    assert not site.batch.submit("1-1", argv, cwd)
    assert (cwd / "runs").read_text() == "ran\n"


def test_of_many_at_once_one_submits(tmp_path: Path) -> None:
    site = Site(tmp_path, slots=8)
    cwd = site.folder()
    started = threading.Barrier(8)
    answers: list[object] = []

    def submit() -> None:
        started.wait()
        try:
            answers.append(site.batch.submit("1-1", ["sh", "-c", "echo ran >> runs"], cwd))
        except Busy as error:
            # It met another submitter that had not yet written which token it brings.
            answers.append(error.code)

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    site.done(cwd)
    assert answers.count(True) == 1
    assert set(answers) <= {True, False, "batch-busy"}
    assert (cwd / "runs").read_text() == "ran\n"


def test_an_attempt_waits_for_the_end_of_the_last_one(site: Site, gate: Gate) -> None:
    cwd = site.folder()
    site.batch.submit("1-1", ["sh", "-c", Gate.script], cwd)
    gate.arrived()
    with pytest.raises(Busy, match=r"another run \(1-1\)"):
        site.batch.submit("1-2", ["true"], cwd)
    assert site.batch.status(cwd, "1-2").state is BatchState.UNKNOWN
    gate.open()
    site.done(cwd)
    until(lambda: site.batch.free() == 2, "the slots are free")
    assert site.batch.submit("1-2", ["echo", "second"], cwd)
    assert site.done(cwd, "1-2").ok
    assert site.log(cwd, attempt="1-2") == "second\n"
    assert site.done(cwd, "1-1").ok


def test_a_wrapper_that_finds_the_token_claimed_leaves_it(tmp_path: Path) -> None:
    folder = Path(runner.job_folder(str(tmp_path), "1-1"))
    folder.mkdir(parents=True)
    fd = runner.claim(str(folder))
    assert fd is not None
    assert runner.locked(str(folder / "claim"))
    assert runner.claim(str(folder)) is None
    os.close(fd)
    assert runner.claim(str(folder)) is None
    assert [path.name for path in folder.iterdir()] == ["claim"]


# Slots.


def test_a_slot_is_taken_until_the_job_ends(site: Site) -> None:
    gates = []
    for name in ("a", "b"):
        gates.append(Gate(site.folder(name)))
        site.batch.submit("1-1", ["sh", "-c", Gate.script], site.folder(name))
    assert site.batch.free() == 0
    with pytest.raises(Full, match="all 2 batch slots are taken"):
        site.batch.submit("1-1", ["true"], site.folder("c"))
    assert site.batch.status(site.folder("c"), "1-1").state is BatchState.UNKNOWN
    gates[0].open()
    site.done(site.folder("a"))
    until(lambda: site.batch.free() == 1, "a slot is free")
    assert site.batch.submit("1-1", ["true"], site.folder("c"))
    for gate in gates:
        gate.close()


SUBMITTER = """
import sys
from pathlib import Path
from wmtwisted.batch.local import Local
from wmtwisted.batch.model import Full
root, first = Path(sys.argv[1]), int(sys.argv[2])
batch = Local(root / "slots", 3)
for number in range(first, first + 6):
    cwd = root / f"job{number}"
    cwd.mkdir()
    while True:
        try:
            batch.submit("1-1", ["sleep", "0.05"], cwd)
            break
        except Full:
            pass
"""


def test_the_bound_holds_over_several_submitters(tmp_path: Path) -> None:
    site = Site(tmp_path, slots=3)
    submitters = [
        subprocess.Popen([PYTHON, "-c", SUBMITTER, str(tmp_path), str(first)])
        for first in (0, 6, 12)
    ]
    for submitter in submitters:
        assert submitter.wait(DEADLINE) == 0
    results = [site.done(site.folder(f"job{number}")) for number in range(18)]
    steps = [(r.started, 1) for r in results] + [(r.ended, -1) for r in results]
    level, highest = 0, 0
    for _, step in sorted(steps):
        level += step
        highest = max(highest, level)
    assert 1 < highest <= 3
    assert all(result.ok for result in results)
