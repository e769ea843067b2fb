"""Sessions that come back into a room, and are sent what they have missed. Pure.

A session that recovers is sent what came after its position, a part at a time as it reads, and
joins the room in the same step in which it has been sent everything: what is broadcast from then
on it gets as a member, so that nothing is doubled and nothing left out.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, final

from ..turn import READY, Ready, Sleep, Wait
from .links import RoomLink, RoomLinks
from .positions import Position, Recovery
from .streams import Stream, Streams

if TYPE_CHECKING:
    from .session import Session


@final
class Recovering:
    """A session on its way back into a room: what it has been sent, and at last the `recovery`."""

    __slots__ = (
        "_cursor",
        "_has_left",
        "_link",
        "_links",
        "_position",
        "_reads_before",
        "_session",
        "_streams",
        "_until",
        "_wait",
        "name",
        "recovery",
    )

    def __init__(
        self,
        source: Streams | RoomLinks,
        session: Session,
        name: str,
        position: Position | None,
    ) -> None:
        self._session = session
        self.name = name
        self._position = position  # the client's
        self._cursor = -1 if position is None else position.offset  # what it has been sent
        self._streams: Streams | None = None
        self._links: RoomLinks | None = None
        self._link: RoomLink | None = None
        self._until = 0.0  # it waits for the backplane
        self._reads_before = 0  # of the replica
        self._wait: Sleep | None = None  # for the replica
        self._has_left = False
        if isinstance(source, Streams):
            self._streams = source
        else:
            self._links = source
            self._link = source.begin_coming(name)
            self._until = session.turn.now + source.node.settings.recover_timeout_s
            assert self._link.replica is not None
            self._reads_before = self._link.replica.reads
        self.recovery: Recovery | None = None

    def step(self) -> Wait | Ready:
        """Send what is missing, as far as the session reads it; `recovery` is set at the end.

        Gives what to wait for before the next step. Raises what `Session.send` and `join` raise.
        """
        session = self._session
        position = self._position
        if self._streams is not None:
            stream = self._streams.stream(self.name)
        else:
            assert self._link is not None
            replica = self._link.replica
            assert replica is not None
            self._stop_waiting()
            now = session.turn.now
            if not replica.can_serve(position, self._reads_before) and now < self._until:
                self._wait = replica.changed(self._until - now)
                return self._wait
            stream = replica.stream
            if not replica.is_known:
                replica.let_in_blindly()
                return self._end(stream, recovered=False)
        if self._has_left:
            return self._end(stream, recovered=False)
        if position is None:
            return self._end(stream, recovered=True)
        if position.epoch != stream.epoch or not stream.floor <= self._cursor <= stream.offset:
            return self._end(stream, recovered=False)
        outbox = session.outbox
        is_member = self.name in session.rooms  # who is sent what is new anyway, and so at once
        for message, _ in list(islice(stream.entries, self._cursor - stream.floor, None)):
            if outbox.waiting > outbox.mark and not is_member:
                self._position = Position(self._cursor, position.epoch)
                return session.drain()
            session.send(message)
            self._cursor += 1
        return self._end(stream, recovered=True)

    def leave(self) -> None:
        """It shall not join any more."""
        self._has_left = True

    def end(self) -> None:
        """It has joined, or has given up."""
        if self._links is not None and self._link is not None:
            self._stop_waiting()
            self._links.end_coming(self._link)
            self._links = None

    def _stop_waiting(self) -> None:
        if self._wait is not None and self._link is not None and self._link.replica is not None:
            self._link.replica.stop_waiting(self._wait)
            self._wait = None

    def _end(self, stream: Stream, *, recovered: bool) -> Ready:
        if not self._has_left:
            self._session.join(self.name)
        self.recovery = Recovery(recovered, stream.position)
        return READY
