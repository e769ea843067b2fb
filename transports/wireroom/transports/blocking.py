"""The blocking transport: sockets and threads, without an event loop.

    serve(app, "127.0.0.1", 8301)                      # until SIGINT or SIGTERM
    with Server(app, "127.0.0.1", 0) as server:        # inside a program that already runs
        print(server.addresses)
        server.call(lambda hub: hub.user("ann").send("hello"))

A thread a connection reads, and one lock is around the hub (`thread_drain.py`). Sockets are written
by whoever has something to write and as far as they take it at once; the rest gets a thread of its
own (`socket_threads.py`).
"""

from __future__ import annotations

import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import FrameType, TracebackType
from typing import Any, Final, Self, TypeVar, Unpack, final

from wireroom.backplanes.link import Backplane
from wireroom.core import App, ConfigurationError, Hub, LocalProtocolError
from wireroom.core.wire.request import Address

from .accept_thread import AcceptThread
from .drain import ShutdownReport
from .listening import SocketOptions
from .servers import Listeners, ServerOptions
from .socket_threads import Connection
from .sockets import check_adoptable, peer_of
from .thread_drain import HandlerCancelled, ThreadDrain

__all__ = ["CONNECTIONS_MAX", "STACK_BYTES", "HandlerCancelled", "Server", "serve"]

T = TypeVar("T")

logger: Final = logging.getLogger("wireroom.blocking")

# Of address space: only what is used becomes memory, some 8 KiB. It is what Python counts on: with
# less than 4 MiB on 3.13 (512 KiB on 3.11) deeply nested JSON from a peer ends the process.
STACK_BYTES: Final = 8 * 1024 * 1024
CONNECTIONS_MAX: Final = 10_000

_REFUSED_MAX: Final = 64  # connections that are told at one time that the server is full


