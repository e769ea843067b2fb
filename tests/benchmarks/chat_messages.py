"""How many messages a second the chat stores and broadcasts, on SQLite and on PostgreSQL.

    python tests/benchmarks/chat_messages.py
    python tests/benchmarks/chat_messages.py --only postgresql --seconds 10 --transport blocking

One node, as `make run` starts it, in a process of its own. In some rooms, some of the members say
something as soon as what they said before is acknowledged, which it is after its commit; all
members hear it. SQLite waits for the disk at each commit (`synchronous=FULL`), and so does the
private PostgreSQL that is started for it; messages that arrive meanwhile share the next. A delivery
is one message received by one member; a latency is from sending one to its acknowledgement.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).resolve().parent
sys.path[:0] = [
    str(HERE.parent / "support"),
    str(HERE.parents[1] / "docs" / "examples" / "chat"),
]

from chat_clients import token_of  # noqa: E402 - the path comes first
from chat_nodes import Node  # noqa: E402
from postgresql import PrivatePostgreSQL  # noqa: E402
from store import Store  # noqa: E402

WARM_UP_S: Final = 1.0
TEXT: Final = "0123456789abcdef" * 4
_KEY: Final = b"\x00\x00\x00\x00"  # a masking key that leaves a payload as it is


class Shape(NamedTuple):
    """Rooms, members of each, and how many of them speak."""

    rooms: int
    members: int
    speakers: int


SHAPES: Final = (Shape(1, 2, 1), Shape(50, 4, 4), Shape(10, 50, 5), Shape(1, 500, 10))


class Counts:
    """What all members have seen."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []
        self.deliveries = 0
        self.errors: list[bytes] = []


class Connection(asyncio.Protocol):
    """A member's connection. Frames of the server are taken apart, their JSON is not."""

    def __init__(self, room: str, token: str, counts: Counts) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.speaks = False
        self._counts = counts
        self._room = room
        self._token = token
        self._buffer = b""
        self._is_open = False
        self._sent_at = 0.0
        self._number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            "GET /chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Authorization: Bearer {self._token}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        start = 0
        if not self._is_open:
            start = buffer.find(b"\r\n\r\n") + 4
            if start < 4:
                self._buffer = buffer
                return
            assert buffer.startswith(b"HTTP/1.1 101"), buffer
            self._is_open = True
            self._send({"type": "join_room", "request_id": 0, "room": self._room})
        end = len(buffer)
        while end - start >= 2:
            size = buffer[start + 1]
            payload = start + 2
            if size == 126:
                size = int.from_bytes(buffer[payload : payload + 2], "big")
                payload += 2
            elif size == 127:
                size = int.from_bytes(buffer[payload : payload + 8], "big")
                payload += 8
            if end < payload + size:
                break
            if buffer[start] == 0x81:
                self._take(buffer[payload : payload + 24], buffer, payload, size)
            start = payload + size
        self._buffer = buffer[start:]

    def _take(self, head: bytes, buffer: bytes, payload: int, size: int) -> None:
        if head.startswith(b'{"type":"chat_message"'):
            self._counts.deliveries += 1
        elif head.startswith(b'{"type":"reply"'):
            if not self.opened.done():
                self.opened.set_result(None)
            elif self.speaks:
                self._counts.latencies_s.append(time.perf_counter() - self._sent_at)
                self.speak()
        elif head.startswith(b'{"type":"error"'):
            self._counts.errors.append(buffer[payload : payload + size])

    def speak(self) -> None:
        """Say something, and go on with that."""
        self._number += 1
        self._sent_at = time.perf_counter()
        self._send(
            {"type": "chat_message", "request_id": self._number, "room": self._room, "text": TEXT}
        )

    def _send(self, message: object) -> None:
        payload = json.dumps(message).encode()
        assert 126 <= len(payload) < 1 << 16 or len(payload) < 126
        size = (
            bytes([0x80 | len(payload)])
            if len(payload) < 126
            else b"\xfe" + len(payload).to_bytes(2, "big")
        )
        self._transport.write(b"\x81" + size + _KEY + payload)

    def close(self) -> None:
        self._transport.abort()


async def measure(port: int, tokens: dict[str, list[str]], shape: Shape, seconds: float) -> Counts:
    """Have all members of the rooms connect, and their speakers speak for a time."""
    loop = asyncio.get_running_loop()
    counts = Counts()
    connections: list[Connection] = []
    speakers: list[Connection] = []
    for room, room_tokens in tokens.items():
        for number, token in enumerate(room_tokens):
            new = partial(Connection, room, token, counts)
            _, connection = await loop.create_connection(new, "127.0.0.1", port)
            await connection.opened
            connections.append(connection)
            if number < shape.speakers:
                speakers.append(connection)
    for speaker in speakers:
        speaker.speaks = True
        speaker.speak()
    await asyncio.sleep(WARM_UP_S)
    counts.latencies_s.clear()
    counts.deliveries = 0
    await asyncio.sleep(seconds)
    for speaker in speakers:
        speaker.speaks = False
    for connection in connections:
        connection.close()
    return counts


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty one, on the disk of the temporary folder."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/chat.sqlite3"
        return
    server = PrivatePostgreSQL(durable=True)
    try:
        server.start()
        yield server.new_database()
    finally:
        server.remove()


def prepare(url: str, shape: Shape) -> dict[str, list[str]]:
    """Rooms, and a token for each member."""
    store = Store(url)
    assert store.start()
    tokens: dict[str, list[str]] = {}
    for number in range(shape.rooms):
        room = f"room {number}"
        store.create_room(room).result(10.0)
        accounts = [
            store.create_account(f"member {number}.{each}", "none") for each in range(shape.members)
        ]
        tokens[room] = [token_of(account.result(10.0)) for account in accounts]
    assert store.close()
    return tokens


def cpu_s(pid: int) -> float:
    """The CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--transport", default="asyncio")
    arguments = parser.parse_args()
    print(
        "database    rooms  members  speakers  stored/s  deliveries/s  p50 ms  p99 ms  server CPU",
        flush=True,
    )
    for kind in [arguments.only] if arguments.only else ["sqlite", "postgresql"]:
        for shape in SHAPES:
            with (
                tempfile.TemporaryDirectory(prefix="wireroom-") as name,
                database(kind, Path(name)) as url,
            ):
                tokens = prepare(url, shape)
                node = Node(Path(name), "node", DATABASE_URL=url)
                node.start("--transport", arguments.transport)
                try:
                    begun, used = time.perf_counter(), cpu_s(node.pid)
                    counts = asyncio.run(measure(node.port, tokens, shape, arguments.seconds))
                    server_cpu = (cpu_s(node.pid) - used) / (time.perf_counter() - begun)
                finally:
                    node.stop()
            assert not counts.errors, counts.errors[:3]
            cuts = statistics.quantiles(counts.latencies_s, n=100)
            print(
                f"{kind:<11} {shape.rooms:>5}  {shape.members:>7}  {shape.speakers:>8}"
                f"  {len(counts.latencies_s) / arguments.seconds:>8,.0f}"
                f"  {counts.deliveries / arguments.seconds:>12,.0f}"
                f"  {1e3 * cuts[49]:>6.1f}  {1e3 * cuts[98]:>6.1f}  {server_cpu:>10.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
