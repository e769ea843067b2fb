"""Rooms tell who is in them, and who comes and goes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from driver import Peer, Simulation
from wireroom.core import (
    Accept,
    App,
    ConfigurationError,
    Limits,
    LocalProtocolError,
    Module,
    PresenceChanged,
    Request,
    Room,
    Session,
)


def presence_app(*, presence: bool = True) -> App:
    app = App()
    module = app.module("/{user}", presence=presence)

    @module.on_handshake
    def bind(request: Request) -> Accept:
        return Accept(user=request.path_params["user"])

    @module.on_message
    def on_message(session: Session, message: str) -> None:
        verb, _, room = message.partition(" ")
        {"join": session.join, "leave": session.leave}[verb](room)

    return app


def told(peer: Peer) -> list[tuple[str, list[Any], list[Any]]]:
    """The presence messages that a peer got: room, who joined, who left."""
    messages = [msgspec.json.decode(message) for message in peer.messages]
    assert {message["type"] for message in messages} <= {"presence"}
    return [
        (
            message["room"],
            [member["user"] for member in message["joined"]],
            [member["user"] for member in message["left"]],
        )
        for message in messages
    ]


def test_a_room_knows_who_is_there_and_since_when() -> None:
    simulation = Simulation(presence_app())
    ann = simulation.open("/ann")
    ann.send("join a")
    simulation.advance(5.0)
    bob = simulation.open("/bob")
    bob.send("join a")
    room = simulation.session(ann).room("a")
    assert [(each.fd, each.user, each.since) for each in room.presence()] == [
        (ann.fd, "ann", 0.0),
        (bob.fd, "bob", 5.0),
    ]
    ann.lose()
    assert [each.user for each in room.presence()] == ["bob"]
    bob.send("leave a")
    assert room.presence() == []


def test_members_are_told_who_comes_and_goes() -> None:
    simulation = Simulation(presence_app())
    ann, bob = simulation.open("/ann"), simulation.open("/bob")
    ann.send("join a")
    bob.send("join a")
    bob.send("leave a")
    bob.send("join a")
    bob.lose()
    assert told(ann) == [
        ("a", ["ann"], []),
        ("a", ["bob"], []),
        ("a", [], ["bob"]),
        ("a", ["bob"], []),
        ("a", [], ["bob"]),
    ]
    assert told(bob) == [("a", ["bob"], []), ("a", ["bob"], [])]


def test_changes_of_one_turn_are_one_message() -> None:
    simulation = Simulation(presence_app())
    watcher = simulation.open("/watcher")
    watcher.send("join a")
    peers = [simulation.open(f"/{number}") for number in range(3)]
    sessions = [simulation.session(peer) for peer in peers]
    watcher.messages.clear()
    for session in sessions:
        session.join("a")
    sessions[2].leave("a")  # in and out within a turn is not worth a word
    simulation.settle()
    assert told(watcher) == [("a", ["0", "1"], [])]


def test_without_presence_nobody_is_told() -> None:
    simulation = Simulation(presence_app(presence=False))
    ann = simulation.open("/ann")
    ann.send("join a")
    assert ann.messages == []
    assert len(simulation.session(ann).room("a").presence()) == 1


def test_joining_and_leaving_call_the_modules_hooks() -> None:
    app = App()
    module = app.module("/")
    events: list[tuple[str, int, str, int]] = []

    @module.on_open
    def opened(session: Session) -> None:
        session.join("a")
        session.join("b")
        session.join("a")
        session.leave("b")

    @module.on_join
    def joined(session: Session, room: Room) -> None:
        events.append(("join", session.fd, room.name, len(room)))

    @module.on_leave
    def left(session: Session, room: Room) -> None:
        events.append(("leave", session.fd, room.name, len(room)))
        raise ValueError("on purpose")

    @module.on_close
    def closed(session: Session) -> None:
        events.append(("close", session.fd, "", len(session.rooms)))

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.lose()
    assert events == [
        ("join", peer.fd, "a", 1),
        ("join", peer.fd, "b", 1),
        ("leave", peer.fd, "b", 0),
        ("leave", peer.fd, "a", 0),
        ("close", peer.fd, "", 0),
    ]
    assert [str(error) for error in simulation.failures] == ["on purpose"] * 2


def test_a_full_room_takes_nobody() -> None:
    app = App(limits=Limits(room_sessions_max=2))
    app.module("/")
    simulation = Simulation(app)
    sessions = [simulation.session(simulation.open("/")) for _ in range(3)]
    sessions[0].join("a")
    sessions[1].join("a")
    with pytest.raises(LocalProtocolError, match="room_sessions_max"):
        sessions[2].join("a")
    assert sessions[2].rooms == []
    sessions[0].leave("a")
    assert sessions[2].join("a")


def test_a_broadcast_may_choose_its_receivers() -> None:
    simulation = Simulation(presence_app(presence=False))
    peers = [simulation.open(f"/{name}") for name in ("ann", "bob", "eve")]
    for peer in peers:
        peer.send("join a")
    room = simulation.session(peers[0]).room("a")
    reached = room.broadcast(
        "not for eve", exclude=[simulation.session(peers[1])], where=lambda one: one.user != "eve"
    )
    simulation.settle()
    assert reached == 1
    assert [peer.messages for peer in peers] == [["not for eve"], [], []]


# -- by a handler of the application's ------------------------------------------------------------


def test_a_handler_is_told_in_place_of_the_members() -> None:
    app = presence_app()
    module = next(module for _, module in app.modules)
    assert isinstance(module, Module)
    seen: list[tuple[str, int, list[Any], list[Any]]] = []

    @module.on_presence
    def changed(room: Room, changed: PresenceChanged) -> None:
        joined, left = ([each.user for each in who] for who in (changed.joined, changed.left))
        seen.append((room.name, len(room), joined, left))
        room.broadcast("somebody came or left")

    simulation = Simulation(app)
    ann, bob = simulation.open("/ann"), simulation.open("/bob")
    ann.send("join a")
    bob.send("join a")
    bob.lose()
    assert seen == [("a", 1, ["ann"], []), ("a", 2, ["bob"], []), ("a", 1, [], ["bob"])]
    assert ann.messages == 3 * ["somebody came or left"]
    ann.lose()
    assert len(seen) == 3  # nobody is there to be told


def test_a_handler_of_presence_that_raises_is_reported() -> None:
    app = presence_app()
    module = next(module for _, module in app.modules)
    assert isinstance(module, Module)

    @module.on_presence
    def changed(room: Room, changed: PresenceChanged) -> None:
        raise ZeroDivisionError

    simulation = Simulation(app)
    ann = simulation.open("/ann")
    ann.send("join a")
    assert [type(error) for error in simulation.failures] == [ZeroDivisionError]
    assert simulation.session(ann).is_connected


def test_a_handler_of_presence_needs_presence() -> None:
    module = App().module("/x")
    with pytest.raises(ConfigurationError, match="presence=True"):

        @module.on_presence
        def changed(room: Room, changed: PresenceChanged) -> None: ...
