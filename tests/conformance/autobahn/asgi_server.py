"""An echo server in an ASGI server of others, which frames: `asgi_server.py --host uvicorn`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio
import hypercorn.asyncio
import hypercorn.config
import hypercorn.trio
import uvicorn

from wireroom.core import App, Limits, Session
from wireroom.transports.asgi import ASGIApp

_MESSAGE_BYTES_MAX: Final = 32 * 2**20


def make_app() -> App:
    """Echo, with room for the suite's largest messages (16 MiB)."""
    app = App(limits=Limits(message_bytes_max=_MESSAGE_BYTES_MAX))
    echo = app.module("/")

    @echo.on_message
    def on_message(session: Session, message: str | bytes) -> None:
        session.send(message)

    return app


def run_uvicorn(asgi: ASGIApp, listener: socket.socket, ws: Any) -> None:
    """uvicorn, with one of its implementations of WebSockets."""
    config = uvicorn.Config(
        asgi,
        ws=ws,
        ws_max_size=_MESSAGE_BYTES_MAX,
        ws_ping_interval=None,
        log_level="error",
        timeout_graceful_shutdown=1,
    )
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


def run_hypercorn(asgi: ASGIApp, listener: socket.socket, backend: str) -> None:
    """hypercorn, in asyncio's loop or in trio's."""
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.websocket_max_message_size = _MESSAGE_BYTES_MAX
    config.graceful_timeout = 1.0
    serve: Any = hypercorn.trio.serve if backend == "trio" else hypercorn.asyncio.serve

    async def wait_for_signal() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                return

    async def main() -> None:
        await serve(asgi, config, shutdown_trigger=wait_for_signal, mode="asgi")

    anyio.run(main, backend=backend)


HOSTS: Final[Mapping[str, Callable[[ASGIApp, socket.socket], None]]] = {
    "uvicorn": lambda asgi, listener: run_uvicorn(asgi, listener, "websockets-sansio"),
    "uvicorn-wsproto": lambda asgi, listener: run_uvicorn(asgi, listener, "wsproto"),
    "hypercorn": lambda asgi, listener: run_hypercorn(asgi, listener, "asyncio"),
    "hypercorn-trio": lambda asgi, listener: run_hypercorn(asgi, listener, "trio"),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", choices=HOSTS, default="uvicorn")
    arguments = parser.parse_args()
    asgi = ASGIApp(make_app())
    with socket.create_server(("127.0.0.1", arguments.port)) as listener:
        print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
        HOSTS[arguments.host](asgi, listener)


if __name__ == "__main__":
    main()
