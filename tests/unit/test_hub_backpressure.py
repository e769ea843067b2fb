"""Bounds in both directions: nothing grows without end, and what is bounded loses nothing."""

from __future__ import annotations

import pytest

from driver import Foreign, Simulation
from frames import BINARY, CONTINUATION, PING, PONG, RSV1, deflated, frame
from raw import text
from wireroom.core import (
    App,
    Deflate,
    Limits,
    PauseReading,
    ResumeReading,
    Session,
    SessionClosedError,
    WebSocket,
)
from wireroom.core.wire.engines import EngineName

FRAMINGS = pytest.mark.parametrize("framing", ["wireroom", "wsproto"])
KINDS = pytest.mark.parametrize("kind", ["def", "async def", "function"])
ASYNC_KINDS = pytest.mark.parametrize("kind", ["async def", "function"])


class Answering:
    """Answers each message with `size` bytes, three ways; async ones may wait for `gate`."""

    def __init__(
        self,
        kind: str,
        *,
        size: int = 0,
        gate: Foreign | None = None,
        waits: bool = True,
        framing: EngineName = "wireroom",
        **limits: int,
    ) -> None:
        self.app = App(limits=Limits(**limits), framing=framing, deflate=None)
        self.handled: list[str] = []
        self.gate = gate
        self.waits = waits
        self.size = size
        if kind == "function":
            self.app.websocket("/")(self.function)
        else:
            handler = self.answer if kind == "def" else self.answer_later
            self.app.module("/").on_message(handler)

    def answer(self, session: Session, message: str) -> str | None:
        self.handled.append(message)
        return message[:1] * self.size if self.size else None

    async def answer_later(self, session: Session, message: str) -> str | None:
        if self.gate is not None:
            await self.gate
        return self.answer(session, message)

    async def function(self, ws: WebSocket) -> None:
        ws.accept()
        async for message in ws:
            reply = await self.answer_later(ws.session, str(message))
            if reply is not None and self.waits:
                await ws.send(reply)
            elif reply is not None:
                ws.send(reply)


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def finish(simulation: Simulation, gate: Foreign) -> None:
    """Complete one message after another."""
    while gate.waiting:
        simulation.complete(gate)


# -- the inbox ----------------------------------------------------------------------------------


@FRAMINGS
@ASYNC_KINDS
@pytest.mark.parametrize("in_one_read", [True, False])
def test_a_full_inbox_pauses_reading_and_loses_nothing(
    kind: str, framing: EngineName, in_one_read: bool
) -> None:
    gate = Foreign()
    answering = Answering(kind, gate=gate, inbox_messages_max=4, framing=framing)
    simulation = Simulation(answering.app)
    peer = simulation.open("/")
    messages = numbers(50)
    if in_one_read:
        peer.send(*messages)
    else:
        for message in messages:
            peer.send(message)
    assert not peer.is_read()
    assert simulation.hub.stats().messages_received <= 4 + 4 + 1  # a batch, the inbox, the handled
    finish(simulation, gate)
    assert answering.handled == messages
    assert peer.is_read()
    assert simulation.hub.stats().messages_received == 50
    assert simulation.hub.stats().dropped_messages_received == 0


@ASYNC_KINDS
def test_the_inbox_is_bounded_in_bytes_but_one_message_always_fits(kind: str) -> None:
    gate = Foreign()
    answering = Answering(kind, gate=gate, inbox_bytes_max=1000)
    simulation = Simulation(answering.app)
    peer = simulation.open("/")
    messages = [f"{number}" * 600 for number in range(10)] + ["x" * 5000]
    for message in messages:
        peer.send(message)
    assert not peer.is_read()
    assert simulation.hub.stats().bytes_received < 5000
    finish(simulation, gate)
    assert answering.handled == messages


def test_reading_goes_on_when_the_inbox_is_half_empty() -> None:
    gate = Foreign()
    answering = Answering("async def", gate=gate, inbox_messages_max=4)
    simulation = Simulation(answering.app)
    peer = simulation.open("/")
    for message in numbers(5):
        peer.send(message)
    assert not peer.is_read()
    simulation.complete(gate)
    assert not peer.is_read()
    simulation.complete(gate)
    assert peer.is_read()
    assert len(simulation.said(PauseReading, peer)) == len(simulation.said(ResumeReading, peer))
    finish(simulation, gate)


