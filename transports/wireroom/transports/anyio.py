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
from contextlib import AbstractContextManager, nullcontext, suppress
from types import TracebackType
from typing import Any, Final, Literal, Self, Unpack, final

import anyio
from anyio.abc import TaskGroup, TaskStatus

from wireroom.backplanes.link import Backplane
from wireroom.core import App
from wireroom.core.wire.request import Address

from .drain import ShutdownReport
from .listening import SocketOptions, accept_all
from .servers import Listeners, ServerOptions
from .socket_tasks import Connection
from .sockets import check_adoptable, peer_of
from .tasks import TaskDrain

logger: Final = logging.getLogger("wireroom.anyio")


@final
class Server(TaskDrain[Connection]):
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
        self.full: set[Connection] = set()  # those whose sockets take no bytes for now
        self.tls_failures = 0  # TLS handshakes that failed, or were not done in time
        self._ssl = ssl
        self._listeners = Listeners(logger, host=host, port=port, **listen)
        self._accepting: list[anyio.CancelScope] = []  # one a listener
        self._group: TaskGroup

    # -- life ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.begin()
        self._listeners.open()
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self.run_clock)
        self._group.start_soon(self.run_backplane)
        for listener in self._listeners.sockets:
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
        return self._listeners.addresses

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
        for listener in self._listeners.sockets:
            anyio.notify_closing(listener)
        self._listeners.close()

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
                    self.spawn(Connection(self, sock, address, self._ssl).serve, b"")
                if (error := accepted.exhausted) is not None:
                    pressure = self._listeners.pressure
                    await anyio.sleep(pressure.exhausted(error, now=self.time()))

    def tls_failed(self, address: Address, error: OSError) -> None:
        """A TLS handshake failed, or was not done in time."""
        self.tls_failures += 1
        logger.info("TLS handshake with %s failed: %s", address, error)

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
        self.spawn(Connection(self, sock, peer_of(sock), ssl).serve, received)


async def serve(
    app: App,
    host: str | None = "127.0.0.1",
    port: int = 8301,
    *,
    handle_signals: bool = False,
    on_ready: Callable[[Server], object] | None = None,
    task_status: TaskStatus[Sequence[Any]] = anyio.TASK_STATUS_IGNORED,
    **options: Unpack[ServerOptions],
) -> ShutdownReport:
    """Serve until `Server.stop`, a signal (with `handle_signals`), or cancellation.

    `await task_group.start(serve, app)` gives the addresses that it listens on; `on_ready` gets the
    server itself. A second signal ends it at once. For the rest see `Server`.
    """
    server = Server(app, host, port, **options)
    receiver: AbstractContextManager[AsyncIterator[signal.Signals] | None] = nullcontext()
    if handle_signals:  # from now on: who is told that it is ready may send one at once
        receiver = anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM)
    with receiver as signals:
        async with server:
            logger.info("listening on %s", server._listeners)
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
    on_ready: Callable[[Server], object] | None = None,
    **options: Unpack[ServerOptions],
) -> ShutdownReport:
    """`serve` in a loop of its own, until SIGINT or SIGTERM."""

    async def main() -> ShutdownReport:
        return await serve(app, host, port, handle_signals=True, on_ready=on_ready, **options)

    return anyio.run(main, backend=backend)
