"""How connections end: by either side, in any order, and always within the close deadline."""

from __future__ import annotations

import json

import pytest

from driver import Foreign, Peer, Simulation
from frames import CLOSE, CONTINUATION, TEXT, frame
from raw import close, text
from wireroom.core import (
    App,
    Disconnect,
    HandlerFailed,
    Limits,
    LocalProtocolError,
    Session,
    SessionClosed,
    SessionClosedError,
    ShutdownWrite,
    WebSocket,
)
from wireroom.core.wire.engines import EngineName

CUTS = pytest.mark.parametrize("cut", [None, 1])
FRAMINGS = pytest.mark.parametrize("framing", ["wireroom", "wsproto"])
KINDS = pytest.mark.parametrize("kind", ["def", "async def", "function"])
VIOLATION = frame(0x3)


class Ends:
    """An echo three ways (async ones wait for `gate`), and what its `on_close` has seen."""

    def __init__(self, kind: str, *, framing: EngineName = "wireroom") -> None:
        self.app = App(limits=Limits(), framing=framing)
        self.gate = Foreign()
        self.handled: list[object] = []
        self.closed: list[tuple[int, str, list[str]]] = []
        if kind == "function":
            self.app.websocket("/")(self.function)
            return
        module = self.app.module("/")
        module.on_open(lambda session: session.join("room"))
        module.on_message(self.echo if kind == "def" else self.echo_later)
        module.on_close(self.on_close)

    def echo(self, session: Session, message: str) -> str:
        self.handled.append(message)
        return message

    async def echo_later(self, session: Session, message: str) -> str:
        await self.gate
        return self.echo(session, message)

    async def function(self, ws: WebSocket) -> None:
        ws.accept()
        async for message in ws:
            await self.gate
            self.handled.append(message)
            await ws.send(message)

    def on_close(self, session: Session) -> None:
        self.closed.append((session.close_code, session.close_reason, session.rooms))


def ended_well(peer: Peer) -> bool:
    """Whether the connection ended without an abort, and nothing of it is left."""
    simulation = peer.simulation
    stats = simulation.hub.stats()
    nothing_left = (stats.connections, stats.sessions, stats.rooms, stats.invocations) == (0,) * 4
    closed = simulation.said(SessionClosed, peer)
    return nothing_left and peer.lost and not peer.aborted and len(closed) == 1


# -- the peer closes ----------------------------------------------------------------------------


@CUTS
@FRAMINGS
@KINDS
@pytest.mark.parametrize("code", [1000, 1001, 1003, 1009, 1011, 3000, 4999])
def test_a_close_is_answered_with_its_own_code(
    kind: str, framing: EngineName, cut: int | None, code: int
) -> None:
    ends = Ends(kind, framing=framing)
    simulation = Simulation(ends.app, cut=cut)
    peer = simulation.open("/")
    peer.polite = False
    peer.send_raw(close(code, "why"))
    assert peer.close_code() == code
    assert ended_well(peer)
    assert simulation.said(SessionClosed) == [SessionClosed(peer.fd, code, "why")]
    assert ends.closed == ([] if kind == "function" else [(code, "why", [])])
    assert simulation.said(ShutdownWrite) == []


@FRAMINGS
def test_an_empty_close_is_answered_with_an_empty_one(framing: EngineName) -> None:
    ends = Ends("def", framing=framing)
    peer = Simulation(ends.app).open("/")
    peer.send_raw(close(None))
    assert bytes(peer.received).endswith(b"\r\n\r\n\x88\x00")
    assert ended_well(peer)
    assert ends.closed == [(1005, "", [])]


