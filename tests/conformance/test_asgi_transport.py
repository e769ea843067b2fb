"""The ASGI transport: the suite in ASGI servers of others, and what is special to it.

The peers are the `websockets` client over real sockets, and a server in a few lines where the
server has to do what none does on demand.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import anyio
import anyio.lowlevel
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import Mount
from starlette.testclient import TestClient
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect, unix_connect

from asgi_hosts import HOSTS, Granian, HostHarness, HostThread, Uvicorn
from wireroom.core import (
    Accept,
    App,
    ConfigurationError,
    Limits,
    LocalProtocolError,
    Reject,
    Request,
    Session,
    WebSocket,
)
from wireroom.transports.asgi import ASGIApp
from wireroom.transports.conformance import Harness, Suite
from wireroom.transports.conformance.behaviours import wait_until
from wireroom.transports.conformance.client import Client

T = TypeVar("T")
Event: TypeAlias = MutableMapping[str, Any]

PATIENCE_S = 60.0


class TestHosts(Suite):
    """All behaviours, as far as they are not the host's, in each host."""

    @pytest.fixture(params=HOSTS)
    def harness(self, request: pytest.FixtureRequest) -> Harness:
        return HostHarness(HOSTS[request.param]())


# -- in servers of others -----------------------------------------------------------------------


def make_app(**settings: Any) -> App:
    app = App(**settings)
    room = app.module("/rooms/{name}")

    @room.on_open
    def joined(session: Session) -> None:
        session.join("all")
        session.send(f"{session.path_params['name']} for {session.user}")

    @room.on_message
    def say(session: Session, message: str | bytes) -> None:
        session.room("all").broadcast(message)

    @app.websocket("/refusing")
    async def refusing(ws: WebSocket) -> None:
        await ws.reject(402, "pay first", {"X-Price": "1"})

    @app.http("/health")
    async def health(request: Request) -> dict[str, str]:
        return {"path": request.path}

    return app


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> Callable[[Any], HostThread]:
    """Each host, for an application."""
    return lambda app: HostThread(HOSTS[request.param](), app)


def opened(host: HostThread, path: str, **options: Any) -> ClientConnection:
    """A session of a client that is not ours."""
    options |= {"close_timeout": PATIENCE_S, "ping_interval": None}
    if isinstance(host.address, str):
        client = unix_connect(host.address, f"ws://localhost{path}", **options)
    else:
        client = connect(f"ws://127.0.0.1:{host.address[1]}{path}", proxy=None, **options)
    assert isinstance(client, ClientConnection)
    return client


def fetch(host: HostThread, path: str, method: str = "GET") -> tuple[int, bytes]:
    """Status and body of a plain request."""
    response = Client.connect(host.address).request(path, method)
    return response.status, response.body


class Users(AuthenticationBackend):
    """Whoever the Authorization header names."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        name = conn.headers.get("authorization")
        return None if name is None else (AuthCredentials(["authenticated"]), SimpleUser(name))


def user_name(scope: Any) -> str | None:
    """What makes a user of ours of one of Starlette's."""
    user = scope["user"]
    return user.username if user.is_authenticated else None


def test_in_starlette_below_a_prefix_without_its_lifespan(
    host: Callable[[Any], HostThread],
) -> None:
    asgi = ASGIApp(make_app())
    outer = Starlette(routes=[Mount("/api", routes=[Mount("/live", app=asgi)])])
    with host(outer) as running:
        with opened(running, "/api/live/rooms/a%2Fb") as client:
            assert client.recv(PATIENCE_S) == "a/b for None"
            client.send("hello")
            assert client.recv(PATIENCE_S) == "hello"
            hub = asgi.hub
            stats = asgi.call_from_thread(lambda hub: hub.stats()).result(PATIENCE_S)
            assert stats.sessions == 1
        assert fetch(running, "/api/live/health") == (200, b'{"path":"/health"}')
        assert fetch(running, "/api/live/nothing")[0] == 404
        assert fetch(running, "/api/live/health", "POST")[0] == 405
        with pytest.raises(InvalidStatus) as raised:
            opened(running, "/api/live/refusing")
        response = raised.value.response
        assert (response.status_code, response.body) == (402, b"pay first")
        assert response.headers["X-Price"] == "1"
        assert asgi.hub is hub