def test_one_peers_full_inbox_does_not_pause_another() -> None:
    gate = Foreign()
    simulation = Simulation(Answering("async def", gate=gate, inbox_messages_max=2).app)
    eager, other = simulation.open("/"), simulation.open("/")
    eager.send(*numbers(20))
    other.send("hello")
    assert (eager.is_read(), other.is_read()) == (False, True)
    finish(simulation, gate)


def test_pings_are_answered_while_messages_wait() -> None:
    gate = Foreign()
    simulation = Simulation(Answering("async def", gate=gate).app)
    peer = simulation.open("/")
    peer.send("one", "two")
    peer.ping(b"still there?")
    assert peer.pongs == [b"still there?"]
    finish(simulation, gate)


def test_the_end_of_a_paused_stream_comes_after_what_was_kept() -> None:
    gate = Foreign()
    answering = Answering("async def", gate=gate, inbox_messages_max=2)
    simulation = Simulation(answering.app)
    peer = simulation.open("/")
    peer.send(*numbers(20))
    assert not peer.is_read()
    simulation.hub.receive_eof(peer.fd, now=0.0)  # a transport may see it all the same
    simulation.settle()
    finish(simulation, gate)
    assert answering.handled == numbers(20)
    assert peer.lost


# -- the outbox ---------------------------------------------------------------------------------


@FRAMINGS
@KINDS
@pytest.mark.parametrize("in_one_read", [True, False])
def test_a_peer_that_reads_slowly_is_not_read_from_and_gets_every_answer(
    kind: str, framing: EngineName, in_one_read: bool
) -> None:
    answering = Answering(kind, size=600, outbox_mark_bytes=1000, framing=framing)
    simulation = Simulation(answering.app)
    peer = simulation.open("/")
    peer.stall()
    messages = numbers(100)
    if in_one_read:
        peer.send(*messages)
    else:
        for message in messages:
            peer.send(message)
    assert not peer.is_read()
    assert len(answering.handled) <= 3
    assert simulation.hub.stats().messages_received <= 64 + 64 + 1
    peer.read(700)
    peer.read()
    assert peer.messages == [message[:1] * 600 for message in messages]
    assert answering.handled == messages
    assert peer.is_read()


@KINDS
def test_answers_above_the_mark_do_not_stop_a_peer_that_reads(kind: str) -> None:
    answering = Answering(kind, size=600, waits=False, outbox_mark_bytes=100)
    simulation = Simulation(answering.app)
    peer = simulation.open("/")
    peer.send(*numbers(50))
    peer.send("last")
    assert answering.handled == [*numbers(50), "last"]
    assert len(peer.messages) == 51
    assert peer.is_read()


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_broadcasts_above_the_mark_do_not_stop_a_member_that_reads(kind: str) -> None:
    app = App(limits=Limits(outbox_mark_bytes=100), deflate=None)
    module = app.module("/")
    module.on_open(lambda session: session.join("room"))

    def say(session: Session, message: str) -> None:
        session.room("room").broadcast(message * 200)

    async def say_later(session: Session, message: str) -> None:
        say(session, message)

    module.on_message(say if kind == "def" else say_later)
    peer = Simulation(app).open("/")
    peer.send(*"abc")
    assert peer.messages == ["a" * 200, "b" * 200, "c" * 200]
    assert peer.is_read()


def test_a_function_that_does_not_wait_is_woken_above_the_mark_too() -> None:
    answering = Answering("function", size=600, waits=False, outbox_mark_bytes=100)
    simulation = Simulation(answering.app)
    peer = simulation.open("/")
    peer.stall()
    peer.send("one")
    peer.send("two")
    peer.read()
    peer.send("three")
    assert answering.handled == ["one", "two", "three"]


def test_awaiting_send_waits_until_the_outbox_is_below_its_mark() -> None:
    app = App(limits=Limits(outbox_mark_bytes=1000), deflate=None)
    sent: list[int] = []

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        ws.accept()
        for number in range(10):
            await ws.send("x" * 496)
            sent.append(number)

    simulation = Simulation(app)
    peer = simulation.connect()
    peer.stall()
    peer.open("/")
    assert 0 < len(sent) < 10
    before = len(sent)
    simulation.advance(1.0)
    assert len(sent) == before
    peer.read()
    assert len(sent) == 10
    assert peer.messages == ["x" * 496] * 10


