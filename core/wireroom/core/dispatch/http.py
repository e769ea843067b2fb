"""Plain HTTP routes, for health checks and pages beside the WebSockets. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import msgspec

from ..errors import LocalProtocolError
from ..wire.request import Response
from .handlers import Handler, check_arity, handler_name


@final
class HttpRoute:
    """A path that answers GET and HEAD.

    The handler is `(request) -> Response | str | bytes | a mapping (sent as JSON) | None (204)`,
    `def` or `async def`.
    """

    def __init__(self, path: str, handler: Handler) -> None:
        check_arity(handler, f"http {path}:", ("request",))
        self.path = path
        self.handler = handler
        self.name = handler_name(handler)


def as_response(result: object) -> Response:
    """What a handler returned, as a response. Raises `LocalProtocolError`."""
    if isinstance(result, Response):
        return result
    if result is None:
        return Response(204)
    if isinstance(result, str):
        return Response(200, result)
    if isinstance(result, bytes):
        return Response(200, result, content_type="application/octet-stream")
    if isinstance(result, Mapping | msgspec.Struct):
        return Response(200, msgspec.json.encode(result), content_type="application/json")
    raise LocalProtocolError(f"an http handler cannot return {type(result).__name__}")
