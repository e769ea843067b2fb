"""What was stored and never announced: each node finds it, and announces it.

A node that is killed between storing a message and announcing it leaves those at other nodes
without it. When more is said in the room, they miss an offset and ask for it. For when nothing
more is said, each node compares, of the rooms that it has members in, the newest offset that is
stored with the newest that was announced; what is behind at two looks is announced, as a message
that is sent again is: it is new only to those who do not know it.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Final, NamedTuple, final

import msgspec

import queries
from protocol import MessageChanged, fields_of
from records import PAGE_MAX, StoredMessage
from store import Store
from store_results import StoreError
from wireroom.core import App, BackplaneAwayError, Position, Room
from wireroom.core.sessions.session import SessionHub

logger: Final = logging.getLogger("chat.unannounced")

INTERVAL_S: Final = 2.0  # between two looks
ROOMS_MAX: Final = 1000  # at a look
SETTLING_S: Final = 10.0  # after the backplane was away others may still have much to announce


class _Announced(msgspec.Struct, frozen=True):
    """What concerns us of what is broadcast in a room; 0 if it is no message."""

    offset: int = 0


_decode: Final = msgspec.json.Decoder(_Announced).decode


@final
class Watched:
    """A room with members here."""

    __slots__ = ("announced", "position", "room", "stored")

    def __init__(self, room: Room, position: Position, last_offset: int) -> None:
        self.room = room
        self.position = position  # up to where it was looked at what was announced
        self.announced = last_offset  # the highest offset that members here can know of
        self.stored: int | None = None  # at the look before

    def catch_up(self) -> bool:
        """See what was announced since; False if it is not known here for now."""
        kept = self.room.kept(self.position)
        if kept is None:
            return False
        self.position = kept.position
        self.announced = max(
            self.announced, *(_decode(message).offset for message in kept.messages), 0
        )
        return True


class Overdue(NamedTuple):
    """A room in which what is stored up to an offset should have been announced."""

    watched: Watched
    up_to: int


@final
class Unannounced:
    """The rooms that a node looks at, `ROOMS_MAX` at a time."""

    def __init__(self) -> None:
        self._rooms: dict[str, Watched] = {}
        self._next: list[str] = []
        self._losses = 0  # of the backplane
        self._settled_at = 0.0

    def joined(self, room: Room, position: Position, last_offset: int) -> None:
        """Somebody is in a room, since a position, and then knew of messages up to an offset."""
        watched = Watched(room, position, last_offset)
        if len(room) == 1:
            self._rooms[room.name] = watched
        else:
            self._rooms.setdefault(room.name, watched)

    def next_names(self) -> list[str]:
        """The rooms to be looked at now; each has its turn."""
        if not self._next:
            self._next = list(self._rooms)
        names, self._next = self._next[:ROOMS_MAX], self._next[ROOMS_MAX:]
        return names

    def overdue(self, hub: SessionHub, stored: dict[str, int]) -> list[Overdue]:
        """The rooms in which something was behind at the look before, and still is. `stored` are
        the newest offsets, by room."""
        now, losses = hub.now, hub.stats().backplane_losses
        if losses != self._losses:
            self._losses, self._settled_at = losses, now + SETTLING_S
        found: list[Overdue] = []
        for name, newest in stored.items():
            watched = self._rooms.get(name)
            if watched is None:
                continue
            if not len(watched.room):
                self._rooms.pop(name, None)
                continue
            before, watched.stored = watched.stored, newest
            if newest <= watched.announced:
                continue
            if not watched.catch_up():
                self._settled_at = now + SETTLING_S
            elif before is not None and before > watched.announced and now >= self._settled_at:
                found.append(Overdue(watched, before))
        return found


async def look(hub: SessionHub) -> None:
    """`every`: announce what is overdue."""
    unannounced, store = hub.service(Unannounced), hub.service(Store)
    names = unannounced.next_names()
    if not names:
        return
    try:
        find = partial(queries.last_offsets, names=names)
        stored = await hub.completion(store.read(find))
        for watched, up_to in unannounced.overdue(hub, stored):
            asked = store.history(watched.room.name, before=up_to + 1, limit=PAGE_MAX)
            page = await hub.completion(asked)
            _announce(watched, page.messages[::-1])
    except (StoreError, BackplaneAwayError):
        return  # the next look finds the same


def _announce(watched: Watched, messages: list[StoredMessage]) -> None:
    """Those that still are not; beyond a page, the others are missed by their offsets."""
    watched.catch_up()
    missing = [message for message in messages if message.offset > watched.announced]
    for message in missing:
        watched.room.broadcast(MessageChanged(**fields_of(message)))
        watched.announced = message.offset
    if missing:
        logger.info("announced %d messages that no node had", len(missing))


def add_unannounced(app: App) -> None:
    """Have a node look."""
    app.provide(Unannounced, Unannounced)
    app.every(INTERVAL_S)(look)