@CUTS
@FRAMINGS
@KINDS
def test_a_close_inside_a_fragmented_message_is_answered_with_its_own_code(
    kind: str, framing: EngineName, cut: int | None
) -> None:
    ends = Ends(kind, framing=framing)
    peer = Simulation(ends.app, cut=cut).open("/")
    peer.send_raw(frame(TEXT, b"never", fin=False) + close(4001) + frame(CONTINUATION, b"ended"))
    assert peer.close_code() == 4001
    assert ended_well(peer)
    assert ends.handled == []


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"\x03", 1002), (b"\x03\xed", 1002), (b"\x00\x00", 1002), (b"\x03\xe8\xff", 1007)],
)
@FRAMINGS
def test_a_wrong_close_is_a_violation(payload: bytes, code: int, framing: EngineName) -> None:
    peer = Simulation(Ends("def", framing=framing).app).open("/")
    peer.send_raw(frame(CLOSE, payload))
    assert peer.close_code() == code
    assert ended_well(peer)


@KINDS
def test_messages_before_a_close_are_answered_before_it(kind: str) -> None:
    ends = Ends(kind)
    simulation = Simulation(ends.app)
    peer = simulation.open("/")
    peer.send_raw(text("one") + text("two") + close(4001))
    for _ in range(2):
        simulation.complete(ends.gate)
    assert peer.messages == ["one", "two"]
    assert peer.close_code() == 4001
    assert ended_well(peer)


@pytest.mark.parametrize("kind", ["async def", "function"])
def test_a_close_waits_for_a_slow_handler_only_so_long(kind: str) -> None:
    ends = Ends(kind)
    simulation = Simulation(ends.app)
    peer = simulation.open("/")
    peer.send_raw(text("one") + text("two") + close(4001))
    simulation.advance(Limits().close_reply_timeout_s)
    assert peer.close_code() == 4001
    assert peer.lost
    simulation.complete(ends.gate)
    assert peer.messages == []
    assert ends.handled == ["one"]
    stats = simulation.hub.stats()
    assert stats.dropped_messages_received == 1
    assert ended_well(peer)
    assert simulation.failures == []


# -- the application closes ---------------------------------------------------------------------


@FRAMINGS
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_our_close_is_answered_and_the_connection_ends(kind: str, framing: EngineName) -> None:
    ends = Ends(kind, framing=framing)
    simulation = Simulation(ends.app)
    peer = simulation.open("/")
    session = simulation.session(peer)
    session.close(4001, "why")
    assert session.rooms == []
    assert not session.is_connected
    assert ends.closed == []  # not before the end
    simulation.settle()
    assert peer.close_code() == 4001
    assert ended_well(peer)
    assert ends.closed == [(4001, "why", [])]


def test_a_handler_may_close_its_session_and_no_more_messages_come() -> None:
    app = App()
    handled: list[str] = []
    raised: list[SessionClosedError] = []

    @app.module("/").on_message
    def on_message(session: Session, message: str) -> None:
        handled.append(message)
        session.close(4001)
        session.close(4002)
        with pytest.raises(SessionClosedError) as caught:
            session.send("too late")
        raised.append(caught.value)

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send("one", "two", "three")
    assert handled == ["one"]
    assert peer.close_code() == 4001
    assert raised[0].code == 4001
    assert simulation.hub.stats().dropped_messages_received == 2
    assert ended_well(peer)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1010, 1015, 1016, 2999, 5000])
def test_codes_that_may_not_be_sent_are_refused(code: int) -> None:
    simulation = Simulation(Ends("def").app)
    session = simulation.session(simulation.open("/"))
    with pytest.raises(LocalProtocolError):
        session.close(code)
    assert session.is_connected


def test_a_reason_has_its_bound() -> None:
    simulation = Simulation(Ends("def").app)
    peer = simulation.open("/")
    session = simulation.session(peer)
    with pytest.raises(LocalProtocolError):
        session.close(1000, "é" * 62)
    session.close(1000, "é" * 61)
    simulation.settle()
    assert peer.close_frame is not None
    assert peer.close_frame.reason == "é" * 61


@pytest.mark.parametrize("kind", ["async def", "function"])
def test_closing_while_the_peers_close_waits_ends_at_once(kind: str) -> None:
    ends = Ends(kind)
    simulation = Simulation(ends.app)
    peer = simulation.open("/")
    peer.send_raw(text("one") + close(4001))
    simulation.session(peer).close(4002)
    simulation.settle()
    assert peer.close_code() == 4002
    assert peer.lost
    simulation.complete(ends.gate)
    assert ended_well(peer)
    assert simulation.failures == []


