"""A context: what exists for one message, while it is handled. Pure.

`handled` says, to whatever code runs in a handler, what that handler is for: the context of a
message, or (in `on_open`, functions and the like) only a session. The hub sets it around each
step of a handler, `def` or `async def`, and nothing of it is seen by the next.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, final

from mypy_extensions import mypyc_attr

from ..sessions.rooms import Room
from ..sessions.session import Session, SessionHub
from ..sessions.state import SessionState
from ..turn import Ready, Sleep, Steps, Wait
from ..wire.framing import Message
from .parsers import ErrorReply, Reply, RequestId

handled: Final[ContextVar[Context | Session | None]] = ContextVar("wireroom.handled", default=None)
set_handled: Final = handled.set  # for every message: looking them up costs as much
reset_handled: Final = handled.reset


@mypyc_attr(free_list_len=1)  # one comes and goes with each message
@final
class Context:
    """One message: who sent it, which command it is, and its data.

    It exists from before the handler is called until after it has ended, whatever the handler
    did; after that, `is_over`.
    """

    __slots__ = (
        "_state",
        "answered",
        "command",
        "data",
        "handler",
        "is_over",
        "message",
        "request_id",
        "session",
        "started",
    )

    def __init__(
        self,
        session: Session,
        command: str,
        request_id: RequestId | None,
        data: Any,
        message: Message,
        handler: str,
    ) -> None:
        self.session = session
        self.command = command  # "" for `on_message`
        self.data = data  # checked, and of the type that the handler wants
        self.request_id = request_id
        self.message = message  # as it was received
        self.handler = handler  # the name of who handles it
        self.answered = False  # whether a request got its reply
        self.is_over = False
        self._state: SessionState | None = None
        common = session.common
        common.stats.contexts += 1
        watch = common.turn.stopwatch
        self.started = 0.0 if watch is None else watch.start()

    def finish(self) -> None:
        """The handler has ended."""
        if not self.is_over:
            self.is_over = True
            common = self.session.common
            common.stats.contexts -= 1
            watch = common.turn.stopwatch
            if watch is not None:
                watch.stop(self.handler, self.started)

    @property
    def state(self) -> Any:
        """A place for attributes of the application's own, for this message only."""
        if self._state is None:
            self._state = SessionState()
        return self._state

    @property
    def path_params(self) -> dict[str, Any]:
        """The parameters of the session's path."""
        return self.session.path_params

    @property
    def user(self) -> Any:
        """The session's user."""
        return self.session.user

    @property
    def hub(self) -> SessionHub:
        """What knows all sessions and users."""
        return self.session.hub

    def room(self, name: str) -> Room:
        """A room of the session's module."""
        return self.session.room(name)

    def reply(self, data: object) -> Wait | Ready:
        """Send to the message's sender: as the answer, the first time, if it was a request.

        See `Session.send`.
        """
        if self.request_id is None or self.answered:
            return self.session.send(data)
        self.answered = True
        return self.session.send(Reply(self.request_id, data))

    def error(self, code: str, message: str, field: str | None = None) -> Wait | Ready:
        """Send an error reply to the message's sender, as the answer if it was a request."""
        request_id = None if self.answered else self.request_id
        self.answered = True
        return self.session.send(ErrorReply(code, message, field, request_id))

    def sleep(self, seconds: float) -> Sleep:
        """Wait by the hub's own clock; to be awaited."""
        return self.session.sleep(seconds)


def current_context() -> Context:
    """The context of the message that is being handled here.

    Raises `LookupError` outside of a message's handler.
    """
    current = handled.get()
    if not isinstance(current, Context) or current.is_over:
        raise LookupError("no message is being handled here")
    return current


def current_session() -> Session:
    """The session whose handler this is: of a message, of an event, or a function's.

    Raises `LookupError` outside of a session's handler, and when its message has been handled.
    """
    current = handled.get()
    if isinstance(current, Session):
        return current
    if current is None or current.is_over:
        raise LookupError("no session's handler runs here")
    return current.session


@final
class Handling:
    """An `async def` handler of one message, to be run, and then `end(context, result)`."""

    __slots__ = ("context", "coroutine", "end")

    def __init__(
        self,
        context: Context,
        coroutine: Steps,
        end: Callable[[Context, object], None],
    ) -> None:
        self.context = context
        self.coroutine = coroutine
        self.end = end


@final
class Failed:
    """A handler of one message has raised."""

    __slots__ = ("context", "error")

    def __init__(self, context: Context, error: Exception) -> None:
        self.context = context
        self.error = error
