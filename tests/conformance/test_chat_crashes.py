"""Two nodes of the chat on PostgreSQL, and on Redis, of which everything is killed in turn while
all talk. Without Redis the members of a room are all at one node.

What is counted: every acknowledged message is in the database once, and every member of its room,
who comes back after each loss, has received each of the room's messages once and in order.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import count, cycle
from pathlib import Path
from typing import TypeAlias

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

# 50 for 500 members, by hand: 68 s on two cores that have little else to do; on loaded ones (four
# busy loops beside it) the half with Redis had not ended after five minutes.
ROOMS = int(os.environ.get("WIREROOM_CRASH_ROOMS", "10"))
MEMBERS_EACH = 10
ROUNDS = 2
PACE_S = 0.25  # between an acknowledgement and a member's next message
STEP = 200  # messages that are acknowledged between two blows
TIMEOUT_S = 180.0  # for a step, on a machine that has other things to do

Server: TypeAlias = Node | PrivatePostgreSQL | PrivateRedis


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
    servers: list[Server] = [*nodes, postgresql]
    if redis is not None:
        servers.append(redis)
    progress = Progress()
    members = new_members(url, nodes, progress, are_joined=redis is not None)
    try:
        for node in nodes:
            node.start()
        asyncio.run(Crashes(members, servers, progress).run())
        assert [node.stop() for node in nodes] == [0, 0]
    except BaseException as error:
        for node in nodes:
            error.add_note(node.said())
        raise
    finally:
        for node in nodes:
            node.kill()
    stored = stored_messages(url)

    assert [problem for member in members for problem in member.problems] == []
    everything = Counter(client_id for room in stored.values() for client_id in room)
    assert not [client_id for client_id, times in everything.items() if times > 1]
    assert [each for member in members for each in differences(member, stored[member.room])] == []
    assert progress.acknowledged == everything.total()
    assert min(member.connections for member in members) > ROUNDS  # which is what this is about
    for node in nodes:
        before, found, after = node.log.read_text().partition("Traceback")
        assert not found, f"{node} logged {before[-1000:]}{found}{after[:4000]}"


def new_members(
    url: str, nodes: list[Node], progress: Progress, *, are_joined: bool
) -> list[Member]:
    """Rooms, and accounts for their members. If the nodes `are_joined`, a room's members connect to
    one after the other."""
    store = Store(url)
    assert store.start(TIMEOUT_S)
    members = []
    for room_number in range(ROOMS):
        room = f"room {room_number}"
        store.create_room(room).result(TIMEOUT_S)
        for number in range(MEMBERS_EACH):
            name = f"member {room_number}.{number}"
            account = store.create_account(name, "none").result(TIMEOUT_S)
            first = room_number + number * are_joined
            order = cycle([nodes[first % 2], nodes[(first + are_joined) % 2]])
            members.append(Member(name, room, token_of(account), partial(next, order), progress))
    assert store.close(TIMEOUT_S)
    return members


class Crashes:
    """All talk until all servers were killed, and then until everybody has heard everything."""

    def __init__(self, members: list[Member], servers: list[Server], progress: Progress) -> None:
        self._members = members
        self._servers = servers
        self._progress = progress
        self._enough = asyncio.Event()

    async def run(self) -> None:
        members, progress = self._members, self._progress
        async with asyncio.TaskGroup() as group:
            lives = [group.create_task(member.live()) for member in members]
            talking = [group.create_task(self._keep_talking(member)) for member in members]
            await self._all_are_in("at the start")
            for number in range(ROUNDS):
                for server in self._servers:
                    await self._strike(server, f"round {number}, {server}")
            self._enough.set()
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.gather(*talking)
            last: Counter[str] = Counter()
            for member in members:
                last[member.room] = max(last[member.room], *member.acknowledged.values())
            await progress.until_all(
                "everything heard", members, lambda each: each.last >= last[each.room], TIMEOUT_S
            )
            for life in lives:
                life.cancel()

    async def _strike(self, server: Server, when: str) -> None:
        """Kill a server while all are in and talk, and start it again."""
        progress = self._progress
        there = {each: each.connections for each in self._members if each.node is server}
        refused = progress.refused["store_away"]
        await asyncio.to_thread(server.kill)
        if isinstance(server, PrivatePostgreSQL):
            await progress.until(
                f"{when}: somebody is refused",
                lambda: progress.refused["store_away"] > refused,
                TIMEOUT_S,
            )
        await asyncio.to_thread(server.start)
        await progress.until_all(
            f"{when}: back", there, lambda each: each.connections > there[each], TIMEOUT_S
        )
        await self._all_are_in(when)

    async def _all_are_in(self, when: str) -> None:
        """And so many messages of theirs are acknowledged."""
        progress = self._progress
        goal = progress.acknowledged + STEP
        await progress.until(
            f"{when}: {STEP} messages", lambda: progress.acknowledged >= goal, TIMEOUT_S
        )
        await progress.until_all(
            f"{when}: in", self._members, lambda each: each.is_in.is_set(), TIMEOUT_S
        )

    async def _keep_talking(self, member: Member) -> None:
        for number in count():
            await member.say(f"{member.name}: {number}")
            if self._enough.is_set():
                return
            await asyncio.sleep(PACE_S)


def differences(member: Member, room: list[str]) -> Iterator[str]:
    """Where what a member knows is not what is stored of its room: `room` by offsets 1, 2, 3 …"""
    stored = dict(enumerate(room, 1))
    for client_id, offset in member.acknowledged.items():
        if stored.get(offset) != client_id:
            yield f"{member}: {client_id!r} was acknowledged as {offset}: {stored.get(offset)!r}"
    for offset in sorted(stored.keys() | member.received.keys()):
        heard = member.received.get(offset)
        if heard != stored.get(offset):
            yield f"{member}: {offset} was heard as {heard!r}, stored as {stored.get(offset)!r}"


def stored_messages(url: str) -> dict[str, list[str]]:
    """The client ids of each room's messages in the database, by their offsets 1, 2, 3 …"""
    store = Store(url)
    assert store.start(TIMEOUT_S)
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
    assert store.close(TIMEOUT_S)
    return found
