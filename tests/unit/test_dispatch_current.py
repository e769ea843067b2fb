"""Whose handler runs here: the current session and context, and that none of them leaks."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from driver import Foreign, Peer, Simulation
from wireroom.core import (
    App,
    Context,
    ErrorReply,
    HandlerFailed,
    Hub,
    Limits,
    Module,
    Parsed,
    Parser,
    PresenceChanged,
    Room,
    Session,
    WebSocket,
    WebSocketView,
    current_context,
    current_session,
)

NOBODY: Final = (None, None)


def current() -> tuple[Session | None, Context | None]:
    """What a handler sees, with None for a `LookupError`."""
    try:
        session = current_session()
    except LookupError:
        session = None
    try:
        context = current_context()
    except LookupError:
        context = None
    return session, context


def made(**options: Any) -> tuple[App, Module]:
    app = App(limits=Limits(close_timeout_s=1.0))
    return app, app.module("/", **options)


# -- messages -----------------------------------------------------------------------------------


def test_on_message_has_a_context_of_its_own() -> None:
    app, module = made()
    seen: list[Context] = []

    @module.on_message
    def on_message(session: Session, message: str) -> str:
        context = current_context()
        assert current_session() is context.session is session
        assert (context.command, context.data, context.message) == ("", message, message)
        assert not hasattr(context.state, "mark")
        context.state.mark = message
        seen.append(context)
        context.reply("reply")
        return "returned"

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send("a", "b")
    assert peer.messages == ["reply", "returned"] * 2
    assert [context.state.mark for context in seen] == ["a", "b"]
    assert all(context.is_over for context in seen)
    assert current() == NOBODY
    assert simulation.hub.stats().contexts == 0


@pytest.mark.parametrize("kind", ["on_message", "command"])
def test_each_step_of_an_async_handler_sees_its_own(kind: str) -> None:
    app, module = made()
    foreign = {name: [Foreign(), Foreign()] for name in "ab"}
    seen: list[tuple[str, str, bool]] = []

    async def steps(session: Session, name: str) -> None:
        current_context().state.name = name
        for number, each in enumerate([*foreign[name], None]):
            context = current_context()
            mine = current_session() is context.session is session
            seen.append((f"{name}{number}", context.state.name, mine))
            if each is not None:
                await each

    if kind == "on_message":

        @module.on_message
        async def on_message(session: Session, message: str) -> None:
            await steps(session, msgspec.json.decode(message)["name"])

    else:

        @module.command("steps")
        async def command(ctx: Context, data: dict[str, str]) -> None:
            assert ctx is current_context()
            await steps(ctx.session, data["name"])

    simulation = Simulation(app)
    peers = [simulation.open("/"), simulation.open("/")]
    for peer, name in zip(peers, "ab", strict=True):
        peer.send(f'{{"type": "steps", "name": "{name}"}}')
    assert simulation.hub.stats().contexts == 2
    for each in (foreign["b"][0], foreign["a"][0], foreign["a"][1], foreign["b"][1]):
        simulation.complete(each)
        assert current() == NOBODY
    assert [step for step, _, _ in seen] == ["a0", "b0", "b1", "a1", "a2", "b2"]
    assert all(step[0] == name and mine for step, name, mine in seen)
    assert simulation.hub.stats().contexts == 0


def test_the_next_message_of_a_session_sees_nothing_of_the_one_before() -> None:
    app, module = made()
    foreign = Foreign()
    contexts: list[Context] = []

    @module.on_message
    async def on_message(session: Session, message: str) -> None:
        assert not hasattr(current_context().state, "mark")
        current_context().state.mark = message
        contexts.append(current_context())
        await foreign
        assert current_context().state.mark == message

    simulation = Simulation(app)
    simulation.open("/").send("a", "b")
    assert simulation.hub.stats().contexts == 1  # the second message waits
    simulation.complete(foreign)
    simulation.complete(foreign)
    assert [context.state.mark for context in contexts] == ["a", "b"]
    assert simulation.failures == []


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("end", ["returns", "raises", "closes", "is lost"])
def test_no_context_is_left_however_a_message_ends(asynchronous: bool, end: str) -> None:
    app, module = made()
    seen: list[Context] = []

    def handle(session: Session) -> None:
        seen.append(current_context())
        if end == "raises":
            raise ValueError("on purpose")
        if end == "closes":
            session.close(4000)
        if end == "is lost":
            peer.lose()

    if asynchronous:

        @module.on_message
        async def on_message_async(session: Session, message: str) -> None:
            handle(session)
            await Foreign()  # for ever, if it is not cancelled

    else:

        @module.on_message
        def on_message(session: Session, message: str) -> None:
            handle(session)

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send("a")
    waits = asynchronous and end != "raises"
    assert simulation.hub.stats().contexts == len(simulation.running) == int(waits)
    peer.lose()
    simulation.advance(1.0)  # what still runs is cancelled
    assert seen[0].is_over
    assert simulation.hub.stats().contexts == 0
    assert simulation.hub.stats().invocations == 0
    assert len(simulation.failures) == int(end == "raises")
    assert current() == NOBODY


def test_an_interrupt_in_a_handler_leaves_no_context() -> None:
    app, module = made()

    @module.on_message
    def on_message(session: Session, message: str) -> None:
        raise KeyboardInterrupt

    simulation = Simulation(app)
    peer = simulation.open("/")
    with pytest.raises(KeyboardInterrupt):
        peer.send("a")
    assert simulation.hub.stats().contexts == 0
    assert current() == NOBODY


# -- events -------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_events_have_a_session_and_no_context(asynchronous: bool) -> None:
    app, module = made()
    foreign = Foreign()
    seen: list[tuple[str, Session | None, Context | None]] = []

    def register(event: str) -> None:
        def handler(*arguments: object) -> None:
            seen.append((event, *current()))

        async def handler_async(*arguments: object) -> None:
            await foreign
            seen.append((event, *current()))

        getattr(module, event)(handler_async if asynchronous else handler)

    for event in ("on_handshake", "on_open", "on_join", "on_leave", "on_close"):
        register(event)
    simulation = Simulation(app)
    peer = simulation.open("/")
    simulation.complete(foreign)
    simulation.complete(foreign)
    session = simulation.session(peer)
    session.join("room")
    simulation.settle()
    simulation.complete(foreign)
    peer.close()
    simulation.complete(foreign)
    assert seen == [
        (event, session, None)
        for event in ("on_handshake", "on_open", "on_join", "on_leave", "on_close")
    ]
    assert current() == NOBODY


def test_on_join_and_on_leave_are_for_who_joined_whoever_made_it_join() -> None:
    app, module = made()
    seen: list[object] = []

    @module.on_join
    def joined(session: Session, room: Room) -> None:
        seen.append(("joined", session.fd, current() == (session, None)))

    @module.on_leave
    async def left(session: Session, room: Room) -> None:
        seen.append(("left", session.fd, current() == (session, None)))

    @module.on_message
    def on_message(session: Session, message: str) -> None:
        context = current_context()
        for other in session.hub.sessions():
            other.join(message)
            assert current() == (session, context)
            other.leave(message)
            assert current() == (session, context)

    simulation = Simulation(app)
    first, second = simulation.open("/"), simulation.open("/")
    first.send("room")
    assert sorted(seen, key=str) == [
        (what, peer.fd, True) for what in ("joined", "left") for peer in (first, second)
    ]
    assert simulation.failures == []


@pytest.mark.parametrize("asynchronous", [False, True])
def test_on_error_has_the_session_of_the_message_that_failed(asynchronous: bool) -> None:
    app, module = made()
    seen: list[object] = []

    def fail(session: Session, message: str) -> None:
        raise ValueError(message)

    async def fail_async(session: Session, message: str) -> None:
        raise ValueError(message)

    module.on_message(fail_async if asynchronous else fail)

    @module.on_error
    def explain(session: Session, error: Exception) -> str:
        seen.append(current() == (session, None))
        return f"sorry: {error}"

    peer = Simulation(app).open("/")
    peer.send("a", "b")
    assert peer.messages == ["sorry: a", "sorry: b"]
    assert seen == [True, True]
    assert current() == NOBODY


# -- functions and views ------------------------------------------------------------------------


def test_a_function_has_its_session_in_all_of_its_steps() -> None:
    app = App()
    foreign = Foreign()
    seen: list[bool] = []

    @app.websocket("/")
    async def function(ws: WebSocket) -> None:
        seen.append(current() == (ws.session, None))
        await ws.accept()
        await foreign
        seen.append(current() == (ws.session, None))
        async for message in ws:
            seen.append(current() == (ws.session, None))
            await ws.send(message)

    simulation = Simulation(app)
    peers = [simulation.open("/"), simulation.open("/")]
    simulation.complete(foreign)
    for peer in peers:
        peer.send("a")
    assert seen == [True] * 6
    assert current() == NOBODY


def test_a_view_has_its_session_in_all_of_its_methods() -> None:
    app = App()
    seen: list[tuple[str, bool]] = []

    @app.view("/")
    class View(WebSocketView):
        def see(self, method: str) -> None:
            seen.append((method, current() == (self.websocket.session, None)))

        async def on_connect(self) -> None:
            await self.websocket.accept()
            self.see("connect")

        async def on_receive(self, data: Any) -> None:
            self.see("receive")

        async def on_disconnect(self, close_code: int) -> None:
            self.see("disconnect")
            await self.websocket.close(close_code)

    peer = Simulation(app).open("/")
    peer.send("a")
    peer.close()
    assert seen == [("connect", True), ("receive", True), ("disconnect", True)]


# -- outside ------------------------------------------------------------------------------------


def test_outside_of_a_sessions_handlers_there_is_none() -> None:
    app, module = made()
    seen: list[object] = []
    foreign = Foreign()

    @app.every(5.0)
    async def tick(hub: Hub) -> None:
        seen.append(current())

    @module.on_message
    async def on_message(session: Session, message: str) -> None:
        await foreign

    simulation = Simulation(app)
    simulation.hub.start(now=0.0)
    simulation.open("/").send("a")

    async def task() -> None:
        seen.append(current())

    simulation.spawn(task())  # while a message is being handled
    simulation.advance(5.0)
    assert seen == [NOBODY, NOBODY]
    assert current() == NOBODY


# -- parsers that fail --------------------------------------------------------------------------


class Picky(Parser):
    """`command data`; what it must not do depends on the data."""

    def parse(self, message: Any) -> Parsed:
        name, _, data = message.partition(" ")
        if data == "raise":
            raise KeyError("on purpose")
        if data == "nothing":
            return None  # type: ignore[return-value]  # a mistake of the user's
        return Parsed(name, data)

    def pack(self, data: Any) -> Any:
        if data == {"no": "message"}:
            return data
        if data == {"cannot": "be packed"} or isinstance(data, PresenceChanged):
            raise KeyError("on purpose")
        if isinstance(data, ErrorReply) and data.code == "unknown_type":
            raise KeyError("on purpose")
        return super().pack(data)


PICKY: Final = f"{__name__}.Picky"


def picky_app(*, presence: bool = False) -> tuple[App, Module]:
    app, module = made(parser=Picky(), presence=presence)

    @module.command("say")
    def say(ctx: Context, data: str) -> object:
        return {"cannot": "be packed"} if data == "reply" else data

    return app, module


def codes(peer: Peer) -> list[str]:
    return [msgspec.json.decode(message)["code"] for message in peer.messages]


def failures(simulation: Simulation) -> list[tuple[int, str, type]]:
    return [(each.fd, each.handler, type(each.error)) for each in simulation.said(HandlerFailed)]


@pytest.mark.parametrize(
    ("message", "where", "error"),
    [
        ("say raise", PICKY, KeyError),
        ("say nothing", PICKY, AttributeError),
        ("unknown type", PICKY, KeyError),  # the error reply cannot be packed
        ("say reply", "picky_app.<locals>.say", KeyError),  # what the handler gave cannot
    ],
)
def test_a_parser_that_fails_is_reported_and_hurts_nobody_else(
    message: str, where: str, error: type
) -> None:
    app, _ = picky_app()
    simulation = Simulation(app)
    peer, other = simulation.open("/"), simulation.open("/")
    peer.send(message)
    assert codes(peer) == ["handler_failed"]
    ((fd, reported, kind),) = failures(simulation)
    assert (fd, kind) == (peer.fd, error)
    assert reported.endswith(where)
    for each in (peer, other):
        each.send("say hello")
        assert each.messages[-1] == "hello"
    assert simulation.hub.stats().contexts == 0


def test_a_parser_that_fails_while_we_wait_for_a_reply() -> None:
    app, module = made(parser=Picky())

    @module.command("say")
    def say(ctx: Context, data: str) -> str:
        return data

    class Asking(Picky):
        def pack_request(self, data: Any, request_id: int | str) -> str:
            return f"{data} {request_id}"

    module.parser = Asking()
    simulation = Simulation(app)
    peer = simulation.open("/")
    session = simulation.session(peer)
    errors: list[Exception] = []

    async def ask() -> None:
        try:
            await session.request("who", timeout_s=1.0)
        except TimeoutError as error:
            errors.append(error)

    simulation.spawn(ask())
    peer.send("say raise", "say nothing", "say hello")
    assert peer.messages[0].startswith("who ")  # type: ignore[arg-type]  # text
    assert [message for message in peer.messages[1:] if message == "hello"] == ["hello"]
    assert [type(error) for error in simulation.failures] == [KeyError, AttributeError]
    simulation.advance(1.0)
    assert len(errors) == 1


def test_presence_that_cannot_be_packed_is_reported_and_joins_all_the_same() -> None:
    app, _ = picky_app(presence=True)
    simulation = Simulation(app)
    peer = simulation.open("/")
    session = simulation.session(peer)
    session.join("room")
    simulation.settle()
    assert failures(simulation) == [(0, PICKY, KeyError)]
    assert session.rooms == ["room"]
    peer.send("say hello")
    assert peer.messages == ["hello"]


@pytest.mark.parametrize("gives", [ValueError("on purpose"), {"no": "message"}])
def test_an_on_error_that_fails_is_reported_and_the_error_reply_sent(gives: object) -> None:
    app, module = picky_app()

    @module.on_error
    def explain(session: Session, error: Exception) -> object:
        if isinstance(gives, Exception):
            raise gives
        return gives

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send("say raise", "say hello")
    assert codes_of_errors(peer) == ["handler_failed"]
    assert peer.messages[-1] == "hello"
    first, second = failures(simulation)
    assert first == (peer.fd, PICKY, KeyError)
    assert second[1].endswith("explain")


def codes_of_errors(peer: Peer) -> list[str]:
    found = [str(message) for message in peer.messages if str(message).startswith("{")]
    return [msgspec.json.decode(message)["code"] for message in found]


def test_a_parser_that_cannot_say_that_it_failed_ends_the_session() -> None:
    class Mute(Picky):
        def pack(self, data: Any) -> Any:
            raise KeyError("on purpose")

    app, module = made(parser=Mute())
    module.command("say")(lambda ctx: {})
    simulation = Simulation(app)
    peer, other = simulation.open("/"), simulation.open("/")
    peer.send("say")
    assert peer.close_code() == 1011
    assert peer.messages == []
    assert len(simulation.failures) == 2  # of the handler's value, and of the error reply
    assert failures(simulation)[-1][1].endswith("Mute")
    assert other.close_frame is None
    assert simulation.hub.stats().contexts == 0