def test_in_fastapi_with_its_lifespan_state_and_user(host: Callable[[Any], HostThread]) -> None:
    asgi = ASGIApp(make_app(), user=user_name)
    told: list[str] = []

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[dict[str, str]]:
        async with asgi.lifespan():
            assert asgi.hub.stats().sessions == 0
            yield {"database": "open"}
        told.append("ended")

    stateful = asgi.app.module("/stateful")

    @stateful.on_handshake
    def decide(request: Request) -> Accept:
        return Accept(state={"database": request.scope["state"]["database"]})

    @stateful.on_open
    def opened_(session: Session) -> None:
        scope = session.handshake.scope
        session.send(f"{session.state.database} {scope['auth'].scopes}")

    api = FastAPI(
        lifespan=lifespan, middleware=[Middleware(AuthenticationMiddleware, backend=Users())]
    )
    api.mount("/live", asgi)

    @api.post("/users/{name}")
    async def tell(name: str) -> int:
        return await asgi.call(lambda hub: hub.user(name).send(f"to {name}"))

    @api.post("/threads/{name}")
    def tell_from_thread(name: str) -> int:
        return asgi.call_from_thread(lambda hub: hub.user(name).send("from a thread")).result()

    alice = {"additional_headers": {"Authorization": "alice"}}
    with host(api) as running:
        with (
            opened(running, "/live/rooms/a", **alice) as client,
            opened(running, "/live/rooms/a") as nobody,
        ):
            assert client.recv(PATIENCE_S) == "a for alice"
            assert nobody.recv(PATIENCE_S) == "a for None"
            assert fetch(running, "/users/alice", "POST") == (200, b"1")
            assert client.recv(PATIENCE_S) == "to alice"
            assert fetch(running, "/threads/alice", "POST") == (200, b"1")
            assert client.recv(PATIENCE_S) == "from a thread"
            assert fetch(running, "/users/bob", "POST") == (200, b"0")
        with opened(running, "/live/stateful", **alice) as client:
            assert client.recv(PATIENCE_S) == "open ['authenticated']"
    assert told == ["ended"]


def test_close_before_the_host_stops_has_our_code(host: Callable[[Any], HostThread]) -> None:
    asgi = ASGIApp(make_app(), close_code=1012)
    closing = threading.Event()
    reports: list[Any] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with asgi.lifespan(), anyio.create_task_group() as group:
            group.start_soon(close_when_asked)
            yield
            group.cancel_scope.cancel()

    async def close_when_asked() -> None:
        await anyio.to_thread.run_sync(closing.wait)
        reports.append(await asgi.close())

    outer = Starlette(routes=[Mount("/", app=asgi)], lifespan=lifespan)
    with host(outer) as running, opened(running, "/rooms/a") as client:
        client.recv(PATIENCE_S)
        closing.set()
        with pytest.raises(ConnectionClosed) as raised:
            client.recv(PATIENCE_S)
        assert raised.value.rcvd is not None
        assert raised.value.rcvd.code == 1012
    assert [report.closed for report in reports] == [1]


