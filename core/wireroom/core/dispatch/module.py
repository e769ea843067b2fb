"""A module: what a path selects, with its handlers, commands and rooms. Pure.

chat = app.module("/chat/{room}")

@chat.on_open
def joined(session: Session) -> None:
    session.join(session.path_params["room"])

@chat.command("chat_message")
def say(ctx: Context, data: ChatMessage) -> None: ...
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol, TypeVar, final, get_args

import msgspec

from ..errors import ConfigurationError, LocalProtocolError
from ..sessions.positions import History
from ..sessions.session import Session
from ..sessions.stages import Stages
from ..turn import BlockingCall
from ..wire.close_codes import CloseCode
from ..wire.framing import Message, Violation
from ..wire.handshake import Origins, check_origins
from ..wire.header_grammar import is_token
from ..wire.request import Request
from .context import Context, Failed, Handling, reset_handled, set_handled
from .decisions import Accept
from .described import CommandDescription, ModuleKind
from .effects import are_effects, carry_out
from .handlers import (
    COROUTINE,
    H,
    Handler,
    annotation_of,
    blocking,
    check_arity,
    check_not_around_blocking,
    defer,
    handler_name,
    is_blocking,
    marked_commands,
    positional_parameters,
    wrap,
)
from .parsers import (
    ERROR,
    REPLY,
    BadMessage,
    Decode,
    ErrorReply,
    JsonParser,
    Kinds,
    Parser,
    RawParser,
    Reply,
    RequestId,
)

C = TypeVar("C")


class SessionModule(Protocol):
    """What the hub needs to know of a module of any kind."""

    kind: ModuleKind
    path: str
    origins: Origins
    subprotocols: tuple[str, ...]
    parser: Parser
    on_open_handler: Handler | None
    on_close_handler: Handler | None
    on_join_handler: Handler | None
    on_leave_handler: Handler | None
    on_presence_handler: Handler | None
    presence: bool
    history: History | None
    stages: Stages | None

    @property
    def handlers(self) -> list[Handler]:
        """All that was registered."""

    def check(self) -> None:
        """Raises `ConfigurationError` if it cannot work."""

    def pack(self, data: object) -> Message:
        """A message for what is neither text nor bytes."""

    def pack_request(self, data: object, request_id: RequestId) -> Message:
        """A message that asks for an answer. Raises `LocalProtocolError` if there is none."""

    def deliverer(
        self, services: Mapping[Any, object]
    ) -> Callable[[Session, Message], object] | None:
        """What handles a message; gives None, a `Handling`, a `Failed` or a `Violation`.

        None if messages are read with `receive`, by a function or through a handle. `services`
        are those of the hub, by type. Raises `ConfigurationError` if one is missing.
        """

    def error_reply(
        self, session: Session, error: Exception, request_id: RequestId | None
    ) -> object | None:
        """What `on_error` wants a peer told when a message's handler failed, if anything.

        `request_id` is the request's that waits for an answer, if it was one.
        """

    def handshake_handler(self) -> Handler | None:
        """What decides about a handshake, or None if every one is accepted."""

    def take_reply(self, session: Session, message: Message) -> bool:
        """Whether a message answers a request of ours; if so, whoever waits goes on."""


def check_handshake_settings(what: str, subprotocols: Sequence[str], origins: Origins) -> None:
    """Raises `ConfigurationError` for a str where a list belongs, or what is no token."""
    check_origins(f"{what}: origins", origins)
    if isinstance(subprotocols, str) or not all(is_token(each) for each in subprotocols):
        raise ConfigurationError(
            f"{what}: subprotocols", f"must be a list of tokens, not {subprotocols!r}"
        )


@final
class _Command:
    """One command and its handler, as they were registered."""

    __slots__ = (
        "data_type",
        "decode",
        "dependencies",
        "handler",
        "middleware",
        "name",
        "stages",
        "where",
    )

    def __init__(
        self,
        name: str,
        handler: Handler,
        data_type: Any,
        decode: Decode | None,
        dependencies: list[tuple[str, Any]],
        stages: frozenset[Enum],
        middleware: list[Handler],
    ) -> None:
        self.name = name
        self.handler = handler
        self.data_type = data_type  # of `decode`; None without one
        self.decode = decode
        self.dependencies = dependencies  # parameters after the data, and their types
        self.stages = stages  # where it is allowed; empty for everywhere
        self.middleware = middleware  # of its own, within the module's
        self.where = handler_name(handler)

    def describe(self) -> CommandDescription:
        """What it is, for others."""
        return CommandDescription(
            self.name,
            self.where,
            self.data_type,
            tuple(service for _, service in self.dependencies),
            tuple(sorted(stage.name for stage in self.stages)),
            tuple(map(handler_name, self.middleware)),
        )


@final
class _Bound:
    """A command in one hub: its handler with its services, within middleware."""

    __slots__ = ("call", "decode", "handler", "services", "stages", "where")

    def __init__(
        self, command: _Command, services: Mapping[Any, object], of_module: list[Handler]
    ) -> None:
        self.decode = command.decode
        self.handler = command.handler
        self.stages = command.stages
        self.where = command.where
        missing = [each for each in command.dependencies if each[1] not in services]
        if missing:
            parameter, service = missing[0]
            raise ConfigurationError(
                f"{command.where}: parameter {parameter!r}",
                f"nothing provides {getattr(service, '__name__', service)}: app.provide(...)",
            )
        self.services = [services[service] for _, service in command.dependencies]
        self.call: Handler = self._call
        middleware = [*of_module, *command.middleware]
        if middleware:
            check_not_around_blocking(self.handler, middleware)
            asynchronous = inspect.iscoroutinefunction(self.handler)
            wrapped = wrap(
                lambda context: self._call(context, context.data),
                middleware,
                asynchronous=asynchronous,
            )
            self.call = lambda context, data: wrapped(context)
        elif self.decode is not None and not self.services:
            self.call = self.handler
        if is_blocking(self.handler):
            self.call = defer(self.call)

    def _call(self, context: Context, data: object) -> Any:
        if self.decode is None:
            return self.handler(context, *self.services)
        return self.handler(context, data, *self.services)


@final
class Module:
    """The handlers of one path.

    `kinds` says which messages it takes (`any`, `text` or `binary`; a module with commands takes
    text); others are closed with 1003. `subprotocols` are in our order of preference. `origins`
    overrides the application's. With `presence`, the members of a room are told who comes and who
    goes, once a turn (`PresenceChanged`). With `history`, what is broadcast in a room is numbered
    and kept for those who come back (`Session.recover`). `stages` are those of the application's
    own protocol. `messages`, a union of tagged Structs, says which types must have a handler.
    """

    def __init__(
        self,
        path: str,
        *,
        subprotocols: Sequence[str] = (),
        origins: Origins = None,
        kinds: Kinds = "any",
        parser: Parser | None = None,
        presence: bool = False,
        history: History | None = None,
        stages: Stages | None = None,
        messages: Any = None,
    ) -> None:
        if kinds not in ("any", "text", "binary"):
            raise ConfigurationError(
                f"module {path!r}: kinds", f'must be "any", "text" or "binary", not {kinds!r}'
            )
        check_handshake_settings(f"module {path!r}", subprotocols, origins)
        self.kind: ModuleKind = "module"
        self.path = path
        self.origins = origins
        self.subprotocols = tuple(subprotocols)
        self.kinds: Kinds = kinds
        self.parser = parser or JsonParser()
        self.on_handshake_handler: Handler | None = None
        self.on_open_handler: Handler | None = None
        self.on_message_handler: Handler | None = None
        self.on_close_handler: Handler | None = None
        self.on_join_handler: Handler | None = None
        self.on_leave_handler: Handler | None = None
        self.on_presence_handler: Handler | None = None
        self.on_error_handler: Handler | None = None
        self.presence = presence
        self.history = history
        self.stages = stages
        self._messages = messages
        self._commands: dict[str, _Command] = {}
        self._default: _Command | None = None
        self._middleware: list[Handler] = []
        self._handshake_middleware: list[Handler] = []

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

    def on_presence(self, handler: H) -> H:
        """Register `(room, changed)`, called in place of telling a room's members, with the
        `PresenceChanged` that they would get: once a turn, for who is here or at another node. The
        module needs `presence=True`."""
        self._register("on_presence", handler, ("room", "changed"))
        if not self.presence:
            raise ConfigurationError(
                f"on_presence of {self.path}: {handler_name(handler)}",
                "the module must have presence=True",
            )
        return handler

    def command(
        self, name: str, *, stages: Iterable[Enum] = (), middleware: Iterable[Handler] = ()
    ) -> Callable[[H], H]:
        """Register `(ctx, data: SomeType)` or `(ctx)` for messages whose `type` is `name`.

        `data` is validated against its annotation. Further parameters are services, given by
        their types (`App.provide`). What the handler returns, if not None, is sent as a reply, or
        carried out if it is an effect (`dispatch.effects`). With `stages`, a message that comes in
        another stage gets an error reply. `middleware` is around this command only, within that
        of the module; see `Module.middleware`. Raises `ConfigurationError`.
        """
        around = list(middleware)
        for each in around:
            _check_middleware(each, f"middleware of command {name!r} of {self.path}:")

        def register(handler: H) -> H:
            what = f"command {name!r} of {self.path}:"
            before = self._commands.get(name)
            if before is not None:
                raise ConfigurationError(
                    f"{what} {handler_name(handler)}", f"is handled by {before.where} already"
                )
            self._commands[name] = self._new_command(name, handler, what, stages, around)
            return handler

        return register

    def default_command(self, handler: H) -> H:
        """Register `(ctx, data: SomeType)` or `(ctx)` for messages with any other command, and
        for those without one (`RawParser`); `ctx.command` says which it was."""
        what = f"default command of {self.path}:"
        if self._default is not None:
            raise ConfigurationError(
                f"{what} {handler_name(handler)}", f"is {self._default.where} already"
            )
        self._default = self._new_command("", handler, what)
        return handler

    def controller(
        self, prefix: str = "", *, middleware: Iterable[Handler] = ()
    ) -> Callable[[C], C]:
        """Register a class whose methods marked with `@command()` are commands.

        They are named `prefix.method`. The class is instantiated once, without arguments; an
        instance may be given instead: `module.controller("chat")(Chat(store))`. `middleware` is
        around each of its commands, within that of the module; see `Module.middleware`.
        """
        around = list(middleware)
        for each in around:
            _check_middleware(each, f"middleware of controller {prefix!r} of {self.path}:")

        def register(controller: C) -> C:
            instance = controller() if isinstance(controller, type) else controller
            found = False
            for attribute, name in marked_commands(instance):
                found = True
                full_name = f"{prefix}.{name}" if prefix else name
                self.command(full_name, middleware=around)(getattr(instance, attribute))
            if not found:
                raise ConfigurationError(
                    f"controller {type(instance).__qualname__} of {self.path}",
                    "has no method marked with @command()",
                )
            return controller

        return register

    def middleware(self, handler: H) -> H:
        """Register `(ctx, call_next)` around every command; the first is the outermost.

        `call_next()` goes on to the handler and gives what it gives; not calling it keeps the
        message from the handler. In an `async def` middleware, `await call_next()`.
        """
        _check_middleware(handler, f"middleware of {self.path}:")
        self._middleware.append(handler)
        return handler

    def handshake_middleware(self, handler: H) -> H:
        """Register `(request, call_next)` around `on_handshake`, `def` or `async def`; it gives
        a decision, its own or that of `call_next()`."""
        check_arity(handler, f"handshake middleware of {self.path}:", ("request", "call_next"))
        self._handshake_middleware.append(handler)
        return handler

    def on_error(self, handler: H) -> H:
        """Register `(session, error)`, called when a message's handler has raised; what it
        gives, if not None, is sent in place of the error reply. If it raises, or what it gives
        cannot be packed, the error reply is sent. It is `def`."""
        self._register("on_error", handler, ("session", "error"))
        if inspect.iscoroutinefunction(handler) or is_blocking(handler):
            raise ConfigurationError(
                f"on_error of {self.path}: {handler_name(handler)}", "must be def, and not block"
            )
        return handler

    def handler(self, handler: H) -> H:
        """Register the handler of a tagged Struct: `(ctx, data: SomeStruct)`, or a class with such
        a method `handle`. The Struct's tag is the command, so that a new type of message takes a
        Struct and a handler, and nothing else."""
        call: Handler = handler().handle if isinstance(handler, type) else handler
        what = f"handler of {self.path}:"
        parameters = positional_parameters(call)
        if len(parameters) < 2:
            raise ConfigurationError(f"{what} {handler_name(call)}", "must take (ctx, data)")
        data_type = annotation_of(call, parameters[1].name, what)
        config = getattr(data_type, "__struct_config__", None)
        if config is None or not isinstance(config.tag, str) or config.tag_field != self.parser.key:
            raise ConfigurationError(
                f"{what} {handler_name(call)}",
                f"{data_type!r} is no Struct with tag_field={self.parser.key!r} and a tag",
            )
        self.command(config.tag)(call)
        return handler

    def _new_command(
        self,
        name: str,
        handler: Handler,
        what: str,
        stages: Iterable[Enum] = (),
        middleware: Iterable[Handler] = (),
    ) -> _Command:
        allowed = frozenset(stages)
        around = list(middleware)
        if allowed and self.stages is None:
            raise ConfigurationError(f"{what} {handler_name(handler)}", "the module has no stages")
        parameters = positional_parameters(handler)
        names = [each.name for each in parameters]
        if not parameters:
            check_arity(handler, what, ("ctx",))
        check_arity(handler, what, tuple(names))
        if len(parameters) < 2:
            return _Command(name, handler, None, None, [], allowed, around)
        data_type = annotation_of(handler, names[1], what)
        dependencies = [(each, annotation_of(handler, each, what)) for each in names[2:]]
        if name:
            self.parser.register(data_type, name)
        decode = self.parser.decoder(data_type)
        return _Command(name, handler, data_type, decode, dependencies, allowed, around)

    def _register(self, event: str, handler: Handler, arguments: tuple[str, ...]) -> None:
        check_arity(handler, f"{event} of {self.path}:", arguments)
        before = getattr(self, f"{event}_handler")
        if before is not None:
            raise ConfigurationError(
                f"{event} of {self.path}: {handler_name(handler)}",
                f"is handled by {handler_name(before)} already",
            )
        setattr(self, f"{event}_handler", handler)

    # -- what is registered -------------------------------------------------------------------

    @property
    def commands(self) -> list[CommandDescription]:
        """Its commands in the order they were registered, and the default command, if any, last."""
        registered = [*self._commands.values(), *([self._default] if self._default else [])]
        return [command.describe() for command in registered]

    @property
    def handlers(self) -> list[Handler]:
        """All that was registered."""
        events = (
            self.on_handshake_handler,
            self.on_open_handler,
            self.on_message_handler,
            self.on_close_handler,
            self.on_join_handler,
            self.on_leave_handler,
            self.on_presence_handler,
        )
        commands = [*self._commands.values(), *([self._default] if self._default else [])]
        around = [*self._middleware, *self._handshake_middleware]
        around += [each for command in commands for each in command.middleware]
        return [*filter(None, events), *(command.handler for command in commands), *around]

    @property
    def middleware_names(self) -> list[str]:
        """The middleware around every command, the outermost first."""
        return [handler_name(each) for each in self._middleware]

    @property
    def handshake_middleware_names(self) -> list[str]:
        """The middleware around the handshake, the outermost first."""
        return [handler_name(each) for each in self._handshake_middleware]

    # -- what the hub needs -------------------------------------------------------------------

    def check(self) -> None:
        """Raises `ConfigurationError` for a module that has both kinds of handler."""
        for message in get_args(self._messages) or filter(None, (self._messages,)):
            tag = message.__struct_config__.tag
            if tag not in self._commands:
                raise ConfigurationError(
                    f"module {self.path}: messages",
                    f"{message.__module__}.{message.__qualname__} (type {tag!r}) has no handler",
                )
        if self.history is not None and not self.parser.carries_positions:
            raise ConfigurationError(
                f"module {self.path}: history",
                f"needs a parser of JSON objects, which carry positions, not "
                f"{type(self.parser).__name__}",
            )
        commands = [*self._commands.values(), *([self._default] if self._default else [])]
        if not commands:
            return
        if self.on_message_handler is not None:
            raise ConfigurationError(
                f"module {self.path}",
                f"has on_message ({handler_name(self.on_message_handler)}) and commands "
                f"({commands[0].where})",
            )
        if self.kinds not in ("any", self.parser.kinds):
            raise ConfigurationError(
                f"module {self.path}: kinds",
                f"{type(self.parser).__name__} takes {self.parser.kinds} messages",
            )
        if isinstance(self.parser, RawParser) and self._commands:
            raise ConfigurationError(
                f"module {self.path}", "RawParser knows no commands but the default command"
            )

    def pack(self, data: object) -> Message:
        return self.parser.pack(data)

    def pack_request(self, data: object, request_id: RequestId) -> Message:
        """A message that asks for an answer. Raises `LocalProtocolError` if there is none."""
        if not self._commands and self._default is None:
            raise LocalProtocolError(
                f"module {self.path} has no commands, and so its replies cannot be told apart"
            )
        return self.parser.pack_request(data, request_id)

    def reply_data(self, reply: Any, reply_type: Any) -> Any:
        """What a peer's reply holds. Raises `RequestFailedError`."""
        return self.parser.reply_data(reply, reply_type)

    def take_reply(self, session: Session, message: Message) -> bool:
        """Whether a message answers a request of ours; if so, whoever waits goes on."""
        try:
            parsed = self.parser.parse(message)
            if parsed.command not in (REPLY, ERROR) or parsed.request_id is None:
                return False
            pending = (session.requests or {}).get(parsed.request_id)
        except Exception:  # no reply, whatever it is: `deliver` says what is wrong with it
            return False
        if pending is None or pending.reply is not None:
            return False
        pending.reply = parsed
        pending.arrived.happen()
        return True

    def handshake_handler(self) -> Handler | None:
        """`on_handshake` within its middleware, or None if every handshake is accepted."""
        handler = self.on_handshake_handler
        if not self._handshake_middleware:
            return handler
        check_not_around_blocking(handler or _accept, self._handshake_middleware)
        wrapped = wrap(handler or _accept, self._handshake_middleware)
        return blocking(wrapped) if handler is not None and is_blocking(handler) else wrapped

    def deliverer(
        self, services: Mapping[Any, object]
    ) -> Callable[[Session, Message], object] | None:
        kinds = self.kinds
        deliver: Callable[[Session, Message], object] | None = None
        if self._commands or self._default is not None:
            kinds = self.parser.kinds
            bound = {
                name: _Bound(command, services, self._middleware)
                for name, command in self._commands.items()
            }
            default = self._default and _Bound(self._default, services, self._middleware)
            deliver = _Dispatcher(self.parser, bound, default).deliver
        elif self.on_message_handler is not None:
            deliver = _Receiver(self.on_message_handler).deliver
        if deliver is None or kinds == "any":
            return deliver
        return _only(str, "text", deliver) if kinds == "text" else _only(bytes, "binary", deliver)

    def error_reply(
        self, session: Session, error: Exception, request_id: RequestId | None
    ) -> object | None:
        if self.on_error_handler is not None:
            reply: object = self.on_error_handler(session, error)
            if reply is not None:
                return _answer(request_id, reply)
        return None


