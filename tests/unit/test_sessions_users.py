"""Users: identities that one or more sessions share."""

from __future__ import annotations

import pytest

from driver import Peer, Simulation
from wireroom.core import (
    REPLACED_CODE,
    Accept,
    App,
    ConfigurationError,
    Request,
    Session,
    SessionClosedError,
    WebSocket,
)
from wireroom.core.sessions.users import SecondSession, user_id_of


def users_app(second_session: SecondSession = "allow") -> App:
    """`/ws/{name}` binds a user."""
    app = App(second_session=second_session)
    module = app.module("/ws/{name}")

    @module.on_handshake
    def bind(request: Request) -> Accept:
        return Accept(user=request.path_params["name"])

    return app


class Account:
    """A user that is an object with an id."""

    def __init__(self, number: int) -> None:
        self.id = number


@pytest.mark.parametrize(
    ("user", "user_id"),
    [("ann", "ann"), (7, 7), (Account(3), 3), (None, None), (object(), None), ({"id": 1}, None)],
)
def test_a_users_id(user: object, user_id: object) -> None:
    assert user_id_of(user) == user_id


def test_a_user_is_sent_to_on_all_sessions_and_nobody_else() -> None:
    simulation = Simulation(users_app())
    first, second, other = (simulation.open(f"/ws/{name}") for name in ("ann", "ann", "bob"))
    ann = simulation.hub.user("ann")
    assert ann.sessions == [simulation.session(first), simulation.session(second)]
    assert ann.send("hello") == 2
    assert ann.send({"typed": True}) == 2
    simulation.settle()
    assert first.messages == second.messages == ["hello", '{"typed":true}']
    assert other.messages == []


def test_a_user_who_is_away_is_told_nothing_and_the_sender_knows() -> None:
    simulation = Simulation(users_app())
    nobody = simulation.hub.user("nobody")
    assert not nobody.is_connected
    assert nobody.send("hello") == 0


def test_a_session_that_ends_in_any_way_is_the_users_no_more() -> None:
    simulation = Simulation(users_app())
    peers = [simulation.open("/ws/ann") for _ in range(4)]
    ann = simulation.hub.user("ann")
    peers[0].lose()
    peers[1].close(1000)
    simulation.session(peers[2]).close()
    assert ann.sessions == [simulation.session(peers[3])]
    assert simulation.hub.stats().users == 1
    peers[3].send_eof()
    assert not ann.is_connected
    assert simulation.hub.stats().users == 0


def test_closing_a_user_closes_all_sessions() -> None:
    simulation = Simulation(users_app())
    peers = [simulation.open("/ws/ann") for _ in range(2)]
    assert simulation.hub.user("ann").close(4002, "banned") == 2
    simulation.settle()
    for peer in peers:
        assert peer.close_frame is not None
        assert (peer.close_frame.code, peer.close_frame.reason) == (4002, "banned")


def test_the_old_session_may_be_replaced() -> None:
    simulation = Simulation(users_app("replace"))
    old = simulation.open("/ws/ann")
    new = simulation.open("/ws/ann")
    assert old.close_frame is not None
    assert old.close_frame.code == REPLACED_CODE
    assert "newer session" in (old.close_frame.reason or "")
    assert new.close_frame is None
    assert simulation.hub.user("ann").sessions == [simulation.session(new)]


def test_the_new_session_may_be_refused() -> None:
    simulation = Simulation(users_app("reject"))
    old = simulation.open("/ws/ann")
    new = simulation.connect()
    new.open("/ws/ann")
    assert new.status() == 409
    assert old.close_frame is None
    old.lose()
    assert simulation.open("/ws/ann").accepted is not None


def test_a_function_whose_user_is_refused_learns_it_from_accept() -> None:
    app = App(second_session="reject")
    refused: list[SessionClosedError] = []

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        try:
            await ws.accept(user="ann")
        except SessionClosedError as error:
            refused.append(error)
            raise
        await ws.receive()

    simulation = Simulation(app)
    simulation.open("/")
    new = simulation.connect()
    new.open("/")
    assert new.status() == 409
    assert len(refused) == 1
    assert simulation.failures == []


def test_a_session_may_get_its_user_later() -> None:
    app = App()
    module = app.module("/")

    @module.on_message
    def log_in(session: Session, message: str) -> None:
        session.user = message

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send("ann")
    assert simulation.hub.user("ann").send("welcome") == 1
    peer.send("bob")
    assert simulation.hub.user("ann").send("are you there") == 0
    assert simulation.hub.user("bob").is_connected
    assert simulation.hub.stats().users == 1


def test_handlers_reach_users_through_their_session() -> None:
    app = users_app()
    relay = app.module("/relay")

    @relay.on_message
    def to_ann(session: Session, message: str) -> str:
        return str(session.hub.user("ann").send(message))

    simulation = Simulation(app)
    ann = simulation.open("/ws/ann")
    peer: Peer = simulation.open("/relay")
    peer.send("hi")
    assert ann.messages == ["hi"]
    assert peer.messages == ["1"]


def test_a_policy_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="second_session"):
        App(second_session="maybe")  # type: ignore[arg-type]
