"""The ASGI transport inside uvicorn, by itself and mounted in a Starlette application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from wireroom.core import App, Limits, Reject, Request, Session, WebSocket
from wireroom.transports.asgi import ASGIApp


def make_app() -> App:
    app = App(limits=Limits(message_bytes_max=1000))

    @app.websocket("/function/{name}", subprotocols=["v1"])
    async def function(ws: WebSocket) -> None:
        await ws.accept("v1" if "v1" in ws.headers.get("sec-websocket-protocol", "") else None)
        async for message in ws:
            await ws.sleep(0)
            await ws.send(f"{ws.path_params['name']}: {message!r}")

    echo = app.module("/echo")

    @echo.on_handshake
    def check(request: Request) -> Reject | None:
        return Reject(451, "not here\n") if "no" in request.query_params else None

    @echo.on_open
    def joined(session: Session) -> None:
        session.join("all")

    @echo.on_message
    def said(session: Session, message: str | bytes) -> None:
        session.room("all").broadcast(message)

    @app.http("/healthz")
    def health(request: Request) -> dict[str, str]:
        return {"status": "ok"}

    return app


@asynccontextmanager
async def served(app: Any, ws: str) -> AsyncIterator[str]:
    config = uvicorn.Config(
        app, port=0, ws=ws, lifespan="on", log_level="error", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    try:
        yield f"ws://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


@pytest.mark.parametrize("ws", ["websockets-sansio", "wsproto"])
def test_messages_rejections_and_rooms_by_itself(ws: str) -> None:
    async def main() -> None:
        asgi = ASGIApp(make_app())
        async with served(asgi, ws) as url:
            async with connect(f"{url}/function/ann", subprotocols=["v1"], proxy=None) as client:  # type: ignore[list-item]
                assert client.subprotocol == "v1"
                await client.send("hello")
                assert await client.recv() == "ann: 'hello'"
                await client.send(b"\x00")
                assert await client.recv() == "ann: b'\\x00'"
            async with (
                connect(f"{url}/echo", proxy=None) as one,
                connect(f"{url}/echo", proxy=None) as two,
            ):
                await one.send("to all")
                assert [await one.recv(), await two.recv()] == ["to all"] * 2
                sent = await asgi.call(lambda hub: hub.broadcast("from outside"))
                assert sent == 2
                assert await two.recv() == "from outside"
                await one.send("x" * 1001)
                await one.wait_closed()
                assert one.close_code == 1009
                await two.send("still served")
                assert await two.recv() == "still served"
            for path, status in (("/echo?no", 451), ("/nowhere", 404)):
                with pytest.raises(InvalidStatus) as refusal:
                    await connect(url + path, proxy=None)
                assert refusal.value.response.status_code == status

    asyncio.run(asyncio.wait_for(main(), 30))


def test_mounted_in_an_application_with_its_lifespan() -> None:
    async def main() -> None:
        asgi = ASGIApp(make_app())
        api = Starlette(routes=[Mount("/live", asgi)], lifespan=asgi.lifespan)
        async with (
            served(api, "websockets-sansio") as url,
            connect(f"{url}/live/echo", proxy=None) as client,
        ):
            await client.send("mounted")
            assert await client.recv() == "mounted"
            assert (await asgi.call(lambda hub: hub.stats())).sessions == 1

    asyncio.run(asyncio.wait_for(main(), 30))
