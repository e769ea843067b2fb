"""A chat in rooms, an echo and a health check, on one port.

    make run                                 from the repository
    python docs/examples/chat/server.py      with wireroom installed

Then open http://127.0.0.1:8301 in two tabs. `--host` and `--port`, or WS_HOST and WS_PORT in the
environment, choose another address.

A message is a Struct with a tag; its handler says by its annotation which one it takes. So a new
type of message is one Struct and one handler.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections import defaultdict, deque
from typing import Annotated

import msgspec

from pages import add_pages
from wireroom.core import App, Broadcast, Context, Request, Session, WebSocket
from wireroom.transports.asyncio import Server, serve
from wireroom.transports.settings import Settings

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class ChatMessage(msgspec.Struct, tag_field="type", tag="chat_message"):
    """What a person says, as it is received and as it is sent on."""

    name: Name
    text: Text


class SystemNotification(msgspec.Struct, tag_field="type", tag="system_notification"):
    """What the server says: who came or went, and how many are there."""

    text: str
    members: int


class History:
    """The last messages of each room; a service, which tests may override."""

    def __init__(self) -> None:
        self.rooms: dict[str, deque[ChatMessage]] = defaultdict(lambda: deque(maxlen=20))


def make_app() -> App:
    """The whole application; it knows no transport."""
    app = App()
    add_pages(app)

    @app.http("/healthz")
    def healthz(request: Request) -> dict[str, str]:
        return {"status": "ok"}

    @app.websocket("/echo")
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            await ws.send(message)

    app.provide(History, History)
    chat = app.module("/chat/{room}", messages=ChatMessage)

    @chat.on_open
    def joined(session: Session) -> None:
        name = session.path_params["room"]
        session.join(name)
        for message in session.hub.service(History).rooms.get(name, ()):
            session.send(message)
        room = session.room(name)
        room.broadcast(SystemNotification("somebody came in", members=len(room)))

    @chat.on_close
    def left(session: Session) -> None:
        room = session.room(session.path_params["room"])
        room.broadcast(SystemNotification("somebody left", members=len(room)))

    @chat.handler
    def say(ctx: Context, data: ChatMessage, history: History) -> Broadcast:
        room = ctx.path_params["room"]
        history.rooms[room].append(data)
        return Broadcast(room, data, include_sender=True)

    return app


def main() -> None:
    settings = Settings.from_environment()
    parser = argparse.ArgumentParser(description="A chat in rooms, by Wireroom.")
    parser.add_argument("--host", default=settings.ws_host)
    parser.add_argument("--port", type=int, default=settings.ws_port)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

    def ready(server: Server) -> None:
        host, port = server.addresses[0][:2]
        print(f"Wireroom serves a chat on http://{host}:{port}  (Ctrl+C ends it)", flush=True)
        print(f"  ws://{host}:{port}/echo     any WebSocket client")
        print(f"  http://{host}:{port}/healthz", flush=True)

    asyncio.run(serve(make_app(), arguments.host, arguments.port, on_ready=ready))


if __name__ == "__main__":
    main()
