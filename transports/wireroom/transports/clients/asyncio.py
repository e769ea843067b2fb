"""The client on asyncio.

    async with connect("ws://127.0.0.1:8301/chat/lobby") as ws:
        await ws.send({"type": "say", "text": "hello"})
        async for message in ws:
            print(message)

The loop reads the socket by itself: Pings are answered whatever the application does. There are
no tasks of ours; when the `async with` block has been left, there is no socket either.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from math import inf
from typing import Any, Final, Self, Unpack, cast, final

from wireroom.core.clients.pending import Pending

from ..sockets import set_no_delay
from .client import AsyncClient, closing, connect_again
from .options import ConnectOptions, Dial, Options
from .reconnect import Backoff, ReconnectPolicy, check_repeatable

__all__ = ["Client", "Reconnecting", "connect", "reconnecting"]

_HAPPY_EYEBALLS_S: Final = 0.25  # RFC 8305: before the next address is tried too


@contextlib.asynccontextmanager
async def connect(url: str, **options: Unpack[ConnectOptions]) -> AsyncIterator[Client]:
    """A connection to `url`, open in the block and closed after it.

    It is closed with 1000, with 1011 if the block raises, and without waiting if the block is
    cancelled. For the options see `options.Options`. Raises `RefusedError` if the server answers
    with another status than 101, `RemoteProtocolError` if with something else, `TimeoutError`,
    `OSError` (of which `ssl.SSLError` is a kind), and `ConfigurationError`.
    """
    async with closing(await _open(url, Options(**options))) as client:
        yield client


@final
class Client(AsyncClient, asyncio.Protocol):
    """A connection; `connect` makes it."""

    def __init__(self, dial: Dial, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._link = dial.link
        self._transport: asyncio.Transport | None = None  # between made and lost
        self._accepts = True  # whether the socket takes bytes
        self._reads = True  # whether the transport reads
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # -- asyncio's callbacks ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._transport = transport
        transport.set_write_buffer_limits(high=0)
        if (sock := transport.get_extra_info("socket")) is not None:
            set_no_delay(sock)
        self._drain()

    def data_received(self, data: bytes) -> None:
        self._link.receive_data(data, now=self._now())
        self._drain()

    def eof_received(self) -> bool:
        self._session.receive_eof(now=self._now())
        self._drain()
        return True  # the session says when to close

    def pause_writing(self) -> None:
        self._accepts = False
        self._report_unsent()

    def resume_writing(self) -> None:
        self._accepts = True
        self._report_unsent()
        self._drain()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._link.connection_lost(exc, now=self._now())
        self._drain()

    # -- for AsyncClient ----------------------------------------------------------------------

    def _now(self) -> float:
        return time.monotonic()  # uvloop's own clock knows whole milliseconds only

    def _drain(self) -> None:
        transport = self._transport
        if transport is not None:
            if self._accepts and (data := self._link.data_to_send()):
                transport.write(data)
            if self._session.reading != self._reads:
                self._reads = self._session.reading
                if self._reads:
                    transport.resume_reading()
                else:
                    transport.pause_reading()
            if (disconnect := self._link.disconnect) is not None and not transport.is_closing():
                if disconnect == "close" and self._accepts:
                    transport.close()
                else:
                    transport.abort()
        self._arm()

    def _arm(self) -> None:
        """One timer; one that is early costs a look, so it is moved only to be earlier."""
        when = self._session.next_timeout()
        if self._timer is not None:
            if when is not None and self._timer_at <= when:
                return
            self._timer.cancel()
            self._timer = None
        if when is not None:
            self._timer_at = when
            self._timer = self._loop.call_later(max(0.0, when - self._now()), self._timed_out)

    def _timed_out(self) -> None:
        self._timer = None
        if not self._accepts:
            self._report_unsent()
        self._session.handle_timeout(now=self._now())
        self._drain()

    def _report_unsent(self) -> None:
        if self._transport is not None:
            size = self._transport.get_write_buffer_size()
            self._session.bytes_unsent(size, now=self._now())

    async def _wait_for(self, pending: Pending) -> None:
        future: asyncio.Future[None] = self._loop.create_future()

        def happened() -> None:
            if not future.done():
                future.set_result(None)

        pending.add_hook(happened)
        await future

    # -- for `connect` ------------------------------------------------------------------------

    async def _opened(self) -> Self:
        try:
            await self._run(self._session.opened())
        except BaseException:
            await self._end()
            raise
        return self

    async def _end(self) -> None:
        """Leave no socket, whatever has happened."""
        if self._transport is None:
            return
        self._leave()
        try:
            await self.close()  # soon, for there is nothing to wait for
        finally:
            if self._transport is not None:  # a second cancellation
                self._transport.abort()


async def _open(url: str, options: Options) -> Client:
    loop = asyncio.get_running_loop()
    dial = Dial(url, options, now=time.monotonic())

    def make() -> Client:
        return Client(dial, loop)

    left_s = dial.remaining_s(time.monotonic())
    async with asyncio.timeout(None if left_s == inf else left_s):
        if options.unix_path is not None:
            path = os.fspath(options.unix_path)
            _, client = await loop.create_unix_connection(make, path)
        elif options.sock is not None:
            options.sock.setblocking(False)
            _, client = await loop.create_connection(make, sock=options.sock)
        else:
            more: dict[str, Any] = {}
            if isinstance(loop, asyncio.BaseEventLoop):  # uvloop's has no such setting
                more["happy_eyeballs_delay"] = _HAPPY_EYEBALLS_S
            _, client = await loop.create_connection(make, dial.host, dial.port, **more)
    return await client._opened()


# -- reconnecting --------------------------------------------------------------------------------


def reconnecting(
    url: str,
    *,
    policy: ReconnectPolicy | None = None,
    random: Callable[[], float] = random.random,
    **options: Unpack[ConnectOptions],
) -> Reconnecting:
    """Connections to `url`, one after the other, each closed when the next is asked for.

        async with reconnecting("ws://127.0.0.1:8301/") as connections:
            async for ws in connections:
                async for message in ws: ...

    On asyncio `async for ws in reconnecting(url)` does too. The loop ends after a Close with 1000;
    what else ends it is raised, see `reconnect.ReconnectPolicy`. `random` gives numbers from 0 to
    1 for the jitter. For the options see `options.Options`; `sock` is not one of them here.
    """
    return Reconnecting(url, Backoff(policy, random), Options(**options))


@final
class Reconnecting:
    """An async iterable of connections; as an async context manager, one that is closed."""

    def __init__(self, url: str, backoff: Backoff, options: Options) -> None:
        check_repeatable(options)
        self._url = url
        self._backoff = backoff
        self._options = options
        self._connections: AsyncGenerator[Client, None] | None = None

    def __aiter__(self) -> AsyncGenerator[Client, None]:
        return self._connect()

    async def __aenter__(self) -> AsyncGenerator[Client, None]:
        self._connections = self._connect()
        return self._connections

    async def __aexit__(self, *exc_info: object) -> None:
        if self._connections is not None:
            await self._connections.aclose()

    def _connect(self) -> AsyncGenerator[Client, None]:
        connect = partial(_open, self._url, self._options)
        return connect_again(connect, self._backoff, asyncio.sleep, time.monotonic)
