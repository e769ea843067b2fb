"""Handles: a session in the hands of code that is not its handler."""

from __future__ import annotations

import pytest

from driver import Foreign, Peer, Simulation
from wireroom.core import (
    App,
    ConfigurationError,
    Hub,
    Limits,
    LocalProtocolError,
    PauseReading,
    ResumeReading,
    Session,
    SessionClosedError,
)


def silent_app(**limits: int) -> App:
    """A module without handlers: its messages are for whoever holds the session."""
    app = App(limits=Limits(**limits))
    app.module("/test/{name}")
    return app


class Reader:
    """A task that reads a session to its end."""

    def __init__(self, simulation: Simulation, session: Session) -> None:
        self.read: list[str | bytes | None] = []
        self._session = session
        simulation.spawn(self._run())

    async def _run(self) -> None:
        while (message := await self._session.receive()) is not None:
            self.read.append(message)
        self.read.append(None)


def open_handle(simulation: Simulation) -> tuple[Peer, Session]:
    peer = simulation.open("/test/path?x=1")
    return peer, simulation.session(peer)


def test_a_handle_knows_whom_it_is_for() -> None:
    simulation = Simulation(silent_app())
    peer, session = open_handle(simulation)
    assert session.fd == peer.fd
    assert session.is_connected
    assert session.address == ("10.0.0.1", 4000)
    assert (session.path, session.path_params) == ("/test/path", {"name": "path"})
    assert session.handshake.query_params["x"] == "1"


def test_it_sends_text_bytes_and_a_close() -> None:
    simulation = Simulation(silent_app())
    peer, session = open_handle(simulation)
    session.send("text")
    session.send(b"bytes")
    session.close(4000, "enough")
    simulation.settle()
    assert peer.messages == ["text", b"bytes"]
    assert peer.close_frame is not None
    assert (peer.close_frame.code, peer.close_frame.reason) == (4000, "enough")


def test_a_reader_gets_messages_in_order_and_then_none() -> None:
    simulation = Simulation(silent_app())
    peer, session = open_handle(simulation)
    reader = Reader(simulation, session)
    peer.send("a", b"b")
    peer.send("c")
    assert reader.read == ["a", b"b", "c"]
    peer.close(1000)
    assert reader.read == ["a", b"b", "c", None]
    assert peer.close_frame is not None


def test_without_waiting() -> None:
    simulation = Simulation(silent_app())
    peer, session = open_handle(simulation)
    assert session.receive_nowait() is None
    peer.send("a", "b")
    assert [session.receive_nowait() for _ in range(3)] == ["a", "b", None]


@pytest.mark.parametrize("end", ["close", "eof", "lost"])
def test_what_came_before_the_end_stays_readable(end: str) -> None:
    simulation = Simulation(silent_app())
    peer, session = open_handle(simulation)
    peer.send("a", "b")
    if end == "close":
        peer.close(1001)
    elif end == "eof":
        peer.send_eof()
    else:
        peer.lose()
    reader = Reader(simulation, session)
    assert reader.read == ["a", "b", None]
    assert not session.is_connected


def test_at_a_disconnect_all_readers_wake() -> None:
    simulation = Simulation(silent_app())
    peer, session = open_handle(simulation)
    readers = [Reader(simulation, session) for _ in range(3)]
    peer.lose()
    assert [reader.read for reader in readers] == [[None]] * 3
    with pytest.raises(SessionClosedError):
        session.send("to nobody")


def test_several_holders_share_the_messages_and_none_is_doubled() -> None:
    simulation = Simulation(silent_app())
    peer, session = open_handle(simulation)
    readers = [Reader(simulation, session) for _ in range(3)]
    sent = [str(number) for number in range(20)]
    for text in sent:
        peer.send(text)
    read = [message for reader in readers for message in reader.read]
    assert sorted(read, key=str) == sorted(sent)


def test_a_full_inbox_pauses_the_peer_and_loses_nothing() -> None:
    simulation = Simulation(silent_app(inbox_messages_max=4))
    peer, session = open_handle(simulation)
    sent = [str(number) for number in range(50)]
    peer.send(*sent)
    assert len(simulation.said(PauseReading)) == 1
    assert len(session.inbox) < 10
    read = []
    while (message := session.receive_nowait()) is not None:
        read.append(message)
        simulation.settle()
    assert read == sent
    assert simulation.said(ResumeReading)


def test_a_large_inbox_in_bytes_pauses_too() -> None:
    simulation = Simulation(silent_app(inbox_bytes_max=1000))
    peer, session = open_handle(simulation)
    for _ in range(10):
        peer.send("x" * 400)
    assert session.inbox_bytes < 3000
    assert simulation.said(PauseReading)


def test_receiving_before_the_handshake_says_what_to_do() -> None:
    app = App()
    app.module("/")
    simulation = Simulation(app)
    peer = simulation.connect()
    session = simulation.hub._registry.require(peer.fd)
    coroutine = session.receive()
    with pytest.raises(LocalProtocolError, match="accept"):
        coroutine.send(None)


# -- beside handlers ---------------------------------------------------------------------------


def handled_app() -> tuple[App, list[str | bytes]]:
    app = App()
    handled: list[str | bytes] = []

    @app.module("/").on_message
    def on_message(session: Session, message: str | bytes) -> None:
        handled.append(message)

    return app, handled


