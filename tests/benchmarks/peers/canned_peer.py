"""The limit: an asyncio server that answers canned bytes and parses nothing.

After the handshake it divides the number of bytes received by the size of a frame and writes
as many precomputed frames: at once on /echo, and on /room to every client, one joined write
a client and a turn of the loop. A server in Python can hardly do less on the loop's own
transports; one that calls send(2) from C, as picows does, can.

/echo reads through `BufferedProtocol`, into one buffer for all. /echo_unbuffered reads through
`Protocol`, as most servers do: there asyncio makes a `bytes` of 256 KiB for every read, and
whether malloc serves that from the heap or maps fresh pages decides the speed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from _serve import HOST, main

# The one message that the load generator sends, see load.py; it compares the answers.
TEXT = b"0123456789abcdef" * 4
REQUEST_BYTES = 2 + 4 + len(TEXT)
READ_BUFFER = bytearray(65536)
REPLY = bytes((0x81, len(TEXT))) + TEXT


class Room:
    """All clients of /room, and the frames they get at the end of this turn of the loop."""

    def __init__(self) -> None:
        self.members: set[asyncio.Transport] = set()
        self.frames_due = 0

    def broadcast(self, frames: int) -> None:
        if not self.frames_due:
            asyncio.get_running_loop().call_soon(self.flush)
        self.frames_due += frames

    def flush(self) -> None:
        data = REPLY * self.frames_due
        self.frames_due = 0
        for member in self.members:
            member.write(data)


class Handshake(asyncio.Protocol):
    """Answers the upgrade request, then hands the connection to the protocol of its path."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.head += data
        if not self.head.endswith(b"\r\n\r\n"):
            return
        self.transport.write(upgrade_response(self.head))
        self.transport.set_protocol(self.protocol())

    def protocol(self) -> asyncio.BaseProtocol:
        path = self.head.split(b" ", 2)[1]
        if path == b"/room":
            return Member(self.transport, self.room)
        return (EchoUnbuffered if path == b"/echo_unbuffered" else Echo)(self.transport)


class Echo(asyncio.BufferedProtocol):
    """A reply for every whole request received."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.partial_bytes = 0

    def get_buffer(self, sizehint: int) -> bytearray:
        return READ_BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        frames, self.partial_bytes = divmod(self.partial_bytes + nbytes, REQUEST_BYTES)
        self.transport.write(REPLY * frames)


class EchoUnbuffered(asyncio.Protocol):
    """The same with `data_received`: asyncio allocates 256 KiB for every read."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.partial_bytes = 0

    def data_received(self, data: bytes) -> None:
        frames, self.partial_bytes = divmod(self.partial_bytes + len(data), REQUEST_BYTES)
        self.transport.write(REPLY * frames)


class Member(asyncio.Protocol):
    """A broadcast for every whole request received."""

    def __init__(self, transport: asyncio.Transport, room: Room) -> None:
        self.transport = transport
        self.room = room
        self.partial_bytes = 0
        room.members.add(transport)

    def data_received(self, data: bytes) -> None:
        frames, self.partial_bytes = divmod(self.partial_bytes + len(data), REQUEST_BYTES)
        if frames:
            self.room.broadcast(frames)

    def connection_lost(self, exc: Exception | None) -> None:
        self.room.members.discard(self.transport)


def upgrade_response(head: bytes) -> bytes:
    """The 101 for a request head, RFC 6455 section 4.2.2."""
    lines = head.decode("latin-1").split("\r\n")[1:]
    headers = {name.lower(): value.strip() for name, _, value in (s.partition(":") for s in lines)}
    key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


@asynccontextmanager
async def listen(port: int) -> AsyncIterator[int]:
    room = Room()
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Handshake(room), HOST, port) as server:
        yield server.sockets[0].getsockname()[1]


if __name__ == "__main__":
    main(listen)
