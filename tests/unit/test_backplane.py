"""Several hubs, joined in memory: what is said on one reaches the sessions of the others."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from backplane import MemoryBackplane, Node
from driver import Peer
from wireroom.core import (
    Accept,
    App,
    BackplaneAwayError,
    BackplaneSettings,
    ConfigurationError,
    Context,
    History,
    Hub,
    LocalProtocolError,
    Position,
    Recovery,
    Request,
)
from wireroom.core.backplane import BackplaneConnected, BackplaneOutput, Published
from wireroom.core.sessions.users import SecondSession
from wireroom.core.turn import Sleep


class Enter(msgspec.Struct):
    room: str = "a"
    position: Position | None = None


class Say(msgspec.Struct):
    text: str


class Said(msgspec.Struct, tag_field="type", tag="said"):
    text: str


FIVE = History(messages_max=5, age_s=60.0)


def make_app(
    history: History | None = FIVE,
    *,
    presence: bool = False,
    second_session: SecondSession = "allow",
) -> App:
    app = App(second_session=second_session)
    module = app.module("/{user}", history=history, presence=presence)

    @module.on_handshake
    def bind(request: Request) -> Accept:
        return Accept(user=request.path_params["user"])

    @module.command("enter")
    async def enter(ctx: Context, data: Enter) -> Recovery | None:
        if history is not None:
            return await ctx.session.recover(data.room, data.position)
        ctx.session.join(data.room)
        return None

    @module.command("leave")
    def leave(ctx: Context, data: Enter) -> None:
        ctx.session.leave(data.room)

    @module.command("say")
    def say(ctx: Context, data: Say) -> None:
        ctx.session.room("a").broadcast(Said(data.text))

    return app


def send(peer: Peer, **fields: object) -> None:
    peer.send(msgspec.json.encode(fields).decode())


def take(peer: Peer) -> list[Any]:
    """What a peer has got since the last call."""
    messages = [msgspec.json.decode(message) for message in peer.messages]
    peer.messages.clear()
    return messages


def texts(peer: Peer) -> list[str]:
    return [message.get("text", message["type"]) for message in take(peer)]


def enter(node: Node, user: str = "ann", position: object = None, *, settle: bool = True) -> Peer:
    """A peer that has entered the room; what it got is in its messages."""
    peer = node.open(f"/{user}")
    send(peer, type="enter", position=position, request_id=1)
    if settle:
        node.link.backplane.settle()
    return peer


def reply(peer: Peer) -> Any:
    (found,) = (each["data"] for each in take(peer) if each["type"] == "reply")
    return found


def say(node: Node, *texts: str) -> None:
    """Somebody who is in no room says something."""
    speaker = node.open("/speaker")
    for text in texts:
        send(speaker, type="say", text=text)
    speaker.lose()


def pair(app: Callable[[], App] = make_app, **settings: Any) -> tuple[MemoryBackplane, Node, Node]:
    backplane = MemoryBackplane(BackplaneSettings(**settings))
    return backplane, backplane.node(app()), backplane.node(app())


# -- rooms ---------------------------------------------------------------------------------------


def test_a_message_reaches_the_members_at_all_nodes_under_one_number() -> None:
    backplane, one, two = pair()
    ann, bob = enter(one), enter(two)
    take(ann)
    take(bob)
    say(one, "hello")
    backplane.settle()
    (at_one,), (at_two,) = take(ann), take(bob)
    assert at_one == at_two
    assert at_one["position"] == {"room": "a", "offset": 1, "epoch": at_one["position"]["epoch"]}


def test_the_order_is_the_same_everywhere() -> None:
    backplane, one, two = pair()
    ann, bob = enter(one), enter(two)
    take(ann)
    take(bob)
    for number in range(4):
        say(one, f"one {number}")
        say(two, f"two {number}")
    backplane.settle()
    heard = texts(ann)
    assert heard == texts(bob)
    assert sorted(heard) == [f"{name} {number}" for name in ("one", "two") for number in range(4)]


def test_a_node_is_subscribed_to_what_its_sessions_need() -> None:
    _, one, two = pair()
    assert two.link.channels == {"all"}
    bob = enter(two, "bob")
    assert two.link.channels == {"all", "room:7:/{user}:a", "user:str:bob"}
    assert one.link.channels == {"all"}
    send(bob, type="leave")
    two.link.backplane.settle()
    assert two.link.channels == {"all", "user:str:bob"}
    bob.lose()
    two.link.backplane.settle()
    assert two.link.channels == {"all"}


def test_what_is_for_now_reaches_other_nodes_without_a_number() -> None:
    backplane, one, two = pair()
    ann, bob = enter(one), enter(two)
    take(ann)
    take(bob)
    session = one.session(ann)
    session.room("a").broadcast(Said("typing"), in_history=False, exclude=[session])
    session.room("a").broadcast(Said("here"), in_history=False, where=lambda each: True)
    one.settle()
    backplane.settle()
    assert texts(ann) == ["here"]
    assert take(bob) == [{"type": "said", "text": "typing"}]


def test_rooms_without_history() -> None:
    backplane, one, two = pair(lambda: make_app(None))
    ann, bob = enter(one), enter(two)
    take(ann)
    take(bob)
    say(one, "hello")
    one.session(ann).room("a").broadcast(b"bytes")
    one.settle()
    backplane.settle()
    assert ann.messages[-1] == bob.messages[-1] == b"bytes"
    assert ann.messages[:-1] == bob.messages[:-1] == ['{"type":"said","text":"hello"}']


# -- recovery ------------------------------------------------------------------------------------


def test_a_client_comes_back_at_another_node() -> None:
    backplane, one, two = pair()
    ann = enter(one)
    position = reply(ann)["position"]
    ann.lose()
    say(one, "1", "2")
    backplane.settle()
    ann = enter(two, position=position)
    assert texts(ann) == ["1", "2", "reply"]
    say(one, "3")
    backplane.settle()
    assert texts(ann) == ["3"]


def test_it_comes_back_to_where_others_are_and_needs_more_than_they_have() -> None:
    backplane, one, two = pair()
    position = reply(enter(one))["position"]
    say(one, "1", "2", "3")
    backplane.settle()
    enter(two, "bob")  # whose node knows the newest position alone
    assert texts(enter(two, position=position)) == ["1", "2", "3", "reply"]
    assert texts(enter(two, position=position | {"offset": 2})) == ["3", "reply"]


def test_history_that_does_not_reach_back() -> None:
    backplane, one, two = pair()
    position = reply(enter(one))["position"]
    say(one, *"1234567")
    backplane.settle()
    assert reply(enter(two, position=position)) == {
        "recovered": False,
        "position": position | {"offset": 7},
    }
    assert texts(enter(two, position=position | {"offset": 2})) == [*"34567", "reply"]


@pytest.mark.parametrize("change", [{"epoch": "x"}, {"offset": 9}, {"offset": -1}])
def test_positions_of_nowhere(change: dict[str, object]) -> None:
    backplane, one, two = pair()
    position = reply(enter(one))["position"]
    say(one, "1")
    backplane.settle()
    for node in (one, two):
        recovery = reply(enter(node, position=position | change))
        assert recovery == {"recovered": False, "position": position | {"offset": 1}}


def test_a_client_that_is_ahead_of_its_new_node() -> None:
    backplane, one, two = pair()
    ann, bob = enter(one), enter(two, "bob")
    take(ann)
    take(bob)
    say(one, "1", "2")
    for link in backplane.links:
        while link.requests:
            link.carry_request()
    while one.link.events:
        one.link.carry_event()
    position = take(ann)[-1]["position"]
    ann.lose()
    ann = enter(two, position=position, settle=False)  # two has not heard of them
    assert ann.messages == []
    backplane.settle()
    assert texts(bob) == ["1", "2"]
    assert texts(ann) == ["reply"]
    say(one, "3")
    backplane.settle()
    assert texts(ann) == ["3"]


def test_messages_that_come_while_history_is_read() -> None:
    backplane, one, two = pair()
    position = reply(enter(one))["position"]
    say(one, "1")
    backplane.settle()
    ann = enter(two, position=position, settle=False)
    while two.link.requests:
        two.link.carry_request()
    say(one, "2")
    while one.link.requests:
        one.link.carry_request()
    while two.link.events:  # before the answer, which is older
        two.link.carry_event()
    backplane.settle()
    assert texts(ann)[:2] == ["1", "2"]


# -- the backplane is away -----------------------------------------------------------------------


def test_what_was_missed_while_it_was_away_is_read() -> None:
    backplane, one, two = pair()
    ann, bob = enter(one), enter(two)
    take(ann)
    take(bob)
    two.link.cut()
    say(one, "1", "2")
    backplane.settle()
    assert texts(bob) == []
    two.link.connect()
    say(one, "3")
    backplane.settle()
    assert texts(bob) == texts(ann) == ["1", "2", "3"]


def test_members_are_told_of_what_history_does_not_have() -> None:
    backplane, one, two = pair()
    bob = enter(two)
    take(bob)
    two.link.cut()
    say(one, *"1234567")
    backplane.settle()
    two.link.connect()
    backplane.settle()
    (missed,) = take(bob)
    assert missed["type"] == "messages_missed"
    assert missed["position"]["offset"] == 7
    assert list(missed["position"]) == ["room", "offset", "epoch"]
    say(one, "8")
    backplane.settle()
    assert texts(bob) == ["8"]
    assert two.hub.stats().histories_lost == 1


def test_publications_wait_and_are_said_once() -> None:
    backplane, one, two = pair()
    bob = enter(two)
    take(bob)
    one.link.cut()
    say(one, "1", "2")
    assert one.hub.stats().waiting_publishes == 2
    one.link.connect()
    while one.link.requests:  # done, but the confirmations are lost
        one.link.carry_request()
    one.link.cut()
    assert one.hub.stats().waiting_publishes == 2
    one.link.connect()
    backplane.settle()
    assert texts(bob) == ["1", "2"]
    assert one.hub.stats().waiting_publishes == 0


def test_publications_are_refused_if_they_are_not_to_wait() -> None:
    backplane, one, two = pair(when_away="refuse")
    bob = enter(two)
    ann = enter(one)
    take(bob)
    take(ann)
    one.link.cut()
    session = one.session(ann)
    refused: list[Callable[[], object]] = [
        lambda: session.room("a").broadcast(Said("x")),
        lambda: session.hub.user("bob").send("x"),
        lambda: session.hub.user("bob").close(),
        lambda: session.hub.broadcast("x"),
    ]
    for speak in refused:
        with pytest.raises(BackplaneAwayError):
            speak()
    assert session.room("a").broadcast(Said("now"), in_history=False) == 1  # local goes on
    one.settle()
    assert texts(ann) == ["now"]
    assert one.hub.stats().refused_publishes == 4
    assert one.hub.stats().dropped_publishes >= 1
    one.link.connect()
    say(one, "again")
    backplane.settle()
    assert texts(bob) == ["again"]


@pytest.mark.parametrize("bound", [{"queue_messages_max": 3}, {"queue_bytes_max": 90}])
def test_no_more_than_so_much_waits(bound: dict[str, Any]) -> None:
    backplane, one, two = pair(**bound)
    bob = enter(two)
    take(bob)
    one.link.cut()
    say(one, *"12345")
    assert [type(error) for error in one.failures] == [BackplaneAwayError] * 2
    one.link.connect()
    backplane.settle()
    assert texts(bob) == ["1", "2", "3"]


def test_recovery_goes_on_from_what_the_node_has() -> None:
    backplane, one, two = pair()
    position = reply(enter(one))["position"]
    say(two, "1", "2")
    backplane.settle()
    one.link.cut()
    ann = enter(one, position=position)
    assert texts(ann) == ["1", "2", "reply"]
    say(two, "3")
    one.link.connect()
    backplane.settle()
    assert texts(ann) == ["3"]


def test_recovery_waits_for_the_backplane_and_then_goes_without() -> None:
    backplane = MemoryBackplane(BackplaneSettings(recover_timeout_s=5.0))
    one, two = backplane.node(make_app(), is_up=False), backplane.node(make_app())
    position = reply(enter(two))["position"]
    ann = enter(one, position=position)
    one.advance(4.9)
    assert ann.messages == []
    one.advance(0.2)
    assert reply(ann) == {"recovered": False, "position": {"offset": 0, "epoch": ""}}
    say(two, "1")
    backplane.settle()
    one.link.connect()
    backplane.settle()
    assert texts(ann) == ["messages_missed"]
    say(two, "2")
    backplane.settle()
    assert texts(ann) == ["2"]


def test_recoveries_that_went_without_leave_nothing_behind() -> None:
    backplane = MemoryBackplane(BackplaneSettings(recover_timeout_s=5.0))
    one, two = backplane.node(make_app(), is_up=False), backplane.node(make_app())
    position = reply(enter(two))["position"]
    counts = []
    for _ in range(3):
        enter(one, position=position)
        one.advance(5.1)
        gc.collect()
        counts.append(sum(isinstance(each, Sleep) for each in gc.get_objects()))
    assert len(set(counts)) == 1


def test_recovery_that_waits_ends_when_the_backplane_comes() -> None:
    backplane = MemoryBackplane()
    one, two = backplane.node(make_app(), is_up=False), backplane.node(make_app())
    position = reply(enter(two))["position"]
    say(two, "1")
    backplane.settle()
    ann = enter(one, position=position)
    one.link.connect()
    backplane.settle()
    assert texts(ann) == ["1", "reply"]
    assert not one.running


@pytest.mark.parametrize("lost", [None, 1, 2, 9])
def test_a_backplane_that_comes_back_without_what_it_had(lost: int | None) -> None:
    backplane, one, two = pair()
    ann, bob = enter(one), enter(two)
    take(ann)
    take(bob)
    say(one, "1", "2", "3")
    backplane.settle()
    before = take(ann)[-1]["position"]
    assert texts(bob) == ["1", "2", "3"]
    backplane.restart(lost=lost)
    backplane.settle()
    say(one, "4", "5")
    backplane.settle()
    heard = take(ann)
    assert heard[0]["type"] == "messages_missed"
    assert [each["text"] for each in heard[1:]][-2:] == ["4", "5"]
    assert heard[-1]["position"]["epoch"] != before["epoch"]
    assert texts(bob)[-2:] == ["4", "5"]
    assert not reply(enter(two, position=before))["recovered"]


def test_state_is_said_to_whoever_asks() -> None:
    backplane = MemoryBackplane()
    node = backplane.node(make_app(), is_up=False)
    seen = [node.hub.is_backplane_connected]
    node.link.connect()
    seen.append(node.hub.is_backplane_connected)
    node.link.cut()
    seen.append(node.hub.is_backplane_connected)
    assert seen == [False, True, False]
    assert node.hub.stats().backplane_losses == 1
    assert Hub(App()).is_backplane_connected is None


# -- users ---------------------------------------------------------------------------------------


def test_a_message_to_a_user_reaches_sessions_at_all_nodes_once() -> None:
    backplane, one, two = pair()
    here, there, other = one.open("/ann"), two.open("/ann"), two.open("/bob")
    backplane.settle()
    assert one.session(here).hub.user("ann").send(Said("hello")) == 1
    one.settle()
    while one.link.requests:
        one.link.carry_request()
    one.link.cut()  # before it is confirmed, so that it is said again
    one.link.connect()
    backplane.settle()
    assert texts(here) == texts(there) == ["hello"]
    assert texts(other) == []


def test_a_user_with_no_session_here_and_text() -> None:
    backplane, one, two = pair()
    there = two.open("/ann")
    backplane.settle()
    assert one.hub.user("ann").send("text") == 0
    assert one.hub.user("ann").send(b"bytes") == 0
    one.settle()
    backplane.settle()
    assert there.messages == ["text", b"bytes"]


def test_a_user_is_disconnected_everywhere() -> None:
    backplane, one, two = pair()
    here, there = one.open("/ann"), two.open("/ann")
    backplane.settle()
    assert one.hub.user("ann").close(4003, "banned") == 1
    one.settle()
    backplane.settle()
    assert (here.close_code(), there.close_code()) == (4003, 4003)
    with pytest.raises(LocalProtocolError):
        one.hub.user("nobody").close(1005)


def test_a_second_session_replaces_the_first_at_another_node() -> None:
    backplane, one, two = pair(lambda: make_app(second_session="replace"))
    first = one.open("/ann")
    backplane.settle()
    second = two.open("/ann")
    backplane.settle()
    assert first.close_code() == 4001
    assert second.close_code() is None


def test_a_broadcast_of_the_hub_reaches_all() -> None:
    backplane, one, two = pair()
    ann, bob = one.open("/ann"), two.open("/bob")
    backplane.settle()
    assert one.hub.broadcast(Said("all")) == 1
    assert one.hub.broadcast(Said("here"), to=one.hub.sessions()) == 1
    one.settle()
    backplane.settle()
    assert texts(ann) == ["all", "here"]
    assert texts(bob) == ["all"]


# -- presence ------------------------------------------------------------------------------------


def users(node: Node, peer: Peer) -> list[tuple[str, str]]:
    """Who is in the room, as a node says: user and node."""
    return [(each.user, each.node) for each in node.session(peer).room("a").presence()]


def told(peer: Peer) -> list[tuple[list[str], list[str]]]:
    return [
        ([each["user"] for each in message["joined"]], [each["user"] for each in message["left"]])
        for message in take(peer)
        if message["type"] == "presence"
    ]


def with_presence() -> App:
    return make_app(None, presence=True)


def test_members_at_other_nodes_are_present() -> None:
    backplane, one, two = pair(with_presence)
    ann = enter(one, "ann")
    backplane.advance(3.0)
    bob = enter(two, "bob")
    assert users(one, ann) == [("ann", ""), ("bob", "n2")]
    assert users(two, bob) == [("ann", "n1"), ("bob", "")]
    assert told(ann) == [(["ann"], []), (["bob"], [])]
    assert told(bob) == [(["bob"], []), (["ann"], [])]
    since = {each.user: each.since for each in two.session(bob).room("a").presence()}
    assert since == {"ann": pytest.approx(two.now - 3.0), "bob": two.now}
    bob.lose()
    backplane.settle()
    assert users(one, ann) == [("ann", "")]
    assert told(ann) == [([], ["bob"])]


def test_a_node_that_dies_leaves_nobody_behind() -> None:
    backplane, one, two = pair(with_presence, lease_s=15.0)
    ann = enter(one, "ann")
    enter(two, "bob")
    backplane.advance(60.0)
    assert len(users(one, ann)) == 2
    take(ann)
    backplane.kill(two)
    backplane.advance(14.0 - 5.0)
    assert len(users(one, ann)) == 2
    backplane.advance(11.0)
    assert users(one, ann) == [("ann", "")]
    assert told(ann) == [([], ["bob"])]


def test_presence_after_the_backplane_was_away() -> None:
    backplane, one, two = pair(with_presence)
    ann, bob = enter(one, "ann"), enter(two, "bob")
    two.link.cut()
    enter(two, "cid")
    bob.lose()
    dan = enter(one, "dan")
    backplane.settle()
    take(ann)
    two.link.connect()
    backplane.settle()
    assert sorted(users(one, ann)) == [("ann", ""), ("cid", "n2"), ("dan", "")]
    assert told(ann) == [(["cid"], ["bob"])]
    dan.lose()
    backplane.settle()
    cid = next(iter(two.peers.values()))
    assert sorted(users(two, cid)) == [("ann", "n1"), ("cid", "")]


def test_a_change_that_was_lost_is_noticed_at_the_next() -> None:
    _, one, two = pair(with_presence)
    ann = enter(one, "ann")
    enter(two, "bob")
    enter(two, "cid", settle=False)
    while two.link.requests:
        two.link.carry_request()
    one.link.events.clear()
    enter(two, "dan")
    assert sorted(users(one, ann)) == [("ann", ""), ("bob", "n2"), ("cid", "n2"), ("dan", "n2")]


def test_without_presence_nothing_is_said_of_members() -> None:
    backplane, one, two = pair()
    ann = enter(one)
    enter(two)
    assert len(one.session(ann).room("a").presence()) == 1
    said = {each.payload[:40] for each in backplane.published}
    assert all(b"alive" in each for each in said)


# -- the interface -------------------------------------------------------------------------------


def test_nothing_is_asked_of_a_backplane_that_is_away() -> None:
    backplane = MemoryBackplane()
    node = backplane.node(make_app(), is_up=False)
    enter(node)
    node.advance(60.0)
    asked = [each for each in node.outputs if isinstance(each, BackplaneOutput)]
    assert asked == []


def test_what_other_programs_publish_is_counted() -> None:
    backplane, one, _ = pair()
    for payload in (b"", b"{}", b"\xc1", b"\x81\xa4type\xa4what"):
        backplane.give(
            "all",
            Published("all", payload),
        )
    backplane.settle()
    assert one.hub.stats().bad_publishes == 4


def test_a_hub_without_a_backplane_or_a_name() -> None:
    with pytest.raises(LocalProtocolError, match="backplane"):
        Hub(App()).deliver(BackplaneConnected(), now=0.0)
    with pytest.raises(ConfigurationError, match="epoch"):
        Hub(App(), backplane=BackplaneSettings())


@pytest.mark.parametrize(
    "settings",
    [
        {"when_away": "hope"},
        {"queue_messages_max": 0},
        {"queue_bytes_max": 0},
        {"lease_s": 0.0},
        {"recover_timeout_s": float("inf")},
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        BackplaneSettings(**settings)


def test_what_a_room_keeps_is_known_while_the_backplane_is_there() -> None:
    backplane, one, two = pair()
    ann = enter(one)
    room = one.session(ann).room("a")
    say(two, "1", "2")
    backplane.settle()

    def kept() -> list[str] | None:
        found = room.kept()
        if found is None:
            return None
        assert found.position.offset == len(found.messages)
        return [msgspec.json.decode(message)["text"] for message in found.messages]

    assert kept() == ["1", "2"]
    one.link.cut()
    say(two, "3")
    backplane.settle()
    assert kept() is None
    one.link.connect()
    assert kept() is None  # what was missed is being asked for
    backplane.settle()
    assert kept() == ["1", "2", "3"]
    assert one.session(ann).room("nobody's").kept() is None
    ann.lose()
    assert room.kept() is None


def test_in_a_module_without_history_a_node_keeps_nothing() -> None:
    _, one, _ = pair(lambda: make_app(history=None))
    with pytest.raises(LocalProtocolError, match="in a module with history"):
        one.session(enter(one)).room("a").kept()


def test_a_node_keeps_no_more_bytes_than_it_may() -> None:
    """The positions are not counted by the backplane, so that it keeps more than a node."""
    history = History(messages_max=100, age_s=60.0, bytes_max=1000)
    backplane, one, two = pair(lambda: make_app(history))
    bob = enter(two)  # so that the room is known there
    bob.lose()
    backplane.settle()
    texts = [str(number) * 100 for number in range(10)]  # 125 bytes each; some 190 with positions
    say(one, *texts)
    backplane.settle()
    (kept,) = backplane.kept.values()
    assert len(kept.messages) == 8
    position = {"offset": 2, "epoch": kept.epoch}
    ann = enter(two, position=position)
    assert not reply(ann)["recovered"]  # and nobody waits for what there is no room for
    assert two.now == 0.0
    found = two.session(ann).room("a").kept()
    assert found is not None
    assert sum(map(len, found.messages)) <= 1000
    assert len(found.messages) == 5
    bob = enter(two, position={"offset": 5, "epoch": kept.epoch})
    assert [each.get("text") for each in take(bob)][:-1] == texts[5:]
    assert two.hub.stats().dropped_history_messages == 0
    say(one, "new" * 50)
    backplane.settle()
    assert two.hub.stats().dropped_history_messages == 1


def test_what_comes_out_of_order_is_bounded_by_bytes() -> None:
    history = History(messages_max=100, age_s=60.0, bytes_max=500)
    backplane, one, two = pair(lambda: make_app(history))
    bob = enter(two)

    def append(text: str) -> None:
        say(one, text)
        while one.link.requests:
            one.link.carry_request()

    append("1")
    two.link.events.clear()  # it is lost
    append("a" * 150)
    while two.link.events:
        two.link.carry_event()
    (_,) = two.link.requests
    two.link.carry_request()  # what is missing is read, and the answer takes its time
    for letter in "bcd":  # of 175 bytes each: the last is too much
        append(letter * 150)
    while two.link.events:
        two.link.carry_event()
    two.link.carry_reply()
    assert texts(bob) == ["reply", "1", *(letter * 150 for letter in "abc")]
    backplane.settle()
    assert texts(bob) == ["d" * 150]
    assert two.hub.stats().histories_lost == 0
