"""The client's side of one connection, from the request to the closing handshake. Pure.

    client = ClientConnection("ws://127.0.0.1:8301/echo", random_bytes=os.urandom)
    socket.send(client.data_to_send())
    for event in client.receive_data(socket.recv(65536)): ...   # and again while client.more

Events are `Opened` or `Refused` once, then messages (`str`, `bytes`) and the events of `framing`.
Pings are answered, and a Close too; the caller's part is to move bytes.
"""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias, final
from urllib.parse import SplitResult, urlsplit

from ..errors import ConfigurationError, LocalProtocolError, RemoteProtocolError
from ..limits import Limits
from . import handshake
from .close_codes import CloseCode, may_be_sent
from .deflate import Deflate
from .engines import new_framing
from .framing import (
    CloseReceived,
    FrameEvent,
    FramingLimits,
    Message,
    PingReceived,
    RandomBytes,
    Violation,
)
from .framing_engine import Framing
from .header_grammar import is_host
from .http_head import Answer, ResponseReader
from .request import HeaderItems, MultiDict
from .states import Input, State, next_state

_DEFAULT_PORTS: Final = {"ws": 80, "wss": 443}
_URL_RE: Final = re.compile(r"[\x21\x22\x24-\x7e]+")  # visible characters but "#"


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """The server accepted the handshake."""

    subprotocol: str | None
    headers: MultiDict


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """The server answered the handshake with something else than 101; nothing more will come."""

    status: int
    headers: MultiDict
    body: bytes


ClientEvent: TypeAlias = FrameEvent | Opened | Refused


def _split_url(url: str) -> SplitResult:
    """The parts of a URL of RFC 6455 section 3, which has no user and no fragment."""
    problem = f"{url!r} is not a ws:// or wss:// URL"
    try:
        parts = urlsplit(url)
        valid = parts.scheme in _DEFAULT_PORTS and is_host(parts.netloc) and parts.port != 0
    except ValueError as error:  # an address or a port that is none
        raise ConfigurationError("url", problem) from error
    if not valid or _URL_RE.fullmatch(url) is None:
        raise ConfigurationError("url", problem)
    return parts


