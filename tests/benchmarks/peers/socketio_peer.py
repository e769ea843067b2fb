"""python-socketio, in aiohttp: an event goes back to its sender, or to all clients of a room."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import parse_qs

import socketio  # type: ignore[import-not-found, import-untyped, unused-ignore]
from aiohttp import web  # type: ignore[import-not-found, unused-ignore]

from _aiohttp import listen_with
from _serve import main

PING_INTERVAL_S = 3600

server: Any = socketio.AsyncServer(
    async_mode="aiohttp",
    transports=["websocket"],
    http_compression=False,
    ping_interval=PING_INTERVAL_S,
)
rooms: dict[str, str] = {}  # by session id


async def connect(sid: str, environ: dict[str, str]) -> None:
    rooms[sid] = parse_qs(environ["QUERY_STRING"]).get("room", [sid])[0]
    await server.enter_room(sid, rooms[sid])


async def m(sid: str, text: str) -> None:
    await server.emit("m", text, room=rooms[sid])


async def disconnect(sid: str, reason: str) -> None:
    del rooms[sid]


for handler in (connect, m, disconnect):
    server.on(handler.__name__, handler)


def listen(port: int) -> AbstractAsyncContextManager[int]:
    app = web.Application()
    server.attach(app)
    return listen_with(app, port)


if __name__ == "__main__":
    main(listen)
