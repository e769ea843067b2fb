"""What the hub says to the transport through `next_output()`. Pure values.

Facts are in the past tense. The rest are requests that a transport has to carry out, in order.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias

from .backplane import BackplaneOutput

if TYPE_CHECKING:
    from .turn import Invocation


@dataclasses.dataclass(frozen=True, slots=True)
class SessionOpened:
    """A WebSocket handshake was accepted. `session` is its `Session`, and not compared."""

    fd: int
    path: str
    session: Any = dataclasses.field(default=None, compare=False, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class SessionClosed:
    """A WebSocket session ended. `code` is 1006 if there was no Close frame (RFC 6455 7.1.5).
    `session` is its `Session`, and not compared."""

    fd: int
    code: int
    reason: str
    session: Any = dataclasses.field(default=None, compare=False, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class RequestAnswered:
    """A plain HTTP request, or a refused handshake, was answered with this status."""

    fd: int
    method: str
    target: str
    status: int


@dataclasses.dataclass(frozen=True, slots=True)
class HandlerFailed:
    """A handler raised. `error` has its traceback; nothing else was hurt."""

    fd: int
    handler: str
    error: BaseException


@dataclasses.dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the socket: now and without waiting (`abort`), or after what it has taken is sent."""

    fd: int
    abort: bool
    why: str


@dataclasses.dataclass(frozen=True, slots=True)
class ShutdownWrite:
    """Nothing more will be sent: shut down the sending side, go on reading (POSIX SHUT_WR).

    The peer is given until the close deadline to end the connection, so that what we sent last
    is not lost to a reset. A transport that cannot do it (TLS) closes.
    """

    fd: int


@dataclasses.dataclass(frozen=True, slots=True)
class PauseReading:
    """Read nothing from this socket until `ResumeReading`."""

    fd: int


@dataclasses.dataclass(frozen=True, slots=True)
class ResumeReading:
    """Read again; first call `receive_data(fd, b"", now=)` for what the hub has kept."""

    fd: int


@dataclasses.dataclass(frozen=True, slots=True)
class Invoke:
    """Run this handler: call `hub.resume(invocation, now=)` until it is done."""

    invocation: Invocation


@dataclasses.dataclass(frozen=True, slots=True)
class Resume:
    """What this handler waited for has happened: call `hub.resume(invocation, now=)`."""

    invocation: Invocation


@dataclasses.dataclass(frozen=True, slots=True)
class Cancel:
    """The session is gone and its handler has had its time: cancel it."""

    invocation: Invocation


Output: TypeAlias = (
    SessionOpened
    | SessionClosed
    | RequestAnswered
    | HandlerFailed
    | Disconnect
    | ShutdownWrite
    | PauseReading
    | ResumeReading
    | Invoke
    | Resume
    | Cancel
    | BackplaneOutput
)