@final
class ClientConnection:
    """One client connection. `random_bytes(n)` gives the key and the masking keys (5.3, 10.3).

    Raises `ConfigurationError` for a URL that is none of RFC 6455 section 3, and
    `LocalProtocolError` for headers or subprotocols that cannot be sent.
    """

    def __init__(
        self,
        url: str,
        *,
        random_bytes: RandomBytes,
        subprotocols: Sequence[str] = (),
        origin: str | None = None,
        headers: HeaderItems = (),
        deflate: Deflate | None = None,
        framing: Literal["wireroom", "wsproto"] = "wireroom",
        limits: Limits | None = None,
    ) -> None:
        parts = _split_url(url)
        self.state = State.REQUEST
        self.host = parts.hostname or ""
        self.port = parts.port or _DEFAULT_PORTS[parts.scheme]
        self.secure = parts.scheme == "wss"
        self._limits = limits or Limits()
        self._random_bytes = random_bytes
        self._engine = framing
        self._subprotocols = tuple(subprotocols)
        self._deflate = deflate
        self._key = base64.b64encode(random_bytes(16)).decode("ascii")
        self._head: ResponseReader | None = ResponseReader(self._limits)
        self._framing: Framing | None = None
        name = f"[{self.host}]" if ":" in self.host else self.host
        default_port = self.port == _DEFAULT_PORTS[parts.scheme]
        request = handshake.request_headers(
            name if default_port else f"{name}:{self.port}",
            self._key,
            subprotocols=self._subprotocols,
            origin=origin,
            headers=headers,
            settings=deflate,
        )
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._pongs: list[bytes] = []  # go before the rest, the newest few
        self._outgoing = [self._head.request(target, request)]
        self._bytes_waiting = len(self._outgoing[0])

    def data_to_send(self) -> bytes:
        """What has to be written now; each byte is given once."""
        data = b"".join(self._pongs + self._outgoing)
        self._pongs.clear()
        self._outgoing.clear()
        self._bytes_waiting = 0
        return data

    @property
    def bytes_waiting(self) -> int:
        """How many bytes `data_to_send` would give, Pongs left out (their number is bounded)."""
        return self._bytes_waiting

    @property
    def has_data_to_send(self) -> bool:
        """Whether `data_to_send` would give anything."""
        return bool(self._outgoing or self._pongs)

    @property
    def more(self) -> bool:
        """Whether `receive_data` stopped at its bound, and should be called again with `b""`."""
        return self._framing is not None and self._framing.more

    def receive_data(self, data: bytes) -> list[ClientEvent]:
        """Take bytes from the server; the events that they complete, in order.

        One call gives at most `inbox_messages_max` messages, or `inbox_bytes_max` and one more,
        however far the bytes inflate; see `more`.

        A server that breaks the protocol gives a `Violation` (code 1002 before the upgrade
        too), after which the caller should write what there is and close.
        """
        events: list[ClientEvent] = []
        if self._head is not None:
            data = self._receive_head(self._head, data, events)
        if self._framing is not None and self.state in (State.OPEN, State.CLOSING):
            self._receive_frames(self._framing, data, events)
        return events

    def receive_eof(self) -> list[ClientEvent]:
        """The server sends nothing more. Gives the `Refused` whose body this ends, a `Violation`
        if there was no complete answer, or nothing."""
        events: list[ClientEvent] = []
        if self._head is not None:
            self._receive_head(self._head, None, events)
        if self.state in (State.OPEN, State.CLOSING):
            self._happened(Input.EOF_RECEIVED)
        return events

    def send(self, message: Message) -> None:
        """Send a text (`str`) or binary (`bytes`) message. Raises `LocalProtocolError`."""
        self._put(self._open_framing().encode_message(message))

    def ping(self, payload: bytes = b"") -> None:
        """Send a Ping of at most 125 bytes. Raises `LocalProtocolError`."""
        if len(payload) > 125:
            raise LocalProtocolError("a Ping carries at most 125 bytes (RFC 6455 section 5.5)")
        self._put(self._open_framing().encode_ping(payload))

    def close(self, code: int | None = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Start the closing handshake (section 7.1.2). Raises `LocalProtocolError`."""
        if code is not None and not may_be_sent(code, client=True):
            raise LocalProtocolError(f"close code {code} may not be sent")
        self._put(self._open_framing().encode_close(code, reason))
        self._happened(Input.CLOSE_SENT)

    def _put(self, frame: bytes) -> None:
        self._outgoing.append(frame)
        self._bytes_waiting += len(frame)

    def _open_framing(self) -> Framing:
        if self.state is not State.OPEN or self._framing is None:
            raise LocalProtocolError(f"the connection is not open but {self.state.name}")
        return self._framing

    def _happened(self, what: Input) -> None:
        self.state = next_state(self.state, what)

    def _receive_head(
        self, head: ResponseReader, data: bytes | None, events: list[ClientEvent]
    ) -> bytes:
        """Read the response, or its end for None; the bytes that follow it."""
        try:
            answer = head.receive_eof() if data is None else head.receive_data(data)
            return b"" if answer is None else self._take_answer(head, answer, events)
        except RemoteProtocolError as error:
            self._head = None
            self._happened(Input.FAILED)
            events.append(Violation(CloseCode.PROTOCOL_ERROR, error.message))
            return b""

    def _take_answer(
        self, head: ResponseReader, answer: Answer, events: list[ClientEvent]
    ) -> bytes:
        status, pairs, body = answer
        headers = MultiDict(pairs, fold_case=True)
        self._head = None
        if status != 101:
            self._happened(Input.REFUSED)
            events.append(Refused(status, headers, body))
            return b""
        subprotocol, agreed = handshake.check_response(
            headers, self._key, subprotocols=self._subprotocols, settings=self._deflate
        )
        self._framing = new_framing(
            self._engine,
            client=True,
            limits=FramingLimits.of(self._limits),
            deflate=agreed,
            settings=self._deflate,
            random_bytes=self._random_bytes,
        )
        self._happened(Input.ACCEPTED)
        events.append(Opened(subprotocol, headers))
        return head.trailing_data

    def _receive_frames(self, framing: Framing, data: bytes, events: list[ClientEvent]) -> None:
        for event in framing.receive(data):
            events.append(event)
            if isinstance(event, PingReceived):
                # Section 5.5.2: also when we have sent a Close, but received none.
                self._pongs.append(framing.encode_pong(event.payload))
                del self._pongs[: -self._limits.pongs_pending_max]
            elif isinstance(event, CloseReceived):
                self._answer_close(framing, event)
            elif isinstance(event, Violation):
                if self.state is State.OPEN:
                    self._put(framing.encode_close(event.code, event.reason))
                self._happened(Input.FAILED)

    def _answer_close(self, framing: Framing, event: CloseReceived) -> None:
        if self.state is State.OPEN:
            code = None if event.code == CloseCode.NO_STATUS_RECEIVED else event.code
            self._put(framing.encode_close(code, ""))
        self._happened(Input.CLOSE_COMPLETED)
