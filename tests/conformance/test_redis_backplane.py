"""Servers that a real Redis joins, on each transport, while it is killed, paused and restarted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from programs import Program
from redis_app import Said, make_app
from redis_nodes import HOSTS, TRANSPORTS, Client, Node
from redis_server import PrivateCluster, PrivateRedis, redis_cluster, redis_server
from wireroom.backplanes.redis import RedisBackplane
from wireroom.core import BackplaneSettings, ConfigurationError, History

pytestmark = pytest.mark.servers

SUPPORT = Path(__file__).parents[1] / "support"
STREAM = "wireroom:{room:7:/%7Buser%7D:a}:stream"  # of the room that clients enter


@pytest.fixture(scope="module")
def shared() -> Iterator[PrivateRedis]:
    yield from redis_server()


@pytest.fixture
def redis(shared: PrivateRedis) -> PrivateRedis:
    """Empty; not to be killed."""
    shared.command("FLUSHALL")
    return shared


@pytest.fixture
def own_redis() -> Iterator[PrivateRedis]:
    """To be killed."""
    yield from redis_server()


@pytest.fixture
def durable_redis() -> Iterator[PrivateRedis]:
    """To be killed, and it forgets nothing."""
    yield from redis_server(durable=True)


@pytest.fixture
def cluster() -> Iterator[PrivateCluster]:
    yield from redis_cluster()


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    """Those that a test puts in are stopped."""
    found: list[Node] = []
    yield found
    for node in found:
        node.stop()


def pair(
    nodes: list[Node], redis: PrivateRedis, one: str = "asyncio", two: str = "asyncio"
) -> tuple[Node, Node]:
    nodes += [Node(redis, one), Node(redis, two)]
    for node in nodes:
        node.wait_connected()
    return nodes[0], nodes[1]


@pytest.mark.parametrize("two", TRANSPORTS)
@pytest.mark.parametrize("one", TRANSPORTS)
def test_two_nodes(one: str, two: str, redis: PrivateRedis, nodes: list[Node]) -> None:
    first, second = pair(nodes, redis, one, two)
    assert first.backplane.problem() is None
    ann, bob = Client(first, "ann"), Client(second, "bob")
    for number in range(20):
        ann.say(f"ann {number}")
        bob.say(f"bob {number}")
    heard = ann.hear(40)
    assert heard == bob.hear(40)
    assert [text for text in heard if text[0] == "a"] == [f"ann {each}" for each in range(20)]
    ann.lose()
    for number in range(5):
        bob.say(f"missed {number}")
    bob.hear(45)
    ann.connect(second)
    assert ann.recovered == [True, True]
    assert ann.hear(45) == bob.heard
    ann.close()
    bob.close()


@pytest.mark.parametrize("transport", [*TRANSPORTS, *HOSTS])
def test_users_and_presence(transport: str, redis: PrivateRedis, nodes: list[Node]) -> None:
    first, second = pair(nodes, redis, transport, transport)
    ann, bob = Client(first, "present/ann"), Client(second, "present/bob")
    ann.wait_presence(2)
    assert ann.presence == [(["ann"], []), (["bob"], [])]
    assert first.call(lambda hub: hub.user("bob").send(Said("privately"))) == 0
    assert bob.hear(1) == ["privately"]
    assert first.call(lambda hub: hub.user("bob").close(4003)) == 0
    assert bob.wait_closed() == 4003
    ann.wait_presence(3)
    assert ann.presence[-1] == ([], ["bob"])
    ann.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_redis_is_killed_while_all_talk(
    transport: str, durable_redis: PrivateRedis, nodes: list[Node]
) -> None:
    first, second = pair(nodes, durable_redis, transport, transport)
    ann, bob = Client(first, "ann"), Client(second, "bob")
    ann.say("before")
    bob.hear(1)
    durable_redis.kill()
    for node in nodes:
        node.wait_connected(False)
    ann.say("meanwhile")
    cid = Client(second, "cid", ann.position | {"offset": 0})
    assert cid.hear(1) == ["before"]  # what the node knows, without Redis
    durable_redis.start()
    bob.say("after")
    heard = ann.hear(3)
    assert sorted(heard) == ["after", "before", "meanwhile"]
    assert heard == bob.hear(3) == cid.hear(3)
    assert ann.missed == bob.missed == 0
    for each in (ann, bob, cid):
        each.close()


def test_redis_comes_back_empty(own_redis: PrivateRedis, nodes: list[Node]) -> None:
    first, second = pair(nodes, own_redis)
    ann, bob = Client(first, "ann"), Client(second, "bob")
    ann.say("before")
    bob.hear(1)
    before = bob.position
    own_redis.kill()
    own_redis.start()
    ann.wait_missed()
    bob.wait_missed()
    ann.say("after")
    assert bob.hear(2) == ["before", "after"]
    assert not Client(first, "cid", before).recovered[0]


def test_redis_does_not_answer(own_redis: PrivateRedis, nodes: list[Node]) -> None:
    nodes.append(Node(own_redis, answer_timeout_s=0.2))
    node = nodes[0]
    node.wait_connected()
    ann = Client(node, "ann")
    own_redis.pause()
    node.wait_connected(False)
    ann.say("meanwhile")
    own_redis.resume()
    node.wait_connected()
    assert ann.hear(1) == ["meanwhile"]
    ann.close()


def test_its_connections_are_cut_while_all_talk(redis: PrivateRedis, nodes: list[Node]) -> None:
    first, second = pair(nodes, redis, "asyncio", "blocking")
    clients = [Client(first, "ann"), Client(second, "bob")]
    count = 300

    def talk(client: Client) -> None:
        for number in range(count):
            client.say(f"{client.user} {number}")
            if number % 50 == 25:
                redis.command("CLIENT", "KILL", "TYPE", "normal")
                redis.command("CLIENT", "KILL", "TYPE", "pubsub")

    talking = [threading.Thread(target=talk, args=(client,)) for client in clients]
    for thread in talking:
        thread.start()
    heard = [client.hear(2 * count) for client in clients]
    for thread in talking:
        thread.join()
    assert heard[0] == heard[1]
    for user in ("ann", "bob"):
        assert [text for text in heard[0] if text.startswith(user)] == [
            f"{user} {number}" for number in range(count)
        ]
    assert [client.missed for client in clients] == [0, 0]
    for client in clients:
        client.close()


@pytest.mark.parametrize("transport", [*TRANSPORTS, *HOSTS])
def test_a_node_that_stops_has_said_everything(
    transport: str, redis: PrivateRedis, nodes: list[Node]
) -> None:
    nodes.append(Node(redis))
    nodes[0].wait_connected()
    bob = Client(nodes[0], "bob")
    for turn in range(3):
        node = Node(redis, transport)
        node.wait_connected()
        ann = Client(node, "ann")
        for number in range(50):
            ann.say(f"{turn} {number}")
        node.wait(lambda hub: hub.stats().messages_received >= 51)
        node.stop()
        assert len(bob.hear(50 * (turn + 1))) == 50 * (turn + 1)
    bob.close()


def one_who_said_five(node: Node) -> tuple[Client, Any]:
    """Who has said 1 to 5, and the position before that."""
    node.wait_connected()
    ann = Client(node, "ann")
    start = ann.position
    for text in "12345":
        ann.say(text)
    ann.hear(5)
    return ann, start


def test_the_number_of_messages_that_are_kept_is_bounded(
    redis: PrivateRedis, nodes: list[Node]
) -> None:
    nodes.append(Node(redis, app=make_app(History(messages_max=3, age_s=3600.0))))
    node = nodes[0]
    _ann, start = one_who_said_five(node)
    assert Client(node, "bob", start | {"offset": 2}).hear(3) == ["3", "4", "5"]
    assert Client(node, "bob", start | {"offset": 1}).recovered == [False]
    assert redis.command("XLEN", STREAM) == b":3\r\n"


def test_the_bytes_of_messages_that_are_kept_are_bounded(
    redis: PrivateRedis, nodes: list[Node]
) -> None:
    nodes.append(Node(redis, app=make_app(History(messages_max=100, age_s=3600.0, bytes_max=500))))
    node = nodes[0]
    node.wait_connected()
    ann = Client(node, "ann")
    start = ann.position
    size = len('{"type":"said","text":""}') + 175
    for number in range(10):
        ann.say(f"{number}{'x' * 174}")
    ann.hear(10)
    assert size == 200
    assert redis.command("XLEN", STREAM) == b":2\r\n"
    ann.say("щ" * 300)  # 600 bytes: it is heard, and not kept
    ann.hear(11)
    assert redis.command("XLEN", STREAM) == b":0\r\n"
    for text in "12":
        ann.say(text)
    ann.hear(13)
    assert redis.command("XLEN", STREAM) == b":2\r\n"
    nodes.append(Node(redis, app=make_app(History(messages_max=100, age_s=3600.0, bytes_max=500))))
    nodes[1].wait_connected()
    assert Client(nodes[1], "bob", start | {"offset": 11}).hear(2) == ["1", "2"]
    assert Client(nodes[1], "bob", start | {"offset": 10}).recovered == [False]
    for count, kept in ((14, 3), (15, 4), (16, 2)):
        ann.say("x" * 175)
        ann.hear(count)
        assert redis.command("XLEN", STREAM) == b":%d\r\n" % kept


def test_the_age_of_messages_that_are_kept_is_bounded(
    redis: PrivateRedis, nodes: list[Node]
) -> None:
    app = make_app(History(messages_max=3, age_s=0.3))
    nodes.append(Node(redis, app=app))
    node = nodes[0]
    ann, start = one_who_said_five(node)
    node.wait(lambda hub: redis.command("XLEN", STREAM) == b":0\r\n")
    assert Client(node, "bob", ann.position).recovered == [True]
    ann.lose()
    nodes.append(Node(redis, app=app))
    nodes[1].wait_connected()
    late = Client(nodes[1], "bob", start | {"offset": 4})
    assert late.recovered == [False]
    assert late.position == start | {"offset": 5}


def test_applications_with_other_prefixes_do_not_meet(
    redis: PrivateRedis, nodes: list[Node]
) -> None:
    nodes += [Node(redis, prefix="one"), Node(redis, prefix="two")]
    for node in nodes:
        node.wait_connected()
    ann, bob = Client(nodes[0]), Client(nodes[1])
    ann.say("hello")
    ann.hear(1)
    bob.say("other")
    assert bob.hear(1) == ["other"]
    assert ann.heard == ["hello"]


def test_a_cluster(cluster: PrivateCluster, nodes: list[Node]) -> None:
    nodes += [Node(cluster.url, cluster=True), Node(cluster.url, "trio", cluster=True)]
    for node in nodes:
        node.wait_connected()
    rooms = [f"room-{number}" for number in range(12)]  # of all shards
    anns = [Client(nodes[0], f"ann-{room}", room=room) for room in rooms]
    bobs = [Client(nodes[1], f"bob-{room}", room=room) for room in rooms]
    for round_ in range(3):
        for ann, bob in zip(anns, bobs, strict=True):
            ann.say(f"ann {round_}")
            bob.say(f"bob {round_}")
    for ann, bob in zip(anns, bobs, strict=True):
        assert ann.hear(6) == bob.hear(6)
    kept = [shard.command("DBSIZE") for shard in cluster.shards]
    assert b":0\r\n" not in kept, "all rooms are in one shard"
    cluster.shards[1].kill()  # with a third of the rooms
    for node in nodes:
        node.wait_connected(False)
    for ann in anns:
        ann.say("meanwhile")
    cluster.shards[1].start()
    for ann, bob in zip(anns, bobs, strict=True):
        assert ann.hear(7)[-1] == bob.hear(7)[-1] == "meanwhile"
    for client in anns + bobs:
        client.close()


def test_without_redis_a_server_starts_and_says_so(nodes: list[Node]) -> None:
    settings = BackplaneSettings(recover_timeout_s=0.05)
    nodes.append(Node("unix:///nowhere/at/all", settings=settings))
    ann = Client(nodes[0])
    assert ann.recovered == [False]
    assert nodes[0].call(lambda hub: hub.is_backplane_connected) is False
    assert "ConnectionError" in (nodes[0].backplane.problem() or "")


def test_workers_of_the_command_line(redis: PrivateRedis) -> None:
    arguments = ("--port", "0", "--workers", "2", "--grace-s", "1")
    variables = {"WIREROOM_SERVE_REDIS_URL": redis.url}
    with closing(
        Program(SUPPORT, "serve", "redis_app:make_app", *arguments, env=variables)
    ) as served:
        port = served.port()
        clients = [Client(port, f"user-{number}") for number in range(8)]  # of both, surely
        for client in clients:
            client.say(client.user)
        heard = [client.hear(len(clients)) for client in clients]
        assert all(each == heard[0] for each in heard)
        for client in clients:
            client.close()
        assert served.end() == 0


@pytest.mark.parametrize(
    ("url", "options", "named"),
    [
        ("http://localhost", {}, "REDIS_URL"),
        ("unix:///tmp/x", {"cluster": True}, "REDIS_URL"),
        ("redis://localhost", {"retry_s": 0}, "retry_s"),
        ("redis://localhost", {"answer_timeout_s": -1}, "answer_timeout_s"),
    ],
)
def test_settings_that_cannot_work(url: str, options: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        RedisBackplane(url, **options)  # type: ignore[arg-type]


def test_nothing_secret_is_shown() -> None:
    assert "secret" not in repr(RedisBackplane("redis://:secret@localhost"))
