"""The load generator: raw sockets, precomputed frames, replies counted and never parsed.

A process of its own. It opens the connections, checks one reply on each byte by byte, warms
up, measures, takes what is still in flight, checks one reply on each again, and prints one
JSON object (see `Load`). A reply that is wrong, missing or too much is an error. A reply has a
known length, so counting bytes counts replies; that, and inner loops without method calls,
lets one Python process keep ahead of the servers here. `Load.generator_cpu` shows whether it
did.

Echo: each connection has `--in-flight` messages under way and sends a new one for each reply.
Fan-out: the first connection broadcasts `--in-flight` messages at once, and the next as many
when every client has received all of them.
Idle: `--connections` are opened, `--in-flight` at a time, and stay (see `Idle`).

`--message` and `--reply` are other texts than the 64 bytes that come back; with `--deflate` the
server has to compress its replies; with `--socketio` the texts are events of Socket.IO (protocol 5,
in Engine.IO 4), after its own handshake. `--idle` connections more are open meanwhile, and do
nothing.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import gc
import json
import os
import select
import selectors
import socket
import time
import zlib
from collections.abc import Callable
from pathlib import Path

TEXT = "0123456789abcdef" * 4
MASKING_KEY = b"\x37\xfa\x21\x3d"
HANDSHAKE_TIMEOUT_S = 10.0
STALL_TIMEOUT_S = 10.0
JOIN_DELAY_S = 0.2
QUIET_S = 0.05
IDLE_AT_ONCE = 50

Poll = Callable[[float], list[tuple[int, int]]]
"""Waits at most so many seconds; the file descriptors that can be read."""


def client_frame(opcode: int, payload: bytes, masking_key: bytes = MASKING_KEY) -> bytes:
    """A final, masked frame of less than 126 bytes, RFC 6455 section 5.2."""
    masked = bytes(byte ^ masking_key[i % 4] for i, byte in enumerate(payload))
    return bytes((0x80 | opcode, 0x80 | len(payload))) + masking_key + masked


def server_frame(opcode: int, payload: bytes) -> bytes:
    """A final, unmasked frame of less than 126 bytes, RFC 6455 section 5.2."""
    return bytes((0x80 | opcode, len(payload))) + payload


CLOSE = client_frame(0x8, (1000).to_bytes(2, "big"))
DEFLATE = (
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
    "client_no_context_takeover\r\n"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Exchange:
    """What every client asks, and what it has to get."""

    path: str
    text: str
    reply_text: str
    deflate: bool
    socketio: bool

    @property
    def request(self) -> bytes:
        """The frame to send; never compressed (RFC 7692 section 6)."""
        return client_frame(0x1, self.packet(self.text))

    def packet(self, text: str) -> bytes:
        """A message's payload; the event's name and its data, for Socket.IO."""
        return f'42["m","{text}"]'.encode() if self.socketio else text.encode()

    def learn_reply(self, port: int) -> bytes:
        """The frame that comes back: our own idea of it, or, compressed, the server's."""
        if not self.deflate:
            return server_frame(0x1, self.packet(self.reply_text))
        client = handshake(port, self)
        client.settimeout(STALL_TIMEOUT_S)
        time.sleep(JOIN_DELAY_S)
        client.sendall(self.request)
        frame = client.recv(2)
        while len(frame) < 2 + frame[1] and (received := client.recv(2 + frame[1] - len(frame))):
            frame += received
        client.sendall(CLOSE)
        while client.recv(4096):  # until it is no more in the room
            pass
        client.close()
        inflated = zlib.decompressobj(-15).decompress(frame[2:] + b"\x00\x00\xff\xff")
        if frame[0] != 0xC1 or frame[1] > 125 or inflated != self.reply_text.encode():
            raise RuntimeError(f"not a short compressed reply: {frame!r}")
        return frame


@dataclasses.dataclass(slots=True)
class Load:
    """What was measured. A delivery is one reply received by one client."""

    deliveries: int
    seconds: float
    generator_cpu: float
    """CPU time of this process by wall time: below 1.0 it has waited for the server."""
    server_cpu: float | None
    """The same of the server's process; None where the system does not tell."""


