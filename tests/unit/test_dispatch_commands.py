"""Controllers, default commands, middleware, contexts, and requests both ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from driver import Foreign, Peer, Simulation
from wireroom.core import (
    Accept,
    App,
    CommandDataParser,
    ConfigurationError,
    Context,
    JsonParser,
    Limits,
    LocalProtocolError,
    MessagePackParser,
    RawParser,
    Reject,
    Request,
    RequestFailedError,
    Session,
    SessionClosedError,
    WebSocket,
    command,
    current_context,
    current_session,
)


class Say(msgspec.Struct):
    text: str


def replies(peer: Peer) -> list[Any]:
    return [msgspec.json.decode(message) for message in peer.messages]


# -- controllers and parsers --------------------------------------------------------------------


class Chat:
    """A controller."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @command()
    def say(self, ctx: Context, data: Say) -> str:
        self.said.append(data.text)
        return f"{ctx.command}: {data.text}"

    @command("history")
    async def give_history(self, ctx: Context) -> list[str]:
        return self.said

    def no_command(self) -> None: ...


def test_a_controllers_methods_are_commands() -> None:
    app = App()
    app.module("/").controller("chat")(Chat)
    peer = Simulation(app).open("/")
    peer.send('{"type": "chat.say", "text": "a"}', '{"type": "chat.history"}')
    assert peer.messages == ["chat.say: a", '["a"]']
    peer.send('{"type": "chat.no_command"}', '{"type": "chat.say", "text": 1}')
    unknown, wrong = (msgspec.json.decode(message) for message in peer.messages[2:])
    assert (unknown["code"], unknown["field"]) == ("unknown_type", "type")
    assert (wrong["code"], wrong["field"]) == ("invalid_data", "text")


def test_a_controller_may_be_an_instance_and_have_no_prefix() -> None:
    app = App()
    chat = Chat()
    app.module("/").controller()(chat)
    Simulation(app).open("/").send('{"type": "say", "text": "a"}')
    assert chat.said == ["a"]


def test_a_controller_without_commands_and_one_registered_twice_are_refused() -> None:
    module = App().module("/")
    with pytest.raises(ConfigurationError, match="no method"):
        module.controller("x")(Say("no controller"))
    module.controller("chat")(Chat)
    with pytest.raises(ConfigurationError, match=r"chat\.(say|history).*already"):
        module.controller("chat")(Chat)


def test_command_and_data_in_text() -> None:
    app = App()
    module = app.module("/", parser=CommandDataParser())

    @module.command("say")
    def say(ctx: Context, data: str) -> str:
        return data.upper()

    peer = Simulation(app).open("/")
    peer.send("say:hello", "shout:x", b"binary")
    assert peer.messages[:2] == ["HELLO", "error:unknown_type: there is no type 'shout'"]
    assert peer.close_frame is not None
    assert peer.close_frame.code == 1003


def test_messagepack_in_binary_messages() -> None:
    app = App()
    module = app.module("/", parser=MessagePackParser())

    @module.command("say")
    def say(ctx: Context, data: Say) -> Say:
        return Say(data.text.upper())

    peer = Simulation(app).open("/")
    peer.send(msgspec.msgpack.encode({"type": "say", "text": "a"}))
    assert isinstance(peer.messages[0], bytes)
    assert msgspec.msgpack.decode(peer.messages[0]) == {"type": "say", "text": "A"}


def test_the_default_command_takes_what_no_other_does() -> None:
    app = App()
    module = app.module("/")

    @module.command("known")
    def known(ctx: Context) -> str:
        return "known"

    @module.default_command
    def other(ctx: Context, data: dict[str, Any]) -> str:
        return f"{ctx.command} {data['x']}"

    peer = Simulation(app).open("/")
    peer.send('{"type": "known"}', '{"type": "new", "x": 1}')
    assert peer.messages == ["known", "new 1"]
    with pytest.raises(ConfigurationError, match="other already"):
        module.default_command(known)


def test_raw_messages_go_to_the_default_command() -> None:
    app = App()
    module = app.module("/", parser=RawParser())

    @module.default_command
    def whole(ctx: Context, data: str) -> str:
        return data[::-1]

    peer = Simulation(app).open("/")
    peer.send("abc")
    assert peer.messages == ["cba"]


def test_what_does_not_fit_together_is_refused_at_the_start() -> None:
    for wrong in ({"parser": RawParser()}, {"parser": MessagePackParser(), "kinds": "text"}):
        app = App()
        app.module("/", **wrong).command("x")(lambda ctx: None)
        with pytest.raises(ConfigurationError, match=r"RawParser|MessagePackParser"):
            Simulation(app)


