"""The asyncio transport: callbacks of a loop around a hub.

    asyncio.run(serve(app, "127.0.0.1", 8301))          # until SIGINT or SIGTERM
    run(app, "127.0.0.1", 8301, uvloop=True)            # the same, with a loop of its own
    async with Server(app, "127.0.0.1", 0) as server:   # inside a program that already runs
        print(server.addresses)

Inputs go to the hub as they come, and those of a loop turn are followed by one drain, so that each
connection costs one write a turn however many messages it got. Bytes are taken from the hub only
while the socket accepts them. The sockets are read and written without asyncio's own transports
(`socket_callbacks.py`), by any loop that can watch them: asyncio's selector loops, and uvloop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack, final

from wireroom.backplanes.link import Backplane
from wireroom.core import (
    App,
    ConfigurationError,
    Hub,
    Invocation,
    LocalProtocolError,
    Wait,
)
from wireroom.core.backplane import BackplaneInput
from wireroom.core.wire.request import Address

from .drain import ShutdownReport
from .listening import SocketOptions, accept_all
from .loops import Drive, LoopDrain, settle
from .readiness import LoopTurn, Readiness, new_readiness
from .servers import Listeners, ServerOptions
from .socket_callbacks import Connection
from .sockets import check_adoptable, peer_of

T = TypeVar("T")

logger: Final = logging.getLogger("wireroom.asyncio")

_LAST_ACCEPTS: Final = 64  # of 64 connections each: Linux' bound of a backlog, net.core.somaxconn


@final
class Server(LoopDrain[Connection]):
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
        self.sockets: set[Connection] = set()  # all connections, and the refused
        self.full: set[Connection] = set()  # those whose sockets take no bytes for now
        self.tls_failures = 0  # TLS handshakes that failed, or were not done in time
        self.turn: LoopTurn
        self.readiness: Readiness
        self._ssl = ssl
        self._listeners = Listeners(logger, host=host, port=port, **listen)
        self._tasks: dict[Invocation, asyncio.Task[None]] = {}
        self._parked: dict[Invocation, asyncio.Future[None]] = {}
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0  # uvloop's own handles do not all tell
        self._started = False
        self._is_accepting = False
        self._accepting: dict[socket.socket, int] = {}  # what is accepted from, and its fd
        self._closing = asyncio.Lock()
        self._ended = False
        self.loop: asyncio.AbstractEventLoop

    # -- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. Raises `ConfigurationError` if the address cannot be used, and
        `LocalProtocolError` if it was started before."""
        if self._started:
            raise LocalProtocolError("a Server is started once; make another")
        self._started = True
        self.loop = asyncio.get_running_loop()
        self.turn = LoopTurn(self.loop, self.drain)
        self.readiness = new_readiness(self.loop, self.turn)
        try:
            self._listeners.open()
        except BaseException:
            self.readiness.close()
            raise
        self.begin()
        self.turn.begin()  # periodic handlers need a timer, connections or not
        if self.backplane is not None and self.link is not None:
            self._backplane_task = self.loop.create_task(self.backplane.run(self.link))
        self._is_accepting = True
        for listener in self._listeners.sockets:
            self._accept_from(listener)

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
        return self._listeners.addresses

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

        Raises `LocalProtocolError` before the start, after the end, and for bytes received with
        `ssl`.
        """
        check_adoptable(received, ssl)
        if not self._started:
            raise LocalProtocolError("start the server first")
        if self._ended:
            raise LocalProtocolError("the server has ended")
        sock.setblocking(False)
        self.sockets.add(Connection(self, sock, peer_of(sock), ssl, received))

    async def call(self, function: Callable[[Hub], T]) -> T:
        """Call `function(hub)` as an input of the hub, from any task of any loop, and give what it
        gives; what it sends is sent at once. From another thread, see `call_from_thread`."""
        if asyncio.get_running_loop() is not self.loop:
            return await asyncio.wrap_future(self.call_from_thread(function))
        return self._call(function)

    def call_from_thread(self, function: Callable[[Hub], T]) -> concurrent.futures.Future[T]:
        """Have `function(hub)` called in the server's loop, from any thread. Raises RuntimeError if
        the loop has ended."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self.loop.call_soon_threadsafe(settle, future, lambda: self._call(function))
        return future

    def _call(self, function: Callable[[Hub], T]) -> T:
        self.hub.woken(now=self.turn.begin())
        return function(self.hub)

    def deliver(self, events: Sequence[BackplaneInput]) -> None:
        now = self.turn.begin()
        for event in events:
            self.hub.deliver(event, now=now)

    async def close(self) -> ShutdownReport:
        """Close every session, wait for them and their handlers, and abort the rest: at once if
        this is cancelled."""
        async with self._closing:
            if self._report is None:
                if self._started:
                    self._stop_accepting()
                    await self.end()
                self._report = self.report()
            return self._report

    def _stop_accepting(self) -> None:
        for listener in self._listeners.sockets:
            for _ in range(_LAST_ACCEPTS if listener.fileno() >= 0 else 0):
                if not self._accept(listener):  # those who have connected by now
                    break
            self._pause_accepting(listener)
        self._is_accepting = False
        self._listeners.close()

    async def end(self) -> None:
        try:
            await super().end()
        except BaseException:  # cancelled
            self.abort_rest()
            raise
        finally:
            self._ended = True
            for connection in list(self.sockets):  # refused ones that linger, and TLS handshakes
                connection.disconnect(abort=True)
            self.readiness.close()
            if self._backplane_task is not None:
                self._backplane_task.cancel()
            if self._timer is not None:
                self._timer.cancel()
        if self._backplane_task is not None:
            await asyncio.wait([self._backplane_task])
        self.drain()

    # -- connections --------------------------------------------------------------------------

    def _accept_from(self, listener: socket.socket) -> None:
        if self._is_accepting and listener.fileno() >= 0:
            self._accepting[listener] = fd = listener.fileno()
            self.loop.add_reader(fd, self._accept, listener)

    def _pause_accepting(self, listener: socket.socket) -> None:
        fd = self._accepting.pop(listener, None)
        if fd is not None:  # by its number: somebody else may have closed it
            self.loop.remove_reader(fd)

    def _accept(self, listener: socket.socket) -> bool:
        """Accept some; whether there may be more."""
        try:
            connections, more, exhausted = accept_all(listener)
        except OSError as error:  # the listener is of no use
            connections, more, exhausted = [], False, error
        for sock, address in connections:
            try:
                self.sockets.add(Connection(self, sock, address, self._ssl, b""))
            except Exception:
                logger.exception("a connection from %s is dropped", address)
                sock.close()
        if exhausted is not None:
            self._pause_accepting(listener)
            delay_s = self._listeners.pressure.exhausted(exhausted, now=self.time())
            self.loop.call_later(delay_s, self._accept_from, listener)
        return more

    def tls_failed(self, address: Address, error: Exception) -> None:
        """A TLS handshake failed, or was not done in time."""
        self.tls_failures += 1
        logger.info("TLS handshake with %s failed: %s", address, error)

    def remember(self, connection: Connection) -> None:
        """`connection` has an fd."""
        self.connections[connection.fd] = connection

    def forget(self, connection: Connection) -> None:
        """The socket of `connection` is gone."""
        self.sockets.discard(connection)
        self.full.discard(connection)
        self.connections.pop(connection.fd, None)
        self.check_quiet()
        self.turn.begin()

    # -- draining the hub ---------------------------------------------------------------------

    def time(self) -> float:
        return self.loop.time()

    def _woken(self) -> None:
        """Application code acts between two inputs of ours."""
        self.hub.woken(now=self.turn.begin())

    def stepped(self) -> None:
        self.turn.begin()

    def arm(self, when: float | None) -> None:
        """One timer; one that is early costs a look, so it is moved only to be earlier."""
        if when is None or self._ended:
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
        self.hub.handle_timeout(now=self.turn.begin())

    # -- handlers -----------------------------------------------------------------------------

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
    handle_signals: bool = True,
    on_ready: Callable[[Server], object] | None = None,
    **options: Unpack[ServerOptions],
) -> ShutdownReport:
    """Serve until SIGINT or SIGTERM (or cancellation): then a Close for every session, and at most
    `grace_s` seconds. A second signal ends it at once. `on_ready` is called when it listens.

    For the other parameters and what is raised, see `Server`.
    """
    server = Server(app, host, port, **options)
    async with server:
        logger.info("listening on %s", server._listeners)
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
    on_ready: Callable[[Server], object] | None = None,
    **options: Unpack[ServerOptions],
) -> ShutdownReport:
    """`serve` in a loop of its own, uvloop's if asked for (`pip install wireroom[uvloop]`)."""
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if uvloop:
        try:
            from uvloop import new_event_loop
        except ImportError as error:
            raise ConfigurationError("uvloop", "is not installed: wireroom[uvloop]") from error
        loop_factory = new_event_loop
    elif sys.platform == "win32":
        loop_factory = asyncio.SelectorEventLoop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(serve(app, host, port, on_ready=on_ready, **options))


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
