"""websockets: its trio server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from websockets.trio.server import (  # type: ignore[import-not-found, unused-ignore]
    ServerConnection,
    serve,
)

from _serve import HOST, main_in_trio

members: set[ServerConnection] = set()


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def room(connection: ServerConnection) -> None:
    members.add(connection)
    try:
        async for message in connection:
            for member in tuple(members):
                await member.send(message)
    finally:
        members.discard(connection)


async def route(connection: ServerConnection) -> None:
    assert connection.request is not None
    handler = room if connection.request.path == "/room" else echo
    await handler(connection)


@asynccontextmanager
async def listen(port: int) -> AsyncIterator[int]:
    listeners = await trio.open_tcp_listeners(port, host=HOST)
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await serve(route, listeners=listeners, compression=None, ping_interval=None)

        nursery.start_soon(run)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    main_in_trio(listen)