def test_both_sides_may_close_at_once() -> None:
    ends = Ends("def")
    simulation = Simulation(ends.app)
    peer = simulation.open("/")
    peer.polite = False
    simulation.session(peer).close(4001)
    peer.send_raw(close(4002))
    assert peer.close_code() == 4001
    assert ended_well(peer)
    assert [code for code, _, _ in ends.closed] == [4001]


def test_what_comes_between_our_close_and_theirs_is_counted_and_not_handled() -> None:
    ends = Ends("def")
    simulation = Simulation(ends.app)
    peer = simulation.open("/")
    peer.polite = False
    simulation.session(peer).close()
    peer.send_raw(text("one") + frame(0x9, b"ping") + text("two") + close())
    assert ends.handled == []
    assert simulation.hub.stats().dropped_messages_received == 2
    assert peer.received.endswith(b"\x8a\x04ping")  # section 5.5.2: they had sent no Close yet
    assert ended_well(peer)


def test_a_violation_after_our_close_ends_without_another() -> None:
    ends = Ends("def")
    simulation = Simulation(ends.app)
    peer = simulation.open("/")
    peer.polite = False
    simulation.session(peer).close(4001)
    peer.send_raw(VIOLATION)
    assert peer.close_code() == 4001
    assert simulation.said(ShutdownWrite, peer)
    peer.send_eof()
    assert ended_well(peer)


# -- the end of the stream, and of the socket ---------------------------------------------------


@FRAMINGS
@KINDS
def test_eof_is_an_abnormal_end(kind: str, framing: EngineName) -> None:
    ends = Ends(kind, framing=framing)
    simulation = Simulation(ends.app)
    peer = simulation.open("/")
    peer.send_eof()
    assert peer.close_code() is None
    assert ended_well(peer)
    assert simulation.said(SessionClosed) == [SessionClosed(peer.fd, 1006, "")]


@KINDS
def test_messages_before_eof_are_handled_and_answered(kind: str) -> None:
    ends = Ends(kind)
    simulation = Simulation(ends.app)
    peer = simulation.open("/")
    peer.send("one", "two")
    peer.send_eof()
    for _ in range(2):
        simulation.complete(ends.gate)
    assert ends.handled == ["one", "two"]
    assert peer.messages == ["one", "two"]
    assert ended_well(peer)


@pytest.mark.parametrize("close_first", [False, True])
def test_eof_instead_of_or_after_the_answer_to_our_close(close_first: bool) -> None:
    ends = Ends("def")
    simulation = Simulation(ends.app)
    peer = simulation.open("/")
    peer.polite = False
    simulation.session(peer).close(4001)
    simulation.settle()
    if close_first:
        peer.send_raw(close(4001))
    peer.send_eof()
    assert ended_well(peer)
    assert [code for code, _, _ in ends.closed] == [4001]


@KINDS
def test_losing_the_socket_ends_everything_at_once(kind: str) -> None:
    ends = Ends(kind)
    simulation = Simulation(ends.app)
    peer = simulation.open("/")
    peer.send("one", "two")
    peer.lose()
    for _ in range(2):
        simulation.complete(ends.gate)
    assert ended_well(peer)
    assert simulation.failures == []
    assert simulation.said(SessionClosed) == [SessionClosed(peer.fd, 1006, "")]
    assert simulation.said(Disconnect) == []


def test_a_close_that_was_received_names_the_end_also_if_the_socket_is_lost_first() -> None:
    ends = Ends("async def")
    simulation = Simulation(ends.app)
    peer = simulation.open("/")
    peer.send_raw(text("one") + close(4001, "bye"))
    peer.lose()
    assert ends.closed == [(4001, "bye", [])]
    simulation.complete(ends.gate)
    assert ended_well(peer)


# -- violations, in order -----------------------------------------------------------------------


