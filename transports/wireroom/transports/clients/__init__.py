"""Clients: `connect("ws://…")` on asyncio, on anyio (so on trio too) and on blocking sockets.

    from wireroom.transports.clients.asyncio import connect     # or .anyio
    async with connect("wss://example.org/chat") as ws:
        await ws.send({"type": "say", "text": "hello"})
        print(await ws.receive())

    from wireroom.transports.clients.blocking import connect
    with connect("wss://example.org/chat") as ws:
        ws.send({"type": "say", "text": "hello"})
        print(ws.receive())

The three have the same names and options (`options.ConnectOptions`), and behave alike, for all that
is decided is decided by `wireroom.core.ClientSession`. No environment variables are read, those
for proxies neither.
"""

from __future__ import annotations

from .options import ConnectOptions
from .reconnect import Backoff, ReconnectPolicy

__all__ = ["Backoff", "ConnectOptions", "ReconnectPolicy"]
