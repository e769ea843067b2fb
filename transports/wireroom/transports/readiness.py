"""How the asyncio transport learns that sockets can be read, and when it drains the hub."""

from __future__ import annotations

import asyncio
import select
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import copy_context
from time import monotonic
from typing import Final, final

from wireroom.core import ConfigurationError

from .socket_callbacks import Connection

_READ_BYTES: Final = 256 * 1024  # read at most at once
_READY_MAX: Final = 256  # sockets that are read before others have their turn in the loop
_READY_S: Final = 0.002  # the time after which none is read that has become ready meanwhile


@final
class LoopTurn:
    """A turn of the loop: the time of its first input, which is good enough for the others, and
    the buffer that all connections are read into, since the hub has taken what it needs when
    `receive_data` returns. The first input has `drain` called at the end of the turn, in the
    context of who has made this, not in that of the input: what is drained is not its own alone."""

    __slots__ = ("_begun", "_context", "_drain", "_loop", "buffer", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop, drain: Callable[[], None]) -> None:
        self.buffer = memoryview(bytearray(_READ_BYTES))
        self.now = 0.0
        self._begun = False
        self._context = copy_context()
        self._drain = drain
        self._loop = loop

    def begin(self) -> float:
        """There is an input; gives its time."""
        if not self._begun:
            self.open()
            self._loop.call_soon(self.end, context=self._context)
        return self.now

    def open(self) -> None:
        """There will be inputs, and `end` is called after them."""
        self._begun = True
        self.now = self._loop.time()

    def end(self) -> None:
        """There was the last input: drain the hub."""
        self._begun = False
        self._drain()


class Readiness(ABC):
    """Calls `Connection.readable` when there is something to read, or an end."""

    @abstractmethod
    def watch(self, fd: int, connection: Connection) -> None:
        """Watch its socket, which is not watched yet."""

    @abstractmethod
    def unwatch(self, fd: int) -> None:
        """Watch it no more; no harm if it was not watched."""

    @abstractmethod
    def close(self) -> None:
        """Nothing is watched any more. Doing this twice is harmless."""


@final
class EpollReadiness(Readiness):
    """One epoll(7) for all connections, of which the loop sees one file descriptor: what the loop
    does for each socket that is ready is done once for all of them."""

    __slots__ = ("_connections", "_epoll", "_loop", "_turn")

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: LoopTurn) -> None:
        self._loop = loop
        self._turn = turn
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        loop.add_reader(self._epoll.fileno(), self._ready)

    def watch(self, fd: int, connection: Connection) -> None:
        self._epoll.register(fd, select.EPOLLIN)
        self._connections[fd] = connection

    def unwatch(self, fd: int) -> None:
        if self._connections.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _ready(self) -> None:
        connections = self._connections
        turn = self._turn
        left = _READY_MAX
        until = monotonic() + _READY_S
        while left > 0 and (ready := self._epoll.poll(0, left)):
            left -= len(ready)
            turn.open()
            try:
                for fd, _ in ready:
                    connection = connections.get(fd)
                    if connection is not None:  # its handlers keep their variables for themselves
                        copy_context().run(connection.readable)
            finally:  # or, after a KeyboardInterrupt, there would never be a drain again
                turn.end()
            if monotonic() > until:
                break

    def close(self) -> None:
        if not self._epoll.closed:
            self._connections.clear()
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()


@final
class LoopReadiness(Readiness):
    """Every socket is watched by the loop itself."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def watch(self, fd: int, connection: Connection) -> None:
        self._loop.add_reader(fd, connection.readable)

    def unwatch(self, fd: int) -> None:
        self._loop.remove_reader(fd)

    def close(self) -> None:
        pass


def new_readiness(loop: asyncio.AbstractEventLoop, turn: LoopTurn) -> Readiness:
    """What fits the loop and the system. Raises `ConfigurationError` for a loop that cannot watch
    sockets, as Windows' proactor loop."""
    if type(loop).add_reader is asyncio.AbstractEventLoop.add_reader:
        raise ConfigurationError(
            "transport", "this loop cannot watch sockets: use SelectorEventLoop, or anyio"
        )
    return EpollReadiness(loop, turn) if hasattr(select, "epoll") else LoopReadiness(loop)
