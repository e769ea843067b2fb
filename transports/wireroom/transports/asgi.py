"""The ASGI transport: an app in any ASGI server, by itself or mounted in any ASGI framework.

    asgi = ASGIApp(app)                                  # `uvicorn module:asgi`

    api = FastAPI(lifespan=asgi.lifespan)                # or within another application
    api.mount("/live", asgi)

    @api.post("/users/{name}/messages")
    async def tell(name: str, text: str) -> int:
        return await asgi.call(lambda hub: hub.user(name).send(text))

The server does the handshake, the framing and the Pings; the hub does the rest. Bytes are taken
from the hub only when the last `await send` has returned. See docs/asgi.md.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import sys
import types
from collections import deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar, Unpack, final
from urllib.parse import quote, unquote_to_bytes

import anyio
import anyio.lowlevel

from wireroom.backplanes.link import Backplane
from wireroom.core import (
    App,
    ConfigurationError,
    Hub,
    IdsExhaustedError,
    LocalProtocolError,
    RemoteProtocolError,
    Request,
    Response,
)
from wireroom.core.wire.host import (
    Accepted,
    Answered,
    BinaryMessage,
    CloseMessage,
    HostReader,
    TextMessage,
)
from wireroom.core.wire.request import Address, MultiDict

from .drain import DrainOptions, ShutdownReport
from .tasks import TaskDrain

T = TypeVar("T")

Scope: TypeAlias = MutableMapping[str, Any]
Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]

logger: Final = logging.getLogger("wireroom.asgi")

_NO_STATUS: Final = 1005  # a Close without a code
_SENT: Final = object()  # in place of what an awaitable yields


def authenticated_user(scope: Mapping[str, Any]) -> Any:
    """Whoever an authentication middleware has put into `scope["user"]`; None for nobody, and for
    one whose `is_authenticated` is false."""
    user = scope.get("user")
    return user if getattr(user, "is_authenticated", True) else None


# -- requests -----------------------------------------------------------------------------------


def _new_request(scope: Scope, user: Any) -> Request:
    """The request of a scope. Raises `RemoteProtocolError` for what is none."""
    query = scope.get("query_string", b"").decode("latin-1")
    request = Request(
        method=scope.get("method", "GET"),
        target=_raw_path(scope) + (f"?{query}" if query else ""),
        http_version=scope.get("http_version", "1.1"),
        headers=MultiDict.of_head(list(scope["headers"])),
        client=_address(scope.get("client")),
        secure=scope.get("scheme") in ("https", "wss"),
    )
    request.scope = scope
    request.user = user
    return request


def _address(client: Sequence[Any] | None) -> Address:
    """Who has connected; None if the server does not know, as with Unix sockets."""
    if not client or not client[0]:
        return None
    host, port = client
    return (host, int(port)) if port else host


def _raw_path(scope: Scope) -> str:
    """The path below the mount, as it was sent.

    `root_path` is where the application is mounted, and the beginning of `path` if the server or
    framework is a recent one. `raw_path`, which may be missing, is the path before decoding; it is
    cut where what is left decodes to the rest of `path`.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    path = path or "/"
    raw = (scope.get("raw_path") or b"").partition(b"?")[0].decode("latin-1")
    start = 0
    while raw and start >= 0:
        if unquote_to_bytes(raw[start:]).decode(errors="replace") == path:
            return raw[start:]
        start = raw.find("/", start + 1)
    return quote(path, safe="/:@!$&'()*+,;=-._~")


# -- what is sent -------------------------------------------------------------------------------


def _header_pairs(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in headers]


def _response_events(prefix: str, answered: Answered) -> list[Event]:
    return [
        {
            "type": f"{prefix}.response.start",
            "status": answered.status,
            "headers": _header_pairs(answered.headers),
        },
        {"type": f"{prefix}.response.body", "body": bytes(answered)},
    ]


# -- connections --------------------------------------------------------------------------------


@types.coroutine
def _rest(steps: Any, yielded: Any) -> Generator[Any, Any, None]:
    """Go on with an awaitable that has yielded this.

    `steps` may be a bare iterator, as granian's are, without `send` and `throw`.
    """
    while True:
        try:
            value = yield yielded
        except BaseException as error:  # a cancellation, most likely
            throw = getattr(steps, "throw", None)
            if throw is None:
                raise
            step = partial(throw, error)
        else:
            step = partial(next, steps) if value is None else partial(steps.send, value)
        try:
            yielded = step()
        except StopIteration:
            return


