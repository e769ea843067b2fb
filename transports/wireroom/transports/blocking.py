"""The blocking transport: sockets and threads, without an event loop.

    serve(app, "127.0.0.1", 8301)                      # until SIGINT or SIGTERM
    with Server(app, "127.0.0.1", 0) as server:        # inside a program that already runs
        print(server.addresses)
        server.call(lambda hub: hub.user("ann").send("hello"))

A thread a connection reads, and one lock is around the hub, held for one step of it: an input and
the `def` handlers that are a part of that, and what the hub then has to say. Sockets are written
after that, by whoever has it to write and as far as they take it at once; the rest gets a thread of
its own (`socket_threads.py`). A step of an `async def` handler, or a blocking one, is run without
the lock, by the connection's thread if it comes of what that has read. If it takes long, another
thread reads on meanwhile.
"""

from __future__ import annotations

import contextvars
import logging
import selectors
import signal
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from math import inf
from types import FrameType, TracebackType
from typing import Any, Final, Self, TypeVar, Unpack, final

from wireroom.backplanes.link import Backplane
from wireroom.core import (
    FINISHED,
    App,
    ConfigurationError,
    Hub,
    Invocation,
    LocalProtocolError,
    Wait,
)
from wireroom.core.backplane import BackplaneInput
from wireroom.core.wire.request import Address

from .backplane_thread import BackplaneThread
from .drain import LAST_WAIT_S, Drain, ShutdownReport
from .listening import (
    AcceptPressure,
    SocketOptions,
    accept_all,
    close_listeners,
    format_address,
    open_listeners,
)
from .socket_threads import Connection
from .sockets import check_adoptable, peer_of
from .threads import Threads

T = TypeVar("T")

logger: Final = logging.getLogger("wireroom.blocking")

# Of address space: only what is used becomes memory, some 8 KiB. It is what Python counts on: with
# less than 4 MiB on 3.13 (512 KiB on 3.11) deeply nested JSON from a peer ends the process.
STACK_BYTES: Final = 8 * 1024 * 1024
CONNECTIONS_MAX: Final = 10_000

_TAKE_OVER_S: Final = 0.1  # a step that lasts so long gets its connection another reader
_REFUSED_MAX: Final = 64  # connections that are told at one time that the server is full


@final
class HandlerCancelled(BaseException):
    """A handler has to end: its session has, or the server does. As a cancellation anywhere else,
    it is raised where the handler waits, and is no `Exception`."""


@final
class _Task:
    """One handler under way, of which at most one thread runs a step."""

    __slots__ = ("_server", "context", "error", "invocation", "is_due")

    def __init__(self, server: Server, invocation: Invocation) -> None:
        self._server = server
        self.invocation = invocation
        self.context = contextvars.Context()
        self.error: BaseException | None = None  # what its next step is
        self.is_due = False  # whether a thread runs a step, or will

    def run(self) -> None:
        """Run the next step, and those that come of it; a thread's work."""
        steps = deque([self])
        while steps:
            steps.popleft().step(steps)

    def step(self, steps: deque[_Task]) -> None:
        """Run one step. What comes of it for the same session is put into `steps`."""
        error, self.error = self.error, None
        outcome = self.context.run(Hub.advance, self.invocation, error)
        server = self._server
        server.act(lambda: server.stepped(self, outcome), steps, self.invocation.fd)