# -- middleware ---------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous_handler", [False, True])
@pytest.mark.parametrize("asynchronous_middleware", [False, True])
def test_middleware_is_around_every_command(
    asynchronous_handler: bool, asynchronous_middleware: bool
) -> None:
    app = App()
    module = app.module("/")
    order: list[str] = []

    @module.middleware
    def outer(ctx: Context, call_next: Callable[[], Any]) -> Any:
        order.append(f"outer {ctx.command}")
        return call_next()

    if asynchronous_middleware:

        @module.middleware
        async def inner_async(ctx: Context, call_next: Callable[[], Any]) -> Any:
            order.append("inner")
            return await call_next() + " by inner"

    else:

        @module.middleware
        def inner(ctx: Context, call_next: Callable[[], Any]) -> Any:
            order.append("inner")
            return call_next()

    if asynchronous_handler:

        @module.command("x")
        async def handler_async(ctx: Context, data: dict[str, Any]) -> str:
            order.append("handler")
            return "done"

    else:

        @module.command("x")
        def handler(ctx: Context, data: dict[str, Any]) -> str:
            order.append("handler")
            return "done"

    peer = Simulation(app).open("/")
    peer.send('{"type": "x"}')
    assert order == ["outer x", "inner", "handler"]
    assert peer.messages == ["done by inner" if asynchronous_middleware else "done"]


def test_middleware_may_keep_a_message_from_its_handler() -> None:
    app = App()
    module = app.module("/")

    @module.middleware
    def only_known(ctx: Context, call_next: Callable[[], Any]) -> Any:
        if ctx.user is None:
            ctx.error("forbidden", "log in first")
            return None
        return call_next()

    @module.command("x")
    def handler(ctx: Context) -> None:
        raise AssertionError

    peer = Simulation(app).open("/")
    peer.send('{"type": "x"}')
    assert [reply["code"] for reply in replies(peer)] == ["forbidden"]


def test_middleware_around_the_handshake() -> None:
    app = App()
    module = app.module("/{name}")

    @module.handshake_middleware
    async def not_bob(request: Request, call_next: Callable[[], Any]) -> Accept | Reject:
        if request.path_params["name"] == "bob":
            return Reject(402)
        accepted: Accept = await call_next()
        return accepted

    @module.on_handshake
    def bind(request: Request) -> Accept:
        return Accept(user=request.path_params["name"])

    simulation = Simulation(app)
    assert simulation.session(simulation.open("/ann")).user == "ann"
    peer = simulation.connect()
    peer.open("/bob")
    assert peer.status() == 402


def noting(order: list[str], name: str, *, asynchronous: bool) -> Callable[..., Any]:
    """Middleware that says when it is entered and left."""

    def middleware(ctx: Context, call_next: Callable[[], Any]) -> Any:
        order.append(name)
        return call_next()

    async def middleware_async(ctx: Context, call_next: Callable[[], Any]) -> Any:
        order.append(name)
        result = await call_next()
        order.append(f"after {name}")
        return result

    return middleware_async if asynchronous else middleware


@pytest.mark.parametrize("asynchronous", [False, True])
def test_middleware_of_one_controller_and_one_command_is_within_the_modules(
    asynchronous: bool,
) -> None:
    app = App()
    module = app.module("/")
    order: list[str] = []

    def note(name: str) -> Callable[..., Any]:
        return noting(order, name, asynchronous=asynchronous)

    module.controller("chat", middleware=[note("chat 1"), note("chat 2")])(Chat)
    module.controller("other")(Chat)

    @module.command("alone", middleware=(note("alone"),))
    def alone(ctx: Context) -> str:
        return "alone"

    module.middleware(note("module"))  # after the others, and around them all the same
    peer = Simulation(app).open("/")

    for name, entered in {
        "chat.say": ["module", "chat 1", "chat 2"],
        "chat.history": ["module", "chat 1", "chat 2"],
        "other.say": ["module"],
        "alone": ["module", "alone"],
    }.items():
        peer.send(f'{{"type": "{name}", "text": "a"}}')
        after = [f"after {each}" for each in reversed(entered)] if asynchronous else []
        assert order == entered + after
        order.clear()
    assert peer.messages == ["chat.say: a", '["a"]', "other.say: a", "alone"]


def test_middleware_of_a_controller_may_keep_a_message_from_it() -> None:
    app = App()
    module = app.module("/")
    chat = Chat()

    async def nobody(ctx: Context, call_next: Callable[[], Any]) -> str:
        return f"no {ctx.command}"

    module.controller("chat", middleware=[nobody])(chat)
    peer = Simulation(app).open("/")
    peer.send('{"type": "chat.say", "text": "a"}')
    assert peer.messages == ["no chat.say"]
    assert chat.said == []


