"""A room's history as this node knows it, where the backplane keeps it. Pure.

The backplane numbers the messages. This node's members are sent them in that order: what comes out
of order, or while the backplane was away, is read from its history first, and if that does not
reach back so far, the members are told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, final

from ..backplane import Appended, HistoryRead
from ..turn import Sleep, Turn
from .node import Node
from .positions import History, Kept, Position
from .presence import Member
from .sending import send_to_all
from .stats import Stats
from .streams import Stream, size_of

if TYPE_CHECKING:
    from .session import Session


@final
class Replica:
    """The newest messages of one room, up to the one that its members here were sent last."""

    __slots__ = (
        "_ahead",
        "_ahead_bytes",
        "_ahead_epoch",
        "_asked_after",
        "_channel",
        "_history",
        "_is_complete",
        "_is_overfull",
        "_is_synced",
        "_members",
        "_must_tell",
        "_node",
        "_reading",
        "_tell_missed",
        "_waiting",
        "_wanted",
        "_wants_newest",
        "is_known",
        "reads",
        "stream",
    )

    def __init__(
        self,
        node: Node,
        channel: str,
        name: str,
        history: History,
        members: dict[str, dict[Session, Member]],
        tell_missed: Callable[[Stream], None],
    ) -> None:
        self._node = node
        self._channel = channel
        self._history = history
        self._members = members  # of the namespace, by room
        self._tell_missed = tell_missed
        self.stream = Stream(history, name, "", node.stats)
        self.is_known = False  # whether `stream` is where the room is, or was
        self.reads = 0  # that were answered
        self._is_synced = False  # whether every message since is in it, or comes
        self._is_complete = False  # whether it has all that the backplane keeps
        self._must_tell = False  # whether somebody was let in without knowing where the room is
        self._reading = 0  # the number of the read that is under way
        self._asked_after: int | None = None  # by that read
        # What came since that read was asked for, and is not the next: by offset.
        self._ahead: dict[int, str] = {}
        self._ahead_bytes = 0
        self._ahead_epoch = ""
        self._is_overfull = False  # whether there was too much of it
        self._wanted: int | None = None  # somebody comes back from this offset
        self._wants_newest = False  # somebody comes back who is ahead of us
        self._waiting: dict[Sleep, None] = {}

    # -- for those who come back ------------------------------------------------------------------

    def can_serve(self, position: Position | None, reads_before: int) -> bool:
        """Whether what is known here decides about a recovery from `position`, for somebody who
        came after `reads_before` reads; if not, what has to be known is asked for."""
        stream = self.stream
        stream.trim(self._turn.now)
        if not self.is_known:
            if position is not None:
                self._want(position.offset)
        elif position is None:
            return True
        elif position.epoch != stream.epoch:
            if self._is_synced and self.reads > reads_before:
                return True
            self._wants_newest = True  # the room may have another epoch by now
        elif position.offset > stream.offset:
            if self._is_synced and self.reads > reads_before:
                return True
            self._wants_newest = True  # other nodes may be ahead of us
        elif 0 <= position.offset < stream.floor and not self._is_complete:
            self._want(position.offset)
        else:
            return True
        self._look()
        return False

    def kept(self, after: Position | None) -> Kept | None:
        """See `Room.kept`."""
        self.stream.trim(self._turn.now)
        return self.stream.kept(after) if self.is_known and self._is_synced else None

    def changed(self, timeout_s: float) -> Sleep:
        """Something to await: that more is known, or so many seconds."""
        wait = Sleep(self._turn, timeout_s)
        self._waiting[wait] = None
        return wait

    def stop_waiting(self, wait: Sleep) -> None:
        """Whoever awaited it has gone on, or has given up."""
        self._waiting.pop(wait, None)

    def let_in_blindly(self) -> None:
        """Somebody has joined who will be told when it is known where the room is."""
        self._must_tell = True

    def _want(self, offset: int) -> None:
        if self._wanted is None or offset < self._wanted:
            self._wanted = max(0, offset)

    @property
    def _turn(self) -> Turn:
        return self._node.turn

    @property
    def _stats(self) -> Stats:
        return self._node.stats

    # -- what comes from the backplane ------------------------------------------------------------

    def connected(self) -> None:
        """What is read now, and what comes, is all that there is."""
        self._look()

    def lost(self) -> None:
        """Nothing comes; members stay where they are."""
        self._is_synced = False
        self._reading = 0
        self._clear_ahead()

    def appended(self, event: Appended) -> None:
        """A message: the next, one of before, or one before which some are missing."""
        stream = self.stream
        if self._is_synced and event.epoch == stream.epoch:
            if event.offset == stream.offset + 1:
                self._apply(event.message)
                return
            if event.offset <= stream.offset:
                return
        if event.epoch != self._ahead_epoch:
            self._clear_ahead()
            self._ahead_epoch = event.epoch
        history, size = self._history, size_of(event.message)
        if event.offset in self._ahead:
            pass  # it was given twice
        elif not self._ahead or (
            len(self._ahead) < history.messages_max
            and self._ahead_bytes + size <= history.bytes_max
        ):
            self._ahead[event.offset] = event.message
            self._ahead_bytes += size
        else:
            self._is_overfull = True
        self._is_synced = False
        self._look()

    def history_read(self, event: HistoryRead) -> None:
        """What the backplane keeps."""
        if event.number != self._reading:
            return  # asked for before it was away
        self._reading = 0
        first = event.offset - len(event.messages) + 1
        if not self.is_known:
            self._replace(event, first)
            self.is_known = True
            if self._must_tell:
                self._tell()
        elif event.epoch != self.stream.epoch:
            self._replace(event, first)
            self._tell()
        elif not self._is_synced and self._was_rolled_back(event, first):
            self._ask(None, renew=event.epoch)
            return
        else:
            self._merge(event, first)
        self.reads += 1
        self._is_synced = True
        self._wants_newest = False
        self._apply_ahead()
        waiting, self._waiting = self._waiting, {}
        for wait in waiting:
            self._turn.deadlines.discard(wait)
            wait.happen()
        self._look()

    def _was_rolled_back(self, event: HistoryRead, first: int) -> bool:
        """Whether the backplane has lost messages that we have, as after a crash."""
        stream = self.stream
        if event.offset < stream.offset:
            return True
        if not stream.entries or not first <= stream.offset:
            return False
        here = stream.number(event.messages[stream.offset - first], stream.offset)
        return here != stream.entries[-1][0]

    def _replace(self, event: HistoryRead, first: int) -> None:
        """This is the history now, whatever it was."""
        stream = self.stream
        stream.begin(event.epoch)
        stream.floor = stream.offset = first - 1
        self._is_complete = False
        self._note_end(first)
        for message in event.messages:
            stream.append(message, self._turn.now)

    def _merge(self, event: HistoryRead, first: int) -> None:
        """The history goes on, and may reach further back."""
        stream = self.stream
        if first > stream.offset + 1:
            self._replace(event, first)
            self._tell()
            return
        if first <= stream.floor <= event.offset:
            now = self._turn.now
            while stream.floor >= first:
                if not stream.prepend(event.messages[stream.floor - first], now):
                    self._is_complete = True  # all that there is room for
                    break
        self._note_end(first)
        for message in event.messages[max(0, stream.offset + 1 - first) :]:
            self._apply(message)

    def _note_end(self, first: int) -> None:
        """Whether less came than was asked for: there is no more."""
        if self._asked_after is not None and first > self._asked_after + 1:
            self._is_complete = True

    def _apply(self, message: str) -> None:
        """The next message, for the members."""
        numbered = self.stream.append(message, self._turn.now)
        members = self._members.get(self.stream.name, ())
        send_to_all(members, numbered, (), self._turn, self._stats)

    def _apply_ahead(self) -> None:
        ahead, stream = self._ahead, self.stream
        if self._ahead_epoch == stream.epoch:
            while (message := ahead.pop(stream.offset + 1, None)) is not None:
                self._ahead_bytes -= size_of(message)
                self._apply(message)
            for offset in [each for each in ahead if each <= stream.offset]:
                self._ahead_bytes -= size_of(ahead.pop(offset))
        if ahead or self._is_overfull:
            self._is_synced = False

    def _tell(self) -> None:
        self._must_tell = False
        self._stats.histories_lost += 1
        self._tell_missed(self.stream)

    # -- asking it --------------------------------------------------------------------------------

    def _look(self) -> None:
        """Ask for what is missing, one thing at a time."""
        if self._reading:
            return
        stream = self.stream
        wanted, self._wanted = self._wanted, None
        is_deeper = wanted is not None and wanted < stream.floor and not self._is_complete
        if is_deeper or not self.is_known:
            self._ask(wanted)
        elif not self._is_synced or self._wants_newest:
            self._ask(max(0, stream.offset - 1))

    def _ask(self, after: int | None, renew: str = "") -> None:
        # What came until now is in what will be read.
        self._clear_ahead()
        self._asked_after = after
        self._reading = self._node.read(self._channel, after, self._history.age_s, renew)

    def _clear_ahead(self) -> None:
        self._ahead.clear()
        self._ahead_bytes = 0
        self._is_overfull = False
