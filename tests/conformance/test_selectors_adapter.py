"""The adapter of docs/writing-an-adapter.md over real sockets: `websockets` as the peer, then the
conformance suite."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from typing import Any, TypeVar

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from examples import load_example
from raw import upgrade
from sources import ROOT
from wireroom.core import App, Hub, Limits, Session, WebSocket
from wireroom.transports.conformance import Address, Feature, Harness, Options, Suite
from wireroom.transports.drain import ShutdownReport
from wireroom.transports.listening import close_listeners, open_listeners

T = TypeVar("T")

TIMEOUT_S = 60.0

adapter = load_example("adapter", "selectors_adapter")
page = (ROOT / "docs" / "writing-an-adapter.md").read_text("utf-8")
names: dict[str, Any] = dict(vars(adapter))
exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[1], names)
adopt = names["adopt"]


class Running:
    """The adapter in a thread, until `stop`."""

    def __init__(self, app: App, **listen: Any) -> None:
        self._listeners = open_listeners(**listen)
        self.address: Any = self._listeners[0].getsockname()
        self.server = adapter.Server(app, self._listeners[0])
        self.hub: Hub = self.server.hub
        self._ended: Future[None] = Future()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            self.server.serve_forever()
        except BaseException as error:
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)

    def call(self, function: Callable[[Hub], T]) -> T:
        """Call `function(hub)` in the server's thread."""
        future: Future[T] = Future()

        def called() -> None:
            try:
                future.set_result(function(self.hub))
            except BaseException as error:
                future.set_exception(error)

        self.server.call(called)
        return future.result(TIMEOUT_S)

    def stop(self) -> None:
        """Shut down; raises what has ended the thread otherwise."""
        if not self._ended.done():
            self.server.call(lambda: self.hub.shutdown(now=self.hub.now))
        try:
            self._ended.result(TIMEOUT_S)
        finally:
            close_listeners(self._listeners)
        assert not self.server.peers
        assert self.hub.stats().connections == self.hub.stats().invocations == 0


class FailingError(Exception):
    """What a handler raises on purpose."""


