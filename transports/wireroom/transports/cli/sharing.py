"""The listening sockets of several workers: opened once, by their supervisor.

On Linux each worker has its own on the same port, by SO_REUSEPORT, so that the system spreads
connections evenly. The supervisor keeps them open while a worker is started again: who connects in
between waits, and is not refused. Elsewhere, and for Unix sockets and those of systemd, all
workers accept from the same one.
"""

from __future__ import annotations

import socket
import sys
from typing import Final

from wireroom.core import ConfigurationError

from ..listening import ListenOptions, close_listeners, open_listeners
from .problems import problem_of

SPREADS: Final = sys.platform == "linux"  # whether the system spreads connections over such sockets

WORKER_HOST: Final = "127.0.0.1"


def open_for_workers(
    count: int, listen: ListenOptions, worker_port: int | None
) -> list[list[socket.socket]]:
    """For each worker, where it accepts; with `worker_port`, each also on a port of its own, from
    that one on, on this machine only. Raises `ConfigurationError`."""
    opened: list[list[socket.socket]] = []
    try:
        _open(count, listen, opened)
        if worker_port is not None:
            for number, sockets in enumerate(opened):
                sockets += _open_own(worker_port + number)
    except BaseException:
        close_for_workers(opened)
        raise
    return opened


def close_for_workers(opened: list[list[socket.socket]]) -> None:
    """Close them all, each once."""
    close_listeners(list(dict.fromkeys(sock for sockets in opened for sock in sockets)))


def _open(count: int, listen: ListenOptions, opened: list[list[socket.socket]]) -> None:
    first = open_listeners(**listen)  # alone, if it is to be: another program's port is in use
    is_tcp = all(sock.family in (socket.AF_INET, socket.AF_INET6) for sock in first)
    if not is_tcp or not SPREADS or listen.get("inherited"):
        opened.append(list(first))
        opened.extend(list(first) for _ in range(count - 1))
        return
    port = first[0].getsockname()[1]
    close_listeners(first)
    shared = listen | ListenOptions(port=port, reuse_port=True)
    for _ in range(count):  # one at a time: what is open already is closed if the next fails
        opened += [open_listeners(**shared)]


def _open_own(port: int) -> list[socket.socket]:
    try:
        return open_listeners(host=WORKER_HOST, port=port)
    except ConfigurationError as error:
        raise ConfigurationError("worker_port", problem_of(error)) from error
