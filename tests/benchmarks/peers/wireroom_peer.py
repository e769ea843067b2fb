"""Wireroom: plain handlers at /echo and /room, an `async def` handler at /echo_async, a typed JSON
command with a reply at /command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from _serve import HOST, main, parse_arguments
from wireroom.core import App, Context, Deflate, Session, WebSocket
from wireroom.transports.asyncio import Server

app = App(deflate=Deflate(threshold_bytes=0) if parse_arguments().deflate else None)
echo = app.module("/echo")
room = app.module("/room")
commands = app.module("/command")


@echo.on_message
def reply(session: Session, message: str | bytes) -> None:
    session.send(message)


@room.on_open
def joined(session: Session) -> None:
    session.join("all")


@room.on_message
def said(session: Session, message: str | bytes) -> None:
    session.room("all").broadcast(message)


class Say(msgspec.Struct, tag_field="type", tag="say"):
    """The command's data."""

    room: str
    text: str


class Said(msgspec.Struct, tag_field="type", tag="said"):
    """The reply."""

    room: str
    text: str


@commands.handler
def say(context: Context, data: Say) -> Said:
    return Said(data.room, data.text)


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
