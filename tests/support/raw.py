"""What a peer sends, as bytes: requests, handshakes and messages, whole or in pieces."""

from __future__ import annotations

from collections.abc import Iterator

from frames import CLOSE, TEXT, frame
from heads import NONCE


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
        f"Sec-WebSocket-Key: {NONCE}",
        "Sec-WebSocket-Version: 13",
        *headers,
    )


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
