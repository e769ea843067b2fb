"""Presence: a room is told who comes and who goes, a few times a second, each user once.

A user is in a room while any of their sessions is. Who leaves and comes back in between, as those
do who reconnect, was never away.
"""

from __future__ import annotations

from typing import Final, final

from protocol import Presence
from records import Account
from wireroom.core import App, Module, Room, Session
from wireroom.core.sessions.session import SessionHub

INTERVAL_S: Final = 0.25


@final
class PresenceChanges:
    """What rooms are to be told: by room, who came (True) or left (False)."""

    def __init__(self) -> None:
        self._rooms: dict[str, tuple[Room, dict[Account, bool]]] = {}

    def note(self, room: Room, account: Account, *, joined: bool) -> None:
        """A user came or left."""
        _, changes = self._rooms.setdefault(room.name, (room, {}))
        if changes.pop(account, joined) is joined:
            changes[account] = joined

    def tell(self) -> None:
        """Tell the rooms."""
        rooms, self._rooms = self._rooms, {}
        for room, changes in rooms.values():
            if changes:
                joined = [account for account, is_in in changes.items() if is_in]
                left = [account for account, is_in in changes.items() if not is_in]
                room.broadcast(Presence(room.name, joined, left), in_history=False)


def joined(session: Session, room: Room) -> None:
    """`on_join`."""
    _note(session, room, joined=True)


def left(session: Session, room: Room) -> None:
    """`on_leave`."""
    _note(session, room, joined=False)


def _note(session: Session, room: Room, *, joined: bool) -> None:
    hub = session.hub
    others = hub.user(session.user.id).sessions
    if not any(each is not session and each in room for each in others):
        hub.service(PresenceChanges).note(room, session.user, joined=joined)


def tell_changes(hub: SessionHub) -> None:
    """`every`."""
    hub.service(PresenceChanges).tell()


def add_presence(app: App, module: Module) -> None:
    """Have rooms told."""
    app.provide(PresenceChanges, PresenceChanges)
    module.on_join(joined)
    module.on_leave(left)
    app.every(INTERVAL_S)(tell_changes)
