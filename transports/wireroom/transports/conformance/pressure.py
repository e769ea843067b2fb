"""Backpressure: peers that read slowly or not at all, and handlers slower than their peers."""

from __future__ import annotations

import math
import threading
from typing import Final

import msgspec

from wireroom.core import App, Context, Hub, Limits, Session, Wait, WebSocket

from .behaviours import Behaviours, Server, Told, needs
from .client import PATIENCE_S, TEXT, Client, frame
from .harness import Feature

_RECEIVE_BUFFER_BYTES: Final = 16 * 1024  # of clients that are not to take much
_CHUNK_BYTES: Final = 32 * 1024
_CHUNKS: Final = 1024  # 32 MiB, far beyond what sockets hold
# Of peers that read late: a Pong would come into the middle of what another thread writes.
_PATIENT: Final = Limits(ping_interval_s=math.inf, stall_timeout_s=math.inf)
_CHUNKS_AHEAD_MAX: Final = 400  # of a sender that waits: sockets of 12 MiB, and our buffers


class Blob(msgspec.Struct):
    """Asks for a message of that many bytes, for everybody else."""

    size: int


def _app(limits: Limits) -> App:
    app = App(limits=limits, deflate=None)
    room = app.module("/room")

    @room.on_open
    def joined(session: Session) -> None:
        session.join("all")

    @room.command("blob")
    def blob(ctx: Context, data: Blob) -> str:
        ctx.room("all").broadcast(b"b" * data.size, exclude=[ctx.session])
        return "sent"

    return app


def _open_silent(server: Server, target: str) -> Client:
    """A session whose client does not read."""
    return server.connect(receive_buffer_bytes=_RECEIVE_BUFFER_BYTES).handshake(target)


def _send_blob(client: Client, size: int) -> None:
    client.send(msgspec.json.encode({"type": "blob", "size": size}).decode())
    assert client.receive() == "sent"


class Pressure(Behaviours):
    """Who is slow holds up nobody else, and costs a bounded amount of memory."""

    @staticmethod
    def _app_that_sends(sent: list[int], told: Told[str]) -> App:
        app = App(limits=_PATIENT, deflate=None)

        @app.websocket("/send")
        async def send(ws: WebSocket) -> None:
            await ws.accept()
            for number in range(_CHUNKS):
                await ws.send(number.to_bytes(2, "big") + bytes(_CHUNK_BYTES - 2))
                sent[0] += 1
            told.put("all sent")

        @app.module("/drain").on_open
        async def drain(session: Session) -> None:
            for number in range(_CHUNKS):
                session.send(number.to_bytes(2, "big") + bytes(_CHUNK_BYTES - 2))
                await session.drain()
                sent[0] += 1
            told.put("all sent")

        @app.module("/echo").on_message
        def echo(session: Session, message: str) -> str:
            return message

        return app

    def test_send_waits_for_a_peer_that_reads_slowly(self, server: Server) -> None:
        self._sender_waits(server, "/send")

    def test_drain_waits_for_a_peer_that_reads_slowly(self, server: Server) -> None:
        self._sender_waits(server, "/drain")

    def _sender_waits(self, server: Server, target: str) -> None:
        sent, told = [0], Told[str]()
        server.start(self._app_that_sends(sent, told))
        slow = _open_silent(server, target)
        server.wait_for("the sender waits", _somebody_waits)
        other = server.open("/echo")
        other.send("still served")
        assert other.receive() == "still served"
        for number in range(_CHUNKS):
            message = slow.receive()
            assert isinstance(message, bytes)
            assert (int.from_bytes(message[:2], "big"), len(message)) == (number, _CHUNK_BYTES)
            assert sent[0] - number <= _CHUNKS_AHEAD_MAX
        assert told.next("the handler is done") == "all sent"

    def test_a_peer_is_not_read_from_while_its_handler_is_behind(self, server: Server) -> None:
        app = App(limits=Limits(inbox_messages_max=4, inbox_bytes_max=64 * 1024))
        go_on = threading.Event()
        handled = [0]

        @app.module("/").on_message
        async def slow(session: Session, message: str) -> str | None:
            while not go_on.is_set():
                await session.sleep(0.01)
            handled[0] += 1
            return "done" if message == "last" else None

        server.start(app)
        client = server.open("/")
        chunk = frame(TEXT, b"x" * _CHUNK_BYTES)
        client.sock.settimeout(0.3)  # by then what can be sent was sent
        written = 0
        try:
            for _ in range(_CHUNKS):
                rest = memoryview(chunk)
                while rest:
                    taken = client.sock.send(rest)
                    rest = rest[taken:]
                    written += taken
        except TimeoutError:
            pass
        assert written < _CHUNKS * len(chunk), "all was read, for a handler that handles nothing"
        assert server.stats.bytes_received < written
        client.sock.settimeout(PATIENCE_S)
        go_on.set()
        # What is left of the frame that was begun.
        client.write(chunk[written % len(chunk) :] if written % len(chunk) else b"")
        client.send("last")
        assert client.receive() == "done"
        assert handled[0] == -(-written // len(chunk)) + 1

    @needs(Feature.STALLS)
    def test_a_peer_that_never_reads_is_aborted_and_the_others_are_served(
        self, server: Server
    ) -> None:
        limits = Limits(stall_timeout_s=0.3, outbox_bytes_max=64 * 2**20)
        server.start(_app(limits))
        silent = [_open_silent(server, "/room") for _ in range(3)]
        ann = server.open("/room")
        for _ in range(16):
            _send_blob(ann, 10**6)
        server.wait_for("they are aborted", lambda hub: hub.stats().stalled == len(silent))
        server.wait_for("they are gone", lambda hub: hub.stats().connections == 1)
        stats = server.stats
        assert (stats.sessions, stats.overflowed) == (1, 0)
        _send_blob(ann, 1)
        for each in silent:
            assert len(each.read_to_end()) < 16 * 10**6

    @needs(Feature.STALLS)
    def test_a_peer_that_reads_too_slowly_is_told_so(self, server: Server) -> None:
        limits = Limits(
            outbox_bytes_max=2 * 2**20,
            stall_timeout_s=math.inf,
            ping_interval_s=math.inf,
            close_timeout_s=PATIENCE_S,
        )
        server.start(_app(limits))
        slow = _open_silent(server, "/room")
        ann = server.open("/room")
        sent = 0
        while not server.stats.overflowed:
            assert sent < 64 * 2**20, "more was kept than the outbox may hold"
            _send_blob(ann, 10**5)
            sent += 10**5
        assert slow.finish() == (1008, "too slow: the outbox is full")
        server.wait_for("it is gone", lambda hub: hub.stats().connections == 1)

    def test_a_peer_that_asks_faster_than_it_reads_is_slowed_down(self, server: Server) -> None:
        app = App(limits=_PATIENT, deflate=None)

        @app.module("/").on_message
        def echo(session: Session, message: bytes) -> bytes:
            return message

        server.start(app)
        client = _open_silent(server, "/")
        chunk = frame(0x2, bytes(_CHUNK_BYTES))
        writer = threading.Thread(target=client.write, args=(chunk * _CHUNKS,), daemon=True)
        writer.start()
        server.wait_for("it is not read from", _somebody_waits)
        assert server.stats.bytes_received < _CHUNKS * len(chunk)
        for _ in range(_CHUNKS):
            assert client.receive() == bytes(_CHUNK_BYTES)
        writer.join(PATIENCE_S)
        assert not writer.is_alive()
        assert server.stats.overflowed == 0


def _somebody_waits(hub: Hub) -> bool:
    return any(isinstance(session.drain(), Wait) for session in hub.sessions())
