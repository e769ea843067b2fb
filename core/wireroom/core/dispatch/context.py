"""A context: what exists for one message, while it is handled. Pure."""

from __future__ import annotations

from typing import Any, final

from ..sessions.rooms import Room
from ..sessions.session import Session, SessionHub
from ..turn import Ready, Sleep, Wait
from ..wire.framing import Message
from .parsers import ErrorReply


@final
class Context:
    """One message: who sent it, which command it is, and its data."""

    __slots__ = ("command", "data", "message", "session")

    def __init__(self, session: Session, command: str, data: Any, message: Message) -> None:
        self.session = session
        self.command = command
        self.data = data
        self.message = message  # as it was received

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
        """Send to the message's sender; see `Session.send`."""
        return self.session.send(data)

    def error(self, code: str, message: str, field: str | None = None) -> Wait | Ready:
        """Send an error reply to the message's sender."""
        return self.session.send(ErrorReply(code, message, field))

    def sleep(self, seconds: float) -> Sleep:
        """Wait by the hub's own clock; to be awaited."""
        return self.session.sleep(seconds)
