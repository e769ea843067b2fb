"""Lines from stdin, a terminal, a pipe or a file, for an asyncio program."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator

_READ_BYTES = 64 * 1024
_LINES_WAITING_MAX = 16


async def stdin_lines() -> AsyncIterator[bytes]:
    """Each line without its end, the last one also if it has none.

    A daemon thread reads, unbuffered: neither a loop nor the end of the program waits for a
    terminal on which nobody types.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(_LINES_WAITING_MAX)

    def give(line: bytes | None) -> None:
        asyncio.run_coroutine_threadsafe(queue.put(line), loop).result()

    def read() -> None:
        fd = sys.stdin.fileno()
        rest = b""
        try:
            while data := os.read(fd, _READ_BYTES):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    give(line.removesuffix(b"\r"))
            if rest:
                give(rest.removesuffix(b"\r"))
            give(None)
        except RuntimeError:  # the loop is closed: nobody reads any more
            return

    threading.Thread(target=read, name="wireroom-stdin", daemon=True).start()
    while (line := await queue.get()) is not None:
        yield line
