"""A day in the life of a hub, driven by hand: chat, mistakes, violations, silence.

`run()` returns the transcript, every byte and every request that came out of the hub. It is run
by audited.py, twice, in interpreters with different hash seeds: the same bytes must come out.
"""

from __future__ import annotations

import base64
import struct

import msgspec

from wireroom.core import App, Context, Hub, Session

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
CONTINUATION = 0x0
FIN = 0x80
MASK = b"\x12\x34\x56\x78"
STEPS_MAX = 200


class ChatMessage(msgspec.Struct):
    """What the command `chat_message` takes."""

    text: str


def make_app() -> App:
    """The chat of the README, and a handler that fails."""
    app = App()
    chat = app.module("/chat/{room}")

    @chat.on_open
    def joined(session: Session) -> None:
        session.join(session.path_params["room"])

    @chat.command("chat_message")
    def say(ctx: Context, data: ChatMessage) -> None:
        ctx.room(ctx.path_params["room"]).broadcast(data, exclude=[ctx.session])

    @chat.command("fail")
    def fail(ctx: Context) -> None:
        raise ValueError("on purpose")

    return app


def upgrade(path: str, *extra: str) -> bytes:
    """A client's opening handshake (RFC 6455 4.1) with a fixed key."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: chat.example",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(bytes(range(16))).decode()}",
        "Sec-WebSocket-Version: 13",
        *extra,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def frame(opcode: int, payload: bytes, *, fin: bool = True, mask: bytes | None = MASK) -> bytes:
    """A client's frame (RFC 6455 5.2) with a fixed masking key, or none, against the rules."""
    first = opcode | (FIN if fin else 0)
    masked = 0x80 if mask else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, masked | len(payload))
    else:
        head = struct.pack("!BBH", first, masked | 126, len(payload))
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


class Driver:
    """Plays the transport: one input, then one full drain, all of it written down."""

    def __init__(self, app: App) -> None:
        self.hub = Hub(app)
        self.now = 0.0
        self.open: list[int] = []
        self.lines: list[bytes] = []

    def connect(self, port: int) -> int:
        """A new connection; its fd."""
        fd = self.hub.connect(("10.0.0.1", port), now=self.now)
        self.open.append(fd)
        self.drain(f"connect {fd}")
        return fd

    def receive(self, fd: int, data: bytes) -> None:
        """Bytes from the peer, a moment later."""
        self.now += 0.125
        self.hub.receive_data(fd, data, now=self.now)
        self.drain(f"receive {fd}")

    def lose(self, fd: int) -> None:
        """The connection is gone; said once, for only that frees the fd."""
        self.open.remove(fd)
        self.hub.connection_lost(fd, now=self.now)
        self.drain(f"lost {fd}")

    def wait(self, until: float) -> None:
        """Let time pass, stopping at each deadline as a transport's timer would."""
        for _ in range(STEPS_MAX):
            deadline = self.hub.next_timeout()
            if deadline is None or deadline > until:
                break
            self.now = max(self.now, deadline)
            self.hub.handle_timeout(now=self.now)
            self.drain("timeout")
        else:
            raise AssertionError("the hub asks for one timeout after another")
        self.now = until

    def drain(self, after: str) -> None:
        """Write down all that comes out, and carry out what a transport would."""
        self.lines.append(f"{self.now:.6f} {after}".encode())
        for fd in self.open:
            if data := b"".join(self.hub.data_to_send(fd)):
                self.lines.append(b"  to %d: %s" % (fd, repr(data).encode()))
        gone = []
        while (output := self.hub.next_output()) is not None:
            kind, subject = type(output).__name__, getattr(output, "fd", None)
            self.lines.append(f"  {kind} {subject}".encode())
            if kind == "Disconnect" and subject in self.open:
                gone.append(subject)
        for fd in gone:
            self.lose(fd)


def _chat(driver: Driver) -> tuple[int, int]:
    """Two clients meet in a room; one head comes whole, the other byte by byte."""
    alice, bob = driver.connect(4000), driver.connect(4001)
    driver.receive(alice, upgrade("/chat/lobby"))
    for byte in upgrade("/chat/lobby", "Sec-WebSocket-Extensions: permessage-deflate"):
        driver.receive(bob, bytes([byte]))
    hello = b'{"type":"chat_message","text":"hello"}'
    driver.receive(alice, frame(TEXT, hello))
    driver.receive(bob, frame(TEXT, hello[:9], fin=False) + frame(PING, b"between"))
    driver.receive(bob, frame(CONTINUATION, hello[9:]))
    return alice, bob


def _mistakes(driver: Driver, fd: int) -> None:
    """Messages that get an error reply, after which the session goes on."""
    for payload in (
        b"no json",
        b"[]",
        b'{"type":"unknown"}',
        b'{"type":"chat_message"}',
        b'{"type":"chat_message","text":7}',
        b'{"type":"fail"}',
        b'{"type":"chat_message","text":"still here"}',
    ):
        driver.receive(fd, frame(TEXT, payload))
    driver.receive(fd, frame(BINARY, bytes(300)))


def _violations(driver: Driver) -> None:
    """Peers that break the protocol, each on a connection of its own."""
    for number, data in enumerate(
        (
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET /nowhere HTTP/1.1\r\nHost: chat.example\r\n\r\n",
            upgrade("/nowhere"),
            upgrade("/chat/lobby", "Origin: http://elsewhere.example"),
            b"GET /" + b"a" * 40_000,
            upgrade("/chat/lobby") + frame(TEXT, b"{}", mask=None),
            upgrade("/chat/lobby") + frame(TEXT, b"\xff"),
            upgrade("/chat/lobby") + frame(0x3, b""),
            upgrade("/chat/lobby") + frame(CLOSE, b"\x03"),
            upgrade("/chat/lobby") + frame(CLOSE, b"\x03\xe8bye"),
            upgrade("/chat/lobby") + frame(CONTINUATION, b"of nothing"),
        )
    ):
        driver.receive(driver.connect(5000 + number), data)


def run() -> bytes:
    """The whole scenario's transcript."""
    driver = Driver(make_app())
    alice, bob = _chat(driver)
    _mistakes(driver, alice)
    _violations(driver)
    driver.connect(6000)  # never says a word
    driver.receive(bob, frame(CLOSE, b"\x03\xe9"))
    driver.wait(driver.now + 600)
    for fd in tuple(driver.open):
        if fd in driver.open:
            driver.lose(fd)
    return b"\n".join(driver.lines) + b"\n"
