"""Workflow files: XML and TOML read into one model, and everything wrong is named with its line."""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_letters

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from wmtwisted.errors import SpecError
from wmtwisted.wmbs.model import SplitBy, Splitting, Task, Workflow
from wmtwisted.wmbs.workflow import from_dict, read_file, read_text, resolve, to_dict

XML = """<?xml version="1.0"?>
<workflow name="dimuon">
  <!-- how many fail -->
  <parameter name="fail_rate">0</parameter>
  <task name="generate" jobs="10" events-per-job="10000" retries="10" time-limit="300">
    <command><arg>{python}</arg><arg>-m</arg><arg>wm.dimuon</arg><arg>a &lt; b</arg></command>
    <output>events.csv</output>
  </task>
  <task name="select" input="generate" splitting="event" events-per-job="5000">
    <command><arg>{python}</arg></command>
    <output>histogram.json</output>
    <parameter name="window">60-120</parameter>
  </task>
  <task name="merge" input="select" splitting="file" wait="complete">
    <command><arg>{python}</arg></command>
    <output>spectrum.json</output><output>spectrum.png</output>
  </task>
</workflow>
"""

TOML = """
name = "dimuon"
parameters = { fail_rate = 0 }

[[task]]
name = "generate"
jobs = 10
events-per-job = 10000
retries = 10
time-limit = 300
command = ["{python}", "-m", "wm.dimuon", "a < b"]
outputs = ["events.csv"]

[[task]]
name = "select"
input = "generate"
splitting = "event"
events-per-job = 5000
command = ["{python}"]
outputs = ["histogram.json"]
[task.parameters]
window = "60-120"

[[task]]
name = "merge"
input = "select"
splitting = "file"
wait = "complete"
command = ["{python}"]
outputs = ["spectrum.json", "spectrum.png"]
"""

MODEL = Workflow(
    "dimuon",
    (
        Task(
            "generate",
            ("{python}", "-m", "wm.dimuon", "a < b"),
            splitting=Splitting(SplitBy.EVENT, 10000, 10),
            outputs=("events.csv",),
            retries=10,
            time_limit=300.0,
        ),
        Task(
            "select",
            ("{python}",),
            "generate",
            Splitting(SplitBy.EVENT, 5000),
            {"window": "60-120"},
            ("histogram.json",),
        ),
        Task(
            "merge",
            ("{python}",),
            "select",
            Splitting(SplitBy.FILE, 0),
            outputs=("spectrum.json", "spectrum.png"),
            wait=True,
        ),
    ),
    {"fail_rate": "0"},
)

#: A busy machine is no failure.
unhurried = settings(deadline=None)


@pytest.mark.parametrize("text", [XML, TOML])
def test_both_forms_give_one_model(text: str, tmp_path: Path) -> None:
    assert read_text(text, "dimuon") == MODEL
    file = tmp_path / "dimuon"
    file.write_text(text)
    assert read_file(file) == MODEL


def test_plain_data_and_back() -> None:
    assert from_dict(json.loads(json.dumps(to_dict(MODEL)))) == MODEL


def test_the_interpreter_is_put_in() -> None:
    resolved = resolve(MODEL, "/usr/bin/python3")
    assert [task.command[0] for task in resolved.tasks] == ["/usr/bin/python3"] * 3
    assert resolved.tasks[0].command[1:] == MODEL.tasks[0].command[1:]