def test_middleware_that_cannot_be_called_is_refused_at_registration() -> None:
    app = App()
    module = app.module("/")

    def wrong(ctx: Context) -> None: ...

    with pytest.raises(
        ConfigurationError,
        match=r"middleware of controller 'chat' of /: .*wrong.*\(ctx, call_next\)",
    ):
        module.controller("chat", middleware=[wrong])
    with pytest.raises(
        ConfigurationError, match=r"middleware of command 'x' of /: .*wrong.*\(ctx, call_next\)"
    ):
        module.command("x", middleware=[wrong])
    with pytest.raises(ConfigurationError, match=r"middleware of /: .*wrong"):
        module.middleware(wrong)


# -- errors -------------------------------------------------------------------------------------


def test_on_error_may_answer_in_its_own_words() -> None:
    app = App()
    module = app.module("/")
    seen: list[str] = []

    @module.on_error
    def explain(session: Session, error: Exception) -> dict[str, str] | None:
        seen.append(str(error))
        return {"sorry": str(error)} if "say" in str(error) else None

    @module.command("x")
    def handler(ctx: Context, data: Say) -> None:
        raise ValueError(data.text)

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send('{"type": "x", "text": "say so"}', '{"type": "x", "text": "hush"}')
    assert replies(peer)[0] == {"sorry": "say so"}
    assert replies(peer)[1]["code"] == "handler_failed"
    assert seen == ["say so", "hush"]
    assert len(simulation.failures) == 2


# -- contexts -----------------------------------------------------------------------------------


def test_the_current_context_is_the_messages_own_also_between_awaits() -> None:
    app = App()
    module = app.module("/")
    foreign = Foreign()
    seen: list[tuple[str, object, bool]] = []
    contexts: list[Context] = []

    @module.command("slow")
    async def slow(ctx: Context) -> None:
        ctx.state.mark = "slow"
        contexts.append(ctx)
        seen.append(("before", current_context().state.mark, current_session() is ctx.session))
        await foreign
        seen.append(("after", current_context().state.mark, current_session() is ctx.session))

    @module.command("fast")
    def fast(ctx: Context) -> None:
        ctx.state.mark = "fast"
        contexts.append(ctx)
        seen.append(("fast", current_context().state.mark, current_session() is ctx.session))

    simulation = Simulation(app)
    first, second = simulation.open("/"), simulation.open("/")
    first.send('{"type": "slow"}')
    second.send('{"type": "fast"}')
    assert simulation.hub.stats().contexts == 1
    with pytest.raises(LookupError):
        current_context()
    simulation.complete(foreign)
    assert seen == [("before", "slow", True), ("fast", "fast", True), ("after", "slow", True)]
    assert all(context.is_over for context in contexts)
    assert simulation.hub.stats().contexts == 0


def test_a_context_is_over_whatever_the_handler_did() -> None:
    app = App(limits=Limits(close_timeout_s=1.0))
    module = app.module("/")

    @module.command("raises")
    def raises(ctx: Context) -> None:
        raise ValueError("on purpose")

    @module.command("raises_later")
    async def raises_later(ctx: Context) -> None:
        raise ValueError("on purpose")

    @module.command("for_ever")
    async def for_ever(ctx: Context) -> None:
        await Foreign()

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send('{"type": "raises"}', '{"type": "raises_later"}', '{"type": "for_ever"}')
    assert simulation.hub.stats().contexts == 1
    peer.lose()
    simulation.advance(1.0)
    assert simulation.hub.stats().contexts == 0
    with pytest.raises(LookupError):
        current_context()


# -- requests -----------------------------------------------------------------------------------


def request_app() -> App:
    app = App()
    module = app.module("/")

    @module.command("add")
    def add(ctx: Context, data: dict[str, Any]) -> int:
        return sum(data["numbers"])

    @module.command("add_later")
    async def add_later(ctx: Context, data: dict[str, Any]) -> int:
        await ctx.sleep(1.0)
        return sum(data["numbers"])

    @module.command("by_hand")
    def by_hand(ctx: Context) -> str:
        ctx.reply("the answer")
        return "and more"

    @module.command("nothing")
    def nothing(ctx: Context) -> None: ...

    @module.command("fails")
    def fails(ctx: Context) -> None:
        raise ValueError("on purpose")

    return app


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        ('"add", "numbers": [1, 2]', {"data": 3}),
        ('"add_later", "numbers": [1, 2]', {"data": 3}),
        ('"nothing"', {"data": None}),
        ('"by_hand"', {"data": "the answer"}),
    ],
)
def test_a_request_gets_its_answer(message: str, reply: dict[str, Any]) -> None:
    simulation = Simulation(request_app())
    peer = simulation.open("/")
    peer.send(f'{{"type": {message}, "request_id": 7}}')
    simulation.advance(1.0)
    assert replies_of(peer)[0] == {"type": "reply", "request_id": 7, **reply}


