"""One `async def` a connection, which accepts, receives and sends. Pure.

@app.websocket("/echo")
async def echo(ws: WebSocket) -> None:
    await ws.accept()
    async for message in ws:
        await ws.send(message)
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, final

import msgspec

from ..errors import ConfigurationError, LocalProtocolError, SessionClosedError
from ..sessions.positions import History
from ..sessions.rooms import Room
from ..sessions.session import Session
from ..sessions.stages import Stages
from ..turn import READY, Ready, Sleep, Wait
from ..wire.client_address import ClientAddress, client_address
from ..wire.close_codes import CloseCode
from ..wire.framing import Message
from ..wire.handshake import Origins
from ..wire.request import HeaderItems, MultiDict, Request
from ..wire.states import State
from ..wire.url import URL, websocket_url
from .decisions import Accept, Decision, Reject
from .described import ModuleKind
from .handlers import Handler, check_arity, handler_name
from .module import check_handshake_settings
from .parsers import JsonParser, Parser, RequestId

JsonMode: TypeAlias = Literal["text", "binary"]


def decode_json(message: Message) -> Any:
    """A message that is JSON, decoded. Raises `ValueError`."""
    try:
        return msgspec.json.decode(message)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error


class Host(Protocol):
    """What a `WebSocket` asks of the hub."""

    def decide(self, session: Session, decision: Decision) -> None:
        """Accept or refuse the handshake."""


@final
class WebSocket:
    """One connection, as the function that handles it sees it.

    A function that returns closes with 1000, one that raises with 1011; if it has not accepted
    by then, the handshake is refused with 403 or 500.
    """

    __slots__ = ("_host", "session")

    def __init__(self, host: Host, session: Session) -> None:
        self._host = host
        self.session = session

    # -- the request --------------------------------------------------------------------------

    @property
    def request(self) -> Request:
        """The request of the handshake."""
        return self.session.handshake

    @property
    def url(self) -> URL:
        """Its URL: text, with `scheme`, `hostname`, `port`, `path`, `query` …"""
        return websocket_url(self.request)

    @property
    def path(self) -> str:
        """Its path, percent-decoded."""
        return self.request.path

    @property
    def path_params(self) -> dict[str, Any]:
        """The path's parameters."""
        return self.request.path_params

    @property
    def headers(self) -> MultiDict:
        """Its headers; names are lower-case."""
        return self.request.headers

    @property
    def query_params(self) -> MultiDict:
        """Its query string's names and values."""
        return self.request.query_params

    @property
    def cookies(self) -> dict[str, str]:
        """Its cookies."""
        return self.request.cookies

    @property
    def client(self) -> ClientAddress:
        """The peer's `host` and `port`; either may be None."""
        return client_address(self.session.address)

    @property
    def state(self) -> Any:
        """A place for attributes of the application's own, to be set, read and deleted."""
        return self.session.state

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol chosen at `accept`."""
        return self.session.subprotocol

    @property
    def is_connected(self) -> bool:
        """Whether something can be sent."""
        return self.session.is_connected

    @property
    def close_code(self) -> int:
        """How it closed: the code of the Close that began it, 1005 or 1006."""
        return self.session.close_code

    # -- the handshake ------------------------------------------------------------------------

    def accept(
        self,
        subprotocol: str | None = None,
        headers: HeaderItems = (),
        *,
        user: Any = None,
    ) -> Ready:
        """Accept the handshake, at once; awaiting it is allowed and waits for nothing.

        Raises `LocalProtocolError` for a subprotocol that was not offered, or a second accept.
        """
        self._decide("accept", Accept(subprotocol, headers, user))
        return READY

    def reject(self, status: int = 403, body: bytes | str = "", headers: HeaderItems = ()) -> Ready:
        """Refuse the handshake with an HTTP response, at once."""
        self._decide("reject", Reject(status, body, headers))
        return READY

    def _decide(self, verb: str, decision: Decision) -> None:
        session = self.session

        def decide() -> None:
            if session.phase is State.OPEN:
                instead = "send() or receive()" if verb == "accept" else "close()"
                raise LocalProtocolError(
                    f"{verb}(): the handshake has been accepted already, so call {instead}"
                )
            if session.phase is not State.REQUEST:
                raise session.closed_error()
            self._host.decide(session, decision)
            # Without a second session, where only one is allowed.
            if isinstance(decision, Accept) and not session.is_connected:
                raise session.closed_error()

        session.turn.entered(decide)

    # -- messages -----------------------------------------------------------------------------

    async def receive(self) -> Message | None:
        """The next message, or None when there will be none."""
        return await self.session.receive()

    async def receive_text(self) -> str:
        """The next message, which must be text; a binary one closes with 1003.

        Raises `SessionClosedError` when there will be none.
        """
        message = await self._receive_or_raise()
        if not isinstance(message, str):
            self.close(CloseCode.UNSUPPORTED_DATA, "text was expected")
            raise self.session.closed_error()
        return message

    async def receive_bytes(self) -> bytes:
        """The next message, which must be binary; a text closes with 1003.

        Raises `SessionClosedError` when there will be none.
        """
        message = await self._receive_or_raise()
        if not isinstance(message, bytes):
            self.close(CloseCode.UNSUPPORTED_DATA, "binary data was expected")
            raise self.session.closed_error()
        return message

    async def receive_json(self, mode: JsonMode | None = None) -> Any:
        """The next message, decoded. With a `mode`, one of the other kind closes with 1003.

        Raises `SessionClosedError`, or `ValueError` if it is no JSON.
        """
        if mode is None:
            return decode_json(await self._receive_or_raise())
        if _is_text(mode):
            return decode_json(await self.receive_text())
        return decode_json(await self.receive_bytes())

    async def _receive_or_raise(self) -> Message:
        message = await self.receive()
        if message is None:
            raise self.session.closed_error()
        return message

    def __aiter__(self) -> AsyncIterator[Message]:
        """Messages until the end, however it comes; see `close_code`."""
        return self.session.__aiter__()

    async def iter_text(self) -> AsyncIterator[str]:
        """What `receive_text` gives, until the end."""
        try:
            while True:
                yield await self.receive_text()
        except SessionClosedError:
            return

    async def iter_bytes(self) -> AsyncIterator[bytes]:
        """What `receive_bytes` gives, until the end."""
        try:
            while True:
                yield await self.receive_bytes()
        except SessionClosedError:
            return

    async def iter_json(self, mode: JsonMode | None = None) -> AsyncIterator[Any]:
        """What `receive_json` gives, until the end. Raises `ValueError`."""
        try:
            while True:
                yield await self.receive_json(mode)
        except SessionClosedError:
            return

    def send(self, message: object) -> Wait | Ready:
        """See `Session.send`."""
        return self.session.send(message)

    def send_text(self, text: str) -> Wait | Ready:
        """Send a text message."""
        return self.session.send(text)

    def send_bytes(self, data: bytes) -> Wait | Ready:
        """Send a binary message."""
        return self.session.send(bytes(data))

    def send_json(self, data: object, mode: JsonMode = "text") -> Wait | Ready:
        """Send a value as JSON, in a text or a binary message."""
        encoded = msgspec.json.encode(data)
        return self.session.send(encoded.decode() if _is_text(mode) else encoded)

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> Ready:
        """Start the closing handshake; before `accept`, refuse the handshake with 403.

        Nothing happens if the session has closed, whatever the code: handing on the code that it
        closed with is no mistake. Raises what `Session.close` raises.
        """
        self.session.turn.entered(lambda: self._close(code, reason))
        return READY

    def _close(self, code: int, reason: str) -> None:
        if self.session.phase is State.REQUEST:
            self._decide("close", Reject())
        elif self.session.phase is State.OPEN:
            self.session.close(code, reason)

    # -- more ---------------------------------------------------------------------------------

    def room(self, name: str) -> Room:
        """A room of this path."""
        return self.session.room(name)

    def join(self, name: str) -> bool:
        """Enter a room of this path; see `Session.join`."""
        return self.session.join(name)

    def leave(self, name: str) -> bool:
        """Leave a room; see `Session.leave`."""
        return self.session.leave(name)

    def sleep(self, seconds: float) -> Sleep:
        """Wait by the hub's own clock."""
        return self.session.sleep(seconds)


