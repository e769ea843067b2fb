"""Rooms: who is in them, what a broadcast costs and whom it reaches."""

from __future__ import annotations

import pytest

from driver import Peer, Simulation
from wireroom.core import (
    App,
    Deflate,
    Limits,
    LocalProtocolError,
    Room,
    Session,
    SessionClosedError,
)


def room_app(*, limits: Limits | None = None, deflate: Deflate | None = None) -> App:
    """Everybody on a path joins the room that it names."""
    app = App(limits=limits, deflate=deflate)
    module = app.module("/{room}")

    @module.on_open
    def joined(session: Session) -> None:
        session.join(session.path_params["room"])

    app.module("/other/{room}").on_open(joined)
    return app


def room_of(simulation: Simulation, peer: Peer, name: str) -> Room:
    return simulation.session(peer).room(name)


def test_a_room_exists_while_somebody_is_in_it() -> None:
    simulation = Simulation(room_app())
    one, two = simulation.open("/lobby"), simulation.open("/lobby")
    lobby = room_of(simulation, one, "lobby")
    assert (len(lobby), simulation.hub.stats().rooms) == (2, 1)
    one.lose()
    assert (len(lobby), simulation.hub.stats().rooms) == (1, 1)
    two.lose()
    assert (len(lobby), simulation.hub.stats().rooms) == (0, 0)


def test_join_and_leave_say_whether_something_changed() -> None:
    simulation = Simulation(room_app())
    session = simulation.session(simulation.open("/lobby"))
    assert [session.join("b"), session.join("b"), session.join("lobby")] == [True, False, False]
    assert session.rooms == ["lobby", "b"]
    assert [session.leave("b"), session.leave("b"), session.leave("c")] == [True, False, False]
    assert session.rooms == ["lobby"]


def test_rooms_of_two_modules_are_two_rooms() -> None:
    simulation = Simulation(room_app())
    one, two = simulation.open("/lobby"), simulation.open("/other/lobby")
    assert simulation.hub.stats().rooms == 2
    assert room_of(simulation, one, "lobby").broadcast("hello") == 1
    simulation.settle()
    assert (one.messages, two.messages) == (["hello"], [])


def test_a_broadcast_reaches_the_members_but_those_excluded() -> None:
    simulation = Simulation(room_app())
    one, two, three = (simulation.open("/lobby") for _ in range(3))
    outside = simulation.open("/elsewhere")
    lobby = room_of(simulation, one, "lobby")
    sessions = [simulation.session(one), simulation.session(outside)]
    assert lobby.broadcast("hello", exclude=sessions) == 2
    assert lobby.broadcast(b"bytes", exclude=iter(sessions)) == 2
    simulation.settle()
    assert (one.messages, outside.messages) == ([], [])
    assert two.messages == three.messages == ["hello", b"bytes"]
    stats = simulation.hub.stats()
    assert (stats.broadcasts, stats.messages_sent) == (2, 4)


def test_a_broadcast_into_an_empty_room_reaches_nobody() -> None:
    simulation = Simulation(room_app())
    peer = simulation.open("/lobby")
    assert room_of(simulation, peer, "empty").broadcast({"any": "value"}) == 0
    assert simulation.hub.stats().rooms == 1


def test_other_values_are_packed_by_the_module() -> None:
    simulation = Simulation(room_app())
    peer = simulation.open("/lobby")
    room_of(simulation, peer, "lobby").broadcast({"a": [1, None]})
    simulation.settle()
    assert peer.messages == ['{"a":[1,null]}']


def test_a_value_that_cannot_be_packed_raises_and_sends_nothing() -> None:
    simulation = Simulation(room_app())
    peer = simulation.open("/lobby")
    with pytest.raises(TypeError):
        room_of(simulation, peer, "lobby").broadcast(object())
    simulation.settle()
    assert peer.messages == []


@pytest.mark.parametrize("compressed", [False, True])
def test_a_broadcast_is_encoded_once(compressed: bool) -> None:
    simulation = Simulation(room_app(deflate=Deflate() if compressed else None))
    peers = [simulation.open("/lobby", deflate=compressed) for _ in range(3)]
    for peer in peers:
        peer.send_raw(b"")
    room_of(simulation, peers[0], "lobby").broadcast("x" * 5000)
    frames = [simulation.hub.data_to_send(peer.fd)[-1] for peer in peers]
    assert frames[0] is frames[1] is frames[2]
    assert (len(frames[0]) < 5000) is compressed


def test_peers_with_and_without_deflate_get_the_same_message() -> None:
    simulation = Simulation(room_app(deflate=Deflate()))
    peers = [simulation.open("/lobby", deflate=bool(index % 2)) for index in range(6)]
    room_of(simulation, peers[0], "lobby").broadcast("x" * 5000)
    simulation.settle()
    assert [peer.messages for peer in peers] == [["x" * 5000]] * 6


def test_the_bound_of_rooms_a_session_is_told_to_whoever_joins() -> None:
    simulation = Simulation(room_app(limits=Limits(rooms_per_session_max=2)))
    session = simulation.session(simulation.open("/lobby"))
    session.join("b")
    with pytest.raises(LocalProtocolError, match="rooms_per_session_max"):
        session.join("c")
    assert session.join("b") is False
    session.leave("b")
    assert session.join("c") is True


def test_who_has_gone_is_in_no_room_and_cannot_join() -> None:
    simulation = Simulation(room_app())
    peer, other = simulation.open("/lobby"), simulation.open("/lobby")
    session, lobby = simulation.session(peer), room_of(simulation, other, "lobby")
    peer.lose()
    assert session not in lobby
    assert session.rooms == []
    assert session.leave("lobby") is False
    with pytest.raises(SessionClosedError):
        session.join("lobby")
    assert list(lobby) == [simulation.session(other)]


def test_who_is_closing_gets_no_broadcast() -> None:
    simulation = Simulation(room_app())
    peer, other = simulation.open("/lobby"), simulation.open("/lobby")
    peer.polite = False
    simulation.session(peer).close()
    assert room_of(simulation, other, "lobby").broadcast("late") == 1
    simulation.settle()
    assert (peer.messages, other.messages) == ([], ["late"])


def test_members_may_leave_while_somebody_goes_through_them() -> None:
    simulation = Simulation(room_app())
    peers = [simulation.open("/lobby") for _ in range(3)]
    lobby = room_of(simulation, peers[0], "lobby")
    for session in lobby:
        session.leave("lobby")
    assert len(lobby) == 0


def test_a_room_says_its_name_and_its_number_of_members() -> None:
    simulation = Simulation(room_app())
    peer = simulation.open("/lobby")
    lobby = room_of(simulation, peer, "lobby")
    assert lobby.name == "lobby"
    assert repr(lobby) == "<Room 'lobby' of 1>"
    assert simulation.session(peer) in lobby
    assert "somebody" not in lobby


def test_a_member_that_reads_nothing_is_closed_and_hurts_no_other() -> None:
    limits = Limits(outbox_bytes_max=1000, outbox_mark_bytes=500)
    simulation = Simulation(room_app(limits=limits))
    slow, quick = simulation.open("/lobby"), simulation.open("/lobby")
    slow.stall()
    for number in range(10):
        room_of(simulation, quick, "lobby").broadcast(f"{number}" * 200)
        simulation.settle()
    assert quick.messages == [f"{number}" * 200 for number in range(10)]
    assert len(room_of(simulation, quick, "lobby")) == 1
    assert simulation.hub.stats().overflowed == 1
