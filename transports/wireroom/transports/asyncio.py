"""The asyncio transport: callback protocols around a hub.

    asyncio.run(serve(app, "127.0.0.1", 8301))          # until SIGINT or SIGTERM
    run(app, "127.0.0.1", 8301, uvloop=True)            # the same, with a loop of its own
    async with Server(app, "127.0.0.1", 0) as server:   # inside a program that already runs
        print(server.addresses)

Inputs go to the hub as they come, and each is followed by a drain, once a loop turn, so that each
connection costs one write a turn however many messages it got. Bytes are taken from the hub only
while the socket accepts them. It knows no rule of the protocol.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Final, Self, cast, final

from wireroom.core import (
    FINISHED,
    App,
    Cancel,
    ConfigurationError,
    Disconnect,
    HandlerFailed,
    Hub,
    IdsExhaustedError,
    Invocation,
    Invoke,
    LocalProtocolError,
    Output,
    PauseReading,
    RequestAnswered,
    Resume,
    ResumeReading,
    SessionClosed,
    SessionOpened,
    ShutdownWrite,
    Wait,
)

logger: Final = logging.getLogger("wireroom.asyncio")

_READ_BYTES: Final = 256 * 1024  # read at most at once
_REFUSAL_LINGER_S: Final = 1.0  # for a refused peer to ask, and to read its 503


@final
class _Connection(asyncio.BufferedProtocol):
    """One socket: asyncio's callbacks become inputs of the hub.

    All connections of a server are read into one buffer, since the hub has taken what it needs
    when `buffer_updated` returns. A `Protocol` would cost an allocation of 256 KiB a read.
    """

    __slots__ = ("_refusal", "_secure", "_server", "accepts", "fd", "transport")

    def __init__(self, server: Server) -> None:
        self._server = server
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # until connection_made
        self.fd = 0  # none
        self._secure = False  # whether this is TLS
        self._refusal = b""  # the response for a peer that got no fd
        self.accepts = True  # whether the socket takes bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self.transport = transport
        self._secure = transport.get_extra_info("ssl_object") is not None
        # TCP pauses above `high` bytes, TLS at `high`: with 0, when there is nothing to write.
        transport.set_write_buffer_limits(high=1 if self._secure else 0, low=0)
        _set_no_delay(transport)
        server = self._server
        server.sockets.add(self)
        try:
            self.fd = server.hub.connect(
                _address(transport.get_extra_info("peername")),
                now=server.time(),
                secure=self._secure,
            )
        except IdsExhaustedError as error:
            logger.warning("connection refused: %s", error)
            self._refusal = error.response
            server.loop.call_later(_REFUSAL_LINGER_S, transport.close)
            return
        server.remember(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.fd:
            server = self._server
            if not server.drain_scheduled:
                server.schedule_drain()
            server.hub.receive_data(self.fd, server.buffer[:nbytes].tobytes(), now=server.now)
        elif self._refusal:
            self._refuse()

    def _refuse(self) -> None:
        """Answer, now that the peer has asked; it has until the linger time to read that."""
        self.transport.write(self._refusal)
        self._refusal = b""
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def eof_received(self) -> bool:
        if not self.fd:
            return False
        self._server.hub.receive_eof(self.fd, now=self._server.time())
        self._server.schedule_drain()
        return not self._secure  # the hub says when to close, where the loop lets it

    def pause_writing(self) -> None:
        self.accepts = False
        self._server.full.add(self)
        self.report_unsent()

    def resume_writing(self) -> None:
        self.accepts = True
        self._server.full.discard(self)
        if self.fd:
            server = self._server
            server.hub.bytes_unsent(self.fd, 0, now=server.time())
            self.write()
            server.schedule_drain()

    def connection_lost(self, exc: Exception | None) -> None:
        server = self._server
        if self.fd:
            server.hub.connection_lost(self.fd, now=server.time())
        server.forget(self)

    def report_unsent(self) -> None:
        """Say how much the socket has not taken."""
        if self.fd:
            size = self.transport.get_write_buffer_size()
            self._server.hub.bytes_unsent(self.fd, size, now=self._server.time())
            self._server.schedule_drain()

    def write(self) -> None:
        """Take what the hub has for this connection, and write it at once."""
        buffers = self._server.hub.data_to_send(self.fd)
        if buffers:
            self.transport.write(buffers[0] if len(buffers) == 1 else b"".join(buffers))


@final
class _Drive:
    """Runs one `async` handler in a task: steps it in the hub, and waits as it waits."""

    __slots__ = ("_invocation", "_server")

    def __init__(self, server: Server, invocation: Invocation) -> None:
        self._server = server
        self._invocation = invocation

    def __await__(self) -> Generator[Any, Any, None]:
        server = self._server
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                yielded = server.hub.resume(self._invocation, error, now=server.time(), value=value)
            except asyncio.CancelledError as cancellation:
                server.cancelled(self._invocation, cancellation)
                raise
            server.schedule_drain()
            if yielded is FINISHED:
                return
            value = error = None
            try:
                if isinstance(yielded, Wait):
                    yield from server.park(self._invocation)
                else:
                    value = yield yielded
            except BaseException as raised:  # a cancellation too: the handler has to see it
                error = raised


@final
class Server:
    """An app on a listening socket, in a running loop; an async context manager.

    Listens on `host` and `port` (0: any free one; see `addresses`) or on `sock`, with TLS if
    `ssl` is given. On leaving, sessions are closed with 1001 and have `grace_s` seconds.
    Raises `ConfigurationError` for an app or an address that cannot work.
    """

    def __init__(
        self,
        app: App,
        host: str | None = "127.0.0.1",
        port: int = 8301,
        *,
        sock: socket.socket | None = None,
        ssl: ssl.SSLContext | None = None,
        backlog: int = 1024,
        reuse_port: bool = False,
        grace_s: float = 5.0,
    ) -> None:
        if grace_s < 0:
            raise ConfigurationError("grace_s", f"must not be negative, not {grace_s!r}")
        self.hub = Hub(app, wake=self._woken, foreign_wait=self._foreign_wait)
        self.connections: dict[int, _Connection] = {}  # by fd
        self.sockets: set[_Connection] = set()  # those, and the refused
        self.full: set[_Connection] = set()  # those whose sockets take no bytes for now
        self.now = 0.0  # of the loop turn's first input, which is good enough for the others
        self.buffer = memoryview(bytearray(_READ_BYTES))
        self._host = host
        self._port = port
        self._sock = sock
        self._ssl = ssl
        self._backlog = backlog
        self._reuse_port = reuse_port
        self._grace_s = grace_s
        self._listener: asyncio.Server | None = None
        self._tasks: dict[Invocation, asyncio.Task[None]] = {}
        self._parked: dict[Invocation, asyncio.Future[None]] = {}
        self.drain_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._started = False
        self._quiet = asyncio.Event()  # set while there is no connection and no handler
        self._quiet.set()
        self._stop = asyncio.Event()
        self._stopped_now = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop
        self.time: Callable[[], float]

    # -- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. Raises `ConfigurationError` if the address cannot be used, and
        `LocalProtocolError` if it was started before."""
        if self._started:
            raise LocalProtocolError("a Server is started once; make another")
        self._started = True
        self.loop = asyncio.get_running_loop()
        self.time = self.loop.time
        self.hub.start(now=self.time())
        where: dict[str, Any] = {"sock": self._sock}
        if self._sock is None:
            where = {"host": self._host, "port": self._port}
            where["reuse_port"] = self._reuse_port or None
        if self._ssl is not None:
            where["ssl_handshake_timeout"] = self.hub.limits.head_timeout_s
        try:
            self._listener = await self.loop.create_server(
                lambda: _Connection(self), ssl=self._ssl, backlog=self._backlog, **where
            )
        except (OSError, OverflowError, ValueError) as error:
            raise ConfigurationError(
                "host, port", f"cannot listen on {self._host}:{self._port}: {error}"
            ) from error

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def addresses(self) -> Sequence[Any]:
        """Where it listens, as `socket.getsockname()` gives it."""
        if self._listener is None:
            return ()
        return [each.getsockname() for each in self._listener.sockets]

    def stop(self) -> None:
        """Make `serve_forever` return; said twice, end now, without waiting for anybody."""
        if self._stop.is_set():
            self._stopped_now.set()
        self._stop.set()

    async def serve_forever(self) -> None:
        """Wait until `stop` is called, or this is cancelled."""
        await self._stop.wait()

    async def close(self) -> None:
        """Close every session with 1001, wait at most `grace_s`, and abort the rest."""
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        listener.close()
        self.hub.shutdown(now=self.time())
        self._drain()
        if not await self._wait_quiet(self._grace_s):
            logger.warning(
                "aborting %d connections and %d handlers after %g s",
                len(self.connections),
                len(self._tasks),
                self._grace_s,
            )
            for task in list(self._tasks.values()):
                task.cancel()
            for connection in list(self.connections.values()):
                connection.transport.abort()
            if not await self._wait_quiet(1.0):
                logger.error("handlers that do not end: %s", list(self._tasks))
        for connection in list(self.sockets):  # refused ones that linger
            connection.transport.abort()
        if self._timer is not None:
            self._timer.cancel()
        self._drain()

    async def wait_idle(self) -> None:
        """Wait until there is no connection and no handler."""
        await self._quiet.wait()

    async def _wait_quiet(self, seconds: float) -> bool:
        """Whether all connections and handlers ended in time; False at once after `stop`."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._quiet, self._stopped_now)]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        return self._quiet.is_set()

    def remember(self, connection: _Connection) -> None:
        """`connection` has a socket, and an fd."""
        self.connections[connection.fd] = connection
        self._quiet.clear()
        self.schedule_drain()

    def forget(self, connection: _Connection) -> None:
        """The socket of `connection` is gone."""
        self.sockets.discard(connection)
        self.full.discard(connection)
        self.connections.pop(connection.fd, None)
        self._check_quiet()
        self.schedule_drain()

    def _check_quiet(self) -> None:
        if not self.connections and not self._tasks:
            self._quiet.set()

    # -- draining the hub ---------------------------------------------------------------------

    def _woken(self) -> None:
        """Application code acts between two inputs of ours."""
        self.schedule_drain()
        self.hub.woken(now=self.now)

    def schedule_drain(self) -> None:
        """Drain at the end of this loop turn."""
        if not self.drain_scheduled:
            self.drain_scheduled = True
            self.now = self.time()
            self.loop.call_soon(self._drain)

    def _drain(self) -> None:
        self.drain_scheduled = False
        hub = self.hub
        connections = self.connections
        for fd in hub.fds_to_send():
            connection = connections.get(fd)
            if connection is not None and connection.accepts:
                connection.write()
        while (output := hub.next_output()) is not None:
            self._carry_out(output)
        self._arm()

    def _arm(self) -> None:
        """One timer; one that is early costs a look, so it is moved only to be earlier."""
        when = self.hub.next_timeout()
        if when is None:
            return
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self.loop.call_at(when, self._timed_out)

    def _timed_out(self) -> None:
        self._timer = None
        for connection in self.full:
            connection.report_unsent()
        self.hub.handle_timeout(now=self.time())
        self.schedule_drain()

    def _carry_out(self, output: Output) -> None:
        match output:
            case Resume():
                self._unpark(output.invocation)
            case Invoke():
                self._start(output.invocation)
            case Cancel():
                if (task := self._tasks.get(output.invocation)) is not None:
                    task.cancel()
            case HandlerFailed():
                logger.error(
                    "handler %s failed (fd %d)", output.handler, output.fd, exc_info=output.error
                )
            case SessionOpened():
                logger.debug("fd %d opened %s", output.fd, output.path)
            case SessionClosed():
                logger.debug("fd %d closed: %d %s", output.fd, output.code, output.reason)
            case RequestAnswered():
                logger.debug(
                    "fd %d %s %s: %d", output.fd, output.method, output.target, output.status
                )
            case Disconnect() | ShutdownWrite() | PauseReading() | ResumeReading():
                if (connection := self.connections.get(output.fd)) is not None:
                    self._carry_out_on(connection, output)

    def _carry_out_on(
        self,
        connection: _Connection,
        output: Disconnect | ShutdownWrite | PauseReading | ResumeReading,
    ) -> None:
        transport = connection.transport
        match output:
            case Disconnect():
                logger.debug("fd %d disconnected: %s", output.fd, output.why)
                if output.abort:
                    transport.abort()
                else:
                    transport.close()
            case ShutdownWrite():
                if transport.can_write_eof():
                    transport.write_eof()
                else:
                    transport.close()
            case PauseReading():
                transport.pause_reading()
            case ResumeReading():
                transport.resume_reading()
                self.hub.receive_data(output.fd, b"", now=self.time())

    # -- handlers -----------------------------------------------------------------------------

    def _start(self, invocation: Invocation) -> None:
        task = self.loop.create_task(self._drive(invocation), name=invocation.name)
        self._tasks[invocation] = task
        self._quiet.clear()

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.pop(invocation, None)
            self._check_quiet()
            if not task.cancelled() and (error := task.exception()) is not None:
                logger.error("the task of %r failed", invocation, exc_info=error)

        task.add_done_callback(ended)

    async def _drive(self, invocation: Invocation) -> None:
        await _Drive(self, invocation)

    def cancelled(self, invocation: Invocation, error: asyncio.CancelledError) -> None:
        """A handler has ended with a cancellation; say so, if nobody has asked for it."""
        self.schedule_drain()
        task = self._tasks.get(invocation)
        if task is not None and not task.cancelling():
            logger.error(
                "handler %s ended because something it awaited was cancelled (fd %d)",
                invocation.name,
                invocation.fd,
                exc_info=error,
            )

    def park(self, invocation: Invocation) -> Generator[Any, Any, None]:
        """Wait, in the handler's task, for its `Resume`."""
        future = self._parked[invocation] = self.loop.create_future()
        try:
            yield from future
        finally:
            del self._parked[invocation]

    def _unpark(self, invocation: Invocation) -> None:
        future = self._parked.get(invocation)
        if future is not None and not future.done():
            future.set_result(None)

    def _foreign_wait(self, wait: Wait) -> Generator[Any, Any, None]:
        """For a task of the application's own that awaits something of ours."""
        future: asyncio.Future[None] = self.loop.create_future()

        def happened() -> None:
            if not future.done():
                future.set_result(None)

        wait.add_hook(happened)
        try:
            yield from future
        finally:
            wait.remove_hook(happened)


