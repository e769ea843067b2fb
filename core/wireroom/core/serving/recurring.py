"""What happens by the clock alone: periodic handlers, broadcasts a page at a time, and the end of
a server a batch at a time. Pure."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from math import ceil
from typing import Final, Protocol, final

from ..dispatch.handlers import Handler, handler_name
from ..sessions.sending import send_to_all
from ..sessions.session import Session, SessionHub
from ..sessions.stats import Stats
from ..turn import Turn
from ..wire.framing import Message
from .calls import Calls

_FAREWELL_INTERVAL_S: Final = 0.1  # between two batches of sessions that are told


class PeriodicHost(Protocol):
    """The hub, which is asked whether it goes on."""

    is_shutting_down: bool


@final
class Periodic:
    """A handler of the application that is called every `seconds`, never twice at a time."""

    __slots__ = ("_calls", "_given", "_handler", "_hub", "_name", "_next", "_seconds", "_turn")

    def __init__(
        self,
        handler: Handler,
        seconds: float,
        hub: PeriodicHost,
        given: SessionHub,
        turn: Turn,
        calls: Calls,
    ) -> None:
        self._handler = handler
        self._name = handler_name(handler)
        self._seconds = seconds
        self._hub = hub
        self._given = given  # to the handler: the hub, or what guards it
        self._turn = turn
        self._calls = calls
        self._next = turn.now

    def schedule(self) -> None:
        """Set the next time: `seconds` after the last, and not in the past."""
        self._next = max(self._next + self._seconds, self._turn.now)
        self._turn.deadlines.set(self, self._next)

    def run(self) -> None:
        """Call the handler; the next time is set when it has ended."""

        def finished(result: object, error: BaseException | None) -> None:
            if error is not None:
                self._calls.report(None, self._name, error)
            if not self._hub.is_shutting_down:
                self.schedule()

        self._calls.call(None, self._handler, (self._given,), self._name, finished)


@final
class Pages:
    """The rest of a broadcast that is too large for one turn."""

    __slots__ = ("_message", "_page", "_sessions", "_stats", "_turn")

    def __init__(
        self,
        sessions: Collection[Session],
        message: Message,
        page: int,
        turn: Turn,
        stats: Stats,
    ) -> None:
        self._sessions = iter(sessions)
        self._message = message
        self._page = page
        self._turn = turn
        self._stats = stats

    def send(self) -> None:
        """Send to the next page, and ask for another call if it was a full one."""
        page = list(islice(self._sessions, self._page))
        send_to_all(page, self._message, (), self._turn, self._stats)
        if len(page) == self._page:
            self._turn.deadlines.set(self, self._turn.now)


@final
class Farewell:
    """Sessions that are to be closed, evenly spread over some seconds."""

    __slots__ = ("_batch", "_code", "_left", "_reason", "_sessions", "_turn")

    def __init__(
        self, sessions: Collection[Session], code: int, reason: str, spread_s: float, turn: Turn
    ) -> None:
        self._sessions = iter(sessions)
        self._left = len(sessions)
        self._batch = max(1, ceil(len(sessions) / max(1.0, spread_s / _FAREWELL_INTERVAL_S)))
        self._code = code
        self._reason = reason
        self._turn = turn

    def send(self) -> None:
        """Close the next batch, and ask for another call if there are more."""
        for session in islice(self._sessions, self._batch):
            session.close(self._code, self._reason)
        self._left -= self._batch
        if self._left > 0:
            self._turn.deadlines.set(self, self._turn.now + _FAREWELL_INTERVAL_S)
