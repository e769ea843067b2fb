"""Our transports as the conformance suite runs them: each in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

import anyio
import uvloop

from loops import without_epoll
from wireroom.core import App, Hub
from wireroom.transports.anyio import Server as AnyioServer
from wireroom.transports.asyncio import Server as AsyncioServer
from wireroom.transports.blocking import Server as BlockingServer
from wireroom.transports.conformance import Address, Feature, Options
from wireroom.transports.conformance.behaviours import wait_until
from wireroom.transports.conformance.client import PATIENCE_S
from wireroom.transports.drain import ShutdownReport

T = TypeVar("T")

Main = Callable[[], Coroutine[Any, Any, None]]


def run_asyncio(main: Main) -> None:
    """In asyncio's own loop."""
    asyncio.run(main())


def run_uvloop(main: Main) -> None:
    """In uvloop's."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def run_without_epoll(main: Main) -> None:
    """In asyncio's own loop, as on a system without epoll(7)."""
    with without_epoll() as new_loop, asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


def run_anyio_asyncio(main: Main) -> None:
    """By anyio, in asyncio's loop."""
    anyio.run(main, backend="asyncio")


def run_anyio_trio(main: Main) -> None:
    """By anyio, in trio's."""
    anyio.run(main, backend="trio")


def _keywords(options: Options) -> Any:
    """What all our servers take."""
    listen: dict[str, Any] = {"port": 0} if options.unix is None else {"unix": options.unix}
    return listen | {
        "ssl": options.tls,
        "grace_s": options.grace_s,
        "spread_s": options.spread_s,
        "close_code": options.close_code,
    }


class LoopHarness:
    """A server that lives in a loop."""

    lacks: Mapping[Feature, str] = {}

    def __init__(
        self, server: type[AsyncioServer] | type[AnyioServer], run: Callable[[Main], None]
    ) -> None:
        self._new_server = server
        self._run = run
        self._ready: Future[AsyncioServer | AnyioServer] = Future()
        self._report: Future[ShutdownReport] = Future()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self, app: App, options: Options) -> Address:
        self._app = app
        self._options = options
        self._thread.start()
        address: Address = self._ready.result(PATIENCE_S).addresses[0]
        return address

    def call(self, function: Callable[[Hub], T]) -> T:
        return self._ready.result(0).call_from_thread(function).result(PATIENCE_S)

    def adopt(self, sock: socket.socket, received: bytes) -> None:
        server = self._ready.result(0)

        def begin(hub: Hub) -> None:
            if isinstance(server, AsyncioServer):
                self._adopting = server.loop.create_task(server.adopt(sock, received))
            else:
                server.spawn(server.adopt, sock, received)

        self.call(begin)

    def stop(self) -> ShutdownReport:
        server = self._ready.result(0)
        self.call(lambda hub: server.stop())
        report = self._report.result(PATIENCE_S)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the loop does not end"
        return report

    def _serve(self) -> None:
        try:
            self._run(self._main)
        except BaseException as error:
            for future in (self._ready, self._report):
                if not future.done():
                    future.set_exception(error)

    async def _main(self) -> None:
        server = self._new_server(self._app, **_keywords(self._options))
        async with server:
            self._ready.set_result(server)
            await server.serve_forever()
            self._report.set_result(await server.close())


class BlockingHarness:
    """A server in threads."""

    lacks: Mapping[Feature, str] = {}

    def start(self, app: App, options: Options) -> Address:
        self._server = BlockingServer(app, **_keywords(options))
        self._server.start()
        address: Address = self._server.addresses[0]
        return address

    def call(self, function: Callable[[Hub], T]) -> T:
        return self._server.call(function)

    def adopt(self, sock: socket.socket, received: bytes) -> None:
        self._server.adopt(sock, received)

    def stop(self) -> ShutdownReport:
        report = self._server.shutdown()
        wait_until("its threads end", lambda: not len(self._server.threads))
        return report
