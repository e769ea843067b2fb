"""The life of one connection, as a table.

    HEAD ──request──▶ REQUEST ──accept──▶ OPEN ──close sent──▶ CLOSING ─┐
     ▲                   │                 │                            │ close received, failed,
     └─── respond ───────┘                 │ closed, failed, eof        │ eof
                         │                 ▼                            ▼
                         └── refuse ───▶ ENDING ◀────────────────────────
                                           │ lost (from every state)
                                           ▼
                                         CLOSED

HEAD reads an HTTP request head. REQUEST has one, and the application decides about it. OPEN and
CLOSING are those of RFC 6455 section 7.1: CLOSING has sent a Close and waits for the peer's.
ENDING sends what is left and will read nothing more as WebSocket; the socket still exists.
CLOSED is reached only when the transport has said that the socket is gone, and only then is the
fd free.

Two rules, as in h11: whatever changes a connection's state is an `Input` in this table, and the
table does not know which role we play. A transition that is not in it raises
`LocalProtocolError`.
"""

from __future__ import annotations

from enum import Enum, unique
from typing import Final

from ..errors import LocalProtocolError


@unique
class State(Enum):
    """Where one connection is in its life."""

    HEAD = "HEAD"
    REQUEST = "REQUEST"
    OPEN = "OPEN"
    CLOSING = "CLOSING"
    ENDING = "ENDING"
    CLOSED = "CLOSED"

    __hash__ = object.__hash__  # members are singletons; Enum's own hashes the name each time


@unique
class Input(Enum):
    """What can happen to a connection."""

    REQUEST_RECEIVED = "a complete request head was received"
    RESPONDED = "a plain HTTP response was sent and the connection is kept alive"
    REFUSED = "an HTTP response was sent after which the connection ends"
    ACCEPTED = "the WebSocket handshake was completed"
    CLOSE_SENT = "we sent a Close frame first"
    CLOSE_COMPLETED = "both Close frames have been exchanged"
    FAILED = "the peer broke the protocol, or we gave up on it"
    EOF_RECEIVED = "the peer sends nothing more"
    LOST = "the transport says that the socket is gone"

    __hash__ = object.__hash__


TRANSITIONS: Final[dict[State, dict[Input, State]]] = {
    State.HEAD: {
        Input.REQUEST_RECEIVED: State.REQUEST,
        Input.REFUSED: State.ENDING,
        Input.FAILED: State.ENDING,
        Input.EOF_RECEIVED: State.ENDING,
        Input.LOST: State.CLOSED,
    },
    State.REQUEST: {
        Input.RESPONDED: State.HEAD,
        Input.REFUSED: State.ENDING,
        Input.ACCEPTED: State.OPEN,
        Input.FAILED: State.ENDING,
        Input.LOST: State.CLOSED,
    },
    State.OPEN: {
        Input.CLOSE_SENT: State.CLOSING,
        Input.CLOSE_COMPLETED: State.ENDING,
        Input.FAILED: State.ENDING,
        Input.EOF_RECEIVED: State.ENDING,
        Input.LOST: State.CLOSED,
    },
    State.CLOSING: {
        Input.CLOSE_COMPLETED: State.ENDING,
        Input.FAILED: State.ENDING,
        Input.EOF_RECEIVED: State.ENDING,
        Input.LOST: State.CLOSED,
    },
    State.ENDING: {
        Input.FAILED: State.ENDING,
        Input.EOF_RECEIVED: State.ENDING,
        Input.LOST: State.CLOSED,
    },
    State.CLOSED: {},
}


def next_state(state: State, happened: Input) -> State:
    """The state after `happened`. Raises `LocalProtocolError` where the table has no entry."""
    after = TRANSITIONS[state].get(happened)
    if after is None:
        raise LocalProtocolError(f"cannot happen in state {state.name}: {happened.value}")
    return after
