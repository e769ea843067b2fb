"""One measurement of the core at a size, in a process of its own, so that no other's memory is in
it: `python tests/benchmarks/scale.py memory|pings|deadlines|receive`. Prints one number.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

from load import client_frame
from wireroom.core import App, Hub, Limits, Session
from wireroom.core.deadlines import Deadlines

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n"
)
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
PONG = client_frame(0xA, b"")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
FRAME_BYTES_MAX = 2**30


def new_hub(limits: Limits | None = None) -> Hub:
    """A module that echoes."""
    app = App(limits=limits)

    @app.module("/").on_message
    def echo(session: Session, message: str | bytes) -> str | bytes:
        return message

    return Hub(app)


def drain(hub: Hub) -> None:
    """What a transport does after an input, but for the writing."""
    for fd in hub.fds_to_send():
        hub.data_to_send(fd)
    while hub.next_output() is not None:
        pass


def open_sessions(hub: Hub, count: int, request: bytes) -> list[int]:
    """So many handshakes, over 20 s of the hub's clock as if they had come one by one."""
    fds = []
    for number in range(count):
        now = 20.0 * number / count
        fd = hub.connect(("10.0.0.1", 4000), now=now)
        hub.receive_data(fd, request, now=now)
        drain(hub)
        fds.append(fd)
    return fds


def resident_bytes() -> int:
    """Of this process, where Linux's /proc tells; see proc(5)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def memory(count: int, deflate: bool) -> float:
    """Resident bytes of the core for each idle session."""
    request = REQUEST % (DEFLATE if deflate else b"")
    hub = new_hub()
    open_sessions(hub, 100, request)  # what is made only once
    gc.collect()
    before = resident_bytes()
    open_sessions(hub, count, request)
    gc.collect()
    return (resident_bytes() - before) / count


def pings(count: int) -> float:
    """CPU of the core in per cent of one, for idle sessions that are pinged every 20 s and
    answer: a minute by the hub's clock, as fast as it goes."""
    hub = new_hub()
    fds = set(open_sessions(hub, count, REQUEST % b""))
    start = time.process_time()
    while (now := hub.next_timeout()) is not None and now < 80.0:
        hub.handle_timeout(now=now)
        for fd in hub.fds_to_send():
            hub.data_to_send(fd)
            hub.receive_data(fd, PONG, now=now)
        while hub.next_output() is not None:
            pass
    used = time.process_time() - start
    if len(hub.sessions()) != len(fds) or hub.stats().messages_received:
        raise RuntimeError("a session was lost")
    return 100.0 * used / 60.0


def deadlines(count: int) -> float:
    """Nanoseconds to move one of so many deadlines later, as every read does; what comes up
    meanwhile included."""
    each: Deadlines[int] = Deadlines()
    for key in range(count):
        each.set(key, 20.0 + key / count)
    moves = max(2 * count, 200_000)
    start = time.perf_counter_ns()
    for number in range(moves):
        now = 20.0 * number / count
        each.set(number % count, now + 20.0)
        if not number % 100:
            each.due(now)
            each.next()
    return (time.perf_counter_ns() - start) / moves


def receive(count: int) -> float:
    """Nanoseconds a byte for a message of so many bytes that comes 64 bytes at a time."""
    hub = new_hub(Limits(message_bytes_max=FRAME_BYTES_MAX, outbox_bytes_max=FRAME_BYTES_MAX))
    (fd,) = open_sessions(hub, 1, REQUEST % b"")
    header = b"\x82\xff" + count.to_bytes(8, "big") + b"\x37\xfa\x21\x3d"
    piece = bytes(64)
    start = time.perf_counter_ns()
    hub.receive_data(fd, header, now=20.0)
    for _ in range(count // len(piece)):
        hub.receive_data(fd, piece, now=20.0)
    elapsed = time.perf_counter_ns() - start
    if hub.stats().messages_received != 1:
        raise RuntimeError("the message is not whole")
    return elapsed / count


MEASUREMENTS: dict[str, Callable[[int], float]] = {
    "memory": lambda count: memory(count, deflate=False),
    "memory-deflate": lambda count: memory(count, deflate=True),
    "pings": pings,
    "deadlines": deadlines,
    "receive": receive,
}


def main() -> None:
    """As the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=MEASUREMENTS)
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    print(MEASUREMENTS[arguments.what](arguments.count))


if __name__ == "__main__":
    main()