def make_app(**settings: Any) -> App:
    app = App(**settings)
    echo = app.module("/echo")
    echo.on_message(lambda session, message: message)

    @app.websocket("/function")
    async def function(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send("welcome")
        async for message in ws:
            await ws.send(message)

    waiting = app.module("/waiting")

    @waiting.on_message
    async def answer_later(session: Session, message: str | bytes) -> str | bytes:
        await session.sleep(0.001)
        return message

    foreign = app.module("/foreign")

    @foreign.on_message
    async def await_foreign(session: Session, message: str | bytes) -> str:
        try:
            await asyncio.sleep(0)
        except RuntimeError as error:
            return str(error)
        return "it was awaited"

    failing = app.module("/failing")

    @failing.on_message
    async def fail(session: Session, message: str | bytes) -> None:
        raise FailingError(message)

    room = app.module("/room")

    @room.on_open
    def join(session: Session) -> None:
        session.join("all")
        session.send("joined")

    @room.on_message
    def say(session: Session, message: str | bytes) -> None:
        session.room("all").broadcast(message)

    return app


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """Runs an app; at the end it is shut down."""
    with ExitStack() as stack:

        def run(app: App) -> Running:
            running = Running(app, port=0)
            stack.callback(running.stop)
            return running

        yield run


def client(running: Running, path: str, **options: Any) -> ClientConnection:
    host, port = running.address[:2]
    url = f"ws://{host}:{port}{path}"
    opened: ClientConnection = connect(url, proxy=None, open_timeout=TIMEOUT_S, **options)
    return opened


@pytest.mark.parametrize("path", ["/echo", "/waiting", "/function"])
def test_echo(serve: Callable[..., Running], path: str) -> None:
    with client(serve(make_app()), path) as ws:
        if path == "/function":
            assert ws.recv(TIMEOUT_S) == "welcome"
        for message in ("", "grüße", b"\x00\xff", "x" * 300_000):
            ws.send(message)
            assert ws.recv(TIMEOUT_S) == message
        for number in range(200):
            ws.send(str(number))
        assert [ws.recv(TIMEOUT_S) for _ in range(200)] == [str(n) for n in range(200)]
    assert ws.close_code == 1000


def test_a_big_message_goes_out_as_the_socket_takes_it(serve: Callable[..., Running]) -> None:
    limits = Limits(message_bytes_max=40_000_000, outbox_bytes_max=40_000_000)
    running = serve(make_app(limits=limits, deflate=None))
    big = bytes(range(256)) * 100_000
    with client(running, "/echo", max_size=None, compression=None) as ws:
        ws.send(big)
        assert ws.recv(TIMEOUT_S) == big
        ws.send("and it goes on")
        assert ws.recv(TIMEOUT_S) == "and it goes on"


def test_who_reads_nothing_is_aborted(serve: Callable[..., Running]) -> None:
    app = make_app(limits=Limits(stall_timeout_s=0.05, outbox_bytes_max=2**30), deflate=None)
    closed: Future[tuple[int | None, str]] = Future()
    stalling = app.module("/stalling")

    @stalling.on_close
    def has_closed(session: Session) -> None:
        closed.set_result((session.close_code, session.close_reason))

    running = serve(app)
    with (
        socket.create_connection(running.address, timeout=TIMEOUT_S) as stalled,
        client(running, "/room") as other,
    ):
        stalled.sendall(upgrade("/stalling"))
        assert other.recv(TIMEOUT_S) == "joined"
        while not closed.done():
            running.call(lambda hub: hub.broadcast(b"b" * 100_000))
            assert len(other.recv(TIMEOUT_S)) == 100_000
        assert closed.result() == (1006, "stalled: the peer reads nothing")
        other.send("still here")
        assert other.recv(TIMEOUT_S) == "still here"
        with suppress(ConnectionResetError):
            while stalled.recv(65536):
                pass


def test_a_broadcast_from_another_thread(serve: Callable[..., Running]) -> None:
    running = serve(make_app())
    with ExitStack() as stack:
        clients = [stack.enter_context(client(running, "/room")) for _ in range(20)]
        for each in clients:
            assert each.recv(TIMEOUT_S) == "joined"
        assert running.call(lambda hub: hub.broadcast("to all")) == 20
        for each in clients:
            assert each.recv(TIMEOUT_S) == "to all"


def test_what_is_not_ours_cannot_be_awaited(serve: Callable[..., Running]) -> None:
    with client(serve(make_app()), "/foreign") as ws:
        for _ in range(2):
            ws.send("")
            answer = ws.recv(TIMEOUT_S)
            assert str(answer).endswith("awaits None, but no event loop runs here")


def test_a_handler_that_always_goes_on_holds_up_nobody_and_is_cancelled(
    serve: Callable[..., Running],
) -> None:
    app = make_app(limits=Limits(close_timeout_s=0.05))
    ended: Future[str] = Future()

    @app.websocket("/stubborn")
    async def stubborn(ws: WebSocket) -> None:
        await ws.accept()
        try:
            while True:
                with suppress(Exception):
                    await asyncio.sleep(0)
        except BaseException as error:
            ended.set_result(type(error).__name__)
            raise

    running = serve(app)
    with client(running, "/stubborn"), client(running, "/echo") as ws:
        ws.send("others are served")
        assert ws.recv(TIMEOUT_S) == "others are served"
    assert ended.result(TIMEOUT_S) == "Cancelled"


def test_handlers_end_before_the_server_does(serve: Callable[..., Running]) -> None:
    app = make_app()
    leaving = app.module("/leaving")
    left: list[int] = []

    @leaving.on_close
    async def tidy_up(session: Session) -> None:
        await session.sleep(0.05)
        left.append(session.close_code or 0)

    running = serve(app)
    with client(running, "/leaving"):
        running.stop()
    assert left == [1001]


def test_a_peer_that_resets_is_lost_at_once(serve: Callable[..., Running]) -> None:
    app = make_app()
    closed: Future[int | None] = Future()
    app.module("/reset").on_close(lambda session: closed.set_result(session.close_code))
    running = serve(app)
    with socket.create_connection(running.address, timeout=TIMEOUT_S) as peer:
        peer.sendall(upgrade("/reset"))
        assert peer.recv(65536).startswith(b"HTTP/1.1 101 ")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert closed.result(TIMEOUT_S) == 1006


def test_a_call_after_the_end_does_nothing(serve: Callable[..., Running]) -> None:
    running = serve(make_app())
    running.stop()
    running.server.call(lambda: pytest.fail("it was called"))


def test_a_handler_that_raises_is_logged(
    serve: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    running = serve(make_app())
    with client(running, "/failing") as ws, client(running, "/echo") as other:
        ws.send("on purpose")
        assert "handler_failed" in str(ws.recv(TIMEOUT_S))
        other.send("unhurt")
        assert other.recv(TIMEOUT_S) == "unhurt"
    (record,) = [each for each in caplog.records if each.name == adapter.__name__]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], FailingError)


def test_a_peer_too_many_is_refused_and_all_are_told_of_the_end(
    serve: Callable[..., Running],
) -> None:
    running = serve(make_app(limits=Limits(connections_max=1)))
    with client(running, "/echo") as ws:
        with socket.create_connection(running.address, timeout=TIMEOUT_S) as refused:
            assert refused.recv(65536).startswith(b"HTTP/1.1 503 ")
        running.stop()
        with pytest.raises(ConnectionClosed):
            ws.recv(TIMEOUT_S)
        assert ws.close_code == 1001


class AdapterHarness:
    """The adapter as the conformance suite runs it."""

    lacks: Mapping[Feature, str] = {
        Feature.BLOCKING: "it has one thread",
        Feature.TLS: "left out, to stay short",
        Feature.SHUTDOWN: "left out, to stay short",
    }

    def start(self, app: App, options: Options) -> Address:
        listen = {"port": 0} if options.unix is None else {"unix": options.unix}
        self._running = Running(app, **listen)
        address: Address = self._running.address
        return address

    def call(self, function: Callable[[Hub], T]) -> T:
        return self._running.call(function)

    def adopt(self, sock: socket.socket, received: bytes) -> None:
        self.call(lambda hub: adopt(self._running.server, sock, received))

    def stop(self) -> ShutdownReport:
        self._running.stop()
        return ShutdownReport(closed=0, aborted=0, cancelled=0, unfinished=0, dropped_messages=0)


class TestSelectorsAdapter(Suite):
    """Our suite, as the author of any adapter runs it."""

    @pytest.fixture
    def harness(self) -> Harness:
        return AdapterHarness()
