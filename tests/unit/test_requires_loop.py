"""`requires_loop`: an app with handlers that a transport cannot run does not start there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from wireroom.core import (
    App,
    ConfigurationError,
    Context,
    Hub,
    Loop,
    Request,
    Session,
    WebSocket,
    WebSocketView,
    requires_loop,
)
from wireroom.transports import anyio as anyio_transport
from wireroom.transports import asyncio as asyncio_transport
from wireroom.transports import blocking

on_asyncio = requires_loop("asyncio")


def _websocket(app: App) -> None:
    @app.websocket("/")
    @on_asyncio
    async def needy(ws: WebSocket) -> None: ...


def _marked_after_registering(app: App) -> None:
    @on_asyncio
    @app.websocket("/")
    async def needy(ws: WebSocket) -> None: ...


def _view(app: App) -> None:
    @app.view("/")
    @on_asyncio
    class needy(WebSocketView): ...  # noqa: N801


def _method_of_a_view(app: App) -> None:
    @app.view("/")
    class View(WebSocketView):
        @on_asyncio
        async def on_receive(self, data: Any) -> None: ...

    View.on_receive.__qualname__ = "needy"


def _on_message(app: App) -> None:
    @app.module("/").on_message
    @on_asyncio
    async def needy(session: Session, message: str) -> None: ...


def _command(app: App) -> None:
    @app.module("/").command("say")
    @on_asyncio
    async def needy(ctx: Context) -> None: ...


def _middleware(app: App) -> None:
    @app.module("/").middleware
    @on_asyncio
    async def needy(context: Context, call_next: Callable[[], Any]) -> None: ...


def _middleware_of_a_command(app: App) -> None:
    @on_asyncio
    async def needy(context: Context, call_next: Callable[[], Any]) -> None: ...

    @app.module("/").command("say", middleware=[needy])
    def say(ctx: Context) -> None: ...


def _http(app: App) -> None:
    @app.http("/")
    @on_asyncio
    async def needy(request: Request) -> None: ...


def _periodic(app: App) -> None:
    @app.every(1.0)
    @on_asyncio
    async def needy(hub: Hub) -> None: ...


EVERYWHERE = [
    _websocket,
    _marked_after_registering,
    _view,
    _method_of_a_view,
    _on_message,
    _command,
    _middleware,
    _middleware_of_a_command,
    _http,
    _periodic,
]


@pytest.mark.parametrize("register", EVERYWHERE)
def test_a_handler_that_requires_another_loop_is_named(register: Callable[[App], None]) -> None:
    app = App()
    register(app)
    app.check_loop("asyncio")
    others: list[tuple[Loop | None, str]] = [("trio", "on trio"), (None, "in threads")]
    for loop, where in others:
        with pytest.raises(ConfigurationError) as raised:
            app.check_loop(loop)
        assert raised.value.setting == "transport"
        text = str(raised.value)
        assert "needy requires the loop of asyncio" in text
        assert f"this transport runs {where}" in text
        assert "choose one on asyncio" in text


def test_a_handler_may_run_on_both_loops() -> None:
    app = App()
    app.websocket("/")(requires_loop("asyncio", "trio")(_function))
    app.check_loop("asyncio")
    app.check_loop("trio")
    with pytest.raises(ConfigurationError, match="requires the loop of asyncio or trio"):
        app.check_loop(None)


async def _function(ws: WebSocket) -> None: ...


@pytest.mark.parametrize("loops", [(), ("uvloop",), ("asyncio", "threads")])
def test_loops_that_there_are_not(loops: Any) -> None:
    with pytest.raises(ConfigurationError, match="must name 'asyncio', 'trio' or both"):
        requires_loop(*loops)


# -- what the transports say of themselves ------------------------------------------------------


def _start_asyncio(app: App) -> None:
    asyncio_transport.Server(app, port=0)


def _start_anyio(backend: str) -> Callable[[App], None]:
    async def start(app: App) -> None:
        async with anyio_transport.Server(app, port=0):
            pass

    return lambda app: anyio.run(start, app, backend=backend)


def _start_blocking(app: App) -> None:
    blocking.Server(app, port=0)


@pytest.mark.parametrize(
    ("start", "loop"),
    [
        (_start_asyncio, "asyncio"),
        (_start_anyio("asyncio"), "asyncio"),
        (_start_anyio("trio"), "trio"),
        (_start_blocking, None),
    ],
)
def test_each_transport_checks_its_loop(start: Callable[[App], None], loop: str | None) -> None:
    loops: tuple[Loop, Loop] = ("asyncio", "trio")
    for required in loops:
        app = App()

        @app.websocket("/")
        @requires_loop(required)
        async def needy(ws: WebSocket) -> None: ...

        if required == loop:
            start(app)
        else:
            with pytest.raises(ConfigurationError, match=f"needy requires the loop of {required}"):
                start(app)