@pytest.mark.filterwarnings("ignore::uvicorn.config.UvicornDeprecationWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_in_uvicorn_with_the_old_websockets() -> None:
    with HostThread(Uvicorn("websockets"), ASGIApp(make_app())) as running:
        with opened(running, "/rooms/a") as client:
            assert client.recv(PATIENCE_S) == "a for None"
            client.send(b"\x00\xff")
            assert client.recv(PATIENCE_S) == b"\x00\xff"
        with pytest.raises(InvalidStatus) as raised:
            opened(running, "/refusing")
        assert raised.value.response.status_code == 402


def test_in_granian() -> None:
    with HostThread(Granian(), ASGIApp(make_app())) as running:
        wait_until("it listens", lambda: listens(running))
        with opened(running, "/rooms/a") as client:
            assert client.recv(PATIENCE_S) == "a for None"
            for message in ("hello", b"\x00\xff", "x" * 2**20):
                client.send(message)
                assert client.recv(PATIENCE_S) == message
        assert fetch(running, "/health") == (200, b'{"path":"/health"}')
        for path, status in (("/refusing", 402), ("/nothing", 404)):
            with pytest.raises(InvalidStatus) as raised:
                opened(running, path)
            assert raised.value.response.status_code == status


def listens(host: HostThread) -> bool:
    try:
        Client.connect(host.address).drop()
    except ConnectionRefusedError:
        return False
    return True


# -- a server in a few lines --------------------------------------------------------------------


class Host:
    """An ASGI server of one connection: what the app has sent, and what it will receive."""

    def __init__(self, asgi: ASGIApp, path: str = "/", **scope: Any) -> None:
        self.asgi = asgi
        self.scope: Event = {
            "type": "websocket",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
            "subprotocols": [],
            "scheme": "ws",
            "http_version": "1.1",
            "client": ("10.0.0.1", 4000),
            "extensions": {"websocket.http.response": {}},
        } | scope
        self.to_app, self._receive_stream = anyio.create_memory_object_stream[Event](100)
        self._sent, self.sent = anyio.create_memory_object_stream[Event](100)
        self.blocked: anyio.Event | None = None
        self.returned = anyio.Event()
        if self.scope["type"] == "websocket":
            self.to_app.send_nowait({"type": "websocket.connect"})

    async def run(self) -> None:
        try:
            await self.asgi(self.scope, self._receive_stream.receive, self.send)
        finally:
            self.returned.set()

    async def send(self, event: Any) -> None:
        if self.blocked is not None:
            await self.blocked.wait()
        self._sent.send_nowait(event)

    def close(self) -> None:
        """What the streams hold is not wanted any more."""
        for stream in (self.to_app, self._receive_stream, self._sent, self.sent):
            stream.close()


@asynccontextmanager
async def hosted(asgi: ASGIApp, path: str = "/", **scope: Any) -> AsyncIterator[Host]:
    host = Host(asgi, path, **scope)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            yield host
            group.cancel_scope.cancel()
    finally:
        host.close()


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[T]]], T]:
    """Runs an `async def` in both kinds of loop."""

    def run_in_loop(main: Callable[[], Awaitable[T]]) -> T:
        async def bounded() -> T:
            with anyio.fail_after(PATIENCE_S):
                return await main()

        return anyio.run(bounded, backend=request.param)

    return run_in_loop


Run = Callable[[Callable[[], Awaitable[None]]], None]


def echo_app(**settings: Any) -> App:
    app = App(**settings)
    module = app.module("/", subprotocols=["v1"])

    @module.on_message
    def echo(session: Session, message: str | bytes) -> str | bytes:
        return message

    return app


def test_what_is_sent_is_asgi(run: Run) -> None:
    async def main() -> None:
        asgi = ASGIApp(echo_app())
        async with hosted(asgi, subprotocols=["v0", "v1"]) as host:
            accepted = {"type": "websocket.accept", "subprotocol": "v1", "headers": []}
            assert await host.sent.receive() == accepted
            await host.to_app.send({"type": "websocket.receive", "text": "é", "bytes": None})
            assert await host.sent.receive() == {"type": "websocket.send", "text": "é"}
            await host.to_app.send({"type": "websocket.receive", "bytes": b"\xff"})
            assert await host.sent.receive() == {"type": "websocket.send", "bytes": b"\xff"}
            await asgi.call(lambda hub: hub.sessions()[0].close(4001, "bye"))
            closed = {"type": "websocket.close", "code": 4001, "reason": "bye"}
            assert await host.sent.receive() == closed
            await host.to_app.send({"type": "websocket.disconnect", "code": 4001})
            await host.returned.wait()
            assert asgi.hub.stats().connections == 0

    run(main)


@pytest.mark.parametrize("extension", [True, False])
def test_a_refusal_has_its_status_if_the_server_can_send_it(run: Run, extension: bool) -> None:
    async def main() -> None:
        app = App()
        module = app.module("/")

        @module.on_handshake
        def decide(request: Request) -> Reject:
            return Reject(401, "who?", {"WWW-Authenticate": "Bearer"})

        extensions: Event = {"websocket.http.response": {}} if extension else {}
        async with hosted(ASGIApp(app), extensions=extensions) as host:
            event = await host.sent.receive()
            if not extension:
                assert event == {"type": "websocket.close", "code": 1000, "reason": ""}
            else:
                assert event["type"] == "websocket.http.response.start"
                assert event["status"] == 401
                assert (b"www-authenticate", b"Bearer") in event["headers"]
                assert await host.sent.receive() == {
                    "type": "websocket.http.response.body",
                    "body": b"who?",
                }
            await host.returned.wait()

    run(main)


