"""What waits to be sent on one connection. Pure.

Pongs and Pings go before messages, since nothing is lost by it and a peer that measures us is
answered in time; a Close is simply the last thing put in. The bytes that the transport has taken
but its socket has not (`unsent`) count as waiting.
"""

from __future__ import annotations

from typing import final


@final
class Outbox:
    """Frames in order, with their size in bytes."""

    __slots__ = ("control", "frames", "limit", "mark", "size", "unsent")

    def __init__(self, *, mark: int, limit: int) -> None:
        self.frames: list[bytes] = []
        self.control: list[bytes] = []
        self.size = 0  # bytes of `frames`
        self.unsent = 0
        self.mark = mark
        self.limit = limit

    @property
    def empty(self) -> bool:
        """Whether the transport has taken everything."""
        return not self.frames and not self.control

    @property
    def waiting(self) -> int:
        """Bytes of messages that the socket has not taken."""
        return self.size + self.unsent

    def put(self, frame: bytes) -> None:
        """Add the bytes of a message, a response or a Close."""
        self.frames.append(frame)
        self.size += len(frame)

    def put_control(self, frame: bytes, pending_max: int) -> bool:
        """Add a Pong or a Ping; False if an older one had to go (RFC 6455 section 5.5.3)."""
        self.control.append(frame)
        if len(self.control) <= pending_max:
            return True
        del self.control[0]
        return False

    def take(self) -> list[bytes]:
        """Everything, for the transport."""
        taken = self.frames
        if self.control:
            taken = self.control + taken
            self.control = []
        self.frames = []
        self.size = 0
        return taken

    def clear(self) -> int:
        """Drop what has not been taken, which is whole frames; how many they were."""
        dropped = len(self.frames)
        self.frames = []
        self.control = []
        self.size = 0
        return dropped
