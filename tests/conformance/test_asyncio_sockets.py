"""How the asyncio transport treats its sockets when something goes wrong, and what is left of them.

Over real sockets, on asyncio's loop, on it without epoll(7), and on uvloop's.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import os
import resource
import socket
import ssl
import struct
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
import trustme

from frames import BINARY, PING, frame
from loops import LOOPS, TEST_TIMEOUT_S, RunLoop, run_on, without_epoll
from raw import close, text, upgrade
from wireroom.core import App, ConfigurationError, Hub, Limits, LocalProtocolError, Session
from wireroom.transports.asyncio import Server, serve
from wireroom.transports.drain import ShutdownReport
from wireroom.transports.tls import TlsPipe

MUCH = Limits(outbox_bytes_max=64 * 1024 * 1024)  # more than sockets take
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends a reset


@pytest.fixture(params=[*LOOPS, "asyncio-no-epoll"])
def run(request: pytest.FixtureRequest) -> Iterator[RunLoop]:
    """Runs a coroutine on each kind of loop."""
    if request.param in LOOPS:
        yield run_on(LOOPS[request.param])
    else:
        with without_epoll() as new_loop:
            yield run_on(new_loop)


def make_app(on_close: Callable[[Session], object] | None = None, **settings: Any) -> App:
    """An echo, and what sends as many KiB as it is told."""
    app = App(deflate=None, **settings)

    @app.module("/echo").on_message
    def echo(session: Session, message: str | bytes) -> str | bytes:
        return message

    module = app.module("/flood")
    if on_close is not None:
        module.on_close(on_close)

    @module.on_message
    def flood(session: Session, message: str) -> None:
        for _ in range(int(message)):
            session.send(b"\x00" * 1024)

    return app


async def peer(server: Server) -> socket.socket:
    """A client's socket."""
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, server.addresses[0])
    return sock


async def read_until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        piece = await asyncio.get_running_loop().sock_recv(sock, 65536)
        assert piece, f"the stream ended after {data[-100:]!r}"
        data += piece
    return data


async def read_to_end(sock: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := await asyncio.get_running_loop().sock_recv(sock, 65536):
            data += piece
    return data


async def opened(server: Server, path: str) -> socket.socket:
    """A client that has shaken hands."""
    sock = await peer(server)
    await asyncio.get_running_loop().sock_sendall(sock, upgrade(path))
    await read_until(sock, b"\r\n\r\n")
    return sock


async def send(sock: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, data)


async def until(happened: Callable[[], bool]) -> None:
    while not happened():  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0)


def answer(message: str) -> bytes:
    return frame(1, message.encode(), key=None)


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the names alone


def is_left(timer: asyncio.TimerHandle) -> bool:
    return not timer.cancelled() and "wireroom" in repr(timer)


# -- one connection and the others ------------------------------------------------------------


def test_variables_of_one_connection_are_not_those_of_another(run: RunLoop) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    app = App(deflate=None)

    @app.module("/inline").on_message
    def inline(session: Session, message: str) -> str:
        before = variable.get()
        variable.set(message)
        return before

    @app.module("/task").on_message
    async def task(session: Session, message: str) -> str:
        before = variable.get()
        variable.set(message)
        for each in session.hub.sessions():
            each.send(message)  # the rest of the turn is drained by this task's doing
        return before

    async def main() -> None:
        async with Server(app, port=0, grace_s=0.0) as server:
            for path in ("/inline", "/task"):
                for name in ("first", "second"):
                    with await opened(server, path) as sock:
                        await send(sock, text(name))
                        await read_until(sock, answer("unset"))

    run(main())


