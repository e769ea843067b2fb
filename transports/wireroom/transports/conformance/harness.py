"""What the suite has to be told of an adapter: how it runs an app, and what it leaves out."""

from __future__ import annotations

import dataclasses
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Protocol, TypeAlias, TypeVar, final

from wireroom.core import App, Hub

from ..drain import ShutdownReport

T = TypeVar("T")

Address: TypeAlias = tuple[Any, ...] | str
"""Where to connect: host and port (IPv6 has more), or the path of a Unix socket."""


@final
class Feature(Enum):
    """What an adapter may leave to a host, or not have. All else every adapter has to do."""

    HEADS = "HTTP heads: their limits and deadlines, pipelining"
    HTTP = "plain HTTP routes beside the WebSockets"
    REJECTION = "refusals with status, headers and body of the application's own"
    EARLY_FRAMES = "frames that a peer sends before its handshake is answered"
    FRAMES = "frames: violations of RFC 6455 are seen, and answered, by the hub"
    MESSAGE_LIMIT = "messages beyond `message_bytes_max` are closed with 1009"
    PINGS = "keepalive by `ping_interval_s` and `ping_timeout_s`"
    HALF_CLOSE = "a peer that ends its side is answered still"
    CLOSE_CODES = "the code of a peer's Close is told"
    CLOSE_ORDER = "a peer's Close is answered after the messages before it"
    CLOSING = "a peer that does not answer a Close is aborted at `close_timeout_s`"
    ABORTS = "an abort ends the stream, whatever the peer has not read"
    STALLS = "a peer that reads nothing is aborted at `stall_timeout_s`"
    CAPACITY = "beyond `connections_max` peers get 503"
    SHUTDOWN = "`grace_s`, `spread_s`, `close_code`, and a report of the end"
    BLOCKING = "handlers marked as blocking run in threads, and hold up nobody"
    COMPLETIONS = "`Hub.completion`: results of other threads come in as inputs"
    TLS = "wss, with the client's certificate in `Request.client_certificate`"
    UNIX = "Unix sockets"
    ADOPTION = "sockets that another server has accepted"


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """How a server is to be run, apart from its app. Without `unix` it listens on a free port."""

    tls: ssl.SSLContext | None = None
    unix: str | os.PathLike[str] | None = None
    grace_s: float = 5.0
    spread_s: float = 0.0
    close_code: int = 1001


class Harness(Protocol):
    """Runs one server over an adapter, in a thread or process of its own, for one test.

    All methods are called in the thread of the test, and have to give up after some seconds.
    """

    @property
    def lacks(self) -> Mapping[Feature, str]:
        """What is left out, and why: tests of that are skipped, with this reason."""

    def start(self, app: App, options: Options) -> Address:
        """Serve until `stop`; gives where to connect to. Called at most once."""

    def call(self, function: Callable[[Hub], T]) -> T:
        """Call `function(hub)` as an input of the running server's hub; what it raises is raised
        here. It is the adapter's way for other threads to act."""

    def adopt(self, sock: socket.socket, received: bytes) -> None:
        """Serve a connected socket from which `received` was read already (`Feature.ADOPTION`)."""

    def stop(self) -> ShutdownReport:
        """Shut down in order, and give the report; nothing of the server is left after it."""
