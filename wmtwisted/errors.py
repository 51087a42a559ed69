"""The errors of wmtwisted: each has a stable code and a message that says what to do."""

from __future__ import annotations

from typing import ClassVar


class WMError(Exception):
    """Any refusal or failure that wmtwisted explains itself.

    `str(error)` is one line: what was wrong, with which value, and what was expected. `hint`, when
    not empty, is a second line: what to do. `code` is stable and goes over the wire.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(WMError):
    """The configuration cannot be used."""

    code = "config"


class SpecError(WMError):
    """A flow or workflow file cannot be used; the message starts with `file:line:column:`."""

    code = "spec"


class InputError(WMError):
    """An input data file cannot be used; the message starts with `file:line:`."""

    code = "input"


class StoreError(WMError):
    """The database cannot be used, or lost what it was asked to keep."""

    code = "store"


class Conflict(WMError):
    """A guarded change found another state than the caller expected."""

    code = "conflict"


class NotFound(WMError):
    """There is no such thing under that name or id."""

    code = "not-found"


class BatchError(WMError):
    """A job cannot be handed to the batch system."""

    code = "batch"


class Refused(WMError):
    """The broker will not do what was asked; the connection stays and nothing was stored.

    `code` says why: `id-conflict`, `too-large`, `bad-name`, `bad-message`, `not-attached`.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.code = code  # type: ignore[misc]  # here each refusal has its own


class Unknown(WMError):
    """The broker did not answer: what was asked may have been done. Sending it again is safe."""

    code = "unknown"


class Unreachable(WMError):
    """There is no broker at the address, or it does not speak our protocol."""

    code = "unreachable"
