"""Modules: which registrations stop the start, and from a message to its handler."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest

from driver import Simulation
from wireroom.core import (
    App,
    ConfigurationError,
    Context,
    HandlerFailed,
    Hub,
    JsonParser,
    Limits,
    Session,
)


class Say(msgspec.Struct):
    text: str
    times: int = 1


def converse(app: App, *messages: str | bytes, path: str = "/") -> list[Any]:
    """What one peer is told in reply, decoded."""
    simulation = Simulation(app)
    peer = simulation.open(path)
    peer.send(*messages)
    simulation.end()
    return [json.loads(message) for message in peer.messages]


# -- registration -------------------------------------------------------------------------------


def test_handlers_are_given_back_as_they_were() -> None:
    module = App().module("/")

    def handler(session: Session) -> None: ...
    def command(ctx: Context) -> None: ...

    assert module.on_open(handler) is handler
    assert module.command("a")(command) is command


@pytest.mark.parametrize("event", ["on_handshake", "on_open", "on_close", "on_message"])
def test_an_event_with_two_handlers_is_refused_and_both_are_named(event: str) -> None:
    module = App().module("/")

    def first(*arguments: object) -> None: ...
    def second(*arguments: object) -> None: ...

    getattr(module, event)(first)
    with pytest.raises(ConfigurationError, match=r"second.*first"):
        getattr(module, event)(second)


@pytest.mark.parametrize(
    ("event", "arguments"),
    [("on_handshake", 1), ("on_open", 1), ("on_close", 1), ("on_message", 2)],
)
def test_a_handler_with_the_wrong_number_of_parameters_is_refused(
    event: str, arguments: int
) -> None:
    def too_few() -> None: ...
    def too_many(a: object, b: object, c: object) -> None: ...

    for handler in (too_few, too_many):
        with pytest.raises(ConfigurationError, match=handler.__name__):
            getattr(App().module("/"), event)(handler)


def test_a_generator_is_no_handler() -> None:
    def generator(session: Session, message: str) -> Iterator[int]:
        yield 1

    async def async_generator(session: Session, message: str) -> AsyncIterator[int]:
        yield 1

    for handler in (generator, async_generator):
        with pytest.raises(ConfigurationError, match="generator"):
            App().module("/").on_message(handler)


def test_a_command_with_two_handlers_is_refused_and_both_are_named() -> None:
    module = App().module("/")

    @module.command("say")
    def first(ctx: Context) -> None: ...

    def second(ctx: Context) -> None: ...

    with pytest.raises(ConfigurationError, match=r"'say'.*second.*first"):
        module.command("say")(second)


def test_data_needs_an_annotation_that_can_be_resolved() -> None:
    def unannotated(ctx, data): ...  # type: ignore[no-untyped-def]  # on purpose
    def unresolved(ctx: Context, data: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    for handler in (unannotated, unresolved):
        with pytest.raises(ConfigurationError, match=r"'data'"):
            App().module("/").command("say")(handler)


def test_a_command_takes_a_context_and_perhaps_data() -> None:
    def nothing() -> None: ...
    def keyword(ctx: Context, *, more: int) -> None: ...

    for handler in (nothing, keyword):
        with pytest.raises(ConfigurationError, match="must take"):
            App().module("/").command("say")(handler)


def test_commands_and_on_message_exclude_each_other() -> None:
    app = App()
    module = app.module("/")

    @module.on_message
    def whole(session: Session, message: str) -> None: ...
    @module.command("say")
    def say(ctx: Context) -> None: ...

    with pytest.raises(ConfigurationError, match=r"whole.*say"):
        Hub(app)


def test_commands_are_text() -> None:
    app = App()
    app.module("/", kinds="binary").command("say")(lambda ctx: None)
    with pytest.raises(ConfigurationError, match="kinds"):
        Hub(app)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="kinds"):
        App().module("/", kinds="json")  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("subprotocols", ["chat", ["a b"], [""]])
def test_subprotocols_must_be_a_list_of_tokens(subprotocols: Any) -> None:
    with pytest.raises(ConfigurationError, match="subprotocols"):
        App().module("/", subprotocols=subprotocols)


# -- commands -----------------------------------------------------------------------------------


def say_app() -> App:
    app = App()
    module = app.module("/{room}")

    @module.command("say")
    def say(ctx: Context, data: Say) -> None:
        for _ in range(data.times):
            ctx.reply(data)

    @module.command("who")
    def who(ctx: Context) -> dict[str, object]:
        message = ctx.message
        return {"command": ctx.command, "data": ctx.data, "message": message, **ctx.path_params}

    @module.command("wait")
    async def wait(ctx: Context, data: Say) -> Say:
        await ctx.sleep(0.0)
        return Say(data.text + "!")

    @module.command("fail")
    def fail(ctx: Context) -> None:
        ctx.error("full", "no more of them", "text")

    @module.command("raise")
    def raises(ctx: Context) -> None:
        raise LookupError("on purpose")

    return app


def test_a_command_gets_its_typed_data() -> None:
    assert converse(say_app(), '{"type":"say","text":"a","times":2}', path="/x") == [
        {"type": "say", "text": "a", "times": 1 + 1},
        {"type": "say", "text": "a", "times": 2},
    ]


def test_a_command_without_data_has_its_context() -> None:
    message = '{"type":"who"}'
    assert converse(say_app(), message, path="/lobby") == [
        {"command": "who", "data": None, "message": message, "room": "lobby"}
    ]


def test_what_a_handler_returns_is_the_reply() -> None:
    simulation = Simulation(say_app())
    peer = simulation.open("/x")
    peer.send('{"type":"wait","text":"a"}')
    simulation.advance(1.0)
    assert peer.messages == ['{"type":"say","text":"a!","times":1}']


def test_an_application_has_errors_of_its_own() -> None:
    assert converse(say_app(), '{"type":"fail"}', path="/x") == [
        {"type": "error", "code": "full", "message": "no more of them", "field": "text"}
    ]


@pytest.mark.parametrize(
    ("message", "code", "field"),
    [
        ("no json", "invalid_json", None),
        ("[]", "unknown_type", None),
        ("{}", "unknown_type", "type"),
        ('{"type":"nonsense"}', "unknown_type", "type"),
        ('{"type":"say"}', "invalid_data", "text"),
        ('{"type":"say","text":1}', "invalid_data", "text"),
        ('{"type":"say","text":"a","times":"b"}', "invalid_data", "times"),
        ('{"type":"say","text":' + "[" * 10_000, "invalid_json", None),
    ],
)
def test_a_wrong_message_gets_an_error_reply_and_the_session_goes_on(
    message: str, code: str, field: str | None
) -> None:
    simulation = Simulation(say_app())
    peer = simulation.open("/x")
    peer.send(message, '{"type":"say","text":"still here"}')
    error, said = (json.loads(each) for each in peer.messages)
    assert (error["type"], error["code"], error.get("field")) == ("error", code, field)
    assert error["message"]
    assert said["text"] == "still here"
    assert simulation.failures == []
    assert simulation.hub.stats().bad_messages == 1


def test_an_unknown_type_is_named_in_the_reply() -> None:
    (error,) = converse(say_app(), '{"type":"nonsense"}', path="/x")
    assert "'nonsense'" in error["message"]


def test_a_handler_that_raises_is_named_and_the_session_goes_on() -> None:
    simulation = Simulation(say_app())
    peer = simulation.open("/x")
    peer.send('{"type":"raise"}', '{"type":"who"}')
    error = json.loads(peer.messages[0])
    assert (error["type"], error["code"]) == ("error", "handler_failed")
    assert "on purpose" not in error["message"]
    (failed,) = simulation.said(HandlerFailed)
    assert "raises" in failed.handler
    assert isinstance(failed.error, LookupError)
    assert failed.error.__traceback__ is not None
    assert len(peer.messages) == 2


def test_a_parser_with_another_key_finds_the_command_there() -> None:
    app = App()
    module = app.module("/", parser=JsonParser(key="op"))

    @module.command("say")
    def say(ctx: Context, data: Say) -> Say:
        return data

    assert converse(app, '{"op":"say","text":"a"}') == [{"op": "say", "text": "a", "times": 1}]


# -- whole messages -----------------------------------------------------------------------------


def test_on_message_gets_text_and_bytes() -> None:
    app = App()
    taken: list[object] = []

    @app.module("/").on_message
    def on_message(session: Session, message: str | bytes) -> object:
        taken.append(message)
        return None if isinstance(message, str) else {"bytes": len(message)}

    assert converse(app, "text", b"bytes", "") == [{"bytes": 5}]
    assert taken == ["text", b"bytes", ""]


def test_a_reply_that_cannot_be_packed_is_the_handlers_failure() -> None:
    app = App()
    app.module("/").on_message(lambda session, message: object())
    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send("a", "b")
    assert [type(error) for error in simulation.failures] == [TypeError, TypeError]
    assert len(peer.messages) == 2


def test_events_are_called_in_order_and_with_the_session() -> None:
    app = App(limits=Limits())
    module = app.module("/{name}")
    events: list[tuple[str, object]] = []
    module.on_handshake(lambda request: events.append(("handshake", request.path)))
    module.on_open(lambda session: events.append(("open", session.path_params["name"])))
    module.on_message(lambda session, message: events.append(("message", message)))
    module.on_close(lambda session: events.append(("close", session.close_code)))
    peer = Simulation(app).open("/a")
    peer.send("hello")
    peer.close(4001)
    assert events == [("handshake", "/a"), ("open", "a"), ("message", "hello"), ("close", 4001)]
