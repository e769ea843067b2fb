"""The example of controllers, in memory and over real sockets."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from driver import Peer, Simulation
from examples import load_example
from loops import RunLoop
from wireroom.transports.asyncio import Server

make_app = load_example("controllers").make_app


class Client:
    """A peer in the chat."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.peer: Peer = simulation.open(f"/chat?token={name}-secret")
        assert self.received() == [
            {"cmd": "welcome", "data": {"fd": self.peer.fd, "user": name}},
        ]

    def give(self, cmd: str, request_id: int | None = None, /, **data: Any) -> list[Any]:
        """Send a command; what has come until then and for it."""
        message: dict[str, Any] = {"cmd": cmd, "data": data}
        if request_id is not None:
            message["request_id"] = request_id
        self.peer.send(msgspec.json.encode(message).decode())
        return self.received()

    def received(self) -> list[Any]:
        """What has come since the last call."""
        messages, self.peer.messages = self.peer.messages, []
        return [msgspec.json.decode(message) for message in messages]


def clients(*, joined: bool = True) -> tuple[Simulation, Client, Client, Client]:
    """ann (fd 1), bob (fd 2) and eve (fd 3), all in the lobby if `joined`."""
    simulation = Simulation(make_app())
    ann, bob, eve = (Client(simulation, name) for name in ("ann", "bob", "eve"))
    if joined:
        for each in (ann, bob, eve):
            each.give("room.join", room="lobby")
        for each in (ann, bob, eve):
            each.received()
    return simulation, ann, bob, eve


def said(text: str, fd: int = 1, user: str = "ann", cmd: str = "chat.said") -> dict[str, Any]:
    return {"cmd": cmd, "data": {"fd": fd, "user": user, "text": text}}


@pytest.mark.parametrize("path", ["/chat", "/chat?token=wrong", "/chat?token="])
def test_the_handshake_is_checked(path: str) -> None:
    simulation = Simulation(make_app())
    peer = simulation.open(path)
    assert peer.status() == 401
    assert b"a token is needed" in peer.body


def test_who_joins_learns_who_is_there_and_they_learn_of_it() -> None:
    _, ann, bob, _ = clients(joined=False)
    assert ann.give("room.join", room="lobby") == [{"fd": 1, "members": [1]}]
    assert bob.give("room.join", room="lobby") == [{"fd": 2, "members": [1, 2]}]
    event = {"room": "lobby", "fd": 2, "user": "bob"}
    assert ann.received() == [{"cmd": "room.joined", "data": event}]
    assert bob.give("room.leave", room="lobby") == [{"left": True}]
    assert bob.give("room.leave", room="lobby") == [{"left": False}]
    assert ann.received() == [{"cmd": "room.left", "data": event}]


def test_a_disconnect_leaves() -> None:
    _, ann, bob, _ = clients()
    bob.peer.lose()
    assert ann.received() == [
        {"cmd": "room.left", "data": {"room": "lobby", "fd": 2, "user": "bob"}}
    ]


def test_sending_to_all_some_all_but_some_and_one() -> None:
    _, ann, bob, eve = clients()
    assert ann.give("chat.send", room="lobby", text="a") == [said("a"), {"receivers": 3}]
    assert ann.give("chat.send", room="lobby", text="b", to=[2, 99]) == [{"receivers": 1}]
    assert ann.give("chat.send", room="lobby", text="c", exclude=[1, 2]) == [{"receivers": 1}]
    assert ann.give("chat.tell", fd=3, text="d") == [{"receivers": 1}]
    assert bob.received() == [said("a"), said("b")]
    assert eve.received() == [said("a"), said("c"), said("d", cmd="chat.told")]


def test_nobody_outside_of_the_room_gets_anything() -> None:
    simulation, ann, bob, eve = clients()
    eve.give("room.leave", room="lobby")
    ann.received()
    bob.received()
    outside = Client(simulation, "eve")
    ann.give("chat.send", room="lobby", text="a", to=[2, 3, outside.peer.fd])
    assert bob.received() == [said("a")]
    assert eve.received() == outside.received() == []
    assert ann.give("chat.announce", text="b") == [{"receivers": 3}]
    for each in (bob, eve, outside):
        assert each.received() == [said("b", cmd="chat.announced")]


