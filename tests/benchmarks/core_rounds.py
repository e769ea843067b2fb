"""Times the core alone, in this process, without a transport: dispatch, rooms, ids.

- dispatch: one typed JSON command with a reply, bytes in to bytes out, against the same written by
  hand on websockets' sans-IO core with msgspec;
- rooms: joining and leaving with 10^5 sessions connected, and broadcasts to rooms of 10, 10^3 and
  10^5 of them, per receiver;
- ids: releasing and acquiring with 1 to 1.6 * 10^7 ids in use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from codec_rounds import Contestant, Loop, masked_frame, repetitions
from processes import missing_module, on_server_core
from results import Entry, Table
from wireroom.core import App, Context, Hub, Limits, Session
from wireroom.core.sessions.ids import FD_MAX, Policy, new_fds

HAND_WRITTEN = "by hand"
SESSIONS = 100_000
ROOM_SIZES = {"10": 10, "10^3": 1000, "10^5": SESSIONS}
IDS_IN_USE = {"1": 1, "10^4": 10**4, "10^6": 10**6, "1.6 * 10^7": FD_MAX}
POLICIES: tuple[Policy, ...] = ("rising", "lowest")

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MESSAGE = b'{"type": "say", "room": "lobby", "text": "hello, everybody"}'.ljust(64)


class Say(msgspec.Struct, tag_field="type", tag="say"):
    """The command's data."""

    room: str
    text: str


class Said(msgspec.Struct, tag_field="type", tag="said"):
    """The reply."""

    text: str


def measure(rounds: int, sample_s: float, progress: Callable[[str], None]) -> list[Table]:
    """All tables of this file."""
    with on_server_core():
        prepared = [prepare_dispatch(sample_s), *prepare_rooms(sample_s), *prepare_ids(sample_s)]
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}: core")
            for _, contestants in prepared:
                for contestant in contestants:
                    contestant.measure()
    for table, contestants in prepared:
        for contestant in contestants:  # microseconds a loop, to the table's unit
            scale = UNIT_SCALE[table.key]
            contestant.entry.samples[:] = [sample * scale for sample in contestant.entry.samples]
    return [table for table, _ in prepared]


UNIT_SCALE = {"dispatch": 1.0, "join and leave": 1000.0, "broadcast": 1000.0, "ids": 1000.0 / 2}


def prepare_dispatch(sample_s: float) -> tuple[Table, list[Contestant]]:
    """A typed command with a reply."""
    entries = [Entry("wireroom"), Entry(HAND_WRITTEN, missing=missing_module(("websockets",)))]
    table = Table(
        key="dispatch",
        title="one typed JSON command with a reply, bytes in to bytes out, no transport",
        unit="µs",
        smaller_is_better=True,
        references=(HAND_WRITTEN,),
        entries=entries,
    )
    loops = {"wireroom": dispatch_by_hub, HAND_WRITTEN: dispatch_by_hand}
    contestants = []
    for entry in entries:
        if not entry.missing:
            loop = loops[entry.contestant](masked_frame(MESSAGE))
            contestants.append(Contestant(entry, loop, repetitions(loop, sample_s)))
    return table, contestants


def dispatch_by_hub(frame: bytes) -> Loop:
    """Through the hub, drained after each message as a transport would."""
    app = App(deflate=None)
    module = app.module("/")

    @module.handler
    def say(ctx: Context, data: Say) -> Said:
        return Said(data.text)

    hub = Hub(app)
    fd = connect(hub)

    def loop(times: int) -> bytes:
        sent = b""
        for _ in range(times):
            hub.receive_data(fd, frame, now=0.0)
            for each in hub.fds_to_send():
                sent = b"".join(hub.data_to_send(each))
            while hub.next_output() is not None:
                pass
        return sent

    check(loop(2))
    return loop


def dispatch_by_hand(frame: bytes) -> Loop:
    """On websockets' core: what one would write for this one command, with its checks."""
    from websockets.frames import Frame, Opcode
    from websockets.http11 import Request
    from websockets.server import ServerProtocol

    protocol = ServerProtocol()
    protocol.receive_data(REQUEST)
    (request,) = protocol.events_received()
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    protocol.data_to_send()
    decode = msgspec.json.Decoder(Say).decode
    encode = msgspec.json.Encoder().encode

    def loop(times: int) -> bytes:
        sent = b""
        for _ in range(times):
            protocol.receive_data(frame)
            for event in protocol.events_received():
                assert isinstance(event, Frame)
                if event.opcode is Opcode.TEXT:
                    try:
                        data = decode(event.data)
                    except msgspec.DecodeError as error:
                        protocol.send_text(encode({"type": "error", "message": str(error)}))
                    else:
                        protocol.send_text(encode(Said(data.text)))
            sent = b"".join(protocol.data_to_send())
        return sent

    check(loop(2))
    return loop


