"""The anyio transport: sockets and tasks of asyncio or trio, whichever runs.

    async with Server(app, "127.0.0.1", 0) as server:   # inside a program that already runs
        print(server.addresses)
    addresses = await task_group.start(serve, app)      # in a task group, or in a trio nursery
    run(app, "127.0.0.1", 8301, backend="trio")         # until SIGINT or SIGTERM

A task a connection reads. What the hub has for it is written at once; only what the socket does not
take gets a task of its own, until it has.
"""

from __future__ import annotations

import logging
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Final, Literal, Self, Unpack, final

import anyio
from anyio.abc import TaskGroup, TaskStatus

from wireroom.backplanes.link import Backplane
from wireroom.core import App, IdsExhaustedError
from wireroom.core.wire.request import Address

from .drain import ShutdownReport
from .listening import (
    AcceptPressure,
    SocketOptions,
    accept_all,
    close_listeners,
    format_address,
    open_listeners,
)
from .sockets import check_adoptable, peer_of, set_no_delay
from .tasks import TaskDrain
from .tls import TlsPipe

logger: Final = logging.getLogger("wireroom.anyio")

_READ_BYTES: Final = 64 * 1024  # read at most at once
_REFUSAL_LINGER_S: Final = 1.0  # for a refused peer to ask, and to read its 503


@final
class _Connection:
    """One socket, what it has not taken yet, and whether it is read from."""

    __slots__ = (
        "_ending",
        "_may_read",
        "_server",
        "_sock",
        "_tls",
        "_unsent",
        "fd",
        "scope",
    )

    def __init__(self, server: Server, sock: socket.socket, tls: TlsPipe | None) -> None:
        self.fd = 0  # none
        self.scope = anyio.CancelScope()  # of the reading
        self._server = server
        self._sock = sock
        self._tls = tls
        self._unsent = memoryview(b"")
        self._may_read: anyio.Event | None = None  # set while reading is paused
        self._ending: Literal["", "shutdown", "close"] = ""  # once everything is sent

    # -- reading ------------------------------------------------------------------------------

    async def read(self, received: bytes) -> None:
        """Give the hub what the peer sends, until it ends or the hub ends it."""
        server = self._server
        hub = server.hub
        sock = self._sock
        data = received
        while True:
            if data:
                hub.receive_data(self.fd, data, now=server.time())
                server.drain()
            if self._may_read is not None:
                await self._may_read.wait()
            await anyio.wait_readable(sock)
            if self._may_read is not None:
                continue
            try:
                data = sock.recv(_READ_BYTES)
                ended = not data
                if self._tls is not None and data:
                    data = self._tls.receive_data(data)
                    ended = self._tls.received_eof
                    self.write()  # what TLS itself has to say
            except (BlockingIOError, InterruptedError):
                data = b""
                continue
            except OSError:  # a reset, or TLS that is none
                return
            if ended:
                if data:
                    hub.receive_data(self.fd, data, now=server.time())
                hub.receive_eof(self.fd, now=server.time())
                server.drain()
                await anyio.sleep_forever()  # the hub says when to close

    async def shake_hands(self) -> bytes:
        """TLS's handshake; gives what came after it. Raises `OSError` if it fails."""
        tls = self._tls
        assert tls is not None
        data = b""
        while not tls.handshake_done:
            await anyio.wait_readable(self._sock)
            received = self._sock.recv(_READ_BYTES)
            if not received:
                raise ConnectionResetError("the peer left during the TLS handshake")
            data += tls.receive_data(received)
            self.send(tls.data_to_send())
        return data

    def pause_reading(self) -> None:
        if self._may_read is None:
            self._may_read = anyio.Event()

    def resume_reading(self) -> None:
        if self._may_read is not None:
            self._may_read.set()
            self._may_read = None

    # -- writing ------------------------------------------------------------------------------

    @property
    def accepts(self) -> bool:
        """Whether the socket takes bytes."""
        return not self._unsent

    def write(self) -> None:
        """Take what the hub has for this connection, if the socket accepts it, and write it."""
        if self._unsent:
            return
        buffers = self._server.hub.data_to_send(self.fd)
        if self._tls is not None:
            self._tls.send(buffers)
            self.send(self._tls.data_to_send())
        elif buffers:
            self.send(buffers[0] if len(buffers) == 1 else b"".join(buffers))

    def send(self, data: bytes) -> None:
        """Send now what the socket takes, and leave the rest to a task."""
        if self._unsent:
            self._unsent = memoryview(bytes(self._unsent) + data)
            return
        sent = self._try_to_send(memoryview(data))
        if sent < len(data):
            self._unsent = memoryview(data)[sent:]
            self._server.full.add(self)
            self.report_unsent()
            self._server.spawn(self._send_rest)

    def _try_to_send(self, data: memoryview) -> int:
        try:
            return self._sock.send(data) if data else 0
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self.scope.cancel()
            return len(data)

    async def _send_rest(self) -> None:
        server = self._server
        with suppress(OSError, anyio.ClosedResourceError):
            while self._unsent and self._sock.fileno() >= 0:
                await anyio.wait_writable(self._sock)
                self._unsent = self._unsent[self._try_to_send(self._unsent) :]
        server.full.discard(self)
        if self.fd in server.connections and not self.scope.cancel_called:
            self.report_unsent()
            self.write()
            self._end_if_sent()
            server.drain()

    def send_last(self, data: bytes) -> None:
        """Send a response, which is short, and nothing after it."""
        self._ending = "shutdown"
        if self._tls is not None:
            self._tls.send([data])
            data = self._tls.data_to_send()
        self._try_to_send(memoryview(data))
        self._end_if_sent()

    def report_unsent(self) -> None:
        """Say how much the socket has not taken."""
        if self.fd:
            self._server.hub.bytes_unsent(self.fd, len(self._unsent), now=self._server.time())

    # -- ending -------------------------------------------------------------------------------

    def shutdown_write(self) -> None:
        self._ending = self._ending or "shutdown"
        self._end_if_sent()

    def disconnect(self, *, abort: bool) -> None:
        if abort:
            self._unsent = memoryview(b"")
            self.scope.cancel()
        else:
            self._ending = "close"
            self._end_if_sent()

    def _end_if_sent(self) -> None:
        if self._unsent or not self._ending:
            return
        if self._tls is not None:
            self._tls.close_notify()
            self._try_to_send(memoryview(self._tls.data_to_send()))
        if self._ending == "close":
            self.scope.cancel()
        else:
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)


