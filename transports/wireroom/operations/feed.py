"""What the operator's console is told: the messages of `/console/feed`, and their bounds.

The feed is a WebSocket of JSON text messages, at `/console/feed` of the same server. A page opens
`new WebSocket(new URL("console/feed", location.href))` and says first, within 10 s:

    {"type": "authenticate", "request_id": 1, "token": "…"}

    {"type": "reply", "request_id": 1, "data": {
        "interval_s": 1.0,                  seconds between two snapshots
        "version": "0.1.0",                 of wireroom
        "history": [                        the last five minutes, the oldest first; may be empty
            {"time": 1790000000.5, "sessions": 12, "rates": {… as below}}, …
        ]}}

Clients that can set headers may send `Authorization: Bearer …` with the handshake instead. A wrong
token is answered, after a second, with a Close 4401; so is none in time. 4429: too many consoles
are open, or too many that have shown no token, of which the oldest makes room. Then comes a
snapshot every `interval_s`, less often to who does not read it:

    {"type": "snapshot",
     "node": "web-1:4711",                  host and process
     "time": 1790000000.5,                  Unix seconds
     "uptime_s": 3600.2,
     "is_ready": true,                      what /readyz says
     "gauges": {"connections": 13, "sessions": 12, "rooms": 3, "users": 9,
                "invocations": 0, "contexts": 0},
     "rates": {                             a second, since the last snapshot
         "messages_received": 10.0, "messages_sent": 120.0,
         "bytes_received": 800.0, "bytes_sent": 9000.0,
         "requests": 0.5, "sessions_opened": 0.2, "sessions_closed": 0.1},
     "queues": {"outbox_bytes": 0,          of all sessions together
                "outbox_bytes_highest": 0,  of the one that has most
                "inbox_messages": 0, "sessions_paused": 0},
     "drops": {"messages_received": 0, "messages_sent": 0, "pongs": 0, "bytes_received": 0},
     "failures": {"handler_failures": 0, "bad_messages": 0, "late_replies": 0, "violations": 0,
                  "requests_refused": 0, "connections_refused": 0, "proxies_refused": 0,
                  "stalled": 0, "overflowed": 0, "ping_timeouts": 0, "close_timeouts": 0,
                  "head_timeouts": 0},
     "closes": [{"code": 1001, "by": "peer", "count": 4}, …],   the most frequent first, at most 40
     "latency": {"bounds_s": [0.0001, …],   upper bounds; counts has one more, for what is above
                 "counts": [5, …, 0],       of messages, each in one bucket, since the start
                 "sum_s": 1.25,
                 "handlers": [{"name": "server.say", "count": 5, "sum_s": 1.2, "max_s": 0.5}, …]},
     "checks": [{"name": "store", "reason": null, "is_required": true}, …],   reason null: fine
     "sessions": {
         "total": 12,                       that are open
         "matching": 12,                    what was searched for
         "sort": "outbox_bytes", "search": "",
         "shown": [{"fd": 7, "generation": 42, "path": "/chat", "user": "ann" | null,
                    "address": "192.0.2.1:5000", "age_s": 61.2, "outbox_bytes": 0,
                    "inbox_messages": 0, "rooms": ["lobby"], "rooms_total": 1, "is_paused": false,
                    "bytes_received": 900, "bytes_sent": 12000,
                    "bytes_received_per_s": 80.0, "bytes_sent_per_s": 900.0}, …]},  at most 200
     "rooms": {"total": 3,
               "shown": [{"path": "/chat", "name": "lobby", "sessions": 9}, …]}}   at most 100

`drops`, `failures`, `closes` and `latency` count since the start. `by` is who ended it: `us`,
`peer`, or `nobody`: no Close frame came, the code is then 1006. The private codes of peers are one
entry with code 3000 or 4000. Texts are cut to 120 characters. In the largest case a snapshot has
some 200 KB before compression. With more than 20,000 sessions, `queues`, `sessions` and `rooms`
are looked at less often and stay as they were in between, and the rates of sessions are null.

Requests, each with a `request_id` of the client's; the answer is a `reply` with it, or an error:

    {"type": "watch", "request_id": 2, "sort": "outbox_bytes", "search": "ann"}
        What `sessions.shown` is: sorted by "outbox_bytes", "bytes_received_per_s",
        "bytes_sent_per_s" (all: the highest first), "oldest" or "newest", and only those whose
        fd, path, user, address or a room has the text in it. Both may be left out.
        reply data: null; it counts from the next snapshot
    {"type": "kick", "request_id": 3, "fd": 7, "generation": 42, "code": 1008, "reason": "spam"}
        Close that session. `code` (by default 1008) is any that a server may send, as 1000, 1008,
        1012, 3000 to 4999; `reason` (by default "closed by an operator") has at most 123 bytes.
        reply data: {"fd": 7, "generation": 42}
    {"type": "error", "code": "no_session", "message": "…", "field": null, "request_id": 3}
        codes: no_session (it has gone, or the fd is another's now), invalid_data, unknown_type,
        unauthenticated

The page is `/console` (console.html of this package), with `/console/console.css` and
`/console/console.js`; write them into the page as `console/console.css` and `console/console.js`.
Its Content-Security-Policy lets it have nothing else: no inline script or style, no style
attribute set by HTML (`element.style.x = …` from script is allowed), no image but its own and
`data:`, no connection but to its own server. Without a CONSOLE_TOKEN all of it is 404. The page
asks for the token, or takes it from `/console#token=…`, which a browser sends to nobody.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from wireroom.core.sessions.stats import EndedBy

Sort: TypeAlias = Literal[
    "outbox_bytes", "bytes_received_per_s", "bytes_sent_per_s", "oldest", "newest"
]

SESSIONS_MAX = 200  # shown
ROOMS_MAX = 100
CLOSES_MAX = 40
HANDLERS_MAX = 40
ROOMS_OF_SESSION_MAX = 5
TEXT_MAX = 120  # characters


# -- requests ---------------------------------------------------------------------------------


class Authenticate(msgspec.Struct, tag_field="type", tag="authenticate"):
    """Who knows the token may look."""

    token: Annotated[str, msgspec.Meta(max_length=4096)]


class Watch(msgspec.Struct, tag_field="type", tag="watch", frozen=True):
    """Which sessions are shown, and in which order."""

    sort: Sort = "outbox_bytes"
    search: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Kick(msgspec.Struct, tag_field="type", tag="kick"):
    """Close a session."""

    fd: int
    generation: int
    code: int = 1008
    reason: str = "closed by an operator"


# -- replies ----------------------------------------------------------------------------------


class Rates(msgspec.Struct, frozen=True):
    """A second."""

    messages_received: float = 0.0
    messages_sent: float = 0.0
    bytes_received: float = 0.0
    bytes_sent: float = 0.0
    requests: float = 0.0
    sessions_opened: float = 0.0
    sessions_closed: float = 0.0


class Past(msgspec.Struct, frozen=True):
    """How it was at a time."""

    time: float
    sessions: int
    rates: Rates


class Welcome(msgspec.Struct, frozen=True):
    """The reply to `authenticate`."""

    interval_s: float
    version: str
    history: list[Past]


class Kicked(msgspec.Struct, frozen=True):
    """The reply to `kick`."""

    fd: int
    generation: int


# -- the snapshot -----------------------------------------------------------------------------


class Queues(msgspec.Struct, frozen=True):
    """What waits."""

    outbox_bytes: int = 0
    outbox_bytes_highest: int = 0
    inbox_messages: int = 0
    sessions_paused: int = 0


class Closes(msgspec.Struct, frozen=True):
    """How many sessions have ended in one way."""

    code: int
    by: EndedBy
    count: int


class HandlerLatency(msgspec.Struct, frozen=True):
    """One handler's messages."""

    name: str
    count: int
    sum_s: float
    max_s: float


