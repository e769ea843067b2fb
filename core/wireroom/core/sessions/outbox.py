"""What waits to be sent on one connection. Pure.

HTTP responses go first, the handshake's among them: no frame may overtake it. Pongs and Pings go
before messages, since nothing is lost by it and a peer that measures us is answered in time; a
Close is simply the last thing put in. The bytes that the transport has taken
but its socket has not (`unsent`) count as waiting.
"""

from __future__ import annotations

from typing import final


@final
class Outbox:
    """Frames in order, with their size in bytes."""

    __slots__ = ("control", "frames", "limit", "mark", "responses", "size", "unsent")

    def __init__(self, *, mark: int, limit: int) -> None:
        self.responses: list[bytes] = []
        self.control: list[bytes] = []
        self.frames: list[bytes] = []
        self.size = 0  # bytes of `responses` and `frames`
        self.unsent = 0
        self.mark = mark
        self.limit = limit

    @property
    def empty(self) -> bool:
        """Whether the transport has taken everything."""
        return not self.frames and not self.control and not self.responses

    @property
    def waiting(self) -> int:
        """Bytes that the socket has not taken, but for control frames."""
        return self.size + self.unsent

    def put(self, frame: bytes) -> None:
        """Add a message or a Close."""
        self.frames.append(frame)
        self.size += len(frame)

    def put_response(self, response: bytes) -> None:
        """Add an HTTP response."""
        self.responses.append(response)
        self.size += len(response)

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
        if self.control or self.responses:
            taken = self.responses + self.control + taken
            self.responses = []
            self.control = []
        self.frames = []
        self.size = 0
        return taken

    def clear(self) -> int:
        """Drop the frames that have not been taken, which are whole; how many messages that is."""
        dropped = len(self.frames)
        self.frames = []
        self.control = []
        self.size = sum(map(len, self.responses))
        return dropped
