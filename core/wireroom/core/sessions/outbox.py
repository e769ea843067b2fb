"""What waits to be sent on one connection. Pure.

HTTP responses go first, the handshake's among them: no frame may overtake it. Pongs and Pings go
before messages, since nothing is lost by it and a peer that measures us is answered in time; a
Close is simply the last thing put in. The bytes that the transport has taken
but its socket has not (`unsent`) count as waiting.

A broadcast puts a frame into many outboxes, which are then taken one by one. With many sessions
that costs what fetching their memory costs, and so an outbox is small and alone: whatever the
common case needs is in its own slots, the one frame that waits included.
"""

from __future__ import annotations

from typing import final


@final
class Outbox:
    """Frames in order, with their size in bytes.

    `sharing_key` is that of the session's framing while the session is open (see
    `Framing.sharing_key`), and otherwise None. `plain` says that taking `frames` is all there is
    to do: there is nothing else in it, and nobody waits for it.
    """

    __slots__ = (
        "bytes_taken",
        "control",
        "fd",
        "first",
        "limit",
        "mark",
        "plain",
        "responses",
        "rest",
        "sharing_key",
        "unsent",
        "waiting",
    )

    def __init__(self, *, fd: int, mark: int, limit: int) -> None:
        self.fd = fd
        self.sharing_key: object = None
        self.plain = False
        self.responses: list[bytes] | None = None
        self.control: list[bytes] | None = None
        self.first: bytes | None = None  # of the messages and the Close
        self.rest: list[bytes] | None = None  # of them, if there are more
        # Bytes that the socket has not taken, but for control frames: those of `responses` and
        # `frames`, and those that the transport holds (`unsent`).
        self.waiting = 0
        self.unsent = 0
        self.bytes_taken = 0  # by the transport, in all
        self.mark = mark
        self.limit = limit

    @property
    def empty(self) -> bool:
        """Whether the transport has taken everything."""
        return self.first is None and not self.control and not self.responses

    @property
    def frames(self) -> list[bytes]:
        """Messages, and a Close."""
        if self.first is None:
            return []
        if self.rest is None:
            return [self.first]
        return [self.first, *self.rest]

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
        self.waiting += len(frame)
        if self.first is None:
            self.first = frame
        elif self.rest is None:
            self.rest = [frame]
        else:
            self.rest.append(frame)

    def put_response(self, response: bytes) -> None:
        """Add an HTTP response."""
        self.plain = False
        if self.responses is None:
            self.responses = []
        self.responses.append(response)
        self.waiting += len(response)

    def put_control(self, frame: bytes, pending_max: int) -> bool:
        """Add a Pong or a Ping; False if an older one had to go (RFC 6455 section 5.5.3)."""
        self.plain = False
        if self.control is None:
            self.control = []
        self.control.append(frame)
        if len(self.control) <= pending_max:
            return True
        del self.control[0]
        return False

    def take(self) -> list[bytes]:
        """Everything, for the transport."""
        taken = self.take_frames()
        if self.control or self.responses:
            taken = [*(self.responses or ()), *(self.control or ()), *taken]
            self.responses = self.control = None
        return taken

    def take_frames(self) -> list[bytes]:
        """Everything, if it is `plain`."""
        first = self.first
        if first is None:
            taken = []
        elif self.rest is None:
            taken = [first]
            self.first = None
        else:
            taken = [first, *self.rest]
            self.first = self.rest = None
        self.waiting = self.unsent
        return taken

    def clear(self) -> int:
        """Drop the frames that have not been taken, which are whole; how many messages that is."""
        dropped = len(self.frames)
        self.first = self.rest = self.control = None
        self.waiting = self.unsent + sum(map(len, self.responses or ()))
        return dropped
