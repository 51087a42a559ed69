"""A flow as a graph of plain data, to be drawn: boxes are components, arrows are messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from attrs import evolve, frozen

from wmtwisted.flow.expression import Choice, Expression, choices
from wmtwisted.flow.model import Flow

Kind = Literal["component", "source", "sink", "barrier"]
#: A `message` arrow; the arrow of a component that `creates` a barrier or `completes` one by its
#: flag; the `action` message of a barrier that opens.
Role = Literal["message", "creates", "completes", "action"]


@frozen
class _Edge:
    type: str
    source: str
    target: str
    role: Role
    synchronizer: str = ""
    choice: Choice = ""


def graph(flow: Flow) -> dict[str, Any]:
    """The flow as `{"nodes": [...], "edges": [...]}`, of strings and booleans only.

    A node is `{"id", "kind", "threading"}`: kind is component, source, sink or barrier, and a
    component is threading when one of its handlers is. An edge is `{"type", "from", "to", "choice",
    "synchronizer", "role"}`: type is the message's, or "" for a flag; choice is `one of`, `all of`
    or ""; synchronizer is the barrier's name on every edge that begins or ends at one, else "".
    Several handlers of one component that publish the same type share an edge, without a choice
    when they differ in it. A message that nobody handles has no edge.
    """
    ids = _ids(flow)
    threading = {handler.component for handler in flow.handlers if handler.threading}
    nodes = [
        {"id": node, "kind": kind, "threading": kind == "component" and name in threading}
        for (kind, name), node in ids.items()
    ]
    edges: dict[_Edge, Choice] = {}
    for edge in _edges(flow, ids):
        key = evolve(edge, choice="")
        edges[key] = edge.choice if edges.get(key, edge.choice) == edge.choice else ""
    return {
        "nodes": nodes,
        "edges": [
            {
                "type": edge.type,
                "from": edge.source,
                "to": edge.target,
                "choice": choice,
                "synchronizer": edge.synchronizer,
                "role": edge.role,
            }
            for edge, choice in edges.items()
        ],
    }


def _ids(flow: Flow) -> dict[tuple[Kind, str], str]:
    """The id of every node: its name, or its name and kind when another kind has it already."""
    keys: dict[tuple[Kind, str], None] = {}
    for source in flow.sources:
        keys["source", source.name] = None
    for component in flow.components():
        keys["component", component] = None
    for synchronizer in flow.synchronizers:
        keys["barrier", synchronizer.name] = None
    for sink in flow.sinks:
        keys["sink", sink.name] = None
    components = set(flow.components())
    taken: set[str] = set()
    ids: dict[tuple[Kind, str], str] = {}
    for kind, name in keys:
        shared = name in taken or (kind != "component" and name in components)
        ids[kind, name] = f"{name} ({kind})" if shared else name
        taken.add(name)
    return ids


def _edges(flow: Flow, ids: dict[tuple[Kind, str], str]) -> Iterator[_Edge]:
    receivers: dict[str, list[str]] = {}
    for handler in flow.handlers:
        receivers.setdefault(handler.message_in, []).append(ids["component", handler.component])
    for sink in flow.sinks:
        for name in sink.messages_in:
            receivers.setdefault(name, []).append(ids["sink", sink.name])

    def messages(start: str, published: Expression) -> Iterator[_Edge]:
        for name, choice in choices(published).items():
            for end in receivers.get(name, ()):
                yield _Edge(name, start, end, "message", choice=choice)

    for source in flow.sources:
        yield from messages(ids["source", source.name], source.message_out)
    for handler in flow.handlers:
        start = ids["component", handler.component]
        yield from messages(start, handler.message_out)
        used: tuple[tuple[Role, tuple[str, ...]], ...] = (
            ("creates", handler.creates),
            ("completes", handler.completes),
        )
        for role, synchronizers in used:
            for name in synchronizers:
                if ("barrier", name) in ids:
                    yield _Edge("", start, ids["barrier", name], role, name)
    for synchronizer in flow.synchronizers:
        for end in receivers.get(synchronizer.message, ()):
            start = ids["barrier", synchronizer.name]
            yield _Edge(synchronizer.message, start, end, "action", synchronizer.name)
