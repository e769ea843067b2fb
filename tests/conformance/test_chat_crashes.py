"""Two nodes of the chat on PostgreSQL, and on Redis, of which everything is killed in turn while
all talk. Without Redis the members of a room are all at one node.

What is counted: every acknowledged message is in the database once, and every member of its room,
who comes back after each loss, has received each of the room's messages once and in order.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, cycle
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from chat_clients import token_of
from chat_members import Member, Progress
from chat_nodes import Node
from databases import postgresql_server
from postgresql import PrivatePostgreSQL
from redis_server import PrivateRedis, redis_server
from schema import messages, rooms
from store import Store

pytestmark = [pytest.mark.servers, pytest.mark.slow]

ROOMS = int(os.environ.get("WIREROOM_CRASH_ROOMS", "10"))  # 50 for 500 members, by hand
MEMBERS_EACH = 10
ROUNDS = 2
PACE_S = 0.25  # between an acknowledgement and a member's next message
STEP = 200  # messages that are acknowledged between two blows
TIMEOUT_S = 60.0  # for a step


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PrivatePostgreSQL]:
    yield from postgresql_server()


@pytest.fixture(params=["postgresql", "postgresql and redis"])
def redis(request: pytest.FixtureRequest) -> Iterator[PrivateRedis | None]:
    yield from redis_server() if "redis" in request.param else [None]


def test_what_was_acknowledged_survives(
    postgresql: PrivatePostgreSQL, redis: PrivateRedis | None, tmp_path: Path
) -> None:
    settings = {"DATABASE_URL": postgresql.new_database()}
    if redis is not None:
        settings["REDIS_URL"] = redis.url
    url = settings["DATABASE_URL"]
    nodes = [Node(tmp_path, f"node{number}", **settings) for number in range(2)]
    servers: list[Node | PrivatePostgreSQL | PrivateRedis] = [*nodes, postgresql]
    if redis is not None:
        servers.append(redis)
    blows = [blow for server in servers for blow in (server.kill, server.start)]
    progress = Progress()
    members = new_members(url, nodes, progress, are_joined=redis is not None)
    try:
        for node in nodes:
            node.start()
        asyncio.run(talk(members, ROUNDS * blows, progress))
        assert [node.stop() for node in nodes] == [0, 0]
    finally:
        for node in nodes:
            node.kill()
    stored = stored_messages(url)

    assert [problem for member in members for problem in member.problems] == []
    everything = Counter(client_id for room in stored.values() for client_id in room)
    assert not [client_id for client_id, times in everything.items() if times > 1]
    for member in members:
        room = stored[member.room]
        assert [room[offset - 1] for offset in member.acknowledged.values()] == list(
            member.acknowledged
        )
        assert [member.received[offset] for offset in sorted(member.received)] == room
        assert member.connections > ROUNDS  # which is what this is about
    assert total(members) == everything.total()
    assert sum((member.refusals for member in members), Counter())["store_away"]
    logs = "".join(node.log.read_text() for node in nodes)
    assert "Traceback" not in logs, logs


def new_members(
    url: str, nodes: list[Node], progress: Progress, *, are_joined: bool
) -> list[Member]:
    """Rooms, and accounts for their members. If the nodes `are_joined`, a room's members connect to
    one after the other."""
    store = Store(url)
    assert store.start()
    members = []
    for room_number in range(ROOMS):
        room = f"room {room_number}"
        store.create_room(room).result(TIMEOUT_S)
        for number in range(MEMBERS_EACH):
            name = f"member {room_number}.{number}"
            account = store.create_account(name, "none").result(TIMEOUT_S)
            first = room_number + number * are_joined
            order = cycle([nodes[first % 2], nodes[(first + are_joined) % 2]])
            members.append(Member(name, room, token_of(account), partial(url_of, order), progress))
    assert store.close()
    return members


def url_of(nodes: Iterator[Node]) -> str:
    """The chat at the next node."""
    return f"ws://127.0.0.1:{next(nodes).port}/chat"


async def talk(members: list[Member], blows: list[Callable[[], None]], progress: Progress) -> None:
    """All talk until all blows have fallen, and then until everybody has heard everything."""
    enough = asyncio.Event()
    lives = [asyncio.create_task(member.live()) for member in members]
    talking = [asyncio.create_task(keep_talking(member, enough)) for member in members]

    async def acknowledged(more: int) -> None:
        before = total(members)
        async with asyncio.timeout(TIMEOUT_S):
            await progress.until(lambda: total(members) >= before + more)

    await acknowledged(STEP)
    for blow in blows:
        await asyncio.to_thread(blow)
        # Of what was begun before the blow, all that can be done is done; the rest waits.
        if blow.__name__ == "start":
            await acknowledged(STEP)
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.gather(*(member.is_in.wait() for member in members))
    enough.set()
    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.gather(*talking)
        last = {
            room: max(
                max(member.acknowledged.values()) for member in members if member.room == room
            )
            for room in {member.room for member in members}
        }
        await progress.until(lambda: all(each.last >= last[each.room] for each in members))
    for life in lives:
        life.cancel()
    await asyncio.gather(*lives, return_exceptions=True)


async def keep_talking(member: Member, enough: asyncio.Event) -> None:
    for number in count():
        await member.say(f"{member.name}: {number}")
        if enough.is_set():
            return
        await asyncio.sleep(PACE_S)


def total(members: list[Member]) -> int:
    return sum(len(member.acknowledged) for member in members)


def stored_messages(url: str) -> dict[str, list[str]]:
    """The client ids of each room's messages in the database, by their offsets 1, 2, 3 …"""
    store = Store(url)
    assert store.start()
    query = (
        select(rooms.c.name, messages.c.offset, messages.c.client_id)
        .join(rooms, rooms.c.id == messages.c.room_id)
        .order_by(rooms.c.id, messages.c.offset)
    )

    def read(connection: Connection) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, offset, client_id in connection.execute(query):
            found.setdefault(name, []).append(client_id)
            assert offset == len(found[name])
        return found

    found = store.read(read).result(TIMEOUT_S)
    assert store.close()
    return found