def test_history_is_the_answer_to_a_request() -> None:
    _, ann, bob, _ = clients()
    ann.give("chat.send", room="lobby", text="a")
    ann.give("chat.send", room="lobby", text="only for eve", to=[3])
    bob.received()
    assert bob.give("chat.history", 7, room="lobby") == [
        {
            "cmd": "reply",
            "request_id": 7,
            "data": {"room": "lobby", "messages": [said("a")["data"]]},
        }
    ]


def test_history_goes_with_the_last_member() -> None:
    simulation, ann, bob, eve = clients()
    ann.give("chat.send", room="lobby", text="a")
    for each in (ann, bob, eve):
        each.peer.lose()
    late = Client(simulation, "ann")
    late.give("room.join", room="lobby")
    assert late.give("chat.history", room="lobby") == [{"room": "lobby", "messages": []}]


@pytest.mark.parametrize(
    ("cmd", "data", "error"),
    [
        ("chat.send", {"room": "lobby", "text": "x"}, ("not_joined", "room")),
        ("chat.history", {"room": "lobby"}, ("not_joined", "room")),
        ("chat.shout", {}, ("unknown_command", "cmd")),
        ("chat.tell", {"fd": 99, "text": "x"}, ("not_connected", "fd")),
        ("chat.tell", {"fd": "2", "text": "x"}, ("invalid_data", "fd")),
        ("room.join", {"room": ""}, ("invalid_data", "room")),
        ("room.join", {}, ("invalid_data", "room")),
    ],
)
@pytest.mark.parametrize("request_id", [None, 7])
def test_mistakes_are_answered(
    cmd: str, data: dict[str, Any], error: tuple[str, str], request_id: int | None
) -> None:
    _, ann, _, _ = clients(joined=False)
    (reply,) = ann.give(cmd, request_id, **data)
    assert (reply["cmd"], reply["code"], reply["field"]) == ("error", *error)
    assert reply.get("request_id") == request_id
    assert ann.give("room.join", room="lobby") == [{"fd": 1, "members": [1]}]


def test_a_handler_that_raises_is_explained() -> None:
    simulation, ann, _, _ = clients(joined=False)
    rooms_max = simulation.hub.limits.rooms_per_session_max
    for number in range(rooms_max):
        ann.give("room.join", room=str(number))
    (reply,) = ann.give("room.join", room="one more")
    assert (reply["cmd"], reply["code"]) == ("error", "failed")
    assert f"this went wrong: a session may be in {rooms_max} rooms" in reply["message"]
    assert len(simulation.failures) == 1


def test_over_sockets(run: RunLoop) -> None:
    async def main() -> None:
        async with Server(make_app(), port=0) as server:
            url = f"ws://127.0.0.1:{server.addresses[0][1]}/chat"
            with pytest.raises(InvalidStatus) as refusal:
                await connect(url, proxy=None)
            assert refusal.value.response.status_code == 401
            url += "?token="
            async with (
                connect(url + "ann-secret", proxy=None) as ann,
                connect(url + "bob-secret", proxy=None) as bob,
            ):
                for each, members in ((ann, [2]), (bob, [2, 3])):
                    assert msgspec.json.decode(await each.recv())["cmd"] == "welcome"
                    await each.send('{"cmd": "room.join", "data": {"room": "lobby"}}')
                    assert msgspec.json.decode(await each.recv())["members"] == members
                assert msgspec.json.decode(await ann.recv())["cmd"] == "room.joined"
                await bob.send('{"cmd": "chat.send", "data": {"room": "lobby", "text": "hi"}}')
                assert msgspec.json.decode(await ann.recv()) == said("hi", 3, "bob")
                await ann.send(
                    '{"cmd": "chat.history", "data": {"room": "lobby"}, "request_id": 1}'
                )
                reply = msgspec.json.decode(await ann.recv())
                assert (reply["cmd"], reply["request_id"]) == ("reply", 1)
                assert reply["data"]["messages"] == [said("hi", 3, "bob")["data"]]
            await server.wait_idle()

    run(main())
