"""Rooms with history: messages are numbered, and who comes back gets what was missed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from driver import Peer, Simulation
from wireroom.core import (
    App,
    Broadcast,
    CommandDataParser,
    ConfigurationError,
    Context,
    History,
    Hub,
    Limits,
    LocalProtocolError,
    MessagePackParser,
    Module,
    Position,
    Recovery,
    Session,
)


class Enter(msgspec.Struct):
    room: str
    position: Position | None = None


class Say(msgspec.Struct):
    room: str
    text: str


class Said(msgspec.Struct, tag_field="type", tag="said"):
    text: str


def history_app(history: History | None = None, *, limits: Limits | None = None) -> App:
    app = App(limits=limits)
    module = app.module("/", history=history or History(messages_max=5, age_s=60.0))

    @module.command("enter")
    async def enter(ctx: Context, data: Enter) -> Recovery:
        return await ctx.session.recover(data.room, data.position)

    @module.command("leave")
    def leave(ctx: Context, data: Enter) -> None:
        ctx.session.leave(data.room)

    @module.command("say")
    def say(ctx: Context, data: Say) -> None:
        ctx.session.room(data.room).broadcast(Said(data.text))

    return app


def module_of(app: App) -> Module:
    (module,) = (module for _, module in app.modules)
    assert isinstance(module, Module)
    return module


def send(peer: Peer, **fields: object) -> None:
    peer.send(msgspec.json.encode(fields).decode())


def take(peer: Peer) -> list[Any]:
    """What a peer has got since the last call."""
    messages = [msgspec.json.decode(message) for message in peer.messages]
    peer.messages.clear()
    return messages


def enter(peer: Peer, room: str = "a", position: Any = None) -> tuple[bool, Any, list[str]]:
    """Whether it recovered, its position, and the texts that it got."""
    send(peer, type="enter", room=room, position=position, request_id=1)
    *missed, reply = take(peer)
    assert reply["type"] == "reply", reply
    data = reply["data"]
    return data["recovered"], data["position"], [message["text"] for message in missed]


def say(simulation: Simulation, *texts: str, room: str = "a") -> None:
    """Somebody who is in no room says something."""
    speaker = simulation.open()
    for text in texts:
        send(speaker, type="say", room=room, text=text)
    speaker.lose()


def texts(peer: Peer) -> list[str]:
    return [message["text"] for message in take(peer)]


def test_a_message_carries_its_position_as_the_last_field() -> None:
    simulation = Simulation(history_app())
    ann = simulation.open()
    recovered, position, _ = enter(ann)
    assert recovered
    assert position["offset"] == 0
    say(simulation, "one", 'two "quoted"')
    epoch = position["epoch"]
    assert ann.messages[0] == (
        '{"type":"said","text":"one","position":{"room":"a","offset":1,"epoch":"' + epoch + '"}}'
    )
    assert [message["position"] for message in take(ann)] == [
        {"room": "a", "offset": number, "epoch": epoch} for number in (1, 2)
    ]


@pytest.mark.parametrize("name", ['a "room"', "комната", "\\", "{}"])
def test_a_room_of_any_name(name: str) -> None:
    simulation = Simulation(history_app())
    ann = simulation.open()
    enter(ann, name)
    say(simulation, "hello", room=name)
    assert take(ann)[0]["position"]["room"] == name


def test_who_comes_back_gets_what_was_missed_and_goes_on() -> None:
    simulation = Simulation(history_app())
    ann = simulation.open()
    enter(ann)
    say(simulation, "1", "2")
    position = take(ann)[-1]["position"]
    ann.lose()
    say(simulation, "3", "4")
    ann = simulation.open()
    recovered, position, missed = enter(ann, position=position)
    assert (recovered, position["offset"], missed) == (True, 4, ["3", "4"])
    say(simulation, "5")
    assert texts(ann) == ["5"]


def test_what_a_room_keeps_can_be_looked_at() -> None:
    simulation = Simulation(history_app())
    ann = simulation.open()
    room = simulation.session(ann).room("a")

    def kept(after: Position | None = None) -> tuple[int, list[str]]:
        found = room.kept(after)
        assert found is not None
        texts = [msgspec.json.decode(message)["text"] for message in found.messages]
        return found.position.offset, texts

    assert kept() == (0, [])
    enter(ann)
    assert kept() == (0, [])
    say(simulation, *"1234567")
    epoch = take(ann)[-1]["position"]["epoch"]
    assert kept() == (7, ["3", "4", "5", "6", "7"])
    assert kept(Position(5, epoch)) == (7, ["6", "7"])
    assert kept(Position(7, epoch)) == (7, [])
    assert kept(Position(9, epoch)) == (7, [])
    assert kept(Position(0, epoch)) == (7, ["3", "4", "5", "6", "7"])
    assert kept(Position(6, "another")) == (7, ["3", "4", "5", "6", "7"])
    simulation.advance(60.0)
    assert kept() == (7, [])


def test_what_is_kept_is_bounded_by_bytes() -> None:
    history = History(messages_max=100, age_s=60.0, bytes_max=1000)
    simulation = Simulation(history_app(history))
    ann = simulation.open()
    _, start, _ = enter(ann)
    room = simulation.session(ann).room("a")

    def kept() -> list[str]:
        found = room.kept()
        assert found is not None
        assert sum(len(message.encode()) for message in found.messages) <= 1000
        return [msgspec.json.decode(message)["text"] for message in found.messages]

    texts = [f"{number:02}{'щ' * 50}" for number in range(20)]  # some 200 bytes each
    say(simulation, *texts)
    sizes = [len(message.encode()) for message in ann.messages if isinstance(message, str)]
    fitting = 1000 // max(sizes)
    assert sum(sizes[-fitting - 1 :]) > 1000
    assert kept() == texts[-fitting:]
    dropped = simulation.hub.stats().dropped_history_messages
    assert dropped == 20 - fitting
    assert enter(simulation.open(), position=start)[0] is False
    near = {"offset": 20 - fitting, "epoch": start["epoch"]}
    assert enter(simulation.open(), position=near)[2] == texts[-fitting:]

    say(simulation, "x" * 1000)  # is heard, and not kept
    assert len(ann.messages) == 21
    assert kept() == []
    say(simulation, "y")
    assert kept() == ["y"]
    assert simulation.hub.stats().dropped_history_messages == dropped + fitting + 1
    simulation.advance(60.0)  # what is too old is not counted
    assert kept() == []
    assert simulation.hub.stats().dropped_history_messages == dropped + fitting + 1
    say(simulation, *texts)
    assert kept() == texts[-fitting:]


def test_a_module_without_history_keeps_nothing() -> None:
    app = App()
    app.module("/")
    simulation = Simulation(app)
    with pytest.raises(LocalProtocolError, match="in a module with history"):
        simulation.session(simulation.open()).room("a").kept()


def test_who_had_received_nothing_recovers_too() -> None:
    simulation = Simulation(history_app())
    ann = simulation.open()
    _, position, _ = enter(ann)
    ann.lose()
    say(simulation, "1")
    assert enter(simulation.open(), position=position)[0::2] == (True, ["1"])


def test_who_has_missed_nothing_gets_nothing() -> None:
    simulation = Simulation(history_app())
    ann = simulation.open()
    enter(ann)
    say(simulation, "1")
    position = take(ann)[0]["position"]
    ann.lose()
    assert enter(simulation.open(), position=position)[0::2] == (True, [])


def test_history_that_was_trimmed_by_number() -> None:
    simulation = Simulation(history_app(History(messages_max=3, age_s=60.0)))
    _, start, _ = enter(simulation.open())
    say(simulation, "1", "2", "3")
    assert enter(simulation.open(), position=start)[0::2] == (True, ["1", "2", "3"])
    say(simulation, "4")
    ann = simulation.open()
    recovered, position, missed = enter(ann, position=start)
    assert (recovered, position["offset"], missed) == (False, 4, [])
    say(simulation, "5")
    assert texts(ann) == ["5"]
    assert enter(simulation.open(), position=start | {"offset": 2})[0::2] == (True, ["3", "4", "5"])


def test_history_that_was_trimmed_by_age() -> None:
    simulation = Simulation(history_app(History(messages_max=5, age_s=60.0)))
    _, start, _ = enter(simulation.open())
    say(simulation, "1")
    simulation.advance(40.0)
    say(simulation, "2")
    simulation.advance(19.9)
    assert enter(simulation.open(), position=start)[0::2] == (True, ["1", "2"])
    simulation.advance(0.2)
    assert enter(simulation.open(), position=start)[0::2] == (False, [])
    assert enter(simulation.open(), position=start | {"offset": 1})[0::2] == (True, ["2"])


@pytest.mark.parametrize(
    "change",
    [{"epoch": "another"}, {"epoch": ""}, {"offset": 2}, {"offset": -1}, {"offset": 10**18}],
)
def test_positions_of_other_histories_are_not_recovered(change: dict[str, object]) -> None:
    simulation = Simulation(history_app())
    _, start, _ = enter(simulation.open())
    say(simulation, "1")
    ann = simulation.open()
    recovered, position, missed = enter(ann, position=start | change)
    assert (recovered, position["offset"], missed) == (False, 1, [])
    say(simulation, "2")
    assert texts(ann) == ["2"]


def test_a_room_is_forgotten_when_nobody_can_come_back_to_it() -> None:
    simulation = Simulation(history_app(History(messages_max=5, age_s=60.0)))
    ann = simulation.open()
    _, start, _ = enter(ann)
    simulation.advance(600.0)  # while somebody is in it, it stays
    ann.lose()
    simulation.advance(59.0)
    bob = simulation.open()
    assert enter(bob, position=start)[0]
    bob.lose()
    simulation.advance(61.0)
    recovered, position, _ = enter(simulation.open(), position=start)
    assert not recovered
    assert position["epoch"] != start["epoch"]


def test_nothing_is_left_of_forgotten_rooms() -> None:
    simulation = Simulation(history_app(History(messages_max=5, age_s=60.0)))
    say(simulation, "1")
    simulation.advance(61.0)
    assert simulation.hub.next_timeout() is None


def test_what_is_missed_waits_until_it_is_read() -> None:
    limits = Limits(outbox_mark_bytes=500, message_bytes_max=1000, outbox_bytes_max=1000)
    simulation = Simulation(history_app(History(messages_max=50, age_s=600.0), limits=limits))
    _, start, _ = enter(simulation.open())
    long = ["x" * 100 + str(number) for number in range(40)]
    say(simulation, *long)
    ann = simulation.open()
    ann.stall()
    send(ann, type="enter", room="a", position=start, request_id=1)
    say(simulation, "new")
    assert simulation.session(ann).rooms == []  # all of it at once would be too much: 1008
    ann.read()
    *missed, reply = take(ann)
    assert [message["text"] for message in missed] == [*long, "new"]
    assert reply["data"]["recovered"]
    assert reply["data"]["position"]["offset"] == len(long) + 1
    assert simulation.session(ann).rooms == ["a"]
    say(simulation, "newest")
    assert texts(ann) == ["newest"]


def test_what_is_trimmed_while_a_slow_client_reads_is_lost_to_it() -> None:
    limits = Limits(outbox_mark_bytes=500, message_bytes_max=1000, outbox_bytes_max=1000)
    simulation = Simulation(history_app(History(messages_max=20, age_s=600.0), limits=limits))
    _, start, _ = enter(simulation.open())
    say(simulation, *("x" * 100 for _ in range(20)))
    ann = simulation.open()
    ann.stall()
    send(ann, type="enter", room="a", position=start, request_id=1)
    say(simulation, *("y" * 100 for _ in range(20)))
    ann.read()
    *missed, reply = take(ann)
    assert all(message["text"][0] == "x" for message in missed)
    assert reply["data"] == {"recovered": False, "position": start | {"offset": 40}}


def test_a_session_that_ends_while_it_recovers() -> None:
    limits = Limits(outbox_mark_bytes=500, message_bytes_max=1000, outbox_bytes_max=1000)
    simulation = Simulation(history_app(History(messages_max=50, age_s=600.0), limits=limits))
    _, start, _ = enter(simulation.open())
    say(simulation, *("x" * 100 for _ in range(40)))
    ann = simulation.open()
    ann.stall()
    send(ann, type="enter", room="a", position=start)
    ann.lose()
    assert simulation.failures == []  # its handler was told, and ended
    assert not simulation.running


def test_who_is_put_out_while_it_recovers_does_not_come_in() -> None:
    limits = Limits(outbox_mark_bytes=500, message_bytes_max=1000, outbox_bytes_max=1000)
    simulation = Simulation(history_app(History(messages_max=50, age_s=600.0), limits=limits))
    _, start, _ = enter(simulation.open())
    say(simulation, *("x" * 100 for _ in range(40)))
    ann = simulation.open()
    ann.stall()
    send(ann, type="enter", room="a", position=start, request_id=1)
    session = simulation.session(ann)
    assert not session.leave("b")
    assert session.leave("a")
    ann.read()
    *_, reply = take(ann)
    assert not reply["data"]["recovered"]
    assert session.rooms == []
    assert not session.leave("a")
    say(simulation, "new")
    assert texts(ann) == []
    send(ann, type="enter", room="a", position=start, request_id=2)
    assert session.rooms == ["a"]


def test_a_member_is_sent_again_what_it_asks_for() -> None:
    simulation = Simulation(history_app())
    ann = simulation.open()
    _, start, _ = enter(ann)
    say(simulation, "1", "2")
    assert texts(ann) == ["1", "2"]
    assert enter(ann, position=start | {"offset": 1})[0::2] == (True, ["2"])
    assert enter(ann)[0::2] == (True, [])
    say(simulation, "3")
    assert texts(ann) == ["3"]


def test_rooms_and_modules_have_histories_of_their_own() -> None:
    app = history_app()
    app.module("/other", history=History()).command("enter")(_enter_other)
    simulation = Simulation(app)
    _, start, _ = enter(simulation.open())
    say(simulation, "1")
    say(simulation, "2", room="b")
    assert enter(simulation.open(), "b")[1]["offset"] == 1
    assert not enter(simulation.open(), "b", start)[0]
    assert enter(simulation.open("/other"))[1]["offset"] == 0


async def _enter_other(ctx: Context, data: Enter) -> Recovery:
    return await ctx.session.recover(data.room, data.position)


def room_of(simulation: Simulation, peer: Peer, name: str = "a") -> Any:
    return simulation.session(peer).room(name)


def test_what_is_for_now_is_not_numbered() -> None:
    simulation = Simulation(history_app())
    ann, bob = simulation.open(), simulation.open()
    enter(ann)
    enter(bob)
    room = room_of(simulation, ann)
    assert room.broadcast("ann is typing", in_history=False, exclude=[simulation.session(ann)]) == 1
    simulation.settle()
    assert ann.messages == []
    assert bob.messages == ["ann is typing"]
    assert enter(simulation.open())[1]["offset"] == 0


@pytest.mark.parametrize(
    "options", [{"exclude": [None]}, {"where": lambda session: True}], ids=["exclude", "where"]
)
def test_what_is_kept_is_for_everybody(options: dict[str, Any]) -> None:
    simulation = Simulation(history_app())
    ann = simulation.open()
    enter(ann)
    with pytest.raises(LocalProtocolError, match="in_history=False"):
        room_of(simulation, ann).broadcast(Said("x"), **options)
    assert enter(ann)[1]["offset"] == 0


@pytest.mark.parametrize("data", ["hello", b"{}", [1, 2], 5, "", "{", '"{}'])
def test_what_cannot_carry_a_position(data: object) -> None:
    simulation = Simulation(history_app())
    ann = simulation.open()
    enter(ann)
    with pytest.raises(LocalProtocolError, match="JSON objects"):
        room_of(simulation, ann).broadcast(data)
    assert enter(ann)[1]["offset"] == 0


def test_text_that_is_an_object_and_an_empty_one() -> None:
    simulation = Simulation(history_app())
    ann = simulation.open()
    enter(ann)
    room_of(simulation, ann).broadcast('{"text":"raw"}')
    room_of(simulation, ann).broadcast({})
    simulation.settle()
    first, second = take(ann)
    assert (first["text"], first["position"]["offset"]) == ("raw", 1)
    assert list(second) == ["position"]


def test_a_session_whose_module_keeps_nothing() -> None:
    app = App()
    app.module("/").command("enter")(_enter_other)
    simulation = Simulation(app)
    ann = simulation.open()
    send(ann, type="enter", room="a")
    (error,) = simulation.failures
    assert isinstance(error, LocalProtocolError)
    assert "history" in str(error)


def test_effects_broadcast_for_everybody_or_for_now() -> None:
    app = history_app()
    effects: list[Broadcast] = []
    module = module_of(app)

    async def act(ctx: Context) -> list[Broadcast]:
        return effects

    module.command("act")(act)
    simulation = Simulation(app)
    ann, bob = simulation.open(), simulation.open()
    enter(ann)
    enter(bob)
    effects[:] = [
        Broadcast("a", Said("all"), include_sender=True),
        Broadcast("a", Said("others"), in_history=False),
    ]
    send(ann, type="act")
    assert texts(ann) == ["all"]
    assert texts(bob) == ["all", "others"]
    effects[:] = [Broadcast("a", Said("others"))]
    send(ann, type="act")
    assert [type(error) for error in simulation.failures] == [LocalProtocolError]


def test_presence_is_for_now() -> None:
    app = App()
    module = app.module("/", presence=True, history=History())
    module.command("enter")(_enter_other)
    simulation = Simulation(app)
    ann = simulation.open()
    send(ann, type="enter", room="a", request_id=1)
    presence = [message for message in take(ann) if message["type"] == "presence"]
    assert [sorted(message) for message in presence] == [["joined", "left", "room", "type"]]


@pytest.mark.parametrize("parser", [MessagePackParser(), CommandDataParser()])
def test_parsers_that_carry_no_positions(parser: Any) -> None:
    app = App()
    app.module("/chat", parser=parser, history=History())
    with pytest.raises(ConfigurationError, match="module /chat: history"):
        Hub(app, epoch="e")


def test_a_hub_without_an_epoch_keeps_no_history() -> None:
    with pytest.raises(ConfigurationError, match="epoch"):
        Hub(history_app())


@pytest.mark.parametrize(
    "bounds",
    [
        {"messages_max": 0},
        {"bytes_max": 0},
        {"bytes_max": -1},
        {"age_s": 0.0},
        {"age_s": float("inf")},
        {"age_s": float("nan")},
    ],
)
def test_bounds_that_bound_nothing(bounds: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(bounds))):
        History(**bounds)


def test_a_member_is_numbered_for_what_its_own_coming_causes() -> None:
    app = history_app()
    module = module_of(app)

    def greet(session: Session, room: Any) -> None:
        room.broadcast(Said("welcome"))

    module.on_join(greet)
    simulation = Simulation(app)
    recovered, position, missed = enter(simulation.open())
    assert (recovered, position["offset"], missed) == (True, 1, ["welcome"])
