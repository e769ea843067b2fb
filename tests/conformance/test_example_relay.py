"""The relay example, in memory and over real sockets; every mistake that the original panics on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from driver import Simulation
from examples import load_example
from loops import RunLoop
from wireroom.transports.asyncio import Server

make_app = load_example("relay").make_app


def decoded(messages: list[str | bytes]) -> list[Any]:
    return [msgspec.json.decode(message) for message in messages]


def test_a_message_is_relayed_to_its_receiver() -> None:
    simulation = Simulation(make_app())
    ann, bob, eve = (simulation.open(f"/ws/{user}") for user in (1, 2, 3))
    ann.messages.clear()
    bob.messages.clear()
    ann.send('{"type": 2, "receiver": 2, "content": "hello"}')
    assert decoded(bob.messages) == [
        {"type": 3, "sender": 1, "receiver": 2, "content": "hello"},
    ]
    assert ann.messages == eve.messages == []


def test_others_learn_who_connects() -> None:
    simulation = Simulation(make_app())
    ann, bob = simulation.open("/ws/1"), simulation.open("/ws/2")
    assert decoded(ann.messages) == [{"type": 1, "sender": 2}]
    assert bob.messages == []


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ('{"type": 2, "receiver": 9, "content": "x"}', "user 9 is not connected"),
        ('{"type": 2, "receiver": "nine", "content": "x"}', "Expected `int`"),
        ('{"type": 77}', "Invalid enum value 77"),
        ('{"type": "SEND"}', "Expected `int`"),
        ("no json", "JSON is malformed"),
        ('{"type": 3}', "a client does not send RECEIVE"),
    ],
)
def test_mistakes_are_answered_and_the_session_goes_on(message: str, error: str) -> None:
    simulation = Simulation(make_app())
    ann = simulation.open("/ws/1")
    ann.send(message)
    (reply,) = decoded(ann.messages)
    assert reply["type"] == 0
    assert error in reply["error"]
    assert ann.close_frame is None


def test_close_closes() -> None:
    simulation = Simulation(make_app())
    ann = simulation.open("/ws/1")
    ann.send('{"type": 4}')
    assert ann.close_frame is not None
    assert ann.close_frame.code == 1000
    assert not simulation.hub.user(1).is_connected


def test_a_second_session_replaces_the_first() -> None:
    simulation = Simulation(make_app())
    first = simulation.open("/ws/1")
    simulation.open("/ws/1")
    assert first.close_frame is not None
    assert first.close_frame.code == 4001


def test_over_sockets(run: RunLoop) -> None:
    async def main() -> None:
        async with Server(make_app(), port=0) as server:
            url = f"ws://127.0.0.1:{server.addresses[0][1]}/ws/"
            with pytest.raises(InvalidStatus) as refusal:
                await connect(url + "ann", proxy=None)
            assert refusal.value.response.status_code == 400
            assert b"must be a number" in (refusal.value.response.body or b"")
            async with connect(url + "1", proxy=None) as ann, connect(url + "2", proxy=None) as bob:
                assert msgspec.json.decode(await ann.recv()) == {"type": 1, "sender": 2}
                await bob.send('{"type": 2, "receiver": 1, "content": "hi"}')
                assert msgspec.json.decode(await ann.recv())["content"] == "hi"

    run(main())