def _is_text(mode: JsonMode) -> bool:
    if mode not in ("text", "binary"):
        raise LocalProtocolError(f'mode: must be "text" or "binary", not {mode!r}')
    return mode == "text"


WebSocketHandler: TypeAlias = Callable[[WebSocket], Awaitable[object]]


@final
class FunctionModule:
    """A path whose connections are each handled by one call of a function, which may be made of
    `parts`: those of a view."""

    def __init__(
        self,
        path: str,
        handler: WebSocketHandler,
        *,
        name: str | None = None,
        kind: ModuleKind = "function",
        parts: Sequence[Handler] = (),
        subprotocols: Sequence[str] = (),
        origins: Origins = None,
    ) -> None:
        check_handshake_settings(f"websocket {path!r}", subprotocols, origins)
        self.kind: ModuleKind = kind
        self.path = path
        self.handler = handler
        self.parts = tuple(parts)
        self.origins = origins
        self.subprotocols = tuple(subprotocols)
        self.name = name or handler_name(handler)
        self.on_open_handler: Handler | None = None
        self.on_close_handler: Handler | None = None
        self.on_join_handler: Handler | None = None
        self.on_leave_handler: Handler | None = None
        self.on_presence_handler: Handler | None = None
        self.presence = False
        self.history: History | None = None
        self.stages: Stages | None = None
        self.parser: Parser = JsonParser()
        what = f"websocket {path}:"
        if inspect.isclass(handler):
            raise ConfigurationError(
                f"{what} {handler_name(handler)}",
                "is a class: derive it from WebSocketView and register it with app.view(path)",
            )
        check_arity(handler, what, ("ws",))
        if not inspect.iscoroutinefunction(handler):
            raise ConfigurationError(
                f"{what} {handler_name(handler)}",
                "must be async def; for plain def handlers use app.module(path)",
            )

    @property
    def handlers(self) -> list[Handler]:
        return [self.handler, *self.parts]

    def check(self) -> None:
        """Everything was checked at registration."""

    def pack(self, data: object) -> Message:
        return self.parser.pack(data)

    def pack_request(self, data: object, request_id: RequestId) -> Message:
        """Raises `LocalProtocolError`: whatever comes is the function's to read."""
        raise LocalProtocolError(
            f"{self.path} is a function, which reads all that comes: send() and receive()"
        )

    def deliverer(
        self, services: Mapping[Any, object]
    ) -> Callable[[Session, Message], object] | None:
        return None

    def error_reply(
        self, session: Session, error: Exception, request_id: RequestId | None
    ) -> object | None:
        return None

    def handshake_handler(self) -> Handler | None:
        return None

    def take_reply(self, session: Session, message: Message) -> bool:
        return False
