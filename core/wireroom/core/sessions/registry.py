"""Which connection has which fd. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

from ..errors import LocalProtocolError
from .ids import FdPool
from .outbox import Outbox
from .session import Session


@final
class Registry:
    """Connections by fd. An fd is taken at `connect`, and free only when the
    transport has said `connection_lost` and carried out what was said of it before."""

    __slots__ = ("_fds", "_outboxes", "_sessions", "generation", "get", "outbox")

    def __init__(self, fds: FdPool) -> None:
        self._fds = fds
        self._sessions: dict[int, Session] = {}
        self._outboxes: dict[int, Outbox] = {}
        self.get = self._sessions.get  # the connection of an fd, or None
        self.outbox = self._outboxes.get  # its outbox, or None
        self.generation = 0  # of the newest connection

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        """A snapshot, safe to use while connections come and go."""
        return iter(list(self._sessions.values()))

    def acquire(self) -> int | None:
        """An fd for a new connection, or None if there is none."""
        return self._fds.acquire()

    def add(self, session: Session) -> None:
        """Register a connection under the fd acquired for it."""
        fd: Any = session.fd  # as an object, of which both keep the same
        self._sessions[fd] = session
        self._outboxes[fd] = session.outbox

    def require(self, fd: int) -> Session:
        """The connection of `fd`. Raises `LocalProtocolError` if there is none."""
        session = self._sessions.get(fd)
        if session is None:
            raise LocalProtocolError(f"no connection has fd {fd}")
        return session

    def remove(self, session: Session) -> None:
        """The socket is gone: forget the connection. Its fd is not free yet."""
        del self._sessions[session.fd]
        del self._outboxes[session.fd]

    def release(self, fd: int) -> None:
        """The fd of a removed connection may be used again."""
        self._fds.release(fd)