@dataclasses.dataclass(slots=True)
class Idle:
    """What so many idle connections cost: their handshakes a second, and the server's memory."""

    connects_per_s: float
    bytes_each: float | None
    """Resident, of the server's process; None where the system does not tell."""


class Clients:
    """Some WebSocket connections after their handshakes, and one buffer for all they read."""

    def __init__(self, port: int, exchange: Exchange, count: int) -> None:
        self.request = exchange.request
        self.reply = exchange.learn_reply(port)
        self.sockets = [handshake(port, exchange) for _ in range(count)]
        self.poll = readable(self.sockets)
        self.buffer = memoryview(bytearray(65536))

    def send_one(self, client: socket.socket, data: bytes) -> None:
        """Send without waiting; what is in flight always fits into the socket's buffer."""
        if client.send(data) != len(data):
            raise RuntimeError("the socket did not take all requests at once")

    def check_reply(self, client: socket.socket) -> None:
        """Wait for one reply and compare it with what it has to be."""
        client.settimeout(STALL_TIMEOUT_S)
        data = b""
        reply = self.reply
        while len(data) < len(reply) and (received := client.recv(len(reply) - len(data))):
            data += received
        client.setblocking(False)
        if data != reply:
            raise RuntimeError(f"expected {reply!r}, got {data!r}")

    def check_quiet(self) -> None:
        """Nothing more may come."""
        if self.poll(QUIET_S):
            raise RuntimeError("the server has sent more than was due, or closed")

    def close(self) -> None:
        """Leave politely, so that servers log nothing."""
        for client in self.sockets:
            client.send(CLOSE)
            client.close()


class Echo:
    """Every connection keeps its own messages in flight."""

    def __init__(self, clients: Clients, in_flight: int) -> None:
        self.clients = clients
        self.in_flight = in_flight
        # bursts[n]: n requests in one piece.
        self.bursts = [clients.request * count for count in range(in_flight + 1)]
        self.calls = {s.fileno(): (s.recv_into, s.send) for s in clients.sockets}
        self.partial_bytes = dict.fromkeys(self.calls, 0)

    def check(self) -> None:
        for client in self.clients.sockets:
            self.clients.send_one(client, self.clients.request)
            self.clients.check_reply(client)

    def start(self) -> None:
        for client in self.clients.sockets:
            self.clients.send_one(client, self.bursts[self.in_flight])

    def run(self, seconds: float) -> int:
        """Send a message for every reply, for a time; the number of replies."""
        poll, calls, buffer, now = self.clients.poll, self.calls, self.clients.buffer, clock
        reply_bytes, request = len(self.clients.reply), self.clients.request
        deliveries = 0
        end = now() + seconds
        while now() < end:
            for fd, _ in poll_or_stall(poll):
                recv_into, send = calls[fd]
                size = recv_into(buffer)
                if size == reply_bytes:
                    send(request)
                    deliveries += 1
                elif replies := self.whole_replies(fd, size):
                    send(self.bursts[replies])
                    deliveries += replies
        return deliveries

    def whole_replies(self, fd: int, size: int) -> int:
        """How many replies so many bytes more have completed."""
        if not size:
            raise RuntimeError("the server closed a connection")
        replies, self.partial_bytes[fd] = divmod(
            self.partial_bytes[fd] + size, len(self.clients.reply)
        )
        return replies

    def finish(self) -> None:
        """Take the replies that are still in flight."""
        bytes_due = len(self.clients.sockets) * self.in_flight * len(self.clients.reply)
        bytes_due -= sum(self.partial_bytes.values())
        while bytes_due > 0:
            for fd, _ in poll_or_stall(self.clients.poll):
                bytes_due -= self.calls[fd][0](self.clients.buffer)


