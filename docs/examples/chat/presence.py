"""Presence: a room is told who comes and who goes, a few times a second, each user once.

A user is in a room while any of their sessions is, at any node. Who leaves and comes back in
between, as those do who reconnect, was never away. Each node tells its own members, of whom it
knows by the hub's own presence; all here runs in inputs of the hub.
"""

from __future__ import annotations

from functools import partial
from typing import Final, final

import queries
from protocol import Presence
from records import Account
from store import Store
from wireroom.core import App, Module, PresenceChanged, Room, Session
from wireroom.core.sessions.session import SessionHub

INTERVAL_S: Final = 0.25
_NAMES_MAX: Final = 100_000  # then they are forgotten, and looked up again


@final
class Presences:
    """Who is in rooms, as far as their members here were told."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}  # of accounts, by their ids
        self._told: dict[str, set[int]] = {}  # by room
        self._changed: dict[str, Room] = {}
        self._is_asking = False  # for names

    def accounts_in(self, room: Room) -> list[Account]:
        """Who is in a room; who is not known by name yet is told of later."""
        ids = dict.fromkeys(member.user for member in room.presence())
        return [Account(each, self._names[each]) for each in ids if each in self._names]

    def joined(self, account: Account) -> None:
        """Somebody is in a room here."""
        if len(self._names) >= _NAMES_MAX:
            self._names.clear()
        self._names[account.id] = account.name

    def changed(self, room: Room) -> None:
        """Somebody came or left, here or at another node."""
        self._changed[room.name] = room

    def emptied(self, room: Room) -> None:
        """Nobody is here to be told any more."""
        self._changed.pop(room.name, None)
        self._told.pop(room.name, None)

    def tell(self, hub: SessionHub) -> None:
        """Tell the rooms in which somebody came or left, once all names are known."""
        unknown: set[int] = set()
        for name, room in list(self._changed.items()):
            now = {member.user for member in room.presence()}
            before = self._told.get(name, set())
            new = {each for each in now ^ before if each not in self._names}
            if new:
                unknown |= new
                continue
            del self._changed[name]
            self._told[name] = now
            if now != before:
                event = Presence(name, self._accounts(now - before), self._accounts(before - now))
                # Other nodes tell theirs: `where` is for those who are here.
                room.broadcast(event, where=lambda session: True, in_history=False)
        if unknown and not self._is_asking:
            self._ask(hub, unknown)

    def _accounts(self, ids: set[int]) -> list[Account]:
        return [Account(each, self._names[each]) for each in sorted(ids)]

    def _ask(self, hub: SessionHub, ids: set[int]) -> None:
        asked = hub.service(Store).read(partial(queries.names_of, account_ids=ids))
        self._is_asking = True
        hub.completion(asked).then(
            lambda names: self._names.update({each: names.get(each, f"#{each}") for each in ids})
        )
        asked.add_done_callback(lambda done: self._asked())

    def _asked(self) -> None:
        self._is_asking = False


def joined(session: Session, room: Room) -> None:
    """`on_join`."""
    session.hub.service(Presences).joined(session.user)


def left(session: Session, room: Room) -> None:
    """`on_leave`."""
    if not len(room):
        session.hub.service(Presences).emptied(room)


def changed(room: Room, changed: PresenceChanged) -> None:
    """`on_presence`."""
    for session in room:
        session.hub.service(Presences).changed(room)
        return


def tell(hub: SessionHub) -> None:
    """`every`."""
    hub.service(Presences).tell(hub)


def add_presence(app: App, module: Module) -> None:
    """Have rooms told. The module has `presence=True`."""
    app.provide(Presences, Presences)
    module.on_join(joined)
    module.on_leave(left)
    module.on_presence(changed)
    app.every(INTERVAL_S)(tell)
