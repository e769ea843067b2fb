"""`--reload`: a server in a child process, started again when a source file changes.

The parent opens the listening sockets, once, and every child inherits them. So the port stays the
same, and who connects in between waits in the backlog.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, TypeAlias, final

from .reports import report

_FDS: Final = "WIREROOM_RELOAD_FDS"  # the sockets, for a child
_POLL_S: Final = 0.3
_SKIPPED: Final = {"__pycache__", "node_modules", "site-packages"}
_OVERTIME_S: Final = 2.0  # for a child to end after its own deadlines

_Snapshot: TypeAlias = dict[str, tuple[int, int]]


def inherited_sockets() -> list[socket.socket] | None:
    """In a child, the sockets to listen on; None if this is no child. To be asked once."""
    fds = os.environ.pop(_FDS, None)
    if fds is None:
        return None
    sockets = [socket.socket(fileno=int(fd)) for fd in fds.split(",")]
    for sock in sockets:
        sock.set_inheritable(False)
    return sockets


def serve_and_reload(
    arguments: Sequence[str],
    sockets: Sequence[socket.socket],
    folders: Sequence[Path],
    *,
    patience_s: float,
    sighup_ends: bool,
) -> int:
    """Serve in child processes with the same `arguments`, until a signal; gives the exit status.

    A child has `patience_s` seconds to end before it is killed. One that fails is started again
    when a file changes. SIGHUP is handed on, if it does not end all.
    """
    supervisor = _Supervisor(arguments, sockets, patience_s, sighup_ends)
    with supervisor.signals():
        return supervisor.run(folders)


@final
class _Supervisor:
    """A child process at a time, and the signals that it has to know of."""

    def __init__(
        self,
        arguments: Sequence[str],
        sockets: Sequence[socket.socket],
        patience_s: float,
        sighup_ends: bool,
    ) -> None:
        warnings = [f"-W{each}" for each in sys.warnoptions]
        program = ["-m", "wireroom.transports.cli"]
        self._command = [sys.executable, *warnings, *program, *arguments]
        self._fds = [sock.fileno() for sock in sockets]
        self._patience_s = patience_s
        self._sighup_ends = sighup_ends
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()

    def run(self, folders: Sequence[Path]) -> int:
        """Start children until one ends by itself, or a signal comes."""
        while True:
            before = _snapshot(folders)
            child = self._start()
            if self._stopping.is_set():  # a signal has come while it started
                child.terminate()
            changed = self._wait_for_change(child, folders, before)
            if not changed:
                return max(0, self._end(child))  # ended by the signal, before it had a handler
            report("changed", f"{_list(changed)} changed: starting again")
            if child.poll() is None:
                child.terminate()
            self._end(child)
            if self._stopping.is_set():
                return 0

    def _start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {_FDS: ",".join(map(str, self._fds))}
        self._child = subprocess.Popen(self._command, env=environment, pass_fds=self._fds)
        return self._child

    def _wait_for_change(
        self, child: subprocess.Popen[bytes], folders: Sequence[Path], before: _Snapshot
    ) -> list[str]:
        """The files that have changed; none if the server is to end, or has by itself."""
        failed = False
        while not self._stopping.wait(_POLL_S):
            if (status := child.poll()) == 0:
                break
            if status is not None and not failed:
                failed = True
                report("failed", f"ended with status {status}: waiting for a change")
            now = _snapshot(folders)
            if now != before:
                return sorted(
                    path for path in now.keys() | before.keys() if now.get(path) != before.get(path)
                )
        return []

    def _end(self, child: subprocess.Popen[bytes]) -> int:
        """Wait for its end, which it has been asked for."""
        try:
            return child.wait(self._patience_s + _OVERTIME_S)
        except subprocess.TimeoutExpired:
            report("killed", "the server does not end: it is killed")
            child.kill()
            return child.wait()

    # -- signals ------------------------------------------------------------------------------

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Hand signals on to the child, but for those that a terminal gives to both."""
        before = {
            each: signal.signal(each, self._handle) for each in (signal.SIGINT, signal.SIGTERM)
        }
        hang_up = self._handle_hang_up if self._sighup_ends else self._hand_on
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, hang_up)
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._stopping.set()
        if number == signal.SIGINT and _in_foreground():
            return
        self._hand_on(number, frame)

    def _handle_hang_up(self, number: int, frame: FrameType | None) -> None:
        self._stopping.set()
        self._hand_on(signal.SIGTERM, frame)

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        if self._child is not None and self._child.returncode is None:
            self._child.send_signal(number)


def _in_foreground() -> bool:
    """Whether Ctrl+C in the terminal reaches the whole process group, children included."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _snapshot(folders: Sequence[Path]) -> _Snapshot:
    """The Python files below, with their times of modification and sizes."""
    found: _Snapshot = {}
    for root in folders:
        for folder, names, files in os.walk(root):
            names[:] = [each for each in names if not _is_skipped(folder, each)]
            for name in files:
                if name.endswith(".py"):
                    path = os.path.join(folder, name)  # noqa: PTH118 # of many files, often
                    try:
                        status = os.stat(path)  # noqa: PTH116
                    except OSError:
                        continue  # it has just gone
                    found[path] = (status.st_mtime_ns, status.st_size)
    return found


def _is_skipped(folder: str, name: str) -> bool:
    """Whether a folder holds no sources of the app: hidden, caches, virtual environments."""
    return name.startswith(".") or name in _SKIPPED or Path(folder, name, "pyvenv.cfg").is_file()


def _list(paths: Sequence[str]) -> str:
    names = [os.path.relpath(path) for path in paths[:3]]
    return ", ".join(names) + (" and others" if len(paths) > 3 else "")
