"""The examples of the documentation work: components, workflows, configurations."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.docs import DOCS, PAGES, ROOT, block, blocks, name
from wmtwisted.cli.instance import InstanceLock
from wmtwisted.client.blocking import Connection, publish
from wmtwisted.config import Config, default_text, load
from wmtwisted.flow.problems import problems
from wmtwisted.flow.spec import read_flow
from wmtwisted.message import Message
from wmtwisted.wmbs.check import TASK_KEYS
from wmtwisted.wmbs.model import Task
from wmtwisted.wmbs.states import TRANSITIONS, JobState
from wmtwisted.wmbs.workflow import read_text, resolve

#: Seconds that an example may take.
PATIENCE = 60.0


@contextmanager
def running(home: Path) -> Iterator[Config]:
    """`wm up` in `home`, from where components are imported as well."""
    process = subprocess.Popen(
        [sys.executable, "-m", "wmtwisted.cli.main", "up"],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(home), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("up: "), process.communicate()[1]
        yield load(home / "wm.toml")
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)
        InstanceLock(home, patience=30).release()


def payloads(config: Config, type: str, count: int) -> list[dict[str, object]]:
    """The payloads of the messages of a type, once there are so many."""
    deadline = time.monotonic() + PATIENCE
    with Connection(config) as connection:
        while True:
            rows = connection.history(type=type)
            if len(rows) >= count:
                return [json.loads(row[6]) for row in rows]
            assert time.monotonic() < deadline, f"{len(rows)} of {count} {type}"
            threading.Event().wait(0.05)


def test_the_smallest_component(tmp_path: Path) -> None:
    page = DOCS / "components.md"
    for file in ("greeter.py", "greet.flow", "wm.toml"):
        (tmp_path / file).write_text(block(page, file))
    assert problems(read_flow(tmp_path / "greet.flow")) == []
    with running(tmp_path) as config:
        (receipt,) = publish(config, [Message("Hello", {"name": "World"})])
        assert receipt.destinations == 1
        assert payloads(config, "Greeting", 1) == [{"text": "Hello, World!"}]


def test_components_with_a_trigger(tmp_path: Path) -> None:
    page = DOCS / "components.md"
    (tmp_path / "storage.py").write_text(block(page, "storage.py"))
    (tmp_path / "wm.toml").write_text(block(page, "wm.toml", 1))
    (flow,) = (one.text for one in blocks(DOCS / "flows.md") if one.language == "flow")
    (tmp_path / "storage.flow").write_text(flow)
    good = [{"name": f"m{number}", "value": number} for number in range(3)]
    with running(tmp_path) as config:
        messages = [Message("Measured", value) for value in [*good, {"name": "../m"}, {}]]
        receipts = publish(config, messages)
        stored = payloads(config, "Stored", 3)
        rejected = payloads(config, "Rejected", 2)
    assert sorted(str(one["name"]) for one in stored) == ["m0", "m1", "m2"]
    assert {one["message"] for one in rejected} == {receipt.id for receipt in receipts[3:]}
    for folder in ("disk", "tape"):
        files = {file.name: json.loads(file.read_text()) for file in (tmp_path / folder).iterdir()}
        assert files == {one["name"]: one for one in good}


def test_the_configuration_takes_what_is_shown(tmp_path: Path) -> None:
    # What a reader does with the file of `wm init`: give spec its value, add the component.
    text = default_text({"flow.spec": "greet.flow"})
    part = block(DOCS / "components.md", "wm.toml").partition("[components.Greeter]")
    (tmp_path / "wm.toml").write_text(text + part[1] + part[2])
    assert list(load(tmp_path / "wm.toml", {}).components) == ["Greeter"]


def written_options() -> dict[str, dict[str, object]]:
    """The options in the file of `wm init`, by component, without their marks of a comment."""
    text = default_text().partition("What the components of the life cycle can be told")[2]
    lines = re.findall(r"^# ((?:\[components\.|\w+ = ).*)$", text, re.MULTILINE)
    components = tomllib.loads("\n".join(lines))["components"]
    return {name: table["options"] for name, table in components.items()}


def real_options() -> dict[str, dict[str, object]]:
    """The options that the components of the life cycle read, with their defaults."""
    found = {}
    for component, settings in load_text("").components.items():
        module = importlib.import_module(settings.class_.partition(":")[0])
        of = {}
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            match node:
                case ast.Call(ast.Attribute(attr="option"), [ast.Constant(str(option)), default]):
                    constant = isinstance(default, ast.Name)
                    text = ast.unparse(default)
                    of[option] = getattr(module, text) if constant else ast.literal_eval(text)
        if of:
            found[component] = of
    return found


def load_text(text: str) -> Config:
    """A configuration."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "wm.toml"
        file.write_text(text)
        return load(file, {})