@final
class Server(ThreadDrain):
    """An app on listening sockets, in threads; a context manager.

    Where it listens (`host`, `port`, `unix` …) is told as `listening.ListenOptions` says, with TLS
    if `ssl` is given; with `port=None` nowhere, for sockets that are adopted. On leaving, sessions
    are closed with `close_code` (1001 or 1012), spread over `spread_s` seconds, and then have
    `grace_s` seconds. At most `connections_max` connections are
    served, and no more than `Limits.connections_max`; others get 503. `stack_bytes` is what the
    stack of a thread may grow to (0: the system's default); see `STACK_BYTES`.
    Raises `ConfigurationError` for an app or an address that cannot work.
    """

    def __init__(
        self,
        app: App,
        host: str | None = "127.0.0.1",
        port: int | None = 8301,
        *,
        ssl: ssl.SSLContext | None = None,
        grace_s: float = 5.0,
        spread_s: float = 0.0,
        close_code: int = 1001,
        backplane: Backplane | None = None,
        connections_max: int = CONNECTIONS_MAX,
        stack_bytes: int = STACK_BYTES,
        **listen: Unpack[SocketOptions],
    ) -> None:
        super().__init__(
            app,
            logger,
            stack_bytes=stack_bytes,
            secure=ssl is not None,
            grace_s=grace_s,
            spread_s=spread_s,
            close_code=close_code,
            backplane=backplane,
        )
        if connections_max < 1:
            raise ConfigurationError("connections_max", f"must be positive, not {connections_max}")
        if not hasattr(socket, "MSG_DONTWAIT"):
            raise ConfigurationError("transport", "this system needs another one: use asyncio")
        limits = self.hub.limits
        self.connections_max = min(connections_max, limits.connections_max)
        self.hub.limits = replace(limits, connections_max=self.connections_max)
        self.tls_failures = 0  # TLS handshakes that failed, or were not done in time
        self._ssl = ssl
        self._listeners = Listeners(logger, host=host, port=port, **listen)
        self._accept_thread: AcceptThread | None = None
        self._started = False
        self._closing = threading.Lock()

    # -- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen, and return. Raises `ConfigurationError` if the address cannot be used, and
        `LocalProtocolError` if it was started before."""
        if self._started:
            raise LocalProtocolError("a Server is started once; make another")
        self._started = True
        self._listeners.open()
        self.begin()
        self._accept_thread = AcceptThread(self._listeners, self._accepted)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    @property
    def addresses(self) -> Sequence[Any]:
        """Where it listens, as `socket.getsockname()` gives it."""
        return self._listeners.addresses

    def call(self, function: Callable[[Hub], T]) -> T:
        """Call `function(hub)` as an input of the hub, from any thread, and give what it gives;
        what it sends is sent when this returns, as far as the sockets take it."""
        return self.act(lambda: function(self.hub))

    def adopt(
        self,
        sock: socket.socket,
        received: bytes = b"",
        *,
        ssl: ssl.SSLContext | None = None,
    ) -> None:
        """Serve a connected socket that another server has accepted, and may have `received` bytes
        from: the head of a request (`request_head`) and what came after it. The socket is ours from
        now on: nobody else reads, writes or closes it. With `ssl`, TLS has not begun on it.

        Raises `LocalProtocolError` before the start, and for bytes received with `ssl`, and
        `RuntimeError` if the system has no thread for it: it is closed then.
        """
        check_adoptable(received, ssl)
        if not self._started:
            raise LocalProtocolError("start the server first")
        self._serve(sock, peer_of(sock), ssl, received)

    def shutdown(self) -> ShutdownReport:
        """Close every session, wait for them and their handlers, and abort the rest.

        It may be called in any thread, but not in a `def` handler: others could not end meanwhile.
        Raises `LocalProtocolError` there.
        """
        self._check_may_wait()
        with self._closing:
            if self._report is None:
                if self._accept_thread is not None:
                    self._accept_thread.end()
                    self._listeners.close()
                    self.end()
                with self.lock:
                    self._report = self.report()
                    self.change()
        return self._report

    # -- connections --------------------------------------------------------------------------

    def _accepted(self, sock: socket.socket, address: Address) -> None:
        self._serve(sock, address, self._ssl, b"")

    def tls_failed(self, address: Address, error: OSError) -> None:
        """A TLS handshake failed, or was not done in time."""
        with self.lock:
            self.tls_failures += 1
        logger.info("TLS handshake with %s failed: %s", address, error)

    def _serve(
        self,
        sock: socket.socket,
        address: Address,
        context: ssl.SSLContext | None,
        received: bytes,
    ) -> None:
        """Serve a connected socket. Raises `RuntimeError` if there is no thread for it."""
        if len(self.sockets) >= self.connections_max + _REFUSED_MAX:
            sock.close()
            return
        connection = Connection(self, sock, address, context, received)
        self.sockets.add(connection)
        try:
            self.threads.run(connection.serve)
        except RuntimeError:
            self.sockets.discard(connection)
            sock.close()
            raise


class BlockingOptions(ServerOptions, total=False):
    """The options of `serve`, which are those of `Server`."""

    connections_max: int
    """By default `CONNECTIONS_MAX`."""
    stack_bytes: int
    """By default `STACK_BYTES`."""


def serve(
    app: App,
    host: str | None = "127.0.0.1",
    port: int | None = 8301,
    *,
    handle_signals: bool = True,
    on_ready: Callable[[Server], object] | None = None,
    **options: Unpack[BlockingOptions],
) -> ShutdownReport:
    """Serve until SIGINT or SIGTERM, or `Server.stop`: then a Close for every session, and at most
    `grace_s` seconds. A second signal ends it at once. `on_ready` is called when it listens.

    Signals are handled in the main thread only. For the other parameters see `Server`.
    """
    with Server(app, host, port, **options) as server:
        logger.info("listening on %s", server._listeners)
        undo = _handle_signals(server) if handle_signals else None
        try:
            if on_ready is not None:
                on_ready(server)
            server.serve_forever()
            logger.info("stopping: %d connections", len(server.connections))
            return server.shutdown()
        finally:
            if undo is not None:
                undo()


def _handle_signals(server: Server) -> Callable[[], None] | None:
    """SIGINT and SIGTERM stop the server; gives what undoes that."""
    if threading.current_thread() is not threading.main_thread():
        return None

    def stop(number: int, frame: FrameType | None) -> None:
        server.stop()

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}

    def undo() -> None:
        for each, handler in before.items():
            signal.signal(each, handler)

    return undo
