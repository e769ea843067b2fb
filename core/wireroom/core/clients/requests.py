"""The requests of one client that wait for a reply, matched by their ids. Pure."""

from __future__ import annotations

from typing import Any, Final, final

from ..dispatch.parsers import ERROR, REPLY, Parser, RequestId
from ..errors import SessionClosedError
from ..wire.framing import Message
from .pending import Pending

_ABANDONED_MAX: Final = 1024  # ids of requests whose late replies are dropped


@final
class Requests:
    """Requests by id. While there is none, no message is looked into."""

    __slots__ = ("_abandoned", "_count", "_parser", "_waiting")

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._count = 0
        self._waiting: dict[RequestId, Pending] = {}
        self._abandoned: dict[RequestId, None] = {}  # the oldest first

    def pack(self, data: object) -> tuple[RequestId, Message]:
        """A new id, and the message that asks under it. Raises `LocalProtocolError`."""
        self._count += 1
        request_id = f"c{self._count}"
        return request_id, self._parser.pack_request(data, request_id)

    def add(self, request_id: RequestId) -> Pending:
        """What happens when the reply comes."""
        pending = self._waiting[request_id] = Pending()
        return pending

    def discard(self, request_id: RequestId) -> None:
        """Nobody waits any more. A reply that is still to come will be dropped."""
        if self._waiting.pop(request_id).value is not None:
            return
        self._abandoned[request_id] = None
        if len(self._abandoned) > _ABANDONED_MAX:
            del self._abandoned[next(iter(self._abandoned))]

    def take(self, message: Message) -> bool:
        """Whether `message` answers a request of ours; if so, whoever waits goes on."""
        if not self._waiting and not self._abandoned:
            return False
        kinds = self._parser.kinds
        if kinds != "any" and isinstance(message, str) != (kinds == "text"):
            return False
        try:
            parsed = self._parser.parse(message)
        except Exception:  # no reply, whatever it is: a parser may be the application's own
            return False
        if parsed.command not in (REPLY, ERROR) or parsed.request_id is None:
            return False
        pending = self._waiting.get(parsed.request_id)
        if pending is not None:
            pending.happen(parsed)
            return True
        if parsed.request_id in self._abandoned:
            del self._abandoned[parsed.request_id]
            return True
        return False

    def reply_data(self, reply: Any, reply_type: Any) -> Any:
        """What a reply holds, checked. Raises `RequestFailedError`."""
        return self._parser.reply_data(reply, reply_type)

    def fail(self, error: SessionClosedError) -> None:
        """No reply will come."""
        for pending in self._waiting.values():
            pending.happen(error=error)
