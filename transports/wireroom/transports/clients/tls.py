"""TLS over bytes, without a socket, so that every client does it alike.

An `ssl.SSLSocket` must not be read and written by two threads at once, asyncio's transports wait
half a minute for a peer's close_notify, and anyio has a stream of its own. Here it is bytes in and
bytes out; what moves them is whoever moves them without TLS.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import final


@final
class Tls:
    """The client's side of one TLS connection. Raises `ssl.SSLError`, of which
    `ssl.SSLCertVerificationError` is one kind, from `receive_data`."""

    __slots__ = ("_incoming", "_object", "_outgoing", "_plain", "_ready", "eof")

    def __init__(self, context: ssl.SSLContext, server_hostname: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=server_hostname
        )
        self._ready = False  # whether the handshake is done
        self._plain = b""  # what is to be sent after it
        self.eof = False  # whether the peer has said that it sends nothing more
        self._shake_hands()

    def receive_data(self, data: bytes) -> bytes:
        """Take bytes from the socket; the plain ones that they give."""
        self._incoming.write(data)
        if not self._ready and not self._shake_hands():
            return b""
        plain = []
        try:
            while chunk := self._object.read(2**18):
                plain.append(chunk)
            self.eof = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.eof = True
        return b"".join(plain)

    def send(self, plain: bytes) -> None:
        """Encrypt, or keep until the handshake is done."""
        if not self._ready:
            self._plain += plain
        elif plain:
            self._object.write(plain)

    def close(self) -> None:
        """Say that we send nothing more (close_notify); the peer's word is not waited for."""
        with contextlib.suppress(ssl.SSLError):  # it wants to read, or has failed before
            self._object.unwrap()

    def data_to_send(self) -> bytes:
        """What has to be written to the socket."""
        return self._outgoing.read()

    def _shake_hands(self) -> bool:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self._ready = True
        self.send(self._plain)
        self._plain = b""
        return True
