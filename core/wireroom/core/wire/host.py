"""What stands in for the wire where a host has done it: an ASGI server, for one. Pure.

The host reads requests and frames; the hub gets whole requests and messages, and gives whole
answers and messages. They come in order through `Hub.data_to_send`, as `bytes` that know what they
are, so that outboxes, their bounds and broadcasts are the same as on the wire.
"""

from __future__ import annotations

from collections import deque
from typing import Final, TypeAlias, final

from ..errors import LocalProtocolError
from .close_codes import CloseCode
from .frames import close_payload
from .framing import CloseReceived, FrameEvent, FramingLimits, Message, Violation
from .framing_engine import Framing
from .handshake import is_own_header
from .http_head import response_parts
from .request import Request, Response

# Of one connection between two machines, which HTTP/2 does not have (RFC 9113 section 8.2.2).
_HOP_BY_HOP: Final = frozenset(("connection", "upgrade"))


@final
class Accepted(bytes):
    """The handshake is accepted. `headers` are the application's; there are no bytes."""

    subprotocol: str | None
    headers: list[tuple[str, str]]


@final
class Answered(bytes):
    """A response to a request, or to a handshake that is refused. The bytes are its body."""

    status: int
    headers: list[tuple[str, str]]


@final
class TextMessage(bytes):
    """A text message, in UTF-8."""

    __slots__ = ()


@final
class BinaryMessage(bytes):
    """A binary message."""

    __slots__ = ()


@final
class CloseMessage(bytes):
    """A Close; the last there is. `code` is None for one without (RFC 6455 section 5.5.1)."""

    code: int | None
    reason: str


HostMessage: TypeAlias = Accepted | Answered | TextMessage | BinaryMessage | CloseMessage
"""What `Hub.data_to_send` gives for a connection that was begun by `Hub.open`."""


@final
class HostReader:
    """Stands in for `RequestReader`: there is one request, and it has been read."""

    __slots__ = ()

    receiving: Final = False
    keeps_alive: Final = False  # what may follow is the host's business
    trailing_data: Final = b""

    def respond(self, request: Request | None, response: Response, *, close: bool) -> Answered:
        """The whole response; whether the host's connection ends is the host's business."""
        headers, body = response_parts(response)
        is_http1 = request is None or request.http_version.startswith("1")
        answered = Answered(b"" if request is not None and request.method == "HEAD" else body)
        answered.status = response.status
        answered.headers = [
            (name, value) for name, value in headers if is_http1 or name.lower() not in _HOP_BY_HOP
        ]
        return answered

    def switch_protocols(self, headers: list[tuple[str, str]]) -> Accepted:
        """The 101 response, of which the host writes all that is the handshake's own."""
        accepted = Accepted()
        accepted.subprotocol = dict(headers).get("Sec-WebSocket-Protocol")
        accepted.headers = [(name, value) for name, value in headers if not is_own_header(name)]
        return accepted


@final
class HostFraming(Framing):
    """Stands in for a framing engine: keeps its bounds and its order, and frames nothing.

    Pings and Pongs are the host's. See `Framing` for what the methods mean.
    """

    __slots__ = (
        "_batch_bytes",
        "_batch_messages",
        "_ended",
        "_events",
        "_message_bytes_max",
    )

    def __init__(self, limits: FramingLimits) -> None:
        super().__init__("host")
        self._message_bytes_max = limits.message_bytes_max
        self._batch_messages = limits.batch_messages
        self._batch_bytes = limits.batch_bytes
        self._events: deque[FrameEvent] = deque()
        self._ended = False

    def give(self, event: Message | CloseReceived) -> None:
        """What the host has received; the next `receive` returns it."""
        if self._ended:
            return
        if type(event) is str and event.isascii() and len(event) <= self._message_bytes_max:
            self._events.append(event)
        else:
            checked = self._checked(event)
            self._ended = isinstance(checked, CloseReceived | Violation)
            self._events.append(checked)
        self.more = True

    def _checked(self, message: FrameEvent) -> FrameEvent:
        if not isinstance(message, str | bytes):
            return message
        try:
            size = _size(message)
        except UnicodeEncodeError:  # half of a surrogate pair
            return Violation(CloseCode.INVALID_PAYLOAD_DATA, "the text is not UTF-8")
        if size > self._message_bytes_max:
            return Violation(
                CloseCode.MESSAGE_TOO_BIG,
                f"the message has more than {self._message_bytes_max} bytes",
            )
        return message

    def hold(self, data: bytes) -> None:
        """What was given is held until it is received."""
        _refuse(data)

    def receive(self, data: bytes) -> list[FrameEvent]:
        """What was given, in order. Raises `LocalProtocolError` for bytes."""
        _refuse(data)
        waiting = self._events
        if len(waiting) == 1:  # as nearly always
            self.more = False
            return [waiting.popleft()]
        events: list[FrameEvent] = []
        room = self._batch_bytes
        while waiting and len(events) < self._batch_messages and room >= 0:
            event = waiting.popleft()
            events.append(event)
            if isinstance(event, str | bytes):
                room -= len(event)
        self.more = bool(waiting)
        return events

    def encode_message(self, message: Message) -> bytes:
        if isinstance(message, str):
            return TextMessage(message.encode())
        return BinaryMessage(message)

    def encode_ping(self, payload: bytes) -> bytes:
        raise LocalProtocolError("Pings are the host's")

    def encode_pong(self, payload: bytes) -> bytes:
        raise LocalProtocolError("Pongs are the host's")

    def encode_close(self, code: int | None, reason: str) -> bytes:
        close = CloseMessage(close_payload(code, reason))
        close.code = code
        close.reason = close[2:].decode()
        return close


def _size(message: Message) -> int:
    """The bytes of a message; of a text, in UTF-8."""
    if isinstance(message, str) and not message.isascii():
        return len(message.encode())
    return len(message)


def _refuse(data: bytes) -> None:
    if data:
        raise LocalProtocolError("the host does the framing: use receive_message")
