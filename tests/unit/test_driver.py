"""The driver keeps a transport's contract: what other tests prove rests on it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from driver import Simulation
from wireroom.core import App, LocalProtocolError, Session, SessionClosed, WebSocket


def echo_app() -> App:
    app = App()
    app.module("/").on_message(lambda session, message: message)
    return app


@pytest.mark.parametrize("cut", [None, 1])
def test_a_peer_opens_talks_and_closes(cut: int | None) -> None:
    simulation = Simulation(echo_app(), cut=cut)
    peer = simulation.open("/")
    peer.send("text", b"bytes", "")
    peer.send_parts("frag", "ments")
    peer.ping(b"ping")
    peer.close(1001, "bye")
    assert peer.messages == ["text", b"bytes", "", "fragments"]
    assert peer.pongs == [b"ping"]
    assert peer.close_code() == 1001
    assert (peer.lost, peer.aborted) == (True, False)
    assert simulation.peers == {}


def test_a_peer_that_stalls_sees_nothing_until_it_reads() -> None:
    simulation = Simulation(echo_app())
    peer = simulation.open("/")
    peer.stall()
    peer.send("one", "two")
    assert peer.messages == []
    peer.read(5)
    assert peer.messages == ["one"]
    peer.read()
    assert peer.messages == ["one", "two"]


def test_a_socket_that_lingers_is_lost_when_the_test_says_so() -> None:
    simulation = Simulation(echo_app())
    peer = simulation.open("/")
    peer.lingers = True
    peer.close()
    assert (peer.disconnected, peer.lost) == (True, False)
    peer.lose()
    with pytest.raises(LocalProtocolError):
        simulation.hub.connection_lost(peer.fd, now=0.0)


def test_time_stops_at_each_deadline() -> None:
    app = App()
    times: list[float] = []

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        ws.accept()
        for _ in range(3):
            await ws.sleep(1.5)
            times.append(simulation.now)

    simulation = Simulation(app)
    simulation.open("/")
    simulation.advance(10.0)
    assert times == [1.5, 3.0, 4.5]
    assert simulation.now == 10.0


def test_what_a_server_sends_after_its_close_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = Simulation(echo_app())
    peer = simulation.open("/")
    peer.polite = False
    simulation.session(peer).close()
    simulation.settle()
    # In the place of the hub: a compiled one takes no other attributes.
    hub = SimpleNamespace(data_to_send=lambda fd: [b"\x81\x00"])
    monkeypatch.setattr(simulation, "hub", hub)
    with pytest.raises(AssertionError, match="after its Close"):
        peer.write()


def test_outputs_are_kept_by_kind_and_peer() -> None:
    app = App()
    closed: list[int] = []

    @app.module("/").on_close
    def on_close(session: Session) -> None:
        closed.append(session.fd)

    simulation = Simulation(app)
    one, two = simulation.open("/"), simulation.open("/")
    one.lose()
    assert [each.fd for each in simulation.said(SessionClosed)] == [one.fd]
    assert simulation.said(SessionClosed, two) == []
    simulation.end()
    assert closed == [one.fd, two.fd]