def test_a_message_goes_to_who_waits_and_else_to_the_handler() -> None:
    app, handled = handled_app()
    simulation = Simulation(app)
    peer = simulation.open("/")
    session = simulation.session(peer)
    read: list[str | bytes | None] = []

    async def read_one() -> None:
        read.append(await session.receive())

    peer.send("for the handler")
    simulation.spawn(read_one())
    peer.send("for the reader", "for the handler again")
    assert read == ["for the reader"]
    assert handled == ["for the handler", "for the handler again"]


def test_a_reader_that_gives_up_takes_nothing_from_the_handler() -> None:
    app, handled = handled_app()
    simulation = Simulation(app)
    peer = simulation.open("/")
    session = simulation.session(peer)
    waiting = session.receive()
    wait = waiting.send(None)
    assert wait is session.received
    waiting.close()
    peer.send("for the handler")
    assert handled == ["for the handler"]


def test_what_was_handed_to_a_reader_that_gave_up_is_not_lost() -> None:
    app, handled = handled_app()
    simulation = Simulation(app)
    peer = simulation.open("/")
    session = simulation.session(peer)
    waiting = session.receive()
    waiting.send(None)
    peer.send("handed over", "for the handler")
    waiting.close()  # before it went on
    assert handled == ["for the handler"]
    assert session.receive_nowait() == "handed over"


# -- from the hub ------------------------------------------------------------------------------


def test_the_hub_gives_handles_by_fd_and_all_of_them() -> None:
    simulation = Simulation(silent_app())
    peers = [open_handle(simulation)[0] for _ in range(3)]
    sessions = simulation.hub.sessions()
    assert [session.fd for session in sessions] == [peer.fd for peer in peers]
    for session in sessions:  # a snapshot: it may be looped over while sessions go
        session.close()
        simulation.settle()
    assert simulation.hub.sessions() == []
    assert simulation.hub.session(peers[0].fd) is None
    assert simulation.hub.session(99) is None


def test_a_stale_handle_never_reaches_a_stranger() -> None:
    app = silent_app()
    app.fd_policy = "lowest"
    simulation = Simulation(app)
    peer, stale = open_handle(simulation)
    peer.lose()
    stranger, fresh = open_handle(simulation)
    assert fresh.fd == stale.fd
    assert fresh.generation > stale.generation
    with pytest.raises(SessionClosedError):
        stale.send("not for you")
    simulation.settle()
    assert stranger.messages == []


# -- broadcasts and periodic handlers -----------------------------------------------------------


def test_broadcast_to_all_some_and_all_but_some() -> None:
    simulation = Simulation(silent_app())
    peers = [open_handle(simulation)[0] for _ in range(4)]
    sessions = simulation.hub.sessions()
    assert simulation.hub.broadcast("all") == 4
    assert simulation.hub.broadcast({"to": "some"}, to=sessions[:2]) == 2
    assert simulation.hub.broadcast(b"but one", exclude=[sessions[0]]) == 3
    simulation.settle()
    assert [peer.messages for peer in peers] == [
        ["all", '{"to":"some"}'],
        ["all", '{"to":"some"}', b"but one"],
        ["all", b"but one"],
        ["all", b"but one"],
    ]


def test_a_large_broadcast_goes_a_page_a_turn() -> None:
    simulation = Simulation(silent_app(broadcast_page_max=10))
    peers = [open_handle(simulation)[0] for _ in range(25)]
    assert simulation.hub.broadcast("news") == 25
    simulation.settle()
    assert sum(len(peer.messages) for peer in peers) == 10
    peers[24].lose()
    simulation.hub.handle_timeout(now=simulation.now)
    simulation.settle()
    assert sum(len(peer.messages) for peer in peers) == 20
    simulation.advance(0)
    assert [peer.messages for peer in peers] == [["news"]] * 24 + [[]]


def test_a_periodic_handler_runs_by_the_hubs_clock() -> None:
    app = silent_app()
    calls: list[float] = []

    @app.every(30)
    def heartbeat(hub: Hub) -> None:
        calls.append(hub.now)
        hub.broadcast("heartbeat")
        if len(calls) == 2:
            raise ValueError("once")

    simulation = Simulation(app)
    simulation.hub.start(now=0.0)
    peer, _ = open_handle(simulation)
    simulation.advance(100)
    assert calls == [30.0, 60.0, 90.0]
    assert peer.messages == ["heartbeat"] * 3
    assert [str(error) for error in simulation.failures] == ["once"]
    simulation.shut_down()
    simulation.advance(100)
    assert len(calls) == 3


def test_an_async_periodic_handler_never_runs_twice_at_a_time() -> None:
    app = silent_app()
    foreign = Foreign()
    calls: list[float] = []

    @app.every(10)
    async def slow(hub: Hub) -> None:
        calls.append(hub.now)
        await foreign

    simulation = Simulation(app)
    simulation.hub.start(now=0.0)
    simulation.advance(35)
    assert calls == [10.0]
    simulation.complete(foreign)
    simulation.advance(10)
    assert calls == [10.0, 35.0]
    simulation.complete(foreign)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_period_that_cannot_be_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="every"):
        App().every(seconds)
