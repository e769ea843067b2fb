"""Deadlines, in virtual time, whether or not the peer reads."""

from __future__ import annotations

from math import inf

import pytest

from driver import Foreign, Simulation
from frames import PONG, frame
from http_responses import read_responses
from raw import get, text, upgrade
from wireroom.core import App, Disconnect, HandlerFailed, Limits, Session, SessionClosed
from wireroom.core.wire.engines import EngineName

FRAMINGS = pytest.mark.parametrize("framing", ["wireroom", "wsproto"])
L = Limits()


def echo_app(limits: Limits | None = None, framing: EngineName = "wireroom") -> App:
    app = App(limits=limits, framing=framing, deflate=None)
    app.module("/").on_message(lambda session, message: message)
    app.http("/healthz")(lambda request: "ok")
    return app


# -- heads --------------------------------------------------------------------------------------


def test_a_peer_that_says_nothing_is_disconnected_without_an_answer() -> None:
    simulation = Simulation(echo_app())
    peer = simulation.connect()
    simulation.advance(L.head_timeout_s - 0.1)
    assert not peer.lost
    simulation.advance(0.1)
    assert (peer.lost, peer.aborted, bytes(peer.received)) == (True, False, b"")
    assert simulation.hub.stats().head_timeouts == 1


def test_a_head_that_drips_has_one_deadline_and_gets_408() -> None:
    simulation = Simulation(echo_app())
    peer = simulation.connect()
    for byte in upgrade("/")[: int(L.head_timeout_s)]:
        assert not peer.saw_eof
        peer.send_raw(bytes([byte]))
        simulation.advance(1.0)
    (response,) = read_responses(bytes(peer.received))
    assert (response.status, response.closes) == (408, True)
    assert peer.lost


def test_a_connection_that_is_kept_alive_ends_after_its_idle_time() -> None:
    simulation = Simulation(echo_app())
    peer = simulation.connect()
    for _ in range(3):
        simulation.advance(L.head_timeout_s - 0.1 if not peer.received else 29.9)
        peer.send_raw(get("/healthz"))
    simulation.advance(L.keep_alive_timeout_s - 0.1)
    assert not peer.lost
    simulation.advance(0.1)
    assert (peer.lost, peer.aborted) == (True, False)
    assert len(read_responses(bytes(peer.received))) == 3


@pytest.mark.parametrize("with_the_first", [True, False])
def test_the_next_head_has_a_deadline_from_its_first_byte(with_the_first: bool) -> None:
    simulation = Simulation(echo_app())
    peer = simulation.connect()
    if with_the_first:
        peer.send_raw(get("/healthz") + b"GET")
    else:
        peer.send_raw(get("/healthz"))
        simulation.advance(L.keep_alive_timeout_s - 1.0)
        peer.send_raw(b"GET")
    simulation.advance(L.head_timeout_s - 0.1)
    assert not peer.saw_eof
    simulation.advance(0.1)
    assert [each.status for each in read_responses(bytes(peer.received))] == [200, 408]


# -- ping and pong ------------------------------------------------------------------------------


@FRAMINGS
def test_a_silent_peer_is_pinged_and_then_closed_with_1011(framing: EngineName) -> None:
    simulation = Simulation(echo_app(framing=framing))
    peer = simulation.open("/")
    peer.polite = False
    simulation.advance(L.ping_interval_s - 0.1)
    assert peer.pings == []
    simulation.advance(0.1)
    assert len(peer.pings) == 1
    simulation.advance(L.ping_timeout_s - 0.1)
    assert peer.close_code() is None
    simulation.advance(0.1)
    assert peer.close_code() == 1011
    assert simulation.hub.stats().ping_timeouts == 1
    simulation.advance(L.close_timeout_s)
    assert (peer.lost, peer.aborted) == (True, True)
    assert [each.code for each in simulation.said(SessionClosed)] == [1011]


def test_a_peer_that_answers_is_pinged_for_ever() -> None:
    simulation = Simulation(echo_app())
    peer = simulation.open("/")
    simulation.advance(20 * L.ping_interval_s)
    assert 10 <= len(peer.pings) <= 20
    assert len(set(peer.pings)) == len(peer.pings)  # each can be told from the others
    assert peer.close_code() is None


@pytest.mark.parametrize("data", [frame(PONG), text("x"), b"\x81"])
def test_anything_received_is_a_sign_of_life(data: bytes) -> None:
    simulation = Simulation(echo_app())
    peer = simulation.open("/")
    peer.polite = False
    simulation.advance(L.ping_interval_s + L.ping_timeout_s - 0.1)
    peer.send_raw(data)
    simulation.advance(L.ping_interval_s - 0.2)
    assert peer.close_code() is None
    assert len(peer.pings) == 1


def test_a_peer_that_talks_is_not_pinged() -> None:
    simulation = Simulation(echo_app())
    peer = simulation.open("/")
    for _ in range(20):
        simulation.advance(L.ping_interval_s - 1.0)
        peer.send("still here")
    assert peer.pings == []


def test_a_silent_peer_that_reads_nothing_is_noticed_too() -> None:
    simulation = Simulation(echo_app())
    peer = simulation.open("/")
    peer.polite = False
    peer.stall()
    simulation.advance(L.ping_interval_s + L.ping_timeout_s + L.close_timeout_s)
    assert (peer.lost, peer.aborted) == (True, True)
    assert simulation.hub.stats().connections == 0


