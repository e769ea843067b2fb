"""A server in a thread of its own, for tests that a browser's driver or a program keeps busy."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final

from wireroom.core import App, Hub
from wireroom.transports.asyncio import Server, serve

TIMEOUT_S: Final = 60.0


class ThreadedServer:
    """Serves an app on asyncio, on a free port if none is given."""

    def __init__(self, app: App, port: int = 0, *, close_code: int = 1012) -> None:
        self._listening = threading.Event()
        self._server: Server | None = None
        self._app = app
        self._close_code = close_code
        self.port = port
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        def ready(server: Server) -> None:
            self._server = server
            self.port = server.addresses[0][1]
            self._listening.set()

        asyncio.run(
            serve(
                self._app,
                "127.0.0.1",
                self.port,
                on_ready=ready,
                grace_s=1.0,
                close_code=self._close_code,
            )
        )

    def start(self) -> None:
        self._thread.start()
        assert self._listening.wait(TIMEOUT_S)

    def call(self, function: Callable[[Hub], Any]) -> Any:
        """What a function gives, called in the server's loop."""
        assert self._server is not None
        server = self._server

        async def run() -> Any:
            return function(server.hub)

        return asyncio.run_coroutine_threadsafe(run(), server.loop).result(TIMEOUT_S)

    def stop(self) -> None:
        assert self._server is not None
        self._server.loop.call_soon_threadsafe(self._server.stop)
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()
