"""Messages through the hub: order, kinds, replies and failures, for both kinds of handler."""

from __future__ import annotations

import json

import pytest

from driver import Foreign, Simulation
from frames import BINARY, CONTINUATION, TEXT, frame
from raw import close, text
from wireroom.core import App, HandlerFailed, Limits, Session, WebSocket
from wireroom.core.wire.engines import EngineName

CUTS = pytest.mark.parametrize("cut", [None, 1])
FRAMINGS = pytest.mark.parametrize("framing", ["wireroom", "wsproto"])
KINDS = pytest.mark.parametrize("kind", ["def", "async def", "function"])


def echo_app(kind: str, *, framing: EngineName = "wireroom", gate: Foreign | None = None) -> App:
    """The same echo three ways; with a gate, the async ones wait for it at each message."""
    app = App(framing=framing)
    if kind == "function":

        @app.websocket("/")
        async def function(ws: WebSocket) -> None:
            ws.accept()
            async for message in ws:
                if gate is not None:
                    await gate
                await ws.send(message)

        return app
    module = app.module("/")
    if kind == "def":

        @module.on_message
        def echo(session: Session, message: str | bytes) -> str | bytes:
            return message

    else:

        @module.on_message
        async def echo_async(session: Session, message: str | bytes) -> str | bytes:
            if gate is not None:
                await gate
            return message

    return app


# -- in order -----------------------------------------------------------------------------------


@CUTS
@FRAMINGS
@KINDS
@pytest.mark.parametrize("deflate", [False, True])
def test_messages_are_echoed_in_order(
    kind: str, framing: EngineName, cut: int | None, deflate: bool
) -> None:
    simulation = Simulation(echo_app(kind, framing=framing), cut=cut)
    peer = simulation.open("/", deflate=deflate)
    messages: list[str | bytes] = ["", b"", "é" * 70, b"\x00\xff" * 200, "last" * 100]
    peer.send(*messages)
    peer.send_parts("in ", "", "fragments")
    assert peer.messages == [*messages, "in fragments"]
    stats = simulation.hub.stats()
    assert (stats.messages_received, stats.messages_sent) == (6, 6)


@FRAMINGS
@pytest.mark.parametrize("kind", ["async def", "function"])
def test_messages_of_one_session_are_handled_one_at_a_time(kind: str, framing: EngineName) -> None:
    gate = Foreign()
    simulation = Simulation(echo_app(kind, framing=framing, gate=gate))
    peer = simulation.open("/")
    peer.send("one", "two")
    peer.send("three")
    for count in range(3):
        assert len(peer.messages) == count
        assert len(gate.waiting) == 1
        simulation.complete(gate)
    assert peer.messages == ["one", "two", "three"]


@pytest.mark.parametrize("kind", ["async def", "function"])
def test_different_sessions_interleave(kind: str) -> None:
    gate = Foreign()
    simulation = Simulation(echo_app(kind, gate=gate))
    peers = [simulation.open("/") for _ in range(3)]
    for peer in peers:
        peer.send("hello")
    assert len(gate.waiting) == 3
    simulation.complete(gate)
    assert [peer.messages for peer in peers] == [["hello"]] * 3


def test_on_open_comes_before_the_first_message_also_if_it_waits() -> None:
    app = App()
    gate = Foreign()
    events: list[object] = []
    module = app.module("/")

    @module.on_open
    async def opened(session: Session) -> None:
        await gate
        events.append("open")

    @module.on_message
    def message(session: Session, message: str) -> None:
        events.append(message)

    simulation = Simulation(app)
    peer = simulation.connect()
    peer.open("/", then=text("one"))
    peer.send("two")
    assert events == []
    simulation.complete(gate)
    assert events == ["open", "one", "two"]


@pytest.mark.parametrize("is_async", [False, True])
def test_an_on_open_that_raises_closes_with_1011(is_async: bool) -> None:
    app = App()
    module = app.module("/")
    closed: list[int] = []
    handled: list[object] = []

    def opened(session: Session) -> None:
        raise LookupError("on purpose")

    async def opened_async(session: Session) -> None:
        opened(session)

    module.on_open(opened_async if is_async else opened)
    module.on_message(lambda session, message: handled.append(message))
    module.on_close(lambda session: closed.append(session.close_code))
    simulation = Simulation(app)
    peer = simulation.connect()
    peer.open("/", then=text("never handled"))
    assert peer.close_code() == 1011
    assert (closed, handled) == ([1011], [])
    (failed,) = simulation.said(HandlerFailed)
    assert "opened" in failed.handler


# -- replies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("reply", "sent"),
    [(None, []), ("", [""]), (b"", [b""]), (0, ["0"]), (False, ["false"]), ([1], ["[1]"])],
)
def test_what_a_handler_returns_is_sent_unless_it_is_none(
    reply: object, sent: list[str | bytes], is_async: bool
) -> None:
    app = App()

    def answer(session: Session, message: str) -> object:
        return reply

    async def answer_later(session: Session, message: str) -> object:
        return reply

    app.module("/").on_message(answer_later if is_async else answer)
    peer = Simulation(app).open("/")
    peer.send("?")
    assert peer.messages == sent


def test_a_reply_to_who_has_gone_is_counted() -> None:
    gate = Foreign()
    simulation = Simulation(echo_app("async def", gate=gate))
    peer = simulation.open("/")
    peer.send("hello")
    peer.lose()
    simulation.complete(gate)
    assert simulation.hub.stats().dropped_messages_sent == 1
    assert simulation.failures == []


