"""One module's rooms at other nodes: what is said to them, and who is in them there. Pure.

A node is subscribed to a room's channel while somebody here is in it, or on the way into it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

from ..backplane import Appended, HistoryRead
from ..wire.framing import Message
from .envelopes import (
    Envelope,
    Presence,
    PresenceChange,
    PresenceWanted,
    Present,
    ToRoom,
)
from .node import Node, room_channel
from .positions import History, Kept, Position
from .presence import Member
from .replicas import Replica
from .sending import send_to_all
from .streams import Stream

if TYPE_CHECKING:
    from .session import Session

_NOBODY: Final[dict[int, Member]] = {}


@final
class RoomLink:
    """One room's."""

    __slots__ = ("_links", "_others", "channel", "coming", "name", "replica")

    def __init__(self, links: RoomLinks, name: str) -> None:
        self._links = links
        self.name = name
        self.channel = room_channel(links.path, name)
        self.coming = 0  # how many are on the way into it
        self._others: dict[str, dict[int, Member]] = {}  # members elsewhere, by node and fd
        history = links.history
        self.replica = (
            None
            if history is None
            else Replica(links.node, self.channel, name, history, links.members, links.tell_missed)
        )

    @property
    def others(self) -> list[Member]:
        """The members at other nodes."""
        return [member for members in self._others.values() for member in members.values()]

    # -- as a subscriber --------------------------------------------------------------------------

    def receive(self, envelope: Envelope) -> None:
        links = self._links
        if isinstance(envelope, ToRoom):
            here = links.members.get(self.name, ())
            send_to_all(here, envelope.message, (), links.node.turn, links.node.stats)
        elif not links.presence:
            pass
        elif isinstance(envelope, PresenceChange):
            members = self._others.setdefault(envelope.node, {})
            joined = [self._member(envelope.node, each) for each in envelope.joined]
            left = [members.pop(fd) for fd in envelope.left if fd in members]
            new = [each for each in joined if each.fd not in members]
            members.update((each.fd, each) for each in joined)
            if len(members) != envelope.count:
                links.node.publish(self.channel, PresenceWanted(links.node.name, envelope.node))
            self._tell(new, left)
        elif isinstance(envelope, Presence):
            before = self._others.get(envelope.node, _NOBODY)
            now = {each.fd: self._member(envelope.node, each) for each in envelope.members}
            self._others[envelope.node] = now
            self._tell(
                [member for fd, member in now.items() if fd not in before],
                [member for fd, member in before.items() if fd not in now],
            )
        elif isinstance(envelope, PresenceWanted) and envelope.of in ("", links.node.name):
            self.say_presence()

    def appended(self, event: Appended) -> None:
        if self.replica is not None:
            self.replica.appended(event)

    def history_read(self, event: HistoryRead) -> None:
        if self.replica is not None:
            self.replica.history_read(event)

    def connected(self) -> None:
        if self.replica is not None:
            self.replica.connected()
        self.ask_presence()
        if self._links.presence:
            self.say_presence()

    def lost(self) -> None:
        if self.replica is not None:
            self.replica.lost()

    def node_ended(self, node: str) -> None:
        members = self._others.pop(node, None)
        if members:
            self._tell([], list(members.values()))

    # -- presence ---------------------------------------------------------------------------------

    def ask_presence(self) -> None:
        """Ask other nodes who is in it there."""
        links = self._links
        if links.presence:
            links.node.publish(self.channel, PresenceWanted(links.node.name, ""))

    def say_presence(self) -> None:
        """Say who is in it here."""
        links = self._links
        members = [links.present(each) for each in links.members.get(self.name, {}).values()]
        links.node.publish(self.channel, Presence(links.node.name, members))

    def _member(self, node: str, present: Present) -> Member:
        since = self._links.node.turn.now - present.age_s
        return Member(present.fd, present.user, since, node)

    def _tell(self, joined: list[Member], left: list[Member]) -> None:
        if (joined or left) and self.name in self._links.members:
            self._links.tell_presence(self.name, joined, left)


@final
class RoomLinks:
    """Those of one module. `members` are here, by room; `tell_missed` and `tell_presence` tell
    them."""

    __slots__ = (
        "_links",
        "history",
        "members",
        "node",
        "path",
        "presence",
        "tell_missed",
        "tell_presence",
    )

    def __init__(
        self,
        node: Node,
        path: str,
        history: History | None,
        members: dict[str, dict[Session, Member]],
        *,
        presence: bool,
        tell_missed: Callable[[Stream], None],
        tell_presence: Callable[[str, list[Member], list[Member]], None],
    ) -> None:
        self.node = node
        self.path = path
        self.history = history
        self.members = members
        self.presence = presence
        self.tell_missed = tell_missed
        self.tell_presence = tell_presence
        self._links: dict[str, RoomLink] = {}

    def link(self, name: str) -> RoomLink:
        """A room's, which is linked from now on."""
        link = self._links.get(name)
        if link is None:
            link = self._links[name] = RoomLink(self, name)
            self.node.subscribe(link.channel, link)
            if link.replica is not None:
                link.replica.connected()
            link.ask_presence()
        return link

    def begin_coming(self, name: str) -> RoomLink:
        """Somebody is on the way into a room, until `end_coming`."""
        link = self.link(name)
        link.coming += 1
        return link

    def end_coming(self, link: RoomLink) -> None:
        """Somebody is in, or has given up."""
        link.coming -= 1
        self.let_go(link.name)

    def let_go(self, name: str) -> None:
        """Unlink a room that nobody here is in."""
        link = self._links.get(name)
        if link is not None and not link.coming and name not in self.members:
            del self._links[name]
            self.node.unsubscribe(link.channel)

    def broadcast(self, name: str, message: Message) -> None:
        """For the members at other nodes, now."""
        self.node.publish(room_channel(self.path, name), ToRoom(self.node.name, message))

    def append(self, name: str, message: str) -> None:
        """For the members at all nodes, in the order of the backplane, and to be kept.

        Raises `BackplaneAwayError`.
        """
        assert self.history is not None
        self.node.append(room_channel(self.path, name), message, self.history)

    def kept(self, name: str, after: Position | None) -> Kept | None:
        """See `Room.kept`."""
        link = self._links.get(name)
        return None if link is None or link.replica is None else link.replica.kept(after)

    def presence_changed(self, name: str, joined: list[Member], left: list[Member]) -> None:
        """Tell other nodes who came into a room here, and who left it."""
        change = PresenceChange(
            self.node.name,
            [self.present(each) for each in joined],
            [each.fd for each in left],
            len(self.members.get(name, ())),
        )
        self.node.publish(room_channel(self.path, name), change)

    def others(self, name: str) -> list[Member]:
        """The members at other nodes, as far as they have told."""
        link = self._links.get(name)
        return [] if link is None else link.others

    def present(self, member: Member) -> Present:
        """A member of ours as others are told of it."""
        return Present(member.fd, member.user, self.node.turn.now - member.since)
