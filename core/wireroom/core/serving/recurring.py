"""What happens by the clock alone: periodic handlers, and broadcasts a page at a time. Pure."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Protocol, final

from ..dispatch.handlers import Handler, handler_name
from ..sessions.sending import send_to_all
from ..sessions.session import Session
from ..sessions.stats import Stats
from ..turn import Turn
from ..wire.framing import Message
from .calls import Calls


class PeriodicHost(Protocol):
    """What a periodic handler is given, and asked about: the hub."""

    is_shutting_down: bool


@final
class Periodic:
    """A handler of the application that is called every `seconds`, never twice at a time."""

    __slots__ = ("_calls", "_handler", "_hub", "_name", "_next", "_seconds", "_turn")

    def __init__(
        self, handler: Handler, seconds: float, hub: PeriodicHost, turn: Turn, calls: Calls
    ) -> None:
        self._handler = handler
        self._name = handler_name(handler)
        self._seconds = seconds
        self._hub = hub
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

        self._calls.call(None, self._handler, (self._hub,), self._name, finished)


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
