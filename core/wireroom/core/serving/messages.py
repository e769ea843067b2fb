"""From bytes of an open session to handled messages, in order. Pure."""

from __future__ import annotations

from typing import Final, cast, final

from ..dispatch.context import Context, Failed, Handling, handled
from ..dispatch.handlers import handler_name
from ..dispatch.parsers import ErrorReply, RequestId
from ..errors import SessionClosedError
from ..sessions.session import Session
from ..sessions.stats import Stats
from ..wire.close_codes import CloseCode
from ..wire.framing import CloseReceived, FrameEvent, PingReceived, Violation
from ..wire.states import State
from .calls import Calls
from .closing import Closing

_OPEN: Final = State.OPEN  # looked up for every message


@final
class Messages:
    """Takes frames apart and gives messages to their handlers, one at a time a session."""

    __slots__ = ("_calls", "_closing", "_stats")

    def __init__(self, stats: Stats, calls: Calls, closing: Closing) -> None:
        self._stats = stats
        self._calls = calls
        self._closing = closing

    def receive_frames(self, session: Session, data: bytes) -> None:
        """Bytes of an upgraded connection, to handled messages."""
        framing = session.framing
        deliver = session.common.deliver
        outbox = session.outbox
        assert framing is not None
        while True:
            received = 0
            for event in framing.receive(data):
                kind = type(event)
                if kind is not str and kind is not bytes:
                    self._take_control(session, event)
                    continue
                received += 1
                if session.phase is not _OPEN:
                    self._stats.dropped_messages_received += 1
                elif session.requests and session.module.take_reply(session, event):
                    pass
                elif deliver is None or session.received is not None:
                    session.give_to_reader(event)  # type: ignore[arg-type]  # a message
                elif session.busy or session.inbox or outbox.waiting > outbox.mark:
                    session.put_inbox(event)  # type: ignore[arg-type]  # a message
                else:
                    result = deliver(session, event)  # type: ignore[arg-type]  # a message
                    if result is not None:
                        self._take_result(session, result)
            self._stats.messages_received += received
            if session.inbox or outbox.waiting > outbox.mark:
                session.maybe_pause()
            if not framing.more or session.paused or session.phase is State.ENDING:
                if session.closing_event is not None and not session.has_unhandled:
                    self._closing.settle(session)
                return
            data = b""

    def _take_control(self, session: Session, event: FrameEvent) -> None:
        """What is not a message."""
        if isinstance(event, PingReceived):
            # Section 5.5.2: unless a Close was received, also when we have sent one.
            if session.phase in (_OPEN, State.CLOSING) and session.framing is not None:
                session.put_control(session.framing.encode_pong(event.payload))
        elif isinstance(event, CloseReceived | Violation):
            self._closing.take(session, event)

    def _take_result(self, session: Session, result: object) -> None:
        """What a message's handling gave: more to do, a failure, or a violation."""
        kind = type(result)
        if kind is Handling:
            self._run(session, cast(Handling, result))
        elif kind is Failed:
            failed = cast(Failed, result)
            self._failed(session, failed.context, failed.error)
        else:  # a violation: its place is here, before what came later
            session.drop_inbox()
            session.closing_event = cast(Violation, result)
            self._closing.settle(session)

    def pump(self, session: Session) -> None:
        """Go on with what waited for an earlier message."""
        deliver = session.common.deliver
        outbox = session.outbox
        if deliver is None:
            return
        while session.inbox and not session.busy and session.phase is State.OPEN:
            if outbox.waiting > outbox.mark:
                return
            result = deliver(session, session.pop_inbox())
            if result is not None:
                self._take_result(session, result)
        if not session.has_unhandled:
            self._closing.settle(session)
        session.maybe_resume()

    def _run(self, session: Session, handling: Handling) -> None:
        """Have an `async def` handler run; later messages wait for its end."""
        context = handling.context
        session.busy = True

        def ended(result: object, error: BaseException | None) -> None:
            session.busy = False
            try:
                if error is not None:
                    raise error
                handling.end(context, result)
            except Exception as failure:
                self._failed(session, context, failure)
            except BaseException:  # a cancellation, which is nobody's failure
                context.finish()
            self.pump(session)

        self._calls.invoke(session, context, handling.coroutine, context.handler, ended)

    def _failed(self, session: Session, context: Context, error: Exception) -> None:
        """A handler raised: report it, tell the peer, go on."""
        context.finish()
        if isinstance(error, SessionClosedError) and not session.is_connected:
            return
        self._calls.report(session, context.handler, error)
        request_id = None if context.answered else context.request_id
        token = handled.set(session)
        try:
            self._tell_failure(session, error, request_id)
        finally:
            handled.reset(token)

    def _tell_failure(
        self, session: Session, error: Exception, request_id: RequestId | None
    ) -> None:
        """The peer gets what `on_error` gives, or else an error reply, or else a Close."""
        module = session.module
        try:
            reply = module.error_reply(session, error, request_id)
            if reply is not None and session.is_connected:
                session.send(reply)
                return
        except Exception as another:
            self._calls.report(session, handler_name(module.on_error_handler), another)
        if not session.is_connected:
            return
        try:
            session.send(
                ErrorReply("handler_failed", "the server failed to handle this", None, request_id)
            )
        except Exception as another:  # the parser cannot even pack that
            self._calls.report(session, handler_name(type(module.parser)), another)
            session.start_closing(CloseCode.INTERNAL_ERROR, "internal error")
