"""Where the token of a handshake comes from. What browsers can do: a subprotocol or a cookie."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from wireroom.core import Request


class TokenSource(Protocol):
    """A place in a request."""

    def find(self, request: Request) -> str | None:
        """The token, not checked in any way, or None if there is none."""


@dataclasses.dataclass(frozen=True, slots=True)
class BearerHeader:
    """`Authorization: Bearer TOKEN` (RFC 6750 section 2.1), for clients that are no browsers."""

    def find(self, request: Request) -> str | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None


@dataclasses.dataclass(frozen=True, slots=True)
class SubprotocolEntry:
    """An entry of Sec-WebSocket-Protocol: `new WebSocket(url, ["chat", "wireroom.token." + t])`.

    A JWT has only characters that such an entry may have. The answer never names it: of the
    subprotocols offered, the module's own are chosen from. Browsers want one to be chosen if any
    was offered, so there must be another beside it, which the module has (`subprotocols=["chat"]`).
    """

    prefix: str = "wireroom.token."

    def find(self, request: Request) -> str | None:
        for header in request.headers.get_all("sec-websocket-protocol"):
            for entry in header.split(","):
                entry = entry.strip()
                if entry.startswith(self.prefix):
                    return entry[len(self.prefix) :]
        return None


@dataclasses.dataclass(frozen=True, slots=True)
class Cookie:
    """A cookie, which browsers send whatever page opens the connection: `TokenGate.install`
    therefore refuses it where any origin may connect. Set it HttpOnly, Secure and SameSite."""

    name: str = "wireroom_token"

    def find(self, request: Request) -> str | None:
        return request.cookies.get(self.name) or None
