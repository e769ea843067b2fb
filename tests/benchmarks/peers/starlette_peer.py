"""Starlette inside uvicorn."""

from __future__ import annotations

from functools import partial

from starlette.applications import (  # type: ignore[import-not-found, unused-ignore]
    Starlette,
)
from starlette.routing import (  # type: ignore[import-not-found, unused-ignore]
    WebSocketRoute,
)
from starlette.websockets import (  # type: ignore[import-not-found, unused-ignore]
    WebSocket,
)

from _serve import main
from _uvicorn import listen_with

members: set[WebSocket] = set()


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)


async def room(websocket: WebSocket) -> None:
    await websocket.accept()
    members.add(websocket)
    try:
        async for message in websocket.iter_text():
            for member in tuple(members):
                await member.send_text(message)
    finally:
        members.discard(websocket)


app = Starlette(routes=[WebSocketRoute("/echo", echo), WebSocketRoute("/room", room)])

if __name__ == "__main__":
    main(partial(listen_with, app))
