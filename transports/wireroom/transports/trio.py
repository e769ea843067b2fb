"""The trio transport: the anyio one, for people who use trio and nothing else.

    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(serve, app, "127.0.0.1", 0)
        nursery.start_soon(something_else)

Cancelling the nursery's scope tells the sessions and ends them at once; `Server.close`, or
`Server.stop` from another task, waits for them. `run(app)` serves until SIGINT or SIGTERM.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

from wireroom.core import App

from . import anyio
from .anyio import Server, serve
from .drain import ShutdownReport
from .servers import ServerOptions

__all__ = ["Server", "run", "serve"]


def run(
    app: App,
    host: str | None = "127.0.0.1",
    port: int = 8301,
    *,
    on_ready: Callable[[Server], object] | None = None,
    **options: Unpack[ServerOptions],
) -> ShutdownReport:
    """`serve` in `trio.run`, until SIGINT or SIGTERM; the options are those of `serve`."""
    return anyio.run(app, host, port, backend="trio", on_ready=on_ready, **options)