@final
class Server(TaskDrain[_Connection]):
    """An app on listening sockets, in a running loop; an async context manager.

    Where it listens (`host`, `port`, `unix` …) is told as `listening.ListenOptions` says, with TLS
    if `ssl` is given; with `port=None` nowhere, for sockets that are adopted. On leaving, sessions
    are closed with `close_code` (1001 or 1012), spread over `spread_s` seconds, and then have
    `grace_s` seconds; when it is cancelled, they are told, and it ends at once.
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
        **listen: Unpack[SocketOptions],
    ) -> None:
        super().__init__(
            app,
            logger,
            grace_s=grace_s,
            spread_s=spread_s,
            close_code=close_code,
            secure=ssl is not None,
            backplane=backplane,
        )
        self.full: set[_Connection] = set()  # those whose sockets take no bytes for now
        self.tls_failures = 0  # TLS handshakes that failed, or were not done in time
        self._host = host
        self._port = port
        self._listen = listen
        self._ssl = ssl
        self._listeners: list[socket.socket] = []
        self._pressure = AcceptPressure(logger)
        self._accepting: list[anyio.CancelScope] = []  # one a listener
        self._group: TaskGroup

    # -- life ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.begin()
        self._listeners = open_listeners(host=self._host, port=self._port, **self._listen)
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self.run_clock)
        self._group.start_soon(self.run_backplane)
        for listener in self._listeners:
            self._accepting.append(scope := anyio.CancelScope())
            self._group.start_soon(self._accept, listener, scope)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if exc_type is None:
                await self.close()
            else:
                self._stop_listening()
                self.begin_shutdown()
                self.drain()
        finally:
            self._stop_listening()
            self._group.cancel_scope.cancel()
            # Without the exception, which would come out of the group as one of a group.
            await self._group.__aexit__(None, None, None)

    @property
    def addresses(self) -> Sequence[Any]:
        """Where it listens, as `socket.getsockname()` gives it."""
        return [each.getsockname() for each in self._listeners]

    async def close(self) -> ShutdownReport:
        """Close every session, wait for them and their handlers, and abort the rest."""
        if self._report is None:
            self._stop_listening()
            await self.end()
            self._report = self.report()
        return self._report

    def _stop_listening(self) -> None:
        for scope in self._accepting:
            scope.cancel()
        for listener in self._listeners:
            anyio.notify_closing(listener)
        close_listeners(self._listeners)
        self._listeners = []

    def spawn(self, coroutine: Callable[..., Coroutine[Any, Any, object]], *arguments: Any) -> None:
        self._group.start_soon(coroutine, *arguments)

    def before_timeout(self) -> None:
        for connection in self.full:
            connection.report_unsent()

    # -- connections --------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket, scope: anyio.CancelScope) -> None:
        with scope, suppress(anyio.ClosedResourceError):
            while listener.fileno() >= 0:  # it may be closed whenever this is about to go on
                await anyio.wait_readable(listener)
                if listener.fileno() < 0:
                    return
                accepted = accept_all(listener)
                for sock, address in accepted.connections:
                    self.spawn(self._serve, sock, address, self._ssl, b"")
                if accepted.exhausted is not None:
                    await anyio.sleep(self._pressure.exhausted(accepted.exhausted, now=self.time()))

    async def adopt(
        self,
        sock: socket.socket,
        received: bytes = b"",
        *,
        ssl: ssl.SSLContext | None = None,
    ) -> None:
        """Serve a connected socket that another server has accepted, and may have `received` bytes
        from: the head of a request (`request_head`) and what came after it. The socket is ours from
        now on: nobody else reads, writes or closes it. With `ssl`, TLS has not begun on it.

        Raises `LocalProtocolError` before the start, and for bytes received with `ssl`.
        """
        check_adoptable(received, ssl)
        self.time()  # which raises before the start
        sock.setblocking(False)
        self.spawn(self._serve, sock, peer_of(sock), ssl, received)

    async def _serve(
        self,
        sock: socket.socket,
        address: Address,
        context: ssl.SSLContext | None,
        received: bytes,
    ) -> None:
        """One connection, from its socket to the end of it."""
        tls = None if context is None else TlsPipe(context, server_side=True)
        connection = _Connection(self, sock, tls)
        try:
            set_no_delay(sock)
            with connection.scope:
                if tls is not None:
                    try:
                        with anyio.fail_after(self.hub.limits.head_timeout_s):
                            received = await connection.shake_hands()
                    except (OSError, TimeoutError) as error:
                        self.tls_failures += 1
                        logger.info("TLS handshake with %s failed: %s", address, error)
                        return
                try:
                    connection.fd = self.hub.connect(
                        address,
                        now=self.time(),
                        secure=tls is not None,
                        client_certificate=None if tls is None else tls.peer_certificate,
                    )
                except IdsExhaustedError as error:
                    logger.warning("connection refused: %s", error)
                    await self._refuse(connection, sock, error.response, asked=bool(received))
                    return
                self.connections[connection.fd] = connection
                self.drain()  # a deadline for its first byte has to be armed
                await connection.read(received)
        finally:
            anyio.notify_closing(sock)
            sock.close()
            if connection.fd:
                self.full.discard(connection)
                del self.connections[connection.fd]
                self.hub.connection_lost(connection.fd, now=self.time())
                self.drain()
                self.check_quiet()

    async def _refuse(
        self, connection: _Connection, sock: socket.socket, response: bytes, *, asked: bool
    ) -> None:
        """Answer when the peer has asked; it has until the linger time to read that."""
        with anyio.move_on_after(_REFUSAL_LINGER_S), suppress(OSError):
            if not asked:
                await anyio.wait_readable(sock)
                sock.recv(_READ_BYTES)
            connection.send_last(response)
            await anyio.wait_readable(sock)
            while sock.recv(_READ_BYTES):
                await anyio.wait_readable(sock)


async def serve(
    app: App,
    host: str | None = "127.0.0.1",
    port: int = 8301,
    *,
    ssl: ssl.SSLContext | None = None,
    grace_s: float = 5.0,
    spread_s: float = 0.0,
    close_code: int = 1001,
    backplane: Backplane | None = None,
    handle_signals: bool = False,
    on_ready: Callable[[Server], object] | None = None,
    task_status: TaskStatus[Sequence[Any]] = anyio.TASK_STATUS_IGNORED,
    **listen: Unpack[SocketOptions],
) -> ShutdownReport:
    """Serve until `Server.stop`, a signal (with `handle_signals`), or cancellation.

    `await task_group.start(serve, app)` gives the addresses that it listens on; `on_ready` gets the
    server itself. A second signal ends it at once. For the rest see `Server`.
    """
    server = Server(
        app,
        host,
        port,
        ssl=ssl,
        grace_s=grace_s,
        spread_s=spread_s,
        close_code=close_code,
        backplane=backplane,
        **listen,
    )
    with ExitStack() as stack:
        # From now on: who is told that it is ready may send one at once.
        signals = (
            stack.enter_context(anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM))
            if handle_signals
            else None
        )
        async with server:
            logger.info("listening on %s", ", ".join(map(format_address, server.addresses)))
            if signals is not None:
                server.spawn(_stop_at, signals, server)
            task_status.started(server.addresses)
            if on_ready is not None:
                on_ready(server)
            await server.serve_forever()
            logger.info("stopping: %d connections", len(server.connections))
            return await server.close()


async def _stop_at(signals: AsyncIterator[signal.Signals], server: Server) -> None:
    async for _ in signals:
        server.stop()


def run(
    app: App,
    host: str | None = "127.0.0.1",
    port: int = 8301,
    *,
    backend: Literal["asyncio", "trio"] = "asyncio",
    **options: Any,
) -> ShutdownReport:
    """`serve` in a loop of its own, until SIGINT or SIGTERM."""

    async def main() -> ShutdownReport:
        return await serve(app, host, port, handle_signals=True, **options)

    return anyio.run(main, backend=backend)
