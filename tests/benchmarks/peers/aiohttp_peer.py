"""aiohttp: its web server, compression off; the room encodes the text once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import WSMsgType, web  # type: ignore[import-not-found, unused-ignore]

from _serve import HOST, main

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


@asynccontextmanager
async def listen(port: int) -> AsyncIterator[int]:
    app = web.Application()
    app.add_routes([web.get("/echo", echo), web.get("/room", room)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    main(listen)
