"""What the servers with sockets have in common: what they are told, and where they listen.

    listeners = Listeners(logger, host="localhost", port=0)
    listeners.open()
    logger.info("listening on %s", listeners)
    listeners.close()

How they accept is each one's own: `listening.accept_all`, and `Listeners.pressure` when it cannot.
"""

from __future__ import annotations

import logging
import socket
import ssl
from typing import Any, Unpack, final

from wireroom.backplanes.link import Backplane

from .listening import (
    AcceptPressure,
    ListenOptions,
    SocketOptions,
    close_listeners,
    format_address,
    open_listeners,
)


class ServerOptions(SocketOptions, total=False):
    """The options of every transport's `serve`, which are those of its `Server`."""

    ssl: ssl.SSLContext | None
    """For TLS on all sockets that it listens on."""
    grace_s: float
    """The seconds that sessions and handlers have to end in at the end. By default 5."""
    spread_s: float
    """The seconds over which the Closes of the end are spread. By default 0: all at once."""
    close_code: int
    """What those Closes say: 1001 (going away, the default) or 1012 (restart)."""
    backplane: Backplane | None
    """What joins this server to others."""


@final
class Listeners:
    """The sockets that one server listens on, and none before `open` and after `close`."""

    __slots__ = ("_options", "pressure", "sockets")

    def __init__(self, logger: logging.Logger, **options: Unpack[ListenOptions]) -> None:
        self.sockets: list[socket.socket] = []
        self.pressure = AcceptPressure(logger)
        self._options = options

    def open(self) -> None:
        """Raises `ConfigurationError` if the address cannot be used."""
        self.sockets = open_listeners(**self._options)

    def close(self) -> None:
        """Doing this twice is harmless."""
        close_listeners(self.sockets)
        self.sockets = []

    @property
    def addresses(self) -> list[Any]:
        """As `socket.getsockname()` gives them."""
        return [each.getsockname() for each in self.sockets]

    def __str__(self) -> str:
        return ", ".join(map(format_address, self.addresses))
