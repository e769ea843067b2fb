"""Shutting down: everybody is told, nobody new is taken, and it ends."""

from __future__ import annotations

import pytest

from driver import Foreign, Simulation
from http_responses import read_response, read_responses
from raw import close, get, text, upgrade
from wireroom.core import (
    App,
    Disconnect,
    IdsExhaustedError,
    Limits,
    Session,
    WebSocket,
)

CLOSE_TIMEOUT_S = Limits().close_timeout_s


def stopping_app(gate: Foreign) -> App:
    app = App()

    @app.module("/").on_message
    async def slow(session: Session, message: str) -> str:
        await gate
        return message

    @app.websocket("/function")
    async def function(ws: WebSocket) -> None:
        ws.accept()
        async for _ in ws:
            await gate

    @app.module("/checked").on_handshake
    async def check(request: object) -> None:
        await gate

    @app.websocket("/late")
    async def late(ws: WebSocket) -> None:
        await gate
        ws.accept()

    @app.http("/slow")
    async def page(request: object) -> str:
        return str(await gate)

    app.http("/healthz")(lambda request: "ok")
    return app


@pytest.mark.parametrize("path", ["/", "/function"])
def test_sessions_are_closed_with_1001(path: str) -> None:
    simulation = Simulation(stopping_app(Foreign()))
    peers = [simulation.open(path) for _ in range(3)]
    simulation.shut_down()
    for peer in peers:
        assert peer.close_frame is not None
        assert peer.close_frame.code == 1001
        assert peer.close_frame.reason
        assert (peer.lost, peer.aborted) == (True, False)
    stats = simulation.hub.stats()
    assert (stats.connections, stats.sessions, stats.invocations) == (0, 0, 0)


def test_another_code_and_reason_may_be_given() -> None:
    simulation = Simulation(stopping_app(Foreign()))
    peer = simulation.open("/")
    simulation.hub.shutdown(now=0.0, code=1012, reason="back soon")
    simulation.settle()
    assert peer.close_frame is not None
    assert (peer.close_frame.code, peer.close_frame.reason) == (1012, "back soon")


def test_no_connections_are_taken_any_more() -> None:
    simulation = Simulation(stopping_app(Foreign()))
    simulation.shut_down()
    with pytest.raises(IdsExhaustedError, match="shutting down") as raised:
        simulation.connect()
    assert read_response(raised.value.response).status == 503
    assert simulation.hub.stats().connections_refused == 1


@pytest.mark.parametrize("sent", [b"", b"GET / HT", get("/healthz")])
def test_connections_that_ask_nothing_are_disconnected(sent: bytes) -> None:
    simulation = Simulation(stopping_app(Foreign()))
    peer = simulation.connect()
    peer.send_raw(sent)
    simulation.shut_down()
    assert (peer.lost, peer.aborted) == (True, False)


@pytest.mark.parametrize("data", [upgrade("/checked"), upgrade("/late"), get("/slow")])
def test_requests_under_way_get_503(data: bytes) -> None:
    gate = Foreign()
    simulation = Simulation(stopping_app(gate))
    peer = simulation.connect()
    peer.send_raw(data)
    simulation.shut_down()
    response = read_response(bytes(peer.received))
    assert (response.status, response.closes) == (503, True)
    assert peer.lost
    simulation.complete(gate, "late")
    assert simulation.hub.stats().invocations == 0
    assert simulation.hub.stats().sessions_total == 0
    assert simulation.failures == []


def test_what_was_answered_before_still_arrives() -> None:
    simulation = Simulation(stopping_app(Foreign()))
    peer = simulation.connect()
    peer.stall()
    peer.send_raw(get("/healthz"))
    simulation.shut_down()
    assert not peer.lost
    peer.read()
    assert [each.status for each in read_responses(bytes(peer.received))] == [200]
    assert peer.lost


def test_who_does_not_answer_is_aborted_at_the_close_deadline() -> None:
    simulation = Simulation(stopping_app(Foreign()))
    silent, stalled, paused = (simulation.open("/") for _ in range(3))
    silent.polite = False
    stalled.stall()
    paused.polite = False
    paused.send(*["message"] * 100)
    assert not paused.is_read()
    simulation.shut_down()
    simulation.advance(CLOSE_TIMEOUT_S)
    assert [peer.lost for peer in (silent, stalled, paused)] == [True] * 3
    assert {each.abort for each in simulation.said(Disconnect)} == {True}
    simulation.end()


@pytest.mark.parametrize("path", ["/", "/function"])
def test_handlers_under_way_may_end_by_themselves(path: str) -> None:
    gate = Foreign()
    simulation = Simulation(stopping_app(gate))
    peer = simulation.open(path)
    peer.send("one", "two")
    simulation.shut_down()
    assert peer.lost
    assert simulation.hub.stats().invocations == 1
    simulation.complete(gate)
    assert simulation.hub.stats().invocations == 0
    assert simulation.failures == []
    assert simulation.hub.stats().dropped_messages_received == 1


def test_who_has_begun_to_close_is_not_closed_again() -> None:
    gate = Foreign()
    simulation = Simulation(stopping_app(gate))
    closing, waiting = simulation.open("/"), simulation.open("/")
    closing.polite = False
    simulation.session(closing).close(4001)
    waiting.send_raw(text("one") + close(4002))
    simulation.shut_down()
    assert closing.close_code() == 4001
    assert waiting.close_code() == 1001
    assert waiting.lost
    simulation.complete(gate)


def test_shutting_down_twice_changes_nothing() -> None:
    simulation = Simulation(stopping_app(Foreign()))
    peer = simulation.open("/")
    peer.polite = False
    simulation.shut_down()
    simulation.shut_down()
    assert peer.close_frame is not None
    simulation.advance(CLOSE_TIMEOUT_S)
    assert peer.lost
    assert simulation.hub.next_timeout() is None


def test_sessions_are_told_evenly_over_the_time_given() -> None:
    app = App()

    @app.module("/").on_message
    def echo(session: Session, message: str | bytes) -> str | bytes:
        return message

    simulation = Simulation(app)
    peers = [simulation.open("/") for _ in range(20)]
    simulation.hub.shutdown(now=simulation.now, code=1012, spread_s=1.0)
    simulation.settle()
    told = [sum(peer.close_frame is not None for peer in peers)]
    for _ in range(9):
        peers[-1].send("still served")
        simulation.advance(0.1)
        told.append(sum(peer.close_frame is not None for peer in peers))
    assert told == list(range(2, 21, 2))
    assert {peer.close_code() for peer in peers} == {1012}
    assert peers[-1].messages == ["still served"] * 9
    with pytest.raises(IdsExhaustedError):
        simulation.connect()
    assert simulation.hub.next_timeout() is None
