"""The asyncio transport over real sockets, on asyncio's loop and on uvloop's.

The peers are the `websockets` client, and plain streams where a client has to misbehave.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
import trustme
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from loops import RunLoop
from wireroom.core import (
    App,
    ConfigurationError,
    Context,
    Deflate,
    Limits,
    LocalProtocolError,
    Reject,
    Request,
    Session,
    WebSocket,
)
from wireroom.transports.asyncio import Server

ROOT = Path(__file__).resolve().parents[2]

UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Said(msgspec.Struct):
    text: str


class Blob(msgspec.Struct):
    size: int


def make_app(**settings: Any) -> App:
    """Every kind of handler."""
    app = App(**settings)

    @app.websocket("/function", subprotocols=["v2", "v1"])
    async def function(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            await ws.send(message)

    @app.websocket("/raises")
    async def raises(ws: WebSocket) -> None:
        await ws.accept()
        await ws.receive()
        raise RuntimeError("the function fails")

    inline = app.module("/inline")

    @inline.on_message
    def echo(session: Session, message: str | bytes) -> str | bytes:
        return message

    waiting = app.module("/waiting")

    @waiting.on_message
    async def echo_later(session: Session, message: str | bytes) -> str | bytes:
        await asyncio.sleep(0)  # the loop's own
        await session.sleep(0.001)  # the hub's
        return message

    chat = app.module("/chat/{room}")

    @chat.on_handshake
    def check(request: Request) -> Reject | None:
        if request.path_params["room"] == "closed":
            return Reject(451, "not here\n", {"X-Why": "law"})
        return None

    @chat.on_open
    def joined(session: Session) -> None:
        session.join(session.path_params["room"])

    @chat.command("said")
    def say(ctx: Context, data: Said) -> None:
        ctx.room(ctx.path_params["room"]).broadcast(data, exclude=[ctx.session])

    @chat.command("blob")
    def blob(ctx: Context, data: Blob) -> None:
        ctx.room(ctx.path_params["room"]).broadcast(b"b" * data.size, exclude=[ctx.session])

    @chat.command("fail")
    def fail(ctx: Context) -> None:
        raise ValueError("on purpose")

    @app.http("/healthz")
    def healthz(request: Request) -> dict[str, str]:
        return {"status": "ok"}

    @app.http("/later")
    async def later(request: Request) -> str:
        await asyncio.sleep(0)
        return "later"

    return app


def url(server: Server, path: str, scheme: str = "ws") -> str:
    return f"{scheme}://localhost:{server.addresses[0][1]}{path}"


def client(server: Server, path: str, **options: Any) -> connect:
    return connect(url(server, path), proxy=None, **options)


async def raw(server: Server, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.addresses[0][1])
    writer.write(request)
    return reader, writer


async def end_of(connection: ClientConnection) -> tuple[int, str]:
    """Read to the end; the code and reason of the close."""
    try:
        while True:
            await connection.recv()
    except ConnectionClosed:
        pass
    return connection.close_code or 0, connection.close_reason or ""


@pytest.mark.parametrize("framing", ["wireroom", "wsproto"])
@pytest.mark.parametrize("deflate", [None, Deflate(threshold_bytes=0)], ids=["plain", "deflate"])
@pytest.mark.parametrize("path", ["/function", "/inline", "/waiting"])
def test_echo(
    run: RunLoop, framing: Literal["wireroom", "wsproto"], deflate: Deflate | None, path: str
) -> None:
    async def main() -> None:
        async with Server(make_app(framing=framing, deflate=deflate), port=0) as server:
            async with client(server, path) as ws:
                for message in ("", "grüße", b"", b"\x00\xff" * 5000, "x" * 300_000):
                    await ws.send(message)
                    assert await ws.recv() == message
                await ws.send(["in ", "three ", "fragments"])
                assert await ws.recv() == "in three fragments"
                await (await ws.ping(b"are you there"))
                for number in range(500):
                    await ws.send(str(number))
                assert [await ws.recv() for _ in range(500)] == [str(n) for n in range(500)]
            assert ws.close_code == 1000
        stats = server.hub.stats()
        assert (stats.sessions, stats.connections, stats.invocations) == (0, 0, 0)
        assert stats.messages_received == stats.messages_sent == 506

    run(main())


def test_rooms_and_typed_commands(run: RunLoop) -> None:
    async def main() -> None:
        async with (
            Server(make_app(), port=0) as server,
            client(server, "/chat/a") as ann,
            client(server, "/chat/a") as bob,
            client(server, "/chat/b") as eve,
        ):
            await ann.send('{"type": "said", "text": "hi"}')
            assert await bob.recv() == '{"type":"said","text":"hi"}'
            await ann.send('{"type": "said", "text": 3}')
            error = msgspec.json.decode(await ann.recv())
            assert (error["code"], error["field"]) == ("invalid_data", "text")
            await eve.send('{"type": "said"}')
            assert msgspec.json.decode(await eve.recv())["type"] == "error"  # and nothing before

    run(main())


def test_the_handshake_is_negotiated_and_can_be_refused(run: RunLoop) -> None:
    async def main() -> None:
        async with Server(make_app(), port=0) as server:
            async with client(server, "/function", subprotocols=["v1", "v2"]) as ws:
                assert ws.subprotocol == "v2"
            for path, origin, status in (
                ("/chat/closed", None, 451),
                ("/nowhere", None, 404),
                ("/function", "http://evil.example", 403),
            ):
                with pytest.raises(InvalidStatus) as refusal:
                    await client(server, path, origin=origin)
                assert refusal.value.response.status_code == status
            async with client(server, "/function", origin=url(server, "", "http")) as ws:
                assert ws.subprotocol is None

    run(main())


def test_plain_http_beside_websockets(run: RunLoop) -> None:
    async def main() -> None:
        async with Server(make_app(), port=0) as server:
            reader, writer = await raw(
                server,
                b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
                b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n"
                b"GET /function HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            )
            answers = await reader.read()
            writer.close()
            assert answers.index(b'{"status":"ok"}') < answers.index(b"later")
            assert answers.index(b"later") < answers.index(b"426 Upgrade Required")

    run(main())


def test_a_failing_handler_is_logged_and_hurts_nobody(
    run: RunLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with (
            Server(make_app(), port=0) as server,
            client(server, "/chat/a") as ws,
            client(server, "/raises") as raising,
        ):
            await ws.send('{"type": "fail"}')
            assert msgspec.json.decode(await ws.recv())["code"] == "handler_failed"
            await raising.send("go")
            assert await end_of(raising) == (1011, "internal error")
            await ws.send('{"type": "said", "text": "still here"}')
            await (await ws.ping())

    run(main())
    failures = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert [each.exc_info[0] for each in failures if each.exc_info] == [ValueError, RuntimeError]
    assert "make_app.<locals>.fail" in failures[0].getMessage()


def test_handlers_may_use_tasks_of_the_loop(run: RunLoop) -> None:
    app = App()

    @app.websocket("/")
    async def both_ways(ws: WebSocket) -> None:
        await ws.accept()
        received: asyncio.Queue[str | bytes | None] = asyncio.Queue()

        async def read() -> None:
            while (message := await ws.receive()) is not None:  # in a task, not in the handler
                await received.put(message)
            await received.put(None)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read())
            while True:
                async with asyncio.timeout(10):
                    message = await received.get()
                if message is None:
                    break
                await ws.send(message)

    async def main() -> None:
        async with Server(app, port=0) as server:
            async with client(server, "/") as ws:
                for _ in range(3):
                    await ws.send("a")
                    assert await ws.recv() == "a"
            assert ws.close_code == 1000

    run(main())


def test_a_send_from_another_task_wakes_the_server(run: RunLoop) -> None:
    async def main() -> None:
        async with Server(make_app(), port=0) as server, client(server, "/inline") as ws:
            (session,) = server.hub.sessions()
            session.send("unasked")
            assert await ws.recv() == "unasked"

    run(main())


def receive(connection: asyncio.BufferedProtocol, data: bytes) -> None:
    """What a loop does with what it has read."""
    memoryview(connection.get_buffer(-1))[: len(data)] = data
    connection.buffer_updated(len(data))


def test_many_messages_in_a_turn_are_one_write() -> None:
    class Pipe(asyncio.Transport):
        """Counts writes."""

        def __init__(self) -> None:
            super().__init__({"peername": ("10.0.0.1", 4000)})
            self.written: list[bytes] = []

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            assert (high, low) == (0, 0)

        def write(self, data: Any) -> None:
            self.written.append(bytes(data))

    async def main() -> None:
        async with Server(
            make_app(deflate=None, limits=Limits(ping_interval_s=1e9)), port=0
        ) as server:
            # The protocol that create_server would make, on a transport that counts.
            from wireroom.transports.asyncio import _Connection

            connection, pipe = _Connection(server), Pipe()
            connection.connection_made(pipe)
            receive(connection, UPGRADE % b"/inline")
            await asyncio.sleep(0)
            pipe.written.clear()
            frame = b"\x81\x81\x00\x00\x00\x00a"
            for _ in range(8):
                receive(connection, frame * 4)
            assert pipe.written == []
            await asyncio.sleep(0)
            assert pipe.written == [b"\x81\x01a" * 32]
            connection.connection_lost(None)

    asyncio.run(main())


def test_a_peer_that_never_reads_is_aborted_and_forgotten(run: RunLoop) -> None:
    async def main() -> None:
        limits = Limits(stall_timeout_s=0.3, outbox_bytes_max=64 * 2**20)
        async with Server(make_app(limits=limits, deflate=None), port=0) as server:
            reader, writer = await raw(server, UPGRADE % b"/chat/a")
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a Transport
            async with client(server, "/chat/a") as ann:
                for _ in range(16):
                    await ann.send('{"type": "blob", "size": 1000000}')
                while not server.hub.stats().stalled:
                    await (await ann.ping())
                stats = server.hub.stats()
                assert stats.sessions == 1
                assert stats.overflowed == 0
            writer.transport.abort()

    run(main())


def test_a_peer_that_reads_too_slowly_is_told_so(run: RunLoop) -> None:
    async def main() -> None:
        limits = Limits(outbox_bytes_max=2 * 2**20, stall_timeout_s=20)
        async with Server(make_app(limits=limits, deflate=None), port=0) as server:
            reader, writer = await raw(server, UPGRADE % b"/chat/a")
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a Transport
            async with client(server, "/chat/a") as ann:
                while not server.hub.stats().overflowed:
                    await ann.send('{"type": "blob", "size": 100000}')
                    await (await ann.ping())
            writer.transport.resume_reading()  # type: ignore[attr-defined]  # a Transport
            writer.write(struct.pack("!BB4sH", 0x88, 0x82, bytes(4), 1008))
            received = await reader.read()
            assert received.endswith(b"\x03\xf0too slow: the outbox is full")
            writer.close()

    run(main())


def test_a_client_that_vanishes_ends_its_handler(run: RunLoop) -> None:
    app = App()
    ended: asyncio.Queue[object]

    @app.websocket("/")
    async def wait(ws: WebSocket) -> None:
        await ws.accept()
        await ended.put(await ws.receive())

    async def main() -> None:
        nonlocal ended
        ended = asyncio.Queue()
        async with Server(app, port=0) as server:
            reader, writer = await raw(server, UPGRADE % b"/")
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()
            assert await ended.get() is None

    run(main())


def test_a_handler_that_never_ends_is_cancelled_after_its_session(run: RunLoop) -> None:
    app = App(limits=Limits(close_timeout_s=0.1))
    cancelled: asyncio.Event

    @app.websocket("/")
    async def forever(ws: WebSocket) -> None:
        await ws.accept()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def main() -> None:
        nonlocal cancelled
        cancelled = asyncio.Event()
        async with Server(app, port=0) as server:
            async with client(server, "/"):
                pass
            await cancelled.wait()

    run(main())


def test_after_a_violation_the_connection_ends_though_the_peer_does_nothing(run: RunLoop) -> None:
    async def main() -> None:
        async with Server(make_app(limits=Limits(close_timeout_s=0.2)), port=0) as server:
            reader, writer = await raw(server, UPGRADE % b"/inline" + b"\x81\x01a")
            received = await reader.read()  # the end of the stream comes at once
            assert b"\x88" in received
            assert b"a frame that is not masked" in received
            await server.wait_idle()  # though we keep our side open
            assert server.hub.stats().close_timeouts == 1
            writer.close()

    run(main())


def test_leaving_closes_sessions_with_1001_and_aborts_after_the_grace_time(
    run: RunLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        server = Server(make_app(), port=0, grace_s=0.2)
        await server.start()
        async with client(server, "/inline") as ws:
            reader, writer = await raw(server, UPGRADE % b"/inline")  # will not answer a Close
            await reader.readuntil(b"\r\n\r\n")
            closing = asyncio.ensure_future(server.close())
            assert await end_of(ws) == (1001, "the server is shutting down")
            await closing
            assert server.connections == {}
            with contextlib.suppress(ConnectionResetError):
                assert (await reader.read()).startswith(b"\x88")
            writer.close()

    run(main())
    assert "aborting 1 connections" in caplog.text


def test_a_full_server_refuses_with_503(run: RunLoop) -> None:
    async def main() -> None:
        async with Server(make_app(limits=Limits(connections_max=1)), port=0) as server:
            async with client(server, "/inline") as ws:
                with pytest.raises(InvalidStatus) as refusal:
                    await client(server, "/inline")
                assert refusal.value.response.status_code == 503
                assert refusal.value.response.headers["Retry-After"] == "5"
                await ws.send("still served")
                assert await ws.recv() == "still served"
            await server.wait_idle()
            async with client(server, "/inline"):
                pass

    run(main())


@pytest.fixture(scope="module")
def certificates() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context, and that of a client which trusts it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return context, trusting


def test_wss(run: RunLoop, certificates: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    context, trusting = certificates

    async def main() -> None:
        async with Server(make_app(), "127.0.0.1", 0, ssl=context) as server:
            async with connect(url(server, "/inline", "wss"), ssl=trusting, proxy=None) as ws:
                (session,) = server.hub.sessions()
                assert session.handshake.secure
                await ws.send("x" * 200_000)
                assert await ws.recv() == "x" * 200_000
            reader, writer = await asyncio.open_connection(
                "localhost", server.addresses[0][1], ssl=trusting
            )
            writer.write(UPGRADE % b"/inline" + b"\x83\x80\x00\x00\x00\x00")
            assert b"opcode 0x3 is reserved" in await reader.read()
            writer.close()

    run(main())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("messages", [0, 1, 2, 3])
def test_wss_says_what_nobody_asked_for_and_ends_in_order(
    run: RunLoop,
    messages: int,
    caplog: pytest.LogCaptureFixture,
    certificates: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    context, trusting = certificates

    async def main() -> None:
        server = Server(make_app(), "127.0.0.1", 0, ssl=context, grace_s=10.0)
        await server.start()
        target = url(server, "/inline", "wss")
        async with (
            connect(target, ssl=trusting, proxy=None) as leaving,
            connect(target, ssl=trusting, proxy=None) as staying,
        ):
            for number in range(messages):
                await leaving.send(str(number))
                assert await leaving.recv() == str(number)
            await leaving.close()
            assert leaving.close_code == 1000
            (session,) = server.hub.sessions()
            for text in ("pushed", "x" * 500_000, "again"):
                session.send(text)
                assert await staying.recv() == text
            stopping = asyncio.ensure_future(server.close())
            assert (await end_of(staying))[0] == 1001
            await stopping
        assert server.hub.stats().close_timeouts == 0

    run(main())
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []


def test_a_server_is_started_once(run: RunLoop) -> None:
    async def main() -> None:
        server = Server(make_app(), port=0)
        server.stop()
        await server.wait_idle()
        async with server:
            with pytest.raises(LocalProtocolError, match="once"):
                await server.start()
        with pytest.raises(LocalProtocolError, match="once"):
            await server.start()

    run(main())


def test_a_cancellation_that_nobody_asked_for_is_logged(
    run: RunLoop, caplog: pytest.LogCaptureFixture
) -> None:
    app = App()

    @app.module("/").on_message
    async def wait(session: Session, message: str) -> str:
        if message == "cancelled":
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        return message

    async def main() -> None:
        async with Server(app, port=0) as server, client(server, "/") as ws:
            await ws.send("cancelled")
            await ws.send("still served")
            assert await ws.recv() == "still served"

    run(main())
    assert "something it awaited was cancelled" in caplog.text


def test_tls_that_is_none_and_tls_that_stalls_are_counted(
    run: RunLoop, certificates: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async def main() -> None:
        app = make_app(limits=Limits(head_timeout_s=0.2))
        async with Server(app, port=0, ssl=certificates[0]) as server:
            plain, to_plain = await raw(server, b"GET / HTTP/1.1\r\n\r\n")
            stalled, to_stalled = await raw(server, b"\x16\x03\x01")
            for reader in (plain, stalled):
                with contextlib.suppress(ConnectionResetError):
                    await reader.read()
            to_plain.close()
            to_stalled.close()
            assert server.tls_failures == 2
            assert server.hub.stats().connections_total == 0

    run(main())


def test_tls_and_the_proxy_protocol_exclude_each_other(
    certificates: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    app = make_app(trusted_proxies=["127.0.0.1"], proxy_protocol=True)
    with pytest.raises(ConfigurationError, match=r"ssl, App\.proxy_protocol"):
        Server(app, ssl=certificates[0])


def test_an_existing_socket_and_ipv6(run: RunLoop) -> None:
    async def main() -> None:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
        async with Server(make_app(), sockets=[listening]) as server:
            port = listening.getsockname()[1]
            async with connect(f"ws://[::1]:{port}/inline", proxy=None) as ws:
                (session,) = server.hub.sessions()
                assert session.address[0] == "::1"  # type: ignore[index]  # a host and a port
                await ws.send("six")
                assert await ws.recv() == "six"

    run(main())


def test_a_port_in_use_is_an_error_that_names_the_setting(run: RunLoop) -> None:
    async def main() -> None:
        async with Server(make_app(), port=0) as server:
            taken = server.addresses[0][1]
            with pytest.raises(ConfigurationError, match=f"port: {taken} is in use on 127.0.0.1"):
                await Server(make_app(), port=taken).start()

    run(main())


def start_chat() -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "docs/examples/chat/server.py"), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    return process, int(first.split("127.0.0.1:")[1].split()[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_in_order(number: signal.Signals) -> None:
    async def main() -> None:
        process, port = start_chat()
        async with connect(f"ws://127.0.0.1:{port}/echo", proxy=None) as ws:
            await ws.send("up")
            assert await ws.recv() == "up"
            process.send_signal(number)
            assert (await end_of(ws))[0] == 1001
        _, errors = await asyncio.to_thread(process.communicate, timeout=10)
        assert process.returncode == 0
        assert "Traceback" not in errors

    asyncio.run(main())


def test_a_second_signal_ends_it_now() -> None:
    process, port = start_chat()
    with socket.create_connection(("127.0.0.1", port)) as silent:
        silent.sendall(UPGRADE % b"/echo")
        received = b""
        while b"\r\n\r\n" not in received:
            received += silent.recv(4096)
        process.send_signal(signal.SIGTERM)
        assert silent.recv(4096).startswith(b"\x88")  # our Close, which stays without an answer
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=3)  # less than the grace time
    assert process.returncode == 0