def test_options_are_written_with_their_defaults() -> None:
    real = real_options()
    assert written_options() == real
    rows = re.findall(
        r"^\| (\w+) \| `(\w+)` \| `(.+?)` \|", (DOCS / "workflows.md").read_text(), re.MULTILINE
    )
    told = {(name, option): ast.literal_eval(default) for name, option, default in rows}
    assert told == {(name, key): value for name, of in real.items() for key, value in of.items()}


def test_options_that_are_shown_are_options() -> None:
    shown = [one.text for one in blocks(DOCS / "workflows.md") if one.language == "toml"]
    (text,) = (one for one in shown if one.startswith("[components."))
    for component, settings in load_text(text).components.items():
        assert set(settings.options) <= set(real_options().get(component, {})), component


def test_a_workflow_that_counts_words(tmp_path: Path) -> None:
    workflow = resolve(read_text(block(DOCS / "workflows.md", "words.toml"), "-"), sys.executable)
    texts = {"a.txt": "to be or not to be", "b.txt": "that is the question"}
    inputs = []
    for file, text in texts.items():
        (tmp_path / file).write_text(text)
        inputs.append(run_job(tmp_path / f"job.{file}", workflow.task("count"), [tmp_path / file]))
    total = run_job(tmp_path / "job.total", workflow.task("total"), inputs)
    assert json.loads(total.read_text()) == 10


def run_job(folder: Path, task: Task, inputs: list[Path]) -> Path:
    """Runs a task's command on files; the output that it leaves."""
    folder.mkdir()
    job = {"name": folder.name, "inputs": [{"path": str(path)} for path in inputs]}
    (folder / "job.json").write_text(json.dumps(job))
    subprocess.run(task.command, cwd=folder, check=True, capture_output=True)
    return folder / task.outputs[0]


def test_the_task_in_xml_is_the_packaged_one() -> None:
    (shown_task,) = (b.text for b in blocks(DOCS / "workflows.md") if b.language == "xml")
    packaged = (ROOT / "wmtwisted/workloads/dimuon/dimuon.xml").read_text()
    assert " ".join(shown_task.split()) in " ".join(packaged.split())


@pytest.mark.parametrize(
    "text", [b.text for page in PAGES for b in blocks(page) if b.language == "json"]
)
def test_json_is_json(text: str) -> None:
    json.loads(text)


@pytest.mark.parametrize("page", [DOCS / "components.md"], ids=name)
def test_python_can_be_read(page: Path) -> None:
    for one in blocks(page):
        if one.language == "python":
            compile(one.text, one.file, "exec")


def test_every_key_of_a_task_is_explained() -> None:
    text = (DOCS / "workflows.md").read_text()
    assert {key for key in TASK_KEYS if f"`{key}`" not in text} == set()


def test_the_life_of_a_job_is_the_one_of_the_code() -> None:
    (drawing,) = (b.text for b in blocks(DOCS / "workflows.md") if "stateDiagram" in b.text)
    arrows = set(re.findall(r"^ +(\w+) --> (\w+)", drawing, re.MULTILINE))
    # That all live states can be killed is said in words.
    real = {(str(a), str(b)) for a, to in TRANSITIONS.items() for b in to if b != JobState.KILLED}
    assert arrows == real
