"""What a module says of itself, for `wireroom routes` and whoever else asks."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import msgspec

from wireroom.core import App, Context, Request, Stages, WebSocket, WebSocketView


class Stage(Enum):
    NEW = "new"
    KNOWN = "known"


class Store:
    """A service."""


class Said(msgspec.Struct):
    text: str


def around(ctx: Context, call_next: Callable[[], Any]) -> Any:
    return call_next()


def around_handshake(request: Request, call_next: Callable[[], Any]) -> Any:
    return call_next()


def test_commands_are_described_in_order_and_the_default_last() -> None:
    stages = Stages(Stage.NEW, {Stage.NEW: [Stage.KNOWN]})
    module = App().module("/chat", stages=stages)
    module.middleware(around)
    module.handshake_middleware(around_handshake)

    @module.default_command
    def other(ctx: Context) -> None: ...

    @module.command("say", stages=[Stage.KNOWN], middleware=[around])
    def say(ctx: Context, data: Said, store: Store) -> None: ...

    first, last = module.commands
    where = f"{__name__}.{test_commands_are_described_in_order_and_the_default_last.__name__}"
    assert first._asdict() == {
        "name": "say",
        "handler": f"{where}.<locals>.say",
        "data_type": Said,
        "services": (Store,),
        "stages": ("KNOWN",),
        "middleware": (f"{__name__}.around",),
    }
    assert (last.name, last.data_type, last.services) == ("", None, ())
    assert module.middleware_names == [f"{__name__}.around"]
    assert module.handshake_middleware_names == [f"{__name__}.around_handshake"]


def test_each_kind_of_module_says_what_it_is() -> None:
    app = App()
    app.module("/module")
    app.view("/view")(type("View", (WebSocketView,), {}))

    @app.websocket("/function")
    async def function(ws: WebSocket) -> None: ...

    assert {path: module.kind for path, module in app.modules} == {
        "/module": "module",
        "/view": "view",
        "/function": "function",
    }


def test_the_transitions_of_stages_are_a_copy() -> None:
    stages = Stages(Stage.NEW, {Stage.NEW: [Stage.KNOWN]})
    assert stages.transitions == {Stage.NEW: frozenset({Stage.KNOWN})}
    stages.transitions.clear()
    assert stages.transitions