def replies_of(peer: Peer) -> list[Any]:
    return [msgspec.json.decode(each) for each in peer.messages if str(each).startswith("{")]


@pytest.mark.parametrize(
    ("message", "code"),
    [('"fails"', "handler_failed"), ('"unknown"', "unknown_type"), ('"add", "numbers": {', "")],
)
def test_a_request_that_fails_gets_an_error_with_its_id(message: str, code: str) -> None:
    simulation = Simulation(request_app())
    peer = simulation.open("/")
    peer.send(f'{{"type": {message}, "request_id": "r"}}')
    (reply,) = replies(peer)
    if code:
        assert (reply["code"], reply["request_id"]) == (code, "r")
    else:
        assert reply["code"] == "invalid_json"


def test_without_an_id_there_is_no_answer_but_what_is_returned() -> None:
    simulation = Simulation(request_app())
    peer = simulation.open("/")
    peer.send('{"type": "nothing"}', '{"type": "add", "numbers": [2]}')
    assert peer.messages == ["2"]


class Asker:
    """A task that asks a peer, and what came of it."""

    def __init__(self, simulation: Simulation, session: Session, **options: Any) -> None:
        self.result: object = None
        self.done = False
        simulation.spawn(self._run(session, options))

    async def _run(self, session: Session, options: dict[str, Any]) -> None:
        try:
            self.result = await session.request({"type": "who"}, **options)
        except Exception as error:
            self.result = error
        self.done = True


def ask(**options: Any) -> tuple[Simulation, Peer, Asker]:
    simulation = Simulation(request_app())
    peer = simulation.open("/")
    asker = Asker(simulation, simulation.session(peer), **options)
    assert replies(peer) == [{"type": "who", "request_id": "s1"}]
    return simulation, peer, asker


def test_the_server_may_ask_the_client() -> None:
    _, peer, asker = ask(reply_type=Say)
    peer.send('{"type": "reply", "request_id": "s1", "data": {"text": "ann"}}')
    assert asker.result == Say("ann")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ('{"type": "error", "request_id": "s1", "code": "busy", "message": "later"}', "busy"),
        ('{"type": "reply", "request_id": "s1", "data": {"text": 1}}', "invalid_data"),
        ('{"type": "reply", "request_id": "s1"}', "invalid_data"),
    ],
)
def test_an_answer_may_be_an_error(answer: str, code: str) -> None:
    _, peer, asker = ask(reply_type=Say)
    peer.send(answer)
    assert isinstance(asker.result, RequestFailedError)
    assert asker.result.code == code


def test_an_answer_may_not_come() -> None:
    simulation, peer, asker = ask(timeout_s=3.0)
    simulation.advance(2.9)
    assert not asker.done
    simulation.advance(0.2)
    assert isinstance(asker.result, TimeoutError)
    peer.send('{"type": "reply", "request_id": "s1", "data": 1}')  # too late
    assert simulation.hub.stats().late_replies == 1
    assert len(peer.messages) == 1


def test_a_session_that_ends_answers_nothing_more() -> None:
    _, peer, asker = ask()
    peer.lose()
    assert isinstance(asker.result, SessionClosedError)


def test_a_handler_may_ask_the_peer_whose_message_it_handles() -> None:
    app = App()
    module = app.module("/")

    @module.command("start")
    async def start(ctx: Context) -> str:
        return f"hello {await ctx.session.request({'type': 'who'})}"

    peer = Simulation(app).open("/")
    peer.send('{"type": "start"}')
    peer.send('{"type": "reply", "request_id": "s1", "data": "ann"}')
    assert peer.messages[-1] == "hello ann"


def test_a_module_without_commands_cannot_ask() -> None:
    app = App()
    app.module("/", parser=JsonParser())
    simulation = Simulation(app)
    session = simulation.session(simulation.open("/"))
    with pytest.raises(LocalProtocolError, match="has no commands"):
        session.request({"type": "who"}).send(None)


def test_a_function_cannot_ask() -> None:
    app = App()
    errors = []

    @app.websocket("/")
    async def ask(ws: WebSocket) -> None:
        await ws.accept()
        try:
            await ws.session.request({"type": "who"})
        except LocalProtocolError as error:
            errors.append(str(error))

    Simulation(app).open("/")
    assert errors == ["/ is a function, which reads all that comes: send() and receive()"]
