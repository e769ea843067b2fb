"""What every client has, and what the two with `await` share."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from wireroom.core import ClientSession
from wireroom.core.clients.pending import Pending
from wireroom.core.clients.session import Operation
from wireroom.core.wire.framing import Message
from wireroom.core.wire.request import MultiDict

from .link import Link
from .reconnect import RETRIED, Backoff


class ClientState:
    """What a client knows about its connection."""

    _link: Link

    @property
    def _session(self) -> ClientSession:
        return self._link.session

    @property
    def subprotocol(self) -> str | None:
        """The one that the server chose."""
        return None if self._session.accepted is None else self._session.accepted.subprotocol

    @property
    def headers(self) -> MultiDict:
        """Those of the server's response."""
        return MultiDict([]) if self._session.accepted is None else self._session.accepted.headers

    @property
    def is_connected(self) -> bool:
        """Whether something can be sent."""
        return self._session.is_connected

    @property
    def latency_s(self) -> float | None:
        """The round trip of the latest Ping, ours or `ping()`'s; None before the first."""
        return self._session.latency_s

    @property
    def close_code(self) -> int | None:
        """None before the end; 1005 for a Close without a code, 1006 for an end without a Close."""
        return self._session.close_code

    @property
    def close_reason(self) -> str | None:
        """None before the end."""
        return self._session.close_reason

    def __repr__(self) -> str:
        state = "connected" if self.is_connected else f"closed ({self.close_code})"
        return f"<{type(self).__module__}.{type(self).__name__} {state}>"


class AsyncClient(ClientState):
    """A client's methods, for adapters that have `_now`, `_drain` and `_wait_for`.

    Each may be cancelled, and called by several tasks at once: messages stay whole, and one that
    is received goes to one of those who wait.
    """

    async def send(self, data: object) -> None:
        """Send text (`str`), binary data (`bytes`), or anything else as the parser packs it: JSON.

        Waits while too much waits to be written (`Limits.outbox_mark_bytes`), and only then takes
        the message. Raises `SessionClosedError`.
        """
        await self._run(self._session.send(data))

    async def receive(self, *, timeout_s: float | None = None) -> Message | None:
        """The next message, or None when there will be none. Raises `TimeoutError`."""
        message: Message | None = await self._run(self._session.receive(timeout_s))
        return message

    async def receive_text(self, *, timeout_s: float | None = None) -> str:
        """The next message, which must be text; a binary one closes with 1003.

        Raises `SessionClosedError` when there will be none, and `TimeoutError`.
        """
        text: str = await self._run(self._session.receive_text(timeout_s))
        return text

    async def receive_bytes(self, *, timeout_s: float | None = None) -> bytes:
        """The next message, which must be binary; a text closes with 1003.

        Raises `SessionClosedError` when there will be none, and `TimeoutError`.
        """
        data: bytes = await self._run(self._session.receive_bytes(timeout_s))
        return data

    async def receive_json(self, data_type: Any = Any, *, timeout_s: float | None = None) -> Any:
        """The next message, decoded from JSON and checked to be a `data_type`.

        Raises `SessionClosedError` when there will be none, `ValueError` if it is something else,
        and `TimeoutError`.
        """
        return await self._run(self._session.receive_json(data_type, timeout_s))

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Messages until the end, however it comes; see `close_code`."""
        while (message := await self.receive()) is not None:
            yield message

    async def request(self, data: object, *, reply_type: Any = Any, timeout_s: float = 10.0) -> Any:
        """Send `data` as a request; the data of the reply, checked to be a `reply_type`.

        Raises `TimeoutError`, `RequestFailedError` if the server answers with an error or with
        something else, and `SessionClosedError`. Other messages stay for `receive`.
        """
        return await self._run(self._session.request(data, reply_type, timeout_s))

    async def ping(self, *, timeout_s: float | None = None) -> float:
        """Send a Ping, and wait for its Pong: the round trip in seconds.

        Raises `SessionClosedError` and `TimeoutError`.
        """
        seconds: float = await self._run(self._session.ping(timeout_s))
        return seconds

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close, and wait until the socket is gone, at most `close_timeout_s`.

        If the end has begun, it is only waited for. Raises `LocalProtocolError` for a code that
        may not be sent, or a reason of more than 123 bytes.
        """
        await self._run(self._session.close(code, reason))

    async def _run(self, operation: Operation) -> Any:
        """Step an operation, and wait as it waits, until it has a result."""
        try:
            while True:
                try:
                    pending = self._session.step(operation, now=self._now())
                except StopIteration as stop:
                    return stop.value
                finally:
                    self._drain()
                await self._wait_for(pending)
        finally:
            operation.close()

    def _leave(self) -> None:
        """Close without waiting, because of a cancellation."""
        self._session.leave(now=self._now())
        self._drain()

    async def _end(self) -> None:
        """Leave no socket, whatever has happened."""
        raise NotImplementedError

    def _now(self) -> float:
        raise NotImplementedError

    def _drain(self) -> None:
        """Carry out what the state machine asks for; after each input."""
        raise NotImplementedError

    async def _wait_for(self, pending: Pending) -> None:
        """Wait until `pending` has happened."""
        raise NotImplementedError


A = TypeVar("A", bound=AsyncClient)


@contextlib.asynccontextmanager
async def closing(client: A) -> AsyncIterator[A]:
    """`client`, closed after the block: with 1000, or with 1011 if the block raises, or without
    waiting if it is cancelled."""
    try:
        try:
            yield client
        except Exception:
            await client.close(1011)
            raise
        await client.close()
    finally:
        await client._end()


async def connect_again(
    connect: Callable[[], Awaitable[A]],
    backoff: Backoff,
    sleep: Callable[[float], Awaitable[object]],
    clock: Callable[[], float],
) -> AsyncGenerator[A, None]:
    """Open clients, one after the other, each closed when the next is asked for, until `backoff`
    says that it is the end; it may raise."""
    while True:
        try:
            client = await connect()
        except RETRIED as error:
            delay_s: float | None = backoff.failed(error)
        else:
            backoff.opened(now=clock())
            try:
                yield client
                open_still = client.is_connected
                await client.close()
            finally:
                await client._end()
            code = None if open_still else client.close_code
            delay_s = backoff.closed(code, client.close_reason, now=clock())
        if delay_s is None:
            return
        await sleep(delay_s)
