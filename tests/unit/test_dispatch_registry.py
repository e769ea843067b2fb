"""Tagged messages: handlers by type, effects, stages, and services."""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec
import pytest

from driver import Peer, Simulation
from wireroom.core import (
    App,
    Broadcast,
    Close,
    ConfigurationError,
    Context,
    Enter,
    Join,
    Leave,
    LocalProtocolError,
    Send,
    Session,
    Stages,
)


class Tagged(msgspec.Struct, tag_field="type"):
    """The base of all messages."""


class ChatMessage(Tagged, tag="chat_message"):
    text: str


class JoinRoom(Tagged, tag="join_room"):
    room: str


class SystemNotification(Tagged, tag="system_notification"):
    text: str


class Untagged(msgspec.Struct):
    text: str


class Stage(Enum):
    CONNECTING = "connecting"
    AUTHENTICATED = "authenticated"
    IN_ROOM = "in room"


STAGES = Stages(
    Stage.CONNECTING,
    {
        Stage.CONNECTING: [Stage.AUTHENTICATED],
        Stage.AUTHENTICATED: [Stage.IN_ROOM],
        Stage.IN_ROOM: [Stage.AUTHENTICATED],
    },
)


class Store:
    """A service."""

    def __init__(self) -> None:
        self.saved: list[str] = []


def replies(peer: Peer) -> list[Any]:
    return [msgspec.json.decode(message) for message in peer.messages]


# -- handlers by type ---------------------------------------------------------------------------


def test_a_type_finds_its_handler_which_is_a_function_or_a_class() -> None:
    app = App()
    module = app.module("/", messages=ChatMessage | SystemNotification)

    @module.handler
    def chat(ctx: Context, data: ChatMessage) -> str:
        return f"{ctx.command}: {data.text}"

    @module.handler
    class Notify:
        async def handle(self, ctx: Context, data: SystemNotification) -> SystemNotification:
            return SystemNotification(data.text.upper())

    peer = Simulation(app).open("/")
    peer.send('{"type": "chat_message", "text": "a"}')
    peer.send('{"type": "system_notification", "text": "b"}')
    assert peer.messages == ["chat_message: a", '{"type":"system_notification","text":"B"}']


def test_two_handlers_for_a_type_are_refused_and_both_are_named() -> None:
    module = App().module("/")

    @module.handler
    def first(ctx: Context, data: ChatMessage) -> None: ...

    def second(ctx: Context, data: ChatMessage) -> None: ...

    with pytest.raises(ConfigurationError, match=r"second.*first already"):
        module.handler(second)


def test_a_type_without_a_handler_is_refused_at_the_start() -> None:
    app = App()
    module = app.module("/", messages=ChatMessage | JoinRoom)
    module.handler(lambda_like)
    with pytest.raises(ConfigurationError, match=r"JoinRoom \(type 'join_room'\) has no handler"):
        Simulation(app)


def lambda_like(ctx: Context, data: ChatMessage) -> None: ...


def unannotated(ctx: Context, data) -> None: ...  # type: ignore[no-untyped-def]


def of_no_struct(ctx: Context, data: dict[str, str]) -> None: ...


def of_no_tag(ctx: Context, data: Untagged) -> None: ...


def of_nothing(ctx: Context) -> None: ...


@pytest.mark.parametrize("handler", [unannotated, of_no_struct, of_no_tag, of_nothing])
def test_a_handler_that_says_no_type_is_refused_by_name(handler: Any) -> None:
    with pytest.raises(ConfigurationError, match=handler.__name__):
        App().module("/").handler(handler)


# -- effects ------------------------------------------------------------------------------------


def effects_app(results: dict[str, Any]) -> App:
    """A command `do` gives what `results` has for its text."""
    app = App()
    module = app.module("/", stages=STAGES)

    @module.command("do")
    def do(ctx: Context, data: Untagged) -> Any:
        return results[data.text]

    return app


def test_effects_are_carried_out_in_order() -> None:
    results: dict[str, Any] = {
        "join": [Enter(Stage.AUTHENTICATED), Join("a"), Broadcast("a", "joined")],
        "say": Broadcast("a", "said", include_sender=True),
        "leave": (Leave("a"), Send("you left")),
        "close": Close(4000, "enough"),
        "list": ["no", "effects"],
        "empty": [],
    }
    simulation = Simulation(effects_app(results))
    ann, bob = simulation.open("/"), simulation.open("/")

    def do(peer: Peer, what: str) -> None:
        peer.send(f'{{"type": "do", "text": "{what}"}}')

    do(ann, "join")
    assert simulation.session(ann).stage is Stage.AUTHENTICATED
    do(bob, "join")
    do(bob, "say")
    assert ann.messages == ["joined", "said"]
    assert bob.messages == ["said"]
    do(bob, "leave")
    do(ann, "say")
    do(bob, "list")
    do(bob, "empty")
    assert bob.messages == ["said", "you left", '["no","effects"]', "[]"]
    do(bob, "close")
    assert bob.close_frame is not None
    assert (bob.close_frame.code, bob.close_frame.reason) == (4000, "enough")


