"""aiohttp: its web server, compression off; the room encodes the text once."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from aiohttp import WSMsgType, web  # type: ignore[import-not-found, unused-ignore]

from _aiohttp import listen_with
from _serve import main

members: set[web.WebSocketResponse] = set()


async def accept(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse(compress=False)
    await websocket.prepare(request)
    return websocket


async def echo(request: web.Request) -> web.WebSocketResponse:
    websocket = await accept(request)
    async for message in websocket:
        await websocket.send_str(message.data)
    return websocket


async def room(request: web.Request) -> web.WebSocketResponse:
    websocket = await accept(request)
    members.add(websocket)
    try:
        async for message in websocket:
            payload = message.data.encode()
            for member in tuple(members):
                await member.send_frame(payload, WSMsgType.TEXT)
    finally:
        members.discard(websocket)
    return websocket


def listen(port: int) -> AbstractAsyncContextManager[int]:
    app = web.Application()
    app.add_routes([web.get("/echo", echo), web.get("/room", room)])
    return listen_with(app, port)


if __name__ == "__main__":
    main(listen)
