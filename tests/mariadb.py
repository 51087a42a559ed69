"""One private MariaDB server for a run of the tests, made when first asked for.

`fresh_url()` gives the URL of a new, empty database. The server lives in a temporary folder,
listens on a UNIX socket only, syncs its commits, and dies with this process.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pymysql

_numbers = itertools.count(1)


class NoMariaDB(Exception):
    """There is no MariaDB server to test with; says what to install, or what the server said."""


def fresh_url() -> str:
    """`mysql+pymysql://...` of a database that nothing has used. Raises NoMariaDB."""
    socket = _server()
    name = f"wm{next(_numbers)}"
    with pymysql.connect(unix_socket=socket, user="root", connect_timeout=10) as connection:
        connection.cursor().execute(f"CREATE DATABASE {name}")
    return f"mysql+pymysql://root@localhost/{name}?unix_socket={socket}"


@functools.cache
def _server() -> str:
    """Start the server; the path of its socket."""
    # A short path: a UNIX socket's may have about 100 bytes.
    folder = Path(tempfile.mkdtemp(prefix="wmdb", dir="/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    data, socket, log = folder / "data", folder / "s", folder / "log"
    common = [f"--datadir={data}", *(["--user=root"] if os.geteuid() == 0 else [])]
    install = [
        _program("mariadb-install-db"),
        "--no-defaults",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        *common,
    ]
    # Two servers that are made at once would share the names of temporary tables in /tmp.
    temporary = {**os.environ, "TMPDIR": str(folder)}
    made = subprocess.run(install, capture_output=True, text=True, check=False, env=temporary)
    if made.returncode:
        raise NoMariaDB(f"mariadb-install-db exited {made.returncode}: {made.stderr[-2000:]}")
    server = [
        _program("mariadbd"),
        "--no-defaults",
        "--skip-networking",
        f"--socket={socket}",
        f"--pid-file={folder / 'pid'}",
        "--innodb-buffer-pool-size=32M",
        "--innodb-log-file-size=16M",
        *common,
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(server, stdout=output, stderr=output, env=temporary)
    # Runs before the folder's removal: exit handlers run last in, first out.
    atexit.register(_stop, process)
    _wait(process, str(socket), log)
    return str(socket)


def _program(name: str) -> str:
    # Debian has the server in /usr/sbin, which is on root's PATH only.
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise NoMariaDB(
            f"{name} is not installed: apt-get install mariadb-server-core mariadb-client-core "
            "(`make test` does it)"
        )
    return found


def _wait(process: subprocess.Popen[bytes], path: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            _knock(path)
            pymysql.connect(unix_socket=path, user="root", connect_timeout=10).close()
            return
        except (OSError, pymysql.OperationalError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise NoMariaDB(f"mariadbd: {error}: {log.read_text()[-2000:]}") from error
        # Nothing tells when the server is ready, so it is asked; this also sees its death at once.
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue


def _knock(path: str) -> None:
    # PyMySQL leaves its socket open when nobody listens.
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(path)


def _stop(process: subprocess.Popen[bytes]) -> None:
    # Nothing of it is kept, so it need not go in order.
    process.kill()
    process.wait()
