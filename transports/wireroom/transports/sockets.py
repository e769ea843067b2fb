"""Connected sockets, as every transport that has them treats them."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Final

from wireroom.core import LocalProtocolError
from wireroom.core.wire.request import Address

from .listening import peer_address

REFUSAL_LINGER_S: Final = 1.0  # for a refused peer to ask, and to read its 503


def set_no_delay(sock: socket.socket) -> None:
    """Have small messages sent at once (TCP_NODELAY): what waits, waits in the outbox."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):  # it has gone
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def peer_of(sock: socket.socket) -> Address:
    """Who is at the other end; None if that cannot be told."""
    try:
        return peer_address(sock.getpeername())
    except OSError:
        return None


def check_adoptable(received: bytes, context: ssl.SSLContext | None) -> None:
    """Raises `LocalProtocolError` for a socket of another server whose TLS has begun."""
    if received and context is not None:
        raise LocalProtocolError("TLS begins before anything is received: adopt it earlier")
