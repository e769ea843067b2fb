"""What only the asyncio transport does, over real sockets, on asyncio's loop and on uvloop's; what
every transport does is in `wireroom.transports.conformance`.

The peers are the `websockets` client, and plain streams where a client has to misbehave.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from loops import RunLoop
from wireroom.core import (
    App,
    ConfigurationError,
    Limits,
    LocalProtocolError,
    Session,
    WebSocket,
)
from wireroom.transports.asyncio import Server

ROOT = Path(__file__).resolve().parents[2]

UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def make_app(**settings: Any) -> App:
    """An echo."""
    app = App(**settings)

    @app.module("/inline").on_message
    def echo(session: Session, message: str | bytes) -> str | bytes:
        return message

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
                async with asyncio.timeout(60):
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


@pytest.mark.skipif(not hasattr(socket, "SOCK_SEQPACKET"), reason="each write is to be seen")
def test_many_messages_in_a_read_are_one_write(run: RunLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        app = make_app(deflate=None, limits=Limits(ping_interval_s=1e9))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            theirs.setblocking(False)
            async with Server(app, port=None, grace_s=0.0) as server:
                await server.adopt(ours)
                await loop.sock_sendall(theirs, UPGRADE % b"/inline")
                assert (await loop.sock_recv(theirs, 4096)).endswith(b"\r\n\r\n")
                await loop.sock_sendall(theirs, b"\x81\x81\x00\x00\x00\x00a" * 32)
                assert await loop.sock_recv(theirs, 4096) == b"\x81\x01a" * 32

    run(main())


def test_what_arrives_while_more_than_a_turn_of_it_waits_is_read_to_the_end(run: RunLoop) -> None:
    async def main() -> None:
        async with Server(make_app(), port=0) as server, contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(client(server, "/inline")) for _ in range(300)
            ]
            for each in clients:
                await each.send("a")
            assert [await each.recv() for each in clients] == ["a"] * 300

    run(main())


def test_a_loop_that_cannot_watch_sockets_is_named() -> None:
    class Proactor(asyncio.SelectorEventLoop):
        """As Windows' own loop."""

        add_reader = asyncio.AbstractEventLoop.add_reader

    async def main() -> None:
        with pytest.raises(ConfigurationError, match="cannot watch sockets"):
            await Server(make_app(), port=0).start()

    with asyncio.Runner(loop_factory=Proactor) as runner:
        runner.run(main())


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


def start_chat(folder: Path) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "docs/examples/chat/server.py"), "--port", "0"],
        env={**os.environ, "CHAT_FOLDER": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    return process, int(first.split("127.0.0.1:")[1].split()[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_in_order(number: signal.Signals, tmp_path: Path) -> None:
    async def main() -> None:
        process, port = start_chat(tmp_path)
        async with connect(f"ws://127.0.0.1:{port}/echo", proxy=None) as ws:
            await ws.send("up")
            assert await ws.recv() == "up"
            process.send_signal(number)
            assert (await end_of(ws))[0] == 1012
        _, errors = await asyncio.to_thread(process.communicate, timeout=60)
        assert process.returncode == 0
        assert "Traceback" not in errors

    asyncio.run(main())


PATIENT = """
from wireroom.core import App, Limits
from wireroom.transports.asyncio import run

app = App(limits=Limits(close_timeout_s=1e6))
app.module("/echo").on_message(lambda session, message: message)
report = run(app, port=0, grace_s=1e6, on_ready=lambda server: print(
    server.addresses[0][1], flush=True))
print(report.closed, report.aborted)
"""


def test_a_second_signal_ends_it_now() -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PATIENT], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    port = int(process.stdout.readline())
    with socket.create_connection(("127.0.0.1", port), timeout=60) as silent:
        silent.sendall(UPGRADE % b"/echo")
        received = b""
        while b"\r\n\r\n" not in received:
            received += silent.recv(4096)
        process.send_signal(signal.SIGTERM)
        assert silent.recv(4096).startswith(b"\x88")  # our Close, which stays without an answer
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "0 1\n")
