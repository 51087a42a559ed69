"""What is wrong in a flow that can be read: messages nobody handles, barriers that never open."""

from __future__ import annotations

import keyword
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from wmtwisted.flow.model import Flow
from wmtwisted.flow.names import nearest, quoted
from wmtwisted.flow.place import Place, Problem, did_you_mean
from wmtwisted.flow.reach import reachable

#: Looking for near misses is slow in a file with thousands of dangling names; so many are served.
_MOST_SUGGESTIONS = 20


def problems(flow: Flow) -> list[Problem]:
    """Every problem of the flow, in the order of the file; none for a sound flow."""
    found = [
        *_dangling(flow),
        *_misaddressed(flow),
        *_synchronizers(flow),
        *_duplicates(flow),
        *_plugins(flow),
        *_unreachable(flow),
        *_names(flow),
    ]
    return sorted(found, key=lambda problem: (problem.place, problem.code, problem.message))


def _error(code: str, place: Place, message: str, suggestion: str = "") -> Problem:
    return Problem(code, "error", place, message, suggestion)


def _warning(code: str, place: Place, message: str, suggestion: str = "") -> Problem:
    return Problem(code, "warning", place, message, suggestion)


def _dangling(flow: Flow) -> Iterator[Problem]:
    published = _by_name(flow.published())
    received = _by_name(flow.received())
    unhandled = [name for name in published if name not in received]
    unpublished = [name for name in received if name not in published]
    explained: set[str] = set()
    for number, name in enumerate(unhandled):
        who, place = published[name]
        near = ""
        if number < _MOST_SUGGESTIONS:
            # What is handled and never published is the likelier half of a misspelt pair.
            near = nearest(name, unpublished) or nearest(name, received)
        message = f"{name!r} is published by {who} and handled by nobody"
        if near:
            explained.add(near)
            message += f", but {near!r} is handled by {received[near][0]}"
            yield _error("near-miss", place, message, did_you_mean(near))
        else:
            suggestion = "add a handler for it, or a sink if it is handled outside"
            yield _error("unhandled-message", place, message, suggestion)
    for number, name in enumerate(unpublished):
        if name in explained:
            continue
        who, place = received[name]
        near = nearest(name, published) if number < _MOST_SUGGESTIONS else ""
        message = f"{name!r} is handled by {who} and published by nobody"
        if near:
            message += f", but {near!r} is published by {published[near][0]}"
            yield _error("near-miss", place, message, did_you_mean(near))
        else:
            suggestion = "add it to a messageOut, or a source if it comes from outside"
            yield _warning("unpublished-message", place, message, suggestion)


def _by_name(ends: Iterable[tuple[str, str, Place]]) -> dict[str, tuple[str, Place]]:
    """The first end of every message type."""
    found: dict[str, tuple[str, Place]] = {}
    for name, who, place in ends:
        found.setdefault(name, (who, place))
    return found


def _misaddressed(flow: Flow) -> Iterator[Problem]:
    components = set(flow.components())
    for handler in flow.handlers:
        address = handler.message_in.partition(":")[0]
        if ":" in handler.message_in and address in components - {handler.component}:
            yield _error(
                "wrong-address",
                handler.place("messageIn"),
                f"{handler.message_in!r} is addressed to {address} and handled by "
                f"{handler.component}",
                f"handle it in {address}, or name it otherwise",
            )


def _synchronizers(flow: Flow) -> Iterator[Problem]:
    known = {each.name: each for each in flow.synchronizers}
    creators: dict[str, list[str]] = defaultdict(list)
    completed: set[str] = set()
    for handler in flow.handlers:
        for key, used in (
            ("createSynchronizer", handler.creates),
            ("synchronize", handler.completes),
        ):
            for name in used:
                if name not in known:
                    yield _error(
                        "unknown-synchronizer",
                        handler.place(key),
                        f"{handler.component} names the synchronizer {name!r}, which is not there",
                        did_you_mean(nearest(name, known)) or "add a synchronizer with that ID",
                    )
        completed.update(handler.completes)
        for name in handler.creates:
            creators[name].append(handler.component)
            others = [each for each in creators[name] if each != handler.component]
            if others:
                yield _warning(
                    "synchronizer-created-twice",
                    handler.place("createSynchronizer"),
                    f"the synchronizer {name!r} is created by {others[0]} and by "
                    f"{handler.component}, expected one component",
                )
    for name, each in known.items():
        place = each.place("ID")
        if name not in creators and name not in completed:
            yield _warning(
                "unused-synchronizer", place, f"the synchronizer {name!r} is used by no handler"
            )
        elif name not in completed:
            yield _error(
                "never-completed",
                place,
                f"the synchronizer {name!r} is created by {creators[name][0]} and completed by "
                "nobody, so that it never opens",
                "add synchronize to the handlers it waits for",
            )
        elif name not in creators:
            yield _error(
                "never-created",
                place,
                f"the synchronizer {name!r} is completed by {flow.flags(name)[0]} and created by "
                "nobody, so that it never opens",
                "add createSynchronizer to the handler that starts the parallel states",
            )
        if not each.message:
            yield _warning(
                "class-action",
                each.place("action"),
                f"the synchronizer {name!r} names a class, {each.action!r}, expected a message",
                "name the message to publish when it opens",
            )


