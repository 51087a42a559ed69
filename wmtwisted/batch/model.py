"""The words of a batch system: what became of a submission, and the verbs each system offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from attrs import field, frozen

from wmtwisted.errors import BatchError


class BatchState(StrEnum):
    """Where a submission stands. DONE and LOST are final; all others may change."""

    #: Accepted; its command has not been started.
    PENDING = "pending"
    #: Something of it is alive.
    RUNNING = "running"
    #: Its result is there.
    DONE = "done"
    #: It was accepted, nothing of it is alive any more, and it left no result: start it anew.
    LOST = "lost"
    #: The batch system never accepted it.
    UNKNOWN = "unknown"


class Ending(StrEnum):
    """How a command came to its end."""

    EXITED = "exited"
    SIGNALLED = "signalled"
    TIME_LIMIT = "time-limit"
    OUTPUT_LIMIT = "output-limit"
    CANCELLED = "cancelled"
    NOT_STARTED = "not-started"


@frozen
class Result:
    """What one run of a command came to."""

    token: str
    ending: Ending = field(converter=Ending)
    #: The command's own when it exited; 128 + signal when a signal ended it; 124 at the time limit,
    #: 153 at the output limit, 143 when cancelled; 126 or 127 when it could not be started.
    exit_code: int
    #: The signal that ended the command, if one did.
    signal: int | None
    #: One line for people: why it ended; "" when it exited with 0.
    reason: str
    #: Seconds since the epoch.
    started: float
    ended: float
    #: CPU seconds of the command and of the children it waited for.
    cpu: float
    #: The largest resident size of any one of its processes, in bytes.
    memory: int

    @property
    def ok(self) -> bool:
        """Whether the command did its work: it exited by itself, with 0."""
        return self.ending is Ending.EXITED and self.exit_code == 0


@frozen
class Status:
    """What is known of a submission now."""

    state: BatchState
    #: Given when, and only when, the state is DONE.
    result: Result | None = None


class Full(BatchError):
    """No slot is free now; the same submission may be tried again later."""

    code = "batch-full"


class Busy(BatchError):
    """Another run of this job is not quite dead; the same submission may be tried again later."""

    code = "batch-busy"


class Batch(Protocol):
    """A batch system. A job is named by its folder and a token, which is new for each attempt.

    Every call is blocking, may be repeated, and may come from any process.
    """

    def submit(
        self,
        token: str,
        argv: Sequence[str],
        cwd: Path,
        *,
        env: Mapping[str, str] | None = None,
        time_limit: float | None = None,
    ) -> bool:
        """Start `argv` in `cwd`; False when this token was accepted before, and is left alone.

        `env` is the command's whole environment (None: this process's); `time_limit` is in
        seconds. Raises Full or Busy when it cannot be accepted now, BatchError when it never can.
        """

    def submitted(self, cwd: Path, token: str) -> bool:
        """Whether this token was accepted: after a crash, a submitter finds its own work by it."""

    def status(self, cwd: Path, token: str) -> Status:
        """Where this token stands now."""

    def cancel(self, cwd: Path, token: str) -> None:
        """End it, or keep it from starting; ends DONE with `cancelled`, or LOST."""

    def log(self, cwd: Path, token: str, stream: str) -> Path:
        """Where the command's `stdout` or `stderr` is kept; the file may not be there yet."""