def test_a_task_that_a_handler_has_caused_has_none_of_its_variables(run: RunLoop) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    async def main() -> None:
        app = App(deflate=None)

        @app.module("/adopt").on_message
        async def adopt(session: Session, message: str) -> None:
            variable.set(message)
            await server.adopt(ours, upgrade("/task") + text("go"))

        @app.module("/task").on_message
        async def task(session: Session, message: str) -> str:
            return variable.get()

        async with Server(app, port=0, grace_s=0.0) as server:
            with theirs, await opened(server, "/adopt") as sock:
                await send(sock, text("leaked"))
                await read_until(theirs, answer("unset"))

    run(main())


def test_a_peer_that_floods_does_not_keep_the_loop(run: RunLoop) -> None:
    """Whatever a turn has read, there is more to read, and that takes long."""
    total = in_turn = most = 0
    app = App(deflate=None)
    ours, theirs = socket.socketpair()

    @app.module("/").on_message
    def flooded(session: Session, message: str) -> None:
        nonlocal total, in_turn, most
        total += 1
        in_turn += 1
        most = max(most, in_turn)
        theirs.send(text("more"))
        time.sleep(0.003)

    async def main() -> None:
        nonlocal in_turn
        with theirs:
            theirs.setblocking(False)
            async with Server(app, port=None, grace_s=0.0) as server:
                await server.adopt(ours, upgrade("/") + text("more"))
                while total < 20:
                    in_turn = 0
                    await asyncio.sleep(0)
        assert most <= 2

    run(main())