def test_a_task_that_awaits_send_goes_on_when_all_is_taken_at_once() -> None:
    app = App(limits=Limits(outbox_mark_bytes=100), deflate=None)
    app.module("/")
    simulation = Simulation(app)
    peer = simulation.open("/")
    session = simulation.session(peer)
    session.send("first")
    simulation.settle()
    assert session.outbox.plain  # nobody waits, and so nobody would be told
    done: list[int] = []

    async def task() -> None:
        for size in (200, 1, 200):
            await session.send("x" * size)
            done.append(size)

    simulation.spawn(task())
    assert done == [200, 1, 200]
    assert [len(message) for message in peer.messages] == [5, 200, 1, 200]
    session.send("last")
    simulation.settle()
    assert session.outbox.plain


def test_drain_waits_for_what_was_sent_before() -> None:
    app = App(limits=Limits(outbox_mark_bytes=1000), deflate=None)
    events: list[str] = []

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        ws.accept()
        await ws.session.drain()
        events.append("empty")
        for _ in range(5):
            ws.send("x" * 496)
        await ws.session.drain()
        events.append("drained")

    simulation = Simulation(app)
    peer = simulation.connect()
    peer.stall()
    peer.open("/")
    assert events == ["empty"]
    peer.read()
    assert events == ["empty", "drained"]


def test_who_waits_for_the_outbox_goes_on_before_the_peer_has_read_everything() -> None:
    app = App(limits=Limits(outbox_mark_bytes=1000), deflate=None)
    events: list[str] = []
    module = app.module("/")

    @module.on_message
    async def answer(session: Session, message: str) -> None:
        for _ in range(5):
            session.send("x" * 496)
        await session.drain()
        events.append("drained")

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.stall()
    peer.send("go")
    assert simulation.session(peer).outbox.unsent == 2500
    peer.read(1000)
    assert events == []
    peer.read(500)
    assert simulation.session(peer).outbox.unsent == 1000
    assert events == ["drained"]


@pytest.mark.parametrize("end", ["lose", "close", "stall"])
def test_a_handler_that_waits_for_the_outbox_goes_on_when_its_session_ends(end: str) -> None:
    app = App(limits=Limits(outbox_mark_bytes=100), deflate=None)
    raised: list[SessionClosedError] = []

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        ws.accept()
        try:
            while True:
                await ws.send("x" * 200)
        except SessionClosedError as error:
            raised.append(error)

    simulation = Simulation(app)
    peer = simulation.connect()
    peer.stall()
    peer.open("/")
    assert raised == []
    if end == "lose":
        peer.lose()
    elif end == "close":
        simulation.session(peer).close(4001)
        simulation.settle()
    else:
        simulation.advance(Limits().stall_timeout_s)
    assert len(raised) == 1
    assert simulation.failures == []
    simulation.end()


def test_an_outbox_above_its_bound_closes_with_1008_and_is_counted() -> None:
    app = App(limits=Limits(outbox_mark_bytes=100, outbox_bytes_max=1000), deflate=None)
    app.module("/")
    simulation = Simulation(app)
    slow, quick = simulation.open("/"), simulation.open("/")
    slow.stall()
    session = simulation.session(slow)
    for _ in range(10):
        session.send("x" * 196)
        simulation.settle()
        if not session.is_connected:
            break
    assert session.close_code == 1008
    assert simulation.hub.stats().overflowed == 1
    assert simulation.hub.stats().dropped_messages_sent > 0
    sent, dropped = (
        simulation.hub.stats().messages_sent,
        simulation.hub.stats().dropped_messages_sent,
    )
    slow.read()
    assert slow.close_code() == 1008
    assert len(slow.messages) == sent - dropped
    assert (slow.lost, slow.aborted) == (True, False)
    assert quick.close_code() is None


def test_one_message_bigger_than_the_outbox_always_fits() -> None:
    app = App(limits=Limits(outbox_mark_bytes=100, outbox_bytes_max=1000), deflate=None)
    app.module("/").on_message(lambda session, message: "x" * 5000)
    peer = Simulation(app).open("/")
    peer.send("a")
    peer.send("b")
    assert peer.messages == ["x" * 5000] * 2


def test_a_session_that_is_not_read_from_can_still_be_closed_in_order() -> None:
    answering = Answering("def", size=600, outbox_mark_bytes=1000)
    simulation = Simulation(answering.app)
    peer = simulation.open("/")
    peer.stall()
    for message in numbers(10):
        peer.send(message)
    assert not peer.is_read()
    simulation.session(peer).close(4001)
    simulation.settle()
    peer.read()
    assert peer.close_code() == 4001
    assert (peer.lost, peer.aborted) == (True, False)
    assert simulation.hub.stats().close_timeouts == 0