@pytest.mark.parametrize(
    ("path", "raw_path", "root_path", "seen"),
    [
        ("/live/a b", b"/live/a%20b", "/live", "/a%20b"),
        ("/live/a/b", b"/live/a%2Fb?q", "/live", "/a%2Fb"),
        ("/live", b"/live", "/live", "/"),
        ("/live/", b"/live/", "/live", "/"),
        ("/live/a", b"/a", "/live", "/a"),  # a raw path without the prefix
        ("/a", b"/a", "/live", "/a"),  # a path without the prefix
        ("/a/a", b"/a/a", "/a", "/a"),
        ("/é/a b", b"/%C3%A9/a%20b", "/é", "/a%20b"),
        ("/live/a b?", None, "/live", "/a%20b%3F"),
        ("/live/é", b"", "/live/", "/%C3%A9"),
        ("/lively", b"/lively", "/live", "/lively"),
    ],
)
def test_the_path_is_the_one_below_the_mount(
    run: Run, path: str, raw_path: bytes | None, root_path: str, seen: str
) -> None:
    app = App()

    @app.http("/")
    @app.http("/{rest:path}")
    def page(request: Request) -> str:
        return f"{request.raw_path} {request.query_string}"

    async def main() -> None:
        scope: Event = {"raw_path": raw_path, "root_path": root_path, "query_string": b"a=b"}
        async with hosted(ASGIApp(app), path, type="http", method="GET", **scope) as host:
            assert (await host.sent.receive())["status"] == 200
            body = (await host.sent.receive())["body"]
            assert body.decode() == f"{seen} a=b"

    run(main)


def test_a_request_is_what_the_scope_says(run: Run) -> None:
    async def main() -> None:
        asgi = ASGIApp(echo_app())
        scope: Event = {
            "scheme": "wss",
            "http_version": "2",
            "headers": [(b"host", b"localhost"), (b"x-name", b"\xe9")],
            "user": "alice",
        }
        async with hosted(asgi, **scope) as host:
            assert (await host.sent.receive())["type"] == "websocket.accept"
            (session,) = asgi.hub.sessions()
            request = session.handshake
            assert (request.method, request.http_version, request.secure) == ("GET", "2", True)
            assert request.headers["X-Name"] == "é"
            assert (request.client, session.address) == (("10.0.0.1", 4000),) * 2
            assert request.scope is host.scope
            assert asgi.hub.user("alice").sessions == [session]

    run(main)


@pytest.mark.parametrize("client", [None, ("", 0), ("", "0"), ["10.0.0.1", None]])
def test_a_client_may_be_unknown(run: Run, client: Any) -> None:
    async def main() -> None:
        asgi = ASGIApp(echo_app())
        async with hosted(asgi, client=client) as host:
            assert (await host.sent.receive())["type"] == "websocket.accept"
            (session,) = asgi.hub.sessions()
            assert session.address == (client[0] or None if client else None)

    run(main)


def test_a_path_that_is_no_utf8_is_refused(run: Run) -> None:
    async def main() -> None:
        async with hosted(ASGIApp(echo_app()), "/\ufffd", raw_path=b"/%ff") as host:
            assert (await host.sent.receive())["status"] == 400
            await host.returned.wait()

    run(main)


def test_an_anonymous_user_is_nobody(run: Run) -> None:
    class Anonymous:
        is_authenticated = False

    async def main() -> None:
        asgi = ASGIApp(echo_app())
        async with hosted(asgi, user=Anonymous()) as host:
            await host.sent.receive()
            assert asgi.hub.sessions()[0].user is None

    run(main)


# -- pressure -----------------------------------------------------------------------------------


def test_bytes_are_taken_only_when_the_last_send_has_returned(run: Run) -> None:
    async def main() -> None:
        asgi = ASGIApp(echo_app())
        async with hosted(asgi) as host:
            await host.sent.receive()
            (session,) = asgi.hub.sessions()
            host.blocked = blocked = anyio.Event()
            for number in range(3):
                await host.to_app.send({"type": "websocket.receive", "text": f"{number}" * 10})
                await anyio.wait_all_tasks_blocked()
            assert session.outbox.unsent == 10
            assert session.outbox.waiting == 30
            host.blocked = None
            blocked.set()
            for number in range(3):
                event = await host.sent.receive()
                assert event["text"] == f"{number}" * 10
            await anyio.wait_all_tasks_blocked()
            assert session.outbox.waiting == 0

    run(main)


