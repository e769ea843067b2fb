"""Rooms: sets of sessions in a module's namespace, and who is in them. Pure.

A room exists while somebody is in it. `Room` is a name for one, and may be held while the room
itself comes and goes. Joining, leaving and asking cost the same however large a room is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias, final

from mypy_extensions import mypyc_attr

from ..errors import LocalProtocolError
from ..turn import Turn
from ..wire.framing import Message
from .links import RoomLinks
from .node import Node
from .positions import History, Kept, MessagesMissed, Position, RoomPosition
from .presence import Member, PresenceChanged
from .sending import send_to_all
from .stats import Stats
from .streams import Stream, Streams, as_object

if TYPE_CHECKING:
    from .recovering import Recovering
    from .session import Session

Pack: TypeAlias = Callable[[object], Message]
"""Turns what an application sends into a text or a binary message."""

RoomHook: TypeAlias = "Callable[[Session, Room], None]"
"""Is told of a session that has joined, or left."""

PresenceHook: TypeAlias = "Callable[[Room, PresenceChanged], None]"
"""Is told who came into a room and who left it, here or at another node."""


@final
class Namespace:
    """The rooms of one module."""

    __slots__ = (
        "_changes",
        "_presence",
        "_room_type",
        "coming",
        "links",
        "members",
        "not_packed",
        "on_join",
        "on_leave",
        "on_presence",
        "pack",
        "room_sessions_max",
        "stats",
        "streams",
        "turn",
    )

    def __init__(
        self,
        *,
        turn: Turn,
        stats: Stats,
        pack: Pack,
        room_sessions_max: int,
        presence: bool,
        history: History | None,
        epoch: str,
        path: str,
        node: Node | None,
        room_type: type[Room],
    ) -> None:
        self.members: dict[str, dict[Session, Member]] = {}
        self.coming: dict[Session, list[Recovering]] = {}  # who is sent what it has missed
        # Where histories are: here, or with what links this node to others.
        self.streams: Streams | None = None
        self.links: RoomLinks | None = None
        if node is not None:
            self.links = RoomLinks(
                node,
                path,
                history,
                self.members,
                presence=presence,
                tell_missed=self._tell_missed,
                tell_presence=self._tell_presence,
            )
        elif history is not None:
            self.streams = Streams(history, self.members, epoch, turn, stats)
        self.on_join: RoomHook | None = None
        self.on_leave: RoomHook | None = None
        self.on_presence: PresenceHook | None = None  # is called in place of telling the members
        self.not_packed: Callable[[Exception], None] | None = None  # is told why, if `pack` raises
        self.pack = pack
        self.room_sessions_max = room_sessions_max
        self.stats = stats
        self.turn = turn
        self._presence = presence
        self._room_type = room_type
        # By room: who came (True) or left (False) in this turn, and was otherwise before it.
        self._changes: dict[str, dict[Member, bool]] = {}

    def room(self, name: str) -> Room:
        """The room of that name, whether anybody is in it or not."""
        return self._room_type(self, name)

    def join(self, name: str, session: Session) -> bool:
        """Put a session into a room; False if it was there.

        Raises `LocalProtocolError` if the room is full.
        """
        members = self.members.get(name)
        if members is None:
            members = self.members[name] = {}
            self.stats.rooms += 1
        elif session in members:
            return False
        elif len(members) >= self.room_sessions_max:
            raise LocalProtocolError(
                f"room {name!r} has {self.room_sessions_max} sessions (Limits.room_sessions_max)"
            )
        member = members[session] = Member(session.fd, session.user_id, self.turn.now)
        if self.links is not None:
            self.links.link(name)
        self._changed(name, member, True)
        if self.on_join is not None:
            self.on_join(session, self.room(name))
        return True

    def leave(self, name: str, session: Session) -> bool:
        """Take a session out of a room; False if it was not there."""
        members = self.members.get(name)
        member = None if members is None else members.pop(session, None)
        if members is None or member is None:
            return False
        if not members:
            del self.members[name]
            self.stats.rooms -= 1
            if self.streams is not None:
                self.streams.left(name)
            if self.links is not None:
                self.links.let_go(name)
        self._changed(name, member, False)
        if self.on_leave is not None:
            self.on_leave(session, self.room(name))
        return True

    def _changed(self, name: str, member: Member, joined: bool) -> None:
        if not self._presence:
            return
        if not self._changes:
            self.turn.before_drain(self._tell_changes)
        changes = self._changes.setdefault(name, {})
        if changes.pop(member, joined) is joined:
            changes[member] = joined

    def _tell_changes(self) -> None:
        """Once a turn: each room's members learn who came and who left."""
        rooms, self._changes = self._changes, {}
        for name, changes in rooms.items():
            if changes:
                joined = [member for member, is_in in changes.items() if is_in]
                left = [member for member, is_in in changes.items() if not is_in]
                if self.links is not None:
                    self.links.presence_changed(name, joined, left)
                if name in self.members:
                    self._tell_presence(name, joined, left)

    def _tell_presence(self, name: str, joined: list[Member], left: list[Member]) -> None:
        changed = PresenceChanged(name, joined, left)
        if self.on_presence is not None:
            self.on_presence(self.room(name), changed)
        else:
            self._tell(name, changed)

    def _tell_missed(self, stream: Stream) -> None:
        position = RoomPosition(stream.name, stream.offset, stream.epoch)
        self._tell(stream.name, MessagesMissed(stream.name, position))

    def _tell(self, name: str, changed: PresenceChanged | MessagesMissed) -> None:
        """Nobody asked for this message, so there is nobody to raise to."""
        try:
            message = self.pack(changed)
        except Exception as error:
            if self.not_packed is not None:
                self.not_packed(error)
        else:
            self.stats.broadcasts += 1
            send_to_all(self.members.get(name, ()), message, (), self.turn, self.stats)