@CUTS
@FRAMINGS
@KINDS
@pytest.mark.parametrize(
    ("violation", "code"),
    [(VIOLATION, 1002), (frame(TEXT, b"\xff"), 1007), (frame(CLOSE, b"\x03"), 1002)],
)
def test_messages_before_a_violation_are_answered_before_the_close(
    kind: str, framing: EngineName, cut: int | None, violation: bytes, code: int
) -> None:
    ends = Ends(kind, framing=framing)
    simulation = Simulation(ends.app, cut=cut)
    peer = simulation.open("/")
    peer.send_raw(text("one") + text("two") + violation + text("three"))
    for _ in range(2):
        simulation.complete(ends.gate)
    assert peer.messages == ["one", "two"]
    assert peer.close_code() == code
    assert ends.handled == ["one", "two"]
    assert ended_well(peer)


@pytest.mark.parametrize("kind", ["async def", "function"])
def test_a_violation_waits_for_a_slow_handler_until_the_close_deadline(kind: str) -> None:
    ends = Ends(kind)
    simulation = Simulation(ends.app)
    peer = simulation.open("/")
    peer.send_raw(text("one") + text("two") + VIOLATION)
    simulation.advance(Limits().close_timeout_s - 0.1)
    assert peer.close_code() is None
    simulation.advance(0.1)
    assert peer.close_code() == 1002
    simulation.complete(ends.gate)
    assert ends.handled == ["one"]
    assert ended_well(peer)


@FRAMINGS
def test_after_a_violation_a_peer_that_does_nothing_is_aborted_at_the_deadline(
    framing: EngineName,
) -> None:
    ends = Ends("def", framing=framing)
    simulation = Simulation(ends.app)
    peer = simulation.open("/")
    peer.polite = False
    peer.send_raw(VIOLATION)
    assert simulation.said(ShutdownWrite, peer)
    assert peer.saw_eof
    assert len(ends.closed) == 1
    simulation.advance(Limits().close_timeout_s)
    assert [each.abort for each in simulation.said(Disconnect, peer)] == [True]
    assert peer.lost
    assert simulation.hub.stats().close_timeouts == 1


def test_after_our_close_a_peer_that_does_nothing_is_aborted_at_the_deadline() -> None:
    ends = Ends("def")
    simulation = Simulation(ends.app)
    peer = simulation.open("/")
    peer.polite = False
    simulation.session(peer).close(4001)
    simulation.advance(Limits().close_timeout_s - 0.1)
    assert not peer.saw_eof
    simulation.advance(0.1)
    assert (peer.lost, peer.aborted) == (True, True)
    assert [code for code, _, _ in ends.closed] == [4001]
    assert simulation.hub.stats().close_timeouts == 1


@pytest.mark.parametrize("data", [VIOLATION, close(1000)])
def test_a_peer_that_reads_nothing_is_aborted_at_the_close_deadline(data: bytes) -> None:
    ends = Ends("def")
    simulation = Simulation(ends.app)
    peer = simulation.open("/")
    peer.polite = False
    peer.stall()
    peer.send_raw(data)
    simulation.advance(Limits().close_timeout_s)
    assert (peer.lost, peer.aborted) == (True, True)
    assert len(ends.closed) == 1


def test_a_socket_that_does_not_end_by_itself_is_aborted() -> None:
    simulation = Simulation(Ends("def").app)
    peer = simulation.open("/")
    peer.lingers = True
    peer.close()
    assert [each.abort for each in simulation.said(Disconnect, peer)] == [False]
    simulation.advance(Limits().close_timeout_s)
    assert [each.abort for each in simulation.said(Disconnect, peer)] == [False, True]
    simulation.advance(1000.0)
    assert len(simulation.said(Disconnect, peer)) == 2


# -- on_close -----------------------------------------------------------------------------------


