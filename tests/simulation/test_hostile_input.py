"""Whatever peers send: nothing raises out of the hub, nobody else is hurt, and it ends in time."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver import Peer, Simulation
from frames import BINARY, CLOSE, CONTINUATION, PING, PONG, RSV1, RSV3, TEXT, deflated, frame
from http_responses import read_responses
from invariants import check_invariants, check_nothing_is_left
from raw import close, get, request, text, upgrade
from wireroom.core import App, Context, Limits, RequestAnswered, Session, WebSocket
from wireroom.core.wire.engines import EngineName

FRAMINGS = pytest.mark.parametrize("framing", ["wireroom", "wsproto"])
LIMITS = Limits(
    message_bytes_max=20_000,
    message_fragments_max=50,
    inbox_messages_max=8,
    inbox_bytes_max=10_000,
    outbox_mark_bytes=5_000,
    outbox_bytes_max=40_000,
)
ENDS_WITHIN_S = (
    LIMITS.ping_interval_s
    + LIMITS.ping_timeout_s
    + LIMITS.stall_timeout_s
    + LIMITS.handshake_timeout_s
    + LIMITS.keep_alive_timeout_s
    + 4 * LIMITS.close_timeout_s
)
STATUSES = {200, 204, 400, 403, 404, 405, 408, 426, 431, 503}
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"
PATHS = ("/echo", "/later", "/commands", "/function", "/healthz", "/page", "/nowhere")


def hostile_app(framing: EngineName) -> App:
    """One of everything; no handler fails, whatever it is given."""
    app = App(limits=LIMITS, framing=framing, fd_max=200)
    app.module("/echo").on_message(lambda session, message: message)
    app.http("/healthz")(lambda request: "ok")

    @app.http("/page")
    async def page(request: object) -> bytes:
        return b"x" * 1000

    @app.module("/later").on_message
    async def later(session: Session, message: str | bytes) -> str | bytes:
        await session.sleep(0.1)
        return message

    commands = app.module("/commands")

    @commands.on_open
    def joined(session: Session) -> None:
        session.join("room")

    @commands.command("say")
    def say(ctx: Context, data: dict[str, object]) -> None:
        ctx.room("room").broadcast(data)

    @app.websocket("/function")
    async def function(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            await ws.send(message)

    return app


class Innocent:
    """A peer that behaves, and always gets its answers."""

    def __init__(self, simulation: Simulation, path: str) -> None:
        self.simulation = simulation
        self.count = 0
        self.peer = simulation.open(path)

    def check(self) -> None:
        self.count += 1
        self.peer.send(f"message {self.count}")
        if "later" in str(self.simulation.session(self.peer).path):
            self.simulation.advance(0.1)
        assert self.peer.messages == [f"message {n + 1}" for n in range(self.count)]


def attack(framing: EngineName, pieces: list[bytes], *, opened: str = "") -> Peer:
    """Send pieces to a new server, and see to all that must hold, until all have gone."""
    simulation = Simulation(hostile_app(framing))
    innocent = Innocent(simulation, "/echo")
    peer = simulation.connect()
    peer.polite = False
    if opened:
        peer.open(opened, deflate=True)
    for piece in pieces:
        peer.send_raw(piece)
        check_invariants(simulation)
    innocent.check()
    simulation.advance(ENDS_WITHIN_S)
    assert peer.lost, "a connection that did not end"
    assert simulation.failures == []
    innocent.check()
    innocent.peer.close()
    check_nothing_is_left(simulation)
    return peer


def check_http(peer: Peer) -> None:
    """What a peer received are whole responses, the last perhaps an upgrade."""
    plain, _, _ = bytes(peer.received).partition(b"HTTP/1.1 101 ")
    answered = peer.simulation.said(RequestAnswered, peer)
    responses = read_responses(plain, *(each.method or "GET" for each in answered))
    assert [response.status for response in responses] == [each.status for each in answered]
    assert {response.status for response in responses} <= STATUSES


# -- by hypothesis ------------------------------------------------------------------------------


def cuts(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """Ways to cut `data`."""
    where = st.lists(st.integers(0, len(data)), max_size=4).map(sorted)
    return where.map(
        lambda at: [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]
    )


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """`data` with some of it replaced, left out or repeated."""

    def mutate(changes: list[tuple[int, int, bytes, int]]) -> bytes:
        changed = data
        for at, length, new, repeat in changes:
            start = at % (len(changed) + 1)
            gone = changed[start : start + length]
            changed = changed[:start] + new + gone * repeat + changed[start + length :]
        return changed

    change = st.tuples(
        st.integers(0, 400), st.integers(0, 20), st.binary(max_size=6), st.integers(0, 2)
    )
    return st.lists(change, min_size=1, max_size=4).map(mutate)


HANDSHAKES = st.sampled_from(
    [
        upgrade("/echo") + text("hello"),
        upgrade("/function", DEFLATE) + text("hello") + close(),
        upgrade("/later", "Origin: http://server.example") + frame(PING, b"ping"),
        upgrade("/commands", "Sec-WebSocket-Protocol: a, b") + text('{"type":"say"}'),
        get("/healthz") + get("/page") + request("HEAD", "/page") + get("/nowhere"),
        request("POST", "/healthz", "Content-Length: 5") + b"12345",
    ]
)
FRAMES = st.sampled_from(
    [
        text("hello") + frame(BINARY, b"\x00" * 200) + frame(PING, b"p" * 125) + close(4000, "bye"),
        frame(TEXT, "é".encode()[:1], fin=False) + frame(CONTINUATION, "é".encode()[1:]),
        frame(BINARY, b"a", fin=False) + frame(PONG) + frame(CONTINUATION, b"b") + text("x"),
        frame(BINARY, deflated(bytes(5000)), rsv=RSV1) + text("x"),
        frame(CLOSE, b"\x03\xe8" + b"r" * 123),
        text('{"type":"say","a":[1,2]}') * 3,
        frame(BINARY, b"x" * 20_000) + frame(TEXT, b"y" * 70_000),
    ]
)


@FRAMINGS
@given(data=st.binary(max_size=300).flatmap(cuts))
@settings(deadline=None, max_examples=100)
def test_any_bytes_as_a_request(framing: EngineName, data: list[bytes]) -> None:
    check_http(attack(framing, data))


@FRAMINGS
@given(data=HANDSHAKES.flatmap(mutated).flatmap(cuts))
@settings(deadline=None, max_examples=250)
def test_mutated_requests(framing: EngineName, data: list[bytes]) -> None:
    check_http(attack(framing, data))


@FRAMINGS
@pytest.mark.parametrize("path", PATHS[:4])
@given(data=st.binary(max_size=200).flatmap(cuts))
@settings(deadline=None, max_examples=50)
def test_any_bytes_as_frames(framing: EngineName, path: str, data: list[bytes]) -> None:
    attack(framing, data, opened=path)


@FRAMINGS
@pytest.mark.parametrize("path", PATHS[:4])
@given(data=FRAMES.flatmap(mutated).flatmap(cuts))
@settings(deadline=None, max_examples=60)
def test_mutated_frames(framing: EngineName, path: str, data: list[bytes]) -> None:
    attack(framing, data, opened=path)


@FRAMINGS
@pytest.mark.parametrize("path", ["/echo", "/commands"])
@given(message=st.text(max_size=80) | st.binary(max_size=80))
@settings(deadline=None, max_examples=60)
def test_any_message(framing: EngineName, path: str, message: str | bytes) -> None:
    data = text(message) if isinstance(message, str) else frame(BINARY, message)
    attack(framing, [data], opened=path)


# -- a long random run --------------------------------------------------------------------------


class Siege:
    """Many peers: three that behave, sloppy ones that keep to the protocol, and wild ones."""

    def __init__(self, framing: EngineName, seed: int) -> None:
        self.random = random.Random(seed)
        self.simulation = Simulation(hostile_app(framing))
        paths = ("/echo", "/later", "/function")
        self.innocents = [Innocent(self.simulation, path) for path in paths]
        self.attackers: list[Peer] = []
        self.wild: set[Peer] = set()

    def run(self, steps: int) -> None:
        moves = (self.connect, self.speak, self.speak, self.speak, self.read, self.leave, self.wait)
        for step in range(steps):
            self.random.choices(moves, (3, 6, 6, 6, 2, 1, 1))[0]()
            self.attackers = [peer for peer in self.attackers if not peer.lost]
            if step % 50 == 0:
                check_invariants(self.simulation)
                for innocent in self.innocents:
                    innocent.check()
        for peer in self.attackers:
            peer.polite = False
        self.simulation.advance(ENDS_WITHIN_S)
        assert [peer for peer in self.attackers if not peer.lost] == []
        for innocent in self.innocents:
            innocent.check()
            innocent.peer.close()
        assert self.simulation.failures == []
        check_nothing_is_left(self.simulation)

    def likely(self, probability: float) -> bool:
        return self.random.random() < probability

    def connect(self) -> None:
        if len(self.attackers) >= 60:
            return
        peer = self.simulation.connect()
        self.attackers.append(peer)
        peer.polite = self.likely(0.6)
        if self.likely(0.3):
            self.wild.add(peer)
        if peer not in self.wild or self.likely(0.5):
            peer.open(self.random.choice(PATHS[:4]), deflate=self.likely(0.5))

    def speak(self) -> None:
        if not self.attackers:
            return
        peer = self.random.choice(self.attackers)
        if peer not in self.wild:
            data = b"".join(self.messages())
        else:
            data = self.random.choice((self.noise, self.requests, self.wrong_frames, self.bomb))()
            data = self.mutate(data) if self.likely(0.2) else data
        at = self.random.randrange(len(data) + 1) if self.likely(0.3) else len(data)
        peer.send_raw(data[:at])
        if not peer.lost and self.likely(0.98):
            peer.send_raw(data[at:])

    def messages(self) -> Iterator[bytes]:
        """Frames as they should be, many of them."""
        for _ in range(self.random.choice((1, 1, 2, 5, 40))):
            payload = self.payload((0, 1, 5, 125, 126, 1000, 5000, 20_000))
            opcode = self.random.choice((TEXT, TEXT, BINARY))
            if self.likely(0.2):
                yield frame(self.random.choice((PING, PONG)), payload[:125])
            if self.likely(0.2):
                at = self.random.randrange(len(payload) + 1)
                yield frame(opcode, payload[:at], fin=False) + frame(PING)
                yield frame(CONTINUATION, payload[at:])
            else:
                yield frame(opcode, payload)
        if self.likely(0.02):
            yield close(self.random.choice((1000, 1001, 3000, 4999)))

    def payload(self, sizes: tuple[int, ...]) -> bytes:
        size = self.random.choice(sizes)
        texts = ("é" * (size // 2), '{"type":"say","data":"' + "x" * (size - 30) + '"}', "[" * size)
        return self.random.choice(texts).encode()[:20_000]

    def noise(self) -> bytes:
        return self.random.randbytes(self.random.choice((1, 10, 1000, 20_000)))

    def requests(self) -> bytes:
        headers = [f"X-{n}: {'y' * 50}" for n in range(self.random.choice((0, 5, 99, 300)))]
        make = self.random.choice((get, upgrade))
        return make(self.random.choice(PATHS), *headers) * self.random.choice((1, 1, 3, 30))

    def wrong_frames(self) -> bytes:
        right = b"".join(self.messages())
        opcode, rsv = self.random.randrange(16), self.random.choice((0, 0, RSV3, RSV1))
        payload = self.random.randbytes(self.random.choice((0, 1, 2, 3, 126, 20_001)))
        return right + frame(opcode, payload, fin=self.likely(0.5), rsv=rsv)

    def bomb(self) -> bytes:
        size = self.random.choice((10, 10_000, 1_000_000))
        return frame(BINARY, deflated(bytes(size)), rsv=RSV1)

    def mutate(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(self.random.randrange(1, 4)):
            at = self.random.randrange(len(changed) + 1)
            gone, new = self.random.randrange(3), self.random.randrange(3)
            changed[at : at + gone] = self.random.randbytes(new)
        return bytes(changed)

    def read(self) -> None:
        if self.attackers:
            peer = self.random.choice(self.attackers)
            if self.likely(0.3):
                peer.stall()
            else:
                peer.read(self.random.choice((1, 1000, 100_000, inf)))

    def leave(self) -> None:
        if self.attackers:
            peer = self.random.choice(self.attackers)
            if self.likely(0.5):
                peer.lose()
            else:
                peer.send_eof()

    def wait(self) -> None:
        self.simulation.advance(self.random.choice((0.0, 0.05, 0.5, 3.0, 15.0)))


@FRAMINGS
def test_a_long_random_run(framing: EngineName) -> None:
    """To run a failure again: WIREROOM_SEED=… pytest tests/simulation/test_hostile_input.py"""
    seed = int(os.environ.get("WIREROOM_SEED", random.SystemRandom().randrange(2**32)))
    try:
        Siege(framing, seed).run(steps=2000)
    except BaseException as error:
        error.add_note(f"WIREROOM_SEED={seed}")
        raise
