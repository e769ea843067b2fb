"""Rooms' histories: messages with numbers, kept for those who come back. Pure.

Each room has a `Stream`: an epoch, the offset of its newest message, and those messages that are
kept. Here they are kept in this hub's own memory; `replicas.py` is for several nodes.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, final

import msgspec

from ..errors import LocalProtocolError
from ..turn import Turn
from ..wire.framing import Message
from .positions import History, Kept, Position
from .presence import Member
from .sending import send_to_all
from .stats import Stats

if TYPE_CHECKING:
    from .session import Session


def as_object(message: Message) -> str:
    """The text of a JSON object, as far as can be seen. Raises `LocalProtocolError`."""
    if isinstance(message, str) and message[:1] == "{" and message[-1:] == "}":
        return message
    raise LocalProtocolError(
        "a module with history broadcasts JSON objects in text, or says in_history=False"
    )


def size_of(message: str) -> int:
    """Bytes in UTF-8."""
    return len(message) if message.isascii() else len(message.encode("utf-8", "surrogatepass"))


@final
class Stream:
    """One room's messages, from the oldest that is kept (`floor` + 1) to the newest (`offset`)."""

    __slots__ = (
        "_before",
        "_after",
        "_history",
        "_stats",
        "bytes",
        "entries",
        "epoch",
        "floor",
        "name",
        "offset",
        "owner",
        "used_at",
    )

    def __init__(
        self,
        history: History,
        name: str,
        epoch: str,
        stats: Stats,
        owner: Streams | None = None,
    ) -> None:
        self.owner = owner
        self._history = history
        self._stats = stats
        self.name = name
        room = msgspec.json.encode(name).decode()
        self._before = f'"position":{{"room":{room},"offset":'
        self.begin(epoch)
        self.used_at = 0.0

    def begin(self, epoch: str) -> None:
        """Another history, with nothing in it."""
        self.epoch = epoch
        self._after = f',"epoch":{msgspec.json.encode(epoch).decode()}}}}}'
        self.offset = 0
        self.floor = 0
        self.entries: deque[tuple[str, float]] = deque()  # messages, and when they were put in
        self.bytes = 0  # of the messages

    @property
    def position(self) -> Position:
        """Of the newest message."""
        return Position(self.offset, self.epoch)

    def number(self, message: str, offset: int) -> str:
        """The message with its position, which is the object's last field."""
        comma = "" if message == "{}" else ","
        return f"{message[:-1]}{comma}{self._before}{offset}{self._after}"

    def append(self, message: str, now: float) -> str:
        """Keep a message as the next; gives it with its position."""
        self.offset += 1
        numbered = self.number(message, self.offset)
        self.entries.append((numbered, now))
        self.bytes += size_of(numbered)
        while len(self.entries) > self._history.messages_max:
            self._drop()
        while self.bytes > self._history.bytes_max:
            self._drop()
            self._stats.dropped_history_messages += 1
        return numbered

    def prepend(self, message: str, now: float) -> bool:
        """Keep the message that came before the oldest; False if there is no room for it."""
        numbered = self.number(message, self.floor)
        size = size_of(numbered)
        if self.bytes + size > self._history.bytes_max:
            return False
        self.entries.appendleft((numbered, now))
        self.bytes += size
        self.floor -= 1
        return True

    def _drop(self) -> None:
        """Let go of the oldest."""
        self.bytes -= size_of(self.entries.popleft()[0])
        self.floor += 1

    def kept(self, after: Position | None) -> Kept:
        """The messages after a position that are kept; all, if it is of another epoch, or None."""
        since = self.floor
        if after is not None and after.epoch == self.epoch:
            since = min(max(since, after.offset), self.offset)
        newest = islice(reversed(self.entries), self.offset - since)
        return Kept(self.position, [message for message, _ in newest][::-1])

    def trim(self, now: float) -> None:
        """Let go of what is too old."""
        since = now - self._history.age_s
        while self.entries and self.entries[0][1] <= since:
            self._drop()

    def check(self) -> None:
        """It is time to let go of something, or of all of it; the hub's clock calls this."""
        if self.owner is not None:
            self.owner.check(self)


@final
class Streams:
    """The histories of one module's rooms.

    A room's is forgotten `age_s` after its latest message and the leaving of its last member;
    another one then has another epoch.
    """

    __slots__ = ("_epoch", "_members", "_stats", "_streams", "history", "turn")

    def __init__(
        self,
        history: History,
        members: dict[str, dict[Session, Member]],
        epoch: str,
        turn: Turn,
        stats: Stats,
    ) -> None:
        self.history = history
        self.turn = turn
        self._members = members  # of the namespace, by room
        self._epoch = epoch  # no other hub's
        self._stats = stats
        self._streams: dict[str, Stream] = {}

    def stream(self, name: str) -> Stream:
        """A room's, which begins now if there is none; as it is now."""
        now = self.turn.now
        stream = self._streams.get(name)
        if stream is None:
            epoch = f"{self._epoch}.{self.turn.next_number()}"
            stream = self._streams[name] = Stream(self.history, name, epoch, self._stats, self)
            self.turn.deadlines.set(stream, now + self.history.age_s)
        stream.used_at = now
        stream.trim(now)
        return stream

    def broadcast(self, name: str, message: Message) -> int:
        """Number and keep a message, and send it to the room; to how many.

        Raises `LocalProtocolError` for what cannot carry a position.
        """
        numbered = self.stream(name).append(as_object(message), self.turn.now)
        return send_to_all(self._members.get(name, ()), numbered, (), self.turn, self._stats)

    def kept(self, name: str, after: Position | None) -> Kept:
        """See `Room.kept`."""
        stream = self._streams.get(name)
        if stream is None:
            return Kept(Position(0, ""), [])
        stream.trim(self.turn.now)
        return stream.kept(after)

    def left(self, name: str) -> None:
        """A room's last member has left."""
        stream = self._streams.get(name)
        if stream is not None:
            stream.used_at = self.turn.now

    def check(self, stream: Stream) -> None:
        """Trim a stream, or forget it; and say when to look again."""
        now = self.turn.now
        stream.trim(now)
        age_s = self.history.age_s
        if stream.entries:
            when = stream.entries[0][1] + age_s
        elif stream.name in self._members:
            when = now + age_s
        else:
            when = stream.used_at + age_s
        if when > now:
            self.turn.deadlines.set(stream, when)
        else:
            del self._streams[stream.name]