@final
class _Connection:
    """One scope of the server's: a WebSocket, or a plain request.

    The task that the server calls us in reads, and sends what its reading gives. What comes of
    itself is sent by a task for all connections (`_Server.send_soon`). When sending has to wait for
    the first time, the connection gets a companion, a second task: from then on one of the two
    reads, and the other sends what comes of itself, or waits to send.
    """

    __slots__ = (
        "_accepted",
        "_buffers",
        "_context",
        "_ending",
        "_has_ended",
        "_has_more",
        "_has_reader",
        "_is_taken",
        "_may_read",
        "_others",
        "_receive",
        "_scope",
        "_send",
        "_sending",
        "_server",
        "_wake",
        "cancel_scope",
        "fd",
    )

    def __init__(self, server: _Server, scope: Scope, receive: Receive, send: Send) -> None:
        self.fd = 0  # none, or none any more
        self.cancel_scope = anyio.CancelScope()
        self._others: list[anyio.CancelScope] = []  # of other tasks that have to end with it
        self._context = contextvars.copy_context()  # the request's
        self._server = server
        self._scope = scope
        self._receive = receive
        self._send = send
        self._buffers: Sequence[bytes] = ()  # taken from the hub, to be sent next
        self._sending = False  # one of the tasks sends
        self._has_more = False  # the hub has something to send after that
        self._has_reader = False  # one of the tasks reads
        self._wake: Any = None  # an event for the task that does not, if there is one
        self._may_read: Any = None  # an event, while reading is paused
        self._accepted = False
        self._has_ended = False  # there is nothing more to read
        self._is_taken = True  # the server takes what is sent
        self._ending = False  # done, once everything is sent

    async def serve(self, request: Request, *, websocket: bool) -> None:
        """From the request to the end."""
        server = self._server
        subprotocols = self._scope.get("subprotocols", ()) if websocket else None
        server.reader = self
        try:
            self.fd = server.hub.open(request, subprotocols, now=server.time())
            server.connections[self.fd] = self
            server.drain()
            server.reader = None
            with self.cancel_scope:
                await self._flush_rest(None, None)
                if not self.cancel_scope.cancel_called:
                    await self._run()
        except IdsExhaustedError as error:
            server.reader = None
            logger.warning("connection refused: %s", error)
            await self.refuse(error.response)
        finally:
            server.reader = None
            self._leave()

    async def refuse(self, response: bytes) -> None:
        """Answer what the hub knows nothing of."""
        self._buffers = (response,)
        await self._flush_rest(None, None)

    def _leave(self) -> None:
        """The hub has to do with it no more."""
        if self.fd:
            server, fd, self.fd = self._server, self.fd, 0
            for scope in self._others:
                scope.cancel()
            del server.connections[fd]
            server.hub.connection_lost(fd, now=server.time())
            server.drain()
            server.check_quiet()

    async def _run(self) -> None:
        """What its tasks do."""
        while True:
            if not self._has_reader and not self._has_ended:
                self._has_reader = True
                await self._read()
            else:
                if self._wake is None:
                    self._wake = self._server.new_event()
                await self._wake.wait()
                self._wake = self._server.new_event()
                if self._buffers and not self._sending:
                    await self._flush_rest(None, None)

    async def _accompany(self, scope: anyio.CancelScope) -> None:
        with scope:
            await self._run()

    def _wake_other(self) -> None:
        """Have the other task see to what there is to do."""
        if self._wake is not None:
            self._wake.set()
            return
        self._wake = self._server.new_event()
        scope = anyio.CancelScope()
        self._others.append(scope)
        self._context.run(self._server.spawn, self._accompany, scope)

    # -- reading ------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Read, until the peer is gone, or until sending had to wait and the other task reads."""
        server, receive = self._server, self._receive
        hub, clock = server.hub, server.clock
        while not self._has_ended:
            if self._may_read is not None:
                await self._may_read.wait()
            event = await receive()
            fd = self.fd
            if not fd:
                return  # given up meanwhile
            server.reader = self
            try:
                text = event.get("text")
                if text is not None:
                    hub.receive_message(fd, text, now=clock())
                else:
                    self._take(event, now=clock())
                server.drain()
            finally:
                server.reader = None
            if self._buffers and not self._sending:
                rest = self._flush(self._reads_no_more)
                if rest is not None and await rest:
                    return
        self._has_reader = False

    def _reads_no_more(self) -> None:
        self._has_reader = False
        self._wake_other()

    def _take(self, event: Event, *, now: float) -> None:
        """What is no text."""
        hub = self._server.hub
        if event["type"] == "websocket.receive":
            hub.receive_message(self.fd, bytes(event["bytes"]), now=now)
        elif event["type"].endswith(".disconnect"):
            self._has_ended = True
            self._is_taken = False
            if self._accepted:
                code, reason = event.get("code") or _NO_STATUS, event.get("reason") or ""
                hub.receive_close(self.fd, code, reason, now=now)
            else:
                self.cancel_scope.cancel()  # nobody waits for the answer
        # else http.request: a body that nobody asked for

    def pause_reading(self) -> None:
        if self._may_read is None:
            self._may_read = self._server.new_event()

    def resume_reading(self) -> None:
        if self._may_read is not None:
            self._may_read.set()
            self._may_read = None

    # -- sending ------------------------------------------------------------------------------

    def write(self) -> None:
        if self._sending or self._buffers:
            self._has_more = True
            return
        self._buffers = self._server.hub.data_to_send(self.fd)
        if self._server.reader is not self:
            if self._wake is not None:
                self._wake.set()
            else:
                self._server.send_soon(self)

    async def send_for_all(self, scope: anyio.CancelScope) -> bool:
        """In the task for all connections, whose scope this is: send what was taken. Where that
        has to wait, the task is of this connection only, and another takes its place."""

        def instead() -> None:
            self._others.append(scope)
            self._wake_other()
            self._server.replace_sender()

        rest = self._flush(instead) if self._buffers and not self._sending else None
        return rest is not None and await rest

    def _flush(self, instead: Callable[[], None] | None = None) -> Awaitable[bool] | None:
        """Send what was taken from the hub, and what it has then. Gives None if that is done, or
        what is to be awaited: whether sending has to wait. Then `instead` is called, to have
        another task do what else this one would do."""
        rest = None
        buffers = self._buffers
        if len(buffers) == 1 and type(buffers[0]) is TextMessage:  # as most often
            rest = self._begin({"type": "websocket.send", "text": buffers[0].decode()})
            if rest is None:
                self._buffers = ()
                if not self._has_more and not self._ending:
                    return None
        return self._flush_rest(instead, rest)

    async def _flush_rest(
        self, instead: Callable[[], None] | None, rest: Awaitable[None] | None
    ) -> bool:
        """`rest` is that of the first event, if its sending has begun."""
        server = self._server
        waited = False
        self._sending = True
        try:
            while True:
                buffer = b""
                has_waited = False
                for index, buffer in enumerate(self._buffers):
                    for event in self._events(buffer):
                        rest = rest or self._begin(event)
                        if rest is not None:
                            if instead is not None and not waited:
                                instead()
                            waited = has_waited = True
                            self._tell_unsent(sum(map(len, self._buffers[index:])))
                            await self._finish(rest)
                            rest = None
                self._buffers = ()
                if type(buffer) is Answered and self._scope["type"] == "websocket":
                    await anyio.lowlevel.checkpoint()  # uvicorn takes note of it in the next turn
                if not self.fd:
                    break
                if has_waited:
                    self._has_more = True
                    server.hub.bytes_unsent(self.fd, 0, now=server.time())
                while self._has_more and not self._buffers:
                    self._has_more = False
                    self._buffers = server.hub.data_to_send(self.fd)
                    server.drain()
                if not self._buffers:
                    break
        finally:
            self._sending = False
        if self._ending:
            self.cancel_scope.cancel()
        return waited

    def _events(self, buffer: bytes) -> Sequence[Event]:
        """What the server has to be told for one thing that the hub gives."""
        if type(buffer) is TextMessage:
            return ({"type": "websocket.send", "text": buffer.decode()},)
        match buffer:
            case BinaryMessage():
                return ({"type": "websocket.send", "bytes": buffer},)
            case CloseMessage():
                code = 1000 if buffer.code is None else int(buffer.code)
                return ({"type": "websocket.close", "code": code, "reason": buffer.reason},)
            case Accepted():
                self._accepted = True
                headers = _header_pairs(buffer.headers)
                accept = {"type": "websocket.accept", "subprotocol": buffer.subprotocol}
                return ({**accept, "headers": headers},)
            case Answered() if self._scope["type"] == "http":
                return _response_events("http", buffer)
            case Answered() if "websocket.http.response" in (self._scope.get("extensions") or ()):
                return _response_events("websocket.http", buffer)
        return ({"type": "websocket.close", "code": 1000, "reason": ""},)  # the server answers 403

    def _begin(self, event: Event) -> Awaitable[None] | None:
        """Send this. Gives None if the server has taken it at once, or what is to be awaited."""
        if self._is_taken:
            try:
                steps: Any = self._send(event).__await__()
                yielded = next(steps, _SENT)
                return None if yielded is _SENT else _rest(steps, yielded)
            except Exception as error:
                self._failed(error)
        return None

    async def _finish(self, rest: Awaitable[None]) -> None:
        try:
            await rest
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Sending has failed."""
        self._is_taken = False
        if not isinstance(error, OSError):  # the peer has gone, and `receive` says how
            logger.error("the server did not take what was sent (fd %d)", self.fd, exc_info=error)
            self.cancel_scope.cancel()

    def _tell_unsent(self, count: int) -> None:
        if self.fd:  # an empty message has to be sent too
            server = self._server
            server.hub.bytes_unsent(self.fd, count or 1, now=server.time())
            server.drain()

    # -- ending -------------------------------------------------------------------------------

    def shutdown_write(self) -> None:
        self.disconnect(abort=False)

    def disconnect(self, *, abort: bool) -> None:
        self._ending = True
        if abort:
            self.cancel_scope.cancel()
            self._leave()  # not every server lets `send` be cancelled
        elif not self._sending and not self._buffers:
            self.cancel_scope.cancel()


# -- the server ---------------------------------------------------------------------------------


@final
class _Server(TaskDrain[_Connection]):
    """A hub in the loop of a server. Its tasks are not of any one connection."""

    def __init__(self, app: App, **options: Unpack[DrainOptions]) -> None:
        if app.proxy_protocol:
            raise ConfigurationError(
                "App.proxy_protocol", "PROXY headers are read by the ASGI server, not by the app"
            )
        super().__init__(app, logger, **options)
        self.loop = _running_loop()
        # Not anyio's events, which cost more than what waits for them here.
        self.new_event: Callable[[], Any] = (
            asyncio.Event
            if isinstance(self.loop, asyncio.AbstractEventLoop)
            else sys.modules["trio"].Event
        )
        self._clock_scope = anyio.CancelScope()
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself keeps none alive
        self.reader: _Connection | None = None  # in whose input the hub is
        self._to_send: deque[_Connection] = deque()  # what comes of itself
        self._has_sender = False  # a task sees to these

    def begin(self) -> None:
        super().begin()
        # asyncio reads into blocks of 256 KiB. glibc maps, and unmaps, each such block, which costs
        # more than a message does, until one that is larger was freed: this one.
        bytearray(2**20)
        self.clock = self._clock
        self._spawn_apart(self._run_clock)
        self._spawn_apart(self.run_backplane)

    def _woken(self) -> None:
        if self.reader is None:  # whose input will be drained
            super()._woken()

    async def _run_clock(self) -> None:
        with self._clock_scope:
            await self.run_clock()

    async def finish(self) -> ShutdownReport:
        """Close every session, wait for them and their handlers, and abort the rest."""
        if self._report is None:
            try:
                await self.end()
            finally:
                self._clock_scope.cancel()
                self._report = self.report()
        return self._report

    # -- sending what comes of itself ---------------------------------------------------------

    def send_soon(self, connection: _Connection) -> None:
        """Send what was taken for a connection, in one task for all."""
        self._to_send.append(connection)
        if not self._has_sender:
            self._has_sender = True
            self._spawn_apart(self._send)

    async def _send(self) -> None:
        with anyio.CancelScope() as scope:
            while self._to_send:
                if await self._to_send.popleft().send_for_all(scope):
                    return
            self._has_sender = False

    def replace_sender(self) -> None:
        """The task that sends has to wait for one connection: let another send for the rest."""
        self._has_sender = bool(self._to_send)
        if self._has_sender:
            self._spawn_apart(self._send)

    # -- tasks --------------------------------------------------------------------------------

    def _spawn_apart(self, coroutine: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Without the context of whoever happens to need it."""
        contextvars.Context().run(self.spawn, coroutine)

    def spawn(self, coroutine: Callable[..., Coroutine[Any, Any, object]], *arguments: Any) -> None:
        if isinstance(self.loop, asyncio.AbstractEventLoop):
            task = self.loop.create_task(self._guard(coroutine, arguments))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            sys.modules["trio"].lowlevel.spawn_system_task(
                self._guard, coroutine, arguments, context=contextvars.copy_context()
            )

    async def _guard(
        self, coroutine: Callable[..., Coroutine[Any, Any, object]], arguments: tuple[Any, ...]
    ) -> None:
        """Whatever a task of ours raises is not the server's failure."""
        try:
            await coroutine(*arguments)
        except BaseException as error:
            if isinstance(error, self._cancellation):
                raise
            logger.critical("a background task failed", exc_info=error)


