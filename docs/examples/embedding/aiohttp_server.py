"""WebSockets of Wireroom in an aiohttp application, in the same loop.

python docs/examples/embedding/aiohttp_server.py
curl -d hello http://127.0.0.1:8304/say      # to every session of ws://127.0.0.1:8304/echo
"""

import argparse
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from wireroom.core import App, LocalProtocolError, Session, request_head
from wireroom.transports.asyncio import Server

app = App()


@app.module("/echo").on_message
def echo(session: Session, message: str | bytes) -> str | bytes:
    return message


ROOMS = web.AppKey("ROOMS", Server)


class ReadAhead:
    """What aiohttp has read behind the head; it takes this for a parser of frames."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """The connection is aiohttp's no more."""


async def hand_over(request: web.Request) -> web.StreamResponse:
    """Let Wireroom serve this request, and all that comes after it."""
    transport: Any = request.transport
    if transport.get_extra_info("ssl_object") is not None:
        raise web.HTTPNotImplemented(text="TLS ends in aiohttp\n")
    if transport.get_write_buffer_size() > 0:
        raise web.HTTPBadRequest(text="read the answer to your last request first\n")
    try:
        headers = [(name.decode(), value.decode("latin-1")) for name, value in request.raw_headers]
        head = request_head(request.method, request.raw_path, headers)
    except (LocalProtocolError, UnicodeDecodeError) as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from error
    read_ahead: Any = ReadAhead()
    request.protocol.set_parser(read_ahead)
    transport.pause_reading()
    sock = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    await request.app[ROOMS].adopt(sock, head + read_ahead.data)
    transport.abort()  # closes aiohttp's own descriptor, and does not shut down the connection
    return web.Response(status=101)  # for the access log; it reaches nobody


async def page(request: web.Request) -> web.StreamResponse:
    return web.Response(text="a page of aiohttp\n")


async def say(request: web.Request) -> web.StreamResponse:
    text = await request.text()
    count = await request.app[ROOMS].call(lambda hub: hub.broadcast(text))
    return web.Response(text=f"{count}\n")


async def run_rooms(application: web.Application) -> AsyncIterator[None]:
    async with Server(app, port=None) as application[ROOMS]:  # it listens nowhere
        yield  # on leaving, every session gets a Close


def make_application() -> web.Application:
    application = web.Application()
    application.cleanup_ctx.append(run_rooms)
    application.add_routes(
        [web.get("/", page), web.post("/say", say), web.get("/echo", hand_over)],
    )
    return application


def main() -> None:
    parser = argparse.ArgumentParser(description="aiohttp, with Wireroom's WebSockets.")
    parser.add_argument("--port", type=int, default=8304)
    arguments = parser.parse_args()
    with socket.create_server(("127.0.0.1", arguments.port)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        web.run_app(
            make_application(),
            sock=listener,
            print=lambda *_: print(f"serving on {url}", flush=True),
        )


if __name__ == "__main__":
    main()
