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
import concurrent.futures
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack, cast, final

from wireroom.backplanes.link import Backplane
from wireroom.core import (
    App,
    ConfigurationError,
    Hub,
    IdsExhaustedError,
    Invocation,
    LocalProtocolError,
    Wait,
)
from wireroom.core.backplane import BackplaneInput

from .drain import FLUSH_S, ShutdownReport
from .listening import (
    BACKLOG,
    SocketOptions,
    close_listeners,
    format_address,
    open_listeners,
    peer_address,
)
from .loops import Drive, LoopDrain
from .sockets import check_adoptable, set_no_delay

T = TypeVar("T")

logger: Final = logging.getLogger("wireroom.asyncio")

_READ_BYTES: Final = 256 * 1024  # read at most at once
_REFUSAL_LINGER_S: Final = 1.0  # for a refused peer to ask, and to read its 503


@final
class _Connection(asyncio.BufferedProtocol):
    """One socket: asyncio's callbacks become inputs of the hub, and its outputs are carried out.

    All connections of a server are read into one buffer, since the hub has taken what it needs
    when `buffer_updated` returns. A `Protocol` would cost an allocation of 256 KiB a read.
    """

    __slots__ = ("_received", "_refusal", "_secure", "_server", "accepts", "fd", "transport")

    def __init__(self, server: Server, received: bytes = b"") -> None:
        self._server = server
        self._received = received  # by who had the socket before
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
        sock = transport.get_extra_info("socket")
        if sock is not None:  # asyncio does this only for sockets that it has made itself
            set_no_delay(sock)
        server = self._server
        server.handshakes.pop(self, None)
        server.sockets.add(self)
        try:
            self.fd = server.hub.connect(
                peer_address(transport.get_extra_info("peername")),
                now=server.time(),
                secure=self._secure,
                client_certificate=transport.get_extra_info("peercert"),
            )
        except IdsExhaustedError as error:
            logger.warning("connection refused: %s", error)
            self._refusal = error.response
            server.loop.call_later(_REFUSAL_LINGER_S, transport.close)
            if self._received:
                self._refuse()
            return
        server.remember(self)
        if self._received:
            server.hub.receive_data(self.fd, self._received, now=server.now)
            self._received = b""

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
        """Take what the hub has for this connection, if the socket accepts it, and write it."""
        if not self.accepts:
            return
        buffers = self._server.hub.data_to_send(self.fd)
        if buffers:
            self.transport.write(buffers[0] if len(buffers) == 1 else b"".join(buffers))

    def pause_reading(self) -> None:
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        self.transport.resume_reading()

    def shutdown_write(self) -> None:
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def disconnect(self, *, abort: bool) -> None:
        if abort:
            self.transport.abort()
        else:
            self.transport.close()


