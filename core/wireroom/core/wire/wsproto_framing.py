"""wsproto as the framing engine, behind the same interface as ours, and within the same bounds.

wsproto 1.3 bounds neither sizes nor inflation, forgets that a message is compressed when a
control frame comes between its fragments, sees a surrogate a byte late and does not know close
code 1014. So its own permessage-deflate is not used: `_Guard` is an extension, in wsproto's
sense, that checks each header before wsproto believes it, inflates with our `Inflater`, and keeps
a Close frame's payload to be read by us. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, final

from wsproto.extensions import Extension
from wsproto.frame_protocol import (
    CloseReason,
    Frame,
    FrameDecoder,
    FrameProtocol,
    Opcode,
    ParseFailed,
    RsvBits,
)

from ..errors import RemoteProtocolError
from .close_codes import CloseCode
from .deflate import (
    Deflate,
    DeflateParameters,
    Deflater,
    Inflater,
    MessageTooBig,
    deflated_bytes_max,
    shared_deflater,
)
from .frames import (
    BINARY,
    FIN,
    PING,
    PONG,
    RSV1,
    TEXT,
    close_payload,
    encode_frame,
    ends_in_surrogate,
    parse_close,
)
from .framing import (
    CloseReceived,
    FrameEvent,
    FramingLimits,
    Message,
    PingReceived,
    PongReceived,
    RandomBytes,
    Violation,
    no_randomness,
)
from .framing_engine import Framing

_SLICE: Final = 64 * 1024  # bytes given to wsproto at once, since it copies what it is given
_PARTS_MAX: Final = 1024  # pieces of a message before they are joined
_PLAIN: Final = RsvBits(False, False, False)
_DEFLATED: Final = RsvBits(True, False, False)


@final
class _Guard(Extension):
    """Keeps the bounds, and does permessage-deflate, for one connection."""

    name = "wireroom-guard"

    def __init__(
        self, limits: FramingLimits, inflater: Inflater | None, deflater: Deflater | None
    ) -> None:
        self.reason = ""  # why the last verdict was not OK
        self.compress = False  # whether the message being sent is to be compressed
        self.close_payload = b""  # of the Close frame that was received
        self._limits = limits
        self._inflater = inflater
        self._deflater = deflater
        self._opcode = Opcode.CONTINUATION  # of the frame being received
        self._in_message = False
        self._text = False
        self._compressed = False
        self._fragments = 0
        self._received = 0  # bytes of the message so far, after inflation
        self._last = b""  # the last two of them, if they are text

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool | str:
        return False  # nothing is negotiated by wsproto; see `deflate.negotiate`

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """Called again if the header was cut, so it changes nothing that matters."""
        self._opcode = opcode
        if opcode.iscontrol():
            return _PLAIN
        if (opcode is Opcode.CONTINUATION) != self._in_message:
            return self._verdict(CloseReason.PROTOCOL_ERROR, "a message within, or without, one")
        allowed = _PLAIN
        compressed = self._compressed
        if opcode is not Opcode.CONTINUATION:
            compressed = rsv.rsv1
            if self._inflater is not None:
                allowed = _DEFLATED
            self._fragments = 0
            self._received = 0
        if rsv.rsv2 or rsv.rsv3 or (rsv.rsv1 and not allowed.rsv1):
            return self._verdict(CloseReason.PROTOCOL_ERROR, "a reserved bit is set")
        if self._fragments >= self._limits.message_fragments_max:
            return self._verdict(CloseReason.MESSAGE_TOO_BIG, "the message has too many fragments")
        longest = self._limits.frame_bytes_max
        if compressed:
            longest = deflated_bytes_max(longest)
        elif self._received + payload_length > self._limits.message_bytes_max:
            longest = -1
        if payload_length > longest:
            return self._verdict(CloseReason.MESSAGE_TOO_BIG, "the message is too big")
        if opcode is not Opcode.CONTINUATION:
            self._compressed = compressed
            self._text = opcode is Opcode.TEXT
        return allowed

    def frame_inbound_payload_data(
        self, proto: FrameDecoder | FrameProtocol, data: bytes
    ) -> bytes | CloseReason:
        if self._opcode is Opcode.CLOSE:
            self.close_payload = data
            return b""
        if self._opcode.iscontrol():
            return data
        self._in_message = True
        if self._compressed:
            return self._inflate(data, finish=False)
        self._received += len(data)
        return self._check_text(data)

    def frame_inbound_complete(
        self, proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        if self._opcode.iscontrol():
            return None
        self._fragments += 1
        self._in_message = not fin
        return self._inflate(b"", finish=True) if fin and self._compressed else None

    def frame_outbound(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        data: bytes,
        fin: bool,
    ) -> tuple[RsvBits, bytes]:
        if not self.compress or opcode.iscontrol() or self._deflater is None:
            return rsv, data
        return _DEFLATED, self._deflater.deflate(data)

    def _inflate(self, data: bytes, *, finish: bool) -> bytes | CloseReason:
        assert self._inflater is not None
        room = self._limits.message_bytes_max - self._received
        try:
            inflated = self._inflater.finish(room) if finish else self._inflater.inflate(data, room)
        except MessageTooBig:
            return self._verdict(CloseReason.MESSAGE_TOO_BIG, "the message is too big")
        except RemoteProtocolError as error:
            return self._verdict(CloseReason.INVALID_FRAME_PAYLOAD_DATA, error.message)
        self._received += len(inflated)
        return self._check_text(inflated)

    def _check_text(self, data: bytes) -> bytes | CloseReason:
        """`data`, unless it is text that has gone wrong in a way that wsproto sees too late."""
        if self._text and data:
            last = (self._last + data[-2:])[-2:]
            if ends_in_surrogate(last):
                return self._verdict(
                    CloseReason.INVALID_FRAME_PAYLOAD_DATA, "the text is not UTF-8"
                )
            self._last = last
        return data

    def _verdict(self, code: CloseReason, reason: str) -> CloseReason:
        self.reason = reason
        return code


@final
class WsprotoFraming(Framing):
    """One connection's framing by wsproto. See `Framing` for what the methods mean."""

    __slots__ = (
        "_batch_bytes",
        "_batch_messages",
        "_blocks",
        "_client",
        "_deflater",
        "_ended",
        "_guard",
        "_held",
        "_parts",
        "_protocol",
        "_random_bytes",
        "_threshold",
    )

    def __init__(
        self,
        *,
        client: bool,
        limits: FramingLimits,
        deflate: DeflateParameters | None = None,
        settings: Deflate | None = None,
        random_bytes: RandomBytes = no_randomness,
    ) -> None:
        settings = settings or Deflate()
        super().__init__(None if client else "plain")
        inflater = deflater = None
        if deflate is not None:
            ours, theirs, bits = (
                deflate.server_no_context_takeover,
                deflate.client_no_context_takeover,
                deflate.server_max_window_bits,
            )
            if client:
                ours, theirs, bits = theirs, ours, deflate.client_max_window_bits
            inflater = Inflater(no_context_takeover=theirs)
            if ours:
                deflater = shared_deflater(bits, settings)
            else:
                deflater = Deflater(window_bits=bits, no_context_takeover=False, settings=settings)
            self.sharing_key = deflater if ours and not client else None
        self._client = client
        self._deflater = deflater
        self._random_bytes = random_bytes
        self._threshold = settings.threshold_bytes
        self._batch_messages = limits.batch_messages
        self._batch_bytes = limits.batch_bytes
        self._guard = _Guard(limits, inflater, deflater)
        self._protocol = FrameProtocol(client, [self._guard])
        self._held = b""
        # A message in progress: pieces as they came, and blocks of many pieces, since small ones
        # cost more than what they hold.
        self._parts: list[str | bytes] = []
        self._blocks: list[str | bytes] = []
        self._ended = False

    def hold(self, data: bytes) -> None:
        if not self._ended:
            self._held += data
            self.more = True

    def receive(self, data: bytes) -> list[FrameEvent]:
        events: list[FrameEvent] = []
        self.more = False
        if self._ended:
            return events
        data = self._held + data
        self._held = b""
        room = self._batch_bytes
        position = 0
        try:
            while True:
                for event in self._read_frames():
                    events.append(event)
                    room -= len(event) if isinstance(event, str | bytes) else 0
                    if isinstance(event, CloseReceived):
                        self._end()
                        return events
                    if len(events) >= self._batch_messages or room < 0:
                        self._held = data[position:]
                        self.more = True
                        return events
                if position == len(data):
                    return events
                self._protocol.receive_bytes(data[position : position + _SLICE])
                position = min(position + _SLICE, len(data))
        except RemoteProtocolError as error:
            events.append(Violation(error.close_code, error.message))
        except ParseFailed as error:
            reason = self._guard.reason or str(error)
            events.append(Violation(int(error.code), reason))
        except (UnicodeError, ValueError) as error:
            events.append(Violation(CloseCode.PROTOCOL_ERROR, str(error)))
        self._end()
        return events

    def _read_frames(self) -> Iterator[FrameEvent]:
        for frame in self._protocol.received_frames():
            event = self._read_frame(frame)
            if event is not None:
                yield event

    def _read_frame(self, frame: Frame) -> FrameEvent | None:
        payload = frame.payload
        if isinstance(payload, tuple):
            return parse_close(self._guard.close_payload)
        if frame.opcode is Opcode.PING:
            return PingReceived(_as_bytes(payload))
        if frame.opcode is Opcode.PONG:
            return PongReceived(_as_bytes(payload))
        self._parts.append(payload if isinstance(payload, str) else bytes(payload))
        if not (frame.frame_finished and frame.message_finished):
            if len(self._parts) == _PARTS_MAX:
                self._blocks.append(_joined(self._parts))
                self._parts = []
            return None
        parts = self._blocks + self._parts
        self._parts = []
        self._blocks = []
        return _joined(parts)

    def _end(self) -> None:
        """Nothing more will be read; keep no memory for it."""
        self._ended = True
        self.more = False
        self._held = b""
        self._parts = []
        self._blocks = []

    # wsproto draws a client's masking keys from the operating system, and our randomness is an
    # input. So a client's frames, and control frames, are written by our own encoder.

    def encode_message(self, message: Message) -> bytes:
        payload = message.encode() if isinstance(message, str) else bytes(message)
        compress = self._deflater is not None and len(payload) >= self._threshold
        if not self._client:
            self._guard.compress = compress
            return bytes(self._protocol.send_data(message))
        first = FIN | (TEXT if isinstance(message, str) else BINARY)
        if compress and self._deflater is not None:
            first |= RSV1
            payload = self._deflater.deflate(payload)
        return encode_frame(first, payload, self._masking_key())

    def encode_ping(self, payload: bytes) -> bytes:
        return encode_frame(FIN | PING, payload, self._masking_key())

    def encode_pong(self, payload: bytes) -> bytes:
        return encode_frame(FIN | PONG, payload, self._masking_key())

    def encode_close(self, code: int | None, reason: str) -> bytes:
        return encode_frame(FIN | Opcode.CLOSE, close_payload(code, reason), self._masking_key())

    def _masking_key(self) -> bytes | None:
        return self._random_bytes(4) if self._client else None


def _as_bytes(payload: bytes | str) -> bytes:
    return payload.encode() if isinstance(payload, str) else bytes(payload)


def _joined(parts: list[str | bytes]) -> str | bytes:
    """Pieces of one message, which are of one kind."""
    if isinstance(parts[0], str):
        return "".join(part for part in parts if isinstance(part, str))
    return b"".join(part for part in parts if isinstance(part, bytes))