def test_on_close_comes_after_the_rooms_were_left_and_others_may_be_told() -> None:
    app = App()
    module = app.module("/")
    module.on_open(lambda session: session.join("room"))
    seen: list[tuple[list[str], int, bool]] = []

    @module.on_close
    def on_close(session: Session) -> None:
        room = session.room("room")
        seen.append((session.rooms, len(room), session.is_connected))
        room.broadcast(f"{session.fd} has gone")

    simulation = Simulation(app)
    peers = [simulation.open("/") for _ in range(3)]
    peers[0].close()
    peers[1].lose()
    assert seen == [([], 2, False), ([], 1, False)]
    assert peers[2].messages == ["1 has gone", "2 has gone"]


def test_an_async_on_close_runs_to_its_end() -> None:
    app = App()
    gate = Foreign()
    ended: list[int] = []

    @app.module("/").on_close
    async def on_close(session: Session) -> None:
        await gate
        ended.append(session.close_code)

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.close(4001)
    assert peer.lost
    assert simulation.hub.stats().invocations == 1
    simulation.complete(gate)
    assert ended == [4001]
    assert simulation.hub.stats().invocations == 0


def test_a_connection_that_was_never_a_session_has_no_on_close() -> None:
    ends = Ends("def")
    simulation = Simulation(ends.app)
    peer = simulation.connect()
    peer.send_raw(b"nonsense\r\n\r\n")
    simulation.connect().lose()
    assert ends.closed == []
    assert simulation.said(SessionClosed) == []


# -- functions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("raises", "code"), [(False, 1000), (True, 1011)])
def test_a_function_that_ends_closes(raises: bool, code: int) -> None:
    app = App()

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        ws.accept()
        ws.send(await ws.receive())
        if raises:
            raise LookupError("on purpose")

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send("hello", "never received")
    assert peer.messages == ["hello"]
    assert peer.close_code() == code
    assert len(simulation.said(HandlerFailed)) == int(raises)
    assert simulation.hub.stats().dropped_messages_received == 1
    assert ended_well(peer)


def test_a_function_that_ends_while_a_close_waits_answers_it() -> None:
    app = App()
    gate = Foreign()

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        ws.accept()
        await ws.receive()
        await gate

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send_raw(text("one") + close(4001))
    simulation.complete(gate)
    assert peer.close_code() == 4001
    assert ended_well(peer)


def test_a_function_goes_on_after_the_end() -> None:
    app = App()
    gate = Foreign()
    received: list[object] = []

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        ws.accept()
        await gate
        received.append(await ws.receive())
        received.append(await ws.receive())
        received.append(ws.is_connected)

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send("before the end")
    peer.lose()
    simulation.complete(gate)
    assert received == ["before the end", None, False]
    assert simulation.failures == []


def test_an_error_reply_is_not_sent_to_who_has_gone() -> None:
    app = App()
    gate = Foreign()

    @app.module("/").on_message
    async def fails(session: Session, message: str) -> None:
        await gate
        raise LookupError("on purpose")

    simulation = Simulation(app)
    gone, present = simulation.open("/"), simulation.open("/")
    gone.send("a")
    present.send("a")
    gone.lose()
    simulation.complete(gate)
    assert len(simulation.failures) == 2
    assert gone.messages == []
    assert [json.loads(each)["code"] for each in present.messages] == ["handler_failed"]


def test_sending_to_who_has_gone_fails_only_if_it_is_somebody_else() -> None:
    app = App()
    gate = Foreign()
    handles: dict[str, Session] = {}
    module = app.module("/{name}")

    @module.on_open
    def opened(session: Session) -> None:
        handles[session.path_params["name"]] = session

    @module.on_message
    async def send(session: Session, message: str) -> None:
        await gate
        handles[message].send("too late")

    simulation = Simulation(app)
    gone, present = simulation.open("/gone"), simulation.open("/present")
    gone.send("gone")
    present.send("gone")
    gone.lose()
    simulation.complete(gate)
    (failed,) = simulation.said(HandlerFailed)
    assert failed.fd == present.fd
    assert isinstance(failed.error, SessionClosedError)
    assert [json.loads(each)["code"] for each in present.messages] == ["handler_failed"]
