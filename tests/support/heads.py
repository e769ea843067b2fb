"""HTTP heads written by hand, for the handshake (RFC 6455 section 4.1 and 4.2.2)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Final

NONCE: Final = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3
ACCEPT: Final = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 section 1.3

Changes = Mapping[str, str | list[str] | None]


def head(first_line: str, headers: Mapping[str, str | list[str] | None]) -> bytes:
    """A head; a list gives several lines of one name, None gives none."""
    lines = [first_line]
    for name, value in headers.items():
        values = [] if value is None else [value] if isinstance(value, str) else value
        lines += [f"{name}: {each}" for each in values]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def upgrade_request(
    target: str = "/", changes: Changes | None = None, *, method: str = "GET", version: str = "1.1"
) -> bytes:
    """A client's handshake, with some of its headers changed."""
    headers: dict[str, str | list[str] | None] = {
        "Host": "server.example.com",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": NONCE,
        "Sec-WebSocket-Version": "13",
    }
    return head(f"{method} {target} HTTP/{version}", headers | dict(changes or {}))


def accept_of(key: str) -> str:
    """Section 4.2.2, step 5.4."""
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    return base64.b64encode(digest).decode()


def upgrade_response(
    key: str = NONCE,
    changes: Changes | None = None,
    *,
    status: str = "101 Switching Protocols",
) -> bytes:
    """A server's answer, with some of its headers changed."""
    headers: dict[str, str | list[str] | None] = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": accept_of(key),
    }
    return head(f"HTTP/1.1 {status}", headers | dict(changes or {}))
