"""What `connect` takes, and what is made of it: the same for every client."""

from __future__ import annotations

import dataclasses
import functools
import os
import socket
import ssl
from collections.abc import Sequence
from math import isnan
from typing import TypedDict, final

from wireroom.core import (
    ClientConnection,
    ClientSession,
    ConfigurationError,
    Deflate,
    Limits,
    Parser,
)
from wireroom.core.wire.request import HeaderItems

from ..tls import TlsPipe
from .link import Link

_DEFLATE = Deflate()
_LIMITS = Limits()


class ConnectOptions(TypedDict, total=False):
    """The options of `connect`, by name; for what each means and its default see `Options`."""

    headers: HeaderItems
    subprotocols: Sequence[str]
    origin: str | None
    deflate: Deflate | None
    limits: Limits
    parser: Parser | None
    ssl: ssl.SSLContext | None
    server_hostname: str | None
    sock: socket.socket | None
    unix_path: str | os.PathLike[str] | None
    open_timeout_s: float
    ping_interval_s: float | None
    ping_timeout_s: float | None
    close_timeout_s: float | None


@final
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `connect`.

    `ssl` is for `wss` only; without it the server's certificate is verified against the system's
    authorities, for `server_hostname`, or else the URL's host. `sock` is a connected stream
    socket, which the client then owns; `unix_path` is where to connect instead of the URL's host.
    `open_timeout_s` is for all from the address look-up to the answer. Of `limits`, the inbox, the
    outbox, messages and times count; the three times below replace those in it. `math.inf`
    switches a time off. `parser` packs what is neither text nor bytes, and knows requests and
    replies. Raises `ConfigurationError`.
    """

    headers: HeaderItems = ()
    subprotocols: Sequence[str] = ()
    origin: str | None = None
    deflate: Deflate | None = _DEFLATE
    limits: Limits = _LIMITS
    parser: Parser | None = None
    ssl: ssl.SSLContext | None = None
    server_hostname: str | None = None
    sock: socket.socket | None = None
    unix_path: str | os.PathLike[str] | None = None
    open_timeout_s: float = 10.0
    ping_interval_s: float | None = None
    ping_timeout_s: float | None = None
    close_timeout_s: float | None = None

    def __post_init__(self) -> None:
        if isnan(self.open_timeout_s) or self.open_timeout_s <= 0:
            raise ConfigurationError(
                "open_timeout_s", f"must be more than 0 seconds, not {self.open_timeout_s!r}"
            )
        if self.sock is not None and self.unix_path is not None:
            raise ConfigurationError("sock, unix_path", "are two ways to say where to connect")


@final
class Dial:
    """One connection that is to be made: where to, until when, and what its bytes go through.

    Raises `ConfigurationError`, and `LocalProtocolError` for headers that cannot be sent.
    """

    __slots__ = ("_open_by", "host", "link", "options", "port")

    def __init__(self, url: str, options: Options, *, now: float) -> None:
        self.options = options
        self._open_by = now + options.open_timeout_s
        limits = _with_times(options)
        connection = ClientConnection(
            url,
            random_bytes=os.urandom,
            subprotocols=options.subprotocols,
            origin=options.origin,
            headers=options.headers,
            deflate=options.deflate,
            limits=limits,
        )
        self.host = connection.host
        self.port = connection.port
        session = ClientSession(
            connection,
            now=now,
            limits=limits,
            open_timeout_s=options.open_timeout_s,
            parser=options.parser,
        )
        tls = None
        if connection.secure:
            tls = _start_tls(options.ssl or default_context(), options.server_hostname or self.host)
        elif options.ssl is not None or options.server_hostname is not None:
            raise ConfigurationError("ssl, server_hostname", f"are for wss:// URLs, not {url!r}")
        self.link = Link(session, tls)

    def remaining_s(self, now: float) -> float:
        """The time that is left for opening. Raises `TimeoutError` if there is none."""
        left = self._open_by - now
        if left <= 0:
            raise TimeoutError("the connection was not open in time")
        return left


def _start_tls(context: ssl.SSLContext, server_hostname: str) -> TlsPipe:
    """Raises `ConfigurationError`."""
    try:
        return TlsPipe(context, server_side=False, server_hostname=server_hostname)
    except (TypeError, ValueError, ssl.SSLError) as error:
        raise ConfigurationError("server_hostname", f"{server_hostname!r}: {error}") from error


@functools.cache
def default_context() -> ssl.SSLContext:
    """Verifies the server against the system's certificate authorities."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _with_times(options: Options) -> Limits:
    """Raises `ConfigurationError`."""
    names = ("ping_interval_s", "ping_timeout_s", "close_timeout_s")
    times = {name: value for name in names if (value := getattr(options, name)) is not None}
    return dataclasses.replace(options.limits, **times)
