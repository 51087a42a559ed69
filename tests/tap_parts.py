"""Components that are wrong in one way each, for the tests of what `twistd wmcomponent` refuses."""

from __future__ import annotations

from wmtwisted.component.component import Component, Context, handles
from wmtwisted.errors import ConfigError
from wmtwisted.message import Delivery


class Good(Component):
    """Does what the flow says."""

    @handles("Something")
    def something(self, message: Delivery) -> None:
        """Nothing."""


class Other(Component):
    """Handles something else."""

    @handles("Somethin")
    def something(self, message: Delivery) -> None:
        """Nothing."""


class Twice(Good):
    """Handles it twice."""

    @handles("Something")
    def again(self, message: Delivery) -> None:
        """Nothing."""


class Demanding(Good):
    """Refuses its options."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.option("size", 5)


class Unhappy(Good):
    """Refuses to be made, in a way of its own."""

    def __init__(self, context: Context) -> None:
        raise KeyError("no such thing")


class Failing(Good):
    """Cannot start."""

    def start(self) -> None:
        """Raises."""
        raise ConfigError("the disk is not there", "mount it")


class Crashing(Good):
    """Cannot start either."""

    def start(self) -> None:
        """Raises."""
        raise OSError(28, "No space left on device")


not_a_class = 5


class NotAComponent:
    """Has nothing to do with it."""
