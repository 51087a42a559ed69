"""The shipped flow of a job's life, its graph, and a component's agreement with it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from hypothesis import given

from tests.flows import flows, unhurried
from wmtwisted.flow.conform import mismatch
from wmtwisted.flow.graph import graph
from wmtwisted.flow.model import Flow
from wmtwisted.flow.problems import problems
from wmtwisted.flow.spec import read_flow

SPEC = Path(__file__).parent.parent / "specs" / "lifecycle.flow"
FLOW = read_flow(SPEC)


def test_the_packaged_file_is_the_one_in_specs() -> None:
    packaged = files("wmtwisted.lifecycle") / "lifecycle.flow"
    assert packaged.read_bytes() == SPEC.read_bytes()


def test_it_is_sound() -> None:
    assert problems(FLOW) == []


def test_who_handles_and_publishes_what() -> None:
    found = {
        name: (set(FLOW.consumes(name)), set(FLOW.publishes(name))) for name in FLOW.components()
    }
    assert found == {
        "JobCreator": (
            {"NewWorkflow", "CreateJob", "JobSuccess", "JobFailed"},
            {"CreateJob", "SubmitJob", "JobCreateFailed"},
        ),
        "JobSubmitter": ({"SubmitJob", "ReSubmitJob"}, {"TrackJob", "JobSubmitFailed"}),
        "JobTracker": ({"TrackJob"}, {"JobProcessSuccess", "JobProcessFailed"}),
        "ErrorHandler": (
            {"JobCreateFailed", "JobSubmitFailed", "JobProcessFailed"},
            {"CreateJob", "ReSubmitJob", "JobFailed"},
        ),
        "DBS": ({"JobProcessSuccess"}, set()),
        "Phedex": ({"JobProcessSuccess"}, set()),
        "JobCleanup": ({"CleanJob", "JobFailed"}, {"JobSuccess"}),
    }


def test_the_clean_up_waits_for_both_catalogs() -> None:
    synchronizer = FLOW.synchronizer("JobPostProcess")
    assert synchronizer is not None
    assert synchronizer.message == "CleanJob"
    assert FLOW.flags("JobPostProcess") == ("DBS", "Phedex")
    for message in ("SubmitJob", "ReSubmitJob"):
        handler = FLOW.handler("JobSubmitter", message)
        assert handler is not None
        assert handler.creates == ("JobPostProcess",)
        assert handler.threading


def test_a_component_that_agrees() -> None:
    for name in FLOW.components():
        assert mismatch(FLOW, name, FLOW.consumes(name), FLOW.publishes(name)) == []


def test_a_component_that_differs() -> None:
    line = next(
        number
        for number, text in enumerate(SPEC.read_text().splitlines(), 1)
        if "'messageIn': 'TrackJob'" in text
    )
    assert mismatch(FLOW, "JobTracker", ["TrakJob"], ["JobProcessSuccess", "Extra"]) == [
        f"JobTracker can handle 'TrakJob', but not in the flow {SPEC}; did you mean 'TrackJob'?",
        f"JobTracker does not handle 'TrackJob', as the flow says at {SPEC}:{line}:25",
        f"JobTracker can publish 'Extra', but not in the flow {SPEC}",
        f"JobTracker does not publish 'JobProcessFailed', as the flow says at {SPEC}:{line + 1}:26",
    ]
    assert mismatch(FLOW, "JobTraker", [], []) == [
        f"{SPEC}: the flow has no component 'JobTraker'; did you mean 'JobTracker'?"
    ]


def test_the_graph() -> None:
    drawn = graph(FLOW)
    assert {"id": "JobSubmitter", "kind": "component", "threading": True} in drawn["nodes"]
    assert {"id": "DBS", "kind": "component", "threading": False} in drawn["nodes"]
    assert {"id": "wm", "kind": "source", "threading": False} in drawn["nodes"]
    assert {"id": "JobPostProcess", "kind": "barrier", "threading": False} in drawn["nodes"]
    assert len(drawn["nodes"]) == 9
    arrows = {
        (edge["from"], edge["type"], edge["to"]): (
            edge["choice"],
            edge["synchronizer"],
            edge["role"],
        )
        for edge in drawn["edges"]
    }
    assert len(arrows) == len(drawn["edges"])
    assert arrows["wm", "NewWorkflow", "JobCreator"] == ("", "", "message")
    assert arrows["JobTracker", "JobProcessSuccess", "DBS"] == ("one of", "", "message")
    assert arrows["JobTracker", "JobProcessSuccess", "Phedex"] == ("one of", "", "message")
    assert arrows["JobSubmitter", "", "JobPostProcess"] == ("", "JobPostProcess", "creates")
    assert arrows["DBS", "", "JobPostProcess"] == ("", "JobPostProcess", "completes")
    assert arrows["JobPostProcess", "CleanJob", "JobCleanup"] == ("", "JobPostProcess", "action")


@unhurried
@given(flows)
def test_the_arrows_of_any_flow_join_its_boxes(flow: Flow) -> None:
    drawn = graph(flow)
    boxes = [node["id"] for node in drawn["nodes"]]
    assert len(set(boxes)) == len(boxes)
    for edge in drawn["edges"]:
        assert {edge["from"], edge["to"]} <= set(boxes)
    keys = [(e["type"], e["from"], e["to"], e["role"], e["synchronizer"]) for e in drawn["edges"]]
    assert len(set(keys)) == len(keys)
    for component in flow.components():
        assert mismatch(flow, component, flow.consumes(component), flow.publishes(component)) == []
