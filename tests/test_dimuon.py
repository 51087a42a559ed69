"""The commands of the dimuon workload as jobs run them: processes in a folder with a job.json."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from wmtwisted.workloads.dimuon.events import HEADER
from wmtwisted.workloads.dimuon.job import Job, fails

COMMAND = [sys.executable, "-P", "-m", "wmtwisted.workloads.dimuon"]


def run(cwd: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *argv], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def folder(cwd: Path, **changes: Any) -> Path:
    """A job's folder; `inputs` are paths."""
    cwd.mkdir()
    plain: dict[str, Any] = {
        "job": 12,
        "name": f"dimuon-1-{cwd.name}",
        "workflow": "dimuon-1",
        "task": "select",
        "attempt": 1,
        "seed": 8261,
        "first_event": None,
        "events": None,
        "outputs": ["histogram.json"],
        "parameters": {"fail_rate": "0"},
    }
    all_of_it = {"runs": None, "first_event": 0, "events": None}
    inputs = [
        {"lfn": f"/store/{Path(path).parent.name}", "path": str(path), **all_of_it}
        for path in changes.pop("inputs", [])
    ]
    (cwd / "job.json").write_text(json.dumps(plain | {"inputs": inputs} | changes))
    return cwd


def names(cwd: Path) -> list[str]:
    return sorted(path.name for path in cwd.iterdir())


def works(cwd: Path, command: str) -> Any:
    """The report of a job that must succeed."""
    done = run(cwd, command)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads((cwd / "report.json").read_text())["outputs"]


def generated(root: Path, jobs: int, events: int) -> list[Path]:
    made = []
    for number in range(jobs):
        first = 1 + number * events
        place = {"first_event": first, "events": events, "seed": number}
        cwd = folder(root / f"generate-{number}", outputs=["events.csv"], **place)
        runs = sorted({1 + first // 10_000, 1 + (first + events - 2) // 10_000})
        report = [{"name": "events.csv", "events": events, "runs": runs}]
        assert works(cwd, "generate") == report
        assert names(cwd) == ["events.csv", "job.json", "report.json"]
        made.append(cwd / "events.csv")
    return made


def selected(root: Path, inputs: Sequence[Path]) -> list[Path]:
    made = []
    for number, path in enumerate(inputs):
        cwd = folder(root / f"select-{number}", inputs=[path])
        [report] = works(cwd, "select")
        assert report["name"] == "histogram.json"
        made.append(cwd / "histogram.json")
    return made


def test_generate_select_and_merge(tmp_path: Path) -> None:
    histograms = selected(tmp_path, generated(tmp_path, 3, 4_000))
    outputs = ["spectrum.json", "spectrum.png"]
    cwd = folder(tmp_path / "merge", inputs=histograms, outputs=outputs)
    report = works(cwd, "merge")
    assert report == [{"name": name, "events": 12_000, "runs": [1, 2]} for name in outputs]
    assert names(cwd) == ["job.json", "report.json", *outputs]
    spectrum = json.loads((cwd / "spectrum.json").read_text())
    assert spectrum["events"] == 12_000
    assert spectrum["events"] == (
        sum(spectrum["counts"]) + spectrum["underflow"] + spectrum["overflow"]
    )
    assert (spectrum["jobs"], spectrum["files"], spectrum["runs"]) == (3, 3, 2)
    assert spectrum["counts"].index(max(spectrum["counts"])) in (30, 31)


def test_a_failure_on_purpose_leaves_nothing(tmp_path: Path) -> None:
    cwd = folder(tmp_path / "a", first_event=1, events=10, parameters={"fail_rate": "1"})
    done = run(cwd, "generate")
    assert done.returncode == 3
    assert done.stderr == ("error: job dimuon-1-a fails on purpose at attempt 1 (fail_rate 1)\n")
    assert names(cwd) == ["job.json"]


def job(name: str, attempt: int, rate: str) -> Job:
    return Job(name, attempt, 1, 1, 1, (), (), {"fail_rate": rate})


def test_the_share_of_attempts_that_fail() -> None:
    attempts = [job(f"job-{n}", attempt, "0.2") for n in range(500) for attempt in range(1, 5)]
    assert 0.17 < sum(map(fails, attempts)) / len(attempts) < 0.23
    assert list(map(fails, attempts)) == list(map(fails, attempts))
    assert not any(fails(each._replace(parameters={})) for each in attempts)
    # More fail at a higher rate, and those of the lower one are among them.
    often = [each._replace(parameters={"fail_rate": "0.5"}) for each in attempts]
    assert all(fails(more) for more, less in zip(often, attempts, strict=True) if fails(less))


@pytest.mark.parametrize("rate", ["-0.1", "1.1", "nan", "often"])
def test_a_rate_that_is_no_share_is_refused(tmp_path: Path, rate: str) -> None:
    done = run(folder(tmp_path / "a", parameters={"fail_rate": rate}), "select")
    assert done.returncode == 1
    assert done.stderr == f"error: fail_rate is '{rate}', expected a share from 0 to 1\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "error: job.json: cannot be read: No such file or directory\nhint: a job's command"),
        ("{", "error: job.json: expected a job: Expecting"),
        ("[]", "error: job.json: expected a job: list indices"),
        ("{}", "error: job.json: it has no 'name', expected a job\n"),
    ],
)
def test_a_broken_job_file_is_one_clear_line(
    tmp_path: Path, text: str | None, expected: str
) -> None:
    if text is not None:
        (tmp_path / "job.json").write_text(text)
    done = run(tmp_path, "select")
    assert done.returncode == 1
    assert done.stderr.startswith(expected)
    assert "Traceback" not in done.stderr


