"""Which components a message type goes to. Pure."""

from __future__ import annotations

from collections.abc import Iterable

#: The lanes of a queue. Priority is both the message's and the interest's: either will do.
NORMAL, PRIORITY = 0, 1


class Router:
    """Interests by type. A component that is interested twice still gets one copy."""

    def __init__(self) -> None:
        self._interests: dict[str, dict[str, int]] = {}
        self._routes: dict[tuple[str, int], tuple[tuple[str, int], ...]] = {}

    def express(self, component: str, interests: Iterable[tuple[str, int]]) -> None:
        """Replaces the interests of `component` by (type, lane) pairs."""
        for lanes in self._interests.values():
            lanes.pop(component, None)
        for type, lane in interests:
            self._interests.setdefault(type, {})[component] = lane
        self._routes.clear()

    def interests(self, component: str) -> dict[str, int]:
        """The types `component` is interested in, with their lanes."""
        return {
            type: lanes[component] for type, lanes in self._interests.items() if component in lanes
        }

    def route(self, type: str, priority: int) -> tuple[tuple[str, int], ...]:
        """The (component, lane) pairs that get a message, in the order of their names.

        `Component:Type` goes to those that are interested in it literally, and to that component
        when it is interested in `Type`.
        """
        routes = self._routes.get((type, priority))
        if routes is None:
            lanes = dict(self._interests.get(type, {}))
            component, colon, rest = type.partition(":")
            if colon and component in self._interests.get(rest, {}):
                lanes.setdefault(component, self._interests[rest][component])
            routes = tuple(
                (name, PRIORITY if priority > 0 else lane) for name, lane in sorted(lanes.items())
            )
            if len(self._routes) >= 10_000:  # types may come from outside
                self._routes.clear()
            self._routes[type, priority] = routes
        return routes
