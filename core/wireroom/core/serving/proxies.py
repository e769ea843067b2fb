"""Who a connection and its requests are from, if a trusted proxy has passed them on. Pure."""

from __future__ import annotations

from typing import final

from ..app import App
from ..errors import RemoteProtocolError
from ..sessions.session import Arrival, Session
from ..sessions.stats import Stats
from ..wire.forwarded import forwarded_secure
from ..wire.proxied import Proxied
from ..wire.proxy_protocol import ProxyHeaderReader
from ..wire.request import Request


@final
class Proxies:
    """Takes the PROXY header from the front of a connection, and reads forwarded headers.

    Only what comes from the app's `trusted_proxies` is believed.
    """

    __slots__ = ("_header_bytes_max", "_proxy_protocol", "_stats", "_trusted")

    def __init__(self, app: App, stats: Stats) -> None:
        self._trusted = app.trusted_proxies
        self._proxy_protocol = app.proxy_protocol
        self._header_bytes_max = app.limits.head_bytes_max
        self._stats = stats

    def receive_data(self, session: Session, data: bytes) -> bytes | None:
        """Take bytes of a connection before its requests are read; what is left of them for that.

        None while a PROXY header is incomplete. Raises `RemoteProtocolError`, with the HTTP
        status, for a connection that should have one and does not, or may not have one.
        """
        arrival = _arrival(session)
        proxied = arrival.proxied
        if proxied is None:
            proxied = arrival.proxied = self._new_proxied(session, arrival)
        reader = proxied.header_reader
        if reader is None:
            return data
        try:
            header = reader.receive_data(data)
        except RemoteProtocolError:
            self._stats.proxies_refused += 1
            raise
        if header is None:
            return None
        proxied.header_reader = None
        if header.address is not None:
            proxied.address = header.address
        if header.secure is not None:
            proxied.secure = header.secure
        # The proxy relays bytes: X-Forwarded-For is the word of whom it names, not the proxy's.
        # One on another machine's Unix socket is nobody that we know.
        proxied.is_trusted = isinstance(header.address, tuple) and header.address in self._trusted
        session.address, arrival.secure = proxied.address, proxied.secure
        return reader.trailing_data

    def begin_in_host(self, session: Session) -> None:
        """A host has read the connection so far, a PROXY header included."""
        arrival = _arrival(session)
        is_trusted = session.address in self._trusted
        arrival.proxied = Proxied(session.address, secure=arrival.secure, is_trusted=is_trusted)

    def _new_proxied(self, session: Session, arrival: Arrival) -> Proxied:
        is_trusted = session.address in self._trusted
        proxied = Proxied(session.address, secure=arrival.secure, is_trusted=is_trusted)
        if self._proxy_protocol:
            if not is_trusted:
                self._stats.proxies_refused += 1
                raise RemoteProtocolError("only proxies may connect here", status=400)
            proxied.header_reader = ProxyHeaderReader(self._header_bytes_max)
        return proxied

    def identify(self, session: Session, request: Request) -> None:
        """Set the client's address, and whether it used TLS, on the request and the session.

        Each request is for itself: a proxy may send those of several clients on one connection.
        """
        arrival = _arrival(session)
        proxied = arrival.proxied
        if proxied is None or not proxied.is_trusted:
            return
        secure = forwarded_secure(request.headers)
        session.address = self._trusted.client(request.headers, proxied.address)
        arrival.secure = proxied.secure if secure is None else secure
        request.client, request.secure = session.address, arrival.secure


def _arrival(session: Session) -> Arrival:
    assert session.arrival is not None
    return session.arrival
