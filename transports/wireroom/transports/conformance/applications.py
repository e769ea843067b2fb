"""What applications are made of: commands, rooms, users, requests both ways, services."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from wireroom.core import (
    Accept,
    App,
    Context,
    Request,
    RequestFailedError,
    Session,
    SessionClosedError,
)

from .behaviours import Behaviours, Server, Told
from .client import PATIENCE_S, Client


class Said(msgspec.Struct):
    """A chat message."""

    text: str


class Whisper(msgspec.Struct):
    """A message to one user."""

    to: str
    text: str


class Sum(msgspec.Struct):
    """A question."""

    terms: list[int]


class Counter:
    """A service."""

    def __init__(self) -> None:
        self.count = 0


def _app(told: Told[object] | None = None) -> App:
    """A chat with everything."""
    app = App()
    app.provide(Counter, Counter)
    chat = app.module("/chat/{room}", presence=True)

    @chat.on_handshake
    def who(request: Request) -> Accept:
        return Accept(user=request.query_params.get("user"))

    @chat.on_open
    def joined(session: Session) -> None:
        session.join(session.path_params["room"])

    @chat.command("said")
    def say(ctx: Context, data: Said) -> None:
        ctx.room(ctx.path_params["room"]).broadcast(data, exclude=[ctx.session])

    @chat.command("said_later")
    async def say_later(ctx: Context, data: Said) -> None:
        await ctx.sleep(0.001)
        ctx.room(ctx.path_params["room"]).broadcast(data, exclude=[ctx.session])

    @chat.command("leave")
    def leave(ctx: Context) -> None:
        ctx.session.leave(ctx.path_params["room"])

    @chat.command("whisper")
    def whisper(ctx: Context, data: Whisper) -> int:
        return ctx.hub.user(data.to).send(data)

    @chat.command("kick")
    def kick(ctx: Context, data: Said) -> None:
        assert isinstance(ctx.hub.user(data.text).close(4003, "kicked"), int)

    @chat.command("sum")
    def add(ctx: Context, data: Sum, counter: Counter) -> int:
        counter.count += 1
        return sum(data.terms)

    @chat.command("sum_later")
    async def add_later(ctx: Context, data: Sum, counter: Counter) -> int:
        await ctx.sleep(0.001)
        counter.count += 1
        return sum(data.terms)

    @chat.command("ask")
    async def ask(ctx: Context) -> None:
        assert told is not None
        try:
            told.put(await ctx.session.request(Sum([1, 2]), reply_type=int, timeout_s=PATIENCE_S))
        except (RequestFailedError, SessionClosedError) as error:
            told.put(error)

    @chat.command("ask_briefly")
    async def ask_briefly(ctx: Context) -> None:
        assert told is not None
        try:
            await ctx.session.request(Sum([1, 2]), timeout_s=0.05)
        except TimeoutError as error:
            told.put(error)

    @chat.command("dialogue")
    async def dialogue(ctx: Context) -> str:
        await ctx.reply("your name?")
        name = await ctx.session.receive()
        return f"hello {name!s}"

    return app


def _send(client: Client, command: str, **fields: object) -> None:
    client.send(msgspec.json.encode({"type": command, **fields}).decode())


def _receive(client: Client) -> Any:
    return msgspec.json.decode(client.receive())


def _enter(server: Server, target: str, *others: Client) -> Client:
    """Open a session, and wait until it, and the others in its room, know."""
    client = server.open(target)
    for each in (client, *others):
        assert len(_receive(each)["joined"]) == 1
    return client


class Applications(Behaviours):
    """Commands, rooms, users, requests."""

    def test_commands_are_typed(self, server: Server) -> None:
        server.start(_app())
        ann = _enter(server, "/chat/a")
        for message, code, field in (
            ('{"type": "said", "text": 3}', "invalid_data", "text"),
            ('{"type": "unheard"}', "unknown_type", "type"),
            ("{", "invalid_json", None),
        ):
            ann.send(message)
            error = _receive(ann)
            assert (error["type"], error["code"], error.get("field")) == ("error", code, field)
        _send(ann, "sum", terms=[1, 2, 3])
        assert _receive_number(ann) == 6
        assert server.stats.bad_messages == 3

    @pytest.mark.parametrize("command", ["said", "said_later"])
    def test_rooms(self, server: Server, command: str) -> None:
        server.start(_app())
        ann = _enter(server, "/chat/a")
        bob = _enter(server, "/chat/a", ann)
        eve = _enter(server, "/chat/b")
        _send(ann, command, text="hi")
        assert _receive(bob) == {"type": "said", "text": "hi"}
        _send(bob, "leave")
        assert len(_receive(ann)["left"]) == 1
        _send(ann, command, text="nobody hears this")
        _send(ann, "sum", terms=[1])
        assert _receive_number(ann) == 1  # and nothing before
        for each in (bob, eve):
            _send(each, "sum", terms=[2])
            assert _receive_number(each) == 2
        assert server.stats.rooms == 2

    def test_who_leaves_is_missed(self, server: Server) -> None:
        server.start(_app())
        ann = _enter(server, "/chat/a")
        _enter(server, "/chat/a", ann).reset()
        assert len(_receive(ann)["left"]) == 1
        _enter(server, "/chat/a", ann).close()
        assert len(_receive(ann)["left"]) == 1

    def test_users_have_several_sessions(self, server: Server) -> None:
        server.start(_app())
        ann = _enter(server, "/chat/a?user=ann")
        first = _enter(server, "/chat/b?user=bob")
        second = _enter(server, "/chat/c?user=bob")
        assert server.stats.users == 2
        _send(ann, "whisper", to="bob", text="psst")
        assert _receive_number(ann) == 2
        for each in (first, second):
            assert _receive(each) == {"type": "whisper", "to": "bob", "text": "psst"}
        _send(ann, "whisper", to="nobody", text="psst")
        assert _receive_number(ann) == 0
        _send(ann, "kick", text="bob")
        for each in (first, second):
            assert each.finish() == (4003, "kicked")
        server.wait_for("bob is gone", lambda hub: not hub.user("bob").is_connected)

    @pytest.mark.parametrize("command", ["sum", "sum_later"])
    def test_requests_of_the_peer_get_replies(self, server: Server, command: str) -> None:
        server.start(_app())
        ann = _enter(server, "/chat/a")
        _send(ann, command, terms=[1, 2], request_id="one")
        _send(ann, command, terms=["x"], request_id=2)
        _send(ann, command, terms=[], request_id=3)
        assert _receive(ann) == {"type": "reply", "request_id": "one", "data": 3}
        error = _receive(ann)
        assert (error["code"], error["request_id"]) == ("invalid_data", 2)
        assert _receive(ann) == {"type": "reply", "request_id": 3, "data": 0}
        assert server.call(lambda hub: hub.service(Counter).count) == 2

    def test_requests_to_the_peer(self, server: Server) -> None:
        told: Told[object] = Told()
        server.start(_app(told))
        ann = _enter(server, "/chat/a")
        for answer, expected in (
            ({"type": "reply", "data": 3}, 3),
            ({"type": "reply", "data": "three"}, RequestFailedError),
            ({"type": "error", "code": "no_idea", "message": "?"}, RequestFailedError),
        ):
            _send(ann, "ask")
            question = _receive(ann)
            assert question["terms"] == [1, 2]
            ann.send(msgspec.json.encode({**answer, "request_id": question["request_id"]}).decode())
            outcome = told.next("the reply reaches the handler")
            assert outcome == expected or type(outcome) is expected

    def test_requests_that_are_not_answered(self, server: Server) -> None:
        told: Told[object] = Told()
        server.start(_app(told))
        ann = _enter(server, "/chat/a")
        _send(ann, "ask_briefly")
        assert type(told.next("the request times out")) is TimeoutError
        assert _receive(ann)["terms"] == [1, 2]
        _send(ann, "ask")
        assert _receive(ann)["terms"] == [1, 2]
        ann.reset()
        assert type(told.next("the request fails")) is SessionClosedError
        server.wait_idle()

    def test_a_handler_may_receive_what_comes_next(self, server: Server) -> None:
        server.start(_app())
        ann = _enter(server, "/chat/a")
        for name in ("Ann", "Bob"):
            _send(ann, "dialogue")
            assert ann.receive() == "your name?"
            ann.send(name)
            assert ann.receive() == f"hello {name}"


def _receive_number(client: Client) -> int:
    number = _receive(client)
    assert isinstance(number, int)
    return number
