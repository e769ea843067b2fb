"""What a review once found wrong; each of these failed before it was mended."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from driver import Cancelled, Foreign, Simulation
from frames import PING, RSV1, TEXT, deflated, frame
from wireroom.core import (
    Accept,
    App,
    Limits,
    LocalProtocolError,
    PauseReading,
    Response,
    Session,
    WebSocket,
)
from wireroom.core.hub import Hub

KEY = b"\x01\x02\x03\x04"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)


def replying(size: int, **limits: float) -> tuple[App, list[str]]:
    """Every message is answered by so many bytes."""
    app = App(limits=Limits(**limits))  # type: ignore[arg-type]
    handled: list[str] = []

    @app.module("/").on_message
    def on_message(session: Session, message: str) -> str:
        handled.append(message[:1])
        return "y" * size

    return app, handled


def test_the_inbox_stays_within_its_bound_while_the_outbox_is_above_its_mark() -> None:
    app, handled = replying(1000, outbox_mark_bytes=500, inbox_bytes_max=10_000)
    hub = Hub(app)
    fd = hub.connect(("10.0.0.1", 4000), now=0.0)
    hub.receive_data(fd, UPGRADE, now=0.0)
    small = frame(TEXT, deflated(b"x" * 5000), rsv=RSV1, key=KEY)
    hub.receive_data(fd, small * 100, now=0.0)
    session = hub.session(fd)
    assert session is not None
    while len(handled) < 100:
        assert session.inbox_bytes <= 20_000
        hub.data_to_send(fd)
        while hub.next_output() is not None:
            pass
        hub.receive_data(fd, b"", now=0.0)


@pytest.mark.parametrize("function", [False, True])
def test_nothing_that_came_before_an_end_of_stream_is_lost(function: bool) -> None:
    app, handled = replying(1000, outbox_mark_bytes=20_000)
    if function:

        @app.websocket("/function")
        async def read(ws: WebSocket) -> None:
            await ws.accept()
            async for message in ws:
                handled.append(str(message)[:1])
                await ws.send("y" * 1000)

    simulation = Simulation(app)
    peer = simulation.open("/function" if function else "/")
    messages = b"".join(frame(TEXT, str(n).encode(), key=KEY) for n in range(200))
    simulation.hub.receive_data(peer.fd, messages, now=0.0)
    simulation.hub.receive_eof(peer.fd, now=0.0)
    simulation.settle()
    assert len(handled) == 200


def test_a_violation_behind_a_busy_handler_ends_within_one_deadline() -> None:
    app = App(limits=Limits(close_timeout_s=10.0))

    @app.module("/").on_message
    async def for_ever(session: Session, message: str) -> None:
        await Foreign()

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.polite = False
    peer.send_raw(frame(TEXT, b"x", key=KEY) + b"\x83\x80" + KEY)
    simulation.advance(10.1)
    assert peer.lost


@pytest.mark.parametrize(("timeout", "pings"), [(inf, 5), (60.0, 3)])
def test_pings_go_on_while_one_is_unanswered(timeout: float, pings: int) -> None:
    app = App(limits=Limits(ping_interval_s=20.0, ping_timeout_s=timeout))
    app.module("/")
    hub = Hub(app)
    fd = hub.connect(("10.0.0.1", 4000), now=0.0)
    hub.receive_data(fd, UPGRADE, now=0.0)
    hub.data_to_send(fd)
    sent = b""
    for now in range(1, 101):
        hub.handle_timeout(now=float(now))
        sent += b"".join(hub.data_to_send(fd))
    assert sent.count(b"\x89\x08") == pings
    assert (hub.stats().ping_timeouts == 1) is (timeout < inf)


def test_a_sleep_that_is_given_up_is_forgotten() -> None:
    app = App(limits=Limits(close_timeout_s=1.0))

    @app.websocket("/")
    async def sleeper(ws: WebSocket) -> None:
        await ws.accept()
        await ws.sleep(86_400)

    simulation = Simulation(app)
    for _ in range(10):
        simulation.open("/").lose()
    simulation.advance(2.0)
    assert simulation.hub.next_timeout() is None


def test_a_stale_resume_does_not_end_the_next_wait() -> None:
    app = App()
    order: list[str] = []

    @app.module("/").on_message
    async def handler(session: Session, message: str) -> None:
        try:
            await session.sleep(1.0)
        except Cancelled:
            order.append("cancelled")
        await session.sleep(5.0)
        order.append("slept")

    simulation = Simulation(app)
    hub = simulation.hub
    peer = simulation.open("/")
    peer.send("go")
    (invocation,) = simulation.running
    simulation.now = 1.0
    hub.handle_timeout(now=1.0)  # says Resume, which is not carried out yet
    hub.resume(invocation, Cancelled(), now=1.0)
    simulation.settle()
    assert order == ["cancelled"]
    simulation.advance(4.9)
    assert order == ["cancelled"]
    simulation.advance(0.2)
    assert order == ["cancelled", "slept"]


def test_a_ping_is_answered_until_a_close_was_received() -> None:
    app = App()
    app.module("/")
    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.polite = False
    simulation.session(peer).close()
    peer.send_raw(frame(PING, b"p", key=KEY))
    assert peer.received.endswith(b"\x8a\x01p")


@pytest.mark.parametrize("result", ["\ud800", 5.5, object()])
def test_a_response_that_cannot_be_sent_is_a_500(result: Any) -> None:
    app = App()
    app.http("/")(lambda request: result)
    simulation = Simulation(app)
    peer = simulation.connect()
    peer.send_raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b" 500 " in peer.received
    assert len(simulation.failures) == 1


def test_a_state_with_names_that_are_none_is_a_500() -> None:
    app = App()
    app.module("/").on_handshake(lambda request: Accept(state={1: 2}))  # type: ignore[dict-item]
    simulation = Simulation(app)
    peer = simulation.connect()
    peer.open("/")
    assert peer.status() == 500
    assert simulation.hub.stats().sessions == 0


def test_a_response_is_checked_where_it_is_made() -> None:
    with pytest.raises(LocalProtocolError):
        Response(200, "x", content_type="a\r\nb: c")


def test_an_async_on_open_may_read_its_session() -> None:
    app = App()
    module = app.module("/")

    @module.on_open
    async def read(session: Session) -> None:
        async for _ in session:
            pass

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.close(4000)
    assert peer.close_frame is not None
    assert not simulation.said(PauseReading)
