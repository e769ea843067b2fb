"""The clients over real sockets, one suite on every runtime: asyncio, uvloop, anyio on asyncio and
on trio, and blocking calls. The servers are those of the `websockets` library, ours, and sockets
that misbehave."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import trustme
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response as HttpResponse

from client_peers import TIMEOUT_S, Peers, accept, drain, echo, finish, read_head, scripted
from client_runtimes import RUNTIMES, AnyioRuntime, AsyncioRuntime, Runtime
from frames import CLOSE, PING, PONG, TEXT, close_frame, frame
from ports import reserved_ports
from wireroom.core import (
    App,
    ConfigurationError,
    Context,
    Deflate,
    Limits,
    LocalProtocolError,
    RefusedError,
    RemoteProtocolError,
    RequestFailedError,
    SessionClosedError,
    WebSocket,
)
from wireroom.transports.clients import ReconnectPolicy

NO_WAIT = ReconnectPolicy(initial_delay_s=0.0)


class Sum(msgspec.Struct):
    a: int
    b: int


@pytest.fixture(params=RUNTIMES, ids=lambda runtime: runtime.name)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    chosen: Runtime = request.param
    return chosen


@pytest.fixture(params=[each for each in RUNTIMES if each.name != "blocking"], ids=lambda r: r.name)
def async_runtime(request: pytest.FixtureRequest) -> Runtime:
    chosen: Runtime = request.param
    return chosen


@pytest.fixture(scope="module")
def peers() -> Iterator[Peers]:
    peers = Peers()
    yield peers
    peers.close()


def sums() -> App:
    app = App()
    module = app.module("/sums")

    @module.command("sum")
    def add(ctx: Context, data: Sum) -> int:
        ctx.session.send("a word in between")
        return data.a + data.b

    @module.command("late")
    async def late(ctx: Context) -> str:
        await ctx.session.receive()
        return "late"

    @app.websocket("/echo", subprotocols=["v2"])
    async def repeat(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            await ws.send(message)

    return app


# -- messages ------------------------------------------------------------------------------------


def test_messages_go_there_and_back(runtime: Runtime, peers: Peers) -> None:
    async def main() -> None:
        async with runtime.connect(url) as ws:
            assert ws.is_connected
            assert ws.close_code is None
            for message in ("", "héllo", b"", b"\x00\xff", "x" * 1_000_000, bytes(1_000_000)):
                await ws.send(message)
                assert await ws.receive() == message
            await ws.send({"a": [1, None]})
            assert await ws.receive_json() == {"a": [1, None]}
            await ws.send(Sum(1, 2))
            assert await ws.receive_json(Sum) == Sum(1, 2)
            await ws.send(bytearray(b"b"))
            assert await ws.receive_bytes() == b"b"
            await ws.send("t")
            assert await ws.receive_text() == "t"
        assert not ws.is_connected
        assert [ws.close_code, ws.close_reason] == [1000, ""]

    with peers.websockets(echo) as url:
        runtime.run(main())


@pytest.mark.parametrize("deflate", [None, Deflate(), Deflate(client_no_context_takeover=False)])
def test_deflate(runtime: Runtime, peers: Peers, deflate: Deflate | None) -> None:
    async def main() -> None:
        async with runtime.connect(url, deflate=deflate) as ws:
            assert ("sec-websocket-extensions" in ws.headers) == (deflate is not None)
            for _ in range(3):
                await ws.send("again and again " * 1000)
                assert await ws.receive() == "again and again " * 1000

    with peers.websockets(echo) as url:
        runtime.run(main())


def test_fragments_and_iteration_to_the_end(runtime: Runtime, peers: Peers) -> None:
    async def handler(ws: ServerConnection) -> None:
        await ws.send(["a", "b", "c"])
        await ws.send(b"d")
        await ws.close(4000, "enough")

    async def main() -> None:
        async with runtime.connect(url) as ws:
            assert [message async for message in ws] == ["abc", b"d"]
            assert await ws.receive() is None
            assert (ws.close_code, ws.close_reason) == (4000, "enough")
            with pytest.raises(SessionClosedError) as caught:
                await ws.send("late")
            assert (caught.value.code, caught.value.reason) == (4000, "enough")
            for call in (ws.receive_text, ws.receive_bytes, ws.receive_json, ws.ping):
                with pytest.raises(SessionClosedError):
                    await call()

    with peers.websockets(handler) as url:
        runtime.run(main())


def test_a_message_of_the_other_kind_closes(runtime: Runtime, peers: Peers) -> None:
    codes: list[int | None] = []

    async def handler(ws: ServerConnection) -> None:
        await ws.send(b"binary")
        await ws.wait_closed()
        codes.append(ws.close_code)

    async def main() -> None:
        async with runtime.connect(url) as ws:
            with pytest.raises(SessionClosedError) as caught:
                await ws.receive_text()
            assert caught.value.code == 1003

    with peers.websockets(handler) as url:
        runtime.run(main())
    assert codes == [1003]


def test_many_senders_and_receivers_at_once(runtime: Runtime, peers: Peers) -> None:
    async def main() -> None:
        async with runtime.connect(url, deflate=None) as ws:

            async def send(letter: str) -> None:
                for _ in range(20):
                    await ws.send(letter * 30_000)

            async def receive() -> list[Any]:
                return [await ws.receive() for _ in range(20)]

            _, _, _, *received = await runtime.together(
                lambda: send("a"), lambda: send("b"), lambda: send("c"), receive, receive, receive
            )
        messages = [message for each in received for message in each]
        assert sorted(messages) == [letter * 30_000 for letter in "abc" for _ in range(20)]

    with peers.websockets(echo) as url:
        runtime.run(main())


def test_what_is_not_received_holds_the_server_up(runtime: Runtime) -> None:
    count = 400
    payload = b"x" * 100_000
    sent: list[int] = []
    stuck = threading.Event()

    def flood(sock: socket.socket) -> None:
        accept(sock)
        sock.settimeout(0.5)
        data = frame(2, payload, key=None) * count
        view = memoryview(data)
        while view:
            try:
                view = view[sock.send(view) :]
            except TimeoutError:
                sent.append(len(data) - len(view))
                stuck.set()
                sock.settimeout(TIMEOUT_S)
        sock.sendall(close_frame(1000, key=None))
        finish(sock)

    async def main() -> None:
        async with runtime.connect(url) as ws:
            assert stuck.wait(TIMEOUT_S)
            for _ in range(count):
                assert await ws.receive() == payload
            assert await ws.receive() is None

    with scripted(flood) as url:
        runtime.run(main())
    assert len(sent) == 1
    assert sent[0] < len(payload) * count / 2


def test_send_waits_for_a_server_that_does_not_read_and_gives_up(runtime: Runtime) -> None:
    done = threading.Event()

    def never_read(sock: socket.socket) -> None:
        accept(sock)
        assert done.wait(TIMEOUT_S)

    async def main() -> None:
        limits = Limits(stall_timeout_s=0.3)
        async with runtime.connect(url, limits=limits, deflate=None) as ws:

            async def send() -> None:
                for _ in range(1000):
                    await ws.send(bytes(100_000))

            with pytest.raises(SessionClosedError):
                await send()
            assert (ws.close_code, ws.close_reason) == (1006, "the server reads nothing")

    with scripted(never_read) as url:
        try:
            runtime.run(main())
        finally:
            done.set()


# -- the handshake -------------------------------------------------------------------------------


def test_what_is_asked_and_answered(runtime: Runtime, peers: Peers) -> None:
    requests: list[HttpRequest] = []

    def answer(ws: ServerConnection, request: HttpRequest, response: HttpResponse) -> None:
        requests.append(request)
        response.headers["X-Reply"] = "yes"

    async def main() -> None:
        async with runtime.connect(
            f"{url}/path?query=1",
            headers={"X-Token": "abc"},
            subprotocols=["v9", "v2"],
            origin="https://example.org",
        ) as ws:
            assert ws.subprotocol == "v2"
            assert ws.headers["x-reply"] == "yes"

    with peers.websockets(echo, subprotocols=["v1", "v2"], process_response=answer) as url:
        runtime.run(main())
    (request,) = requests
    assert request.path == "/path?query=1"
    assert (request.headers["X-Token"], request.headers["Origin"]) == ("abc", "https://example.org")


def test_a_refusal(runtime: Runtime, peers: Peers) -> None:
    def refuse(ws: ServerConnection, request: HttpRequest) -> HttpResponse:
        return ws.respond(403, "not you\n")

    async def main() -> None:
        with pytest.raises(RefusedError) as caught:
            async with runtime.connect(url):
                raise AssertionError("opened")
        assert (caught.value.status, caught.value.body) == (403, b"not you\n")
        assert "text/plain" in caught.value.headers["content-type"]

    with peers.websockets(echo, process_request=refuse) as url:
        runtime.run(main())


def never_answer(sock: socket.socket) -> None:
    drain(sock)  # its request, if it has come to that


def answer_garbage(sock: socket.socket) -> None:
    read_head(sock)
    sock.sendall(b"220 smtp.example.org ESMTP\r\n\r\n")
    drain(sock)


def hang_up(sock: socket.socket) -> None:
    read_head(sock)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (never_answer, TimeoutError),
        (answer_garbage, RemoteProtocolError),
        (hang_up, RemoteProtocolError),
    ],
)
def test_a_server_that_does_not_answer_well(runtime: Runtime, script: Any, error: Any) -> None:
    async def main() -> None:
        with pytest.raises(error):
            async with runtime.connect(url, open_timeout_s=0.3 if error is TimeoutError else 60):
                raise AssertionError("opened")

    with scripted(script) as url:
        runtime.run(main())


def test_nobody_listens(runtime: Runtime) -> None:
    async def main() -> None:
        with pytest.raises(OSError, match=r"."):
            async with runtime.connect(f"ws://127.0.0.1:{port}"):
                raise AssertionError("opened")

    with reserved_ports() as (port,):
        runtime.run(main())


@pytest.mark.parametrize(
    ("url", "options", "setting"),
    [
        ("http://localhost/", {}, "url"),
        ("ws://localhost/", {"ssl": ssl.create_default_context()}, "ssl"),
        ("ws://localhost/", {"open_timeout_s": 0}, "open_timeout_s"),
        ("ws://localhost/", {"ping_interval_s": -1}, "ping_interval_s"),
        ("wss://localhost/", {"server_hostname": ".a"}, "server_hostname"),
    ],
)
def test_settings_that_cannot_work(runtime: Runtime, url: str, options: Any, setting: str) -> None:
    async def main() -> None:
        with pytest.raises(ConfigurationError, match=setting):
            async with runtime.connect(url, **options):
                raise AssertionError("opened")

    runtime.run(main())


def test_the_environment_says_nothing_about_proxies(
    runtime: Runtime, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "WS_PROXY", "ws_proxy", "SOCKS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")

    async def main() -> None:
        async with runtime.connect(url) as ws:
            await ws.send("direct")
            assert await ws.receive() == "direct"

    with peers.websockets(echo) as url:
        runtime.run(main())


def test_a_unix_socket_and_a_socket_of_ones_own(runtime: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "s"
    heads: list[bytes] = []

    def serve_two() -> None:
        for _ in range(2):
            sock, _address = listener.accept()
            with sock:
                accept(sock)
                heads.append(sock.recv(1))
                sock.sendall(close_frame(1000, key=None))
                finish(sock)

    async def main() -> None:
        async with runtime.connect("ws://app/", unix_path=path) as ws:
            await ws.send("a")
            assert await ws.receive() is None
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(path))
        async with runtime.connect("ws://app/", sock=sock) as ws:
            await ws.send(b"b")
            assert await ws.receive() is None
        assert sock.fileno() == -1 or runtime.name == "anyio-trio"  # it was ours to close

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve_two)
        thread.start()
        runtime.run(main())
        thread.join(TIMEOUT_S)
    assert heads == [b"\x81", b"\x82"]


# -- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secure_url(peers: Peers, authority: trustme.CA) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with peers.websockets(echo, ssl=context) as url:
        yield url


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls(
    runtime: Runtime, secure_url: str, authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    context = ssl.create_default_context()
    context.maximum_version = version
    authority.configure_trust(context)

    async def main() -> None:
        async with runtime.connect(secure_url, ssl=context) as ws:
            for message in ("a", b"b" * 500_000):
                await ws.send(message)
                assert await ws.receive() == message
            assert await ws.ping() >= 0
        assert ws.close_code == 1000

    runtime.run(main())


def test_a_certificate_that_is_not_trusted(runtime: Runtime, secure_url: str) -> None:
    async def main() -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            async with runtime.connect(secure_url):
                raise AssertionError("opened")

    runtime.run(main())


def test_a_certificate_of_another_host(
    runtime: Runtime, secure_url: str, authority: trustme.CA
) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)

    async def main() -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            async with runtime.connect(secure_url, ssl=context, server_hostname="example.org"):
                raise AssertionError("opened")

    runtime.run(main())


def test_a_server_that_does_not_speak_tls(runtime: Runtime) -> None:
    def plain(sock: socket.socket) -> None:
        sock.recv(10)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        drain(sock)

    async def main() -> None:
        with pytest.raises(ssl.SSLError):
            async with runtime.connect(url.replace("ws:", "wss:")):
                raise AssertionError("opened")

    with scripted(plain) as url:
        runtime.run(main())


# -- pings ---------------------------------------------------------------------------------------


def test_ping_gives_the_round_trip(runtime: Runtime, peers: Peers) -> None:
    async def main() -> None:
        async with runtime.connect(url) as ws:
            assert ws.latency_s is None
            first, second = await runtime.together(ws.ping, ws.ping)
            assert 0 <= first < TIMEOUT_S
            assert 0 <= second < TIMEOUT_S
            assert ws.latency_s is not None

    with peers.websockets(echo) as url:
        runtime.run(main())


def test_pings_are_answered_while_the_application_is_elsewhere(runtime: Runtime) -> None:
    answered = threading.Event()

    def ping(sock: socket.socket) -> None:
        accept(sock)
        sock.sendall(frame(PING, b"there?", key=None))
        reply = b""
        while len(reply) < 12:
            reply += sock.recv(100)
        assert reply[:2] == bytes([0x80 | PONG, 0x80 | 6])
        answered.set()
        finish(sock)

    async def main() -> None:
        async with runtime.connect(url):
            if runtime.name == "blocking":
                assert answered.wait(TIMEOUT_S)
            elif isinstance(runtime, AsyncioRuntime):
                await asyncio.to_thread(answered.wait, TIMEOUT_S)
            else:
                await anyio.to_thread.run_sync(answered.wait, TIMEOUT_S)

    with scripted(ping) as url:
        runtime.run(main())
    assert answered.is_set()


def test_a_silent_server_is_noticed(runtime: Runtime) -> None:
    received: list[bytes] = []

    def never_pong(sock: socket.socket) -> None:
        accept(sock)
        received.append(drain(sock))

    async def main() -> None:
        times = {"ping_interval_s": 0.1, "ping_timeout_s": 0.1, "close_timeout_s": 0.1}
        async with runtime.connect(url, **times) as ws:
            assert await ws.receive() is None
            assert (ws.close_code, ws.close_reason) == (1011, "keepalive ping timeout")

    with scripted(never_pong) as url:
        runtime.run(main())
    assert received[0][0] == 0x80 | PING
    assert bytes([0x80 | CLOSE]) in received[0]


# -- the end -------------------------------------------------------------------------------------


def test_our_close_is_seen(runtime: Runtime, peers: Peers) -> None:
    seen: list[Any] = []

    async def handler(ws: ServerConnection) -> None:
        await ws.wait_closed()
        seen.append((ws.close_code, ws.close_reason))

    async def main() -> None:
        async with runtime.connect(url) as ws:
            for code, reason in ((1006, ""), (999, ""), (1000, "x" * 124)):
                with pytest.raises(LocalProtocolError):
                    await ws.close(code, reason)
            await ws.close(4001, "bye")
            await ws.close()
            assert await ws.receive() is None
            assert ws.close_code == 4001

    with peers.websockets(handler) as url:
        runtime.run(main())
    assert seen == [(4001, "bye")]


def test_a_block_that_raises_closes_with_1011(runtime: Runtime, peers: Peers) -> None:
    seen: list[Any] = []

    async def handler(ws: ServerConnection) -> None:
        await ws.wait_closed()
        seen.append(ws.close_code)

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with runtime.connect(url):
                raise ZeroDivisionError

    with peers.websockets(handler) as url:
        runtime.run(main())
    assert seen == [1011]


def test_a_server_that_never_answers_the_close(runtime: Runtime) -> None:
    done = threading.Event()

    def stall(sock: socket.socket) -> None:
        accept(sock)
        drain_until_close(sock)
        assert done.wait(TIMEOUT_S)

    def drain_until_close(sock: socket.socket) -> None:
        assert sock.recv(100)[0] == 0x80 | CLOSE

    async def main() -> None:
        async with runtime.connect(url, close_timeout_s=0.2) as ws:
            begin = time.monotonic()
            await ws.close()
            assert time.monotonic() - begin > 0.1
            assert ws.close_code == 1006

    with scripted(stall) as url:
        try:
            runtime.run(main())
        finally:
            done.set()


def test_a_server_that_dies_within_a_message(runtime: Runtime) -> None:
    def die(sock: socket.socket) -> None:
        accept(sock)
        sock.sendall(frame(TEXT, b"whole", key=None) + frame(TEXT, b"cut off", key=None)[:5])

    async def main() -> None:
        async with runtime.connect(url) as ws:
            assert [message async for message in ws] == ["whole"]
            assert ws.close_code == 1006
            with pytest.raises(SessionClosedError):
                await ws.send("anybody?")

    with scripted(die) as url:
        runtime.run(main())


def test_a_server_that_breaks_the_protocol(runtime: Runtime) -> None:
    received: list[bytes] = []

    def break_it(sock: socket.socket) -> None:
        accept(sock)
        sock.sendall(frame(TEXT, b"before", key=None) + frame(TEXT, b"\xff", key=None))
        received.append(sock.recv(100))

    async def main() -> None:
        async with runtime.connect(url) as ws:
            assert [message async for message in ws] == ["before"]
            assert ws.close_code == 1007

    with scripted(break_it) as url:
        runtime.run(main())
    assert received[0][0] == 0x80 | CLOSE


def test_a_timeout_of_receive_loses_nothing(runtime: Runtime, peers: Peers) -> None:
    async def main() -> None:
        async with runtime.connect(url) as ws:
            with pytest.raises(TimeoutError):
                await ws.receive(timeout_s=0.05)
            await ws.send("later")
            assert await ws.receive(timeout_s=TIMEOUT_S) == "later"

    with peers.websockets(echo) as url:
        runtime.run(main())


def test_cancelling_leaves_nothing_behind(async_runtime: Runtime, peers: Peers) -> None:
    seen: list[Any] = []
    closed = threading.Event()

    async def handler(ws: ServerConnection) -> None:
        await ws.wait_closed()
        seen.append(ws.close_code)
        closed.set()

    async def wait_for_nothing(opened: Callable[[], None]) -> None:
        async with async_runtime.connect(url) as ws:
            opened()
            await ws.receive()

    async def main() -> None:
        if isinstance(async_runtime, AsyncioRuntime):
            now = asyncio.get_running_loop().time
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as timeout:
                    await wait_for_nothing(lambda: timeout.reschedule(now() + 0.05))
        else:

            def cancel_soon() -> None:
                scope.deadline = anyio.current_time() + 0.05

            with anyio.CancelScope() as scope:
                await wait_for_nothing(cancel_soon)
            assert scope.cancelled_caught

    with peers.websockets(handler) as url:
        async_runtime.run(main())
        assert closed.wait(TIMEOUT_S)
    assert seen == [1001]


def test_cancelling_the_handshake_leaves_nothing_behind(async_runtime: Runtime) -> None:
    async def main() -> None:
        if isinstance(async_runtime, AnyioRuntime):
            with anyio.move_on_after(0.2):
                async with async_runtime.connect(url):
                    raise AssertionError("opened")
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2), async_runtime.connect(url):
                    raise AssertionError("opened")

    with scripted(never_answer) as url:
        async_runtime.run(main())


# -- requests ------------------------------------------------------------------------------------


def test_requests_and_replies(runtime: Runtime, peers: Peers) -> None:
    async def main() -> None:
        async with runtime.connect(f"{url}/sums") as ws:
            ask = {"type": "sum", "a": 1, "b": 2}
            assert await ws.request(ask, reply_type=int) == 3
            assert await ws.receive() == "a word in between"
            with pytest.raises(RequestFailedError) as caught:
                await ws.request(ask, reply_type=str)
            assert caught.value.code == "invalid_data"
            with pytest.raises(RequestFailedError) as caught:
                await ws.request({"type": "sum", "a": "x", "b": 2})
            assert caught.value.code == "invalid_data"
            with pytest.raises(RequestFailedError) as caught:
                await ws.request({"type": "nothing"})
            assert caught.value.code == "unknown_type"
            with pytest.raises(LocalProtocolError):
                await ws.request([1])
            assert await ws.receive() == "a word in between"

    with peers.wireroom(sums()) as url:
        runtime.run(main())


def test_a_request_that_is_answered_too_late(runtime: Runtime, peers: Peers) -> None:
    async def main() -> None:
        async with runtime.connect(f"{url}/sums") as ws:
            with pytest.raises(TimeoutError, match=r"no reply within 0\.05 s"):
                await ws.request({"type": "late"}, timeout_s=0.05)
            await ws.send("go on")  # ends its waiting, and it replies
            total = await ws.request({"type": "sum", "a": 1, "b": 2}, reply_type=int)
            assert total == 3
            assert await ws.receive() == "a word in between"

    with peers.wireroom(sums()) as url:
        runtime.run(main())


def test_requests_at_once_get_their_own_replies(runtime: Runtime, peers: Peers) -> None:
    async def main() -> None:
        async with runtime.connect(f"{url}/sums") as ws:

            def ask(number: int) -> Any:
                return lambda: ws.request({"type": "sum", "a": number, "b": 0}, reply_type=int)

            assert await runtime.together(*[ask(number) for number in range(20)]) == [*range(20)]

    with peers.wireroom(sums()) as url:
        runtime.run(main())


def test_our_own_server(runtime: Runtime, peers: Peers) -> None:
    async def main() -> None:
        async with runtime.connect(f"{url}/echo", subprotocols=["v2"]) as ws:
            assert ws.subprotocol == "v2"
            assert "permessage-deflate" in ws.headers["sec-websocket-extensions"]
            await ws.send("x" * 1000)
            assert await ws.receive() == "x" * 1000
        with pytest.raises(RefusedError) as caught:
            async with runtime.connect(f"{url}/nowhere"):
                raise AssertionError("opened")
        assert caught.value.status == 404

    with peers.wireroom(sums()) as url:
        runtime.run(main())


# -- reconnecting --------------------------------------------------------------------------------


def closing(*codes: int) -> Any:
    """A handler that greets, and closes each connection with the next code."""
    left = list(codes)

    async def handler(ws: ServerConnection) -> None:
        await ws.send(f"{len(left)} left")
        await ws.close(left.pop(0))

    return handler


async def never_open(reconnecting: Any) -> None:
    async with reconnecting as connections:
        async for _ in connections:
            raise AssertionError("opened")


def test_reconnecting_until_a_normal_closure(runtime: Runtime, peers: Peers) -> None:
    async def main() -> list[Any]:
        async with runtime.reconnecting(url, policy=NO_WAIT) as connections:
            return [message async for ws in connections async for message in ws]

    with peers.websockets(closing(1012, 4000, 1000)) as url:
        assert runtime.run(main()) == ["3 left", "2 left", "1 left"]


def test_a_code_that_ends_it(runtime: Runtime, peers: Peers) -> None:
    greetings: list[Any] = []

    async def receive_all(connections: Any) -> None:
        async for ws in connections:
            greetings.extend([message async for message in ws])

    async def main() -> None:
        async with runtime.reconnecting(url, policy=NO_WAIT) as connections:
            with pytest.raises(SessionClosedError) as caught:
                await receive_all(connections)
        assert caught.value.code == 1008

    async def handler(ws: ServerConnection) -> None:
        await ws.send("hello")
        await ws.close(next(codes))

    codes = iter([1012, 1008])
    with peers.websockets(handler) as url:
        runtime.run(main())
    assert greetings == ["hello", "hello"]


def test_leaving_the_loop_closes_the_connection(runtime: Runtime, peers: Peers) -> None:
    async def main() -> None:
        async with runtime.reconnecting(url) as connections:
            async for ws in connections:
                await ws.send("x")
                break
        assert not ws.is_connected

    with peers.websockets(echo) as url:
        runtime.run(main())


def test_refusals_are_repeated_or_end_it(runtime: Runtime, peers: Peers) -> None:
    statuses = iter([503, 429, 401])

    def refuse(ws: ServerConnection, request: HttpRequest) -> HttpResponse:
        response = ws.respond(next(statuses), "")
        response.headers["Retry-After"] = "1000"
        return response

    async def main() -> None:
        policy = ReconnectPolicy(initial_delay_s=0.0, retry_after_max_s=0.05)
        with pytest.raises(RefusedError) as caught:
            await never_open(runtime.reconnecting(url, policy=policy))
        assert caught.value.status == 401

    with peers.websockets(echo, process_request=refuse) as url:
        begin = time.monotonic()
        runtime.run(main())
        assert time.monotonic() - begin > 0.09  # loops' timers may be early by a millisecond


def test_nobody_listens_for_long(runtime: Runtime) -> None:
    async def main() -> None:
        policy = ReconnectPolicy(initial_delay_s=0.0, failures_max=3)
        with pytest.raises(OSError, match=r"."):
            await never_open(runtime.reconnecting(f"ws://127.0.0.1:{port}", policy=policy))

    with reserved_ports() as (port,):
        runtime.run(main())


def test_on_asyncio_it_is_iterated_as_it_is(peers: Peers) -> None:
    runtime = AsyncioRuntime("asyncio")

    async def main() -> list[Any]:
        connections = runtime.reconnecting(url, policy=NO_WAIT)
        return [message async for ws in connections async for message in ws]

    with peers.websockets(closing(1001, 1000)) as url:
        assert runtime.run(main()) == ["2 left", "1 left"]


def test_a_socket_cannot_be_connected_again(runtime: Runtime) -> None:
    async def main() -> None:
        with socket.socket() as sock, pytest.raises(ConfigurationError, match="sock"):
            async with runtime.reconnecting("ws://localhost", sock=sock):
                raise AssertionError("entered")

    runtime.run(main())