def test_sends_before_the_reply_come_before_it() -> None:
    app = App()

    @app.module("/").on_message
    def answer(session: Session, message: str) -> str:
        session.send("first")
        return "second"

    peer = Simulation(app).open("/")
    peer.send("?")
    assert peer.messages == ["first", "second"]


# -- failures -----------------------------------------------------------------------------------


@FRAMINGS
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_handler_that_raises_hurts_nobody(kind: str, framing: EngineName) -> None:
    app = App(framing=framing)

    def answer(session: Session, message: str) -> str:
        if message == "raise":
            raise LookupError("on purpose")
        return message

    async def answer_later(session: Session, message: str) -> str:
        return answer(session, message)

    app.module("/").on_message(answer if kind == "def" else answer_later)
    simulation = Simulation(app)
    peer, other = simulation.open("/"), simulation.open("/")
    peer.send("before", "raise", "after")
    other.send("undisturbed")
    error = json.loads(peer.messages[1])
    assert (error["type"], error["code"]) == ("error", "handler_failed")
    assert [peer.messages[0], peer.messages[2]] == ["before", "after"]
    assert other.messages == ["undisturbed"]
    (failed,) = simulation.said(HandlerFailed)
    assert failed.fd == peer.fd
    assert "answer" in failed.handler
    assert isinstance(failed.error, LookupError)
    frames = []
    traceback = failed.error.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert frames[-1] == "answer"
    assert simulation.hub.stats().handler_failures == 1


def test_text_that_cannot_be_encoded_is_the_handlers_failure() -> None:
    app = App()
    app.module("/").on_message(lambda session, message: "\ud800")
    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send("a", "b")
    assert [type(error) for error in simulation.failures] == [UnicodeEncodeError] * 2
    assert len(peer.messages) == 2


def test_a_failure_in_on_close_is_reported_and_the_end_goes_on() -> None:
    app = App()

    @app.module("/").on_close
    def closed(session: Session) -> None:
        raise LookupError("on purpose")

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.close()
    assert peer.close_code() == 1000
    assert peer.lost
    assert [type(error) for error in simulation.failures] == [LookupError]


# -- kinds --------------------------------------------------------------------------------------


@CUTS
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("kinds", "right", "wrong"),
    [("text", "text", b"bytes"), ("binary", b"bytes", "text")],
)
def test_the_wrong_kind_takes_its_place_and_closes_with_1003(
    kinds: str, right: str | bytes, wrong: str | bytes, is_async: bool, cut: int | None
) -> None:
    app = App()
    gate = Foreign()
    handled: list[object] = []
    module = app.module("/", kinds=kinds)  # type: ignore[arg-type]  # one of them

    async def later(session: Session, message: str | bytes) -> str | bytes:
        await gate
        return at_once(session, message)

    def at_once(session: Session, message: str | bytes) -> str | bytes:
        handled.append(message)
        return message

    module.on_message(later if is_async else at_once)
    simulation = Simulation(app, cut=cut)
    peer = simulation.open("/")
    peer.send(right, wrong, right)
    simulation.complete(gate)
    assert handled == [right]
    assert peer.messages == [right]
    assert peer.close_code() == 1003
    assert simulation.hub.stats().violations == 1
    assert simulation.failures == []
    assert gate.waiting == []


def test_the_wrong_kind_comes_before_a_close_that_followed_it() -> None:
    app = App()
    gate = Foreign()

    @app.module("/", kinds="text").on_message
    async def later(session: Session, message: str) -> None:
        await gate

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send_raw(text("right") + frame(BINARY, b"wrong") + close(1000))
    simulation.complete(gate)
    assert peer.close_code() == 1003


def test_a_module_with_commands_takes_text_only() -> None:
    app = App()
    app.module("/").command("a")(lambda ctx: None)
    peer = Simulation(app).open("/")
    peer.send(b'{"type":"a"}')
    assert peer.close_code() == 1003


# -- bounds and violations ----------------------------------------------------------------------


@CUTS
@FRAMINGS
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"ab", key=None), 1002),
        (frame(0x3), 1002),
        (frame(CONTINUATION, b"of nothing"), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xf0\x9f", fin=False) + frame(CONTINUATION, b"\x41"), 1007),
        (frame(BINARY, b"x" * 101), 1009),
        (frame(BINARY, b"x" * 60, fin=False) + frame(CONTINUATION, b"x" * 60), 1009),
        (frame(TEXT, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 5, 1009),
    ],
)
def test_a_violation_closes_with_its_code(
    data: bytes, code: int, framing: EngineName, cut: int | None
) -> None:
    app = App(limits=Limits(message_bytes_max=100, message_fragments_max=4), framing=framing)
    app.module("/").on_message(lambda session, message: message)
    simulation = Simulation(app, cut=cut)
    peer = simulation.open("/")
    peer.send_raw(text("before") + data)
    assert peer.messages == ["before"]
    assert peer.close_code() == code
    assert (peer.lost, peer.aborted) == (True, False)
    assert simulation.hub.stats().violations == 1


@FRAMINGS
def test_what_follows_a_violation_is_not_read(framing: EngineName) -> None:
    handled: list[object] = []
    app = App(framing=framing)
    app.module("/").on_message(lambda session, message: handled.append(message))
    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.polite = False
    peer.send_raw(text("before") + frame(0x3) + text("after"))
    peer.send_raw(text("later"))
    assert handled == ["before"]
    assert simulation.hub.stats().dropped_bytes_received == len(text("later"))
