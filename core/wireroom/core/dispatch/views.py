"""One object a connection, with a method for its begin, each message and its end. Pure.

@app.view("/counter")
class Counter(WebSocketView):
    encoding = "json"

    async def on_receive(self, data: Any) -> None:
        await self.websocket.send_json({"got": data})
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, Literal, TypeAlias, final

from ..errors import ConfigurationError, LocalProtocolError
from ..wire.close_codes import CloseCode
from ..wire.framing import Message
from ..wire.handshake import Origins
from ..wire.states import State
from .function import FunctionModule, WebSocket, decode_json
from .handlers import check_arity, handler_name

Encoding: TypeAlias = Literal["anystr", "text", "bytes", "json"]


class WebSocketView:
    """The base of class views; a new instance, made without arguments, serves each connection.

    `encoding` says what `on_receive` gets: text or binary messages as they come (`anystr`),
    `text` only, `bytes` only, or values decoded from `json` of either kind. A message that does
    not fit closes the session with 1003. `websocket` is the connection.

    The methods are called in order, one at a time, `on_disconnect` always and last. One that
    raises ends the connection: with 1011, or with 500 before it was accepted.
    """

    encoding: ClassVar[Encoding] = "anystr"
    websocket: WebSocket

    async def on_connect(self) -> None:
        """Accepts. One that overrides it must call `accept`, `reject` or `close` itself."""
        await self.websocket.accept()

    async def on_receive(self, data: Any) -> None:
        """Gets each message; to be overridden."""

    async def on_disconnect(self, close_code: int) -> None:
        """Closes what is still open. One that overrides it must call `close` itself.

        `close_code` is how the session closed: the code of the Close that began it, 1005 or
        1006; or 1011 if it is still open, because a method raised.
        """
        if self.websocket.is_connected:
            await self.websocket.close(close_code)


def new_view_module(
    path: str,
    view: type[WebSocketView],
    *,
    subprotocols: Sequence[str] = (),
    origins: Origins = None,
) -> FunctionModule:
    """A module whose connections are each served by an instance of `view`.

    Raises `ConfigurationError` for a class that cannot work.
    """
    _check_view(f"view {path}:", view)
    return FunctionModule(
        path,
        _Instances(view).serve,
        name=handler_name(view),
        kind="view",
        parts=(view, view.on_connect, view.on_receive, view.on_disconnect),
        subprotocols=subprotocols,
        origins=origins,
    )


def _check_view(what: str, view: Any) -> None:
    place = f"{what} {handler_name(view)}"
    if not inspect.isclass(view) or not issubclass(view, WebSocketView):
        raise ConfigurationError(place, "must be a subclass of WebSocketView")
    if view.encoding not in _DECODERS:
        raise ConfigurationError(
            f"{place}.encoding", f"must be one of {', '.join(_DECODERS)}, not {view.encoding!r}"
        )
    try:
        inspect.signature(view).bind()
    except TypeError as error:
        raise ConfigurationError(place, "must be possible to make without arguments") from error
    for method, names in (
        (view.on_connect, ("self",)),
        (view.on_receive, ("self", "data")),
        (view.on_disconnect, ("self", "close_code")),
    ):
        check_arity(method, what, names)
        if not inspect.iscoroutinefunction(method):
            raise ConfigurationError(f"{what} {handler_name(method)}", "must be async def")


@final
class _Instances:
    """The instances of one class of views."""

    __slots__ = ("_decode", "_view")

    def __init__(self, view: type[WebSocketView]) -> None:
        self._view = view
        self._decode = _DECODERS[view.encoding]

    async def serve(self, websocket: WebSocket) -> None:
        """One connection, from its handshake to its end."""
        view = self._view()
        view.websocket = websocket
        try:
            await self._converse(view, websocket)
        except GeneratorExit:
            raise  # nothing can be awaited any more
        except BaseException as error:
            undecided = websocket.session.phase is State.REQUEST
            still_open = undecided or websocket.is_connected
            await view.on_disconnect(
                CloseCode.INTERNAL_ERROR if still_open else websocket.close_code
            )
            if websocket.is_connected:
                error.add_note(f"{self._name('on_disconnect')} must call close(), and did not")
            raise
        await view.on_disconnect(websocket.close_code)

    async def _converse(self, view: WebSocketView, websocket: WebSocket) -> None:
        await view.on_connect()
        if websocket.session.phase is State.REQUEST:
            raise LocalProtocolError(
                f"{self._name('on_connect')} must call accept(), reject() or close()"
            )
        while (message := await websocket.receive()) is not None:
            try:
                data = self._decode(message)
            except ValueError as error:
                websocket.close(CloseCode.UNSUPPORTED_DATA, str(error))
                return
            await view.on_receive(data)

    def _name(self, method: str) -> str:
        return f"{handler_name(self._view)}.{method}"


def _any(message: Message) -> Message:
    return message


def _text(message: Message) -> str:
    if isinstance(message, str):
        return message
    raise ValueError("text was expected")


def _bytes(message: Message) -> bytes:
    if isinstance(message, bytes):
        return message
    raise ValueError("binary data was expected")


def _json(message: Message) -> Any:
    try:
        return decode_json(message)
    except ValueError as error:
        raise ValueError("JSON was expected") from error


_DECODERS: Final[dict[str, Callable[[Message], Any]]] = {
    "anystr": _any,
    "text": _text,
    "bytes": _bytes,
    "json": _json,
}
