"""uvicorn with `--ws websockets-sansio`, running a bare ASGI application without a framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

from _serve import main
from _uvicorn import listen_with

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

members: set[Send] = set()


async def app(scope: Event, receive: Receive, send: Send) -> None:
    if scope["type"] != "websocket":
        raise RuntimeError("WebSocket only")  # no lifespan
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


if __name__ == "__main__":
    main(partial(listen_with, app))
