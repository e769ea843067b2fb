"""Rules 2 and 3: when an fd is free, and that a handle reaches its own peer or nobody."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from driver import Foreign, Peer, Simulation
from frames import frame
from http_responses import read_response
from raw import get
from wireroom.core import (
    App,
    Cancel,
    Context,
    Disconnect,
    Hub,
    IdsExhaustedError,
    Limits,
    LocalProtocolError,
    Room,
    Session,
    SessionClosed,
    SessionClosedError,
)
from wireroom.core.sessions.ids import Policy

POLICIES = pytest.mark.parametrize("policy", ["rising", "lowest"])


def small_app(fd_max: int = 2, policy: Policy = "rising", limits: Limits | None = None) -> App:
    app = App(fd_max=fd_max, fd_policy=policy, limits=limits)
    app.module("/").on_message(lambda session, message: message)
    app.http("/healthz")(lambda request: "ok")
    return app


def refused(simulation: Simulation) -> IdsExhaustedError:
    with pytest.raises(IdsExhaustedError) as raised:
        simulation.connect()
    return raised.value


# -- when an fd is free -------------------------------------------------------------------------


@POLICIES
def test_fds_rise_from_one(policy: Policy) -> None:
    simulation = Simulation(small_app(10, policy))
    assert [simulation.connect().fd for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize(("policy", "again"), [("rising", [3, 2, 1]), ("lowest", [1, 2, 3])])
def test_policies_differ_in_what_is_reused(policy: Policy, again: list[int]) -> None:
    simulation = Simulation(small_app(3, policy))
    peers = [simulation.connect() for _ in range(3)]
    for peer in reversed(peers):
        peer.lose()
    assert [simulation.connect().fd for _ in range(3)] == again


def test_rising_uses_new_ids_before_old_ones() -> None:
    simulation = Simulation(small_app(3))
    fds = []
    for _ in range(5):
        peer = simulation.connect()
        fds.append(peer.fd)
        peer.lose()
    assert fds == [1, 2, 3, 1, 2]


@POLICIES
@pytest.mark.parametrize("end", ["close", "violation", "refused", "aborted"])
def test_an_fd_is_not_free_before_the_socket_is_lost(policy: Policy, end: str) -> None:
    simulation = Simulation(small_app(1, policy))
    peer = simulation.connect()
    peer.lingers = True
    if end == "refused":
        peer.send_raw(b"nonsense\r\n\r\n")
    else:
        peer.open("/")
        peer.polite = False
        if end == "close":
            peer.close()
        elif end == "violation":
            peer.send_raw(frame(0x3))
            peer.send_eof()
        else:
            simulation.session(peer).close()
            simulation.advance(Limits().close_timeout_s)
    assert simulation.said(Disconnect, peer)
    assert simulation.hub.session(peer.fd) is None
    refused(simulation)
    peer.lose()
    assert simulation.connect().fd == peer.fd


@POLICIES
def test_late_events_of_an_old_socket_are_mistakes_and_hurt_no_new_one(policy: Policy) -> None:
    simulation = Simulation(small_app(1, policy))
    simulation.open("/").lose()
    hub = simulation.hub
    late: list[Callable[[], None]] = [
        lambda: hub.receive_data(1, b"late", now=0.0),
        lambda: hub.receive_eof(1, now=0.0),
        lambda: hub.bytes_unsent(1, 5, now=0.0),
        lambda: hub.connection_lost(1, now=0.0),
    ]
    for event in late:
        with pytest.raises(LocalProtocolError, match="no connection has fd 1"):
            event()
    assert hub.data_to_send(1) == []
    peer = simulation.open("/")
    peer.send("hello")
    assert (peer.fd, peer.messages) == (1, ["hello"])


def test_an_fd_is_not_reused_while_an_output_still_names_it() -> None:
    app = small_app(1)
    hub = Hub(app)
    hub.connect(None, now=0.0)
    hub.receive_data(1, b"nonsense\r\n\r\n", now=0.0)
    hub.connection_lost(1, now=0.0)  # its outputs are still to be carried out
    with pytest.raises(IdsExhaustedError):
        hub.connect(None, now=0.0)
    while hub.next_output() is not None:
        pass
    assert hub.connect(None, now=0.0) == 1


def test_outputs_that_name_an_fd_are_of_its_owner() -> None:
    simulation = Simulation(small_app(1))
    for code in range(4000, 4005):
        peer = simulation.open("/")
        peer.close(code)
    assert [(each.fd, each.code) for each in simulation.said(SessionClosed)] == [
        (1, code) for code in range(4000, 4005)
    ]


# -- all in use ---------------------------------------------------------------------------------


@POLICIES
def test_all_fds_in_use_is_a_503_with_retry_after(policy: Policy) -> None:
    simulation = Simulation(small_app(2, policy))
    peers = [simulation.connect() for _ in range(2)]
    error = refused(simulation)
    response = read_response(error.response)
    assert (response.status, response.closes) == (503, True)
    assert int(response.headers["retry-after"]) > 0
    stats = simulation.hub.stats()
    assert (stats.connections, stats.connections_refused, stats.connections_total) == (2, 1, 2)
    peers[0].lose()
    assert simulation.connect().fd == peers[0].fd


def test_connections_are_bounded_below_the_range_of_ids() -> None:
    simulation = Simulation(small_app(100, limits=Limits(connections_max=2)))
    peers = [simulation.connect() for _ in range(2)]
    refused(simulation)
    peers[0].lose()
    assert simulation.connect().fd == 3


def test_a_full_server_goes_on_serving_those_it_has() -> None:
    simulation = Simulation(small_app(1))
    peer = simulation.open("/")
    refused(simulation)
    peer.send("hello")
    assert peer.messages == ["hello"]


# -- handles ------------------------------------------------------------------------------------


def reused(policy: Policy = "rising") -> tuple[Session, Peer, Simulation]:
    """A stale handle, and the stranger who has its fd now."""
    simulation = Simulation(small_app(1, policy))
    peer = simulation.open("/")
    session = simulation.session(peer)
    session.join("room")
    peer.lose()
    stranger = simulation.open("/")
    assert stranger.fd == session.fd
    return session, stranger, simulation


@POLICIES
def test_a_stale_handle_raises_and_never_reaches_a_stranger(policy: Policy) -> None:
    session, stranger, simulation = reused(policy)
    with pytest.raises(SessionClosedError) as raised:
        session.send("for somebody who has gone")
    assert raised.value.code == 1006
    with pytest.raises(SessionClosedError):
        session.join("room")
    session.close()
    assert session.leave("room") is False
    simulation.settle()
    assert stranger.messages == []
    assert stranger.close_code() is None
    assert not session.is_connected
    assert simulation.session(stranger) is not session


def test_generations_are_unique_and_rise() -> None:
    simulation = Simulation(small_app(1))
    generations = []
    for _ in range(4):
        peer = simulation.open("/")
        generations.append(simulation.session(peer).generation)
        peer.lose()
    assert len(set(generations)) == 4
    assert generations == sorted(generations)


def test_a_stale_handle_is_in_no_room_that_it_was_in() -> None:
    session, stranger, simulation = reused()
    simulation.session(stranger).join("room")
    room: Room = simulation.session(stranger).room("room")
    assert session not in room
    assert session.room("room").broadcast("to the members of now") == 1
    simulation.settle()
    assert stranger.messages == ["to the members of now"]


def test_a_handler_that_outlives_its_session_cannot_answer_a_stranger() -> None:
    app = App(fd_max=1)
    gate = Foreign()
    module = app.module("/")

    @module.command("slow")
    async def slow(ctx: Context) -> str:
        await gate
        assert ctx.session.rooms == []
        return "for somebody who has gone"

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send('{"type":"slow"}')
    peer.lose()
    stranger = simulation.open("/")
    assert stranger.fd == peer.fd
    simulation.complete(gate)
    assert stranger.messages == []
    assert simulation.failures == []
    assert simulation.hub.stats().dropped_messages_sent == 1


def test_a_cancellation_is_of_the_handler_and_not_of_who_has_its_fd_now() -> None:
    app = App(fd_max=1)
    gate = Foreign()

    @app.module("/").on_message
    async def echo(session: Session, message: str) -> str:
        if message == "slow":
            await gate
        return message

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send("slow")
    peer.lose()
    stranger = simulation.open("/")
    simulation.advance(Limits().close_timeout_s)
    assert len(simulation.said(Cancel)) == 1
    stranger.send("hello")
    assert stranger.messages == ["hello"]


def test_an_http_peer_of_a_reused_fd_gets_nothing_of_the_one_before() -> None:
    app = small_app(1)
    gate = Foreign()

    @app.http("/slow")
    async def slow(request: object) -> str:
        return str(await gate)

    simulation = Simulation(app)
    peer = simulation.connect()
    peer.send_raw(get("/slow"))
    peer.lose()
    stranger = simulation.connect()
    simulation.complete(gate, "secret")
    assert stranger.received == b""
    stranger.send_raw(get("/healthz"))
    assert read_response(bytes(stranger.received)).body == b"ok"


def test_getters_give_open_sessions_only() -> None:
    simulation = Simulation(small_app(5))
    connected, opened, closing = simulation.connect(), simulation.open("/"), simulation.open("/")
    closing.polite = False
    simulation.session(closing).close()
    simulation.settle()
    hub = simulation.hub
    assert [session.fd for session in hub.sessions()] == [opened.fd]
    assert hub.session(connected.fd) is None
    assert hub.session(closing.fd) is None
    assert hub.session(99) is None


def test_a_session_shows_who_it_is() -> None:
    simulation = Simulation(small_app())
    peer = simulation.open("/")
    session = simulation.session(peer)
    assert (session.fd, session.address, session.path) == (1, ("10.0.0.1", 4000), "/")
    assert "fd=1" in repr(session)
