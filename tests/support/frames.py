"""Frames written by hand (RFC 6455 section 5.2): legal and illegal ones, byte by byte.

Slow and plain, and shares no code with Wireroom, so that it can be held against it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10
KEY = b"\x12\x34\x56\x78"


def masked(payload: bytes, key: bytes = KEY) -> bytes:
    """Section 5.3, octet by octet."""
    return bytes(octet ^ key[index % 4] for index, octet in enumerate(payload))


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    key: bytes | None = KEY,
    length: int | None = None,
    form: int | None = None,
) -> bytes:
    """One frame; without a `key` it is not masked.

    `length` is announced in place of the payload's own, `form` (7, 16 or 64 bits) is used in
    place of the shortest.
    """
    announced = len(payload) if length is None else length
    if form is None:
        form = 7 if announced < 126 else 16 if announced < 1 << 16 else 64
    short = {7: announced, 16: 126, 64: 127}[form]
    head = bytes([(0x80 if fin else 0) | rsv | opcode, (0x80 if key is not None else 0) | short])
    if form > 7:
        head += announced.to_bytes(form // 8, "big")
    return head + payload if key is None else head + key + masked(payload, key)


def fragments(opcode: int, *payloads: bytes, rsv: int = 0, key: bytes | None = KEY) -> list[bytes]:
    """One message as that many frames."""
    return [
        frame(
            opcode if index == 0 else CONTINUATION,
            payload,
            fin=index == len(payloads) - 1,
            rsv=rsv if index == 0 else 0,
            key=key,
        )
        for index, payload in enumerate(payloads)
    ]


def close_frame(code: int, reason: bytes = b"", *, key: bytes | None = KEY) -> bytes:
    """A Close frame with any 16 bits as its code."""
    return frame(CLOSE, code.to_bytes(2, "big") + reason, key=key)


class Compressor:
    """A sender's permessage-deflate (RFC 7692 section 7.2.1), straight from zlib."""

    def __init__(self, *, takeover: bool = False, level: int = 6, memory_level: int = 8) -> None:
        self._takeover = takeover
        self._arguments = (level, zlib.DEFLATED, -15, memory_level)
        self._zlib = zlib.compressobj(*self._arguments)

    def message(self, payload: bytes) -> bytes:
        """The payload of the message, compressed."""
        if not self._takeover:
            self._zlib = zlib.compressobj(*self._arguments)
        data = self._zlib.compress(payload) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        return data.removesuffix(b"\x00\x00\xff\xff") or b"\x00"


def deflated(payload: bytes) -> bytes:
    """The payload of one compressed message without context."""
    return Compressor().message(payload)


def final_block(payload: bytes) -> bytes:
    """The same as a DEFLATE stream that ends with BFINAL (section 7.2.3.4)."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    return compressor.compress(payload) + compressor.flush(zlib.Z_FINISH)


class Header(NamedTuple):
    """A frame header as it was sent."""

    first: int
    masked: bool
    length: int
    end: int  # of the header
    whole: bool  # whether the header was sent to its end

    @property
    def opcode(self) -> int:
        """The frame's opcode."""
        return self.first & 0x0F


def headers_of(stream: bytes) -> Iterator[Header]:
    """Each frame's header, to the end of the stream; judges nothing."""
    start = 0
    while len(stream) - start >= 2:
        first, second = stream[start], stream[start + 1]
        length, size = second & 0x7F, 2
        if length > 125:
            more = 2 if length == 126 else 8
            length = int.from_bytes(stream[start + 2 : start + 2 + more].ljust(more, b"\0"), "big")
            size += more
        if second & 0x80:
            size += 4
        end = start + size
        yield Header(first, bool(second & 0x80), length, end, end <= len(stream))
        start = end + length
