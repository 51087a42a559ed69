"""A module that cannot be imported, since a handler's outputs cannot be read."""

from __future__ import annotations

from wmtwisted.component.component import Component, handles
from wmtwisted.message import Delivery


class Broken(Component):
    """Publishes something unreadable."""

    @handles("Something", publishes="A|")
    def something(self, message: Delivery) -> None:
        """Nothing."""
