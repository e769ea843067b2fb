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

    __slots__ = ("control", "frames", "limit", "mark", "responses", "unsent", "waiting")

    def __init__(self, *, mark: int, limit: int) -> None:
        self.responses: list[bytes] = []
        self.control: list[bytes] = []
        self.frames: list[bytes] = []
        # Bytes that the socket has not taken, but for control frames: those of `responses` and
        # `frames`, and those that the transport holds (`unsent`).
        self.waiting = 0
        self.unsent = 0
        self.mark = mark
        self.limit = limit

    @property
    def empty(self) -> bool:
        """Whether the transport has taken everything."""
        return not self.frames and not self.control and not self.responses

    @property
    def size(self) -> int:
        """Bytes of responses and messages that the transport has not taken."""
        return self.waiting - self.unsent

    def set_unsent(self, count: int) -> None:
        """The transport holds `count` bytes."""
        self.waiting += count - self.unsent
        self.unsent = count

    def put(self, frame: bytes) -> None:
        """Add a message or a Close."""
        self.frames.append(frame)
        self.waiting += len(frame)

    def put_response(self, response: bytes) -> None:
        """Add an HTTP response."""
        self.responses.append(response)
        self.waiting += len(response)

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
        self.waiting = self.unsent
        return taken

    def clear(self) -> int:
        """Drop the frames that have not been taken, which are whole; how many messages that is."""
        dropped = len(self.frames)
        self.frames = []
        self.control = []
        self.waiting = self.unsent + sum(map(len, self.responses))
        return dropped
