"""Controllers: a chat whose commands are methods, in the style of Swoft.

    python docs/examples/controllers/server.py      listens on 127.0.0.1:18308

Connect to ws://127.0.0.1:18308/chat?token=ann-secret (or bob-secret, eve-secret) and send JSON:

    {"cmd": "room.join", "data": {"room": "lobby"}}
    {"cmd": "chat.send", "data": {"room": "lobby", "text": "hello"}}
    {"cmd": "chat.send", "data": {"room": "lobby", "text": "hello", "to": [2, 3]}}
    {"cmd": "chat.send", "data": {"room": "lobby", "text": "hello", "exclude": [2]}}
    {"cmd": "chat.tell", "data": {"fd": 2, "text": "psst"}}
    {"cmd": "chat.announce", "data": {"text": "to all others, in whatever room"}}
    {"cmd": "chat.history", "data": {"room": "lobby"}, "request_id": 7}
    {"cmd": "room.leave", "data": {"room": "lobby"}}

What a command returns is sent to who gave it; with a `request_id` as the answer to that request:

    {"cmd": "reply", "request_id": 7,
     "data": {"room": "lobby", "messages": [{"fd": 1, "user": "ann", "text": "hello"}]}}

Mistakes are answered with {"cmd": "error", "code": ..., "message": ...}.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from wireroom.core import (
    Accept,
    App,
    Context,
    ErrorReply,
    JsonParser,
    Reject,
    Request,
    Room,
    Session,
    command,
)
from wireroom.transports.asyncio import Server, serve

TOKENS = {"ann-secret": "ann", "bob-secret": "bob", "eve-secret": "eve"}
MEMBERS_ONLY = ("chat.send", "chat.history")
HISTORY_MESSAGES_MAX = 50

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class InRoom(msgspec.Struct):
    """The data of commands about a room."""

    room: Name


class SendData(msgspec.Struct):
    """A message for a room: for all in it, for some (`to`), or for all but some (`exclude`)."""

    room: Name
    text: Text
    to: list[int] | None = None
    exclude: list[int] = []


class TellData(msgspec.Struct):
    """A message for one session, by its fd."""

    fd: int
    text: Text


class AnnounceData(msgspec.Struct):
    """A message for every other session."""

    text: Text


class Said(msgspec.Struct):
    """Who said what."""

    fd: int
    user: str
    text: str


class Event(msgspec.Struct):
    """What is sent without being asked for."""

    cmd: str
    data: Any


Histories = dict[str, deque[Said]]


class RoomController:
    """`room.join` and `room.leave`."""

    @command()
    def join(self, ctx: Context, data: InRoom) -> dict[str, object]:
        ctx.session.join(data.room)
        return {"fd": ctx.session.fd, "members": [each.fd for each in ctx.room(data.room)]}

    @command()
    def leave(self, ctx: Context, data: InRoom) -> dict[str, object]:
        return {"left": ctx.session.leave(data.room)}


class ChatController:
    """`chat.send`, `chat.tell`, `chat.announce` and `chat.history`."""

    def __init__(self, histories: Histories) -> None:
        self.histories = histories

    @command()
    def send(self, ctx: Context, data: SendData) -> dict[str, object]:
        said = Said(ctx.session.fd, ctx.user, data.text)
        history = self.histories.setdefault(data.room, deque(maxlen=HISTORY_MESSAGES_MAX))
        if data.to is None:
            history.append(said)  # what is only for some is not for who comes later

        def is_wanted(member: Session) -> bool:
            return (data.to is None or member.fd in data.to) and member.fd not in data.exclude

        count = ctx.room(data.room).broadcast(Event("chat.said", said), where=is_wanted)
        return {"receivers": count}

    @command()
    def tell(self, ctx: Context, data: TellData) -> dict[str, object] | None:
        receiver = ctx.hub.session(data.fd)
        if receiver is None:
            ctx.error("not_connected", f"there is no session {data.fd}", "fd")
            return None
        receiver.send(Event("chat.told", Said(ctx.session.fd, ctx.user, data.text)))
        return {"receivers": 1}

    @command()
    def announce(self, ctx: Context, data: AnnounceData) -> dict[str, object]:
        said = Said(ctx.session.fd, ctx.user, data.text)
        count = ctx.hub.broadcast(Event("chat.announced", said), exclude=[ctx.session])
        return {"receivers": count}

    @command("history")
    def give_history(self, ctx: Context, data: InRoom) -> dict[str, object]:
        return {"room": data.room, "messages": list(self.histories.get(data.room, ()))}


def make_app() -> App:
    """The chat; it knows no transport."""
    app = App()
    histories: Histories = {}
    chat = app.module("/chat", parser=JsonParser(key="cmd", data_key="data"))
    chat.controller("room")(RoomController)
    chat.controller("chat")(ChatController(histories))

    @chat.on_handshake
    def check_token(request: Request) -> Accept | Reject:
        user = TOKENS.get(request.query_params.get("token", ""))
        if user is None:
            return Reject(401, "a token is needed: /chat?token=...\n")
        return Accept(user=user)

    @chat.on_open
    def opened(session: Session) -> None:
        session.send(Event("welcome", {"fd": session.fd, "user": session.user}))

    @chat.on_join
    def joined(session: Session, room: Room) -> None:
        who = {"room": room.name, "fd": session.fd, "user": session.user}
        room.broadcast(Event("room.joined", who), exclude=[session])

    @chat.on_leave
    def left(session: Session, room: Room) -> None:
        who = {"room": room.name, "fd": session.fd, "user": session.user}
        room.broadcast(Event("room.left", who))
        if not room:
            histories.pop(room.name, None)

    @chat.middleware
    def only_members(ctx: Context, call_next: Callable[[], Any]) -> Any:
        if ctx.command in MEMBERS_ONLY and ctx.session not in ctx.room(ctx.data.room):
            ctx.error("not_joined", f"join {ctx.data.room!r} first", "room")
            return None
        return call_next()

    @chat.default_command
    def unknown(ctx: Context) -> None:
        ctx.error("unknown_command", f"there is no {ctx.command!r}", "cmd")

    @chat.on_error
    def explain(session: Session, error: Exception) -> ErrorReply:
        return ErrorReply("failed", f"this went wrong: {error}")

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="Controllers, by Wireroom.")
    parser.add_argument("--port", type=int, default=18308)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

    def ready(server: Server) -> None:
        port = server.addresses[0][1]
        print(f"chatting on ws://127.0.0.1:{port}/chat?token=ann-secret", flush=True)

    asyncio.run(serve(make_app(), "127.0.0.1", arguments.port, on_ready=ready))


if __name__ == "__main__":
    main()
