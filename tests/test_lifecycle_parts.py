"""The parts of the life cycle by themselves: logs, environments, outputs, options."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.lifecycle_world import World, command, world
from wmtwisted.batch.local import Local
from wmtwisted.errors import ConfigError, InputError
from wmtwisted.lifecycle import logs, stageout
from wmtwisted.lifecycle.environment import chosen
from wmtwisted.wmbs.model import Task
from wmtwisted.wmbs.records import Job
from wmtwisted.wmbs.states import JobState, WorkflowState

# The environment of jobs.


def test_the_usual_variables_and_no_others() -> None:
    environ = {
        "PATH": "/bin", "HOME": "/root", "LC_ALL": "C", "PYTHONPATH": "x", "TZ": "UTC",
        "WM_SUPERVISOR": "1", "AWS_SECRET": "s", "HOMES": "no", "LC": "no",
    }  # fmt: skip
    usual = {"PATH", "HOME", "LC_ALL", "PYTHONPATH", "TZ"}
    assert chosen(environ, []) == {name: environ[name] for name in usual}


def test_further_variables() -> None:
    environ = {"PATH": "/bin", "X509_PROXY": "p", "CMS_A": "1", "CMS_B": "2", "OTHER": "no"}
    more = ["X509_PROXY", "CMS_*", "MODE=a=b", "PATH=/elsewhere", "MISSING"]
    assert chosen(environ, more) == {
        "PATH": "/elsewhere", "X509_PROXY": "p", "CMS_A": "1", "CMS_B": "2", "MODE": "a=b",
    }  # fmt: skip


@pytest.mark.parametrize("entry", ["", "A B", "=x", "1A", "A*B", "*", 7, "A=\0"])
def test_an_entry_that_cannot_be(entry: object) -> None:
    with pytest.raises(ConfigError, match="expected NAME, PREFIX"):
        chosen({}, [entry])  # type: ignore[list-item]


def test_a_job_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_COMPONENT", "1")
    monkeypatch.setenv("CMS_SITE", "T0")
    more = '[components.JobSubmitter.options]\nenvironment = ["CMS_*", "MODE=fast"]\n'
    with world(more=more) as one:
        one.submit(command("w", "env", outputs=[]))
        one.run()
        log = logs.find(one.config, one.jobs()[0], "stdout")
        assert log is not None
        lines = log.read_text().splitlines()
        assert {"CMS_SITE=T0", "MODE=fast", f"PATH={os.environ['PATH']}"} <= set(lines)
        assert not any(line.startswith("SECRET") for line in lines)
        # The batch system's own mark, by which it finds what a job left running.
        assert any(line.startswith("WM_BATCH_JOB=") for line in lines)


@pytest.mark.parametrize(
    ("component", "option"),
    [
        ("JobSubmitter", 'environment = "PATH"'),
        ("JobSubmitter", 'environment = ["A B"]'),
        ("ErrorHandler", 'hopeless = ["x"]'),
        ("JobTracker", 'interval = "fast"'),
    ],
)
def test_an_option_that_cannot_be(component: str, option: str) -> None:
    more = f"[components.{component}.options]\n{option}\n"
    if component == "ErrorHandler":
        more = f"{option}\n"
    with pytest.raises(ConfigError, match="expected"), world(more=more):
        pass


# Logs.


def test_a_log_is_found_where_it_is() -> None:
    with world() as one:
        one.submit(command("w", "sh", "-c", "echo out; echo err >&2; exec sleep 100"))
        one.run(lambda: "err" in written(one, "stderr"))
        job = one.jobs()[0]
        assert written(one, "stdout") == "out\n"
        assert logs.kept(one.config, job, "stdout").exists() is False
        one.store.kill(1, who="operator", cause="test")
        one.run()
        job = one.jobs()[0]
        assert job.state is JobState.CLEANOUT
        assert logs.find(one.config, job, "stderr") == logs.kept(one.config, job, "stderr")
        assert written(one, "stdout") == "out\n"


def written(one: World, stream: str) -> str:
    jobs = one.jobs()
    path = logs.find(one.config, jobs[0], stream) if jobs else None
    return path.read_text() if path else ""


def test_a_job_without_a_log() -> None:
    with world() as one:
        one.submit(command("w", "true"))
        one.run(lambda: bool(one.jobs()))
        assert logs.find(one.config, one.jobs()[0], "stdout") is None
        assert logs.written(one.config, one.jobs()[0], "stdout") is None


# Outputs.


@pytest.fixture
def job(tmp_path: Path) -> Job:
    sandbox = tmp_path / "sandbox"
    sandbox.mkdir()
    return Job(
        1, "w-make-1", 1, "w", "make", 1, JobState.EXECUTING, None, 1, 0, None, None,
        str(sandbox), "w-make-1.1", None, "", 0.0, 0.0,
    )  # fmt: skip


TASK = Task("make", ["true"], outputs=["a", "b"])


def leave(job: Job, **files: str) -> None:
    for name, text in files.items():
        (Path(job.sandbox) / name).write_text(text)


def test_nothing_is_moved_before_all_is_there(job: Job, tmp_path: Path) -> None:
    leave(job, a="1")
    with pytest.raises(InputError, match="without its output 'b'"):
        stageout.stage_out(job, TASK, tmp_path / "storage")
    assert (Path(job.sandbox) / "a").exists()
    assert not (tmp_path / "storage").exists()


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_it_goes_on_where_it_was_broken_off(
    job: Job, tmp_path: Path, moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(
        job, a="1", b="22", **{"report.json": json.dumps({"outputs": [{"name": "a", "events": 7}]})}
    )
    storage = tmp_path / "storage"
    move, left = stageout.move, [moved]

    def broken(source: Path, target: Path) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        move(source, target)

    monkeypatch.setattr(stageout, "move", broken)
    if moved < 2:
        with pytest.raises(KeyboardInterrupt):
            stageout.stage_out(job, TASK, storage)
    left[0] = 10
    files = stageout.stage_out(job, TASK, storage)
    assert [(one.lfn, one.size, one.events) for one in files] == [
        ("/store/w/make/w-make-1/a", 1, 7),
        ("/store/w/make/w-make-1/b", 2, 0),
    ]
    assert [Path(one.path).read_text() for one in files] == ["1", "22"]
    assert stageout.stage_out(job, TASK, storage) == files


def test_a_storage_on_another_file_system(job: Job) -> None:
    if not Path("/dev/shm").is_dir() or os.stat("/dev/shm").st_dev == os.stat(job.sandbox).st_dev:
        pytest.skip("there is no other file system to write to")
    storage = Path("/dev/shm") / f"wm-test-{os.getpid()}"
    try:
        leave(job, a="1", b="2")
        files = stageout.stage_out(job, TASK, storage)
        assert [Path(one.path).read_text() for one in files] == ["1", "2"]
        assert not (Path(job.sandbox) / "a").exists()
        assert {path.name for path in Path(files[0].path).parent.iterdir()} == {"a", "b"}
    finally:
        shutil.rmtree(storage)


# What is done once for many.


def test_one_looks_for_a_free_slot() -> None:
    """However many jobs wait for one."""
    with world(twice=False) as one:
        end = one.job_elsewhere("a"), one.job_elsewhere("b")
        looks = []

        class Counted(Local):
            def free(self) -> int:
                looks.append(one.clock.seconds())
                return super().free()

        component = one.processes["JobSubmitter"][0].component
        component.batch = Counted(one.config.batch.root, 2)  # type: ignore[attr-defined]
        for number in range(5):
            one.submit(command(f"w{number}", "true"))
        one.run(lambda: one.clock.seconds() > 3)
        assert len(looks) <= 3 / 0.1 + 1
        for each in end:
            each()
        one.run()
        assert {status.state for status in one.store.workflows()} == {WorkflowState.DONE}
