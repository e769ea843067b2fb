"""Counters of one hub: what came and went, and everything that was dropped. Pure."""

from __future__ import annotations

import dataclasses
from typing import Literal, TypeAlias, final

EndedBy: TypeAlias = Literal["us", "peer", "nobody"]


@final
@dataclasses.dataclass
class Stats:
    """Counts since the hub began; the first six say how things are now."""

    connections: int = 0  # sockets that the transport has not yet called lost
    sessions: int = 0  # open WebSocket sessions
    rooms: int = 0
    users: int = 0  # with at least one open session
    invocations: int = 0  # async handlers under way
    contexts: int = 0  # messages being handled by commands

    connections_total: int = 0
    connections_refused: int = 0  # 503: no fd was free
    sessions_total: int = 0
    requests: int = 0  # complete HTTP heads
    proxies_refused: int = 0  # connections: no proper PROXY header, or not from a trusted proxy
    requests_refused: int = 0  # answered with 4xx or 5xx by us or by the application
    messages_received: int = 0
    messages_sent: int = 0  # counted once a receiver
    broadcasts: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0  # taken by the transport
    handler_failures: int = 0
    bad_messages: int = 0  # answered with an error reply: no JSON, unknown type, wrong fields
    late_replies: int = 0  # to no request, or one that was given up
    violations: int = 0  # closed with 1002, 1003, 1007 or 1009

    dropped_messages_received: int = 0  # came after we began to close, or were never handled
    dropped_messages_sent: int = 0  # still in the outbox when their session was given up
    dropped_pongs: int = 0  # older than the newest `pongs_pending_max`
    dropped_bytes_received: int = 0  # came after the end, or after a violation
    stalled: int = 0  # aborted: the peer read nothing
    overflowed: int = 0  # closed with 1008: the outbox was full
    ping_timeouts: int = 0
    close_timeouts: int = 0
    head_timeouts: int = 0

    waiting_publishes: int = 0  # now: for the backplane to confirm them
    dropped_publishes: int = 0  # what was for now, while the backplane was away
    refused_publishes: int = 0  # `BackplaneAwayError`
    bad_publishes: int = 0  # of other programs or versions, on our channels
    backplane_losses: int = 0  # times that it went away
    dropped_history_messages: int = 0  # out of a room's history, for `History.bytes_max`
    histories_lost: int = 0  # rooms whose members here were told that messages are missed

    closes: dict[tuple[int, EndedBy], int] = dataclasses.field(default_factory=dict)
    """How sessions ended: how many with this code by `us`, the `peer`, or `nobody` (no Close frame,
    1006). A peer's private codes count as 3000 or 4000, so that peers cannot fill this."""

    def copy(self) -> Stats:
        """A snapshot."""
        return dataclasses.replace(self, closes=dict(self.closes))

    def count_close(self, code: int, by: EndedBy) -> None:
        """A session has ended."""
        if by == "peer" and code >= 3000:
            code -= code % 1000
        self.closes[code, by] = self.closes.get((code, by), 0) + 1
