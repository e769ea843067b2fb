"""trio-websocket, on trio and wsproto."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from trio_websocket import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    serve_websocket,
)

from _serve import HOST, main_in_trio

members: set[WebSocketConnection] = set()


async def serve(request: WebSocketRequest) -> None:
    connection = await request.accept()
    in_room = request.path == "/room"
    if in_room:
        members.add(connection)
    try:
        while True:
            message = await connection.get_message()
            for receiver in tuple(members) if in_room else (connection,):
                await receiver.send_message(message)
    except ConnectionClosed:
        members.discard(connection)


@asynccontextmanager
async def listen(port: int) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        start = partial(serve_websocket, serve, HOST, port, ssl_context=None)
        server = await nursery.start(start)
        yield server.port
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    main_in_trio(listen)
