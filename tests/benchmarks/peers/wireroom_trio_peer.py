"""Wireroom on trio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from _serve import HOST, main_in_trio
from wireroom.transports.trio import Server
from wireroom_peer import app


@asynccontextmanager
async def listen(port: int) -> AsyncIterator[int]:
    async with Server(app, HOST, port, grace_s=0.5) as server:
        yield server.addresses[0][1]


if __name__ == "__main__":
    main_in_trio(listen)