def test_what_comes_before_the_last_was_begun_to_be_sent_is_sent_too(run: Run) -> None:
    async def main() -> None:
        asgi = ASGIApp(echo_app())
        async with hosted(asgi) as host:
            await host.sent.receive()
            for number in range(3):  # without a step of the loop between them
                await asgi.call(lambda hub, number=number: hub.broadcast(f"{number}"))  # type: ignore[misc]
            assert [(await host.sent.receive())["text"] for _ in range(3)] == ["0", "1", "2"]

    run(main)


def test_a_peer_that_reads_nothing_is_not_read_from_and_then_aborted(run: Run) -> None:
    async def main() -> None:
        limits = Limits(stall_timeout_s=0.3, outbox_mark_bytes=25)
        asgi = ASGIApp(echo_app(limits=limits))
        async with hosted(asgi) as host:
            await host.sent.receive()
            host.blocked = anyio.Event()
            for number in range(10):
                host.to_app.send_nowait({"type": "websocket.receive", "text": f"{number}" * 10})
            await anyio.wait_all_tasks_blocked()
            received = asgi.hub.stats().messages_received
            assert received < 10
            await host.returned.wait()
            stats = asgi.hub.stats()
            assert (stats.messages_received, stats.stalled, stats.connections) == (received, 1, 0)

    run(main)


def test_a_peer_that_is_gone_while_we_send_is_told_by_receive(run: Run) -> None:
    async def main() -> None:
        codes: list[int] = []
        app = echo_app()
        gone = app.module("/gone")

        @gone.on_close
        def closed(session: Session) -> None:
            codes.append(session.close_code)

        asgi = ASGIApp(app)
        host = Host(asgi, "/gone")

        async def send(event: Any) -> None:
            if event["type"] == "websocket.send":
                raise ConnectionResetError

        async with anyio.create_task_group() as group:
            group.start_soon(asgi, host.scope, host._receive_stream.receive, send)
            await anyio.wait_all_tasks_blocked()
            await asgi.call(lambda hub: hub.broadcast("hello"))
            await anyio.wait_all_tasks_blocked()
            assert codes == []
            await host.to_app.send({"type": "websocket.disconnect", "code": 4002})
        assert codes == [4002]
        host.close()

    run(main)


@pytest.mark.parametrize("slow_first", [True, False])
def test_a_broadcast_is_not_held_up_by_one_that_takes_nothing(run: Run, slow_first: bool) -> None:
    async def main() -> None:
        asgi = ASGIApp(echo_app())
        async with hosted(asgi) as one, hosted(asgi) as other:
            slow, fast = (one, other) if slow_first else (other, one)
            for host in (one, other):
                await host.sent.receive()
            for round_ in range(3):
                slow.blocked = blocked = anyio.Event()
                for number in range(3):
                    text = f"{round_} {number}"
                    await asgi.call(lambda hub, text=text: hub.broadcast(text))  # type: ignore[misc]
                    assert (await fast.sent.receive())["text"] == text
                await slow.to_app.send({"type": "websocket.receive", "text": "an echo"})
                slow.blocked = None
                blocked.set()
                texts = [(await slow.sent.receive())["text"] for _ in range(4)]
                assert texts == [*(f"{round_} {number}" for number in range(3)), "an echo"]

    run(main)


def test_one_that_takes_no_broadcast_is_aborted_and_others_are_not(run: Run) -> None:
    async def main() -> None:
        asgi = ASGIApp(echo_app(limits=Limits(stall_timeout_s=0.3)))
        async with hosted(asgi) as slow, hosted(asgi) as fast:
            for host in (slow, fast):
                await host.sent.receive()
            slow.blocked = anyio.Event()
            await asgi.call(lambda hub: hub.broadcast("before"))
            await slow.returned.wait()
            await anyio.wait_all_tasks_blocked()
            assert slow.blocked.statistics().tasks_waiting == 0
            await asgi.call(lambda hub: hub.broadcast("after"))
            assert [(await fast.sent.receive())["text"] for _ in range(2)] == ["before", "after"]
            stats = asgi.hub.stats()
            assert (stats.stalled, stats.connections) == (1, 1)

    run(main)


