"""Where something stands in a flow file, and what is wrong there."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from wmtwisted.errors import SpecError

#: An `error` is a flow that cannot work as written; a `warning` one that hardly means what it says.
Severity = Literal["error", "warning"]


@frozen(order=True)
class Place:
    """A position in a file, as editors count it."""

    #: The file's path as it was given, or another name for the text.
    file: str = "<flow>"
    #: From 1.
    line: int = 1
    #: In characters, from 1.
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@frozen
class Problem:
    """One thing that is wrong in a flow."""

    #: Stable and short, e.g. `unhandled-message`.
    code: str
    severity: Severity
    place: Place
    #: What was found and what was expected, on one line.
    message: str
    #: What was probably meant or could be done, or "".
    suggestion: str = ""

    def __str__(self) -> str:
        end = f"; {self.suggestion}" if self.suggestion else ""
        return f"{self.place}: {self.message}{end}"


class FlowError(SpecError):
    """A flow file cannot be read.

    The message is the first problem's line; `problems` has them all, in the order of the file, and
    the hint names the next ones.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        first, *others = problems
        shown = "; ".join(map(str, others[:5])) + ("; ..." if others[5:] else "")
        super().__init__(str(first), f"{len(others)} more: {shown}" if others else "")
        self.problems = problems


def did_you_mean(name: str) -> str:
    """The suggestion of a nearest name; "" when there is none."""
    return f"did you mean {name!r}?" if name else ""
