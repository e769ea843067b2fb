"""ASGI servers of others, each in a thread of its own, and as the conformance suite runs them."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

import anyio
import hypercorn.asyncio
import hypercorn.config
import hypercorn.trio
import trio
import uvicorn

from wireroom.core import App, Hub
from wireroom.transports.asgi import ASGIApp
from wireroom.transports.conformance import Address, Feature, Options
from wireroom.transports.drain import ShutdownReport

T = TypeVar("T")
ASGI = Callable[[Any, Any, Any], Awaitable[None]]

TIMEOUT_S = 15.0


class Host(Protocol):
    """Serves an ASGI application on a socket that listens already."""

    def run(self, app: ASGI, listener: socket.socket) -> None:
        """Serve until `stop`, in this thread."""

    def stop(self) -> None:
        """From any thread."""


class Uvicorn:
    """uvicorn, with one of its implementations of WebSockets."""

    def __init__(self, ws: Literal["websockets", "websockets-sansio", "wsproto"]) -> None:
        self._ws: Literal["websockets", "websockets-sansio", "wsproto"] = ws
        self._server: uvicorn.Server | None = None

    def run(self, app: ASGI, listener: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            ws=self._ws,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=3,
        )
        self._server = uvicorn.Server(config)
        asyncio.run(self._server.serve(sockets=[listener]))

    def stop(self) -> None:
        assert self._server is not None
        self._server.should_exit = True


class Hypercorn:
    """hypercorn, in asyncio's loop or in trio's."""

    def __init__(self, backend: Literal["asyncio", "trio"]) -> None:
        self._backend = backend
        self._stop: Callable[[], object] | None = None

    def run(self, app: ASGI, listener: socket.socket) -> None:
        config = hypercorn.config.Config()
        config.bind = [f"fd://{listener.detach()}"]
        config.errorlog = logging.getLogger("hypercorn.error")
        config.graceful_timeout = 0.5
        anyio.run(self._serve, app, config, backend=self._backend)

    async def _serve(self, app: ASGI, config: hypercorn.config.Config) -> None:
        stopped = anyio.Event()
        if self._backend == "trio":
            post = trio.lowlevel.current_trio_token().run_sync_soon
            self._stop = partial(post, stopped.set)
            await hypercorn.trio.serve(
                app,
                config,
                shutdown_trigger=stopped.wait,
                mode="asgi",
            )
        else:
            self._stop = partial(asyncio.get_running_loop().call_soon_threadsafe, stopped.set)
            await hypercorn.asyncio.serve(
                app,
                config,
                shutdown_trigger=stopped.wait,
                mode="asgi",
            )

    def stop(self) -> None:
        assert self._stop is not None
        self._stop()


HOSTS: dict[str, Callable[[], Host]] = {
    "uvicorn-sansio": lambda: Uvicorn("websockets-sansio"),
    "uvicorn-wsproto": lambda: Uvicorn("wsproto"),
    "hypercorn-asyncio": lambda: Hypercorn("asyncio"),
    "hypercorn-trio": lambda: Hypercorn("trio"),
}


class HostThread:
    """A host that runs in a thread, a context manager: on entering it has a port, and listens."""

    def __init__(self, host: Host, app: ASGI) -> None:
        self.host = host
        self.error: BaseException | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, args=(app,), daemon=True)

    def __enter__(self) -> HostThread:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the host and wait for its end; raises what it has raised."""
        if self._thread.is_alive():
            self.host.stop()
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive(), "the host does not end"
        self._listener.close()
        if self.error is not None:
            raise self.error

    def _run(self, app: ASGI) -> None:
        try:
            self.host.run(app, self._listener)
        except BaseException as error:
            self.error = error


class HostHarness:
    """An app in a host, with what the host leaves to us."""

    def __init__(self, host: Host, lacks: Mapping[Feature, str]) -> None:
        self.lacks = lacks
        self._host = host
        self._thread: HostThread | None = None
        self._asgi: ASGIApp | None = None
        self._asked: Future[Callable[[], None]] = Future()  # gives what asks for the end
        self._report: Future[ShutdownReport] = Future()

    def start(self, app: App, options: Options) -> Address:
        asgi = self._asgi = ASGIApp(
            app,
            grace_s=options.grace_s,
            spread_s=options.spread_s,
            close_code=options.close_code,
        )

        async def with_close(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "lifespan":
                await asgi(scope, receive, send)
                return
            async with anyio.create_task_group() as group:
                group.start_soon(self._close_when_asked, asgi)
                await asgi(scope, receive, send)

        self._thread = HostThread(self._host, with_close)
        self._thread.__enter__()
        self._ask = self._asked.result(TIMEOUT_S)
        return ("127.0.0.1", self._thread.port)

    async def _close_when_asked(self, asgi: ASGIApp) -> None:
        asked = anyio.Event()
        self._asked.set_result(asked.set)
        await asked.wait()
        self._report.set_result(await asgi.close())

    def call(self, function: Callable[[Hub], T]) -> T:
        assert self._asgi is not None
        return self._asgi.call_from_thread(function).result(TIMEOUT_S)

    def adopt(self, sock: socket.socket, received: bytes) -> None:
        raise NotImplementedError

    def stop(self) -> ShutdownReport:
        assert self._asgi is not None
        assert self._thread is not None
        self._asgi.call_from_thread(lambda hub: self._ask())
        report = self._report.result(TIMEOUT_S)
        self._thread.stop()
        return report
