"""Rooms' histories: numbered messages, and the sessions that come back for them. Pure.

Each room has a `Stream`: an epoch, the offset of its newest message, and those messages that are
kept. A session that recovers is sent what came after its position, a part at a time as it reads,
and joins the room in the same step in which it has been sent everything: what is broadcast from
then on it gets as a member, so that nothing is doubled and nothing left out.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final, final

import msgspec

from ..errors import LocalProtocolError
from ..turn import READY, Ready, Turn, Wait
from ..wire.framing import Message
from .positions import History, Position, Recovery
from .presence import Member
from .sending import send_to_all
from .stats import Stats

if TYPE_CHECKING:
    from .session import Session

_NOT_OBJECTS: Final = (
    "a module with history broadcasts JSON objects in text (or says in_history=False)"
)


@final
class Stream:
    """One room's messages, from the oldest that is kept (`floor` + 1) to the newest (`offset`)."""

    __slots__ = (
        "_before",
        "_streams",
        "_after",
        "entries",
        "epoch",
        "floor",
        "name",
        "offset",
        "used_at",
    )

    def __init__(self, streams: Streams, name: str, epoch: str) -> None:
        self._streams = streams
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
        if len(self.entries) > self._streams.history.messages_max:
            self.entries.popleft()
            self.floor += 1
        return numbered

    def trim(self, now: float) -> None:
        """Let go of what is too old."""
        since = now - self._streams.history.age_s
        while self.entries and self.entries[0][1] <= since:
            self.entries.popleft()
            self.floor += 1

    def check(self) -> None:
        """It is time to let go of something, or of all of it; the hub's clock calls this."""
        self._streams.check(self)


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
            stream = self._streams[name] = Stream(self, name, epoch)
            self.turn.deadlines.set(stream, now + self.history.age_s)
        stream.used_at = now
        stream.trim(now)
        return stream

    def broadcast(self, name: str, message: Message) -> int:
        """Number and keep a message, and send it to the room; to how many.

        Raises `LocalProtocolError` for what cannot carry a position.
        """
        if not isinstance(message, str) or message[:1] != "{" or message[-1:] != "}":
            raise LocalProtocolError(_NOT_OBJECTS)
        numbered = self.stream(name).append(message, self.turn.now)
        return send_to_all(self._members.get(name, ()), numbered, (), self.turn, self._stats)

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


@final
class Recovering:
    """A session on its way back into a room: what it has been sent, and at last the `recovery`."""

    __slots__ = ("_cursor", "_position", "_session", "_streams", "name", "recovery")

    def __init__(
        self, streams: Streams, session: Session, name: str, position: Position | None
    ) -> None:
        self._streams = streams
        self._session = session
        self.name = name
        self._position = position  # the client's
        self._cursor = -1 if position is None else position.offset  # what it has been sent
        self.recovery: Recovery | None = None

    def step(self) -> Wait | Ready:
        """Send what is missing, as far as the session reads it; `recovery` is set at the end.

        Gives what to wait for before the next step. Raises what `Session.send` and `join` raise.
        """
        session = self._session
        stream = self._streams.stream(self.name)
        position = self._position
        if position is not None and not (
            position.epoch == stream.epoch and stream.floor <= self._cursor <= stream.offset
        ):
            return self._end(stream, recovered=False)
        if position is not None:
            outbox = session.outbox
            is_member = self.name in session.rooms  # who is sent what is new anyway, and so at once
            for message, _ in list(islice(stream.entries, self._cursor - stream.floor, None)):
                if outbox.waiting > outbox.mark and not is_member:
                    return session.drain()
                session.send(message)
                self._cursor += 1
        return self._end(stream, recovered=True)

    def _end(self, stream: Stream, *, recovered: bool) -> Ready:
        self._session.join(self.name)
        self.recovery = Recovery(recovered, stream.position)
        return READY
