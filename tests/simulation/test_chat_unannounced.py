"""What a node stored and did not live to announce reaches the members at other nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chat_simulated import WAIT_S, SimulatedChat, events
from driver import Peer
from memberships import standing
from store_results import Result, StoreAwayError
from unannounced import INTERVAL_S, SETTLING_S

BOUND_S = 2 * INTERVAL_S + 0.5  # and a step of the clock

NewChat = Callable[..., SimulatedChat]


@pytest.fixture
def new_chat(tmp_path: Path) -> Iterator[NewChat]:
    chats: list[SimulatedChat] = []

    def make(nodes: int = 2) -> SimulatedChat:
        chats.append(SimulatedChat(tmp_path, nodes))
        return chats[-1]

    yield make
    for chat in chats:
        chat.end()


def heard(peer: Peer) -> list[tuple[str, str]]:
    """The messages that a peer was told of: how, and what."""
    kinds = ("chat_message", "message_changed")
    return [(each["type"], each["text"]) for each in events(peer) if each["type"] in kinds]


def away() -> Result[object]:
    """What a store gives that is away."""
    result: Result[object] = Result()
    result.fail(StoreAwayError("it is away"))
    return result


def test_it_is_announced_once_and_in_order(new_chat: NewChat) -> None:
    chat = new_chat()
    ann, bob = chat.account("Ann"), chat.account("Bob")
    anns, bobs = chat.enter(chat.nodes[0], ann), chat.enter(chat.nodes[1], bob)
    chat.ask(anns, "chat_message", room="lobby", text="0")
    for text in "123":  # by a node that is gone
        chat.store.append("lobby", ann, text).result(WAIT_S)
    chat.advance(BOUND_S)
    expected = [("chat_message", "0"), *(("message_changed", each) for each in "123")]
    assert heard(anns) == heard(bobs) == expected
    chat.advance(10 * INTERVAL_S)
    assert heard(anns) == heard(bobs) == expected
    chat.ask(anns, "chat_message", room="lobby", text="4")
    chat.advance(10 * INTERVAL_S)
    assert heard(anns) == heard(bobs) == [*expected, ("chat_message", "4")]


def test_what_is_announced_is_not_announced_again(new_chat: NewChat) -> None:
    chat = new_chat()
    ann, bob = chat.account("Ann"), chat.account("Bob")
    chat.store.append("lobby", ann, "before").result(WAIT_S)
    anns, bobs = chat.enter(chat.nodes[0], ann), chat.enter(chat.nodes[1], bob)
    expected = []
    for number in range(12):
        chat.ask(bobs, "chat_message", room="lobby", text=str(number))
        chat.ask(anns, "typing", room="lobby", is_typing=True)
        expected.append(("chat_message", str(number)))
        chat.advance(0.5 * (number % 7))
    bobs.lose()
    chat.advance(BOUND_S)
    assert heard(anns) == expected
    anns.lose()
    chat.advance(BOUND_S)
    chat.store.append("lobby", ann, "nobody is there").result(WAIT_S)
    anns = chat.enter(chat.nodes[0], ann)
    chat.advance(BOUND_S)
    assert heard(anns) == []


def test_more_than_a_page_is_missed_by_its_offsets(new_chat: NewChat) -> None:
    chat = new_chat(nodes=1)
    ann = chat.account("Ann")
    anns = chat.enter(chat.nodes[0], ann)
    for stored in [chat.store.append("lobby", ann, str(number)) for number in range(250)]:
        stored.result(WAIT_S)
    chat.advance(BOUND_S)
    assert [text for _, text in heard(anns)] == [str(number) for number in range(50, 250)]


def test_after_the_backplane_was_away_others_come_first(new_chat: NewChat) -> None:
    chat = new_chat()
    ann, bob = chat.account("Ann"), chat.account("Bob")
    anns, bobs = chat.enter(chat.nodes[0], ann), chat.enter(chat.nodes[1], bob)
    chat.advance(BOUND_S)
    for node in chat.nodes:
        node.link.cut()
    chat.ask(bobs, "chat_message", room="lobby", text="hello")
    chat.advance(BOUND_S)
    chat.nodes[0].link.connect()
    chat.advance(SETTLING_S - INTERVAL_S - 0.5)  # the other has not come back
    assert heard(anns) == []
    chat.nodes[1].link.connect()
    chat.advance(SETTLING_S + BOUND_S)
    assert heard(anns) == heard(bobs) == [("chat_message", "hello")]
    chat.store.append("lobby", ann, "lost").result(WAIT_S)
    chat.advance(BOUND_S)
    assert heard(anns)[1:] == heard(bobs)[1:] == [("message_changed", "lost")]


def test_while_the_store_is_away_it_waits(
    new_chat: NewChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = new_chat(nodes=1)
    ann = chat.account("Ann")
    anns = chat.enter(chat.nodes[0], ann)
    chat.store.append("lobby", ann, "lost").result(WAIT_S)
    with monkeypatch.context() as patched:
        patched.setattr(type(chat.store), "read", lambda store, call: away())
        for _ in range(10):
            chat.backplane.advance(INTERVAL_S)
        assert not chat.nodes[0].failures
    assert heard(anns) == []
    chat.advance(BOUND_S)
    assert heard(anns) == [("message_changed", "lost")]


def test_who_cannot_be_told_where_they_are_is_not_in(
    new_chat: NewChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = new_chat(nodes=1)
    ann = chat.account("Ann")
    anns = chat.enter(chat.nodes[0], ann)
    bobs = chat.enter(chat.nodes[0], chat.account("Bob"))
    chat.ask(bobs, "leave_room", room="lobby")
    read = type(chat.store).read
    reads: list[object] = []

    def fails_at_second(store: object, call: Callable[..., object]) -> Result[object]:
        reads.append(getattr(call, "func", None))
        if reads.count(standing) < 2:
            return read(chat.store, call)
        reads.clear()
        return away()

    for peer, is_in in ((bobs, False), (anns, True)):
        with monkeypatch.context() as patched:
            reads.clear()
            patched.setattr(type(chat.store), "read", fails_at_second)
            answer = chat.ask(peer, "join_room", room="lobby")
        assert answer["code"] == "store_away"
        room = chat.nodes[0].session(anns).room("lobby")
        assert (chat.nodes[0].session(peer) in room) is is_in
