"""Jobs that cannot be made, submitted, run or stored, and jobs that are killed: how they end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lifecycle_world import World, command, workflow, world
from wmtwisted.message import Message
from wmtwisted.wmbs.model import File, Splitting, Task, Workflow
from wmtwisted.wmbs.records import Job
from wmtwisted.wmbs.states import JobState, WorkflowState

S = JobState


def walk(one: World, what: Workflow) -> Job:
    """Runs a workflow to its end; its first job."""
    one.submit(what)
    one.run()
    return one.jobs()[0]


def check(one: World, state: WorkflowState, job: Job, outcome: JobState) -> None:
    """Ended, cleaned up, told once, and nothing left over."""
    assert one.dead == []
    assert [status.state for status in one.store.workflows()] == [state]
    assert (job.state, job.outcome) == (S.CLEANOUT, outcome)
    end = "JobSuccess" if outcome is S.SUCCESS else "JobFailed"
    assert one.ends()[end, job.id] == 1
    assert not Path(job.sandbox).exists() or not job.sandbox
    if outcome is not S.SUCCESS:
        assert not (one.config.paths.storage / job.workflow / job.task / job.name).exists()


def test_a_command_that_does_not_exist() -> None:
    with world() as one:
        job = walk(one, command("w", "no-such-command", retries=5))
        check(one, WorkflowState.FAILED, job, S.EXHAUSTED)
        why = "cannot start 'no-such-command': No such file or directory"
        assert (job.attempt, job.exit_code) == (1, 127)
        assert one.whys(job.name)[-3:-1] == [why, f"given up at once: {why}"]


def test_a_job_over_its_time_limit() -> None:
    with world() as one:
        job = walk(one, command("w", "sleep", "100", time_limit=0.2, retries=1))
        check(one, WorkflowState.FAILED, job, S.EXHAUSTED)
        why = "stopped at its time limit of 0.2 s"
        assert one.whys(job.name).count(why) == 2
        assert one.whys(job.name)[-2] == f"given up after 2 tries: {why}"


def test_a_job_that_ends_well_without_its_output() -> None:
    with world() as one:
        # What the first attempt left of its outputs is not taken for the second one's.
        script = "case $WM_BATCH_JOB in *.1) echo one > a; rm -f b;; *) echo two > b;; esac"
        job = walk(one, command("w", "sh", "-c", script, outputs=["a", "b"]))
        check(one, WorkflowState.FAILED, job, S.EXHAUSTED)
        assert [why for why in one.whys(job.name) if why.startswith("w-make-1 ")] == [
            "w-make-1 ended well, but without its output 'b'",
            "w-make-1 ended well, but without its output 'a'",
        ]


@pytest.mark.parametrize(
    ("report", "why"),
    [
        ('{"outputs": [{"name": "a", "events": -1}]}', "events of 'a' is -1"),
        ('{"outputs": [{"name": "a", "events": "x"}]}', "events of 'a' is 'x'"),
        ('{"outputs": [{"name": "a", "runs": [99999999999999999999]}]}', "run of 'a' is 999"),
        ('{"outputs": [{"name": "a", "runs": 7}]}', "runs of 'a' are 7"),
        ("{", "report.json cannot be read"),
        ("[]", "report.json cannot be read"),
        ('{"outputs": [[]]}', "report.json cannot be read"),
        ("$(yes [ | head -100000 | tr -d '\\n')", "report.json cannot be read"),
    ],
)
def test_a_report_that_cannot_be_used(report: str, why: str) -> None:
    with world(twice=False) as one:
        quoted = report.replace('"', '\\"')
        script = f'echo 1 > a; echo "{quoted}" > report.json'
        job = walk(one, command("w", "sh", "-c", script, outputs=["a"], retries=0))
        check(one, WorkflowState.FAILED, job, S.EXHAUSTED)
        assert why in one.whys(job.name)[-2]


def test_an_output_that_is_no_file() -> None:
    with world(twice=False) as one:
        job = walk(one, command("w", "ln", "-s", "/etc/hostname", "a", outputs=["a"], retries=0))
        check(one, WorkflowState.FAILED, job, S.EXHAUSTED)
        assert "is not a plain file" in one.whys(job.name)[-2]


def test_a_sandbox_that_cannot_be_made() -> None:
    with world() as one:
        one.config.paths.sandbox.parent.mkdir(parents=True, exist_ok=True)
        one.config.paths.sandbox.write_text("not a folder")
        job = walk(one, command("w", "true", retries=2))
        check(one, WorkflowState.FAILED, job, S.EXHAUSTED)
        assert job.attempt == 3
        assert one.whys(job.name)[-2].startswith("given up after 3 tries: its folder ")
        assert one.whys(job.name)[-2].endswith("cannot be made: Not a directory")


def test_a_sandbox_that_comes_to_be() -> None:
    with world() as one:
        one.config.paths.sandbox.parent.mkdir(parents=True, exist_ok=True)
        one.config.paths.sandbox.write_text("not a folder")
        one.submit(command("w", "true", retries=2))
        one.run(lambda: bool(one.jobs()) and one.jobs()[0].state is S.CREATECOOLOFF)
        one.config.paths.sandbox.unlink()
        one.run()
        check(one, WorkflowState.DONE, one.jobs()[0], S.SUCCESS)


def test_a_sandbox_of_another_instance() -> None:
    with world() as one:
        folder = one.config.paths.sandbox / "w" / "w-make-1"
        (folder / "batch" / "w-make-1.1").mkdir(parents=True)
        job = walk(one, command("w", "true", retries=0))
        assert one.whys(job.name)[-2].endswith("is not empty: it holds 'batch'")
        assert folder.exists()
        assert (one.dead, job.outcome) == ([], S.EXHAUSTED)


def test_a_sandbox_that_goes_away() -> None:
    with world() as one:
        one.submit(command("w", "true", retries=0))
        one.run(lambda: bool(one.jobs()) and one.jobs()[0].state is S.CREATED)
        one.config.paths.sandbox.rename(one.folder / "elsewhere")
        one.run()
        job = one.jobs()[0]
        check(one, WorkflowState.FAILED, job, S.EXHAUSTED)
        assert "cannot be used: No such file or directory" in one.whys(job.name)[-2]


def test_a_storage_that_cannot_be_written() -> None:
    with world() as one:
        one.config.paths.storage.parent.mkdir(parents=True, exist_ok=True)
        one.config.paths.storage.write_text("not a folder")
        job = walk(one, command("w", "sh", "-c", "echo told; echo 1 > a", outputs=["a"], retries=1))
        assert one.dead == []
        assert (job.state, job.outcome) == (S.CLEANOUT, S.EXHAUSTED)
        assert "given up after 2 tries: its outputs cannot be stored" in one.whys(job.name)[-2]
        assert "; its log cannot be kept, so its folder stays: " in one.whys(job.name)[-1]
        # Nothing is lost: neither the log nor what was made.
        assert (Path(job.sandbox) / "batch" / job.batch_id / "stdout").read_text() == "told\n"
        assert (Path(job.sandbox) / "a").exists()


def test_slots_that_cannot_be_used() -> None:
    with world() as one:
        one.config.batch.root.parent.mkdir(parents=True, exist_ok=True)
        one.config.batch.root.write_text("not a folder")
        job = walk(one, command("w", "true", retries=0))
        check(one, WorkflowState.FAILED, job, S.EXHAUSTED)
        assert "given up after 1 try: the slots in " in one.whys(job.name)[-2]


def test_a_full_slot_table() -> None:
    with world() as one:
        holders = [one.job_elsewhere(f"elsewhere{number}") for number in range(2)]
        one.submit(workflow(one.folder, jobs=3))
        one.run(lambda: len(one.jobs()) == 3 and {j.state for j in one.jobs()} == {S.CREATED})
        looks = one.clock.seconds() + 5
        one.run(lambda: one.clock.seconds() > looks)
        # They wait, and none of them has gone ahead of its turn.
        assert {job.state for job in one.jobs()} == {S.CREATED}
        assert one.ran() == []
        for end in holders:
            end()
        one.run()
        assert [status.state for status in one.store.workflows()] == [WorkflowState.DONE]
        assert one.dead == []


def test_outputs_under_a_name_that_is_taken() -> None:
    with world() as one:
        taken = File("/store/w/make/w-make-1/a", "/elsewhere", 1, 1)
        one.store.inject(
            Workflow("other", [Task("read", ["true"], "input", Splitting(per_job=1))]),
            [taken],
            cause="t",
        )
        job = walk(one, command("w", "sh", "-c", "echo 1 > a", outputs=["a"], retries=0))
        assert (one.dead, job.state, job.outcome) == ([], S.CLEANOUT, S.EXHAUSTED)
        assert "already known as an input file" in one.whys("w-make-1")[-2]


# Messages that make no sense are dead letters, and touch nothing.


@pytest.mark.parametrize(
    "payload", [b"", b"[1]", b'{"job": "1"}', b'{"job": true}', b'{"job": 1e999}', b'{"job": 7}',
                b'{"job": 99999999999999999999}', b"{" * 100_000],
)  # fmt: skip
def test_a_message_about_no_job(payload: bytes) -> None:
    with world(twice=False) as one:
        consumed = sorted({type for each in one.classes.values() for type in each.consumes()})
        for number, type in enumerate(consumed, 1):
            one.publish("test~1", number, Message(type, payload))
        one.run()
        assert {row[1] for row in one.dead} == set(consumed)
        assert one.jobs() == []


def test_a_message_at_the_wrong_time() -> None:
    with world(twice=False) as one:
        one.submit(command("w", "sh", "-c", "sleep 1; echo 1 > a", outputs=["a"]))
        one.run(lambda: bool(one.jobs()) and one.jobs()[0].state is S.EXECUTING)
        types = ("CleanJob", "JobFailed", "JobProcessSuccess", "JobProcessFailed")
        for number, type in enumerate(types, 1):
            one.publish("test~1", 1000 + number, Message(type, {"job": 1}))
        one.run()
        job = one.jobs()[0]
        assert (job.state, job.outcome, job.attempt) == (S.CLEANOUT, S.SUCCESS, 1)
        assert sorted(type for _, type, _ in one.dead) == [
            "CleanJob", "JobFailed", "JobProcessFailed", "JobProcessSuccess", "JobProcessSuccess",
        ]  # fmt: skip
        assert "job 1 is executing: it is not to be cleaned up" in {why for _, _, why in one.dead}


def test_the_store_away_for_a_while() -> None:
    """A workflow that comes then is not lost."""
    with world(twice=False) as one:
        path = Path(one.url.removeprefix("sqlite:///"))
        one.submit(command("w", "true"))
        with one.without(path):
            one.run(lambda: any(row[1].attempt > 1 for row in one.waiting))
        one.run()
        check(one, WorkflowState.DONE, one.jobs()[0], S.SUCCESS)


# Killed workflows.


def _executing(one: World) -> Callable[[], bool]:
    return lambda: bool(one.jobs()) and one.jobs()[0].state is S.EXECUTING


@pytest.mark.parametrize("state", sorted(set(JobState) - {S.KILLED}))
def test_a_workflow_killed_in_every_state(state: JobState) -> None:
    with world() as one:
        values: dict[str, Any] = {"outputs": ["a"], "retries": 1}
        script = "echo 1 > a; exec sleep 100"
        if state in (S.SUCCESS, S.CLEANOUT):
            script = "echo 1 > a"
        if state in (S.JOBFAILED, S.JOBCOOLOFF, S.EXHAUSTED):
            script, values["retries"] = "exit 3", int(state is not S.EXHAUSTED)
        block = one.config.paths.sandbox
        block.parent.mkdir(parents=True, exist_ok=True)
        if state in (S.CREATEFAILED, S.CREATECOOLOFF):
            block.write_text("not a folder")
        one.submit(command("w", "sh", "-c", script, **values))
        before = {S.COMPLETE: S.EXECUTING, S.SUBMITFAILED: S.CREATED, S.SUBMITCOOLOFF: S.CREATED}
        one.run(lambda: bool(one.jobs()) and one.jobs()[0].state is before.get(state, state))
        if state is S.COMPLETE:
            one.store.advance(1, S.COMPLETE, who="test", why="half way", cause="test")
        elif state in before:
            block.rename(one.folder / "elsewhere")
            one.run(lambda: one.jobs()[0].state is state)
        if block.is_file():
            block.unlink()
        one.store.kill(1, who="operator", cause="test", why="killed by the operator")
        one.run()
        ended = {S.SUCCESS: S.SUCCESS, S.CLEANOUT: S.SUCCESS, S.EXHAUSTED: S.EXHAUSTED}
        job = one.jobs()[0]
        check(one, WorkflowState.KILLED, job, ended.get(state, S.KILLED))
        if state not in ended:
            assert "killed by the operator" in one.whys(job.name)
            assert one.store.job_outputs(job.id) == []
        one.replay()


def test_killed_while_it_is_followed() -> None:
    with world() as one:
        script = "echo $$ > ../../../pid; exec sleep 1000"
        one.submit(command("w", "sh", "-c", script))
        pid = one.folder / "var" / "pid"
        one.run(lambda: pid.exists() and bool(one.processes["JobTracker"][0].component._followed))  # type: ignore[attr-defined]
        one.store.kill(1, who="operator", cause="test")
        one.run()
        check(one, WorkflowState.KILLED, one.jobs()[0], S.KILLED)
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


def test_killed_while_its_outputs_are_stored() -> None:
    with world(twice=False) as one:
        one.submit(command("w", "sh", "-c", "echo 1 > a", outputs=["a"]))
        killed: list[str] = []

        def after(what: str) -> None:
            if what == "move" and not killed:
                killed.append(what)
                one.store.kill(1, who="operator", cause="test")

        one.faults.then = after
        one.run()
        assert killed
        check(one, WorkflowState.KILLED, one.jobs()[0], S.KILLED)


def test_a_folder_that_cannot_be_looked_at_does_not_hide_others() -> None:
    with world(twice=False) as one:
        one.submit(command("bad", "sleep", "1000", retries=0))
        one.run(_executing(one))
        one.run(lambda: bool(one.processes["JobTracker"][0].component._followed))  # type: ignore[attr-defined]
        job = one.jobs()[0]
        claim = Path(job.sandbox) / "batch" / job.batch_id / "claim"
        pid = json.loads(claim.read_text())["pid"]
        claim.rename(claim.with_name("was"))
        claim.mkdir()  # opening it for writing is an error, also for root
        one.submit(command("good", "true"))
        one.run()
        assert one.job("good-make-1").outcome is S.SUCCESS
        assert one.job("bad-make-1").outcome is S.EXHAUSTED
        assert "its folder cannot be looked at" in one.whys("bad-make-1")[-2]
        assert one.dead == []
        os.kill(pid, 15)
