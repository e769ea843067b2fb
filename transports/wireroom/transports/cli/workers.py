"""`--workers N`: server processes on the same port, watched over by this one.

    a worker dies      it is started again: at once, and then after pauses that double
    SIGTERM, SIGINT    all are unready for a time (if asked for), and then end; again: at once
    SIGHUP             all read their certificates again
    SIGUSR2            one worker after another is replaced, while others go on accepting

A replacement listens before the worker that it is for is told to end (with 1012, so that clients
come back). If it cannot start, the old worker and those after it stay.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, final

from . import EXIT_CANNOT_START
from .notify import notify
from .reports import report
from .worker import FDS, LINGER_S, NUMBER, READY, RESTART, UNREADY

START_S: Final = 120.0  # for a worker to listen
OVERTIME_S: Final = 2.0  # for a worker to end after its own deadlines
STABLE_S: Final = 10.0  # a worker that was ready for so long is started again at once
FIRST_TRIES: Final = 3  # of a worker; if it never was ready by then, all end
PAUSE_S: Final = 0.5  # before the second start in a row
PAUSE_MAX_S: Final = 10.0

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)


@final
class _Process:
    """One worker process."""

    def __init__(self, slot: _Slot, command: Sequence[str]) -> None:
        self.slot = slot
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno(), *(sock.fileno() for sock in slot.sockets)]
        environment = os.environ | {FDS: ",".join(map(str, fds)), NUMBER: str(slot.number)}
        try:
            # In a group of its own: Ctrl+C in a terminal is for the supervisor.
            self.popen = subprocess.Popen(
                command, env=environment, pass_fds=fds, process_group=0, stdin=subprocess.DEVNULL
            )
        finally:
            theirs.close()
        ours.setblocking(False)
        self.channel = ours
        self.ready_at: float | None = None
        self.is_ending = False
        self.kill_at: float | None = time.monotonic() + START_S

    def __str__(self) -> str:
        return f"worker {self.slot.number} ({self.popen.pid})"

    @property
    def is_ready(self) -> bool:
        """Whether it has listened."""
        return self.ready_at is not None

    def tell(self, said: bytes) -> None:
        """Tell it something, if it lives."""
        with suppress(OSError):
            self.channel.send(said)

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it lives."""
        with suppress(ProcessLookupError):
            self.popen.send_signal(number)


@final
class _Slot:
    """The place of a worker, with its sockets: who is there, and who is to come."""

    def __init__(self, number: int, sockets: Sequence[socket.socket]) -> None:
        self.number = number
        self.sockets = sockets
        self.process: _Process | None = None
        self.successor: _Process | None = None
        self.failures = 0  # in a row
        self.start_at: float | None = None  # when to start it again


