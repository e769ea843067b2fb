"""What history costs a broadcast; what Redis as backplane does: how long messages take between two
nodes, and how long it takes until all clients of a node that was killed have what they missed.

    python tests/benchmarks/backplane_rounds.py [--sessions 200] [--rate 20] [--seconds 10]
        [--returning 1000]

Needs redis-server. Nodes are processes of their own; they and the clients share this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

SUPPORT: Final = Path(__file__).parents[1] / "support"
sys.path.insert(0, str(SUPPORT))

from processes import allow_many_files  # noqa: E402
from redis_server import PrivateRedis  # noqa: E402 - it stands in a folder of its own
from wireroom.core import App, History, Hub, Room  # noqa: E402

MEMBERS: Final = 500
ROUNDS: Final = 20
SAMPLES: Final = 200
MISSED: Final = 10
_NODE: Final = """
import sys
from redis_app import make_app
from wireroom.backplanes.redis import RedisBackplane
from wireroom.transports.asyncio import run
backplane = RedisBackplane(sys.argv[1]) if sys.argv[1] else None
run(make_app(), "127.0.0.1", 0, uvloop=True, backplane=backplane,
    on_ready=lambda server: print(server.addresses[0][1], flush=True))
"""


def new_room(history: History | None) -> tuple[Hub, Room]:
    """A room of `MEMBERS`, in the core alone."""
    app = App()
    app.module("/", history=history)
    hub = Hub(app, epoch="bench")
    key = base64.b64encode(bytes(16)).decode()
    head = (
        f"GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
    for _ in range(MEMBERS):
        fd = hub.connect(None, now=0.0)
        hub.receive_data(fd, head, now=0.0)
        session = hub.session(fd)
        assert session is not None
        session.join("a")
    _drain(hub)
    return hub, hub.sessions()[0].room("a")


def broadcasts_us() -> dict[str, float]:
    """Microseconds a broadcast of 100 bytes, drained: the least of many samples, in turns."""
    rooms = {"no history": new_room(None), "history": new_room(History())}
    best = dict.fromkeys(rooms, float("inf"))
    message = {"type": "said", "text": "x" * 70}
    for _ in range(SAMPLES):
        for name, (hub, room) in rooms.items():
            begun = time.perf_counter()
            for _ in range(ROUNDS):
                room.broadcast(message)
                _drain(hub)
            best[name] = min(best[name], (time.perf_counter() - begun) / ROUNDS * 1e6)
    return best


def _drain(hub: Hub) -> None:
    for fd in hub.fds_to_send():
        hub.data_to_send(fd)
    while hub.next_output() is not None:
        pass


class Member(asyncio.Protocol):
    """A client that notes how long messages have taken, and with what it was let in."""

    def __init__(self, took: list[float], position: object = None) -> None:
        self._took = took
        self._position = position
        self.entered = b""
        self._buffer = b""
        self.is_in: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(
            b"GET /x HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: " + base64.b64encode(bytes(16)) + b"\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )
        self.say(type="enter", request_id=1, position=self._position)

    def say(self, **fields: object) -> None:
        payload = msgspec.json.encode(fields)
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
        self.transport.write(b"\x81" + length + bytes(4) + payload)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self._buffer += data
        if not self.is_in.done():
            if b'"recovered"' in self._buffer and self._buffer.endswith(b"}}}"):
                self.entered, self._buffer = self._buffer, b""
                self.is_in.set_result(None)
            return
        while len(self._buffer) >= 4:
            size, start = self._buffer[1], 2
            if size == 126:
                size, start = int.from_bytes(self._buffer[2:4]), 4
            if len(self._buffer) < start + size:
                return
            message = self._buffer[start : start + size]
            self._buffer = self._buffer[start + size :]
            if message.startswith(b'{"type":"said"'):
                self._took.append(now - float(msgspec.json.decode(message)["text"]))


async def fan_out(ports: list[int], sessions: int, rate: float, seconds: float) -> None:
    """Say `rate` messages a second at the first node, to `sessions` members at each."""
    loop = asyncio.get_running_loop()
    took: list[list[float]] = []
    speaker: Member | None = None
    for port in ports:
        took.append([])
        for _ in range(sessions):
            _, member = await loop.create_connection(lambda: Member(took[-1]), "127.0.0.1", port)
            await member.is_in
            speaker = speaker or member
    assert speaker is not None
    for _ in range(int(rate * seconds)):
        speaker.say(type="say", text=repr(time.monotonic()))
        await asyncio.sleep(1 / rate)
    await asyncio.sleep(1.0)
    for index, times in enumerate(took):
        times.sort()
        expected = int(rate * seconds) * sessions
        assert len(times) == expected, f"{len(times)} of {expected} have come"
        p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
        print(f"node {index + 1}: p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms, {len(times)} got")


async def come_back(url: str, sessions: int) -> None:
    """Kill a node with so many clients; all come again at once, after some messages."""
    loop = asyncio.get_running_loop()

    async def enter(port: int, position: object = None) -> Member:
        _, member = await loop.create_connection(lambda: Member([], position), "127.0.0.1", port)
        await member.is_in
        return member

    (node, port), (other, other_port) = _start_node(url), _start_node(url)
    try:
        speaker = await enter(other_port)
        members = [await enter(port) for _ in range(sessions)]
        _, _, reply = members[-1].entered.partition(b'"recovered":true,"position":')
        position = msgspec.json.decode(reply[:-2])
        node.kill()
        node.wait()
        for _ in range(MISSED):
            speaker.say(type="say", text=repr(time.monotonic()))
        await asyncio.sleep(0.5)
        node, port = _start_node(url)
        begun = time.monotonic()
        members = await asyncio.gather(*(enter(port, position) for _ in range(sessions)))
        took_s = time.monotonic() - begun
        for member in members:
            assert member.entered.count(b'"type":"said"') == MISSED, member.entered
    finally:
        for process in (node, other):
            process.kill()
            process.wait()
    print(f"{sessions} clients of a killed node back, each with {MISSED} missed: {took_s:.2f} s")


def _start_node(url: str) -> tuple[subprocess.Popen[bytes], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", _NODE, url],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(SUPPORT)},
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--returning", type=int, default=1000)
    arguments = parser.parse_args()
    allow_many_files()
    for name, us in broadcasts_us().items():
        print(f"broadcast to {MEMBERS}, {name}: {us:.1f} µs")
    redis = PrivateRedis()
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        redis.start()
        for what, urls in (("one node, in memory", [""]), ("two nodes, Redis", [redis.url] * 2)):
            started = [_start_node(url) for url in urls]
            nodes += [process for process, _ in started]
            time.sleep(0.5)
            print(f"{what}, {arguments.sessions} sessions each, {arguments.rate:g} messages/s")
            ports = [port for _, port in started]
            asyncio.run(fan_out(ports, arguments.sessions, arguments.rate, arguments.seconds))
            for process, _ in started:
                process.terminate()
                process.wait(10)
        asyncio.run(come_back(redis.url, arguments.returning))
    finally:
        for process in nodes:
            process.kill()
        redis.remove()


if __name__ == "__main__":
    main()
