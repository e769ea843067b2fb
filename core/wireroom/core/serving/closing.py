"""How connections end: in order, by deadline, or because the socket is gone. Pure."""

from __future__ import annotations

from math import inf
from typing import Final, final

from ..dispatch.handlers import handler_name
from ..events import Disconnect, SessionClosed, ShutdownWrite
from ..limits import Limits
from ..sessions.session import Session
from ..sessions.stats import Stats
from ..turn import Turn
from ..wire.close_codes import CloseCode
from ..wire.framing import CloseReceived, Violation
from ..wire.states import Input, State
from .calls import Calls

# What stands for a Close without a code, and, said by a host, for no Close at all (7.1.5).
_NOT_ON_THE_WIRE: Final = (CloseCode.NO_STATUS_RECEIVED, CloseCode.ABNORMAL_CLOSURE)

ABNORMAL: Final = CloseReceived(CloseCode.ABNORMAL_CLOSURE, "")  # an end without a Close frame


@final
class Closing:
    """Ends sessions and connections."""

    __slots__ = ("_calls", "_limits", "_stats", "_turn")

    def __init__(self, turn: Turn, stats: Stats, limits: Limits, calls: Calls) -> None:
        self._turn = turn
        self._stats = stats
        self._limits = limits
        self._calls = calls

    def take(self, session: Session, event: CloseReceived | Violation) -> None:
        """A Close, a violation or an end of stream takes its place after earlier messages."""
        if session.phase not in (State.OPEN, State.CLOSING) or session.closing_event is not None:
            return
        session.closing_event = event
        if session.phase is State.CLOSING or not session.has_unhandled:
            self.settle(session)
            return
        orderly = isinstance(event, CloseReceived) and event is not ABNORMAL
        if orderly:
            session.set_phase_deadline(self._limits.close_reply_timeout_s)
        else:
            session.close_by = self._turn.now + self._limits.close_timeout_s
            session.set_phase_deadline(self._limits.close_timeout_s)

    def settle(self, session: Session) -> None:
        """What came after the last message takes effect: answer a Close, or fail."""
        event = session.closing_event
        if event is None or session.phase not in (State.OPEN, State.CLOSING):
            return
        session.closing_event = None
        if isinstance(event, Violation):
            self._stats.violations += 1
            if session.phase is State.OPEN:
                session.put_close(event.code, event.reason)
            self.end(session, Input.FAILED, CloseReceived(event.code, event.reason))
        elif event is ABNORMAL:
            self.end(session, Input.EOF_RECEIVED, event)
        else:
            session.answered = True
            if session.phase is State.OPEN:
                code = None if event.code in _NOT_ON_THE_WIRE else event.code
                session.put_close(code, "")
            self.end(session, Input.CLOSE_COMPLETED, event)
        self.conclude(session)

    def end(self, session: Session, how: Input, close: CloseReceived) -> None:
        """The session, if there was one, is over; the socket may live a little longer."""
        before = session.phase
        session.happened(how)
        if how is Input.LOST and isinstance(session.closing_event, CloseReceived):
            close = session.closing_event  # section 7.1.5: the first Close that was received
        if before is State.OPEN:
            self._stats.sessions -= 1
            session.close_code = int(close.code)
            session.close_reason = close.reason
        if before is not State.OPEN and before is not State.CLOSING:
            session.let_go()
            return
        session.keepalive_at = inf
        session.closing_event = None
        if not session.common.reads_inbox:
            session.drop_inbox()
        session.let_go()
        code = session.close_code
        if before is State.CLOSING or (how is Input.FAILED and code != CloseCode.ABNORMAL_CLOSURE):
            self._stats.count_close(code, "us")
        else:
            nobody = code == CloseCode.ABNORMAL_CLOSURE
            self._stats.count_close(code, "nobody" if nobody else "peer")
        self._turn.put(SessionClosed(session.fd, code, session.close_reason, session))
        handler = session.module.on_close_handler
        if handler is not None:
            name = handler_name(handler)

            def closed(result: object, error: BaseException | None) -> None:
                if error is not None:
                    self._calls.report(session, name, error)

            self._calls.call(session, handler, (session,), name, closed)

    def conclude(self, session: Session) -> None:
        """Nothing more will be put into the outbox: disconnect once it has been taken."""
        session.want_close = True
        session.stall_at = session.keepalive_at = inf
        session.resume_reading()  # to see its end
        # A deadline that the closing has already begun is not begun again.
        session.phase_at = min(session.close_by, self._turn.now + self._limits.close_timeout_s)
        session.arm()
        if session.outbox.empty:
            self.outbox_taken(session)

    def outbox_taken(self, session: Session) -> None:
        session.outbox_taken()
        if session.want_close and session.outbox.empty and session.phase is State.ENDING:
            session.want_close = False
            if session.answered:
                self._turn.put(Disconnect(session.fd, abort=False, why="the connection is done"))
            else:
                self._turn.put(ShutdownWrite(session.fd))

    def abort(self, session: Session, why: str) -> None:
        """Give up on a connection, whatever its peer does."""
        if session.phase is not State.ENDING:
            self.end(session, Input.FAILED, CloseReceived(CloseCode.ABNORMAL_CLOSURE, why))
        self._stats.dropped_messages_sent += session.outbox.clear()
        session.want_close = False
        session.phase_at = session.keepalive_at = session.stall_at = inf
        self._turn.put(Disconnect(session.fd, abort=True, why=why))
