"""A context: what exists for one message, while it is handled. Pure."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Final, final

from ..sessions.rooms import Room
from ..sessions.session import Session, SessionHub
from ..sessions.state import SessionState
from ..turn import Ready, Sleep, Wait
from ..wire.framing import Message
from .parsers import ErrorReply, Parsed, Reply, RequestId

_context: Final[ContextVar[Context | None]] = ContextVar("wireroom.context", default=None)


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
    )

    def __init__(
        self, session: Session, parsed: Parsed, data: Any, message: Message, handler: str
    ) -> None:
        self.session = session
        self.command = parsed.command
        self.data = data  # checked, and of the type that the handler wants
        self.request_id: RequestId | None = parsed.request_id
        self.message = message  # as it was received
        self.handler = handler  # the name of who handles it
        self.answered = False  # whether a request got its reply
        self.is_over = False
        self._state: SessionState | None = None

    def finish(self) -> None:
        """The handler has ended."""
        if not self.is_over:
            self.is_over = True
            self.session.stats.contexts -= 1

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

    Raises `LookupError` outside of a command's handler.
    """
    context = _context.get()
    if context is None or context.is_over:
        raise LookupError("no message is being handled here")
    return context


def current_session() -> Session:
    """The session whose message is being handled here; see `current_context`."""
    return current_context().session


def call_in(context: Context, handler: Callable[..., Any], *arguments: object) -> Any:
    """Call a handler, or take a step of it, with `context` as the current one."""
    token = _context.set(context)
    try:
        return handler(*arguments)
    finally:
        _context.reset(token)


@final
class Handling:
    """An `async def` handler of one message: a coroutine, each step of which has its context.

    `end(context, result)` is called when it has ended, and gives what it then gives.
    """

    __slots__ = ("_coroutine", "_end", "context")

    def __init__(
        self,
        context: Context,
        coroutine: Coroutine[Any, Any, object],
        end: Callable[[Context, object], object],
    ) -> None:
        self.context = context
        self._coroutine = coroutine
        self._end = end

    def send(self, value: Any) -> Any:
        """The next step; as a coroutine's."""
        return self._step(self._coroutine.send, value)

    def throw(self, error: BaseException) -> Any:
        """The next step, which is an exception; as a coroutine's."""
        return self._step(self._coroutine.throw, error)

    def _step(self, step: Callable[[Any], Any], value: Any) -> Any:
        try:
            return call_in(self.context, step, value)
        except StopIteration as stop:
            raise StopIteration(self._end(self.context, stop.value)) from None
        except BaseException:
            self.context.finish()
            raise

    def close(self) -> None:
        """Give it up; as a coroutine's."""
        self._coroutine.close()
