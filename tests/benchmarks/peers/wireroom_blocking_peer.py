"""Wireroom on blocking sockets and threads."""

from __future__ import annotations

from collections.abc import Callable

from _serve import HOST, main_in_threads
from wireroom.transports.blocking import Server
from wireroom_peer import app


def serve(port: int) -> tuple[int, Callable[[], object]]:
    server = Server(app, HOST, port, grace_s=0.5)
    server.start()
    return server.addresses[0][1], server.shutdown


if __name__ == "__main__":
    main_in_threads(serve)
