"""Runs one job: claims its token, enforces its limits, leaves its result. Standard library only.

`batch.local` starts it by path, as `python -I -S runner.py SPEC`: nothing in the job's folder or
environment can change what it imports, and it starts in a few hundredths of a second. SPEC is JSON:
`cwd` (where it is already), `token`, `argv`, `time_limit` (s) or null, `grace` (s between TERM and
KILL), `output_limit` (bytes), and two inherited descriptors, both locked: `slot_fd` and `lock_fd`.

Who holds what, and until when:

- the slot: this process, so that one more job may start as soon as, and only when, it is gone;
- the job's lock: this process and all that the command starts, so that it is free only when nothing
  of the job is alive, whichever of them was killed;
- the claim: this process. A claim that nobody holds, with the lock held, is an orphaned command.

Locks are of the open file description: a fork shares them, and they can be looked at untaken.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import sys
import time
from typing import Any

#: Exit codes of the process that the submitter waits for; anything else is a failure.
CLAIMED, TAKEN = 0, 3

#: In the command's environment, and in that of all its children: `JOBMARK=<folder>`.
JOBMARK = "WM_BATCH_JOB"

_FLOCK = struct.Struct("hhqqi4x")
#: Output is measured this often (s); a command can be over its limit for so long.
_LOOK = 1.0


def main(argv: list[str]) -> int:
    """Fork: the parent reports the claim to the submitter, the child runs the job."""
    spec = json.loads(argv[1])
    # Taken by sigtimedwait in watch(), and by nothing else, so that none is missed.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    os.set_inheritable(spec["slot_fd"], False)
    ears, mouth = os.pipe()
    if os.fork():
        os.close(mouth)
        # Nothing is said when the child died before it could claim.
        return {b"c": CLAIMED, b"t": TAKEN}.get(os.read(ears, 1), 1)
    os.close(ears)
    folder = job_folder(spec["cwd"], spec["token"])
    claim_fd = claim(folder)
    os.write(mouth, b"t" if claim_fd is None else b"c")
    os.close(mouth)
    if claim_fd is not None:
        write_result(folder, run(spec, folder))
    return 0


def job_folder(cwd: str, token: str) -> str:
    """Where all that belongs to one token is kept: claim, result, stdout, stderr, cancel."""
    return f"{cwd}/batch/{token}"


def lock(fd: int) -> bool:
    """Take the lock of an open file, without waiting; False when another holds it."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def locked(path: str) -> bool:
    """Whether anyone holds the lock of `path`; looking disturbs nobody."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0))
    finally:
        os.close(fd)
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


def claim(folder: str) -> int | None:
    """Make this process the one that runs the token: its locked claim, or None when it is taken.

    The link makes the claim appear whole and already locked; a second one fails.
    """
    draft = f"{folder}/claim.{os.getpid()}"
    fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    lock(fd)
    os.write(fd, json.dumps({"pid": os.getpid(), "claimed": time.time()}).encode())
    try:
        os.link(draft, f"{folder}/claim")
    except FileExistsError:
        os.close(fd)
        return None
    finally:
        os.unlink(draft)
    return fd


def run(spec: dict[str, Any], folder: str) -> dict[str, Any]:
    """Run the command to its end, whatever that is, and say what came of it."""
    started = time.time()
    result = {"token": spec["token"], "signal": None, "started": started, "cpu": 0.0, "memory": 0}
    if os.path.exists(f"{folder}/cancel"):
        ended = {"ending": "cancelled", "exit_code": 143, "reason": "cancelled before it began"}
        return {**result, **ended, "ended": started}
    try:
        pid = os.posix_spawnp(
            spec["argv"][0],
            spec["argv"],
            {**os.environ, JOBMARK: folder},
            setpgroup=0,
            setsigmask=[],
            # Python ignores these two; programs expect the default.
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = f"cannot start {spec['argv'][0]!r}: {error.strerror}"
        print(reason, file=sys.stderr, flush=True)
        ended = {"ending": "not-started", "exit_code": 127 if missing else 126, "reason": reason}
        return {**result, **ended, "ended": time.time()}
    stopped = watch(pid, spec)
    # Not reaped yet: the group's number cannot have been given to anyone else.
    send(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    os.close(spec["lock_fd"])
    if locked(f"{spec['cwd']}/batch/lock"):
        sweep(folder)
    result |= {"ended": time.time(), "cpu": round(usage.ru_utime + usage.ru_stime, 3)}
    return result | {"memory": usage.ru_maxrss * 1024} | describe(status, stopped, spec)


def watch(pid: int, spec: dict[str, Any]) -> str:
    """Wait for the command, unreaped; "" when it ended by itself, else why it was stopped."""
    limit = spec["time_limit"]
    now = time.monotonic()
    deadline = now + limit if limit else float("inf")
    stopped, kill_at = "", float("inf")
    cancelled = False
    while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        now = time.monotonic()
        if not stopped:
            if cancelled:
                stopped = "cancelled"
            elif now >= deadline:
                stopped = "time-limit"
            elif max(os.fstat(1).st_size, os.fstat(2).st_size) > spec["output_limit"]:
                stopped = "output-limit"
            if stopped:
                send(pid, signal.SIGTERM)
                kill_at = now + spec["grace"]
        elif now >= kill_at:
            send(pid, signal.SIGKILL)
            kill_at = now + _LOOK
        wait = min(_LOOK, (kill_at if stopped else deadline) - now)
        caught = signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, max(wait, 0.001))
        cancelled = cancelled or (caught is not None and caught.si_signo == signal.SIGTERM)
    return stopped


def send(pid: int, number: int) -> None:
    """Signal the command's group, or the command alone when it left its group."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        os.kill(pid, number)


def describe(status: int, stopped: str, spec: dict[str, Any]) -> dict[str, Any]:
    """The command's end in words and numbers, from its wait status and why it was stopped."""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    if stopped:
        code, reason = {
            "time-limit": (124, "stopped at its time limit of {time_limit:g} s"),
            "output-limit": (
                153,
                "stopped: it wrote more than {output_limit:,} bytes to stdout or stderr",
            ),
            "cancelled": (143, "cancelled"),
        }[stopped]
        # Only the chosen line is filled in: a job may have no time limit.
        reason = reason.format_map(spec)
        for fd in (1, 2):
            if os.fstat(fd).st_size > spec["output_limit"]:
                os.ftruncate(fd, spec["output_limit"])
        return {"ending": stopped, "exit_code": code, "signal": number, "reason": reason}
    if number is not None:
        reason = f"killed by signal {number} ({signal.strsignal(number)})"
        return {
            "ending": "signalled",
            "exit_code": 128 + number,
            "signal": number,
            "reason": reason,
        }
    code = os.WEXITSTATUS(status)
    return {"ending": "exited", "exit_code": code, "reason": f"exit code {code}" if code else ""}


def sweep(folder: str) -> int:
    """Kill all processes that the job in `folder` ever started, wherever they hid; how many."""
    mark = f"{JOBMARK}={folder}".encode()
    killed = 0
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            # Through a pidfd: the process that is read is the one that is killed.
            fd = os.pidfd_open(int(name))
        except OSError:
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as environ:
                if mark in environ.read().split(b"\0"):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                    killed += 1
        except OSError:
            pass
        finally:
            os.close(fd)
    return killed


def write_result(folder: str, result: dict[str, Any]) -> None:
    """Leave the result, whole and on disk: the last act, after which the job is done."""
    with open(f"{folder}/result.json.new", "w") as file:
        json.dump(result, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{folder}/result.json.new", f"{folder}/result.json")
    fd = os.open(folder, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
