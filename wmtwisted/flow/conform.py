"""Whether a component does what the flow says of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from wmtwisted.flow.model import Flow
from wmtwisted.flow.names import nearest, quoted


def mismatch(
    flow: Flow, component: str, consumes: Iterable[str], publishes: Iterable[str]
) -> list[str]:
    """How a component's messages differ from the flow's, one line each; none when they agree.

    `consumes` are the message types it has handlers for, `publishes` those that they may publish.
    """
    if component not in flow.components():
        near = nearest(component, flow.components())
        end = f"; did you mean {near!r}?" if near else ""
        return [f"{flow.file}: the flow has no component {quoted(component)}{end}"]
    return [
        *_differences(flow, component, "handle", set(consumes)),
        *_differences(flow, component, "publish", set(publishes)),
    ]


def _differences(
    flow: Flow, component: str, verb: Literal["handle", "publish"], has: set[str]
) -> Iterator[str]:
    says = flow.consumes(component) if verb == "handle" else flow.publishes(component)
    ends = flow.received() if verb == "handle" else flow.published()
    places = {name: place for name, who, place in ends if who == component and name in says}
    only_flow = sorted(set(places) - has)
    for name in sorted(has - set(places)):
        near = nearest(name, only_flow)
        end = f"; did you mean {near!r}?" if near else ""
        yield f"{component} can {verb} {quoted(name)}, but not in the flow {flow.file}{end}"
    for name in only_flow:
        yield f"{component} does not {verb} {name!r}, as the flow says at {places[name]}"
