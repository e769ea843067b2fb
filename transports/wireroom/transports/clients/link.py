"""Between a client's socket and its state machine: nothing, or TLS."""

from __future__ import annotations

import ssl
from typing import Literal, final

from wireroom.core import ClientSession

from ..tls import TlsPipe


@final
class Link:
    """What an adapter gives a socket's bytes to, and takes them from."""

    __slots__ = ("_failure", "_said_goodbye", "_tls", "session")

    def __init__(self, session: ClientSession, tls: TlsPipe | None = None) -> None:
        self.session = session
        self._tls = tls
        self._failure: ssl.SSLError | None = None
        self._said_goodbye = False

    def receive_data(self, data: bytes, *, now: float) -> None:
        """Bytes from the socket."""
        if self._tls is None:
            self.session.receive_data(data, now=now)
            return
        if self._failure is not None:
            return
        try:
            plain = self._tls.receive_data(data)
        except ssl.SSLError as error:
            self._failure = error
            return
        if plain:
            self.session.receive_data(plain, now=now)
        if self._tls.received_eof:
            self.session.receive_eof(now=now)

    def connection_lost(self, error: Exception | None, *, now: float) -> None:
        """The socket is gone."""
        self.session.connection_lost(now=now, error=self._failure or error)

    def data_to_send(self) -> bytes:
        """What has to be written to the socket, if all that was taken before is written."""
        if self._tls is None:
            return self.session.data_to_send()
        if data := self.session.data_to_send():
            self._tls.send([data])
        if self.session.disconnect == "close" and not self._said_goodbye:
            self._said_goodbye = True
            self._tls.close_notify()
        return self._tls.data_to_send()

    @property
    def disconnect(self) -> Literal["close", "abort"] | None:
        """Whether to close the socket; see `ClientSession.disconnect`."""
        return self.session.disconnect if self._failure is None else "abort"
