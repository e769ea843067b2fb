"""What an application may decide about a handshake. Pure values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

from ..wire.request import HeaderItems, Response


@dataclasses.dataclass(frozen=True, slots=True)
class Accept:
    """Accept the handshake.

    `subprotocol` must be one that the client offered; without it the first of the module's own
    that was offered is chosen. `user` and `state` become the session's.
    """

    subprotocol: str | None = None
    headers: HeaderItems = ()
    user: Any = None
    state: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Reject:
    """Refuse the handshake with any HTTP status, headers and body."""

    status: int = 403
    body: bytes | str = "the handshake was refused"
    headers: HeaderItems = ()
    content_type: str = "text/plain; charset=utf-8"

    def response(self) -> Response:
        """The HTTP response it stands for."""
        return Response(self.status, self.body, self.headers, self.content_type)


Decision: TypeAlias = Accept | Reject
