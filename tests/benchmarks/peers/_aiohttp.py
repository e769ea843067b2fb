"""aiohttp's web server, for the peers that run in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web  # type: ignore[import-not-found, unused-ignore]

from _serve import HOST


@asynccontextmanager
async def listen_with(app: web.Application, port: int) -> AsyncIterator[int]:
    """Serve an application; gives the port."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