@final
class _Dispatcher:
    """One module's commands in one hub."""

    __slots__ = ("_commands", "_default", "_parse", "_parser")

    def __init__(self, parser: Parser, commands: dict[str, _Bound], default: _Bound | None) -> None:
        self._parser = parser
        self._parse = parser.parse
        self._commands = commands
        self._default = default

    def deliver(self, session: Session, message: Message) -> object:
        """One message to its command's handler."""
        request_id = None
        try:
            parsed = self._parse(message)
            request_id = parsed.request_id
            command = self._commands.get(parsed.command) or self._default
            if command is None:
                if parsed.command == REPLY:
                    session.common.stats.late_replies += 1
                    return None
                raise BadMessage(
                    "unknown_type", f"there is no type {parsed.command!r}", self._parser.key
                )
            if command.stages and session.stage not in command.stages:
                raise BadMessage("wrong_stage", f"not while the session is {session.stage}")
            data = None if command.decode is None else command.decode(parsed.data)
        except Exception as error:
            return self._not_handled(session, message, request_id, error)
        context = Context(session, parsed.command, request_id, data, message, command.where)
        return _handle(context, command.call, context, data)

    def _not_handled(
        self, session: Session, message: Message, request_id: RequestId | None, error: Exception
    ) -> Failed | None:
        """A message has no command, or no valid data; or the parser has failed to say so."""
        if isinstance(error, BadMessage):
            session.common.stats.bad_messages += 1
            try:
                session.send(ErrorReply(error.code, error.message, error.field, request_id))
            except Exception as another:
                error = another
            else:
                return None
        where = handler_name(type(self._parser))
        return Failed(Context(session, "", request_id, None, message, where), error)


