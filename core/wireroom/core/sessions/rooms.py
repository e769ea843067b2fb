"""Rooms: sets of sessions in a module's namespace, and sending to all of them. Pure.

A room exists while somebody is in it. `Room` is a name for one, and may be held while the room
itself comes and goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, TypeAlias, final

from ..errors import LocalProtocolError
from ..turn import Turn
from ..wire.framing import Framing, Message
from ..wire.states import State
from .stats import Stats

if TYPE_CHECKING:
    from .session import Session

_OPEN: Final = State.OPEN  # looked up for every member of a broadcast

Pack: TypeAlias = Callable[[object], Message]
"""Turns what an application sends into a text or a binary message."""


@final
class Namespace:
    """The rooms of one module."""

    __slots__ = ("members", "pack", "stats", "turn")

    def __init__(self, *, turn: Turn, stats: Stats, pack: Pack) -> None:
        self.members: dict[str, dict[Session, None]] = {}
        self.pack = pack
        self.stats = stats
        self.turn = turn

    def room(self, name: str) -> Room:
        """The room of that name, whether anybody is in it or not."""
        return Room(self, name)

    def join(self, name: str, session: Session) -> bool:
        """Put a session into a room; False if it was there."""
        members = self.members.get(name)
        if members is None:
            members = self.members[name] = {}
            self.stats.rooms += 1
        elif session in members:
            return False
        members[session] = None
        return True

    def leave(self, name: str, session: Session) -> bool:
        """Take a session out of a room; False if it was not there."""
        members = self.members.get(name)
        if members is None or session not in members:
            return False
        del members[session]
        if not members:
            del self.members[name]
            self.stats.rooms -= 1
        return True


@final
class Room:
    """A room by its name, in one module's namespace."""

    __slots__ = ("_namespace", "name")

    def __init__(self, namespace: Namespace, name: str) -> None:
        self._namespace = namespace
        self.name = name

    def __repr__(self) -> str:
        return f"<Room {self.name!r} of {len(self)}>"

    def __len__(self) -> int:
        return len(self._namespace.members.get(self.name, ()))

    def __contains__(self, session: object) -> bool:
        return session in self._namespace.members.get(self.name, ())

    def __iter__(self) -> Iterator[Session]:
        """The members now; joins and leaves during the loop do not disturb it."""
        return iter(list(self._namespace.members.get(self.name, ())))

    def broadcast(self, data: object, *, exclude: Iterable[Session] = ()) -> int:
        """Send `data` to every member but those in `exclude`; how many that were.

        It is packed and encoded once. A member whose outbox is full is closed with 1008.
        """
        namespace = self._namespace
        message = data if isinstance(data, str | bytes) else namespace.pack(data)
        namespace.stats.broadcasts += 1
        return send_to_all(
            namespace.members.get(self.name, ()), message, exclude, namespace.turn, namespace.stats
        )


def send_to_all(
    sessions: Iterable[Session],
    message: Message,
    exclude: Iterable[Session],
    turn: Turn,
    stats: Stats,
) -> int:
    """Send one message to many open sessions, encoding it once a framing that can share it."""
    if not isinstance(message, str | bytes):
        raise LocalProtocolError(f"a message is str or bytes, not {type(message).__name__}")
    excluded = set(exclude)
    dirty = turn.dirty
    shared: dict[object, bytes] = {}
    key: object = None  # of the framing that `frame` is for
    frame = b""
    size = 0
    above: list[Session] = []  # looked at afterwards, since closing one changes the room
    sent = 0
    for session in sessions:
        framing = session.framing
        if framing is None or session.phase is not _OPEN or (excluded and session in excluded):
            continue
        if framing.sharing_key is not key or key is None:
            key = framing.sharing_key
            frame = _shared_frame(framing, message, shared)
            size = len(frame)
        outbox = session.outbox
        if not outbox.frames:
            dirty[session.fd] = None
        outbox.frames.append(frame)
        outbox.waiting += size
        sent += 1
        if outbox.waiting > outbox.mark:
            above.append(session)
    if sent:
        turn.wake_once()
    for session in above:
        session.check_outbox()
    stats.messages_sent += sent
    return sent


def _shared_frame(framing: Framing, message: Message, shared: dict[object, bytes]) -> bytes:
    """The message's frame for one framing, encoded once for all that can share it."""
    key = framing.sharing_key
    if key is None:
        return framing.encode_message(message)
    frame = shared.get(key)
    if frame is None:
        frame = shared[key] = framing.encode_message(message)
    return frame
