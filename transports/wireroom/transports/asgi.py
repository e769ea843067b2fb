"""The ASGI transport: an app in any ASGI server, by itself or mounted in any ASGI framework.

    asgi = ASGIApp(app)                                  # `uvicorn module:asgi`

    api = FastAPI(lifespan=asgi.lifespan)                # or within another application
    api.mount("/live", asgi)

    @api.post("/users/{name}/messages")
    async def tell(name: str, text: str) -> int:
        return await asgi.call(lambda hub: hub.user(name).send(text))

The server does the handshake, the framing and the Pings; the hub does the rest. Bytes are taken
from the hub only when the last `await send` has returned. See docs/embedding.md.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import sys
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    MutableMapping,
)
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar, final
from urllib.parse import quote, unquote_to_bytes

import anyio

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

from .drain import ShutdownReport
from .tasks import TaskDrain

T = TypeVar("T")

Scope: TypeAlias = MutableMapping[str, Any]
Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]

logger: Final = logging.getLogger("wireroom.asgi")

_ABNORMAL: Final = 1006  # an end without a Close (RFC 6455 section 7.1.5)
_NO_STATUS: Final = 1005  # a Close without a code


def authenticated_user(scope: Mapping[str, Any]) -> Any:
    """Whoever an authentication middleware has put into `scope["user"]`; None for nobody, and for
    one whose `is_authenticated` is false."""
    user = scope.get("user")
    return user if getattr(user, "is_authenticated", True) else None


# -- requests -----------------------------------------------------------------------------------


def _new_request(scope: Scope, user: Any) -> Request:
    """The request of a scope. Raises `RemoteProtocolError` for what is none."""
    query = scope.get("query_string", b"").decode("latin-1")
    client = scope.get("client")
    request = Request(
        method=scope.get("method", "GET"),
        target=_raw_path(scope) + (f"?{query}" if query else ""),
        http_version=scope.get("http_version", "1.1"),
        headers=[
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
        ],
        client=None if not client else (client[0], client[1]) if client[1] else client[0],
        secure=scope.get("scheme") in ("https", "wss"),
    )
    request.scope = scope
    request.user = user
    return request


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


def _events(buffer: bytes, scope: Scope) -> list[Event]:
    """What the server has to be told for one thing that the hub gives."""
    match buffer:
        case TextMessage():
            return [{"type": "websocket.send", "text": buffer.decode()}]
        case BinaryMessage():
            return [{"type": "websocket.send", "bytes": buffer}]
        case CloseMessage():
            code = 1000 if buffer.code is None else int(buffer.code)
            return [{"type": "websocket.close", "code": code, "reason": buffer.reason}]
        case Accepted():
            return [
                {
                    "type": "websocket.accept",
                    "subprotocol": buffer.subprotocol,
                    "headers": _header_pairs(buffer.headers),
                }
            ]
        case Answered() if scope["type"] == "http":
            return _response_events("http", buffer)
        case Answered() if "websocket.http.response" in (scope.get("extensions") or ()):
            return _response_events("websocket.http", buffer)
    return [{"type": "websocket.close", "code": 1000, "reason": ""}]  # the server answers 403


# -- connections --------------------------------------------------------------------------------


@final
class _Connection:
    """One scope of the server's: a WebSocket, or a plain request.

    The task that the server gave reads, and sends what its reading gives; another one sends what
    comes of itself. Only one of them sends at a time.
    """

    __slots__ = (
        "_drained",
        "_ending",
        "_gone",
        "_has_data",
        "_may_read",
        "_reading",
        "_scope",
        "_send",
        "_sending",
        "_server",
        "cancel_scope",
        "fd",
    )

    def __init__(self, server: _Server, scope: Scope, send: Send) -> None:
        self.fd = 0  # none
        self.cancel_scope = anyio.CancelScope()
        self._server = server
        self._scope = scope
        self._send = send
        self._has_data = False  # the hub has something to send
        self._sending = False  # one of the tasks sends
        self._reading = False  # an input is handled, and the reading task will send
        self._drained = anyio.Event()  # there is something to send, for the other task
        self._may_read: anyio.Event | None = None  # set while reading is paused
        self._gone = False  # nothing can be sent any more
        self._ending = False  # done, once everything is sent

    async def serve(self, request: Request, websocket: bool, receive: Receive) -> None:
        """From the request to the end."""
        server = self._server
        subprotocols = self._scope.get("subprotocols", ()) if websocket else None
        try:
            self.fd = server.hub.open(request, subprotocols, now=server.time())
        except IdsExhaustedError as error:
            logger.warning("connection refused: %s", error)
            await self.send_all([error.response])
            return
        server.connections[self.fd] = self
        try:
            with self.cancel_scope:
                self._reading = True
                server.drain()
                self._reading = False
                await self._flush()
                if not self.cancel_scope.cancel_called:
                    async with anyio.create_task_group() as group:
                        group.start_soon(self._send_what_comes)
                        await self._read(receive)
        finally:
            del server.connections[self.fd]
            server.hub.connection_lost(self.fd, now=server.time())
            server.drain()
            server.check_quiet()

    # -- reading ------------------------------------------------------------------------------

    async def _read(self, receive: Receive) -> None:
        while not self._gone:
            if self._may_read is not None:
                await self._may_read.wait()
            event = await receive()
            self._reading = True
            self._take(event)
            self._server.drain()
            self._reading = False
            if self._has_data and not self._sending:
                await self._flush()
        await anyio.sleep_forever()  # the hub says when it is over

    def _take(self, event: Event) -> None:
        hub, now = self._server.hub, self._server.time()
        kind = event["type"]
        if kind == "websocket.receive":
            text = event.get("text")
            message = bytes(event["bytes"]) if text is None else text
            hub.receive_message(self.fd, message, now=now)
        elif kind == "websocket.disconnect":
            self._gone = True
            code = event.get("code") or _NO_STATUS
            if code == _ABNORMAL:
                hub.receive_eof(self.fd, now=now)
            else:
                hub.receive_close(self.fd, code, event.get("reason") or "", now=now)
        elif kind == "http.disconnect":
            self._gone = True
            hub.receive_eof(self.fd, now=now)
        # http.request: a body that nobody asked for

    def pause_reading(self) -> None:
        if self._may_read is None:
            self._may_read = anyio.Event()

    def resume_reading(self) -> None:
        if self._may_read is not None:
            self._may_read.set()
            self._may_read = None

    # -- sending ------------------------------------------------------------------------------

    def write(self) -> None:
        self._has_data = True
        if not self._reading and not self._sending:
            self._drained.set()

    async def _send_what_comes(self) -> None:
        while True:
            await self._drained.wait()
            self._drained = anyio.Event()
            if self._has_data and not self._sending:
                await self._flush()

    async def _flush(self) -> None:
        """Send all that the hub has."""
        server = self._server
        self._sending = True
        try:
            while self._has_data:
                self._has_data = False
                buffers = server.hub.data_to_send(self.fd)
                if buffers:
                    await self.send_all(buffers)
                server.drain()
        finally:
            self._sending = False
        if self._ending:
            self.cancel_scope.cancel()

    async def send_all(self, buffers: list[bytes]) -> None:
        """Send, one after another, and tell the hub how much is left."""
        unsent = sum(map(len, buffers))
        for buffer in buffers:
            self._report_unsent(unsent or 1)
            for event in _events(buffer, self._scope):
                await self._send_event(event)
            unsent -= len(buffer)
        self._report_unsent(0)

    def _report_unsent(self, count: int) -> None:
        if self.fd:
            self._server.hub.bytes_unsent(self.fd, count, now=self._server.time())

    async def _send_event(self, event: Event) -> None:
        if self._gone:
            return
        try:
            await self._send(event)
        except OSError:  # the peer has gone, and `receive` says how
            self._gone = True
        except Exception:
            logger.exception("the server did not take %s (fd %d)", event["type"], self.fd)
            self._gone = True
            if self.fd:
                self._server.hub.receive_eof(self.fd, now=self._server.time())

    # -- ending -------------------------------------------------------------------------------

    def shutdown_write(self) -> None:
        self.disconnect(abort=False)

    def disconnect(self, *, abort: bool) -> None:
        self._ending = True
        if abort or not (self._sending or self._has_data):
            self.cancel_scope.cancel()


# -- the server ---------------------------------------------------------------------------------


@final
class _Server(TaskDrain[_Connection]):
    """A hub in the loop of a server. Its tasks are not of any one connection."""

    def __init__(self, app: App, *, grace_s: float, spread_s: float, close_code: int) -> None:
        if app.proxy_protocol:
            raise ConfigurationError(
                "App.proxy_protocol", "PROXY headers are read by the ASGI server, not by the app"
            )
        super().__init__(app, logger, grace_s=grace_s, spread_s=spread_s, close_code=close_code)
        self.loop = _running_loop()
        self._clock_scope = anyio.CancelScope()
        self._report: ShutdownReport | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself keeps none alive

    def begin(self) -> None:
        super().begin()
        contextvars.Context().run(self.spawn, self._run_clock)

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
        user: Callable[[Mapping[str, Any]], Any] = authenticated_user,
    ) -> None:
        self.app = app
        self._options: dict[str, Any] = {
            "grace_s": grace_s,
            "spread_s": spread_s,
            "close_code": close_code,
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
        connection = _Connection(self._begin(), scope, send)
        if websocket and (await receive())["type"] != "websocket.connect":
            return
        try:
            request = _new_request(scope, self._user(scope))
        except RemoteProtocolError as error:
            response = Response(error.status, error.message + "\n", error.headers)
            await connection.send_all([HostReader().respond(None, response, close=True)])
            return
        await connection.serve(request, websocket, receive)

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