def check(sent: bytes) -> None:
    """Nobody wins by doing something else."""
    if sent[2:] != b'{"type":"said","text":"hello, everybody"}':
        raise RuntimeError(f"wrong reply: {sent!r}")


def prepare_rooms(sample_s: float) -> list[tuple[Table, list[Contestant]]]:
    """One hub with 10^5 sessions, in rooms of several sizes."""
    app = App(deflate=None, limits=Limits(outbox_bytes_max=2**40, outbox_mark_bytes=2**40))
    module = app.module("/")
    hub = Hub(app)
    for _ in range(SESSIONS):
        drain(hub, connect(hub))
    sessions = hub.sessions()
    assert module.path == "/"
    joining = Table(
        key="join and leave",
        title=f"joining and leaving a room, {SESSIONS} sessions connected",
        unit="ns",
        smaller_is_better=True,
        references=(),
        entries=[Entry("join and leave")],
    )
    sending = Table(
        key="broadcast",
        title="a broadcast of 64 bytes to a room, a receiver",
        unit="ns",
        smaller_is_better=True,
        references=("room of 10",),
        entries=[Entry(f"room of {label}") for label in ROOM_SIZES],
    )
    loop = join_and_leave(sessions)
    contestants = []
    for entry, size in zip(sending.entries, ROOM_SIZES.values(), strict=True):
        broadcast = broadcast_to(hub, sessions[:size], entry.contestant)
        times = max(1, SESSIONS // size)
        contestants.append(Contestant(entry, per_receiver(broadcast, size), times * size))
    joiner = Contestant(joining.entries[0], loop, repetitions(loop, sample_s))
    return [(joining, [joiner]), (sending, contestants)]


def join_and_leave(sessions: list[Session]) -> Loop:
    """Each time another session."""

    def loop(times: int) -> None:
        for number in range(times):
            session = sessions[number % SESSIONS]
            session.join("somewhere")
            session.leave("somewhere")

    return loop


def broadcast_to(hub: Hub, members: list[Session], name: str) -> Callable[[], None]:
    """One broadcast, and the drain of what it left."""
    for session in members:
        session.join(name)
    room = members[0].room(name)

    def broadcast() -> None:
        room.broadcast("x" * 64)
        for fd in hub.fds_to_send():
            hub.data_to_send(fd)

    return broadcast


def per_receiver(broadcast: Callable[[], None], size: int) -> Loop:
    """A loop that counts receivers instead of broadcasts."""

    def loop(times: int) -> None:
        for _ in range(times // size):
            broadcast()

    return loop


def prepare_ids(sample_s: float) -> list[tuple[Table, list[Contestant]]]:
    """Both policies, at each load."""
    table = Table(
        key="ids",
        title="releasing or acquiring an id, by how many are in use",
        unit="ns",
        smaller_is_better=True,
        references=(),
        entries=[Entry(f"{policy}, {label}") for policy in POLICIES for label in IDS_IN_USE],
    )
    loads = [(policy, count) for policy in POLICIES for count in IDS_IN_USE.values()]
    contestants = []
    for entry, (policy, count) in zip(table.entries, loads, strict=True):
        loop = recycle(policy, count)
        contestants.append(Contestant(entry, loop, repetitions(loop, sample_s)))
    return [(table, contestants)]


def recycle(policy: Policy, in_use: int) -> Loop:
    """Release the newest id and take the next."""
    fds: Any = new_fds(policy, FD_MAX)
    newest = 0
    for _ in range(in_use):
        newest = fds.acquire()

    def loop(times: int) -> None:
        nonlocal newest
        for _ in range(times):
            fds.release(newest)
            newest = fds.acquire()

    return loop


def connect(hub: Hub) -> int:
    """A session that is open, and drained."""
    fd = hub.connect(("10.0.0.1", 4000), now=0.0)
    hub.receive_data(fd, REQUEST, now=0.0)
    drain(hub, fd)
    return fd


def drain(hub: Hub, fd: int) -> None:
    hub.data_to_send(fd)
    hub.fds_to_send()
    while hub.next_output() is not None:
        pass
