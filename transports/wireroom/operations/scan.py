"""Looking at all sessions and rooms of a hub, for the console, at a cost that is bounded."""

from __future__ import annotations

from collections.abc import Callable
from heapq import nlargest
from typing import Final, final

from wireroom.core import Room, Session
from wireroom.core.sessions.session import SessionHub
from wireroom.transports.listening import format_address

from .feed import (
    ROOMS_MAX,
    ROOMS_OF_SESSION_MAX,
    SESSIONS_MAX,
    TEXT_MAX,
    Queues,
    RoomRow,
    Rooms,
    SessionRow,
    Sessions,
    Watch,
)

SCAN_MAX: Final = 20_000  # sessions and rooms at a look; with more there are fewer looks


@final
class Scan:
    """What there was at the latest look."""

    def __init__(self) -> None:
        self.queues = Queues()
        self.rooms = Rooms(0, [])
        self._sessions: list[Session] = []
        self._bytes: dict[int, tuple[int, int]] = {}  # received and sent, by generation
        self._rates: dict[int, tuple[float, float]] = {}
        self._found: dict[Watch, Sessions] = {}  # since then
        self._looked_at = 0.0
        self._pause = 0  # looks to leave out

    def look(self, hub: SessionHub) -> None:
        """Look at all of them, if that is not too much for now."""
        if self._pause > 0:
            self._pause -= 1
            return
        self._found = {}
        self._sessions = hub.sessions()
        rooms = hub.rooms()
        self._pause = max(len(self._sessions), len(rooms)) // SCAN_MAX
        self._count_queues()
        self._take_rates(hub.now)
        largest = nlargest(ROOMS_MAX, rooms, key=lambda each: len(each[1]))
        self.rooms = Rooms(len(rooms), [_room_row(path, room) for path, room in largest])

    def forget(self) -> None:
        """Nobody is interested any more."""
        self._sessions = []
        self._found = {}
        self._bytes = {}
        self._rates = {}
        self._pause = 0

    def _count_queues(self) -> None:
        outboxes = [session.outbox.waiting for session in self._sessions]
        self.queues = Queues(
            outbox_bytes=sum(outboxes),
            outbox_bytes_highest=max(outboxes, default=0),
            inbox_messages=sum(len(session.inbox) for session in self._sessions),
            sessions_paused=sum(session.paused for session in self._sessions),
        )

    def _take_rates(self, now: float) -> None:
        before, elapsed_s = self._bytes, now - self._looked_at
        self._looked_at = now
        self._bytes = {}
        self._rates = {}
        if len(self._sessions) > SCAN_MAX:
            return
        for session in self._sessions:
            counts = (session.bytes_received, session.outbox.bytes_taken)
            self._bytes[session.generation] = counts
            if elapsed_s > 0 and (last := before.get(session.generation)) is not None:
                self._rates[session.generation] = (
                    (counts[0] - last[0]) / elapsed_s,
                    (counts[1] - last[1]) / elapsed_s,
                )

    def sessions(self, watch: Watch, now: float) -> Sessions:
        """Those that `watch` asks for, as they were at the latest look or soon after."""
        if watch not in self._found:
            self._found[watch] = self._find(watch, now)
        return self._found[watch]

    def _find(self, watch: Watch, now: float) -> Sessions:
        found = [session for session in self._sessions if session.is_connected]
        total = len(found)
        if watch.search:
            text = watch.search.casefold()
            found = [session for session in found if text in _searched(session)]
        shown = nlargest(SESSIONS_MAX, found, key=self._key(watch))
        rows = [self._session_row(session, now) for session in shown]
        return Sessions(total, len(found), watch.sort, watch.search, rows)

    def _key(self, watch: Watch) -> Callable[[Session], float]:
        rates = self._rates
        match watch.sort:
            case "outbox_bytes":
                return lambda session: session.outbox.waiting
            case "bytes_received_per_s":
                return lambda session: rates.get(session.generation, (0.0, 0.0))[0]
            case "bytes_sent_per_s":
                return lambda session: rates.get(session.generation, (0.0, 0.0))[1]
            case "oldest":
                return lambda session: -session.opened_at
            case "newest":
                return lambda session: session.opened_at

    def _session_row(self, session: Session, now: float) -> SessionRow:
        rooms = session.rooms
        received_per_s, sent_per_s = self._rates.get(session.generation, (None, None))
        return SessionRow(
            fd=session.fd,
            generation=session.generation,
            path=_cut(session.path),
            user=None if session.user_id is None else _cut(str(session.user_id)),
            address=address_of(session),
            age_s=now - session.opened_at,
            outbox_bytes=session.outbox.waiting,
            inbox_messages=len(session.inbox),
            rooms=[_cut(name) for name in rooms[:ROOMS_OF_SESSION_MAX]],
            rooms_total=len(rooms),
            is_paused=session.paused,
            bytes_received=session.bytes_received,
            bytes_sent=session.outbox.bytes_taken,
            bytes_received_per_s=received_per_s,
            bytes_sent_per_s=sent_per_s,
        )


def _room_row(path: str, room: Room) -> RoomRow:
    return RoomRow(_cut(path), _cut(room.name), len(room))


def address_of(session: Session) -> str:
    """Where its peer is, for people to read."""
    return "" if session.address is None else _cut(format_address(session.address))


def _searched(session: Session) -> str:
    user = "" if session.user_id is None else session.user_id
    parts = [str(session.fd), session.path, str(user), address_of(session), *session.rooms]
    return "\n".join(parts).casefold()


def _cut(text: str) -> str:
    """At most so many characters; and none that JSON cannot have (a lone surrogate)."""
    cut = text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"
    return cut.encode("utf-8", "replace").decode()
