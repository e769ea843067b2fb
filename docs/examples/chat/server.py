"""A chat in rooms, an echo and a health check, on one port.

    make run                                 from the repository
    python docs/examples/chat/server.py      with wireroom installed

Then open http://127.0.0.1:8301 in two tabs. `--host` and `--port` choose another address.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path
from typing import Annotated

import msgspec

from wireroom.core import App, Context, Request, Response, Session, WebSocket
from wireroom.transports.asyncio import Server, serve

HERE = Path(__file__).parent

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class ChatMessage(msgspec.Struct, tag_field="type", tag="chat_message"):
    """What a person says, as it is received and as it is sent on."""

    name: Name
    text: Text


class Notice(msgspec.Struct, tag_field="type", tag="notice"):
    """What the server says: who came or went, and how many are there."""

    text: str
    members: int


def make_app() -> App:
    """The whole application; it knows no transport."""
    app = App()
    page = (HERE / "page.html").read_bytes()
    script = (HERE / "page.js").read_bytes()
    style = (HERE / "page.css").read_bytes()
    strict = {"Content-Security-Policy": "default-src 'self'", "Cache-Control": "no-cache"}

    @app.http("/")
    def index(request: Request) -> Response:
        return Response(200, page, strict, content_type="text/html; charset=utf-8")

    @app.http("/page.js")
    def page_script(request: Request) -> Response:
        return Response(200, script, strict, content_type="text/javascript; charset=utf-8")

    @app.http("/page.css")
    def page_style(request: Request) -> Response:
        return Response(200, style, strict, content_type="text/css; charset=utf-8")

    @app.http("/healthz")
    def healthz(request: Request) -> dict[str, str]:
        return {"status": "ok"}

    @app.websocket("/echo")
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            await ws.send(message)

    chat = app.module("/chat/{room}")

    @chat.on_open
    def joined(session: Session) -> None:
        name = session.path_params["room"]
        session.join(name)
        room = session.room(name)
        room.broadcast(Notice("somebody came in", members=len(room)))

    @chat.on_close
    def left(session: Session) -> None:
        room = session.room(session.path_params["room"])
        room.broadcast(Notice("somebody left", members=len(room)))

    @chat.command("chat_message")
    def say(ctx: Context, data: ChatMessage) -> None:
        ctx.room(ctx.path_params["room"]).broadcast(data)

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="A chat in rooms, by Wireroom.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8301)
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