class FanOut:
    """The first connection broadcasts, all receive."""

    def __init__(self, clients: Clients, in_flight: int) -> None:
        self.clients = clients
        self.burst = clients.request * in_flight
        self.deliveries_due = in_flight * len(clients.sockets)
        self.recv_into = {s.fileno(): s.recv_into for s in clients.sockets}
        for client in clients.sockets:
            delay_acknowledgements(client)

    def check(self) -> None:
        # A server may add a client to the room a little after its 101.
        time.sleep(JOIN_DELAY_S)
        self.clients.send_one(self.clients.sockets[0], self.clients.request)
        for client in self.clients.sockets:
            self.clients.check_reply(client)

    def start(self) -> None:
        """Nothing is in flight between two bursts."""

    def run(self, seconds: float) -> int:
        """Broadcast burst after burst, for a time; the number of replies."""
        deliveries = 0
        end = clock() + seconds
        while clock() < end:
            self.clients.send_one(self.clients.sockets[0], self.burst)
            self.receive(self.deliveries_due * len(self.clients.reply))
            deliveries += self.deliveries_due
        return deliveries

    def receive(self, bytes_due: int) -> None:
        """Wait until so many bytes have come, on all connections together."""
        poll, recv_into, buffer = self.clients.poll, self.recv_into, self.clients.buffer
        while bytes_due > 0:
            for fd, _ in poll_or_stall(poll):
                bytes_due -= recv_into[fd](buffer)

    def finish(self) -> None:
        """Nothing is in flight between two bursts."""


clock = time.perf_counter


def handshake(port: int, exchange: Exchange) -> socket.socket:
    """A connected non-blocking socket on which the server has answered 101."""
    return finish_handshake(begin_handshake(port, exchange), exchange)


def begin_handshake(port: int, exchange: Exchange) -> socket.socket:
    """A connected socket on which a request was sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=HANDSHAKE_TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(b"wireroom's bench").decode()
    extensions = DEFLATE if exchange.deflate else ""
    connection.sendall(
        f"GET {exchange.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n{extensions}"
        f"Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return connection


def finish_handshake(connection: socket.socket, exchange: Exchange) -> socket.socket:
    """Check that the server has answered 101."""
    head = b""
    while b"\r\n\r\n" not in head and (data := connection.recv(4096)):
        head += data
    head, _, rest = head.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        raise RuntimeError(f"no upgrade at {exchange.path}: {head[:200]!r}")
    if exchange.deflate is not (b"permessage-deflate" in head):
        raise RuntimeError(f"compression is not as asked: {head!r}")
    if exchange.socketio:
        rest = take_packet(connection, rest, b"0{")
        connection.sendall(client_frame(0x1, b"40"))
        rest = take_packet(connection, rest, b"40{")
    if rest:
        raise RuntimeError(f"more came than was asked for: {rest!r}")
    connection.setblocking(False)
    return connection


def take_packet(connection: socket.socket, data: bytes, begin: bytes) -> bytes:
    """Read a frame of less than 64 KiB, of which `data` has come; gives what came after it."""
    header = end = 4
    while True:
        if len(data) >= header:
            header = 2 if data[1] < 126 else 4
            end = header + (data[1] if header == 2 else int.from_bytes(data[2:4], "big"))
            if len(data) >= end:
                break
        received = connection.recv(4096)
        if not received:
            raise RuntimeError(f"the connection ended after {data!r}")
        data += received
    payload = data[header:end]
    if not payload.startswith(begin):
        raise RuntimeError(f"not the packet that was due: {data!r}")
    return data[end:]


def delay_acknowledgements(connection: socket.socket) -> None:
    """Spare the generator's core an ACK of its own for every segment, where Linux lets us.

    A client that only receives starts out with immediate ACKs, which cost it as much time as
    the `recv` does.
    """
    if hasattr(socket, "TCP_QUICKACK"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)


def readable(sockets: list[socket.socket]) -> Poll:
    """Bare epoll where there is one: per event it costs half as much as `selectors`."""
    if hasattr(select, "epoll"):
        epoll = select.epoll()
        for connection in sockets:
            epoll.register(connection.fileno(), select.EPOLLIN)
        return epoll.poll
    selector = selectors.DefaultSelector()
    for connection in sockets:
        selector.register(connection, selectors.EVENT_READ)
    return lambda timeout: [(key.fd, mask) for key, mask in selector.select(timeout)]


def poll_or_stall(poll: Poll) -> list[tuple[int, int]]:
    """What can be read; a server that says nothing for long is an error."""
    events = poll(STALL_TIMEOUT_S)
    if not events:
        raise RuntimeError(f"no reply for {STALL_TIMEOUT_S:g} s")
    return events


def measure(shape: Echo | FanOut, warm_up_s: float, seconds: float, server_pid: int) -> Load:
    """Check, warm up, measure, drain, check."""
    shape.check()
    shape.start()
    shape.run(warm_up_s)
    start, own_cpu, server_cpu = clock(), time.process_time(), cpu_seconds(server_pid)
    deliveries = shape.run(seconds)
    elapsed = clock() - start
    load = Load(
        deliveries=deliveries,
        seconds=elapsed,
        generator_cpu=(time.process_time() - own_cpu) / elapsed,
        server_cpu=share(server_cpu, cpu_seconds(server_pid), elapsed),
    )
    shape.finish()
    shape.check()
    shape.clients.check_quiet()
    return load


def measure_idle(port: int, exchange: Exchange, count: int, at_once: int, server_pid: int) -> Idle:
    """Open connections, and see what they cost; a first few are for what is made only once."""
    clients = open_idle(port, exchange, at_once, at_once)
    before = resident_bytes(server_pid)
    start = clock()
    clients += open_idle(port, exchange, count, at_once)
    elapsed = clock() - start
    time.sleep(JOIN_DELAY_S)
    after = resident_bytes(server_pid)
    for client in clients:
        client.close()
    each = None if before is None or after is None else (after - before) / count
    return Idle(connects_per_s=count / elapsed, bytes_each=each)


def open_idle(port: int, exchange: Exchange, count: int, at_once: int) -> list[socket.socket]:
    """So many connections, some of them in their handshake at once."""
    clients: list[socket.socket] = []
    while len(clients) < count:
        begun = [begin_handshake(port, exchange) for _ in range(min(at_once, count - len(clients)))]
        clients += [finish_handshake(each, exchange) for each in begun]
    return clients


def resident_bytes(pid: int) -> int | None:
    """Memory of a process, where Linux's /proc tells; see proc(5)."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float | None:
    """CPU time a process has used so far, where Linux tells: clock_getcpuclockid(3), exactly, where
    /proc would count in hundredths of a second."""
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except (AttributeError, OSError):
        return None


