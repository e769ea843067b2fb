"""ASGI servers of others, each in a thread of its own, and as the conformance suite runs them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import tempfile
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeVar

import anyio
import granian.constants
import granian.server.embed
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
Ready = Callable[[Address], None]

TIMEOUT_S = 60.0

_LEFT_TO_HOSTS: Final[Mapping[Feature, str]] = {
    Feature.HEADS: "the host reads the heads",
    Feature.EARLY_FRAMES: "the host loses or refuses them",
    Feature.FRAMES: "the host frames",
    Feature.PINGS: "the host pings",
    Feature.HALF_CLOSE: "the host ends with the peer's side",
    Feature.CLOSE_ORDER: "the host answers a Close as soon as it comes",
    Feature.CLOSING: "the host waits for the peer's Close, or does not",
    Feature.ABORTS: "the host ends connections, and cannot be told to abort one",
    Feature.TLS: "the host does the TLS",
    Feature.UNIX: "the host listens",
    Feature.ADOPTION: "the host accepts",
}


class Host(Protocol):
    """Serves an ASGI application."""

    @property
    def lacks(self) -> Mapping[Feature, str]:
        """What it decides itself, or cannot do."""

    def run(self, app: ASGI, ready: Ready) -> None:
        """Serve in this thread until `stop`; call `ready` as soon as it listens."""

    def stop(self) -> None:
        """From any thread, once it is ready."""


class _UvicornServer(uvicorn.Server):
    """uvicorn, which looks only ten times a second at whether it should end, at once."""

    async def main_loop(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.stopped = asyncio.Event()
        await self.on_tick(0)
        if not self.should_exit:
            await self.stopped.wait()

    def stop(self) -> None:
        """From any thread."""
        self.should_exit = True
        if hasattr(self, "stopped"):
            self.loop.call_soon_threadsafe(self.stopped.set)


class Uvicorn:
    """uvicorn, with one of its implementations of WebSockets."""

    lacks: Mapping[Feature, str] = _LEFT_TO_HOSTS

    def __init__(self, ws: Literal["websockets", "websockets-sansio", "wsproto"]) -> None:
        self._ws: Literal["websockets", "websockets-sansio", "wsproto"] = ws

    def run(self, app: ASGI, ready: Ready) -> None:
        config = uvicorn.Config(
            app,
            interface="asgi3",
            ws=self._ws,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=3,
        )
        self._server = _UvicornServer(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ready(listener.getsockname())
            asyncio.run(self._server.serve(sockets=[listener]))

    def stop(self) -> None:
        self._server.stop()


class Hypercorn:
    """hypercorn, in asyncio's loop or in trio's."""

    lacks: Mapping[Feature, str] = {
        **_LEFT_TO_HOSTS,
        Feature.CLOSE_CODES: "hypercorn says 1006, whatever the peer's code",
    }

    def __init__(self, backend: Literal["asyncio", "trio"]) -> None:
        self._backend = backend
        self._stop: Callable[[], object]

    def run(self, app: ASGI, ready: Ready) -> None:
        anyio.run(self._serve, app, ready, backend=self._backend)

    async def _serve(self, app: ASGI, ready: Ready) -> None:
        stopped = anyio.Event()
        if self._backend == "trio":
            post: Callable[..., object] = trio.lowlevel.current_trio_token().run_sync_soon
            serve: Any = hypercorn.trio.serve
        else:
            post = asyncio.get_running_loop().call_soon_threadsafe
            serve = hypercorn.asyncio.serve
        self._stop = partial(post, stopped.set)
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        config = hypercorn.config.Config()
        config.bind = [f"fd://{listener.detach()}"]
        config.errorlog = logging.getLogger("hypercorn.error")
        config.graceful_timeout = 0.5
        config.keep_alive_timeout = 1.0  # also for a head that does not come
        ready(address)
        # In asyncio hypercorn cancels its lifespan task after the shutdown, and awaits it.
        with contextlib.suppress(asyncio.CancelledError):
            await serve(app, config, shutdown_trigger=stopped.wait, mode="asgi")

    def stop(self) -> None:
        self._stop()


class Granian:
    """granian, embedded in asyncio's loop. It listens by itself, soon after it is ready, and on a
    Unix socket, since it does not tell which port it got."""

    lacks: Mapping[Feature, str] = {
        **_LEFT_TO_HOSTS,
        Feature.SHUTDOWN: "granian keeps our Close for as long as it is read from",
    }

    def run(self, app: ASGI, ready: Ready) -> None:
        with tempfile.TemporaryDirectory(prefix="wireroom-") as folder:
            asyncio.run(self._serve(app, ready, Path(folder) / "socket"))

    async def _serve(self, app: ASGI, ready: Ready, path: Path) -> None:
        loop = asyncio.get_running_loop()
        server = granian.server.embed.Server(
            app, uds=path, interface=granian.constants.Interfaces.ASGI, log_enabled=False
        )
        self._stop = partial(loop.call_soon_threadsafe, server.stop)
        server.on_startup(lambda: ready(str(path)))
        await server.serve()

    def stop(self) -> None:
        self._stop()


HOSTS: Final[Mapping[str, Callable[[], Host]]] = {
    "uvicorn-sansio": lambda: Uvicorn("websockets-sansio"),
    "uvicorn-wsproto": lambda: Uvicorn("wsproto"),
    "hypercorn-asyncio": lambda: Hypercorn("asyncio"),
    "hypercorn-trio": lambda: Hypercorn("trio"),
}


class HostThread:
    """A host that runs in a thread, as a context manager; on entering it listens."""

    def __init__(self, host: Host, app: ASGI) -> None:
        self.address: Address = ""
        self._host = host
        self._ready: Future[Address] = Future()
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(app,), daemon=True)

    def __enter__(self) -> HostThread:
        self._thread.start()
        self.address = self._ready.result(TIMEOUT_S)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the host and wait for its end; raises what it has raised."""
        if not self._ended.done():
            self._host.stop()
        self._ended.result(TIMEOUT_S)
        self._thread.join(TIMEOUT_S)

    def _run(self, app: ASGI) -> None:
        try:
            self._host.run(app, self._ready.set_result)
            self._ended.set_result(None)
        except BaseException as error:
            for future in (self._ready, self._ended):
                if not future.done():
                    future.set_exception(error)


