"""websockets: its asyncio server, with `broadcast()` for the room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.server import (  # type: ignore[import-not-found, unused-ignore]
    ServerConnection,
    broadcast,
    serve,
)
from websockets.extensions.permessage_deflate import (  # type: ignore[import-not-found, unused-ignore]
    ServerPerMessageDeflateFactory,
)

from _serve import HOST, main, parse_arguments

members: set[ServerConnection] = set()


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def room(connection: ServerConnection) -> None:
    members.add(connection)
    try:
        async for message in connection:
            broadcast(members, message)
    finally:
        members.discard(connection)


async def route(connection: ServerConnection) -> None:
    assert connection.request is not None
    handler = room if connection.request.path == "/room" else echo
    await handler(connection)


@asynccontextmanager
async def listen(port: int) -> AsyncIterator[int]:
    # As the load generator asks for it; it does not keep what was compressed before.
    extensions = [ServerPerMessageDeflateFactory()] if parse_arguments().deflate else None
    async with serve(
        route, HOST, port, compression=None, extensions=extensions, ping_interval=None
    ) as server:
        yield next(iter(server.sockets)).getsockname()[1]


if __name__ == "__main__":
    main(listen)