def test_a_transport_that_never_takes_bytes_changes_no_deadline() -> None:
    app = echo_app()
    simulation = Simulation(app)
    peer = simulation.open("/")
    hub = simulation.hub
    for _ in range(100):  # time passes; nobody drains bytes
        due = hub.next_timeout()
        if due is None:
            break
        hub.handle_timeout(now=due)
        while (output := hub.next_output()) is not None:
            simulation.outputs.append(output)
    assert [each.abort for each in simulation.said(Disconnect, peer)] == [True]
    assert hub.now <= L.ping_interval_s + L.ping_timeout_s + L.close_timeout_s


def test_silence_while_we_did_not_read_kills_nobody() -> None:
    app = App(limits=Limits(inbox_messages_max=2))
    gate = Foreign()

    @app.module("/").on_message
    async def slow(session: Session, message: str) -> str:
        await gate
        return message

    simulation = Simulation(app)
    peer = simulation.open("/")
    for number in range(6):
        peer.send(str(number))
    assert not peer.is_read()
    simulation.advance(10 * (L.ping_interval_s + L.ping_timeout_s))
    assert peer.close_code() is None
    while gate.waiting:
        simulation.complete(gate)
    assert peer.messages == [str(number) for number in range(6)]
    peer.polite = False
    simulation.advance(L.ping_interval_s + L.ping_timeout_s)
    assert peer.close_frame is not None


def test_timeouts_can_be_switched_off() -> None:
    limits = Limits(ping_interval_s=inf, head_timeout_s=inf)
    simulation = Simulation(echo_app(limits))
    silent, peer = simulation.connect(), simulation.open("/")
    peer.polite = False
    simulation.advance(1e9)
    assert simulation.hub.next_timeout() is None
    peer.send("still here")
    assert (silent.lost, peer.messages) == (False, ["still here"])


# -- stalled readers ----------------------------------------------------------------------------


def test_a_peer_that_takes_no_bytes_is_aborted() -> None:
    simulation = Simulation(echo_app())
    peer = simulation.open("/")
    peer.stall()
    peer.send("answer me")
    for _ in range(int(L.stall_timeout_s) - 1):
        simulation.advance(1.0)
        peer.send("talking all the time")
    assert not peer.lost
    simulation.advance(1.0)
    assert (peer.lost, peer.aborted) == (True, True)
    assert simulation.hub.stats().stalled == 1
    assert [each.code for each in simulation.said(SessionClosed)] == [1006]
    assert simulation.said(HandlerFailed) == []


def test_progress_gives_a_slow_reader_more_time() -> None:
    simulation = Simulation(echo_app())
    peer = simulation.open("/")
    peer.stall()
    peer.send("x" * 100)
    for _ in range(10):
        simulation.advance(L.stall_timeout_s - 0.1)
        assert not peer.lost
        peer.ping()
        peer.read(10)
    simulation.advance(L.stall_timeout_s)
    assert peer.aborted
    assert simulation.hub.stats().stalled == 1


def test_who_has_read_everything_has_no_stall_deadline() -> None:
    simulation = Simulation(echo_app())
    peer = simulation.open("/")
    peer.stall()
    peer.send("x" * 100)
    simulation.advance(L.stall_timeout_s - 0.1)
    peer.read()
    simulation.advance(10 * L.stall_timeout_s)
    assert not peer.lost
    assert peer.messages == ["x" * 100]


def test_a_peer_that_reads_no_http_response_is_aborted_too() -> None:
    simulation = Simulation(echo_app())
    peer = simulation.connect()
    peer.stall()
    peer.send_raw(get("/healthz"))
    simulation.advance(L.stall_timeout_s)
    assert (peer.lost, peer.aborted) == (True, True)
    assert simulation.hub.stats().stalled == 1


# -- the clock ----------------------------------------------------------------------------------


def test_an_early_call_does_nothing() -> None:
    simulation = Simulation(echo_app())
    peer = simulation.open("/")
    due = simulation.hub.next_timeout()
    assert due is not None
    simulation.hub.handle_timeout(now=due / 2)
    simulation.settle()
    assert peer.pings == []
    later = simulation.hub.next_timeout()
    assert later is not None
    assert later <= L.ping_interval_s


def test_a_late_call_does_all_that_is_due() -> None:
    simulation = Simulation(echo_app())
    peers = [simulation.connect() for _ in range(3)] + [simulation.open("/")]
    simulation.now = L.ping_interval_s + 5.0
    simulation.hub.handle_timeout(now=simulation.now)
    simulation.settle()
    assert [peer.lost for peer in peers] == [True, True, True, False]
    assert len(peers[3].pings) == 1


def test_nothing_is_due_once_everybody_has_gone() -> None:
    simulation = Simulation(echo_app())
    peers = [simulation.open("/") for _ in range(3)]
    peers[0].close()
    peers[1].lose()
    peers[2].send_raw(frame(0x3))
    assert simulation.hub.next_timeout() is None


def test_who_closes_between_inputs_gives_the_peer_its_time() -> None:
    simulation = Simulation(echo_app())
    peer = simulation.open("/")
    peer.polite = False
    session = simulation.session(peer)
    simulation.advance(L.ping_interval_s - 1.0)  # the hub has not been called since the handshake
    session.close()
    simulation.settle()
    simulation.advance(L.close_timeout_s - 0.1)
    assert not peer.lost
    simulation.advance(0.1)
    assert peer.aborted


def test_time_is_what_the_transport_said_last() -> None:
    simulation = Simulation(echo_app())
    simulation.now = 12.5
    simulation.open("/")
    assert simulation.hub.now == 12.5