class HostHarness:
    """An app in a host, with what the host leaves to us."""

    def __init__(self, host: Host) -> None:
        self.lacks = host.lacks
        self._host = host
        self._asked: Future[Callable[[], None]] = Future()  # gives what asks for the end
        self._report: Future[ShutdownReport] = Future()

    def start(self, app: App, options: Options) -> Address:
        self._asgi = ASGIApp(
            app,
            grace_s=options.grace_s,
            spread_s=options.spread_s,
            close_code=options.close_code,
        )
        self._thread = HostThread(self._host, self._with_close)
        self._thread.__enter__()
        self._ask = self._asked.result(TIMEOUT_S)
        return self._thread.address

    async def _with_close(self, scope: Any, receive: Any, send: Any) -> None:
        """Our ASGI application, which is closed before its host if somebody asks."""
        if scope["type"] != "lifespan":
            await self._asgi(scope, receive, send)
            return
        async with anyio.create_task_group() as group:
            group.start_soon(self._close_when_asked)
            await self._asgi(scope, receive, send)

    async def _close_when_asked(self) -> None:
        asked = anyio.Event()
        self._asked.set_result(asked.set)
        await asked.wait()
        self._report.set_result(await self._asgi.close())

    def call(self, function: Callable[[Hub], T]) -> T:
        return self._asgi.call_from_thread(function).result(TIMEOUT_S)

    def adopt(self, sock: socket.socket, received: bytes) -> None:
        raise NotImplementedError("hosts accept for themselves")

    def stop(self) -> ShutdownReport:
        self.call(lambda hub: self._ask())
        report = self._report.result(TIMEOUT_S)
        self._thread.stop()
        return report
