"""Wireroom: plain handlers at /echo and /room, an `async def` handler at /echo_async."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from _serve import HOST, main
from wireroom.core import App, Session, WebSocket
from wireroom.transports.asyncio import Server

app = App(deflate=None)
echo = app.module("/echo")
room = app.module("/room")


@echo.on_message
def reply(session: Session, message: str | bytes) -> None:
    session.send(message)


@room.on_open
def joined(session: Session) -> None:
    session.join("all")


@room.on_message
def said(session: Session, message: str | bytes) -> None:
    session.room("all").broadcast(message)


@app.websocket("/echo_async")
async def echo_async(websocket: WebSocket) -> None:
    await websocket.accept()
    async for message in websocket:
        await websocket.send(message)


@asynccontextmanager
async def listen(port: int) -> AsyncIterator[int]:
    async with Server(app, HOST, port) as server:
        yield server.addresses[0][1]


if __name__ == "__main__":
    main(listen)
