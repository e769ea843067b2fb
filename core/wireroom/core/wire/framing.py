"""What goes into a framing engine (`framing_engine.Framing`) and comes out of it.

A message is simply a `str` or a `bytes`; only what is rarer gets an object of its own.
Pure; imports only values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

from ..errors import ConfigurationError
from ..limits import Limits

Message: TypeAlias = str | bytes
RandomBytes: TypeAlias = Callable[[int], bytes]


@dataclasses.dataclass(frozen=True, slots=True)
class PingReceived:
    """A Ping frame (RFC 6455 section 5.5.2), to be answered by a Pong with the same payload."""

    payload: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class PongReceived:
    """A Pong frame (section 5.5.3), asked for or not."""

    payload: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class CloseReceived:
    """A Close frame (section 5.5.1). `code` is 1005 if it carried none."""

    code: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Violation:
    """The peer broke the protocol here; nothing after it is read (section 7.1.7).

    `code` is what our Close frame has to say, `reason` is text for it and for the log.
    """

    code: int
    reason: str


FrameEvent: TypeAlias = str | bytes | PingReceived | PongReceived | CloseReceived | Violation


@dataclasses.dataclass(frozen=True, slots=True)
class FramingLimits:
    """The bounds that a framing engine keeps, taken from `Limits`.

    `batch_messages` and `batch_bytes` bound what one call of `receive` may return, so that a
    small read which inflates to much does not become memory before it is handled.
    """

    message_bytes_max: int
    frame_bytes_max: int
    message_fragments_max: int
    batch_messages: int
    batch_bytes: int

    @classmethod
    def of(cls, limits: Limits) -> FramingLimits:
        """The part of `limits` that framing has to keep."""
        return cls(
            message_bytes_max=limits.message_bytes_max,
            frame_bytes_max=limits.frame_bytes,
            message_fragments_max=limits.message_fragments_max,
            batch_messages=limits.inbox_messages_max,
            batch_bytes=limits.inbox_bytes_max,
        )


def no_randomness(count: int) -> bytes:
    """What a client's framing gets if nobody gave it randomness: an error that says so."""
    raise ConfigurationError(
        "random_bytes", f"a client needs {count} unpredictable bytes for a masking key (5.3)"
    )
