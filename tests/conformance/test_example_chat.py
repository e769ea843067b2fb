"""The chat example in memory; test_chromium.py has it in a browser."""

from __future__ import annotations

from typing import Any

import msgspec

from driver import Peer, Simulation
from examples import load_example

chat = load_example("chat")


def received(peer: Peer) -> list[Any]:
    return [msgspec.json.decode(message) for message in peer.messages]


def test_what_is_said_is_heard_in_the_room_and_by_who_comes_later() -> None:
    simulation = Simulation(chat.make_app())
    ann, eve = simulation.open("/chat/a"), simulation.open("/chat/b")
    said = '{"type":"chat_message","name":"Ann","text":"hello"}'
    ann.send(said)
    bob = simulation.open("/chat/a")
    assert ann.messages[1] == bob.messages[0] == said
    assert received(bob)[1] == {
        "type": "system_notification",
        "text": "somebody came in",
        "members": 2,
    }
    assert len(eve.messages) == 1
    bob.lose()
    assert received(ann)[-1]["text"] == "somebody left"


def test_the_history_is_a_service_that_a_test_may_override() -> None:
    app = chat.make_app()
    history = chat.History()
    history.rooms["a"].append(chat.ChatMessage("Ann", "long ago"))
    app.provide(chat.History, lambda: history)
    peer = Simulation(app).open("/chat/a")
    assert received(peer)[0]["text"] == "long ago"


def test_too_long_a_name_is_named() -> None:
    peer = Simulation(chat.make_app()).open("/chat/a")
    peer.send(msgspec.json.encode({"type": "chat_message", "name": "x" * 41, "text": "x"}).decode())
    assert received(peer)[-1]["field"] == "name"
