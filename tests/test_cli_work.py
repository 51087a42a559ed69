"""`wm workflow` and `wm job`, on a real job store."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.wm import READING, WORKFLOW, Wm, csv
from wmtwisted.cli.read import job_store, span
from wmtwisted.cli.submission import describe, new_workflow
from wmtwisted.config import load
from wmtwisted.errors import InputError
from wmtwisted.wmbs.model import File
from wmtwisted.wmbs.states import JobState
from wmtwisted.wmbs.workflow import read_text


class TestWorkflow:
    def test_is_checked_before_anything_is_sent(self, wm: Wm) -> None:
        wm("init")
        Path("bad.toml").write_text(WORKFLOW.replace("jobs = 2", "jobs = 2\nsplitting = 'evnt'"))
        ran = wm("workflow", "submit", "bad.toml")
        assert ran.code == 2
        assert ran.error.startswith("error: bad.toml:")
        assert "'evnt'" in ran.error

    def test_without_a_broker(self, wm: Wm) -> None:
        wm("init")
        Path("good.toml").write_text(WORKFLOW)
        ran = wm("workflow", "submit", "good.toml")
        assert ran.code == 1
        assert ran.error.startswith("error: cannot reach the broker at unix:")

    def test_inputs_and_parameters(self, wm: Wm, tmp_path: Path) -> None:
        wm("init")
        Path("reading.toml").write_text(READING)
        assert (
            "reads input files, but none are given" in wm("workflow", "submit", "reading.toml").err
        )
        broken = csv(tmp_path / "broken.csv", [1, 2])
        broken.write_text(broken.read_text() + "1,2,3\n")
        ran = wm("workflow", "submit", "reading.toml", "--input", broken)
        assert ran.code == 2
        assert f"{broken}:4: 3 values, expected 14" in ran.error
        ran = wm("workflow", "submit", "reading.toml", "-p", "colour", "--input", broken)
        assert "expected NAME=VALUE" in ran.error
        assert wm("workflow", "submit", "reading.toml", "--name", "a/b").code == 2

    def test_the_message(self, tmp_path: Path) -> None:
        file = describe(csv(tmp_path / "few.csv", [5, 7, 5]))
        assert (file.events, file.runs) == (3, (5, 7))
        assert file.size == Path(file.path).stat().st_size
        assert file.checksum.startswith(f"sha256:{file.lfn.split('/')[3]}")
        message = new_workflow(read_text(READING, "reading.toml"), [file])
        assert message.type == "NewWorkflow"
        payload = message.json()
        assert payload["workflow"]["name"] == "reading"
        assert File(**payload["inputs"][0]) == file
        with pytest.raises(InputError, match="reads no input files, but 1 are given"):
            new_workflow(read_text(WORKFLOW, "tiny.toml"), [file])

    def test_a_taken_name(self, wm: Wm, tmp_path: Path) -> None:
        wm("init")
        Path("tiny.toml").write_text(WORKFLOW)
        with job_store(load("wm.toml")) as store:
            store.inject(read_text(WORKFLOW, "tiny.toml"), cause="test/1")
        ran = wm("workflow", "submit", "tiny.toml")
        assert ran.code == 1
        assert "there is a workflow 'tiny' already" in ran.error

    def test_list_and_show(self, wm: Wm) -> None:
        wm("init")
        assert wm("workflow", "list").out.split() == [
            "WORKFLOW", "STATE", "JOBS", "DONE", "LIVE", "FAILED", "RETRIES", "TIME",
        ]  # fmt: skip
        with job_store(load("wm.toml")) as store:
            store.split(store.inject(read_text(WORKFLOW, "w"), cause="test/1"), cause="test/1")
        assert wm("workflow", "list").out.splitlines()[1].split()[:7] == [
            "tiny", "running", "2", "0", "2", "0", "0",
        ]  # fmt: skip
        shown = wm("workflow", "show", "tiny").out
        assert shown.startswith("tiny: running, submitted ")
        assert "2 new" in shown
        assert json.loads(wm("workflow", "list", "--json").out)["tasks"][0]["name"] == "make"
        ran = wm("workflow", "show", "tinny")
        assert ran.code == 1
        assert "tinny" in ran.error


class TestJob:
    @pytest.fixture(autouse=True)
    def jobs(self, wm: Wm, tmp_path: Path) -> None:
        wm("init")
        sandbox = tmp_path / "sandbox"
        with job_store(load("wm.toml")) as store:
            store.split(store.inject(read_text(WORKFLOW, "w"), cause="test/1"), cause="test/1")
            advance = partial(store.advance, 1, who="Test", why="for the test")
            advance(JobState.CREATED, cause="test/2", sandbox=str(sandbox))
            advance(JobState.EXECUTING, cause="test/3", batch_id="1.1")
        (sandbox / "batch" / "1.1").mkdir(parents=True)
        (sandbox / "batch" / "1.1" / "stdout").write_text("made 5 events\n")
        (sandbox / "batch" / "1.1" / "stderr").write_text("warning: late\n")

    def test_list(self, wm: Wm) -> None:
        lines = wm("job", "list").out.splitlines()
        assert lines[0].split() == ["ID", "JOB", "STATE", "TRY", "EXIT", "SINCE", "WHY"]
        assert [line.split()[2] for line in lines[1:]] == ["executing", "new"]
        assert len(wm("job", "list", "--state", "executing").out.splitlines()) == 2
        assert len(wm("job", "list", "--after", "1").out.splitlines()) == 2
        ran = wm("job", "list", "--limit", "1")
        assert "there are more: --after 1" in ran.err
        first = json.loads(wm("job", "list", "--json").out.splitlines()[0])
        assert first["state"] == "executing"

    def test_wrong_filters(self, wm: Wm) -> None:
        ran = wm("job", "list", "--state", "runing")
        assert ran.code == 1
        assert "there is no job state 'runing'" in ran.error
        assert wm("job", "list", "--workflow", "none").code == 1

    def test_show(self, wm: Wm) -> None:
        out = wm("job", "show", "tiny-make-1").out
        assert out.startswith("tiny-make-1: executing, try 1\n")
        assert out == wm("job", "show", "1").out
        assert [line.split()[3] for line in out.splitlines()[-3:]] == [
            "new",
            "created",
            "executing",
        ]
        assert len(wm("job", "show", "1", "--json").out.splitlines()) == 4
        ran = wm("job", "show", "tiny-make-9")
        assert ran.code == 1
        assert "there is no job 'tiny-make-9'" in ran.error

    def test_log(self, wm: Wm) -> None:
        program = [sys.executable, "-m", "wmtwisted.cli.main", "job", "log"]
        both = subprocess.run([*program, "1"], capture_output=True, check=True)
        assert both.stdout == b"made 5 events\nwarning: late\n"
        one = subprocess.run([*program, "tiny-make-1", "--stderr"], capture_output=True, check=True)
        assert one.stdout == b"warning: late\n"
        ran = wm("job", "log", "2")
        assert ran.code == 1
        assert "tiny-make-2 has no log yet: it is new" in ran.error


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min"), (185, "3 min 5 s"), (7800, "2 h 10 min"), (273600, "3 d 4 h")],
)
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text
