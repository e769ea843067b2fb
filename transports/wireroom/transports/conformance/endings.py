"""How connections and servers end: half-closed, reset, dropped by the thousand, shut down."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from wireroom.core import App, Limits, Request, Room, Session, WebSocket

from .behaviours import Behaviours, Failures, Server, Told, needs, wait_until
from .client import PATIENCE_S, TEXT, Client, frame
from .harness import Feature, Options

_CONNECTS: Final = 1000
_OPEN_FDS: Final = Path("/dev/fd")


def _app(
    told: Told[int] | None = None, limits: Limits | None = None, opened_fds: Told[int] | None = None
) -> App:
    app = App(limits=limits)

    @app.websocket("/function")
    async def function(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            await ws.send(message)

    @app.websocket("/pondering")
    async def pondering(ws: WebSocket) -> None:
        await ws.sleep(0.05)
        await ws.accept()

    module = app.module("/")

    @module.on_open
    def opened(session: Session) -> None:
        session.user = "everybody"
        session.join("room")
        if opened_fds is not None:
            opened_fds.put(session.fd)

    @module.on_message
    async def echo(session: Session, message: str | bytes) -> str | bytes:
        await session.sleep(0.001)
        return message

    @module.on_close
    def closed(session: Session) -> None:
        if told is not None:
            told.put(session.close_code)

    @app.http("/healthz")
    def healthz(request: Request) -> str:
        return "ok"

    return app


# Ways to come and go; each gets a fresh connection.


def _close(client: Client) -> None:
    client.handshake("/").close()


def _close_function(client: Client) -> None:
    client.handshake("/function").close()


def _echo_and_reset(client: Client) -> None:
    client.handshake("/")
    client.send("a")
    assert client.receive() == "a"
    client.reset()


def _reset_with_messages_under_way(client: Client) -> None:
    client.handshake("/")
    client.send("a", "b", "c")
    client.reset()


def _drop_before_the_answer(client: Client) -> None:
    client.write(client.upgrade("/pondering"))
    client.drop()


def _drop_half_a_head(client: Client) -> None:
    client.write(client.upgrade("/")[:40])
    client.drop()


def _drop_half_a_frame(client: Client) -> None:
    client.handshake("/function")
    client.write(frame(TEXT, b"abc")[:-1])
    client.drop()


def _reset_at_once(client: Client) -> None:
    client.reset()


_WAYS: Final[list[Callable[[Client], None]]] = [
    _close,
    _close_function,
    _echo_and_reset,
    _reset_with_messages_under_way,
    _drop_before_the_answer,
    _drop_half_a_head,
    _drop_half_a_frame,
    _reset_at_once,
]
_SESSION_WAYS: Final = {
    _close,
    _close_function,
    _echo_and_reset,
    _reset_with_messages_under_way,
    _drop_half_a_frame,
}


def _open_fds() -> int:
    return sum(1 for _ in _OPEN_FDS.iterdir())


class Endings(Behaviours):
    """Ends, of connections and of servers."""

    @needs(Feature.HALF_CLOSE)
    def test_what_came_before_the_end_of_a_stream_is_answered(self, server: Server) -> None:
        told: Told[int] = Told()
        server.start(_app(told))
        client = server.open("/")
        client.send("one", "two")
        client.half_close()
        assert [client.receive(), client.receive()] == ["one", "two"]
        client.read_to_end()
        assert told.next("on_close") == 1006
        server.wait_idle()

    @needs(Feature.HALF_CLOSE, Feature.HTTP)
    def test_a_request_is_answered_after_the_end_of_a_stream(self, server: Server) -> None:
        server.start(_app())
        client = server.connect()
        client.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        client.half_close()
        assert client.read_to_end().endswith(b"ok")
        server.wait_idle()

    def test_a_peer_that_is_gone_is_noticed_at_once(self, server: Server) -> None:
        told: Told[int] = Told()
        server.start(_app(told))
        for leave in (Client.reset, Client.drop):
            client, other = server.open("/"), server.open("/")
            leave(client)
            assert told.next("on_close") in (1005, 1006)
            other.send("still here")
            assert other.receive() == "still here"
            other.close()
            code = told.next("on_close")
            assert code == 1000 or not server.can(Feature.CLOSE_CODES)
        server.wait_idle()

    @pytest.mark.skipif(not _OPEN_FDS.is_dir(), reason="the system does not tell open files")
    def test_a_thousand_connects_and_drops_leave_nothing(self, server: Server) -> None:
        opened, closed = Told[int](), Told[int]()
        server.start(_app(closed, Limits(close_timeout_s=0.3), opened))
        for way in _WAYS:
            way(server.connect())  # what is opened once, and stays
        before = server.wait_idle()
        gc.collect()
        fds_before = _open_fds()
        for number in range(_CONNECTS):
            with Client.connect(server.address) as client:
                _WAYS[number % len(_WAYS)](client)
        # Those that were reset at once may wait to be accepted still; after this one they do not.
        server.open("/").close()
        after = server.wait_idle()
        wait_until("their files are closed", lambda: _open_fds() <= fds_before)
        sessions = sum(_WAYS[n % len(_WAYS)] in _SESSION_WAYS for n in range(_CONNECTS)) + 1
        assert after.sessions_total - before.sessions_total >= sessions
        assert after.requests - before.requests >= sessions
        assert after.requests - before.requests <= _CONNECTS + 1
        # Those that were reset at once may have been accepted after the first count.
        accepted_max = _CONNECTS + 1 + len(_WAYS)
        assert after.connections_total - before.connections_total <= accepted_max
        assert after.handler_failures == after.violations == 0
        assert len(closed.all()) == len(opened.all()) >= _CONNECTS // len(_WAYS) * 3

    # -- shutdown -----------------------------------------------------------------------------

    def test_sessions_are_told_of_the_end(self, server: Server) -> None:
        server.start(_app())
        clients = [server.open(target) for target in ("/", "/function", "/") for _ in range(5)]
        stopping = server.stop_soon()
        for each in clients:
            assert each.finish()[0] == 1001
        stopping.result(PATIENCE_S)
        with suppress(OSError):
            socket.create_connection(server.address, 1.0).close()  # type: ignore[arg-type]
            raise AssertionError("the server accepts connections after its end")

    @needs(Feature.SHUTDOWN)
    def test_the_end_is_reported(self, server: Server) -> None:
        server.start(_app(), Options(close_code=1012, grace_s=PATIENCE_S))
        clients = [server.open("/") for _ in range(7)]
        stopping = server.stop_soon()
        for each in clients:
            assert each.finish() == (1012, "the server is shutting down")
        report = stopping.result(PATIENCE_S)
        assert (report.closed, report.aborted, report.cancelled, report.unfinished) == (7, 0, 0, 0)
        assert report.dropped_messages == 0

    @needs(Feature.SHUTDOWN)
    def test_the_end_may_be_spread(self, server: Server) -> None:
        app = App()
        told: Told[float] = Told()
        module = app.module("/")

        @module.on_open
        def joined(session: Session) -> None:
            session.join("all")

        @module.on_leave
        def left(session: Session, room: Room) -> None:
            told.put(session.hub.now)  # when the Close was sent

        server.start(app, Options(spread_s=0.4, grace_s=PATIENCE_S))
        clients = [server.open("/") for _ in range(4)]
        stopping = server.stop_soon()
        for each in clients:
            assert each.finish()[0] == 1001
        assert stopping.result(PATIENCE_S).closed == 4
        times = told.all()
        assert len(set(times)) == 4
        assert times[-1] - times[0] > 0.25

    @needs(Feature.SHUTDOWN, Feature.CLOSING)
    def test_who_does_not_answer_is_aborted_after_the_grace_time(self, server: Server) -> None:
        server.start(_app(), Options(grace_s=0.2))
        silent, polite = server.open("/"), server.open("/")
        stopping = server.stop_soon()
        assert polite.finish()[0] == 1001
        report = stopping.result(PATIENCE_S)
        assert report.aborted >= 1  # who is polite may have been too late
        assert report.closed + report.aborted == 2
        assert silent.await_close()[0] == 1001
        silent.read_to_end()

    @needs(Feature.SHUTDOWN, Feature.ABORTS)
    def test_a_peer_that_reads_nothing_does_not_hold_up_the_end(self, server: Server) -> None:
        server.start(_app(limits=Limits(outbox_bytes_max=2**25)), Options(grace_s=0.2))
        silent = server.connect(receive_buffer_bytes=16 * 1024).handshake("/")
        server.call(lambda hub: hub.broadcast(bytes(2**24)))
        report = server.stop()
        assert report.aborted == 1
        silent.read_to_end()

    @needs(Feature.SHUTDOWN)
    def test_handlers_are_cancelled_after_the_grace_time(self, server: Server) -> None:
        app = App()
        told: Told[str] = Told()

        @app.websocket("/")
        async def forever(ws: WebSocket) -> None:
            await ws.accept()
            try:
                await ws.sleep(3600)
            finally:
                told.put("left")

        server.start(app, Options(grace_s=0.2))
        client = server.open("/")
        stopping = server.stop_soon()
        assert client.finish()[0] == 1001
        report = stopping.result(PATIENCE_S)
        assert told.next("the handler is cancelled") == "left"
        assert report.closed + report.aborted == 1
        assert (report.cancelled, report.unfinished) == (1, 0)

    @needs(Feature.SHUTDOWN)
    def test_a_handler_that_ignores_its_cancellation_is_reported(
        self, server: Server, failures: Failures
    ) -> None:
        app = App()
        released = threading.Event()

        @app.websocket("/")
        async def stubborn(ws: WebSocket) -> None:
            await ws.accept()
            while not released.is_set():
                with suppress(BaseException):
                    await ws.sleep(3600)

        server.start(app, Options(grace_s=0.1))
        try:
            client = server.open("/")
            stopping = server.stop_soon()
            assert client.finish()[0] == 1001
            report = stopping.result(PATIENCE_S)
        finally:
            released.set()
        assert (report.cancelled, report.unfinished) == (1, 1)

    @needs(Feature.SHUTDOWN)
    def test_handshakes_under_way_are_refused_at_the_end(self, server: Server) -> None:
        app = App()
        told: Told[str] = Told()

        @app.websocket("/")
        async def ponder(ws: WebSocket) -> None:
            told.put("asked")
            await ws.sleep(3600)

        server.start(app, Options(grace_s=0.2))
        client = server.connect()
        client.write(client.upgrade("/"))
        told.next("the handler is asked")
        idle = server.connect()
        stopping = server.stop_soon()
        assert client.read_to_end().startswith(b"HTTP/1.1 503 ")
        client.drop()
        # Nothing, or a refusal if it came too late to be a connection.
        assert idle.read_to_end()[:13] in (b"", b"HTTP/1.1 503 ")
        idle.drop()
        assert stopping.result(PATIENCE_S).unfinished == 0