def test_a_connection_that_cannot_be_written_hurts_no_other(
    run: RunLoop, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(socket.socket):
        def send(self, *arguments: Any) -> int:
            raise NotImplementedError("it was written")

    ours, theirs = socket.socketpair()
    broken = Broken(fileno=ours.detach())

    async def main() -> None:
        async with Server(make_app(), port=0) as server:
            with theirs, await opened(server, "/echo") as sock:
                theirs.setblocking(False)
                fd = server.hub.stats().connections_total + 1
                await server.adopt(broken, upgrade("/echo"))
                (session,) = server.hub.sessions()[:1]
                session.send("in the same turn")
                await read_until(sock, answer("in the same turn"))
                assert await read_to_end(theirs) == b""
                assert fd not in server.connections
                await send(sock, close())
                await read_to_end(sock)

    run(main())
    assert "it was written" in caplog.text


def test_a_tls_that_cannot_begin_costs_only_its_own_connection(
    run: RunLoop,
    certificates: tuple[ssl.SSLContext, ssl.SSLContext],
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = 0

    class FirstFails(ssl.SSLObject):
        @classmethod
        def _create(cls, *arguments: Any, **options: Any) -> Any:
            nonlocal begun
            begun += 1
            if begun == 1:
                raise MemoryError("no TLS for this one")
            return super()._create(*arguments, **options)  # type: ignore[misc]

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    context.sslobject_class = FirstFails

    async def main() -> None:
        async with Server(make_app(), port=0, ssl=context) as server:
            address = server.addresses[0]
            # Blocking: both wait in the backlog, and are accepted at once.
            with socket.create_connection(address) as first:
                second = socket.create_connection(address)
                second.setblocking(False)
                reader, writer = await asyncio.open_connection(
                    sock=second, ssl=trusting, server_hostname="localhost"
                )
                writer.write(upgrade("/echo") + text("served"))
                await reader.readuntil(answer("served"))
                first.setblocking(False)
                assert await read_to_end(first) == b""
                writer.transport.abort()
                await server.wait_idle()

    run(main())
    assert "no TLS for this one" in caplog.text


# -- writing ----------------------------------------------------------------------------------


class Watched(socket.socket):
    """A socket that counts how it is written."""

    calls = 0

    def send(self, *arguments: Any) -> int:
        Watched.calls += 1
        return super().send(*arguments)

    def sendmsg(self, *arguments: Any) -> int:
        Watched.calls += 1
        return super().sendmsg(*arguments)


class Windows(socket.socket):
    """As they are on Windows."""

    @property
    def sendmsg(self) -> Any:
        raise AttributeError("sendmsg")


def wide_pair(kind: type[socket.socket]) -> tuple[socket.socket, socket.socket]:
    """Two ends, of which that of `kind` takes a good deal at once."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024 * 1024)
    theirs.setblocking(False)
    return kind(fileno=ours.detach()), theirs


@pytest.mark.parametrize("kind", [socket.socket, Windows])
@pytest.mark.parametrize("count", [1, 100, 3000])
def test_many_buffers_are_sent_to_the_end(
    run: RunLoop, kind: type[socket.socket], count: int
) -> None:
    ours, theirs = wide_pair(kind)
    each = frame(BINARY, b"\x00" * 1024, key=None)

    async def main() -> None:
        async with Server(make_app(), port=None, grace_s=0.0) as server:
            with theirs:
                await server.adopt(ours, upgrade("/flood"))
                await read_until(theirs, b"\r\n\r\n")
                await send(theirs, text(str(count)) + close())
                data = await read_to_end(theirs)
                assert data[:-4] == each * count
                await server.wait_idle()

    run(main())


def test_what_a_socket_takes_at_once_is_not_waited_for(run: RunLoop) -> None:
    ours, theirs = wide_pair(Watched)

    async def main() -> None:
        app = make_app()
        sent: list[int] = []

        @app.module("/big").on_message
        def big(session: Session, message: str) -> None:
            session.send(b"\x00" * 40_000)
            session.send(b"\x00" * 40_000)

        async with Server(app, port=None, grace_s=0.0) as server:
            with theirs:
                await server.adopt(ours, upgrade("/big"))
                await read_until(theirs, b"\r\n\r\n")
                Watched.calls = 0
                await send(theirs, text("go"))
                while not sent or sent[-1] < 80_000:
                    piece = await asyncio.get_running_loop().sock_recv(theirs, 1_000_000)
                    sent.append(sum(sent[-1:]) + len(piece))
                await server.call(Hub.stats)
                await asyncio.sleep(0)
                assert Watched.calls == 1
                assert not server.full

    run(main())


def test_a_peer_that_resets_while_much_is_written_is_lost_once(run: RunLoop) -> None:
    lost: list[str] = []

    async def main() -> None:
        app = make_app(limits=MUCH, on_close=lambda session: lost.append("lost"))
        async with Server(app, port=0) as server:
            sock = await opened(server, "/flood")
            await send(sock, text("30000"))
            await until(lambda: bool(server.full))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()
            await server.wait_idle()
            assert not server.full
            assert not server.sockets
            assert server.hub.stats().connections == 0

    run(main())
    assert lost == ["lost"]


# -- TLS --------------------------------------------------------------------------------------


def test_what_comes_with_the_end_of_tls_is_served(
    run: RunLoop, certificates: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        heard: list[str] = []
        app = App(deflate=None)

        @app.module("/").on_message
        def hear(session: Session, message: str) -> None:
            heard.append(message)

        async with Server(app, port=0, ssl=certificates[0]) as server:
            with await peer(server) as sock:
                pipe = TlsPipe(certificates[1], server_side=False, server_hostname="localhost")
                while not pipe.handshake_done:
                    await send(sock, pipe.data_to_send())
                    pipe.receive_data(await loop.sock_recv(sock, 65536))
                pipe.send([upgrade("/") + text("last")])
                pipe.close_notify()
                await send(sock, pipe.data_to_send() + b"what is no TLS")
                await read_to_end(sock)
            await server.wait_idle()
        assert heard == ["last"]

    run(main())


def test_a_handshake_that_the_peer_breaks_off_is_counted(
    run: RunLoop, certificates: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with Server(make_app(), port=0, ssl=certificates[0]) as server:
            for linger in (None, RESET):
                before = server.tls_failures
                sock = await peer(server)
                await send(sock, b"\x16\x03\x01")
                await until(lambda: len(server.sockets) == 1)
                if linger is not None:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                sock.close()
                await until(lambda: not server.sockets)
                assert server.tls_failures == before + 1
            assert server.hub.stats().connections_total == 0
        if hasattr(loop, "_scheduled"):
            assert not [each for each in loop._scheduled if is_left(each)]

    run(main())


def test_a_refused_peer_whose_tls_was_fine_is_no_failure_of_tls(
    run: RunLoop, certificates: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async def main() -> None:
        app = make_app(limits=Limits(connections_max=1))
        async with Server(app, port=0, ssl=certificates[0], grace_s=0.0) as server:
            ours, theirs = socket.socketpair()
            with theirs:
                await server.adopt(ours)
                sock = await peer(server)
                pipe = TlsPipe(certificates[1], server_side=False, server_hostname="localhost")
                while not pipe.handshake_done:
                    await send(sock, pipe.data_to_send())
                    pipe.receive_data(await asyncio.get_running_loop().sock_recv(sock, 65536))
                await send(sock, pipe.data_to_send())
                await until(lambda: server.hub.stats().connections_refused == 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                sock.close()
                await until(lambda: len(server.sockets) == 1)
                assert server.tls_failures == 0

    run(main())


# -- descriptors ------------------------------------------------------------------------------


def test_descriptors_that_run_out_are_waited_for(run: RunLoop) -> None:
    async def main() -> None:
        async with Server(make_app(), port=0) as server:
            with socket.create_connection(server.addresses[0]) as sock:  # it is not accepted yet
                sock.setblocking(False)
                soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
                taken = [socket.socket() for _ in range(3)]
                resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1].fileno() + 1, hard))
                try:
                    with contextlib.suppress(OSError):
                        while True:
                            taken.append(socket.socket())
                    await send(sock, upgrade("/echo") + text("patient") + close())
                    await until(lambda: server._listeners.pressure.count > 0)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                    for each in taken:
                        each.close()
                await read_until(sock, answer("patient") + frame(8, b"\x03\xe8", key=None))

    run(main())


def test_a_number_that_is_used_again_is_not_taken_for_the_old(run: RunLoop) -> None:
    """Two peers reset in one turn, and what their handlers open gets the same numbers."""
    others: list[socket.socket] = []

    async def main() -> None:
        async def adopt(server: Server, sock: socket.socket) -> None:
            await server.adopt(sock, upgrade("/echo") + text("new"))

        tasks: list[asyncio.Task[None]] = []

        def gone(session: Session) -> None:
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            others.append(theirs)
            tasks.append(asyncio.get_running_loop().create_task(adopt(server, ours)))

        async with Server(make_app(on_close=gone), port=0, grace_s=0.0) as server:
            socks = [await opened(server, "/flood") for _ in range(20)]
            for each in socks:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                each.close()
            await until(lambda: len(others) == 20)
            for each in others:
                await read_until(each, answer("new"))
                await send(each, text("again") + close())
                await read_until(each, answer("again") + frame(8, b"\x03\xe8", key=None))
                each.close()
            await asyncio.gather(*tasks)
            await server.wait_idle()

    run(main())


def test_a_handler_may_adopt(run: RunLoop) -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    async def main() -> None:
        app = make_app()

        @app.module("/adopt").on_message
        async def adopt(session: Session, message: str) -> str:
            await server.adopt(ours, upgrade("/echo") + text("adopted"))
            return message

        async with Server(app, port=0, grace_s=0.0) as server:
            with theirs, await opened(server, "/adopt") as sock:
                await send(sock, text("go"))
                await read_until(theirs, answer("adopted"))
                await read_until(sock, answer("go"))

    run(main())


def test_a_handler_may_close_the_server(run: RunLoop) -> None:
    async def main() -> None:
        app = make_app()

        @app.module("/close").on_message
        async def shut(session: Session, message: str) -> None:
            await server.close()

        async with Server(app, port=0, grace_s=0.01) as server:
            with await opened(server, "/close") as sock, await opened(server, "/echo") as other:
                await send(sock, text("go"))
                assert b"the server is shutting down" in await read_to_end(sock)
                assert b"the server is shutting down" in await read_to_end(other)
        assert not server.sockets
        assert not server.handlers

    run(main())


def test_in_debug_mode_nothing_is_said(run: RunLoop, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_debug(True)
        async with Server(make_app(limits=MUCH), port=0) as server:
            with await opened(server, "/flood") as sock:
                await send(sock, text("8000") + close())
                assert len(await read_to_end(sock)) > 8000 * 1024
            await server.wait_idle()

    run(main())
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []


def test_what_the_hub_says_of_a_socket_that_has_just_failed_is_harmless(
    run: RunLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """A write fails, and in the same drain reading is to be paused."""
    app = App(deflate=None)
    ours, theirs = socket.socketpair()

    @app.module("/").on_message
    async def slow(session: Session, message: str) -> None:
        await session.sleep(3600.0)

    async def main() -> None:
        async with Server(app, port=None, grace_s=0.0) as server:
            await server.adopt(ours, upgrade("/"))
            theirs.setblocking(False)
            await read_until(theirs, b"\r\n\r\n")
            theirs.send(frame(PING, b"your pong will fail") + text("a") * 1000)
            theirs.close()
            await until(lambda: not server.sockets)
            await server.call(Hub.stats)

    run(main())
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []


# -- the end ----------------------------------------------------------------------------------


def test_nothing_is_left_after_the_end(
    run: RunLoop,
    certificates: tuple[ssl.SSLContext, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wireroom.transports.socket_callbacks.REFUSAL_LINGER_S", TEST_TIMEOUT_S)
    app = make_app(limits=dataclasses.replace(MUCH, connections_max=2))

    @app.every(3600.0)
    def hourly(hub: Hub) -> None: ...

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        await asyncio.sleep(0)
        before = open_fds()
        async with Server(app, port=0, grace_s=0.0) as server:
            clients = [await opened(server, path) for path in ("/echo", "/flood")]
            await send(clients[1], text("30000"))
            clients.append(await peer(server))  # one too many
            ours, theirs = socket.socketpair()
            await server.adopt(ours, ssl=certificates[0])  # it never shakes hands
            clients.append(theirs)
            await until(lambda: len(server.sockets) == 4 and bool(server.full))
        for each in clients:
            each.close()
        for _ in range(3):
            await asyncio.sleep(0)
        assert open_fds() <= before
        assert not server.sockets
        assert not server.connections
        if hasattr(loop, "_selector"):  # asyncio's own
            watching = [key.data[0]._callback.__name__ for key in loop._selector.get_map().values()]
            assert watching == ["_read_from_self"]
            assert not [each for each in loop._scheduled if is_left(each)]

    run(main())


def test_connections_that_are_gone_are_not_kept(run: RunLoop) -> None:
    async def main() -> None:
        async with Server(make_app(), port=0) as server:
            gc.collect()
            gc.disable()
            try:
                seen: list[weakref.ref[socket.socket]] = []
                for _ in range(50):
                    with await opened(server, "/echo"):
                        (connection,) = server.connections.values()
                        seen.append(weakref.ref(connection._sock))
                        del connection
                    await server.wait_idle()
                await asyncio.sleep(0)
                assert [each for each in seen[:-1] if each() is not None] == []
            finally:
                gc.enable()

    run(main())


def test_a_server_that_cannot_listen_leaves_nothing(run: RunLoop) -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        before = open_fds()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            app = make_app()
            app.every(3600.0)(lambda hub: None)
            server = Server(app, port=taken.getsockname()[1])
            with pytest.raises(ConfigurationError, match="is in use"):
                await server.start()
        await asyncio.sleep(0)
        assert open_fds() <= before
        assert server.hub.next_timeout() is None

    run(main())


def test_two_may_close_a_server(run: RunLoop) -> None:
    async def main() -> None:
        async with Server(make_app(), port=0, grace_s=0.0) as server:
            with await opened(server, "/echo"):
                reports = await asyncio.gather(server.close(), server.close())
        assert [*reports] == [ShutdownReport(0, 1, 0, 0, 0)] * 2

    run(main())


def test_a_close_that_is_cancelled_ends_everything_at_once(run: RunLoop) -> None:
    cancelled: list[str] = []
    app = make_app()

    @app.module("/wait").on_message
    async def wait(session: Session, message: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(message)

    async def main() -> None:
        await asyncio.sleep(0)
        before = open_fds()
        ready: asyncio.Future[Server] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(
            serve(app, port=0, grace_s=1e6, handle_signals=False, on_ready=ready.set_result)
        )
        server = await ready
        with await opened(server, "/wait") as sock:
            await send(sock, text("waiting"))
            await until(lambda: bool(server.handlers))
            task.cancel()
            await read_until(sock, b"the server is shutting down")
            task.cancel()  # it is in no mood to wait
            with pytest.raises(asyncio.CancelledError):
                await task
            await read_to_end(sock)
        await server.wait_idle()
        assert cancelled == ["waiting"]
        assert open_fds() <= before
        assert (await server.close()).unfinished == 0

    run(main())


def test_nobody_is_adopted_after_the_end(run: RunLoop) -> None:
    async def main() -> None:
        async with Server(make_app(), port=None) as server:
            pass
        ours, theirs = socket.socketpair()
        with ours, theirs, pytest.raises(LocalProtocolError, match="has ended"):
            await server.adopt(ours)
        assert not server.sockets

    run(main())


def test_all_who_have_connected_by_the_end_are_served(run: RunLoop) -> None:
    async def main() -> None:
        server = Server(make_app(), port=0, grace_s=0.0)
        async with server:
            server.linger_s = TEST_TIMEOUT_S
            # Blocking: they wait in the backlog, and nobody is accepted meanwhile.
            clients = [socket.create_connection(server.addresses[0]) for _ in range(200)]
            for each in clients:
                each.sendall(upgrade("/echo"))
                each.setblocking(False)
            closing = asyncio.create_task(server.close())
            for each in clients:
                assert (await read_until(each, b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            server.stop()
            server.stop()
            await closing
            for each in clients:
                each.close()

    run(main())


def test_a_listener_that_somebody_else_has_closed_does_not_stop_the_end(run: RunLoop) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with Server(make_app(), sockets=[listener]) as server:
                with await opened(server, "/echo") as sock:
                    listener.close()
                    await send(sock, text("still") + close())
                    await read_until(sock, answer("still") + frame(8, b"\x03\xe8", key=None))
                await server.wait_idle()

    run(main())


def test_an_input_after_an_interruption_is_drained() -> None:
    """A KeyboardInterrupt may come anywhere, and the loop may run on."""
    app = make_app()

    @app.module("/interrupt").on_message
    def interrupt(session: Session, message: str) -> None:
        raise KeyboardInterrupt

    with asyncio.Runner() as runner:
        server = Server(app, port=0, grace_s=0.0)

        async def start() -> socket.socket:
            await server.start()
            return await opened(server, "/interrupt")

        async def go_on() -> None:
            async with asyncio.timeout(TEST_TIMEOUT_S):
                with await opened(server, "/echo") as sock:
                    (session,) = [each for each in server.hub.sessions() if each.path == "/echo"]
                    session.send("unasked")
                    await read_until(sock, answer("unasked"))
                await server.close()

        with runner.run(start()) as sock:
            sock.send(text("go"))
            with pytest.raises(KeyboardInterrupt):
                runner.run(asyncio.sleep(TEST_TIMEOUT_S))
            runner.run(go_on())
