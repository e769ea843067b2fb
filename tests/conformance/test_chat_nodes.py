"""Two nodes of the chat, joined by Redis: for who uses them they are one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chat_clients import Person, token_of
from chat_nodes import Node
from databases import sqlite_url
from records import Account
from redis_server import PrivateRedis, redis_server
from store import Store
from wireroom.transports.conformance.client import Client

pytestmark = [pytest.mark.servers, pytest.mark.slow]

Enter = Callable[[str, Node], Person]


@pytest.fixture(scope="module")
def redis() -> Iterator[PrivateRedis]:
    yield from redis_server(durable=True)


@pytest.fixture
def nodes(tmp_path: Path, redis: PrivateRedis) -> Iterator[list[Node]]:
    settings = {"DATABASE_URL": sqlite_url(tmp_path), "REDIS_URL": redis.url}
    nodes = [Node(tmp_path, f"node{number}", **settings) for number in range(2)]
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            wait_for_health(node)
        yield nodes
    finally:
        for node in nodes:
            node.kill()


@pytest.fixture
def enter(tmp_path: Path, nodes: list[Node]) -> Iterator[Enter]:
    """Has somebody of a name enter at a node, and leave at the end."""
    store = Store(sqlite_url(tmp_path))
    assert store.start()
    people: list[Person] = []
    accounts: dict[str, Account] = {}

    def enter(name: str, node: Node) -> Person:
        if name not in accounts:
            accounts[name] = store.create_account(name, "none").result(10.0)
        bearer = ("Authorization", f"Bearer {token_of(accounts[name])}")
        person = Person(("127.0.0.1", node.port), headers=[bearer])
        people.append(person)
        return person

    yield enter
    for person in people:
        person.leave()
    assert store.close()


def wait_for_health(node: Node) -> None:
    """Redis is connected to a moment after a node listens, or later."""
    while health(node)["status"] != "ok":
        pass


def names(accounts: list[Any]) -> list[str]:
    return sorted(account["name"] for account in accounts)


def health(node: Node) -> Any:
    return msgspec.json.decode(Client.connect(("127.0.0.1", node.port)).request("/healthz").body)


def test_two_nodes_are_one_chat(nodes: list[Node], enter: Enter) -> None:
    ann, bob = enter("Ann", nodes[0]), enter("Bob", nodes[1])
    ann.ask("join_room", room="lobby")
    position = bob.ask("join_room", room="lobby")["position"]
    ann.hear_joined("Bob")

    def counts(person: Person) -> dict[str, int | None]:
        listed = person.ask("list_rooms")["rooms"]
        return {each["name"]: each["members"] for each in listed}

    # Members are counted at all nodes, where somebody is at this one.
    ann.ask("create_room", room="garden")
    ann.ask("join_room", room="garden")
    assert counts(ann) == {"garden": 1, "lobby": 2}
    bob.hear_joined("Ann")
    assert counts(bob) == {"garden": None, "lobby": 2}

    # Messages, what is for now, and direct messages.
    stored = ann.ask("chat_message", room="lobby", text="hello")
    assert bob.hear("chat_message")["offset"] == stored["offset"]
    bob.send("typing", room="lobby", is_typing=True)
    assert ann.hear("typing")["name"] == "Bob"
    ann.ask("direct_message", to="Bob", text="psst")
    assert bob.hear("direct_message")["text"] == "psst"
    ann.ask("edit_message", room="lobby", offset=1, text="hello!")
    assert bob.hear("message_changed")["text"] == "hello!"

    # Who comes back at the other node misses nothing, and who is there is known.
    bob.leave()
    assert names(ann.hear("presence", joined=[])["left"]) == ["Bob"]
    ann.ask("chat_message", room="lobby", text="where is Bob?")
    bob = enter("Bob", nodes[0])
    back = bob.ask("join_room", room="lobby", position=position)
    assert back["recovered"]
    assert bob.hear("chat_message")["text"] == "hello"
    assert bob.hear("chat_message")["text"] == "where is Bob?"
    eve = enter("Eve", nodes[1])
    eve.ask("join_room", room="lobby")
    eve.hear_joined("Ann", "Bob", "Eve")
    ann.hear_joined("Bob", "Eve")

    # A user at two nodes is one person.
    again = enter("Bob", nodes[1])
    again.ask("join_room", room="lobby")
    bob.leave()
    again.ask("leave_room", room="lobby")
    assert names(ann.hear("presence", joined=[])["left"]) == ["Bob"]


def test_what_nobody_lived_to_announce_is_heard(
    tmp_path: Path, nodes: list[Node], enter: Enter
) -> None:
    people = [enter(name, node) for name, node in zip(("Ann", "Bob"), nodes, strict=True)]
    for person in people:
        person.ask("join_room", room="lobby")
    store = Store(sqlite_url(tmp_path))  # that of a node which is killed then
    assert store.start(60.0)
    found = store.find_account("Ann").result(60.0)
    assert found is not None
    store.append("lobby", found[0], "lost").result(60.0)
    for person in people:
        person.client.sock.settimeout(60.0)
        assert person.hear("message_changed", offset=1)["text"] == "lost"
    assert store.close()


def test_a_node_that_dies_leaves_no_ghosts(nodes: list[Node], enter: Enter) -> None:
    ann, bob = enter("Ann", nodes[0]), enter("Bob", nodes[1])
    for person in (ann, bob):
        person.ask("join_room", room="lobby")
    ann.hear_joined("Bob")
    nodes[1].kill()
    ann.client.sock.settimeout(60.0)  # its lease is 15 s
    assert names(ann.hear("presence", joined=[])["left"]) == ["Bob"]


def test_without_redis_the_chat_goes_on(
    nodes: list[Node], enter: Enter, redis: PrivateRedis
) -> None:
    ann, bob = enter("Ann", nodes[0]), enter("Bob", nodes[1])
    for person in (ann, bob):
        person.ask("join_room", room="lobby")
    redis.kill()
    try:
        assert ann.ask("chat_message", room="lobby", text="hello")["offset"] == 1
        assert ann.ask("history", room="lobby")["messages"][0]["text"] == "hello"
        while health(nodes[0])["status"] == "ok":
            pass
        assert health(nodes[0])["checks"]["backplane"] == "Redis cannot be reached"
    finally:
        redis.start()
    assert bob.hear("chat_message")["text"] == "hello"
    wait_for_health(nodes[0])