def test_effects_reach_others_and_choose_among_receivers() -> None:
    results: dict[str, Any] = {}
    simulation = Simulation(effects_app(results))
    ann, bob, eve = (simulation.open("/") for _ in range(3))
    bob_session = simulation.session(bob)
    for peer in (ann, bob, eve):
        simulation.session(peer).join("a")
    results["one"] = Send("for bob", to=bob_session)
    results["some"] = Broadcast("a", "some", where=lambda session: session is not bob_session)
    ann.send('{"type": "do", "text": "one"}', '{"type": "do", "text": "some"}')
    assert [peer.messages for peer in (ann, bob, eve)] == [[], ["for bob"], ["some"]]


def test_a_request_is_answered_by_send_or_else_by_nothing() -> None:
    simulation = Simulation(effects_app({"send": Send(7), "join": Join("a")}))
    peer = simulation.open("/")
    peer.send('{"type": "do", "text": "send", "request_id": 1}')
    peer.send('{"type": "do", "text": "join", "request_id": 2}')
    assert replies(peer) == [
        {"type": "reply", "request_id": 1, "data": 7},
        {"type": "reply", "request_id": 2, "data": None},
    ]


def test_an_effect_that_is_not_allowed_is_the_handlers_failure() -> None:
    simulation = Simulation(effects_app({"skip": Enter(Stage.IN_ROOM)}))
    peer = simulation.open("/")
    peer.send('{"type": "do", "text": "skip"}')
    assert replies(peer)[0]["code"] == "handler_failed"
    assert "cannot change" in str(simulation.failures[0])
    assert simulation.session(peer).stage is Stage.CONNECTING
    assert simulation.hub.stats().contexts == 0


# -- stages -------------------------------------------------------------------------------------


def test_a_command_may_be_for_some_stages_only() -> None:
    app = App()
    module = app.module("/", stages=STAGES)

    @module.command("log_in", stages=[Stage.CONNECTING])
    def log_in(ctx: Context) -> Enter:
        return Enter(Stage.AUTHENTICATED)

    @module.command("say", stages=[Stage.AUTHENTICATED, Stage.IN_ROOM])
    def say(ctx: Context) -> str:
        return "said"

    peer = Simulation(app).open("/")
    for command in ("say", "log_in", "say", "log_in"):
        peer.send(f'{{"type": "{command}"}}')
    assert [
        message if message == "said" else msgspec.json.decode(message)["code"]
        for message in peer.messages
    ] == ["wrong_stage", "said", "wrong_stage"]


def test_stages_that_can_never_be_reached_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="IN_ROOM"):
        Stages(Stage.CONNECTING, {Stage.CONNECTING: [Stage.AUTHENTICATED]})


def test_stages_need_a_module_that_has_them() -> None:
    app = App()
    module = app.module("/")
    with pytest.raises(ConfigurationError, match="no stages"):
        module.command("x", stages=[Stage.IN_ROOM])(of_nothing)
    simulation = Simulation(app)
    session = simulation.session(simulation.open("/"))
    with pytest.raises(LocalProtocolError, match="no stages"):
        session.enter(Stage.IN_ROOM)


# -- services -----------------------------------------------------------------------------------


def store_app() -> App:
    app = App()
    app.provide(Store, Store)
    module = app.module("/")

    @module.handler
    def chat(ctx: Context, data: ChatMessage, store: Store) -> int:
        store.saved.append(data.text)
        return len(store.saved)

    return app


def test_a_handler_is_given_the_services_it_declares_one_a_hub() -> None:
    app = store_app()
    first, second = Simulation(app), Simulation(app)
    peer = first.open("/")
    peer.send('{"type": "chat_message", "text": "a"}', '{"type": "chat_message", "text": "b"}')
    assert peer.messages == ["1", "2"]
    assert first.hub.service(Store).saved == ["a", "b"]
    assert second.hub.service(Store).saved == []


def test_a_service_may_be_overridden() -> None:
    class Fake(Store):
        pass

    app = store_app()
    fake = Fake()
    app.provide(Store, lambda: fake)
    Simulation(app).open("/").send('{"type": "chat_message", "text": "a"}')
    assert fake.saved == ["a"]


def test_a_service_that_nothing_provides_is_refused_at_the_start() -> None:
    app = store_app()
    app.services.clear()
    with pytest.raises(ConfigurationError, match=r"chat: parameter 'store'.*Store"):
        Simulation(app)


def test_the_hub_says_what_it_has_not() -> None:
    with pytest.raises(LookupError, match="Store"):
        Simulation(App()).hub.service(Store)


def test_an_app_may_have_several_hubs_each_with_its_middleware_once() -> None:
    app = App()
    module = app.module("/")
    calls: list[str] = []

    @module.middleware
    def count(ctx: Context, call_next: Any) -> Any:
        calls.append(ctx.command)
        return call_next()

    @module.command("x")
    def handler(ctx: Context) -> None: ...

    for _ in range(3):
        Simulation(app).open("/").send('{"type": "x"}')
    assert calls == ["x"] * 3


def test_sessions_of_a_module_without_stages_have_none() -> None:
    app = App()
    app.module("/")
    simulation = Simulation(app)
    session: Session = simulation.session(simulation.open("/"))
    assert session.stage is None
