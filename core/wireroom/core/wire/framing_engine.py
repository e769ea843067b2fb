"""What a framing engine is: bytes in, messages and control frames out, and the way back.

Two engines are this: `frames.FrameCodec`, ours, and `wsproto_framing.WsprotoFraming`; and
`host.HostFraming`, where a host does the framing. Pure; imports only values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from mypy_extensions import mypyc_attr

from .framing import FrameEvent, Message


@mypyc_attr(allow_interpreted_subclasses=True)
class Framing(ABC):
    """One connection's framing after the handshake.

    `more` says whether `receive` stopped at its batch bound and keeps bytes for another call.
    `sharing_key` is one object for all whose frames of equal messages are equal; None means never
    share.
    """

    __slots__ = ("more", "sharing_key")

    def __init__(self, sharing_key: object) -> None:
        self.more = False
        self.sharing_key = sharing_key

    @abstractmethod
    def receive(self, data: bytes) -> list[FrameEvent]:
        """Take what the peer sent; return what it completes, in order. Never raises for it.

        A `CloseReceived` or a `Violation` is the last event there will ever be.
        """

    @abstractmethod
    def hold(self, data: bytes) -> None:
        """Keep `data` for the next `receive`, while nothing more may be handled."""

    @abstractmethod
    def encode_message(self, message: Message) -> bytes:
        """The frame for one text or binary message."""

    @abstractmethod
    def encode_ping(self, payload: bytes) -> bytes:
        """A Ping frame; the payload is at most 125 bytes."""

    @abstractmethod
    def encode_pong(self, payload: bytes) -> bytes:
        """A Pong frame; the payload is at most 125 bytes."""

    @abstractmethod
    def encode_close(self, code: int | None, reason: str) -> bytes:
        """A Close frame; no code gives an empty one."""
