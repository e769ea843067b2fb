"""uvicorn with `--ws websockets-sansio`, running a bare ASGI application without a framework."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import uvicorn  # type: ignore[import-not-found, unused-ignore]

from _serve import HOST, main

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

members: set[Send] = set()


async def app(scope: Event, receive: Receive, send: Send) -> None:
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    handler = room if scope["path"] == "/room" else echo
    await handler(receive, send)


async def echo(receive: Receive, send: Send) -> None:
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})


async def room(receive: Receive, send: Send) -> None:
    members.add(send)
    try:
        while (event := await receive())["type"] == "websocket.receive":
            broadcast = {"type": "websocket.send", "text": event["text"]}
            for member in tuple(members):
                await member(broadcast)
    finally:
        members.discard(send)


@asynccontextmanager
async def listen(port: int) -> AsyncIterator[int]:
    config = uvicorn.Config(
        app,
        host=HOST,
        port=port,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
            await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await serving


if __name__ == "__main__":
    main(listen)
