"""The parts of the demo: what it refuses, what it runs, how it shows it, what it leaves."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from tests.wm import WORKFLOW, Wm, csv
from wmtwisted.cli import demo_parts
from wmtwisted.cli.progress import progress, summary
from wmtwisted.cli.read import job_store
from wmtwisted.config import load
from wmtwisted.errors import Conflict, StoreError
from wmtwisted.wmbs.model import File, SplitBy, Workflow
from wmtwisted.wmbs.records import TaskStatus, WorkflowStatus
from wmtwisted.wmbs.states import JobState, WorkflowState
from wmtwisted.wmbs.workflow import read_text


class TestDemo:
    """What is wrong is said before anything starts; the demo itself is in test_demo_whole."""

    def test_bad_input(self, wm: Wm, tmp_path: Path) -> None:
        broken = csv(tmp_path / "broken.csv", [1])
        broken.write_text(broken.read_text().replace("45.1", "many"))
        ran = wm("demo", "--input", broken)
        assert ran.code == 2
        assert f"{broken}:2: pt1 is 'many', expected a number" in ran.error
        assert not Path("var").exists()

    def test_no_place_for_the_output(self, wm: Wm) -> None:
        Path("out").write_text("a file")
        ran = wm("demo")
        assert ran.code == 2
        assert "cannot make the output folder out" in ran.error
        assert not Path("var").exists()

    def test_a_folder_that_is_not_a_demos(self, wm: Wm) -> None:
        Path("precious").mkdir()
        Path("precious/thesis.tex").write_text("...")
        ran = wm("demo", "--folder", "precious")
        assert ran.code == 1
        assert "holds other things than an earlier demo: thesis.tex" in ran.error
        assert Path("precious/thesis.tex").exists()

    def test_a_taken_port(self, wm: Wm) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            ran = wm("demo", "--page", str(port))
        assert ran.code == 1
        assert f"cannot serve the page at port {port}: Address already in use" in ran.error
        assert not Path("var").exists()

    def test_a_demo_that_runs(self, wm: Wm, tmp_path: Path) -> None:
        _, lock = demo_parts.fresh_home(tmp_path / "demo", {})
        ran = wm("demo", "--folder", "demo")
        lock.release()
        assert ran.code == 1
        assert "is running already" in ran.error

    def test_a_fresh_folder_in_place_of_the_last(self, tmp_path: Path) -> None:
        home = tmp_path / "demo"
        _, lock = demo_parts.fresh_home(home, {"batch.slots": 1})
        lock.release()
        (home / "var" / "sandbox" / "old").mkdir()
        config, lock = demo_parts.fresh_home(home, {"batch.slots": 2})
        lock.release()
        assert config.batch.slots == 2
        assert not (home / "var" / "sandbox" / "old").exists()

    @pytest.mark.parametrize(
        ("splitting", "per_job"), [("event", 334), ("run", 7), ("file", 1), ("size", 33_400)]
    )
    def test_the_workflow_on_recorded_events(self, splitting: str, per_job: int) -> None:
        file = File("/a", "/a", size=100_200, events=1_000, runs=range(19))
        tailored = _tailored(True, [file], splitting, jobs=3)
        assert [task.name for task in tailored.tasks] == ["select", "merge"]
        assert tailored.task("select").splitting.by == SplitBy(splitting)
        assert tailored.task("select").splitting.per_job == per_job
        assert tailored.parameters["fail_rate"] == "0.2"

    def test_the_workflow_on_generated_events(self) -> None:
        made = _tailored(False, [], "event", jobs=8).task("generate").splitting
        assert (made.jobs, made.per_job) == (8, 125)

    def test_results_appear_whole(self, wm: Wm, tmp_path: Path) -> None:
        wm("init")
        workflow = read_text(WORKFLOW, "tiny.toml")
        made = tmp_path / "storage" / "a.txt"
        made.parent.mkdir()
        made.write_text("new")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "a.txt").write_text("old")
        with job_store(load("wm.toml")) as store:
            store.split(store.inject(workflow, cause="test/1"), cause="test/1")
            with pytest.raises(StoreError, match=r"task make is done, but there is no a\.txt"):
                demo_parts.collect(store, workflow, tmp_path / "out")
            steps = (JobState.CREATED, JobState.EXECUTING)
            store.advance(1, steps, who="Test", why="", cause="test/2")
            store.add_outputs(1, [File("/store/tiny/a.txt", str(made))])
            assert demo_parts.collect(store, workflow, tmp_path / "out") == [tmp_path / "out/a.txt"]
        assert (tmp_path / "out" / "a.txt").read_text() == "new"
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.txt"]


def _tailored(recorded: bool, inputs: list[File], splitting: str, jobs: int) -> Workflow:
    return demo_parts.tailored(
        demo_parts.packaged_workflow(recorded),
        inputs,
        splitting=splitting,
        jobs=jobs,
        events=1_000,
        fail_rate=0.2,
    )


def test_progress_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0

    def status(done: int, state: WorkflowState = WorkflowState.RUNNING) -> WorkflowStatus:
        task = TaskStatus(
            "make", None, False, {"executing": 2, "cleanout": 5}, {"success": done}, 1
        )
        return WorkflowStatus(1, "tiny", state, 0.0, None, (task,))

    with progress(read_text(WORKFLOW, "w"), lambda: now) as shown:
        shown.show(status(3))
        now = 100.5
        shown.show(status(4))
        now = 101.0
        shown.show(status(3))
        shown.show(status(5))
        now = 101.2
        shown.show(status(7, WorkflowState.DONE))
        shown.say("and more")
    assert capsys.readouterr().out.splitlines() == [
        "   0.0 s  make 3/7 (2 running, 1 retried)",
        "   1.0 s  make 5/7 (2 running, 1 retried)",
        "   1.2 s  make 7/7 (2 running, 1 retried)",
        "and more",
    ]


def test_what_the_spectrum_shows(tmp_path: Path) -> None:
    file = tmp_path / "spectrum.json"
    histogram = {"events": 10_583, "edges": [60, 61, 62], "counts": [3, 10_580]}
    file.write_text(json.dumps(histogram))
    assert demo_parts.headline([file]) == "10,583 events, most of them at 61-62 GeV"
    assert demo_parts.headline([]) == ""


def test_summary_tells_of_failures() -> None:
    task = TaskStatus("make", None, False, {"cleanout": 3}, {"success": 1, "exhausted": 2}, 0)
    assert summary(task) == "1/3 (2 failed)"


def test_the_lock_names_who_holds_it(tmp_path: Path) -> None:
    _, lock = demo_parts.fresh_home(tmp_path / "demo", {})
    with pytest.raises(Conflict, match=rf"\(pid {os.getpid()}\)"):
        demo_parts.fresh_home(tmp_path / "demo", {})
    lock.release()
