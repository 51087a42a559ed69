"""Barriers of flags whose action is a message, published exactly once. Pure."""

from __future__ import annotations

from typing import Literal

from attrs import define, field

from wmtwisted.message import Message, Trigger

#: `new` is not stored; `early` has flags but no declaration yet.
State = Literal["new", "early", "pending", "fired"]


@define
class Barrier:
    """The state of one `(trigger, id)`."""

    state: State = "new"
    #: By flag, who set it and when; None while it is waited for.
    flags: dict[str, tuple[str, float] | None] = field(factory=dict)
    action: Message | None = None
    #: The correlation of the message that declared it, which the action inherits.
    chain: str = ""
    declared: float | None = None
    fired: float | None = None

    def declare(self, trigger: Trigger, chain: str, now: float) -> bool:
        """Waits for the trigger's flags; those set early count. True when that fires it.

        Declaring again while it is pending adds flags and replaces the action, and after it fired
        changes nothing, so that a handler may run twice. An action's own correlation goes before
        `chain`.
        """
        if self.state == "fired":
            return False
        for flag in trigger.flags:
            self.flags.setdefault(flag, None)
        self.action = trigger.action
        self.chain = trigger.action.correlation or self.chain or chain
        if self.state != "pending":
            self.state, self.declared = "pending", now
        return self._check(now)

    def set(self, flag: str, source: str, now: float) -> bool:
        """Sets `flag`; True when that fires it. Setting it again changes nothing."""
        if self.state == "fired":
            return False
        if self.state == "new":
            self.state = "early"
        if self.flags.get(flag) is None:
            self.flags[flag] = (source, now)
        return self._check(now)

    def _check(self, now: float) -> bool:
        if self.state != "pending" or not all(self.flags.values()):
            return False
        self.state, self.fired = "fired", now
        return True
