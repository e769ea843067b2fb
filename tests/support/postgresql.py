"""A PostgreSQL of the tests' own: in a temporary folder, on a Unix socket, to kill and restart.

server = PrivatePostgreSQL()
server.start()
url = server.new_database()
server.kill()
server.start()
server.remove()
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

START_TIMEOUT_S = 30.0
MISSING = "PostgreSQL is not installed: apt-get install postgresql"


def find_program(name: str) -> str | None:
    """A program of PostgreSQL: on the path, or where Debian has it, the newest version."""
    versions = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    newest = max(versions, key=lambda path: float(path.parts[-3]), default=None)
    return shutil.which(name) or (None if newest is None else str(newest))


class PrivatePostgreSQL:
    """One server. Without `durable` it saves nobody from a loss of power, and a second a test."""

    def __init__(self, *, durable: bool = False) -> None:
        # Not pytest's folder: root's is closed to the user that the server runs as.
        self._folder = Path(tempfile.mkdtemp(prefix="wr-pg-"))
        self._settings = [
            "-c",
            "listen_addresses=",
            "-c",
            f"unix_socket_directories={self._folder}",
        ]
        if not durable:
            self._settings += ["-c", "fsync=off"]
        self._identity: dict[str, Any] = {}
        if os.geteuid() == 0:  # as which PostgreSQL does not run
            user = pwd.getpwnam("nobody")
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            self._identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._log = (self._folder / "log").open("wb")
        self._run("initdb", "-D", self._data, "-U", "wireroom", "-A", "trust", "-N", "-E", "UTF8")

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _command(self, program: str, *arguments: str) -> dict[str, Any]:
        path = find_program(program)
        assert path is not None, MISSING
        environment = {name: value for name, value in os.environ.items() if name != "LC_ALL"}
        return {
            "args": [path, *arguments],
            "cwd": self._folder,
            "env": environment | {"LC_ALL": "C.UTF-8"},
            "stdin": subprocess.DEVNULL,
            "stdout": self._log,
            "stderr": self._log,
            **self._identity,
        }

    def _run(self, program: str, *arguments: str) -> None:
        status = subprocess.run(**self._command(program, *arguments), check=False).returncode
        assert status == 0, self._said()

    def _said(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-4000:]

    def start(self) -> None:
        """Run, and wait until it answers; again, while what a killed one left is in the way."""
        until = time.monotonic() + START_TIMEOUT_S
        while True:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    **self._command("postgres", "-D", self._data, *self._settings)
                )
            try:
                psycopg.connect(self._conninfo("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError as error:
                if time.monotonic() >= until:
                    raise AssertionError(f"PostgreSQL does not start: {self._said()}") from error
            time.sleep(0.05)

    def kill(self) -> None:
        """With SIGKILL; its processes for connections end when they notice."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(START_TIMEOUT_S)

    def drop_connections(self) -> None:
        """End all connections, by the administrator's word."""
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type,unused-ignore]
        return f"postgresql://wireroom@/{name}?host={self._folder}"

    def _conninfo(self, database: str) -> str:
        return f"host={self._folder} user=wireroom dbname={database}"

    def remove(self) -> None:
        """End it, and delete all it had."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)  # "fast": connections are ended
            try:
                self._process.wait(START_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)
