"""Servers for clients to meet, in a loop and a thread of their own: `websockets`, ours, and sockets
whose far end a test plays byte by byte."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

from websockets.asyncio.server import ServerConnection, serve

from wireroom.core import App
from wireroom.transports.asyncio import Server

T = TypeVar("T")

TIMEOUT_S: Final = 60.0


class Peers:
    """Runs servers until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="peers")
        self._thread.start()

    def call(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the servers' loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(main, self._loop).result(TIMEOUT_S)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT_S)
        self._loop.close()

    @contextlib.contextmanager
    def websockets(self, handler: Any, **options: Any) -> Iterator[str]:
        """A server of the `websockets` library; gives its URL."""
        scheme = "wss" if options.get("ssl") else "ws"

        async def start() -> Any:
            return await serve(handler, "127.0.0.1", 0, **options)

        async def stop() -> None:
            server.close()
            await server.wait_closed()

        server = self.call(start())
        try:
            yield f"{scheme}://localhost:{server.sockets[0].getsockname()[1]}"
        finally:
            self.call(stop())

    @contextlib.contextmanager
    def wireroom(self, app: App, **options: Any) -> Iterator[str]:
        """A server of ours; gives its URL."""

        async def make() -> Server:
            server = Server(app, "127.0.0.1", 0, **options)
            await server.start()
            return server

        server = self.call(make())
        try:
            yield f"ws://127.0.0.1:{server.addresses[0][1]}"
        finally:
            self.call(server.close())


async def echo(ws: ServerConnection) -> None:
    """Send back what comes."""
    async for message in ws:
        await ws.send(message)


@contextlib.contextmanager
def scripted(script: Callable[[socket.socket], None], *, times: int = 1) -> Iterator[str]:
    """A server that runs `script` on each of so many connections, in a thread; gives its URL.

    What the script raises is raised here in the end.
    """
    failures: list[BaseException] = []

    def serve_all() -> None:
        try:
            for _ in range(times):
                sock, _address = listener.accept()
                sock.settimeout(TIMEOUT_S)
                with sock:
                    script(sock)
        except BaseException as error:
            failures.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(TIMEOUT_S)
        thread = threading.Thread(target=serve_all)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            thread.join(TIMEOUT_S)
        assert not thread.is_alive()
        if failures:
            raise failures[0]


def read_head(sock: socket.socket) -> bytes:
    """A request's head."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = sock.recv(4096)
        assert chunk
        data += chunk
    return data


def accept(sock: socket.socket) -> None:
    """Read a handshake and accept it."""
    head = read_head(sock).decode()
    key = next(
        line.split(": ")[1]
        for line in head.split("\r\n")
        if line.lower().startswith("sec-websocket-key: ")
    )
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


def finish(sock: socket.socket) -> bytes:
    """End the stream, as the server does after both Closes; what still comes."""
    sock.shutdown(socket.SHUT_WR)
    return drain(sock)


def drain(sock: socket.socket) -> bytes:
    """All that comes until the end, however that comes."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := sock.recv(65536):
            data += chunk
    return data
