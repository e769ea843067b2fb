"""The client on anyio, and so on trio and on asyncio.

    async with connect("ws://127.0.0.1:8301/chat/lobby") as ws:
        await ws.send({"type": "say", "text": "hello"})
        async for message in ws:
            print(message)

Three tasks in a task group of `connect`'s read, write and watch the clock: Pings are answered
whatever the application does, and a cancelled `send` leaves no half of a message behind. They end
with the `async with` block, and so does the socket. Exceptions of the block come out of it as they
are, not in an `ExceptionGroup`.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from math import inf
from typing import Final, Unpack, final

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream, TaskGroup
from anyio.abc import UNIXSocketStream as UnixSocketStream
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled

from wireroom.core.clients.pending import Pending
from wireroom.core.clients.session import Operation

from ..sockets import set_no_delay
from .client import AsyncClient, closing, connect_again
from .options import ConnectOptions, Dial, Options
from .reconnect import Backoff, ReconnectPolicy, check_repeatable

__all__ = ["Client", "connect", "reconnecting"]

_READ_BYTES: Final = 2**16
_WRITE_BYTES: Final = 2**16  # at once, so that progress is seen
_BROKEN: Final = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError)


@contextlib.asynccontextmanager
async def connect(url: str, **options: Unpack[ConnectOptions]) -> AsyncIterator[Client]:
    """A connection to `url`, open in the block and closed after it.

    It is closed with 1000, with 1011 if the block raises, and without waiting if the block is
    cancelled. For the options see `options.Options`. Raises `RefusedError` if the server answers
    with another status than 101, `RemoteProtocolError` if with something else, `TimeoutError`,
    `OSError` (of which `ssl.SSLError` is a kind), and `ConfigurationError`.
    """
    async with (
        _task_group() as group,
        closing(await _open(group, url, Options(**options))) as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def _task_group() -> AsyncIterator[TaskGroup]:
    """A task group whose own exceptions are none, so that the block's need no group."""
    error: BaseException | None = None
    async with anyio.create_task_group() as group:
        try:
            yield group
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as raised:
            error = raised
    if error is not None:
        raise error


@final
class Client(AsyncClient):
    """A connection; `connect` makes it."""

    def __init__(self, dial: Dial, stream: ByteStream) -> None:
        self._link = dial.link
        self._stream = stream
        self._scope = anyio.CancelScope(shield=True)  # the session decides when this ends
        self._error: Exception | None = None  # what ended the socket
        self._reader = anyio.Event()  # each of these wakes one task
        self._writer = anyio.Event()
        self._clock = anyio.Event()
        self._wake_at: float | None = None

    # -- for AsyncClient ----------------------------------------------------------------------

    async def _run(self, operation: Operation) -> object:
        await checkpoint_if_cancelled()
        result: object = await super()._run(operation)
        await cancel_shielded_checkpoint()  # what was sent or received cannot be taken back
        return result

    def _now(self) -> float:
        return anyio.current_time()

    def _drain(self) -> None:
        self._writer.set()
        if self._session.reading:
            self._reader.set()
        if self._link.disconnect == "abort":
            self._scope.cancel()
        when = self._session.next_timeout()
        if when is not None and (self._wake_at is None or when < self._wake_at):
            self._clock.set()

    async def _wait_for(self, pending: Pending) -> None:
        event = anyio.Event()
        pending.add_hook(event.set)
        await event.wait()

    async def _end(self) -> None:
        self._leave()  # a task of the group's closes the socket

    # -- tasks --------------------------------------------------------------------------------

    async def _move(self) -> None:
        """Move bytes until the connection ends; then there is no socket."""
        with self._scope:
            async with anyio.create_task_group() as group:
                group.start_soon(self._read)
                group.start_soon(self._write)
                group.start_soon(self._watch_clock)
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(self._stream)
        self._link.connection_lost(self._error, now=self._now())

    async def _read(self) -> None:
        try:
            while True:
                while not self._session.reading:
                    self._reader = anyio.Event()
                    await self._reader.wait()
                data = await self._stream.receive(_READ_BYTES)
                self._link.receive_data(data, now=self._now())
                self._drain()
        except anyio.EndOfStream:
            self._session.receive_eof(now=self._now())
            self._drain()
        except _BROKEN as error:
            self._fail(error)

    async def _write(self) -> None:
        try:
            while True:
                self._writer = anyio.Event()
                if data := self._link.data_to_send():
                    await self._send(data)
                elif self._link.disconnect is not None:
                    break
                else:
                    await self._writer.wait()
        except _BROKEN as error:
            self._fail(error)
        self._scope.cancel()

    async def _send(self, data: bytes) -> None:
        for start in range(0, len(data), _WRITE_BYTES):
            self._session.bytes_unsent(len(data) - start, now=self._now())
            self._drain()  # for the deadline of a stall
            await self._stream.send(data[start : start + _WRITE_BYTES])
        self._session.bytes_unsent(0, now=self._now())

    async def _watch_clock(self) -> None:
        while True:
            self._clock = anyio.Event()
            self._wake_at = self._session.next_timeout()
            until = inf if self._wake_at is None else self._wake_at
            with anyio.CancelScope(deadline=until) as scope:
                await self._clock.wait()
            if scope.cancelled_caught:
                self._session.handle_timeout(now=self._now())
                self._drain()

    def _fail(self, error: Exception) -> None:
        """The socket is of no use any more."""
        if isinstance(error, OSError):
            self._error = error
        elif isinstance(error.__cause__, OSError):
            self._error = error.__cause__
        else:
            self._error = ConnectionResetError("the connection was lost")
        self._scope.cancel()


async def _open(group: TaskGroup, url: str, options: Options) -> Client:
    """An open connection whose tasks are in `group`."""
    dial = Dial(url, options, now=anyio.current_time())
    with anyio.fail_after(dial.remaining_s(anyio.current_time())):
        stream = await _connect(dial)
    client = Client(dial, stream)
    group.start_soon(client._move)
    try:
        await client._run(client._session.opened())
    except BaseException:
        client._leave()
        raise
    return client


async def _connect(dial: Dial) -> ByteStream:
    options = dial.options
    if options.unix_path is not None:
        return await anyio.connect_unix(options.unix_path)
    if options.sock is not None:
        if options.sock.family not in (socket.AF_INET, socket.AF_INET6):
            return await UnixSocketStream.from_socket(options.sock)
        stream = await SocketStream.from_socket(options.sock)
    else:
        stream = await anyio.connect_tcp(dial.host, dial.port)
    set_no_delay(stream.extra(SocketAttribute.raw_socket))
    return stream


# -- reconnecting --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def reconnecting(
    url: str,
    *,
    policy: ReconnectPolicy | None = None,
    random: Callable[[], float] = random.random,
    **options: Unpack[ConnectOptions],
) -> AsyncIterator[AsyncGenerator[Client, None]]:
    """Connections to `url`, one after the other, each closed when the next is asked for.

        async with reconnecting("ws://127.0.0.1:8301/") as connections:
            async for ws in connections:
                async for message in ws: ...

    The loop ends after a Close with 1000; what else ends it is raised, see
    `reconnect.ReconnectPolicy`. `random` gives numbers from 0 to 1 for the jitter. For the options
    see `options.Options`; `sock` is not one of them here.
    """
    repeated = Options(**options)
    check_repeatable(repeated)
    backoff = Backoff(policy, random)
    async with _task_group() as group:
        connect = partial(_open, group, url, repeated)
        clients = connect_again(connect, backoff, anyio.sleep, anyio.current_time)
        async with contextlib.aclosing(clients) as connections:
            yield connections