class LatencyOfAll(msgspec.Struct, frozen=True):
    """A histogram, and the handlers that took the longest in all."""

    bounds_s: tuple[float, ...]
    counts: list[int]
    sum_s: float
    handlers: list[HandlerLatency]


class CheckState(msgspec.Struct, frozen=True):
    """What a check says."""

    name: str
    reason: str | None
    is_required: bool


class SessionRow(msgspec.Struct, frozen=True):
    """One session."""

    fd: int
    generation: int
    path: str
    user: str | None
    address: str
    age_s: float
    outbox_bytes: int
    inbox_messages: int
    rooms: list[str]
    rooms_total: int
    is_paused: bool
    bytes_received: int
    bytes_sent: int
    bytes_received_per_s: float | None
    bytes_sent_per_s: float | None


class Sessions(msgspec.Struct, frozen=True):
    """Those of them that were asked for."""

    total: int
    matching: int
    sort: Sort
    search: str
    shown: list[SessionRow]


class RoomRow(msgspec.Struct, frozen=True):
    """One room."""

    path: str
    name: str
    sessions: int


class Rooms(msgspec.Struct, frozen=True):
    """The largest rooms."""

    total: int
    shown: list[RoomRow]


class Snapshot(msgspec.Struct, tag_field="type", tag="snapshot", frozen=True):
    """What a console is told once an interval."""

    node: str
    time: float
    uptime_s: float
    is_ready: bool
    gauges: dict[str, int]
    rates: Rates
    queues: Queues
    drops: dict[str, int]
    failures: dict[str, int]
    closes: list[Closes]
    latency: LatencyOfAll
    checks: list[CheckState]
    sessions: Sessions
    rooms: Rooms