def test_a_broken_line_fails_the_job_and_leaves_nothing(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text(f"{HEADER}\n1,2,3\n")
    cwd = folder(tmp_path / "a", inputs=[bad])
    done = run(cwd, "select")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: {bad}:2: 3 values, expected 14: '1,2,3'",
        f"hint: each line holds {HEADER}",
    ]
    assert names(cwd) == ["job.json"]


def test_scan_prints_what_a_file_holds(tmp_path: Path) -> None:
    [path] = generated(tmp_path, 1, 50)
    done = run(tmp_path, "scan", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"events": 50, "runs": [1]}
    path.write_text("x\n")
    done = run(tmp_path, "scan", str(path))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {path}:1: the header is 'x', expected {HEADER}\nhint: ")


@pytest.mark.parametrize("argv", [[], ["paint"], ["scan"], ["select", "more"]])
def test_a_wrong_command_line_shows_the_usage(tmp_path: Path, argv: list[str]) -> None:
    done = run(tmp_path, *argv)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
    assert done.stdout == ""


def test_help_is_no_error(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


@pytest.mark.parametrize("command", ["generate", "select"])
def test_commands_import_no_more_than_they_need(tmp_path: Path, command: str) -> None:
    cwd = folder(tmp_path / "a", first_event=1, events=5, outputs=["events.csv"])
    if command == "select":
        run(cwd, "generate")
        cwd = folder(tmp_path / "b", inputs=[cwd / "events.csv"])
    code = (
        "import sys; from wmtwisted.workloads.dimuon.__main__ import main; "
        f"code = main(['{command}']); "
        "heavy = {'twisted', 'sqlalchemy', 'attr', 'numpy', 'matplotlib', 'argparse', 'asyncio'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "tasks"),
    [("dimuon.xml", ["generate", "select", "merge"]), ("recorded.xml", ["select", "merge"])],
)
def test_the_workflow_files_ship_and_can_be_read(name: str, tasks: list[str]) -> None:
    from wmtwisted.wmbs.workflow import read_text

    text = files("wmtwisted.workloads.dimuon").joinpath(name).read_text()
    workflow = read_text(text, name)
    assert workflow.name == "dimuon"
    assert [task.name for task in workflow.tasks] == tasks
    assert [task.command[-1] for task in workflow.tasks] == tasks
    assert workflow.parameters == {"fail_rate": "0"}
