"""A worker process of `--workers`: its sockets, and what it and its supervisor tell each other.

They share a pair of sockets. The worker writes READY once it listens; the supervisor writes UNREADY
some time before the end, and RESTART if that is for another worker to take its place. When either
has ended the other reads the end of the stream: a worker without a supervisor ends as by SIGTERM.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Final, Protocol, final

FDS: Final = "WIREROOM_WORKER_FDS"  # the channel, and the sockets to listen on
NUMBER: Final = "WIREROOM_WORKER"  # 1, 2 … for the app to know

READY: Final = b"r"
UNREADY: Final = b"u"
RESTART: Final = b"c"

RESTART_CODE: Final = 1012  # RFC 6455's registry: service restart
LINGER_S: Final = 0.5  # for who has connected to a worker that is being replaced to say something


class Stoppable(Protocol):
    """A server of any transport."""

    close_code: int
    linger_s: float


@final
class Worker:
    """What makes this process a worker."""

    def __init__(self, channel: int, listeners: list[socket.socket], number: str) -> None:
        self.listeners = listeners
        self.number = number
        self._channel = channel  # a file descriptor, open to the very end of this process
        self._server: Stoppable | None = None

    def is_ready(self, server: Stoppable, drain: Callable[[], object]) -> None:
        """It listens. `drain` is called, in another thread, if it is to say that it is unready."""
        self._server = server
        threading.Thread(
            target=self._read, args=(drain,), name="wireroom-supervisor", daemon=True
        ).start()
        os.write(self._channel, READY)

    def _read(self, drain: Callable[[], object]) -> None:
        while True:
            try:
                said = os.read(self._channel, 1)
            except OSError:
                said = b""
            if said == UNREADY:
                drain()
                continue
            if said == RESTART and self._server is not None:
                self._server.close_code = RESTART_CODE
                self._server.linger_s = LINGER_S
            os.kill(os.getpid(), signal.SIGTERM)
            return


def this_worker() -> Worker | None:
    """None if this process is no worker. To be asked once."""
    fds = os.environ.pop(FDS, None)
    if fds is None:
        return None
    channel, *rest = map(int, fds.split(","))
    os.set_inheritable(channel, False)
    listeners = [socket.socket(fileno=fd) for fd in rest]
    for sock in listeners:
        sock.set_inheritable(False)
    return Worker(channel, listeners, os.environ.get(NUMBER, ""))
