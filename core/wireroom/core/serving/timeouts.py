"""What is due: heads, handshakes, keepalive, stalls and closes that took too long. Pure."""

from __future__ import annotations

from math import inf
from typing import final

from ..errors import RemoteProtocolError
from ..events import Cancel
from ..limits import Limits
from ..sessions.session import Session
from ..sessions.stats import Stats
from ..turn import Turn
from ..wire.close_codes import CloseCode
from ..wire.request import Response
from ..wire.states import Input, State
from .closing import Closing
from .opening import Opening


@final
class Timeouts:
    """Looks at one session whose deadline has come."""

    __slots__ = ("_closing", "_limits", "_opening", "_pings", "_stats", "_turn")

    def __init__(
        self, turn: Turn, stats: Stats, limits: Limits, opening: Opening, closing: Closing
    ) -> None:
        self._turn = turn
        self._stats = stats
        self._limits = limits
        self._opening = opening
        self._closing = closing
        self._pings = 0  # gives each Ping a payload of its own

    def check(self, session: Session) -> None:
        now = self._turn.now
        if session.phase_at <= now:
            session.phase_at = inf
            self._phase_timed_out(session)
        if session.stall_at <= now:
            session.stall_at = inf
            self._stats.stalled += 1
            self._closing.abort(session, "stalled: the peer reads nothing")
        if session.keepalive_at <= now:
            self._keep_alive(session)
        session.arm()

    def _phase_timed_out(self, session: Session) -> None:
        phase = session.phase
        if phase is State.HEAD:
            self._stats.head_timeouts += 1
            if session.arrival is not None and session.arrival.reader.receiving:
                error = RemoteProtocolError("the request head took too long", status=408)
                self._opening.refuse(session, None, error)
            else:
                session.answered = True
                session.happened(Input.FAILED)
                self._closing.conclude(session)
        elif phase is State.REQUEST:
            response = Response(503, "the application did not answer in time\n")
            self._opening.respond(session, session.handshake, response, close=True)
        elif phase is State.OPEN:  # earlier messages had their time
            session.drop_inbox()
            self._closing.settle(session)
        elif phase is State.CLOSED:
            for invocation in session.invocations or ():
                if not invocation.cancelled:
                    invocation.cancelled = True
                    self._turn.put(Cancel(invocation))
        else:
            self._stats.close_timeouts += 1
            self._closing.abort(session, "the peer did not close in time")

    def _keep_alive(self, session: Session) -> None:
        """Ping after silence, close after more of it. Silence that is ours does not count."""
        now = self._turn.now
        interval = self._limits.ping_interval_s
        unanswered = session.pinged_at + self._limits.ping_timeout_s  # when a Ping is too long so
        if session.phase is not State.OPEN or session.framing is None:
            session.keepalive_at = inf
        elif session.paused:
            # A Pong could not be read, but a peer that has vanished makes the socket fail.
            self._ping(session)
            session.keepalive_at = now + interval
        elif session.last_received < session.pinged_at and now >= unanswered:
            self._stats.ping_timeouts += 1
            session.start_closing(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
        elif session.last_received + interval > now:
            session.keepalive_at = session.last_received + interval
        else:
            self._ping(session)
            if session.last_received >= session.pinged_at:
                session.pinged_at = now  # the first that nothing has come after
                unanswered = now + self._limits.ping_timeout_s
            session.keepalive_at = min(now + interval, unanswered)

    def _ping(self, session: Session) -> None:
        assert session.framing is not None
        self._pings += 1
        session.put_control(session.framing.encode_ping(self._pings.to_bytes(8, "big")))