@final
class Supervisor:
    """Runs a command once for each list of sockets.

    A worker that is told to end has `patience_s` seconds before it is killed. `unready_s` is how
    long all say so before they end. SIGHUP is handed on, if it does not end all.
    """

    def __init__(
        self,
        command: Sequence[str],
        sockets: Sequence[Sequence[socket.socket]],
        *,
        patience_s: float,
        unready_s: float,
        sighup_ends: bool,
        listening: str,
    ) -> None:
        self._command = command
        self._slots = [_Slot(number, each) for number, each in enumerate(sockets, 1)]
        self._patience_s = patience_s
        self._unready_s = unready_s
        self._sighup_ends = sighup_ends
        self._listening = listening  # what is said once all do
        self._selector = selectors.DefaultSelector()
        self._has_begun = False  # whether all were ready once
        self._stopping = False
        self._stop_at: float | None = None  # when the time of being unready is over
        self._to_replace: deque[_Slot] = deque()
        self._replacing: _Slot | None = None
        self._status = 0

    def run(self) -> int:
        """Until a signal, or until no worker can start; gives the exit status."""
        with self._wakeups():
            for slot in self._slots:
                self._start(slot)
            while any(self._processes()) or any(slot.start_at for slot in self._slots):
                for key, _ in self._selector.select(self._patience()):
                    if isinstance(key.data, _Process):
                        self._heard(key.data)
                    else:
                        self._take_signals(key.data)
                self._look_at_the_clock()
        return self._status

    # -- starting -----------------------------------------------------------------------------

    def _start(self, slot: _Slot) -> None:
        slot.start_at = None
        slot.process = self._new_process(slot)

    def _new_process(self, slot: _Slot) -> _Process:
        process = _Process(slot, self._command)
        self._selector.register(process.channel, selectors.EVENT_READ, process)
        return process

    def _heard(self, process: _Process) -> None:
        """It is ready, or has ended."""
        try:
            said = process.channel.recv(16)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._ended(process)
        elif said == READY and not process.is_ready:
            self._is_ready(process)

    def _is_ready(self, process: _Process) -> None:
        slot = process.slot
        process.ready_at = time.monotonic()
        if not process.is_ending:
            process.kill_at = None
        if not self._has_begun:
            if all(each.process is not None and each.process.is_ready for each in self._slots):
                self._has_begun = True
                report("listening", self._listening, workers=len(self._slots))
                notify("READY=1")
            return
        report("worker_ready", f"{process} is ready", worker=slot.number, pid=process.popen.pid)
        if process is slot.successor:
            before, slot.process, slot.successor = slot.process, process, None
            if before is not None and not self._stopping:
                before.tell(RESTART)
                self._will_end(before)
            else:
                self._replaced()

    # -- ending -------------------------------------------------------------------------------

    def _ended(self, process: _Process) -> None:
        self._selector.unregister(process.channel)
        process.channel.close()
        try:
            status = process.popen.wait(OVERTIME_S)
        except subprocess.TimeoutExpired:  # it has closed its side, and lives
            process.popen.kill()
            status = process.popen.wait()
        slot = process.slot
        if process is slot.successor:
            slot.successor = None
            if not self._stopping:
                self._cannot_replace(process, status)
            return
        if process is slot.process:
            slot.process = None
        if process.is_ending or self._stopping:
            if status not in (0, -signal.SIGTERM):
                self._status = self._status or 1  # the first failure is what it ends by
                report("worker_failed", f"{process} {_how(status)}", worker=slot.number)
            if not self._stopping and self._replacing is slot:
                self._replaced()
        elif not self._has_begun and (
            status == EXIT_CANNOT_START or slot.failures >= FIRST_TRIES - 1
        ):
            report("worker_failed", f"{process} {_how(status)}", worker=slot.number)
            self._status = EXIT_CANNOT_START if status == EXIT_CANNOT_START else 1
            self._stop()
        else:
            self._start_later(process, status)

    def _start_later(self, process: _Process, status: int) -> None:
        slot = process.slot
        if slot.successor is not None:
            return  # which takes its place
        now = time.monotonic()
        if process.ready_at is not None and now - process.ready_at >= STABLE_S:
            slot.failures = 0
        pause_s = min(PAUSE_MAX_S, PAUSE_S * 2 ** (slot.failures - 1)) if slot.failures else 0.0
        slot.failures += 1
        slot.start_at = now + pause_s
        when = f"in {pause_s:g} s" if pause_s else "now"
        report(
            "worker_died",
            f"{process} {_how(status)}: starting another {when}",
            worker=slot.number,
            pid=process.popen.pid,
            status=status,
        )

    def _stop(self) -> None:
        """Have all end: soon if they are to be unready before, now if that was asked for twice."""
        now = time.monotonic()
        if not self._stopping:
            self._stopping = True
            self._to_replace.clear()
            self._replacing = None
            notify("STOPPING=1")
            for slot in self._slots:
                slot.start_at = None
            if self._unready_s > 0 and self._has_begun:
                self._stop_at = now + self._unready_s
                for process in self._processes():
                    process.tell(UNREADY)
                return
        self._stop_at = None
        for process in self._processes():
            process.send_signal(signal.SIGTERM)
            self._will_end(process)

    def _will_end(self, process: _Process) -> None:
        """It was told to end, and has so long."""
        if not process.is_ending:
            process.is_ending = True
            process.kill_at = time.monotonic() + LINGER_S + self._patience_s + OVERTIME_S

    def _processes(self) -> Iterator[_Process]:
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, _Process):
                yield key.data

    # -- one after another --------------------------------------------------------------------

    def _replace_all(self) -> None:
        if self._stopping or not self._has_begun:
            return
        if self._replacing is not None:
            report("restart_under_way", "the workers are being replaced already")
            return
        report("restart_begun", "replacing one worker after another")
        self._to_replace.extend(self._slots)
        self._replace_next()

    def _replace_next(self) -> None:
        if not self._to_replace:
            self._replacing = None
            report("restart_done", "all workers have been replaced")
            return
        slot = self._replacing = self._to_replace.popleft()
        slot.start_at = None  # if it has just died, this is the one that is started
        slot.successor = self._new_process(slot)

    def _replaced(self) -> None:
        if self._replacing is not None:
            self._replacing.failures = 0
            self._replace_next()

    def _cannot_replace(self, process: _Process, status: int) -> None:
        self._to_replace.clear()
        self._replacing = None
        slot = process.slot
        report(
            "restart_failed",
            f"{process} {_how(status)} before it was ready: the workers stay as they are",
            worker=slot.number,
        )
        if slot.process is None:
            self._start_later(process, status)

    # -- time and signals ---------------------------------------------------------------------

    def _patience(self) -> float | None:
        """Until when nothing is to be done by the clock, in seconds from now."""
        times = [self._stop_at, *(slot.start_at for slot in self._slots)]
        times += [process.kill_at for process in self._processes()]
        due = [each for each in times if each is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        if self._stop_at is not None and self._stop_at <= now:
            self._stop()
        for slot in self._slots:
            if slot.start_at is not None and slot.start_at <= now:
                self._start(slot)
        for process in self._processes():
            if process.kill_at is not None and process.kill_at <= now:
                process.kill_at = None
                report("worker_killed", f"{process} does not {_what(process)}: it is killed")
                process.popen.kill()

    def _take_signals(self, numbers: socket.socket) -> None:
        for number in numbers.recv(64):
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop()
            elif number == signal.SIGUSR2:
                self._replace_all()
            elif number == signal.SIGHUP and self._sighup_ends:
                self._stop()
            elif number == signal.SIGHUP:
                for process in self._processes():
                    if process.is_ready:  # the others have read it just now
                        process.send_signal(signal.SIGHUP)

    @contextmanager
    def _wakeups(self) -> Iterator[None]:
        """Have signals be readable."""
        ours, theirs = socket.socketpair()
        with ours, theirs, self._selector:
            ours.setblocking(False)
            theirs.setblocking(False)
            self._selector.register(ours, selectors.EVENT_READ, ours)
            before = {each: signal.signal(each, lambda *_: None) for each in _SIGNALS}
            wakeup = signal.set_wakeup_fd(theirs.fileno())
            try:
                yield
            finally:
                signal.set_wakeup_fd(wakeup)
                for each, handler in before.items():
                    signal.signal(each, handler)


def worker_command(arguments: Sequence[str]) -> list[str]:
    """This program with the same arguments, for a worker."""
    warnings = [f"-W{each}" for each in sys.warnoptions]
    return [sys.executable, *warnings, "-m", "wireroom.transports.cli", *arguments]


def _how(status: int) -> str:
    if status < 0:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(-status).name}"
        return f"was ended by signal {-status}"
    return f"ended with status {status}"


def _what(process: _Process) -> str:
    return "end" if process.is_ending else "start"
