"""Our framing engine (RFC 6455 section 5), for both roles, in one pass over each read. Pure.

`FrameCodec.receive` looks at every byte once: a whole small message takes a short path of its
own; everything else goes through `_receive_payload`, which inflates, checks and stores a payload
piece by piece as it arrives, so that a violation is seen at its first byte and no bound is passed
before memory is spent. A text's pieces are kept decoded where that takes no more memory, so that a
long text is decoded once; what is left at the end is to join them. It ends for good at a Close
frame or at a violation.
"""

from __future__ import annotations

import struct
from codecs import utf_8_decode
from typing import Final, TypeAlias, cast, final

from mypy_extensions import i64

from ..errors import RemoteProtocolError
from .close_codes import CloseCode, may_be_on_the_wire
from .deflate import (
    Deflate,
    DeflateParameters,
    Deflater,
    Inflater,
    MessageTooBig,
    deflated_bytes_max,
    shared_deflater,
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
from .masking import (
    COMPILED,
    KEY_REPEATS,
    KEY_SHIFTS,
    apply_mask,
    from_bytes,
    mask_chunk,
    mask_words,
    rotate_key,
)

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

FIN: Final = 0x80
RSV1: Final = 0x40
RSV2_RSV3: Final = 0x30
OPCODE: Final = 0x0F
MASKED: Final = 0x80
LENGTH: Final = 0x7F

_Piece: TypeAlias = str | bytes | bytearray | memoryview

_FIN_TEXT: Final = FIN | TEXT
_FIN_BINARY: Final = FIN | BINARY
_NO_FRAME: Final = -1

_PIECE_BYTES: Final = 2**12  # what is shorter is collected
_STR_BYTES: Final = 128  # more than the header of any `str`

# The two header bytes of every short unmasked frame, made once.
_SHORT_TEXT_HEADERS: Final = tuple(bytes((_FIN_TEXT, length)) for length in range(126))
_SHORT_BINARY_HEADERS: Final = tuple(bytes((_FIN_BINARY, length)) for length in range(126))


def encode_frame(first: int, payload: bytes, masking_key: bytes | None = None) -> bytes:
    """One frame (section 5.2): `first` is its first byte (FIN, RSV and opcode)."""
    length = len(payload)
    masked = 0 if masking_key is None else MASKED
    if length < 126:
        header = bytes((first, masked | length))
    elif length < 65536:
        header = struct.pack("!BBH", first, masked | 126, length)
    else:
        header = struct.pack("!BBQ", first, masked | 127, length)
    if masking_key is None:
        return header + payload
    return header + masking_key + apply_mask(masking_key, payload)


def close_payload(code: int | None, reason: str) -> bytes:
    """The payload of a Close frame (section 5.5.1); the reason is cut to what fits."""
    if code is None:
        return b""
    text = reason.encode()
    if len(text) > 123:
        text = text[:123].decode(errors="ignore").encode()
    return code.to_bytes(2, "big") + text


def parse_close(payload: bytes) -> CloseReceived:
    """Read a Close frame's payload. Raises `RemoteProtocolError` with 1002 or 1007."""
    if not payload:
        return CloseReceived(CloseCode.NO_STATUS_RECEIVED, "")
    if len(payload) == 1:
        raise _error("a Close frame's payload has one byte")
    code = int.from_bytes(payload[:2], "big")
    if not may_be_on_the_wire(code):
        raise _error(f"close code {code} may not be used")
    try:
        return CloseReceived(code, payload[2:].decode())
    except UnicodeDecodeError as error:
        raise _error("the close reason is not UTF-8", CloseCode.INVALID_PAYLOAD_DATA) from error


def ends_in_surrogate(tail: bytes) -> bool:
    """Whether `tail`, an unfinished character, is the beginning of a surrogate (RFC 3629).

    Python's incremental decoders wait for its third byte before they say so.
    """
    return b"\xed\xa0" <= tail < b"\xee"


def _keep(chunk: bytes | memoryview, pieces: list[_Piece]) -> None:
    """Add to `pieces`, so that many small ones take no more memory than their bytes."""
    if len(chunk) >= _PIECE_BYTES:
        pieces.append(chunk)
        return
    if pieces:
        piece = pieces[-1]
        if isinstance(piece, bytearray):
            piece += chunk
            return
    pieces.append(bytearray(chunk))


def _text(piece: _Piece) -> str:
    if isinstance(piece, str):
        return piece
    return piece.decode() if isinstance(piece, bytes) else str(piece, "utf-8")


def _error(message: str, code: int = CloseCode.PROTOCOL_ERROR) -> RemoteProtocolError:
    return RemoteProtocolError(message, close_code=code)


@final
class FrameCodec(Framing):
    """One connection's framing. See `Framing` for what the methods mean.

    `random_bytes(4)` gives the masking keys of a client; a server needs none.
    """

    __slots__ = (
        "_batch_bytes",
        "_batch_messages",
        "_client",
        "_compressed",
        "_control",
        "_deflater",
        "_ended",
        "_fin",
        "_fragments",
        "_frame_bytes_max",
        "_fragments_max",
        "_held",
        "_held_from",
        "_inflater",
        "_key",
        "_left",
        "_message_bytes_max",
        "_message_opcode",
        "_opcode",
        "_pieces",
        "_pieces_bytes",
        "_random_bytes",
        "_short_max",
        "_threshold",
        "_utf8_tail",
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
        super().__init__(None if client else "plain")
        self._client = client
        self._random_bytes = random_bytes
        self._message_bytes_max = limits.message_bytes_max
        self._frame_bytes_max = limits.frame_bytes_max
        self._fragments_max = limits.message_fragments_max
        # The longest payload of the short path; a client's peer does not mask.
        self._short_max = -1 if client else min(125, limits.frame_bytes_max)
        self._batch_messages = limits.batch_messages
        self._batch_bytes = limits.batch_bytes
        self._held = b""  # bytes of the stream from `_held_from` on are still to be read
        self._held_from = 0
        self._ended = False
        # The frame whose payload is being received; `_left` is _NO_FRAME between frames.
        self._left = _NO_FRAME
        self._opcode = 0
        self._fin = False
        self._key = b""
        self._control = b""
        # The message in progress; `_message_opcode` is 0 between messages.
        self._message_opcode = 0
        self._compressed = False
        self._fragments = 0
        self._pieces: list[_Piece] | None = None
        self._pieces_bytes = 0
        self._utf8_tail = b""
        self._inflater: Inflater | None = None
        self._deflater: Deflater | None = None
        self._threshold = 0
        if deflate is not None:
            self._set_up_deflate(deflate, settings or Deflate())

    def _set_up_deflate(self, agreed: DeflateParameters, settings: Deflate) -> None:
        client = self._client
        theirs = agreed.server_no_context_takeover if client else agreed.client_no_context_takeover
        ours = agreed.client_no_context_takeover if client else agreed.server_no_context_takeover
        bits = agreed.client_max_window_bits if client else agreed.server_max_window_bits
        self._inflater = Inflater(no_context_takeover=theirs)
        if ours:
            self._deflater = shared_deflater(bits, settings)
        else:
            self._deflater = Deflater(
                window_bits=bits, no_context_takeover=False, settings=settings
            )
        self._threshold = settings.threshold_bytes
        self.sharing_key = self._deflater if ours and not client else None

    # -- receiving ----------------------------------------------------------------------------

    def hold(self, data: bytes) -> None:
        if not self._ended:
            self._held = self._held[self._held_from :] + data
            self._held_from = 0
            self.more = True

    def receive(self, data: bytes) -> list[FrameEvent]:
        events: list[FrameEvent] = []
        self.more = False
        if self._ended:
            return events
        position: i64 = 0
        if self._held:
            if data:
                data = self._held[self._held_from :] + data
            else:
                data = self._held
                position = self._held_from
            self._held = b""
            self._held_from = 0
        room: i64 = self._batch_bytes
        end: i64 = len(data)
        try:
            while True:
                between_messages = self._left == _NO_FRAME and self._message_opcode == 0
                short_max: i64 = self._short_max if between_messages else -1
                # The short path: whole, short, masked, uncompressed messages in one frame each.
                while end - position >= 6 and len(events) < self._batch_messages and room >= 0:
                    first: i64 = data[position]
                    length: i64 = data[position + 1] - MASKED
                    start = position + 6
                    stop = start + length
                    if not 0 <= length <= short_max or stop > end:
                        break
                    if first != _FIN_TEXT and first != _FIN_BINARY:
                        break
                    if COMPILED:
                        payload = mask_words(data, position + 2, data, start, stop)
                    else:  # in place, for a call costs as much
                        key = from_bytes(data[position + 2 : start])
                        mask = key * KEY_REPEATS[length] >> KEY_SHIFTS[length]
                        payload = (from_bytes(data[start:stop]) ^ mask).to_bytes(length)
                    events.append(payload.decode() if first == _FIN_TEXT else payload)
                    position = stop
                    room -= length
                if position == end:
                    break
                if len(events) >= self._batch_messages or room < 0:
                    self.more = True
                    break
                count = len(events)
                after = self._receive_part(data, position, end, events)
                if after == position:
                    break
                position = after
                if len(events) > count:
                    last = events[-1]
                    if isinstance(last, str | bytes):
                        room -= len(last)
                    elif isinstance(last, CloseReceived):
                        return events
        except RemoteProtocolError as error:
            self._end(events, error.close_code, error.message)
            return events
        except UnicodeDecodeError:
            self._end(events, CloseCode.INVALID_PAYLOAD_DATA, "the text is not UTF-8")
            return events
        except MessageTooBig:
            self._end(
                events,
                CloseCode.MESSAGE_TOO_BIG,
                f"the message has more than {self._message_bytes_max} bytes",
            )
            return events
        if self.more:
            self._held = data
            self._held_from = position
        elif position < end:
            self._held = data[position:]
        return events

    def _receive_part(self, data: bytes, position: int, end: int, events: list[FrameEvent]) -> int:
        """Take a header, a piece of a payload, or both; the position after it, or `position` if
        a header is cut."""
        if self._left == _NO_FRAME:
            if end - position < 2:
                return position
            after = self._receive_header(data, position, end)
            if after == position or (after == end and self._left > 0):
                return after
            position = after
        return self._receive_frame(data, position, events)

    def _end(self, events: list[FrameEvent], code: int, reason: str) -> None:
        events.append(Violation(code, reason))
        self._finish()

    def _finish(self) -> None:
        """Nothing more will be read; keep no memory for it."""
        self._ended = True
        self.more = False
        self._held = b""
        self._pieces = None
        self._inflater = None

    def _receive_header(self, data: bytes, position: int, end: int) -> int:
        """Read a frame header (section 5.2); the position after it, or `position` if cut."""
        first = data[position]
        second = data[position + 1]
        opcode = first & OPCODE
        self._check_first_bytes(first, second, opcode)
        length = second & LENGTH
        start = position + 2
        if length == 126:
            if end - start < 2:
                return position
            length = int.from_bytes(data[start : start + 2], "big")
            start += 2
            if length < 126:
                raise _error("the payload length is not in its shortest form")
        elif length == 127:
            if end - start < 8:
                return position
            length = int.from_bytes(data[start : start + 8], "big")
            start += 8
            if length < 65536:
                raise _error("the payload length is not in its shortest form")
            if length >> 63:
                raise _error("the payload length has its highest bit set")
        if opcode < CLOSE:
            self._check_size(first, opcode, length)
        if not self._client:
            if end - start < 4:
                return position
            self._key = data[start : start + 4]
            start += 4
        self._begin_frame(first, opcode, length)
        return start

    def _check_first_bytes(self, first: int, second: int, opcode: int) -> None:
        if opcode >= CLOSE:
            if opcode > PONG:
                raise _error(f"opcode {opcode:#x} is reserved")
            if not first & FIN:
                raise _error("a control frame is fragmented")
            if second & LENGTH > 125:
                raise _error("a control frame has more than 125 bytes")
            if first & RSV1:
                raise _error("a reserved bit is set")
        else:
            if opcode > BINARY:
                raise _error(f"opcode {opcode:#x} is reserved")
            if first & RSV1 and (self._inflater is None or opcode == CONTINUATION):
                raise _error("a reserved bit is set")
            if (opcode == CONTINUATION) != (self._message_opcode != 0):
                raise _error(
                    "a continuation frame without a message"
                    if opcode == CONTINUATION
                    else "a new message within a fragmented one"
                )
        if first & RSV2_RSV3:
            raise _error("a reserved bit is set")
        if (second & MASKED != 0) == self._client:
            raise _error("a masked frame" if self._client else "a frame that is not masked")

    def _check_size(self, first: int, opcode: int, length: int) -> None:
        compressed = self._compressed if opcode == CONTINUATION else bool(first & RSV1)
        if compressed:
            if length > deflated_bytes_max(self._frame_bytes_max):
                raise MessageTooBig
            return
        if length > self._frame_bytes_max:
            raise _error(
                f"the frame has more than {self._frame_bytes_max} bytes", CloseCode.MESSAGE_TOO_BIG
            )
        if opcode == CONTINUATION:
            length += self._pieces_bytes
        if length > self._message_bytes_max:
            raise MessageTooBig

    def _begin_frame(self, first: int, opcode: int, length: int) -> None:
        self._opcode = opcode
        self._fin = bool(first & FIN)
        self._left = length
        if opcode >= CLOSE:
            self._control = b""
            return
        if opcode != CONTINUATION:
            self._message_opcode = opcode
            self._compressed = bool(first & RSV1)
            self._fragments = 0
            self._pieces_bytes = 0
        self._fragments += 1
        if self._fragments > self._fragments_max:
            raise _error(
                f"the message has more than {self._fragments_max} fragments",
                CloseCode.MESSAGE_TOO_BIG,
            )

    def _receive_frame(self, data: bytes, position: int, events: list[FrameEvent]) -> int:
        """Take what there is of the current frame's payload; the position after it."""
        stop = min(position + self._left, len(data))
        taken = stop - position
        chunk: bytes | memoryview
        if self._client:
            chunk = data[position:stop]
        else:
            chunk = mask_chunk(self._key, data, position, stop)
        self._left -= taken
        is_whole = self._left == 0
        if is_whole:
            self._left = _NO_FRAME
        elif not self._client:
            self._key = rotate_key(self._key, taken)
        if self._opcode < CLOSE:
            self._receive_payload(chunk, is_whole and self._fin, events)
        else:
            self._control += chunk
            if is_whole:
                self._receive_control(events)
        return stop

    def _receive_control(self, events: list[FrameEvent]) -> None:
        payload = self._control
        self._control = b""
        if self._opcode == PING:
            events.append(PingReceived(payload))
        elif self._opcode == PONG:
            events.append(PongReceived(payload))
        else:
            events.append(parse_close(payload))
            self._finish()

    def _receive_payload(
        self, chunk: bytes | memoryview, last: bool, events: list[FrameEvent]
    ) -> None:
        """Take unmasked bytes of the message in progress; `last` says they complete it."""
        if self._compressed:
            assert self._inflater is not None
            room = self._message_bytes_max - self._pieces_bytes
            inflated = self._inflater.inflate(bytes(chunk), room)
            if last:
                inflated += self._inflater.finish(room - len(inflated))
            chunk = inflated
        if not last or self._pieces is not None:
            self._pieces_bytes += len(chunk)
            pieces = self._pieces
            if pieces is None:
                pieces = self._pieces = []
            if self._message_opcode == TEXT:
                self._keep_text(chunk, last, pieces)
            else:
                _keep(chunk, pieces)
            if not last:
                return
            self._pieces = None
            if self._message_opcode == TEXT:
                events.append("".join([_text(piece) for piece in pieces]))
            else:
                events.append(b"".join(cast("list[bytes]", pieces)))
        elif self._message_opcode == TEXT:
            events.append(_text(chunk))
        else:
            events.append(chunk if isinstance(chunk, bytes) else bytes(chunk))
        self._message_opcode = 0

    def _keep_text(self, chunk: bytes | memoryview, last: bool, pieces: list[_Piece]) -> None:
        """Add to `pieces` of a text, once checked, for its first wrong byte ends it (8.1)."""
        if self._utf8_tail:
            chunk = self._utf8_tail + chunk
            self._utf8_tail = b""
        size = len(chunk)
        text, consumed = utf_8_decode(chunk, "strict", last)
        if consumed < size:
            self._utf8_tail = bytes(chunk[consumed:])
            chunk = chunk[:consumed]
            if ends_in_surrogate(self._utf8_tail):
                raise _error("the text is not UTF-8", CloseCode.INVALID_PAYLOAD_DATA)
        # One character can make a `str` four times as large as its bytes.
        if last or (size >= _PIECE_BYTES and text.__sizeof__() <= size + _STR_BYTES):
            pieces.append(text)
        else:
            _keep(chunk, pieces)

    # -- sending ------------------------------------------------------------------------------

    def encode_message(self, message: Message | bytearray | memoryview) -> bytes:
        if isinstance(message, str):
            first = _FIN_TEXT
            payload = message.encode()
        else:
            first = _FIN_BINARY
            payload = bytes(message)
        length = len(payload)
        if self._deflater is not None and length >= self._threshold:
            payload = self._deflater.deflate(payload)
            return encode_frame(first | RSV1, payload, self._masking_key())
        if self._client:
            return encode_frame(first, payload, self._masking_key())
        if length < 126:
            if first == _FIN_TEXT:
                return _SHORT_TEXT_HEADERS[length] + payload
            return _SHORT_BINARY_HEADERS[length] + payload
        return encode_frame(first, payload)

    def encode_ping(self, payload: bytes) -> bytes:
        return encode_frame(FIN | PING, payload, self._masking_key())

    def encode_pong(self, payload: bytes) -> bytes:
        return encode_frame(FIN | PONG, payload, self._masking_key())

    def encode_close(self, code: int | None, reason: str) -> bytes:
        return encode_frame(FIN | CLOSE, close_payload(code, reason), self._masking_key())

    def _masking_key(self) -> bytes | None:
        return self._random_bytes(4) if self._client else None
