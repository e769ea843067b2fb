"""Servers that a Redis joins, on any transport, and clients of them that know where they stand."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, TypeVar

import anyio
import msgspec
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from asgi_hosts import Host, HostThread, Hypercorn, Uvicorn
from redis_app import make_app
from redis_server import PrivateRedis
from wireroom.backplanes.redis import RedisBackplane
from wireroom.core import App, BackplaneSettings, Hub, LocalProtocolError
from wireroom.transports.anyio import Server as AnyioServer
from wireroom.transports.asgi import ASGIApp
from wireroom.transports.asyncio import Server as AsyncioServer
from wireroom.transports.blocking import Server as BlockingServer

T = TypeVar("T")

TIMEOUT_S: Final = 60.0
TRANSPORTS: Final = ("asyncio", "trio", "blocking")
HOSTS: Final[Mapping[str, Callable[[], Host]]] = {
    "uvicorn": lambda: Uvicorn("websockets-sansio"),
    "hypercorn on trio": lambda: Hypercorn("trio"),
}


class Node:
    """One server, of `TRANSPORTS` or `HOSTS`."""

    def __init__(
        self,
        redis: PrivateRedis | str,
        transport: str = "asyncio",
        *,
        app: App | None = None,
        settings: BackplaneSettings | None = None,
        **options: Any,
    ) -> None:
        url = redis if isinstance(redis, str) else redis.url
        self.backplane = RedisBackplane(
            url, settings=settings, retry_s=0.02, retry_max_s=0.2, **options
        )
        self._app = app or make_app()
        self._ready: Future[Any] = Future()
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._host: HostThread | None = None
        if transport in HOSTS:
            self._server = ASGIApp(self._app, backplane=self.backplane, grace_s=1.0)
            self._host = HostThread(HOSTS[transport](), self._server)
            self._host.__enter__()
            self.port = self._host.address[1]
            self._wait_begun()
            return
        if transport == "blocking":
            self._server = BlockingServer(self._app, port=0, backplane=self.backplane, grace_s=1.0)
            self._server.start()
        else:
            run = partial(anyio.run, self._serve, transport, backend=transport)
            self._thread = threading.Thread(target=run, daemon=True)
            self._thread.start()
            self._server = self._ready.result(TIMEOUT_S)
        self.port = self._server.addresses[0][1]

    async def _serve(self, transport: str) -> None:
        new_server: Any = AsyncioServer if transport == "asyncio" else AnyioServer
        try:
            async with new_server(
                self._app, port=0, backplane=self.backplane, grace_s=1.0
            ) as server:
                self._ready.set_result(server)
                await server.serve_forever()
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            raise

    def _wait_begun(self) -> None:
        """Hosts listen before their lifespans begin."""
        until = time.monotonic() + TIMEOUT_S
        while True:
            try:
                self._server.hub  # noqa: B018 - it raises until then
            except LocalProtocolError:
                assert time.monotonic() < until, "the host does not begin"
                time.sleep(0.005)
            else:
                return

    def call(self, function: Callable[[Hub], T]) -> T:
        """Call something with the hub, as an input of it."""
        if self._thread is None and self._host is None:
            result: T = self._server.call(function)
            return result
        answer: T = self._server.call_from_thread(function).result(TIMEOUT_S)
        return answer

    def wait(self, is_so: Callable[[Hub], bool]) -> None:
        """Until something is so."""
        until = time.monotonic() + TIMEOUT_S
        while not self.call(is_so):
            assert time.monotonic() < until, "it never is"
            time.sleep(0.005)

    def wait_connected(self, connected: bool = True) -> None:
        """Until Redis is there, or is known to be away."""
        self.wait(lambda hub: hub.is_backplane_connected is connected)

    def stop(self) -> None:
        """In order."""
        if self._host is not None:
            self._host.stop()
        elif self._thread is None:
            self._server.shutdown()
        else:
            self.call(lambda hub: self._server.stop())
            self._thread.join(TIMEOUT_S)
            assert not self._thread.is_alive()


class Client:
    """A member of a room, who notes what it hears, and where it stands."""

    def __init__(
        self, node: Node | int, user: str = "ann", position: Any = None, *, room: str = "a"
    ) -> None:
        self.user = user
        self.room = room
        self.position = position
        self.heard: list[str] = []
        self.recovered: list[bool] = []
        self.missed = 0  # times that it was told of missed messages
        self.presence: list[tuple[list[str], list[str]]] = []
        self._connection: ClientConnection
        self.connect(node)

    def connect(self, node: Node | int) -> None:
        """Enter the room, from where it stands; a number is a port."""
        port = node if isinstance(node, int) else node.port
        self._open = ExitStack()
        self._connection = self._open.enter_context(
            connect(
                f"ws://127.0.0.1:{port}/{self.user}",
                compression=None,
                ping_interval=None,  # some are left to themselves
                open_timeout=TIMEOUT_S,
                close_timeout=TIMEOUT_S,
            )
        )
        count = len(self.recovered) + 1
        self._send(type="enter", room=self.room, position=self.position, request_id=1)
        self._read(lambda: len(self.recovered) == count)

    def _send(self, **fields: object) -> None:
        self._connection.send(msgspec.json.encode(fields).decode())

    def say(self, text: str) -> None:
        """In the room."""
        self._send(type="say", room=self.room, text=text)

    def hear(self, count: int) -> list[str]:
        """All that it has heard, once it is so many texts."""
        self._read(lambda: len(self.heard) >= count)
        return self.heard

    def wait_missed(self) -> None:
        """Until it is told that messages are missed."""
        before = self.missed
        self._read(lambda: self.missed > before)

    def wait_presence(self, count: int) -> None:
        """Until it was told so often who is there."""
        self._read(lambda: len(self.presence) >= count)

    def _read(self, until: Callable[[], bool]) -> None:
        while not until():
            self._take(msgspec.json.decode(self._connection.recv(TIMEOUT_S)))

    def _take(self, message: Any) -> None:
        kind = message["type"]
        position = message.get("position")
        if kind == "reply":
            data = message["data"]
            self.recovered.append(data["recovered"])
            position = data["position"]
        elif kind == "said":
            self.heard.append(message["text"])
        elif kind == "messages_missed":
            self.missed += 1
        elif kind == "presence":
            users = [[each["user"] for each in message[what]] for what in ("joined", "left")]
            self.presence.append((users[0], users[1]))
        if position is not None:
            before = self.position
            if kind == "said" and before is not None and before["epoch"] == position["epoch"]:
                assert position["offset"] == before["offset"] + 1, "doubled, or left out"
            self.position = {"offset": position["offset"], "epoch": position["epoch"]}

    def lose(self) -> None:
        """The connection is gone, and nothing is said."""
        self._connection.socket.shutdown(socket.SHUT_RDWR)
        self._open.close()

    def close(self) -> None:
        """In order."""
        self._open.close()

    def wait_closed(self) -> int | None:
        """The code that the server closes it with."""
        try:
            while True:
                self._connection.recv(TIMEOUT_S)
        except ConnectionClosed as closed:
            return None if closed.rcvd is None else closed.rcvd.code