def _duplicates(flow: Flow) -> Iterator[Problem]:
    handled: dict[tuple[str, str, str], Place] = {}
    for handler in flow.handlers:
        for job_type in handler.job_types or ("",):
            key = (handler.component, handler.message_in, job_type)
            if key in handled:
                kind = f" for {job_type} jobs" if job_type else ""
                yield _error(
                    "duplicate-handler",
                    handler.place("messageIn"),
                    f"{handler.component} handles {handler.message_in!r}{kind} a second time, "
                    f"first in line {handled[key].line}",
                    "make them one handler",
                )
            handled.setdefault(key, handler.place())
    named: dict[str, Place] = {}
    for each in flow.synchronizers:
        if each.name in named:
            yield _error(
                "duplicate-synchronizer",
                each.place("ID"),
                f"the synchronizer {each.name!r} is there a second time, first in line "
                f"{named[each.name].line}",
            )
        named.setdefault(each.name, each.place())


def _plugins(flow: Flow) -> Iterator[Problem]:
    handlers: dict[str, set[str]] = defaultdict(set)
    for handler in flow.handlers:
        handlers[handler.component].add(handler.message_in)
    for plugin in flow.plugins:
        if plugin.component not in handlers:
            yield _error(
                "unknown-component",
                plugin.place("component"),
                f"a plugin names the component {plugin.component!r}, which has no handler",
                did_you_mean(nearest(plugin.component, handlers)),
            )
        elif plugin.handler not in handlers[plugin.component]:
            yield _error(
                "unknown-handler",
                plugin.place("handler"),
                f"a plugin names the handler {plugin.handler!r}, which {plugin.component} does "
                "not have",
                did_you_mean(nearest(plugin.handler, handlers[plugin.component])),
            )


def _unreachable(flow: Flow) -> Iterator[Problem]:
    if not flow.sources:
        # A part of a flow, as on a slide: everything comes from elsewhere.
        return
    reached = reachable(flow)
    seen: set[str] = set()
    for handler in flow.handlers:
        if handler.component not in reached and handler.component not in seen:
            seen.add(handler.component)
            yield _warning(
                "unreachable-component",
                handler.place("component"),
                f"no message from a source ever leads to {handler.component}",
            )


def _names(flow: Flow) -> Iterator[Problem]:
    nodes = [(handler.component, handler.place("component")) for handler in flow.handlers]
    nodes += [(each.name, each.place("ID")) for each in flow.synchronizers]
    nodes += [(each.name, each.place("ID")) for each in flow.sources]
    nodes += [(each.name, each.place("ID")) for each in flow.sinks]
    messages = [(name, place) for name, _, place in (*flow.published(), *flow.received())]
    yield from _clashes("name", nodes)
    yield from _clashes("message", messages)
    for name, place in dict([*reversed(nodes), *reversed(messages)]).items():
        for part in re.split("[:/]", name):
            if keyword.iskeyword(part):
                yield _error(
                    "keyword",
                    place,
                    f"{quoted(part)} is a word of Python, expected a name that code can use",
                )


def _clashes(kind: str, named: Iterable[tuple[str, Place]]) -> Iterator[Problem]:
    """Names that are one and the same as the name of a file, and yet two."""
    first: dict[str, str] = {}
    reported: set[str] = set()
    for name, place in named:
        other = first.setdefault(re.sub("[:/]", "_", name).casefold(), name)
        if other != name and name not in reported:
            reported.add(name)
            yield _error(
                "name-clash",
                place,
                f"the {kind} {name!r} differs from {other!r} only in case or in its signs",
                "spell them alike, or apart",
            )
