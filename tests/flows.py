"""Random flows, and texts of flows, for the tests."""

from __future__ import annotations

from typing import Any

from attrs import fields
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from wmtwisted.flow.expression import Expression, Name, all_of, one_of
from wmtwisted.flow.model import Flow, Handler, Plugin, Sink, Source, Synchronizer

#: A property's examples on a busy machine: no time limit on one of them.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

#: Few letters, so that names meet; signs and keywords are among them.
names = st.from_regex(r"[A-Ca-c][A-C0-1_]{0,3}", fullmatch=True) | st.sampled_from(["class", "if"])
messages = st.lists(names, min_size=1, max_size=3).flatmap(
    lambda parts: st.sampled_from([":".join(parts), "/".join(parts)])
)
name_lists = st.lists(names, max_size=3, unique=True).map(tuple)
times = st.none() | st.integers(0, 10**12).map(lambda micro: micro / 1_000_000)

expressions: st.SearchStrategy[Expression] = st.recursive(
    messages.map(Name),
    lambda inner: (
        st.lists(inner, max_size=3).map(all_of)
        | st.lists(inner, min_size=1, max_size=3).map(one_of)
    ),
    max_leaves=6,
)


def _some(kind: type, **values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Lists of one kind of item; every attribute but the places has its strategy."""
    assert {each.name for each in fields(kind)} == {*values, "places"}
    return st.lists(st.builds(kind, **values), max_size=4).map(tuple)


flows: st.SearchStrategy[Flow] = st.builds(
    Flow,
    handlers=_some(
        Handler,
        component=names,
        message_in=messages,
        message_out=expressions,
        threading=st.booleans(),
        configurable=st.booleans(),
        creates=name_lists,
        completes=name_lists,
        job_types=name_lists,
        delay=times,
        retry=st.none() | st.integers(0, 999_999),
        timeout=times,
    ),
    synchronizers=_some(
        Synchronizer,
        name=names,
        action=messages | st.lists(names, min_size=2, max_size=3).map(".".join),
        timeout=times,
    ),
    plugins=_some(Plugin, component=names, handler=messages, plugins=name_lists.filter(bool)),
    sources=_some(Source, name=names, message_out=expressions.filter(lambda each: bool(str(each)))),
    sinks=_some(
        Sink,
        name=names,
        messages_in=st.lists(messages, min_size=1, max_size=3, unique=True).map(tuple),
    ),
)