async def serve(
    app: App,
    host: str | None = "127.0.0.1",
    port: int = 8301,
    *,
    sock: socket.socket | None = None,
    ssl: ssl.SSLContext | None = None,
    backlog: int = 1024,
    reuse_port: bool = False,
    grace_s: float = 5.0,
    handle_signals: bool = True,
    on_ready: Callable[[Server], object] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM (or cancellation): then 1001 for every session, and at most
    `grace_s` seconds. A second signal ends it at once. `on_ready` is called when it listens.

    For the other parameters and what is raised, see `Server`.
    """
    server = Server(
        app,
        host,
        port,
        sock=sock,
        ssl=ssl,
        backlog=backlog,
        reuse_port=reuse_port,
        grace_s=grace_s,
    )
    async with server:
        logger.info("listening on %s", ", ".join(map(str, server.addresses)))
        remove = _handle_signals(server) if handle_signals else None
        try:
            if on_ready is not None:
                on_ready(server)
            await server.serve_forever()
            logger.info("stopping: %d connections", len(server.connections))
            await server.close()
        finally:
            if remove is not None:
                remove()


def run(
    app: App,
    host: str | None = "127.0.0.1",
    port: int = 8301,
    *,
    uvloop: bool = False,
    **options: Any,
) -> None:
    """`serve` in a loop of its own, uvloop's if asked for (`pip install wireroom[uvloop]`)."""
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if uvloop:
        try:
            from uvloop import new_event_loop
        except ImportError as error:
            raise ConfigurationError("uvloop", "is not installed: wireroom[uvloop]") from error
        loop_factory = new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve(app, host, port, **options))


def _handle_signals(server: Server) -> Callable[[], None]:
    """SIGINT and SIGTERM stop the server; gives what undoes that."""
    handled: list[signal.Signals] = []
    for each in (signal.SIGINT, signal.SIGTERM):
        try:
            server.loop.add_signal_handler(each, server.stop)
        except (NotImplementedError, RuntimeError, ValueError):
            continue  # Windows, or not the main thread: a KeyboardInterrupt cancels `serve`
        handled.append(each)

    def remove() -> None:
        for each in handled:
            server.loop.remove_signal_handler(each)

    return remove


def _set_no_delay(transport: asyncio.Transport) -> None:
    """asyncio does this only for sockets that it has made itself."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _address(peername: Any) -> tuple[str, int] | str | None:
    """A peer's address without IPv6's flow and scope."""
    if isinstance(peername, tuple):
        return str(peername[0]), int(peername[1])
    return peername if isinstance(peername, str) else None