def _running_loop() -> Any:
    """What runs here: asyncio's loop, or trio's token."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return trio.lowlevel.current_trio_token()
    return asyncio.get_running_loop()


def _has_ended(loop: Any) -> bool:
    if isinstance(loop, asyncio.AbstractEventLoop):
        return not loop.is_running()
    try:
        loop.run_sync_soon(_nothing)
    except sys.modules["trio"].RunFinishedError:
        return True
    return False


def _nothing() -> None:
    pass


@final
class ASGIApp:
    """An app as an ASGI application: `websocket`, `http` and `lifespan` scopes.

    The hub begins with the server's lifespan or, where none gets here because this is mounted in
    another application, with `lifespan`, or else with the first connection; and again for another
    lifespan, or in another loop once the first has ended. When a lifespan ends, sessions are closed
    with `close_code` (1001 or 1012), spread over `spread_s` seconds, and then have `grace_s`.

    `user(scope)` says who it is that a scope is of. By default that is `scope["user"]`; it is the
    session's user unless `on_handshake` names another. The scope itself is `request.scope`.
    """

    def __init__(
        self,
        app: App,
        *,
        grace_s: float = 5.0,
        spread_s: float = 0.0,
        close_code: int = 1001,
        backplane: Backplane | None = None,
        user: Callable[[Mapping[str, Any]], Any] = authenticated_user,
    ) -> None:
        self.app = app
        self._options: DrainOptions = {
            "grace_s": grace_s,
            "spread_s": spread_s,
            "close_code": close_code,
            "backplane": backplane,
        }
        self._user = user
        self._server: _Server | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._serve_lifespan(receive, send)
        elif kind in ("websocket", "http"):
            await self._serve(scope, receive, send)
        else:
            raise LocalProtocolError(f"there is no ASGI scope of type {kind!r} here")

    # -- for the application ------------------------------------------------------------------

    @property
    def hub(self) -> Hub:
        """The hub. Raises `LocalProtocolError` before it begins."""
        return self._begun().hub

    async def call(self, function: Callable[[Hub], T]) -> T:
        """Call `function(hub)` as an input of the hub, from a task of the server's loop: in an
        `async def` endpoint of another application, for one. Give what it gives; what it sends
        is sent at once."""
        return await self._begin().call(function)

    def call_from_thread(self, function: Callable[[Hub], T]) -> concurrent.futures.Future[T]:
        """Have `function(hub)` called in the server's loop, from any thread: in a `def` endpoint,
        for one. Raises `LocalProtocolError` before the hub begins."""
        return self._begun().call_from_thread(function)

    async def close(self) -> ShutdownReport:
        """Close every session, wait for them and their handlers, and abort the rest.

        The end of a lifespan does it too, but servers end connections in their own way before
        that: call this before they stop, to have `close_code`, `spread_s` and `grace_s`.
        """
        return await self._begun().finish()

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """From the begin of the hub to its end, for the lifespan of what this is mounted in.

        FastAPI and Starlette take it as it is, or call it in one of their own:

            @asynccontextmanager
            async def lifespan(api: FastAPI) -> AsyncIterator[None]:
                async with asgi.lifespan(), make_database() as api.state.database:
                    yield
        """
        server = self._begin(again=True)
        try:
            yield
        finally:
            await server.finish()

    # -- scopes -------------------------------------------------------------------------------

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        try:
            server = self._begin(again=True)
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        try:
            await send({"type": "lifespan.startup.complete"})
            await receive()  # lifespan.shutdown
        finally:
            await server.finish()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        websocket = scope["type"] == "websocket"
        connection = _Connection(self._begin(), scope, receive, send)
        if websocket and (await receive())["type"] != "websocket.connect":
            return
        try:
            request = _new_request(scope, self._user(scope))
        except RemoteProtocolError as error:
            response = Response(error.status, error.message + "\n", error.headers)
            await connection.refuse(HostReader().respond(None, response, close=True))
            return
        await connection.serve(request, websocket=websocket)

    # -- the hub ------------------------------------------------------------------------------

    def _begun(self) -> _Server:
        if self._server is None:
            raise LocalProtocolError("the server has not started, or use `lifespan` to start it")
        return self._server

    def _begin(self, *, again: bool = False) -> _Server:
        """The server in this loop, begun now if there is none; another if one has ended."""
        server, loop = self._server, _running_loop()
        if server is not None:
            if server.loop is loop:
                if not (again and server.hub.is_shutting_down):
                    return server
            elif not _has_ended(server.loop):
                raise LocalProtocolError("it serves in another loop: make an ASGIApp for each")
        server = self._server = _Server(self.app, **self._options)
        server.begin()
        return server