@pytest.mark.parametrize("waits", [["a reply"], ["a broadcast", "a reply"]])
def test_handlers_see_the_context_of_their_request_when_sending_has_waited(
    run: Run, waits: list[str]
) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")
    app = App()
    module = app.module("/")

    @module.on_message
    def tell(session: Session, message: str | bytes) -> str:
        return f"{variable.get()} {message!r}"

    async def main() -> None:
        asgi = ASGIApp(app)

        async def middleware(scope: Any, receive: Any, send: Any) -> None:
            variable.set("mine")
            await asgi(scope, receive, send)

        host = Host(asgi)
        async with anyio.create_task_group() as group:
            group.start_soon(middleware, host.scope, host._receive_stream.receive, host.send)
            await host.sent.receive()
            for what in waits:
                host.blocked = blocked = anyio.Event()
                if what == "a broadcast":
                    await asgi.call(lambda hub: hub.broadcast("mine too"))
                else:
                    await host.to_app.send({"type": "websocket.receive", "text": "0"})
                await anyio.wait_all_tasks_blocked()
                for number in range(1, 4):
                    await host.to_app.send({"type": "websocket.receive", "text": f"{number}"})
                    await anyio.wait_all_tasks_blocked()
                host.blocked = None
                blocked.set()
                for _ in range(4):
                    assert (await host.sent.receive())["text"].startswith("mine ")
            group.cancel_scope.cancel()
        host.close()

    run(main)


# -- handlers and ends --------------------------------------------------------------------------


