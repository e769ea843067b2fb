"""`wireroom` as a process: started, listened to, and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, final

TIMEOUT_S: Final = 120.0  # a program that takes this long hangs

_INHERIT: Final = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


@final
class Program:
    """`wireroom` with these arguments, killed when it takes too long. `stderr` is kept in lines."""

    def __init__(
        self, folder: Path, *arguments: str, env: Mapping[str, str] | None = None, fd: int = -1
    ) -> None:
        command = [sys.executable, "-W", "error", "-m", "wireroom.transports.cli", *arguments]
        if fd >= 0:  # as systemd does it: sd_listen_fds(3)
            command = [sys.executable, "-c", _INHERIT, str(fd), *command]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[fd] if fd >= 0 else [],
        )
        self.lines: list[str] = []
        self._timer = threading.Timer(TIMEOUT_S, self.process.kill)
        self._timer.start()

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def wait_for(self, text: str) -> str:
        """The next line of stderr with this text."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.decode().rstrip())
            if text in self.lines[-1]:
                return self.lines[-1]
        raise AssertionError(f"no {text!r} in {self.lines}")

    def address(self) -> str:
        """Where it listens, as it says itself."""
        return self.wait_for("listening on ").removeprefix("listening on ")

    def port(self) -> int:
        return int(self.address().rpartition(":")[2])

    def end(self, sent: signal.Signals | None = signal.SIGTERM) -> int:
        """Its status, after a signal."""
        if sent is not None:
            self.process.send_signal(sent)
        assert self.process.stderr is not None
        self.lines += self.process.stderr.read().decode().splitlines()
        return self.process.wait()

    def close(self) -> None:
        self._timer.cancel()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