def test_a_violation_behind_a_full_inbox_ends_in_order_too() -> None:
    gate = Foreign()
    answering = Answering("async def", gate=gate, inbox_messages_max=2)
    simulation = Simulation(answering.app)
    peer = simulation.open("/")
    peer.send_raw(text("1") + text("2") + text("3") + frame(0x3))
    assert not peer.is_read()
    simulation.advance(Limits().close_timeout_s)
    assert peer.close_code() == 1002
    assert (peer.lost, peer.aborted) == (True, False)
    simulation.complete(gate)
    assert answering.handled == ["1"]


# -- control frames -----------------------------------------------------------------------------


@FRAMINGS
def test_pongs_are_bounded_and_the_older_ones_go(framing: EngineName) -> None:
    app = App(limits=Limits(pongs_pending_max=4), framing=framing)
    app.module("/")
    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send_raw(b"".join(frame(PING, b"%d" % number) for number in range(10)))
    assert peer.pongs == [b"6", b"7", b"8", b"9"]
    assert simulation.hub.stats().dropped_pongs == 6


def test_pongs_for_a_peer_that_never_reads_are_bounded() -> None:
    app = App()
    app.module("/")
    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.stall()
    for _ in range(100):
        peer.send_raw(frame(PING, b"x" * 125) * 10)
    taken = len(b"".join(simulation.hub.data_to_send(peer.fd)))
    assert taken <= 127 * Limits().pongs_pending_max
    assert simulation.hub.stats().dropped_pongs > 900


def test_a_flood_of_frames_that_are_no_messages_is_taken_in_small_batches() -> None:
    app = App()
    app.module("/").on_message(lambda session, message: message)
    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send_raw(frame(PONG) * 10_000 + text("hello"))
    assert peer.messages == ["hello"]


# -- sizes --------------------------------------------------------------------------------------


@FRAMINGS
@pytest.mark.parametrize("takeover", [False, True])
def test_a_deflate_bomb_closes_with_1009(framing: EngineName, takeover: bool) -> None:
    settings = Deflate(client_no_context_takeover=not takeover)
    app = App(limits=Limits(message_bytes_max=100_000), deflate=settings, framing=framing)
    handled: list[object] = []
    app.module("/").on_message(lambda session, message: handled.append(len(message)))
    simulation = Simulation(app)
    peer = simulation.open("/", deflate=True)
    bomb = deflated(bytes(50_000_000))
    assert len(bomb) < 60_000
    half = len(bomb) // 2
    peer.send_raw(
        frame(BINARY, bomb[:half], fin=False, rsv=RSV1) + frame(CONTINUATION, bomb[half:])
    )
    assert peer.close_code() == 1009
    assert handled == []


def test_many_small_bombs_in_one_read_are_handled_one_batch_at_a_time() -> None:
    app = App(limits=Limits(message_bytes_max=100_000, inbox_bytes_max=150_000))
    handled: list[int] = []
    app.module("/").on_message(lambda session, message: handled.append(len(message)))
    simulation = Simulation(app)
    peer = simulation.open("/", deflate=True)
    peer.send_raw(frame(BINARY, deflated(bytes(100_000)), rsv=RSV1) * 200)
    assert handled == [100_000] * 200


@FRAMINGS
def test_a_frame_whose_header_promises_too_much_is_refused_before_it_comes(
    framing: EngineName,
) -> None:
    app = App(limits=Limits(message_bytes_max=1000), framing=framing)
    app.module("/")
    peer = Simulation(app).open("/")
    peer.send_raw(frame(BINARY, b"x" * 1001)[:8])
    assert peer.close_code() == 1009


def test_an_application_may_raise_the_bounds() -> None:
    app = App(limits=Limits(message_bytes_max=3 * 2**20, message_fragments_max=100_000))
    app.module("/").on_message(lambda session, message: len(message))
    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send("x" * (3 * 2**20))
    fragments = frame(BINARY, b"x", fin=False) + frame(CONTINUATION, b"x", fin=False) * 20_000
    peer.send_raw(fragments + frame(CONTINUATION))
    assert peer.messages == [str(3 * 2**20), "20001"]
