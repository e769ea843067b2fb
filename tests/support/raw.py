"""Bytes as a peer sends them, written by hand so that they may also be wrong."""

from __future__ import annotations

import struct
from collections.abc import Iterator

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
KEY = "AQIDBAUGBwgJCgsMDQ4PEA=="
MASK = b"\x12\x34\x56\x78"


def request(method: str, target: str, *headers: str, host: str = "server.example") -> bytes:
    """An HTTP/1.1 request without a body."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode(
        "latin-1"
    )


def get(target: str, *headers: str) -> bytes:
    """A plain GET request."""
    return request("GET", target, *headers)


def upgrade(target: str = "/", *headers: str, method: str = "GET") -> bytes:
    """An opening handshake (RFC 6455 section 4.1)."""
    return request(
        method,
        target,
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *headers,
    )


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    mask: bytes | None = MASK,
) -> bytes:
    """A client's frame (section 5.2); `reserved` are the bits 0x40, 0x20 and 0x10."""
    first = opcode | reserved | (0x80 if fin else 0)
    masked = 0 if mask is None else 0x80
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", first, masked | length)
    elif length < 65536:
        head = struct.pack("!BBH", first, masked | 126, length)
    else:
        head = struct.pack("!BBQ", first, masked | 127, length)
    if mask is None:
        return head + payload
    repeated = mask * (length // 4 + 1)
    return head + mask + bytes(a ^ b for a, b in zip(payload, repeated, strict=False))


def text(message: str) -> bytes:
    """A text message in one frame."""
    return frame(TEXT, message.encode())


def close(code: int | None = 1000, reason: str = "") -> bytes:
    """A Close frame; without a code it is empty."""
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason.encode())


def pieces(data: bytes, size: int | None) -> Iterator[bytes]:
    """`data` whole, or in pieces of `size` bytes."""
    step = size or max(1, len(data))
    for start in range(0, len(data), step):
        yield data[start : start + step]