def test_a_handler_sees_the_context_of_its_request(run: Run) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    app = App()

    @app.websocket("/")
    async def function(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send(variable.get())
        await ws.receive()

    async def main() -> None:
        asgi = ASGIApp(app)

        async def middleware(scope: Any, receive: Any, send: Any) -> None:
            variable.set("from a middleware")
            await asgi(scope, receive, send)

        host = Host(asgi)
        async with anyio.create_task_group() as group:
            group.start_soon(middleware, host.scope, host._receive_stream.receive, host.send)
            await host.sent.receive()
            assert (await host.sent.receive())["text"] == "from a middleware"
            group.cancel_scope.cancel()
        host.close()

    run(main)


def test_what_the_server_cancels_leaves_nothing(run: Run) -> None:
    ended: list[str] = []
    app = App(limits=Limits(close_timeout_s=0.05))

    @app.websocket("/")
    async def function(ws: WebSocket) -> None:
        await ws.accept()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("cancelled")

    async def main() -> None:
        asgi = ASGIApp(app)
        async with hosted(asgi) as host:
            await host.sent.receive()
        assert asgi.hub.stats().connections == 0
        while asgi.hub.stats().invocations:
            await anyio.lowlevel.checkpoint()
        assert ended == ["cancelled"]

    run(main)


def test_a_client_that_does_not_wait_for_an_answer_is_let_go(run: Run) -> None:
    app = App()

    @app.http("/")
    async def slow(request: Request) -> None:
        await anyio.sleep_forever()

    async def main() -> None:
        asgi = ASGIApp(app)
        async with hosted(asgi, type="http", method="GET") as host:
            await host.to_app.send({"type": "http.request", "body": b"", "more_body": False})
            await anyio.wait_all_tasks_blocked()
            await host.to_app.send({"type": "http.disconnect"})
            await host.returned.wait()
            assert asgi.hub.stats().connections == 0

    run(main)


def test_what_a_handler_raises_that_is_no_failure_does_not_end_the_server(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    app = App()

    @app.websocket("/")
    async def leaves(ws: WebSocket) -> None:
        await ws.accept()
        await ws.receive()
        raise SystemExit(3)

    async def main() -> None:
        asgi = ASGIApp(app)
        async with hosted(asgi) as host:
            await host.sent.receive()
            await host.to_app.send({"type": "websocket.receive", "text": "x"})
            await anyio.wait_all_tasks_blocked()
        async with hosted(asgi) as host:
            assert (await host.sent.receive())["type"] == "websocket.accept"

    run(main)
    assert any(isinstance(record.exc_info, tuple) for record in caplog.records)


# -- lifespans ----------------------------------------------------------------------------------


class Lifespan:
    """A server's side of a lifespan."""

    def __init__(self, asgi: ASGIApp) -> None:
        self.asgi = asgi
        self.to_app, self._receive = anyio.create_memory_object_stream[Event](2)
        self._send, self.sent = anyio.create_memory_object_stream[Event](2)

    async def run(self) -> None:
        await self.asgi({"type": "lifespan"}, self._receive.receive, self._send.send)

    def close(self) -> None:
        for stream in (self.to_app, self._receive, self._send, self.sent):
            stream.close()


def test_a_lifespan_begins_and_ends_the_hub_and_another_begins_anew(run: Run) -> None:
    async def main() -> None:
        asgi = ASGIApp(echo_app(), close_code=1012)
        with pytest.raises(LocalProtocolError, match="lifespan"):
            _ = asgi.hub
        hubs = []
        for _ in range(2):
            lifespan = Lifespan(asgi)
            async with anyio.create_task_group() as group:
                group.start_soon(lifespan.run)
                await lifespan.to_app.send({"type": "lifespan.startup"})
                assert await lifespan.sent.receive() == {"type": "lifespan.startup.complete"}
                hubs.append(asgi.hub)
                async with hosted(asgi) as host:
                    await host.sent.receive()
                    await lifespan.to_app.send({"type": "lifespan.shutdown"})
                    event = await host.sent.receive()
                    assert (event["type"], event["code"]) == ("websocket.close", 1012)
                    await host.to_app.send({"type": "websocket.disconnect", "code": 1012})
                    await host.returned.wait()
                assert await lifespan.sent.receive() == {"type": "lifespan.shutdown.complete"}
            lifespan.close()
            async with hosted(asgi) as host:
                assert (await host.sent.receive())["status"] == 503
        assert hubs[0] is not hubs[1]

    run(main)


def test_an_app_that_cannot_work_fails_the_start(run: Run) -> None:
    async def main() -> None:
        app = App(trusted_proxies=["10.0.0.0/8"], proxy_protocol=True)
        lifespan = Lifespan(ASGIApp(app))
        await lifespan.to_app.send({"type": "lifespan.startup"})
        await lifespan.run()
        event = await lifespan.sent.receive()
        assert event["type"] == "lifespan.startup.failed"
        assert "proxy_protocol" in event["message"]
        lifespan.close()

    run(main)


def test_a_setting_that_cannot_work_is_an_error(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(ConfigurationError, match="close_code"):
            await ASGIApp(App(), close_code=1000).call(lambda hub: None)

    run(main)


def test_another_scope_is_an_error(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(LocalProtocolError, match="webtransport"):
            async with hosted(ASGIApp(App()), type="webtransport") as host:
                await host.returned.wait()

    with pytest.RaisesGroup(LocalProtocolError):
        run(main)


def test_a_hub_serves_one_loop_at_a_time() -> None:
    asgi = ASGIApp(App())

    async def begin() -> None:
        await asgi.call(lambda hub: None)

    async def in_two_loops() -> None:
        await begin()
        with concurrent.futures.ThreadPoolExecutor() as executor:
            other = asyncio.get_running_loop().run_in_executor(executor, asyncio.run, begin())
            with pytest.raises(LocalProtocolError, match="another loop"):
                await other

    asyncio.run(in_two_loops())
    for backend in ("asyncio", "trio", "asyncio"):
        hub = asgi.hub
        anyio.run(begin, backend=backend)
        assert asgi.hub is not hub


def test_starlettes_test_client_can_be_used() -> None:
    asgi = ASGIApp(make_app())
    app = Starlette(routes=[Mount("/live", app=asgi)], lifespan=asgi.lifespan)
    for _ in range(2):
        with (
            TestClient(app) as client,
            client.websocket_connect("/live/rooms/a") as websocket,
        ):
            assert websocket.receive_text() == "a for None"
            websocket.send_text("hello")
            assert websocket.receive_text() == "hello"


def test_a_background_task_that_fails_is_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise RuntimeError("it fails")

    async def main() -> None:
        asgi = ASGIApp(App())
        server = asgi._begin()
        server.spawn(fails)
        await anyio.wait_all_tasks_blocked()
        await asgi.close()

    with caplog.at_level(logging.CRITICAL, logger="wireroom.asgi"):
        run(main)
    assert [record.getMessage() for record in caplog.records] == ["a background task failed"]
