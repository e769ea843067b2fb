"""A user's program, type-checked with `mypy --strict` against nothing but the installed wheel.

An unused `type: ignore` is an error in strict mode, so each one below is a proof that mypy
rejects its line.
"""

from __future__ import annotations

import asyncio
from typing import assert_type

import msgspec

from wireroom.core import App, Context, Hub, Limits, Session, WebSocket
from wireroom.transports.asyncio import serve


class ChatMessage(msgspec.Struct):
    """The payload of a command."""

    text: str


app = App(limits=Limits(message_bytes_max=32 * 2**20, message_fragments_max=100_000))


@app.websocket("/echo")
async def echo(ws: WebSocket) -> None:
    """A whole session in one coroutine."""
    await ws.accept()
    async for message in ws:
        assert_type(message, str | bytes)
        await ws.send(message)


chat = app.module("/chat/{room}")


@chat.on_open
def joined(session: Session) -> None:
    """Everybody at this path meets in the room that the path names."""
    session.join(session.path_params["room"])


@chat.command("chat_message")
def say(ctx: Context, data: ChatMessage) -> None:
    """A plain handler: what it sends takes effect at once."""
    ctx.room(ctx.path_params["room"]).broadcast(data, exclude=[ctx.session])


@chat.command("chat_message_awaited")
async def say_and_wait(ctx: Context, data: ChatMessage) -> None:
    """The same methods in a coroutine, where the result of send may be awaited."""
    await ctx.session.send(data)


plain = app.module("/plain")


@plain.on_message
def echoed(session: Session, message: str | bytes) -> None:
    """A module without commands takes whole messages."""
    session.send(message)


def drive_by_hand() -> bytes:
    """The same app without a loop and without a socket."""
    hub = Hub(app)
    fd = hub.connect(("10.0.0.1", 4000), now=0.0)
    assert_type(fd, int)
    hub.receive_data(fd, b"GET /echo HTTP/1.1\r\n\r\n", now=0.0)
    answer = b"".join(hub.data_to_send(fd))
    assert_type(hub.next_timeout(), float | None)
    hub.handle_timeout(now=20.0)
    while hub.next_output() is not None:
        pass
    hub.connection_lost(fd, now=20.0)
    return answer


def mistakes(hub: Hub) -> None:
    """What mypy must reject."""
    hub.receive_data(1, "text", now=0.0)  # type: ignore[arg-type]
    hub.receive_data(1, b"bytes")  # type: ignore[call-arg]
    hub.handle_timeout(20.0)  # type: ignore[call-arg]
    Limits(message_bytes_max="1 MiB")  # type: ignore[arg-type]
    Limits(no_such_bound=1)  # type: ignore[call-arg]


async def main() -> None:
    """Serve until stopped."""
    await serve(app, "127.0.0.1", 8301)


if __name__ == "__main__":
    asyncio.run(main())
