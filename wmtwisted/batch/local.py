"""Jobs as processes of this machine: detached, in numbered slots, found again after any crash."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from wmtwisted.batch import runner
from wmtwisted.batch.model import BatchState, Busy, Full, Result, Status
from wmtwisted.errors import BatchError

_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
#: A wrapper that has not claimed its job within this time (s) is in trouble.
_START = 60.0


class Local:
    """The batch system of this machine.

    A job belongs to its wrapper (`batch.runner`), not to whoever submitted it: it goes on when all
    others die. At most `slots` wrappers live at once, counted by the locks they hold on files in
    `root`, so the bound holds over any number of submitters with the same `root`. What belongs to
    an attempt is in `<cwd>/batch/<token>/`.

    No two commands of one folder ever live at once: the folder's lock is handed from the submitter
    to the wrapper to the command and its children, and is free only when all are gone.
    """

    def __init__(
        self, root: Path, slots: int, *, grace: float = 5.0, output_limit: int = 100_000_000
    ) -> None:
        """`grace`: seconds between TERM and KILL.

        `output_limit`: bytes of stdout or of stderr beyond which a command is stopped; it is looked
        at once a second, and what is kept is cut to it.
        """
        if slots < 1:
            raise BatchError(f"{slots} batch slots: expected at least 1")
        self._root = root
        self._slots = slots
        self._grace = grace
        self._output_limit = output_limit

    def submit(
        self,
        token: str,
        argv: Sequence[str],
        cwd: Path,
        *,
        env: Mapping[str, str] | None = None,
        time_limit: float | None = None,
    ) -> bool:
        """See `Batch.submit`. When it returns True, the wrapper has claimed the job."""
        cwd = cwd.absolute()
        if not argv or any("\0" in arg for arg in argv):
            raise BatchError(f"command {list(argv)!r}: expected one or more strings without NUL")
        if time_limit is not None and time_limit <= 0:
            raise BatchError(f"time limit {time_limit}: expected seconds above 0")
        folder = _folder(cwd, token)
        try:
            folder.parent.mkdir(exist_ok=True)
            folder.mkdir(exist_ok=True)
            lock_fd = os.open(cwd / "batch" / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise BatchError(f"the job's folder {cwd} cannot be used: {error.strerror}") from error
        try:
            if not runner.lock(lock_fd):
                return self._refuse(cwd, token)
            if (folder / "claim").exists():
                return False
            os.ftruncate(lock_fd, 0)
            os.pwrite(lock_fd, token.encode(), 0)
            spec = {
                "cwd": str(cwd),
                "token": token,
                "argv": list(argv),
                "time_limit": time_limit,
                "grace": self._grace,
                "output_limit": self._output_limit,
            }
            return self._start(spec, lock_fd, folder, env)
        finally:
            os.close(lock_fd)

    def submitted(self, cwd: Path, token: str) -> bool:
        """See `Batch.submitted`."""
        return self.status(cwd, token).state is not BatchState.UNKNOWN

    def status(self, cwd: Path, token: str) -> Status:
        """See `Batch.status`. A command whose wrapper was killed is killed here, and then LOST."""
        cwd = cwd.absolute()
        folder = _folder(cwd, token)
        status = _look(cwd, folder, token)
        if status.state in (BatchState.LOST, BatchState.UNKNOWN):
            # Between two of the looks it may have begun, or ended with a result: once more.
            status = _look(cwd, folder, token)
        return status

    def cancel(self, cwd: Path, token: str) -> None:
        """See `Batch.cancel`. A token that was never submitted will not run when it is."""
        cwd = cwd.absolute()
        folder = _folder(cwd, token)
        if not cwd.is_dir():
            return
        folder.mkdir(parents=True, exist_ok=True)
        # For a wrapper that has not yet begun; one that has is signalled.
        (folder / "cancel").touch()
        try:
            pid = json.loads((folder / "claim").read_bytes())["pid"]
            pidfd = os.pidfd_open(pid)
        except (FileNotFoundError, ProcessLookupError):
            return
        try:
            # A held claim proves that the number is still the wrapper's, as the pidfd was opened
            # before this look.
            if runner.locked(str(folder / "claim")):
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)

    def log(self, cwd: Path, token: str, stream: str) -> Path:
        """See `Batch.log`."""
        if stream not in ("stdout", "stderr"):
            raise BatchError(f"log stream {stream!r}: expected stdout or stderr")
        return _folder(cwd.absolute(), token) / stream

    def free(self) -> int:
        """How many slots are free now."""
        return sum(not runner.locked(str(slot)) for slot in self._slot_files())

    def _refuse(self, cwd: Path, token: str) -> bool:
        """Another holds the folder: False when it is this very token, else Busy."""
        holder = (cwd / "batch" / "lock").read_text()
        if holder == token:
            return False
        if holder and self.status(cwd, holder).state is BatchState.DONE:
            runner.sweep(str(_folder(cwd, holder)))
        raise Busy(
            f"another run ({holder or 'starting'}) of the job in {cwd} is still alive",
            "wait for its end, or cancel it",
        )

    def _start(
        self,
        spec: Mapping[str, object],
        lock_fd: int,
        folder: Path,
        env: Mapping[str, str] | None,
    ) -> bool:
        slot_fd = self._take_slot()
        fds = {"slot_fd": slot_fd, "lock_fd": lock_fd}
        try:
            with open(folder / "stdout", "ab") as out, open(folder / "stderr", "ab") as err:
                done = subprocess.run(
                    [sys.executable, "-I", "-S", runner.__file__, json.dumps({**spec, **fds})],
                    cwd=folder.parent.parent,
                    env=None if env is None else dict(env),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    pass_fds=tuple(fds.values()),
                    start_new_session=True,
                    timeout=_START,
                    check=False,
                )
        except subprocess.TimeoutExpired:
            raise BatchError(f"the wrapper did not start within {_START:g} s") from None
        except (OSError, ValueError) as error:
            raise BatchError(f"the wrapper cannot be started: {error}") from error
        finally:
            os.close(slot_fd)
        if done.returncode not in (runner.CLAIMED, runner.TAKEN):
            raise BatchError(
                f"the wrapper ended with {done.returncode} before it began",
                f"see {folder / 'stderr'}",
            )
        return done.returncode == runner.CLAIMED

    def _take_slot(self) -> int:
        """The locked descriptor of a free slot; raises Full when there is none."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            for path in self._slot_files():
                fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
                if runner.lock(fd):
                    return fd
                os.close(fd)
        except OSError as error:
            raise BatchError(f"the slots in {self._root} cannot be used: {error}") from error
        raise Full(f"all {self._slots} batch slots are taken", "try again when a job has ended")

    def _slot_files(self) -> list[Path]:
        return [self._root / f"slot.{number}" for number in range(self._slots)]


def _folder(cwd: Path, token: str) -> Path:
    if not _TOKEN.fullmatch(token):
        raise BatchError(
            f"batch token {token!r}: expected 1 to 200 letters, digits, and . _ : - within"
        )
    return Path(runner.job_folder(str(cwd), token))


def _look(cwd: Path, folder: Path, token: str) -> Status:
    """One look at what is there; LOST and UNKNOWN need a second one."""
    result = _read_result(folder)
    if result is not None:
        return Status(BatchState.DONE, result)
    lock = cwd / "batch" / "lock"
    alive = runner.locked(str(lock)) and lock.read_text() == token
    if not (folder / "claim").exists():
        return Status(BatchState.PENDING if alive else BatchState.UNKNOWN)
    if runner.locked(str(folder / "claim")):
        return Status(BatchState.RUNNING)
    if alive:
        # Its wrapper was killed: nobody watches its limits any more, and nobody will report.
        runner.sweep(str(folder))
        return Status(BatchState.RUNNING)
    return Status(BatchState.LOST)


def _read_result(folder: Path) -> Result | None:
    """The result, or None when there is none that can be read."""
    try:
        return Result(**json.loads((folder / "result.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
