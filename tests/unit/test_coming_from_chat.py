"""docs/coming-from.md, the section on the chat architecture: each row by the name it has there."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

import msgspec
import pytest

from driver import Peer, Simulation
from sources import ROOT
from wireroom.core import (
    App,
    Broadcast,
    Close,
    ConfigurationError,
    Context,
    Enter,
    Join,
    Leave,
    Send,
    Stages,
)
from wireroom.transports.settings import Settings

SECTION = "From a chat architecture (Rust)"


class ChatMessage(msgspec.Struct, tag_field="type", tag="chat_message"):
    text: str


class SystemNotification(msgspec.Struct, tag_field="type", tag="system_notification"):
    text: str


class Stage(Enum):
    CONNECTING = 1
    IN_ROOM = 2


class Store:
    """A repository."""

    def __init__(self, name: str = "real") -> None:
        self.name = name


def make_app() -> App:
    """Everything that the table names."""
    app = App()
    app.provide(Store, Store)
    stages = Stages(Stage.CONNECTING, {Stage.CONNECTING: [Stage.IN_ROOM]})
    module = app.module("/", messages=ChatMessage | SystemNotification, stages=stages)

    @module.handler
    def chat(ctx: Context, data: ChatMessage, store: Store) -> Any:
        ctx.state.mark = data.text
        session = ctx.session
        return {
            "join": [Join("a"), Enter(Stage.IN_ROOM)],
            "store": Send([store.name, ctx.state.mark, ctx.command]),
            "all": Broadcast("a", data, include_sender=True),
            "others": Broadcast("a", data, where=lambda other: other is not session),
            "leave": Leave("a"),
            "close": Close(4000),
        }[data.text]

    @module.handler
    class Notify:
        def handle(self, ctx: Context, data: SystemNotification) -> str:
            return f"{ctx.session.stage}: {data.text}"

    return app


def say(peer: Peer, text: str, kind: str = "chat_message") -> None:
    peer.send(msgspec.json.encode({"type": kind, "text": text}).decode())


def test_every_row_of_the_section_is_one_that_is_tested_here() -> None:
    text = (ROOT / "docs" / "coming-from.md").read_text("utf-8")
    found = re.search(rf"^## {re.escape(SECTION)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    rows = [line.split("|")[1].strip() for line in found[1].splitlines() if line[:1] == "|"]
    assert rows[2:] == [
        "a message enum tagged by `type`",
        "a handler for one type",
        "the handler registry",
        "a new type (`system_notification`)",
        "every type has a handler",
        "the handler's context",
        "the handler's result",
        "the connection's state",
        "a room's filtered broadcast",
        "repositories and services",
        "configuration from the environment",
    ]


def test_types_handlers_contexts_results_rooms_and_states() -> None:
    simulation = Simulation(make_app())
    ann, bob = simulation.open("/"), simulation.open("/")
    for peer in (ann, bob):
        say(peer, "join")
    assert simulation.session(ann).stage is Stage.IN_ROOM
    say(ann, "all")
    say(ann, "others")
    message = '{"type":"chat_message","text":"%s"}'
    assert ann.messages == [message % "all"]
    assert bob.messages == [message % "all", message % "others"]
    say(bob, "leave")
    say(bob, "store")
    say(bob, "news", "system_notification")
    assert bob.messages[2:] == ['["real","store","chat_message"]', "Stage.IN_ROOM: news"]
    say(bob, "close")
    assert bob.close_code() == 4000


def test_what_is_wrong_is_named_and_what_is_missing_stops_the_start() -> None:
    peer = Simulation(make_app()).open("/")
    peer.send('{"type": "chat_message"}')
    assert msgspec.json.decode(peer.messages[0])["field"] == "text"
    app = App()
    app.module("/", messages=ChatMessage | SystemNotification)
    with pytest.raises(ConfigurationError, match="has no handler"):
        Simulation(app)


def test_services_are_overridden_and_settings_read() -> None:
    app = make_app()
    app.provide(Store, lambda: Store("fake"))
    peer = Simulation(app).open("/")
    say(peer, "store")
    assert msgspec.json.decode(peer.messages[0])[0] == "fake"
    assert Settings.from_environment({"WS_PORT": "1"}).ws_port == 1
