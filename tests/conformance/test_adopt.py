"""Sockets that somebody else has accepted, and read from: `adopt` on every loop."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, TypeAlias

import anyio
import pytest
import trustme
from anyio import to_thread

from frames import CLOSE, TEXT, frame
from raw import text, upgrade
from wireroom.core import App, Limits, LocalProtocolError, Session
from wireroom.transports.anyio import Server as AnyioServer
from wireroom.transports.asyncio import Server as AsyncioServer

MakeServer: TypeAlias = Callable[..., Any]
Main: TypeAlias = Callable[[MakeServer], Coroutine[Any, Any, None]]
Run: TypeAlias = Callable[[Main], None]

TIMEOUT_S = 60.0
RUNNERS: dict[str, tuple[MakeServer, str, dict[str, Any]]] = {
    "asyncio": (AsyncioServer, "asyncio", {}),
    "uvloop": (AsyncioServer, "asyncio", {"use_uvloop": True}),
    "anyio": (AnyioServer, "asyncio", {}),
    "anyio-trio": (AnyioServer, "trio", {}),
}


@pytest.fixture(params=RUNNERS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test with the server of one transport that listens nowhere."""
    make, backend, options = RUNNERS[request.param]

    async def bounded(main: Main) -> None:
        with anyio.fail_after(TIMEOUT_S):
            await main(partial(make, port=None))

    return lambda main: anyio.run(bounded, main, backend=backend, backend_options=options)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a TCP connection: the client's, and the one to be adopted."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=TIMEOUT_S)
        accepted, _ = listener.accept()
    with client, accepted:
        yield client, accepted


def make_app(**settings: Any) -> App:
    app = App(**settings)

    @app.module("/echo").on_message
    def echo(session: Session, message: str | bytes) -> str | bytes:
        return message

    @app.module("/client").on_open
    def opened(session: Session) -> None:
        session.send(repr(session.address))

    return app


async def read_until(sock: socket.socket, end: bytes) -> bytes:
    """What comes, up to `end` and with it."""

    def read() -> bytes:
        data = b""
        while not data.endswith(end):
            piece = sock.recv(65536)
            assert piece, f"the stream ended after {data!r}"
            data += piece
        return data

    return await to_thread.run_sync(read)


def unmasked(message: str) -> bytes:
    return frame(TEXT, message.encode(), key=None)


def test_what_was_received_is_served_and_then_the_socket(
    run: Run, pair: tuple[socket.socket, socket.socket]
) -> None:
    client, accepted = pair

    async def main(make: MakeServer) -> None:
        async with make(make_app()) as server:
            assert list(server.addresses) == []
            head = upgrade("/echo")
            await server.adopt(accepted, head + text("one") + text("two")[:3])
            greeted = await read_until(client, unmasked("one"))
            assert greeted.startswith(b"HTTP/1.1 101 ")
            client.sendall(text("two")[3:])
            await read_until(client, unmasked("two"))
            client.sendall(frame(CLOSE, b"\x03\xe8"))
            await read_until(client, frame(CLOSE, b"\x03\xe8", key=None))
            client.shutdown(socket.SHUT_WR)
            assert await to_thread.run_sync(client.recv, 1) == b""
            await server.wait_idle()
        assert accepted.fileno() == -1

    run(main)


def test_nothing_need_have_been_received_and_the_peer_is_known(
    run: Run, pair: tuple[socket.socket, socket.socket]
) -> None:
    client, accepted = pair
    name = client.getsockname()

    async def main(make: MakeServer) -> None:
        async with make(make_app(), grace_s=0.01) as server:
            await server.adopt(accepted)
            client.sendall(upgrade("/client"))
            await read_until(client, unmasked(repr(name)))

    run(main)


def test_plain_requests_are_answered_too(
    run: Run, pair: tuple[socket.socket, socket.socket]
) -> None:
    client, accepted = pair

    async def main(make: MakeServer) -> None:
        app = make_app()
        app.http("/healthz")(lambda request: "fine")
        async with make(app) as server:
            await server.adopt(accepted, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await read_until(client, b"fine")).startswith(b"HTTP/1.1 200 ")

    run(main)


def test_leaving_closes_what_was_adopted(
    run: Run, pair: tuple[socket.socket, socket.socket]
) -> None:
    client, accepted = pair

    async def main(make: MakeServer) -> None:
        async with make(make_app(), grace_s=0.01) as server:
            await server.adopt(accepted, upgrade("/echo") + text("here"))
            await read_until(client, unmasked("here"))
            report = await server.close()
        assert report.closed + report.aborted == 1
        closing = b"\x03\xe9the server is shutting down"
        await read_until(client, frame(CLOSE, closing, key=None))

    run(main)


def test_a_socket_too_many_is_told_at_once(
    run: Run, pair: tuple[socket.socket, socket.socket]
) -> None:
    client, accepted = pair
    ours, theirs = socket.socketpair()

    async def main(make: MakeServer) -> None:
        async with make(make_app(limits=Limits(connections_max=1))) as server:
            await server.adopt(theirs, upgrade("/echo") + text("first"))
            await read_until(ours, unmasked("first"))
            await server.adopt(accepted, upgrade("/echo"))  # the client will say nothing more
            refusal = await read_until(client, b"the server is full\n")
            assert refusal.startswith(b"HTTP/1.1 503 ")
            ours.close()

    with ours, theirs:
        run(main)


def test_tls_may_begin_after_the_adoption(
    run: Run, pair: tuple[socket.socket, socket.socket]
) -> None:
    client, accepted = pair
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    def talk() -> bytes:
        with trusting.wrap_socket(client, server_hostname="localhost") as secured:
            secured.sendall(upgrade("/echo") + text("secret"))
            data = b""
            while not data.endswith(b"secret"):
                data += secured.recv(65536)
            return data

    async def main(make: MakeServer) -> None:
        async with make(make_app()) as server, anyio.create_task_group() as group:
            group.start_soon(partial(server.adopt, accepted, ssl=context))
            assert (await to_thread.run_sync(talk)).startswith(b"HTTP/1.1 101 ")

    run(main)


def test_what_cannot_be_adopted_is_an_error(
    run: Run, pair: tuple[socket.socket, socket.socket]
) -> None:
    _, accepted = pair

    async def main(make: MakeServer) -> None:
        server = make(make_app())
        with pytest.raises(LocalProtocolError, match="start the server first"):
            await server.adopt(accepted)
        async with server:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            with pytest.raises(LocalProtocolError, match="TLS begins before"):
                await server.adopt(accepted, b"\x16", ssl=context)

    run(main)
