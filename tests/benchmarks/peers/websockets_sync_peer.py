"""websockets: its threading server, which has no `broadcast()` of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from websockets.sync.server import (  # type: ignore[import-not-found, unused-ignore]
    ServerConnection,
    serve,
)

from _serve import HOST, main_in_threads

members: set[ServerConnection] = set()


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


def room(connection: ServerConnection) -> None:
    members.add(connection)
    try:
        for message in connection:
            for member in tuple(members):
                member.send(message)
    finally:
        members.discard(connection)


def route(connection: ServerConnection) -> None:
    assert connection.request is not None
    handler = room if connection.request.path == "/room" else echo
    handler(connection)


def begin(port: int) -> tuple[int, Callable[[], object]]:
    server = serve(route, HOST, port, compression=None, ping_interval=None)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.socket.getsockname()[1], server.shutdown


if __name__ == "__main__":
    main_in_threads(begin)