@mypyc_attr(allow_interpreted_subclasses=True)  # of sessions/guarded.py
class Room:
    """A room by its name, in one module's namespace."""

    __slots__ = ("_namespace", "name")

    def __init__(self, namespace: Namespace, name: str) -> None:
        self._namespace = namespace
        self.name = name

    @property
    def turn(self) -> Turn:
        """The hub's."""
        return self._namespace.turn

    def __repr__(self) -> str:
        return f"<Room {self.name!r} of {len(self)}>"

    def __len__(self) -> int:
        return len(self._namespace.members.get(self.name, ()))

    def __contains__(self, session: object) -> bool:
        return session in self._namespace.members.get(self.name, ())

    def __iter__(self) -> Iterator[Session]:
        """The members now; joins and leaves during the loop do not disturb it."""
        return iter(list(self._namespace.members.get(self.name, ())))

    def presence(self) -> list[Member]:
        """Who is in it: fd, user and since when, in the order in which they came; those at other
        nodes too, in a module with `presence`."""
        namespace = self._namespace
        members = list(namespace.members.get(self.name, {}).values())
        others = [] if namespace.links is None else namespace.links.others(self.name)
        return sorted([*members, *others], key=_since) if others else members

    def kept(self, after: Position | None = None) -> Kept | None:
        """What its history has after a position, or all of it, as far as this node keeps it.

        None while that may not be the newest: with a backplane that is away, or in a room that
        nobody here is in. Raises `LocalProtocolError` in a module without history.
        """
        streams, links = self._namespace.streams, self._namespace.links
        if streams is not None:
            return streams.kept(self.name, after)
        if links is None or links.history is None:
            raise LocalProtocolError("a room's history is kept in a module with history")
        return links.kept(self.name, after)

    def broadcast(
        self,
        data: object,
        *,
        exclude: Iterable[Session] = (),
        where: Callable[[Session], bool] | None = None,
        in_history: bool = True,
    ) -> int:
        """Send `data` to every member but those in `exclude`, and only to those for whom
        `where`, if given, is true; how many that were.

        It is packed and encoded once. A member whose outbox is full is closed with 1008. In a
        module with history it is numbered and kept, for every member, those who come back
        included; what is for now (`in_history=False`) is not.
        Raises `LocalProtocolError` for what is to be kept but not for everybody.

        With a backplane it reaches the members at other nodes, who are not counted. `where` is
        asked of those here alone, and such a message is for them alone. What is kept comes back
        with its number; while the backplane is away it waits, or `BackplaneAwayError` is raised.
        """
        namespace = self._namespace
        message = data if isinstance(data, str | bytes) else namespace.pack(data)
        streams, links = namespace.streams, namespace.links
        if in_history and (streams or (links and links.history)):
            if where is not None or exclude:
                raise LocalProtocolError(
                    "what a room's history keeps is for every member: broadcast it without"
                    " exclude= and where=, or with in_history=False"
                )
            namespace.stats.broadcasts += 1
            if streams is not None:
                return streams.broadcast(self.name, message)
            assert links is not None
            links.append(self.name, as_object(message))
            return len(self)
        if links is not None and where is None:
            links.broadcast(self.name, message)
        namespace.stats.broadcasts += 1
        members: Iterable[Session] = namespace.members.get(self.name, ())
        if where is not None:
            members = [session for session in members if where(session)]
        return send_to_all(members, message, exclude, namespace.turn, namespace.stats)


def _since(member: Member) -> float:
    return member.since
