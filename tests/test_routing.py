"""Who gets a message type, against interests written down in the plainest way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wmtwisted.broker.routing import NORMAL, PRIORITY, Router

COMPONENTS = ("One", "Two", "Three")
TYPES = ("A", "B", "One:A", "Two:A", "One:One:A", ":A", "One:", "")

interests = st.dictionaries(st.sampled_from(TYPES), st.sampled_from([NORMAL, PRIORITY]))


@given(st.lists(st.tuples(st.sampled_from(COMPONENTS), interests), max_size=6))
def test_the_last_word_of_each_component_counts(
    said: list[tuple[str, dict[str, int]]],
) -> None:
    router = Router()
    model: dict[str, dict[str, int]] = {}
    for component, wanted in said:
        router.express(component, wanted.items())
        model[component] = wanted
        for name in COMPONENTS:
            assert router.interests(name) == model.get(name, {})
        for type in TYPES:
            for priority in (0, 1, 0):
                expected = []
                for name, lanes in sorted(model.items()):
                    own = type.partition(":")[2] if type.startswith(f"{name}:") else type
                    lane = lanes.get(type, lanes.get(own))
                    if lane is not None:
                        expected.append((name, PRIORITY if priority else lane))
                assert list(router.route(type, priority)) == expected


def test_types_from_outside_do_not_fill_the_memory() -> None:
    router = Router()
    router.express("One", [("A", NORMAL)])
    for number in range(25_000):
        assert router.route(f"type {number}", 0) == ()
    assert len(router._routes) <= 10_000
    assert router.route("A", 0) == (("One", NORMAL),)