@final
class Server(LoopDrain[_Connection]):
    """An app on listening sockets, in a running loop; an async context manager.

    Where it listens (`host`, `port`, `unix` …) is told as `listening.ListenOptions` says, with TLS
    if `ssl` is given; with `port=None` nowhere, for sockets that are adopted. On leaving, sessions
    are closed with `close_code` (1001 or 1012), spread over `spread_s` seconds, and then have
    `grace_s` seconds.
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
            wake=self._woken,
            foreign_wait=self._foreign_wait,
            grace_s=grace_s,
            spread_s=spread_s,
            close_code=close_code,
            secure=ssl is not None,
            current_task=asyncio.current_task,
            backplane=backplane,
        )
        self._backplane_task: asyncio.Task[None] | None = None
        app.check_loop("asyncio")
        self.sockets: set[_Connection] = set()  # all connections, and the refused
        self.full: set[_Connection] = set()  # those whose sockets take no bytes for now
        self.handshakes: dict[_Connection, float] = {}  # TLS's, by when they began
        self._tls_failures = 0
        self.now = 0.0  # of the loop turn's first input, which is good enough for the others
        self.buffer = memoryview(bytearray(_READ_BYTES))
        self._host = host
        self._port = port
        self._listen = listen
        self._ssl = ssl
        self._listeners: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._tasks: dict[Invocation, asyncio.Task[None]] = {}
        self._parked: dict[Invocation, asyncio.Future[None]] = {}
        self.drain_scheduled = False
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0  # uvloop's own handles do not all tell
        self._started = False
        self._report: ShutdownReport | None = None
        self._quiet = asyncio.Event()  # set while there is no connection and no handler
        self._quiet.set()
        self._stop = asyncio.Event()
        self._stopped_now = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop

    # -- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. Raises `ConfigurationError` if the address cannot be used, and
        `LocalProtocolError` if it was started before."""
        if self._started:
            raise LocalProtocolError("a Server is started once; make another")
        self._started = True
        self.loop = asyncio.get_running_loop()
        self.begin()
        self.schedule_drain()  # periodic handlers need a timer, connections or not
        if self.backplane is not None and self.link is not None:
            self._backplane_task = self.loop.create_task(self.backplane.run(self.link))
        self._listeners = open_listeners(host=self._host, port=self._port, **self._listen)
        timeout = None if self._ssl is None else self.hub.limits.head_timeout_s
        for listener in self._listeners:
            server = await self.loop.create_server(
                self._new_connection,
                sock=listener,
                ssl=self._ssl,
                ssl_handshake_timeout=timeout,
                backlog=self._listen.get("backlog", BACKLOG),
            )
            self._servers.append(server)

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
        return [each.getsockname() for each in self._listeners]

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
        if not self._started:
            raise LocalProtocolError("start the server first")
        sock.setblocking(False)
        await self.loop.connect_accepted_socket(
            lambda: _Connection(self, received),
            sock,
            ssl=ssl,
            ssl_handshake_timeout=None if ssl is None else self.hub.limits.head_timeout_s,
        )

    async def call(self, function: Callable[[Hub], T]) -> T:
        """Call `function(hub)` as an input of the hub, from any task of any loop, and give what it
        gives; what it sends is sent at once. From another thread, see `call_from_thread`."""
        if asyncio.get_running_loop() is not self.loop:
            return await asyncio.wrap_future(self.call_from_thread(function))
        self.schedule_drain()
        self.hub.woken(now=self.now)
        return function(self.hub)

    def call_from_thread(self, function: Callable[[Hub], T]) -> concurrent.futures.Future[T]:
        """Have `function(hub)` called in the server's loop, from any thread. Raises RuntimeError if
        the loop has ended."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self.loop.call_soon_threadsafe(self._answer, function, future)
        return future

    def _answer(self, function: Callable[[Hub], T], future: concurrent.futures.Future[T]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        self.schedule_drain()
        self.hub.woken(now=self.now)
        try:
            future.set_result(function(self.hub))
        except BaseException as error:
            future.set_exception(error)

    def post(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended, and the hub with it
            self.loop.call_soon_threadsafe(self._take_posted, call)

    def deliver(self, events: Sequence[BackplaneInput]) -> None:
        self.schedule_drain()
        for event in events:
            self.hub.deliver(event, now=self.now)

    def _take_posted(self, call: Callable[[], None]) -> None:
        self.schedule_drain()
        self.hub.woken(now=self.now)
        call()

    def stop(self) -> None:
        """Make `serve_forever` return; said twice, end now, without waiting for anybody."""
        if self._stop.is_set():
            self._stopped_now.set()
        self._stop.set()

    async def serve_forever(self) -> None:
        """Wait until `stop` is called, or this is cancelled."""
        await self._stop.wait()

    async def close(self) -> ShutdownReport:
        """Close every session, wait for them and their handlers, and abort the rest."""
        if self._report is None:
            self._report = await self._close()
        return self._report

    async def _close(self) -> ShutdownReport:
        if self.linger_s > 0 and self._started:
            await self._linger()
        await self._stop_accepting()
        for server in self._servers:
            server.close()
        close_listeners(self._listeners)
        self._listeners = []
        if not self._started:
            return self.report()
        self.begin_shutdown()
        self.drain()
        if not await self._wait_quiet(self.spread_s + self.grace_s):
            self.abort_rest()
            await self._wait_quiet(1.0)
        for connection in list(self.sockets):  # refused ones that linger
            connection.transport.abort()
        self.drain()
        if self._backplane_task is not None and self.link is not None:
            await self.link.flush(lambda: self.is_said, FLUSH_S)
            self._backplane_task.cancel()
            await asyncio.wait([self._backplane_task])
        if self._timer is not None:
            self._timer.cancel()
        self.drain()
        return self.report()

    async def _stop_accepting(self) -> None:
        """Accept nobody more, and have everybody who was accepted."""
        if isinstance(self.loop, asyncio.SelectorEventLoop):
            # Closed at once, asyncio's server would lose whom it has accepted in this turn of the
            # loop: a task makes the transport in the next, and the protocol has it after that.
            for listener in self._listeners:
                self.loop.remove_reader(listener)
            for _ in range(3):
                await asyncio.sleep(0)
        else:
            for server in self._servers:
                server.close()

    async def _linger(self) -> None:
        """Serve on for a while, but nobody new."""
        await self._stop_accepting()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.linger_s):
                await self._stopped_now.wait()

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

    def _new_connection(self) -> _Connection:
        connection = _Connection(self)
        if self._ssl is not None:
            self._count_tls_failures()
            self.handshakes[connection] = self.time()
        return connection

    @property
    def tls_failures(self) -> int:
        """TLS handshakes that failed, or were not done in time. asyncio tells nobody, so each is
        counted when its time is up."""
        self._count_tls_failures()
        return self._tls_failures

    def _count_tls_failures(self) -> None:
        until = self.time() - self.hub.limits.head_timeout_s
        while self.handshakes:
            connection, begun = next(iter(self.handshakes.items()))
            if begun > until:
                break
            del self.handshakes[connection]
            self._tls_failures += 1

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
        self.check_quiet()
        self.schedule_drain()

    def check_quiet(self) -> None:
        if self.is_quiet:
            self._quiet.set()

    # -- draining the hub ---------------------------------------------------------------------

    def time(self) -> float:
        return self.loop.time()

    def _woken(self) -> None:
        """Application code acts between two inputs of ours."""
        self.schedule_drain()
        self.hub.woken(now=self.now)

    def schedule_drain(self) -> None:
        """Drain at the end of this loop turn."""
        if not self.drain_scheduled:
            self.drain_scheduled = True
            self.now = self.loop.time()
            self.loop.call_soon(self._drain_once)

    def stepped(self) -> None:
        self.schedule_drain()

    def _drain_once(self) -> None:
        self.drain_scheduled = False
        self.drain()

    def arm(self, when: float | None) -> None:
        """One timer; one that is early costs a look, so it is moved only to be earlier."""
        if when is None:
            return
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer = self.loop.call_at(when, self._timed_out)
        self._timer_at = when

    def _timed_out(self) -> None:
        self._timer = None
        for connection in self.full:
            connection.report_unsent()
        self.hub.handle_timeout(now=self.time())
        self.schedule_drain()

    # -- handlers -----------------------------------------------------------------------------

    def start_handler(self, invocation: Invocation) -> None:
        self._quiet.clear()
        super().start_handler(invocation)

    def start_task(self, invocation: Invocation) -> None:
        task = self.loop.create_task(self._drive(invocation), name=invocation.name)
        self._tasks[invocation] = task

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.pop(invocation, None)
            self.ended(invocation)
            self.check_quiet()
            if not task.cancelled() and (error := task.exception()) is not None:
                logger.error("the task of %r failed", invocation, exc_info=error)

        task.add_done_callback(ended)

    async def _drive(self, invocation: Invocation) -> None:
        await Drive(self, invocation)

    def cancel_handler(self, invocation: Invocation) -> None:
        task = self._tasks.get(invocation)
        if task is not None:
            task.cancel()

    def cancelled(self, invocation: Invocation, error: BaseException) -> None:
        task = self._tasks.get(invocation)
        self.interrupted(invocation, error, wanted=task is None or bool(task.cancelling()))

    def park(self, invocation: Invocation) -> Generator[Any, Any, None]:
        future = self._parked[invocation] = self.loop.create_future()
        try:
            yield from future
        finally:
            del self._parked[invocation]

    def resume_handler(self, invocation: Invocation) -> None:
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
    ssl: ssl.SSLContext | None = None,
    grace_s: float = 5.0,
    spread_s: float = 0.0,
    close_code: int = 1001,
    backplane: Backplane | None = None,
    handle_signals: bool = True,
    on_ready: Callable[[Server], object] | None = None,
    **listen: Unpack[SocketOptions],
) -> ShutdownReport:
    """Serve until SIGINT or SIGTERM (or cancellation): then a Close for every session, and at most
    `grace_s` seconds. A second signal ends it at once. `on_ready` is called when it listens.

    For the other parameters and what is raised, see `Server`.
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
    async with server:
        logger.info("listening on %s", ", ".join(map(format_address, server.addresses)))
        remove = _handle_signals(server) if handle_signals else None
        try:
            if on_ready is not None:
                on_ready(server)
            await server.serve_forever()
            logger.info("stopping: %d connections", len(server.connections))
            return await server.close()
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
) -> ShutdownReport:
    """`serve` in a loop of its own, uvloop's if asked for (`pip install wireroom[uvloop]`)."""
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if uvloop:
        try:
            from uvloop import new_event_loop
        except ImportError as error:
            raise ConfigurationError("uvloop", "is not installed: wireroom[uvloop]") from error
        loop_factory = new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(serve(app, host, port, **options))


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