def test_tasks_in_order() -> None:
    turned = evolve(MODEL, tasks=reversed(MODEL.tasks))
    assert [task.name for task in turned.in_order()] == ["generate", "select", "merge"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            'splitting="event"',
            'splitting="evnt"',
            "f.xml:9:3: task 'select' has splitting 'evnt', expected one of file, event, run, "
            "size; did you mean 'event'?",
        ),
        (
            'input="generate"',
            'input="generat"',
            "f.xml:9:3: task 'select' reads 'generat', which is neither a task nor 'input'; "
            "did you mean 'generate'?",
        ),
        ('retries="10"', 'retrys="10"', "f.xml:5:3: task 'generate' has no 'retrys'"),
        ('retries="10"', 'retries="-1"', "expected a whole number from 0 to 1000"),
        ('time-limit="300"', 'time-limit="nan"', "expected seconds, more than 0"),
        ('jobs="10"', "", "f.xml:5:3: task 'generate' needs 'jobs'"),
        ('jobs="10"', 'jobs="0"', "'jobs' 0, expected a whole number from 1"),
        ('events-per-job="5000"', "", "f.xml:9:3: task 'select' needs 'events-per-job'"),
        (
            'events-per-job="5000"',
            'events-per-job="1" files-per-job="2"',
            "'files-per-job', which goes with splitting 'file', not with 'event'",
        ),
        ('input="select"', 'input="select" jobs="3"', "reads 'select', so its splitting decides"),
        ('wait="complete"', 'wait="completed"', "did you mean 'complete'?"),
        (' wait="complete"', "", "task 'merge' needs 'files-per-job'"),
        ("<output>events.csv</output>", "", "reads 'generate', which has no outputs"),
        ("events.csv", "../events.csv", "f.xml:7:"),
        ("events.csv", "report.json", "cannot have an output called 'report.json'"),
        ("spectrum.png", "spectrum.json", "has two outputs called 'spectrum.json'"),
        ("<arg>-m</arg>", "<arg>{job}</arg>", "has {job} in its command"),
        ("<command><arg>{python}</arg></command>", "", "task 'select' has no command"),
        ('name="select"', 'name="se lect"', "cannot be called 'se lect'"),
        ('name="select"', 'name="generate"', "there are two tasks called 'generate'"),
        ('name="merge"', 'name="input"', "a task cannot be called 'input'"),
        ('<workflow name="dimuon">', "<workflow>", "f.xml:2:1: the workflow needs a name"),
        ('name="fail_rate"', 'nam="fail_rate"', "f.xml:4:3: <parameter> has no attribute 'nam'"),
        ("<output>events.csv</output>", "<outptu/>", "f.xml:7:5: found <outptu> in <task>"),
        ("<output>events.csv</output>", "stray", "found text 'stray' directly in <task>"),
        ('jobs="10"', "jobs", "this is no XML"),
        ("</workflow>", "", "f.xml:19:1: this is no XML: no element found"),
        ("<workflow", "<!DOCTYPE w [<!ENTITY a 'b'>]><workflow", "a document type is not allowed"),
    ],
)
def test_what_is_wrong_in_xml_is_named_with_its_place(old: str, new: str, expected: str) -> None:
    assert old in XML
    with pytest.raises(SpecError) as caught:
        read_text(XML.replace(old, new, 1), "f.xml")
    assert expected in str(caught.value)
    assert all(line.startswith("f.xml:") for line in str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('splitting = "event"', 'splitting = "lumi"', "f.toml:17:1: task 'select' has splitting"),
        ("retries = 10", "retries = true", "f.toml:9:1: task 'generate' has 'retries' True"),
        ('["events.csv"]', '"events.csv"', "f.toml:12:1: task 'generate' has outputs"),
        ('input = "select"', 'inptu = "select"', "f.toml:26:1: task 'merge' has no 'inptu'"),
        ('window = "60-120"', "window = [60, 120]", "f.toml:22:1: parameter 'window' is [60, 120]"),
        ("jobs = 10", "jobs = ", "f.toml:7:8: this is no TOML: Invalid value"),
        ('name = "dimuon"', "", "f.toml:1:1: the workflow needs a name"),
    ],
)
def test_what_is_wrong_in_toml_is_named_with_its_place(old: str, new: str, expected: str) -> None:
    assert old in TOML
    with pytest.raises(SpecError) as caught:
        read_text(TOML.replace(old, new, 1), "f.toml")
    assert expected in str(caught.value)


def test_all_problems_at_once() -> None:
    wrong = XML.replace('jobs="10"', 'jobs="x"').replace('"event"', '"evnt"').replace("-m", "{a}")
    with pytest.raises(SpecError) as caught:
        read_text(wrong, "f.xml")
    assert len(str(caught.value).splitlines()) == 3


def test_a_circle_is_refused() -> None:
    with pytest.raises(SpecError, match="read each other in a circle"):
        read_text(XML.replace('jobs="10"', 'input="select" splitting="event"', 1), "f.xml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        read_file(tmp_path / "absent.xml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match="not UTF-8"):
        read_file(tmp_path / "binary")
    with pytest.raises(SpecError, match="expected at most"):
        read_text("<" * 2_000_000, "large")


@unhurried
@given(st.text(max_size=200) | st.text("<>/=\"'[]{}aé\n &;", max_size=200))
def test_any_text_gives_one_kind_of_error(text: str) -> None:
    with pytest.raises(SpecError):
        read_text(text, "f")
    with pytest.raises(SpecError):
        read_text(f"<workflow>{text}", "f")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "task", "command", "parameters", "input", "jobs", "x"]), inner
        )
    ),
    max_leaves=12,
)


@unhurried
@given(st.dictionaries(st.sampled_from(["name", "task", "parameters"]), plain))
def test_any_data_gives_a_workflow_or_an_error(data: dict[str, object]) -> None:
    try:
        workflow = from_dict(data)
    except SpecError:
        return
    assert from_dict(to_dict(workflow)) == workflow


names = st.text(ascii_letters, min_size=1, max_size=8).filter(lambda name: name != "input")
texts = st.text(st.characters(exclude_characters="\0{", exclude_categories=["Cs"]), max_size=8)


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    tasks: list[Task] = []
    for name in draw(st.lists(names, min_size=1, max_size=5, unique=True)):
        read = draw(st.sampled_from([None, "input", *(task.name for task in tasks)]))
        by = SplitBy.EVENT if read is None else draw(st.sampled_from(SplitBy))
        wait = draw(st.booleans())
        least = 0 if by is SplitBy.FILE and wait else 1
        per_job = draw(st.integers(least, 2**53))
        jobs = draw(st.integers(1, 100)) if read is None else 0
        tasks.append(
            Task(
                name,
                (draw(names), *draw(st.lists(texts, max_size=3))),
                read,
                Splitting(by, per_job, jobs),
                draw(st.dictionaries(names, texts, max_size=2)),
                draw(st.lists(names, min_size=1, max_size=2, unique=True)),
                wait,
                draw(st.floats(0.1, 1e6)),
                draw(st.integers(0, 9)),
            )
        )
    return Workflow(draw(names), tuple(draw(st.permutations(tasks))), {"a": draw(texts)})


@unhurried
@given(workflows())
def test_every_workflow_survives_its_plain_form(workflow: Workflow) -> None:
    # "lock" and its like are refused as outputs.
    if {"lock", "stdout", "stderr"} & {name for task in workflow.tasks for name in task.outputs}:
        return
    assert from_dict(json.loads(json.dumps(to_dict(workflow)))) == workflow