@final
class Server(Drain[Connection]):
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
        self.lock = threading.RLock()  # around the hub, and all that is said to be under it
        super().__init__(
            app,
            logger,
            wake=self._woken,
            foreign_wait=_wait_in_step,
            enter=self.act,
            grace_s=grace_s,
            spread_s=spread_s,
            close_code=close_code,
            secure=ssl is not None,
            backplane=backplane,
        )
        app.check_loop(None)
        if connections_max < 1:
            raise ConfigurationError("connections_max", f"must be positive, not {connections_max}")
        if not hasattr(socket, "MSG_DONTWAIT"):
            raise ConfigurationError("transport", "this system needs another one: use asyncio")
        limits = self.hub.limits
        self.connections_max = min(connections_max, limits.connections_max)
        self.hub.limits = replace(limits, connections_max=self.connections_max)
        self.threads = Threads("wireroom", stack_bytes=stack_bytes)
        self.sockets: set[Connection] = set()  # all, and those without an fd (yet)
        self.full: set[Connection] = set()  # those whose sockets take no bytes for now
        self.to_flush: list[Connection] = []  # of this step of the hub
        self.tls_failures = 0  # TLS handshakes that failed, or were not done in time
        self._tasks: dict[Invocation, _Task] = {}
        self._due: list[_Task] = []  # of this step of the hub
        self._owner = 0  # the thread whose step it is
        self._awake = False
        self._clock = threading.Condition(self.lock)
        self._armed = inf
        # Connections whose threads run a handler's step, by since when; whoever takes one out
        # reads on.
        self._stepping: dict[Connection, float] = {}
        self._watching = False  # whether the clock looks at that
        self._changed = threading.Condition(self.lock)  # what `serve_forever` and `shutdown` see
        self._closing = threading.Lock()
        self._started = False
        self._ended = False
        self._host = host
        self._port = port
        self._listen = listen
        self._ssl = ssl
        self._listeners: list[socket.socket] = []
        self._pressure = AcceptPressure(logger)
        self._waker: socket.socket  # closed for the thread that accepts to end
        self._woken_by: socket.socket
        self._own: list[threading.Thread] = []
        self._backplane_thread: BackplaneThread | None = None

    # -- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen, and return. Raises `ConfigurationError` if the address cannot be used, and
        `LocalProtocolError` if it was started before."""
        if self._started:
            raise LocalProtocolError("a Server is started once; make another")
        self._started = True
        self._listeners = open_listeners(host=self._host, port=self._port, **self._listen)
        self._waker, self._woken_by = socket.socketpair()
        self.act(lambda: self.hub.start(now=self.hub.now))
        for name, work in (("clock", self._keep_time), ("accept", self._accept)):
            thread = threading.Thread(target=work, name=f"wireroom-{name}", daemon=True)
            self._own.append(thread)
            thread.start()
        if self.backplane is not None and self.link is not None:
            self._backplane_thread = BackplaneThread(self.backplane, self.link)

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
        return [each.getsockname() for each in self._listeners]

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

    def stop(self) -> None:
        """Make `serve_forever` return; said twice, have `shutdown` wait for nobody. This may be
        called in any thread, in a handler, and in a signal's handler."""
        with self.lock:
            super().stop()

    def change(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def serve_forever(self) -> None:
        """Wait until `stop` or `shutdown` is called, in another thread or by a signal."""
        self._check_may_wait()
        with self._changed:
            self._changed.wait_for(lambda: self.is_stopped or self._report is not None)

    def wait_idle(self, timeout_s: float | None = None) -> bool:
        """Wait until no connection that was accepted is left, and no handler; False if that takes
        longer."""
        self._check_may_wait()
        with self._changed:
            return self._changed.wait_for(lambda: self.is_quiet and not self.sockets, timeout_s)

    def shutdown(self) -> ShutdownReport:
        """Close every session, wait for them and their handlers, and abort the rest.

        It may be called in any thread, but not in a `def` handler: others could not end meanwhile.
        Raises `LocalProtocolError` there.
        """
        self._check_may_wait()
        with self._closing:
            if self._report is None:
                if self._own:
                    self._shut_down()
                with self._changed:
                    self._report = self.report()
                    self._changed.notify_all()
        return self._report

    def _check_may_wait(self) -> None:
        if self._owner == threading.get_ident():
            raise LocalProtocolError("this waits for others: in a handler, call stop()")

    def _shut_down(self) -> None:
        clock, accepting = self._own
        self._waker.close()
        accepting.join()
        self._woken_by.close()
        close_listeners(self._listeners)
        self._listeners = []
        steps = self.ending()
        while (until := self.act(lambda: next(steps, None))) is not None:
            with self._changed:
                self._changed.wait_for(*until)
        if self._backplane_thread is not None:
            self._backplane_thread.end()
        for connection in list(self.sockets):  # refused ones that linger, and TLS handshakes
            connection.abort()
        with self._clock:
            self._ended = True
            self._clock.notify()
        clock.join()
        self.threads.close(LAST_WAIT_S)

    # -- steps of the hub ---------------------------------------------------------------------

    def act(self, call: Callable[[], T], steps: deque[_Task] | None = None, fd: int = 0) -> T:
        """Run `call` as one step of the hub, in any thread, and do what the hub then says.

        Within another step it is a part of that. Handlers' steps that come of it are left to the
        caller, in `steps`, if they are of the session `fd`; others get threads.
        """
        me = threading.get_ident()
        if self._owner == me:
            return call()
        flushed: list[Connection] = []
        due: list[_Task] = []
        try:
            with self.lock:
                self._owner = me
                try:
                    self.hub.woken(now=time.monotonic())
                    return call()
                finally:
                    try:
                        flushed, due = self._drain_all()
                    finally:
                        self._owner = 0
        finally:
            for connection in flushed:
                connection.flush()
            for task in due:
                if steps is not None and fd and task.invocation.fd == fd:
                    steps.append(task)
                else:
                    self.threads.run_or_wait(task.run)

    def post(self, call: Callable[[], None]) -> None:
        self.act(call)

    def deliver(self, events: Sequence[BackplaneInput]) -> None:
        self.act(lambda: self._deliver(events))

    def _deliver(self, events: Sequence[BackplaneInput]) -> None:
        for event in events:
            self.hub.deliver(event, now=self.hub.now)

    def _drain_all(self) -> tuple[list[Connection], list[_Task]]:
        """Drain the hub; gives which connections have something to write, and the handlers' steps
        to run."""
        while True:
            self._awake = False
            self.drain()
            if not self._awake:
                break
        if self.is_quiet:
            self._changed.notify_all()
        done = self.to_flush, self._due
        self.to_flush, self._due = [], []
        return done

    def _woken(self) -> None:
        self._awake = True

    def time(self) -> float:
        return time.monotonic()

    # -- the clock ----------------------------------------------------------------------------

    def arm(self, when: float | None) -> None:
        """One timer; one that is early costs a look, so it is moved only to be earlier."""
        if when is not None and when < self._armed:
            self._armed = when
            self._clock.notify()

    def _keep_time(self) -> None:
        """Handle timeouts, until the server has ended; a thread's work."""
        while True:
            with self._clock:
                while not self._ended and (wait_s := self._armed - time.monotonic()) > 0:
                    if self._watching:
                        wait_s = min(wait_s, _TAKE_OVER_S)
                    self._clock.wait(min(wait_s, threading.TIMEOUT_MAX))
                    if self._watching:
                        break
                if self._ended:
                    return
                is_due = self._armed <= time.monotonic()
                if is_due:
                    self._armed = inf
            try:
                if is_due:
                    self.act(self._time_out)
                self._take_over()
            except Exception:
                logger.exception("a timeout failed")

    def _time_out(self) -> None:
        for connection in self.full:
            connection.report_unsent()
        self.hub.handle_timeout(now=self.hub.now)

    # -- handlers -----------------------------------------------------------------------------

    def start_handler(self, invocation: Invocation) -> None:
        task = self._tasks[invocation] = _Task(self, invocation)
        self._make_due(task)

    def resume_handler(self, invocation: Invocation) -> None:
        task = self._tasks.get(invocation)
        if task is not None and not task.is_due:
            self._make_due(task)

    def cancel_handler(self, invocation: Invocation) -> None:
        task = self._tasks[invocation]
        task.error = HandlerCancelled()
        if not task.is_due:
            self._make_due(task)

    def _make_due(self, task: _Task) -> None:
        task.is_due = self.hub.begin_step(task.invocation)
        if task.is_due:
            self._due.append(task)

    def stepped(self, task: _Task, outcome: Any) -> None:
        """A handler has taken a step; under the lock."""
        invocation = task.invocation
        try:
            yielded = self.hub.end_step(invocation, outcome, now=self.hub.now)
        except BaseException as error:
            self.interrupted(invocation, error, wanted=isinstance(error, HandlerCancelled))
            yielded = FINISHED
        if yielded is FINISHED:
            del self._tasks[invocation]
            self.ended(invocation)
            return
        task.is_due = False
        if not isinstance(yielded, Wait) and task.error is None:
            task.error = LocalProtocolError(
                f"handler {invocation.name} awaited something that is not Wireroom's: in threads"
                " there is no loop for it; await sleep(), receive(), drain() or request() of the"
                " session, mark a def handler as blocking, or serve the app with asyncio or trio"
            )
        if task.error is not None:
            self._make_due(task)

    def run_steps(self, connection: Connection, steps: deque[_Task]) -> bool:
        """Run steps of handlers in the connection's thread; False if another reads on by now."""
        self._stepping[connection] = time.monotonic()
        if not self._watching:
            with self._clock:
                self._watching = True
                self._clock.notify()
        try:
            while steps:
                steps.popleft().step(steps)
        except Exception:
            logger.exception("a step of a handler failed")
        return self._stepping.pop(connection, None) is not None

    def _take_over(self) -> None:
        """Give connections whose threads are busy with a handler for long another reader."""
        self._watching = False
        for connection, since in list(self._stepping.items()):
            self._watching = True
            if (
                since + _TAKE_OVER_S <= time.monotonic()
                and self._stepping.pop(connection, None) is not None
            ):
                self.threads.run_or_wait(connection.read)

    # -- connections --------------------------------------------------------------------------

    def _accept(self) -> None:
        """Accept connections until the server ends; a thread's work."""
        with selectors.DefaultSelector() as selector:
            for listener in (self._woken_by, *self._listeners):
                selector.register(listener, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if self._woken_by in ready:
                    return
                for listener in self._listeners:
                    if listener in ready:
                        self._accept_all(listener)

    def _accept_all(self, listener: socket.socket) -> None:
        try:
            connections, _, exhausted = accept_all(listener)
        except OSError as error:  # the listener is of no use
            connections, exhausted = [], error
        for sock, address in connections:
            try:
                self._serve(sock, address, self._ssl, b"")
            except RuntimeError as error:  # no thread
                exhausted = OSError(str(error))
        if exhausted is not None:
            time.sleep(self._pressure.exhausted(exhausted, now=time.monotonic()))

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


def _wait_in_step(wait: Wait) -> Generator[Any, Any, None]:
    """A handler's step waits for what is ours."""
    while not wait.done:
        yield wait


def serve(
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
    handle_signals: bool = True,
    on_ready: Callable[[Server], object] | None = None,
    **listen: Unpack[SocketOptions],
) -> ShutdownReport:
    """Serve until SIGINT or SIGTERM, or `Server.stop`: then a Close for every session, and at most
    `grace_s` seconds. A second signal ends it at once. `on_ready` is called when it listens.

    Signals are handled in the main thread only. For the other parameters see `Server`.
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
        connections_max=connections_max,
        stack_bytes=stack_bytes,
        **listen,
    )
    with server:
        logger.info("listening on %s", ", ".join(map(format_address, server.addresses)))
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
