"""A module: what a path selects, with its handlers, commands and rooms. Pure.

chat = app.module("/chat/{room}")

@chat.on_open
def joined(session: Session) -> None:
    session.join(session.path_params["room"])

@chat.command("chat_message")
def say(ctx: Context, data: ChatMessage) -> None: ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeAlias, final

from ..errors import ConfigurationError
from ..sessions.session import Session
from ..wire.close_codes import CloseCode
from ..wire.framing import Message, Violation
from ..wire.handshake import Origins, check_origins
from ..wire.header_grammar import is_token
from .context import Context
from .handlers import (
    H,
    Handler,
    annotation_of,
    check_arity,
    handler_name,
    positional_parameters,
)
from .parsers import BadMessage, DataDecoder, ErrorReply, JsonParser

Kinds: TypeAlias = Literal["any", "text", "binary"]


class SessionModule(Protocol):
    """What the hub needs to know of a module of any kind."""

    path: str
    origins: Origins
    subprotocols: tuple[str, ...]
    current_handler: str
    on_handshake_handler: Handler | None
    on_open_handler: Handler | None
    on_close_handler: Handler | None
    on_join_handler: Handler | None
    on_leave_handler: Handler | None
    presence: bool

    def check(self) -> None:
        """Raises `ConfigurationError` if it cannot work."""

    def pack(self, data: object) -> Message:
        """A message for what is neither text nor bytes."""

    def deliverer(self) -> Callable[[Session, Message], object] | None:
        """What handles a message; gives None, a reply, or a coroutine that gives one of them.

        None if messages are read with `receive`, by a function or through a handle.
        """

    def error_reply(self, code: str, message: str) -> object | None:
        """What a peer is told when a handler failed, or None if that has to be a close code."""


def check_handshake_settings(what: str, subprotocols: Sequence[str], origins: Origins) -> None:
    """Raises `ConfigurationError` for a str where a list belongs, or what is no token."""
    check_origins(f"{what}: origins", origins)
    if isinstance(subprotocols, str) or not all(is_token(each) for each in subprotocols):
        raise ConfigurationError(
            f"{what}: subprotocols", f"must be a list of tokens, not {subprotocols!r}"
        )


@final
class _Command:
    """One command and its handler."""

    __slots__ = ("decode", "handler", "name", "takes_data", "where")

    def __init__(self, name: str, handler: Handler, decode: DataDecoder | None) -> None:
        self.name = name
        self.handler = handler
        self.decode = decode
        self.where = handler_name(handler)


@final
class Module:
    """The handlers of one path.

    `kinds` says which messages it takes (`any`, `text` or `binary`; a module with commands takes
    text); others are closed with 1003. `subprotocols` are in our order of preference. `origins`
    overrides the application's. With `presence`, the members of a room are told who comes and who
    goes, once a turn (`PresenceChanged`).
    """

    def __init__(
        self,
        path: str,
        *,
        subprotocols: Sequence[str] = (),
        origins: Origins = None,
        kinds: Kinds = "any",
        parser: JsonParser | None = None,
        presence: bool = False,
    ) -> None:
        if kinds not in ("any", "text", "binary"):
            raise ConfigurationError(
                f"module {path!r}: kinds", f'must be "any", "text" or "binary", not {kinds!r}'
            )
        check_handshake_settings(f"module {path!r}", subprotocols, origins)
        self.path = path
        self.origins = origins
        self.subprotocols = tuple(subprotocols)
        self.kinds: Kinds = kinds
        self.parser = parser or JsonParser()
        self.current_handler = ""
        self.on_handshake_handler: Handler | None = None
        self.on_open_handler: Handler | None = None
        self.on_message_handler: Handler | None = None
        self.on_close_handler: Handler | None = None
        self.on_join_handler: Handler | None = None
        self.on_leave_handler: Handler | None = None
        self.presence = presence
        self._commands: dict[str, _Command] = {}

    # -- registration -------------------------------------------------------------------------

    def on_handshake(self, handler: H) -> H:
        """Register `(request) -> Accept | Reject | None`, `def` or `async def`; None accepts."""
        self._register("on_handshake", handler, ("request",))
        return handler

    def on_open(self, handler: H) -> H:
        """Register `(session)`, called before the first message."""
        self._register("on_open", handler, ("session",))
        return handler

    def on_message(self, handler: H) -> H:
        """Register `(session, message)` for whole messages, `str` or `bytes`, in place of
        commands. What it returns, if not None, is sent as a reply."""
        self._register("on_message", handler, ("session", "message"))
        return handler

    def on_close(self, handler: H) -> H:
        """Register `(session)`, called once after the end; see `session.close_code`."""
        self._register("on_close", handler, ("session",))
        return handler

    def on_join(self, handler: H) -> H:
        """Register `(session, room)`, called after a session has joined a room."""
        self._register("on_join", handler, ("session", "room"))
        return handler

    def on_leave(self, handler: H) -> H:
        """Register `(session, room)`, called after a session has left a room: by itself, or
        because it closes (then before `on_close`)."""
        self._register("on_leave", handler, ("session", "room"))
        return handler

    def command(self, name: str) -> Callable[[H], H]:
        """Register `(ctx, data: SomeType)` or `(ctx)` for messages whose `type` is `name`.

        `data` is validated against its annotation. What the handler returns, if not None, is
        sent as a reply. Raises `ConfigurationError`.
        """

        def register(handler: H) -> H:
            what = f"command {name!r} of {self.path}:"
            before = self._commands.get(name)
            if before is not None:
                raise ConfigurationError(
                    f"{what} {handler_name(handler)}", f"is handled by {before.where} already"
                )
            parameters = positional_parameters(handler)
            decode = None
            if len(parameters) > 1:
                check_arity(handler, what, ("ctx", "data"))
                data_type = annotation_of(handler, parameters[1].name, what)
                decode = self.parser.decoder(data_type)
                self.parser.register(data_type, name)
            else:
                check_arity(handler, what, ("ctx",))
            self._commands[name] = _Command(name, handler, decode)
            return handler

        return register

    def _register(self, event: str, handler: Handler, arguments: tuple[str, ...]) -> None:
        check_arity(handler, f"{event} of {self.path}:", arguments)
        before = getattr(self, f"{event}_handler")
        if before is not None:
            raise ConfigurationError(
                f"{event} of {self.path}: {handler_name(handler)}",
                f"is handled by {handler_name(before)} already",
            )
        setattr(self, f"{event}_handler", handler)

    # -- what the hub needs -------------------------------------------------------------------

    def check(self) -> None:
        """Raises `ConfigurationError` for a module that has both kinds of handler, or none."""
        if self.on_message_handler is not None and self._commands:
            other = next(iter(self._commands.values())).where
            raise ConfigurationError(
                f"module {self.path}",
                f"has on_message ({handler_name(self.on_message_handler)}) and commands ({other})",
            )
        if self._commands and self.kinds == "binary":
            raise ConfigurationError(f"module {self.path}: kinds", "commands are text messages")

    def pack(self, data: object) -> Message:
        return self.parser.pack(data)

    def deliverer(self) -> Callable[[Session, Message], object] | None:
        if self._commands:
            return _only(str, "text", self._dispatch)
        if self.on_message_handler is None:
            return None
        self.current_handler = handler_name(self.on_message_handler)
        if self.kinds == "text":
            return _only(str, "text", self.on_message_handler)
        if self.kinds == "binary":
            return _only(bytes, "binary", self.on_message_handler)
        return self.on_message_handler

    def error_reply(self, code: str, message: str) -> object | None:
        return ErrorReply(code, message)

    def _dispatch(self, session: Session, message: Message) -> object:
        """One message to its command's handler."""
        try:
            name = self.parser.command(message)
            command = self._commands.get(name)
            if command is None:
                raise BadMessage("unknown_type", f"there is no type {name!r}", self.parser.key)
            data: Any = None if command.decode is None else command.decode(message)
        except BadMessage as error:
            session.stats.bad_messages += 1
            return ErrorReply(error.code, error.message, error.field)
        self.current_handler = command.where
        context = Context(session, name, data, message)
        if command.decode is None:
            return command.handler(context)
        return command.handler(context, data)


def _only(
    kind: type, name: str, deliver: Callable[[Session, Message], object]
) -> Callable[[Session, Message], object]:
    """`deliver` for messages of one kind; others end the session with 1003 (section 7.4.1)."""
    wrong = Violation(CloseCode.UNSUPPORTED_DATA, f"only {name} messages are taken here")

    def deliver_only(session: Session, message: Message) -> object:
        return deliver(session, message) if type(message) is kind else wrong

    return deliver_only
