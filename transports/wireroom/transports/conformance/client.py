"""A blocking WebSocket client that does exactly what a test says, and nothing by itself.

wsproto is its codec, so that the peer is somebody else's code; h11 reads plain responses. Bytes can
be sent as they are, one by one, or not at all; the socket can be half closed, reset, or not read.
Every wait is bounded, and what does not come is an AssertionError that says what it was.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, final

import h11
import wsproto
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.extensions import Extension, PerMessageDeflate

from .harness import Address

PATIENCE_S: Final = 60.0  # how long anything may take, on a machine that is busy
_READ_BYTES: Final = 64 * 1024

CONTINUATION, TEXT, BINARY, CLOSE, PING = 0x0, 0x1, 0x2, 0x8, 0x9


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True
) -> bytes:
    """One frame, legal or not (RFC 6455 section 5.2); its masking key is zero."""
    size = len(payload)
    head = bytes([(0x80 if fin else 0) | rsv | opcode])
    mask = 0x80 if masked else 0
    if size < 126:
        head += bytes([mask | size])
    elif size < 1 << 16:
        head += struct.pack("!BH", mask | 126, size)
    else:
        head += struct.pack("!BQ", mask | 127, size)
    return head + bytes(4 if masked else 0) + payload


class HttpResponse(NamedTuple):
    """A response to a plain request, or to a handshake that was refused; names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Closed(Exception):  # noqa: N818 - not a failure: it is what the peer wants
    """The server has sent a Close, or ended the stream without one (1006)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the server closed with {code} ({reason!r})")
        self.code = code
        self.reason = reason


class Refused(Exception):  # noqa: N818
    """The server has refused the handshake."""

    def __init__(self, response: HttpResponse) -> None:
        super().__init__(f"the server refused with {response.status}: {response.body!r}")
        self.response = response


@final
class Client:
    """One connection. Not to be used by several threads at a time."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE_S)
        self.sock = sock
        self.accepted = AcceptConnection()  # how the server accepted the handshake
        self.ponged: list[bytes] = []  # payloads of Pongs that came
        self.pinged = 0  # Pings that came, and were answered
        self.answers_pings = True
        self._ws = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._events: Iterator[Event] = iter(())
        self._ended = False  # the stream, by the server

    @classmethod
    def connect(
        cls,
        address: Address,
        *,
        tls: ssl.SSLContext | None = None,
        receive_buffer_bytes: int | None = None,
    ) -> Self:
        """Connect, to `localhost` if TLS asks. A small receive buffer (SO_RCVBUF) makes a client
        that does not read hold up its server sooner."""
        family = (
            socket.AF_UNIX
            if isinstance(address, str)
            else socket.AF_INET6
            if ":" in address[0]
            else socket.AF_INET
        )
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(PATIENCE_S)
            if receive_buffer_bytes is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            sock.connect(address)
            if family is not socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                sock = tls.wrap_socket(sock, server_hostname="localhost")
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.drop()

    # -- bytes --------------------------------------------------------------------------------

    def write(self, data: bytes, *, piece_bytes: int | None = None) -> None:
        """Send bytes as they are, whole or in pieces."""
        step = piece_bytes or max(1, len(data))
        try:
            for start in range(0, len(data), step):
                self.sock.sendall(data[start : start + step])
        except TimeoutError:
            raise AssertionError(f"the server took nothing for {PATIENCE_S:g} s") from None

    def read(self, expected: str = "bytes") -> bytes:
        """What comes next, or nothing at the end of the stream, in order or by a reset."""
        try:
            data = self.sock.recv(_READ_BYTES)
        except TimeoutError:
            raise AssertionError(f"{expected} did not come within {PATIENCE_S:g} s") from None
        except ConnectionError:
            data = b""
        self._ended = self._ended or not data
        return data

    def read_to_end(self) -> bytes:
        """All until the end of the stream."""
        received = bytearray()
        while data := self.read("the end of the stream"):
            received += data
        return bytes(received)

    def half_close(self) -> None:
        """End our side; what the server sends still comes."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Be gone with a reset (RST), as a process that was killed."""
        with suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def drop(self) -> None:
        """Be gone without a Close."""
        self.sock.close()

    # -- HTTP ---------------------------------------------------------------------------------

    def request(self, target: str, method: str = "GET", **headers: str) -> HttpResponse:
        """A plain request on a connection that is used for nothing else, and its response."""
        connection = h11.Connection(h11.CLIENT)
        fields = [("Host", "localhost"), ("Connection", "close"), *headers.items()]
        self.write(
            connection.send(h11.Request(method=method, target=target, headers=fields)) or b""
        )
        self.write(connection.send(h11.EndOfMessage()) or b"")
        status, found, body = 0, {}, bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(self.read(f"the response to {method} {target}"))
            elif isinstance(event, h11.Response):
                status, found = event.status_code, _by_name(list(event.headers))
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self.drop()
                return HttpResponse(status, found, bytes(body))
            else:
                raise AssertionError(f"no response to {method} {target}: {event!r}")

    # -- the handshake ------------------------------------------------------------------------

    def upgrade(
        self,
        target: str,
        *,
        host: str = "localhost",
        subprotocols: Sequence[str] = (),
        headers: Sequence[tuple[str, str]] = (),
        deflate: bool = False,
    ) -> bytes:
        """The bytes of an opening handshake, which is to be sent then."""
        extensions: list[Extension] = [PerMessageDeflate()] if deflate else []
        return self._ws.send(
            Request(
                host=host,
                target=target,
                subprotocols=list(subprotocols),
                extensions=extensions,
                extra_headers=[(name.encode(), value.encode()) for name, value in headers],
            )
        )

    def handshake(self, target: str, **options: Any) -> Self:
        """Open a session; the options are those of `upgrade`. Raises `Refused`."""
        self.write(self.upgrade(target, **options))
        return self.await_acceptance()

    def await_acceptance(self) -> Self:
        """Read the answer to the handshake. Raises `Refused`."""
        event = self._next_event("the answer to the handshake")
        if isinstance(event, AcceptConnection):
            self.accepted = event
            return self
        if not isinstance(event, RejectConnection):
            raise AssertionError(f"the answer to the handshake is {event!r}")
        body = b""
        finished = not event.has_body
        while not finished:
            data = self._next_event("the body of the refusal")
            if not isinstance(data, RejectData):
                raise AssertionError(f"the body of the refusal is {data!r}")
            body += data.data
            finished = data.body_finished
        raise Refused(HttpResponse(event.status_code, _by_name(event.headers), body))

    @property
    def accepted_headers(self) -> dict[str, str]:
        """Headers of the server's acceptance; names are lower-case."""
        return _by_name(self.accepted.extra_headers)

    # -- messages -----------------------------------------------------------------------------

    def encode(self, *messages: str | bytes | Event) -> bytes:
        """The bytes of messages, or of other things that wsproto sends."""
        return b"".join(map(self._encode, messages))

    def _encode(self, message: str | bytes | Event) -> bytes:
        if isinstance(message, str):
            return self._ws.send(TextMessage(message))
        return self._ws.send(BytesMessage(message) if isinstance(message, bytes) else message)

    def send(self, *messages: str | bytes | Event) -> None:
        """Send messages, in one write."""
        self.write(self.encode(*messages))

    def receive(self, expected: str = "a message") -> str | bytes:
        """The next message; Pings are answered. Raises `Closed`."""
        parts: list[Any] = []
        while True:
            event = self._next_event(expected)
            if isinstance(event, Message):
                parts.append(event.data)
                if event.message_finished:
                    whole = type(parts[0])().join(parts)
                    return whole if isinstance(whole, str) else bytes(whole)
            elif isinstance(event, Ping):
                self.pinged += 1
                if self.answers_pings:
                    self.send(event.response())
            elif isinstance(event, Pong):
                self.ponged.append(bytes(event.payload))
            elif isinstance(event, CloseConnection):
                raise Closed(event.code, event.reason or "")

    def await_ping(self) -> None:
        """Read until the server has pinged once more."""
        before = self.pinged
        while self.pinged == before:
            event = self._next_event("a Ping")
            if not isinstance(event, Ping):
                raise AssertionError(f"in place of a Ping came {event!r}")
            self.pinged += 1
            if self.answers_pings:
                self.send(event.response())

    def await_close(self) -> tuple[int, str]:
        """Read messages until the server's Close, and leave it unanswered: its code and reason."""
        try:
            while True:
                self.receive("a Close")
        except Closed as closed:
            return closed.code, closed.reason

    def close(self, code: int = 1000, reason: str = "") -> int:
        """The closing handshake, until the server ends the stream; the code that it answers."""
        self.send(CloseConnection(code, reason))
        answered, _ = self.await_close()
        self.read_to_end()
        self.drop()
        return answered

    def finish(self) -> tuple[int, str]:
        """Read until the server's Close, answer it, and read until the stream ends."""
        code, reason = self.await_close()
        if self._ws.state is ConnectionState.REMOTE_CLOSING:
            with suppress(OSError):
                self.sock.sendall(self._ws.send(CloseConnection(code, reason)))
        self.read_to_end()
        self.drop()
        return code, reason

    def _next_event(self, expected: str) -> Event:
        while True:
            event = next(self._events, None)
            if event is not None:
                return event
            if self._ended:
                raise Closed(1006, f"the stream ended before {expected}")
            data = self.read(expected)
            if data or self._ws.state is ConnectionState.REJECTING:
                self._ws.receive_data(data or None)
            self._events = iter(self._ws.events())


def _by_name(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode().lower(): value.decode() for name, value in headers}
