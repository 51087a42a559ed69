"""What is wrong in flows: every code on a flow broken for it, and none on a sound one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given

from tests.flows import flows, unhurried
from wmtwisted.flow.model import Flow
from wmtwisted.flow.problems import problems
from wmtwisted.flow.spec import read_flow

SOUND = """
source = {'ID': 'User', 'messageOut': 'Start'}
handler = {'component': 'Splitter', 'messageIn': 'Start', 'messageOut': 'Upload',
           'createSynchronizer': 'Both'}
handler = {'component': 'Here', 'messageIn': 'Upload', 'synchronize': 'Both'}
handler = {'component': 'There', 'messageIn': 'Upload', 'synchronize': 'Both'}
synchronizer = {'ID': 'Both', 'action': 'Cleanup'}
plugin = {'component': 'Here', 'handler': 'Upload', 'plugins': 'Disk,Tape'}
handler = {'component': 'Cleaner', 'messageIn': 'Cleanup', 'messageOut': 'Finished'}
sink = {'ID': 'Mail', 'messageIn': 'Finished'}
"""


def found(text: str) -> list[tuple[str, str, int]]:
    """(code, severity, line) of every problem of a text."""
    return [
        (problem.code, problem.severity, problem.place.line)
        for problem in problems(read_flow(text))
    ]


def test_a_sound_flow_has_none() -> None:
    assert found(SOUND) == []
    assert found("") == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("sink = {'ID': 'Mail', 'messageIn': 'Finished'}", "", [("unhandled-message", "error", 9)]),
        ("'messageIn': 'Finished'", "'messageIn': 'FINISHED'", [("near-miss", "error", 9),
                                                                ("name-clash", "error", 10)]),
        ("'messageIn': 'Finished'", "'messageIn': 'Finisched'", [("near-miss", "error", 9)]),
        ("'action': 'Cleanup'", "'action': 'Claenup'", [("near-miss", "error", 7),
                                                        ("unreachable-component", "warning", 9)]),
        ("'messageIn': 'Finished'", "'messageIn': 'Finished,More'",
         [("unpublished-message", "warning", 10)]),
        ("'messageIn': 'Finished'", "'messageIn': 'Finished,Finishes'",
         [("near-miss", "error", 10)]),
        ("'createSynchronizer': 'Both'", "'createSynchronizer': 'Bath'",
         [("unknown-synchronizer", "error", 4), ("never-created", "error", 7)]),
        ("'createSynchronizer': 'Both'", "'threading': 'yes'", [("never-created", "error", 7)]),
        (", 'synchronize': 'Both'", "", [("never-completed", "error", 7),
                                         ("unreachable-component", "warning", 9)]),
        ("plugin =", "synchronizer = {'ID': 'Spare', 'action': 'Cleanup'}\nplugin =",
         [("unused-synchronizer", "warning", 8)]),
        ("plugin =", "synchronizer = {'ID': 'Both', 'action': 'Cleanup'}\nplugin =",
         [("duplicate-synchronizer", "error", 8)]),
        ("'action': 'Cleanup'", "'action': 'a.b.Cleanup'",
         [("class-action", "warning", 7), ("unreachable-component", "warning", 9),
          ("unpublished-message", "warning", 9)]),
        ("plugin =", "handler = {'component': 'Here', 'messageIn': 'Upload',\n"
                     "           'createSynchronizer': 'Both'}\nplugin =",
         [("duplicate-handler", "error", 8), ("synchronizer-created-twice", "warning", 9)]),
        ("'component': 'Here', 'handler'", "'component': 'Hera', 'handler'",
         [("unknown-component", "error", 8)]),
        ("'handler': 'Upload'", "'handler': 'Uplaod'", [("unknown-handler", "error", 8)]),
        ("'component': 'There'", "'component': 'HERE'", [("name-clash", "error", 6)]),
        ("'component': 'There'", "'component': 'class'", [("keyword", "error", 6)]),
        ("'Finished'", "'Here:Finished'", []),
        ("'Cleanup'", "'Here:Cleanup'", [("wrong-address", "error", 9)]),
        ("'Cleanup'", "'Here:import'", [("keyword", "error", 7), ("wrong-address", "error", 9)]),
    ],
)  # fmt: skip
def test_a_broken_flow_is_told_what_is_wrong(
    old: str, new: str, expected: list[tuple[str, str, int]]
) -> None:
    assert old in SOUND
    assert found(SOUND.replace(old, new)) == expected


def test_the_lines_say_what_was_meant() -> None:
    text = SOUND.replace("'messageOut': 'Finished'", "'messageOut': 'Finishd'")
    assert [str(problem) for problem in problems(read_flow(text, "some.flow"))] == [
        "some.flow:9:74: 'Finishd' is published by Cleaner and handled by nobody, but 'Finished' "
        "is handled by Mail; did you mean 'Finished'?"
    ]


def test_job_types_go_different_ways() -> None:
    one = "handler = {'component': 'Here', 'messageIn': 'Upload', 'jobType': 'Merge'}\n"
    assert found(SOUND + one) == []
    assert found(SOUND + one + one) == [("duplicate-handler", "error", 12)]
    flow = read_flow(SOUND + one)
    for job_type, completes in (("Merge", ()), ("Process", ("Both",)), ("", ("Both",))):
        handler = flow.handler("Here", "Upload", job_type)
        assert handler is not None
        assert handler.completes == completes


def test_the_slides_sample_only_warns() -> None:
    text = """
handler = {'messageIn' : 'NewWorkflow', 'messageOut' : "", 'component' : 'JobCreator'}
handler = {'messageIn' : 'JobCreator:SetCreator', 'messageOut' : "", 'component' : 'JobCreator'}
"""
    assert found(text) == [
        ("unpublished-message", "warning", 2),
        ("unpublished-message", "warning", 3),
    ]


@unhurried
@given(flows)
def test_any_flow_is_checked(flow: Flow) -> None:
    for problem in problems(flow):
        assert str(problem).isprintable()


def test_the_shipped_specs_are_sound() -> None:
    shipped = sorted((Path(__file__).parent.parent / "specs").glob("*.flow"))
    assert shipped
    for path in shipped:
        assert problems(read_flow(path)) == []
