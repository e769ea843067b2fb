"""The two ways to serve one connection at a time: a function, and a class.

    python docs/examples/views/server.py      with wireroom installed

Then, with any WebSocket client:

    ws://127.0.0.1:8302/echo                  what is sent comes back
    ws://127.0.0.1:8302/counter/10            {"add": 5} is answered with {"total": 15}
    ws://127.0.0.1:8302/request/2024-02-29    tells what the handshake said

`--host` and `--port` choose another address.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from typing import Any

from wireroom.core import App, WebSocket, WebSocketView
from wireroom.transports.asyncio import Server, serve

logger = logging.getLogger("views")
app = App()


@app.websocket("/echo")
async def echo(ws: WebSocket) -> None:
    """A function has the connection from its handshake to its end; returning closes it."""
    await ws.accept()
    async for message in ws:
        await ws.send(message)


@app.view("/counter/{start:int}")
class Counter(WebSocketView):
    """A class has a method for the begin, for each message and for the end."""

    encoding = "json"
    total = 0

    async def on_connect(self) -> None:
        await self.websocket.accept()
        self.total = self.websocket.path_params["start"]

    async def on_receive(self, data: Any) -> None:
        match data:
            case {"add": int(number)}:
                self.total += number
                await self.websocket.send_json({"total": self.total})
            case _:
                await self.websocket.close(4000, 'send {"add": number}')

    async def on_disconnect(self, close_code: int) -> None:
        logger.info("the counter ended at %d (%d)", self.total, close_code)
        await self.websocket.close(close_code)


@app.websocket("/request/{day:date}")
async def request(ws: WebSocket) -> None:
    """What a client says of itself before anything else, and a header in the answer."""
    await ws.accept(headers={"Set-Cookie": "seen=yes"})
    await ws.send_json(
        {
            "url": str(ws.url),
            "port": ws.url.port,
            "day": ws.path_params["day"],
            "tags": ws.query_params.get_all("tag"),
            "user_agent": ws.headers.get("User-Agent"),
            "client": ws.client.host,
            "seen_before": "seen" in ws.cookies,
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Functions and views, by Wireroom.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8302)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

    def ready(server: Server) -> None:
        host, port = server.addresses[0][:2]
        print(f"Wireroom serves on ws://{host}:{port}  (Ctrl+C ends it)", flush=True)

    asyncio.run(serve(app, arguments.host, arguments.port, on_ready=ready))


if __name__ == "__main__":
    main()