@final
class _Receiver:
    """One module's `on_message` in one hub."""

    __slots__ = ("_handler", "_where")

    def __init__(self, handler: Handler) -> None:
        self._handler = defer(handler) if is_blocking(handler) else handler
        self._where = handler_name(handler)

    def deliver(self, session: Session, message: Message) -> object:
        """One message to the handler."""
        context = Context(session, "", None, message, message, self._where)
        return _handle(context, self._handler, session, message)


def _handle(context: Context, call: Handler, first: object, second: object) -> object:
    """Call a message's handler. Gives None, a `Handling` to go on with, or a `Failed`."""
    token = set_handled(context)
    try:
        result = call(first, second)
        kind = type(result)
        if kind is COROUTINE or kind is BlockingCall:
            return Handling(context, result, _end)
        _end(context, result)
    except Exception as error:
        return Failed(context, error)
    except BaseException:  # an interrupt: not ours to keep
        context.finish()
        raise
    finally:
        reset_handled(token)
    return None


def _end(context: Context, result: object) -> None:
    """The handler has ended, and its context with it: carry out, or send, what it gave."""
    context.finish()
    if result is not None and are_effects(result):
        carry_out(result, context)
        result = None
    if context.request_id is not None and not context.answered:
        context.answered = True
        result = _answer(context.request_id, result)
    if result is None:
        return
    session = context.session
    if session.is_connected:
        session.send(result)
    else:
        session.common.stats.dropped_messages_sent += 1


def _answer(request_id: RequestId | None, result: object) -> object:
    """What is sent for a result: as the answer, if there was a request."""
    if request_id is None:
        return result
    if isinstance(result, ErrorReply):
        return msgspec.structs.replace(result, request_id=request_id)
    return Reply(request_id, result)


def _check_middleware(handler: Handler, what: str) -> None:
    """Raises `ConfigurationError` unless it can be called with a context and `call_next`."""
    check_arity(handler, what, ("ctx", "call_next"))
    if is_blocking(handler):
        raise ConfigurationError(
            f"{what} {handler_name(handler)}", "cannot be blocking: mark the handlers that are"
        )


def _accept(request: Request) -> Accept:
    return Accept()


def _only(
    kind: type, name: str, deliver: Callable[[Session, Message], object]
) -> Callable[[Session, Message], object]:
    """`deliver` for messages of one kind; others end the session with 1003 (section 7.4.1)."""
    wrong = Violation(CloseCode.UNSUPPORTED_DATA, f"only {name} messages are taken here")

    def deliver_only(session: Session, message: Message) -> object:
        return deliver(session, message) if type(message) is kind else wrong

    return deliver_only