def share(before: float | None, after: float | None, elapsed: float) -> float | None:
    """CPU time used between two readings, by wall time."""
    return None if before is None or after is None else (after - before) / elapsed


def main() -> None:
    """Measure one server, as the command line says."""
    parser = argparse.ArgumentParser(description="Load generator of the Wireroom benchmark.")
    parser.add_argument("shape", choices=("echo", "fanout", "idle"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    parser.add_argument("--warm-up", type=float, default=0.5, help="seconds")
    parser.add_argument("--duration", type=float, default=2.0, help="seconds")
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--message", default=TEXT, help="a text of less than 126 bytes")
    parser.add_argument("--reply", help="the text of its reply, if another")
    parser.add_argument("--deflate", action="store_true")
    parser.add_argument("--socketio", action="store_true")
    parser.add_argument("--idle", type=int, default=0, help="connections that do nothing")
    arguments = parser.parse_args()
    gc.disable()
    port, server_pid = arguments.port, arguments.server_pid
    reply = arguments.message if arguments.reply is None else arguments.reply
    exchange = Exchange(
        arguments.path, arguments.message, reply, arguments.deflate, arguments.socketio
    )
    if arguments.shape == "idle":
        idle = measure_idle(port, exchange, arguments.connections, arguments.in_flight, server_pid)
        print(json.dumps(dataclasses.asdict(idle)))
        return
    doing_nothing = open_idle(port, exchange, arguments.idle, IDLE_AT_ONCE)
    clients = Clients(port, exchange, arguments.connections)
    shape = Echo if arguments.shape == "echo" else FanOut
    driver = shape(clients, arguments.in_flight)
    load = measure(driver, arguments.warm_up, arguments.duration, server_pid)
    clients.close()
    for each in doing_nothing:
        each.close()
    print(json.dumps(dataclasses.asdict(load)))


if __name__ == "__main__":
    main()
