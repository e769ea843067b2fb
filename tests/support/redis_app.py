"""The application of the tests of Redis: rooms to enter and to say something in."""

from __future__ import annotations

import msgspec

from wireroom.core import Accept, App, Context, History, Position, Recovery, Request


class Enter(msgspec.Struct):
    room: str = "a"
    position: Position | None = None


class Say(msgspec.Struct):
    text: str
    room: str = "a"


class Said(msgspec.Struct, tag_field="type", tag="said"):
    text: str


def make_app(history: History | None = None) -> App:
    """Rooms to enter and to say something in; presence in those of /present."""
    app = App()
    kept = history or History(messages_max=1000, age_s=60.0)
    for path, presence in (("/{user}", False), ("/present/{user}", True)):
        module = app.module(path, history=kept, presence=presence)

        @module.on_handshake
        def bind(request: Request) -> Accept:
            return Accept(user=request.path_params["user"])

        @module.command("enter")
        async def enter(ctx: Context, data: Enter) -> Recovery:
            return await ctx.session.recover(data.room, data.position)

        @module.command("say")
        def say(ctx: Context, data: Say) -> None:
            ctx.session.room(data.room).broadcast(Said(data.text))

    return app
