"""The clients behind one face, so that one suite runs over all of them.

A scenario is an `async def` that uses its runtime's `connect`. The blocking client's methods are
wrapped in coroutines that never wait for a loop, so that the same scenario runs on plain threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final, TypeAlias

import anyio
import uvloop

from wireroom.transports.clients import anyio as anyio_clients
from wireroom.transports.clients import asyncio as asyncio_clients
from wireroom.transports.clients import blocking as blocking_clients

TIMEOUT_S: Final = 60.0  # a scenario that takes this long hangs

Scenario: TypeAlias = Callable[[], Coroutine[Any, Any, Any]]


class Runtime:
    """`run` runs a scenario, `together` several at once; the rest is the client's module."""

    name: str
    connect: Any
    reconnecting: Any

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        raise NotImplementedError

    async def together(self, *scenarios: Scenario) -> list[Any]:
        raise NotImplementedError


class AsyncioRuntime(Runtime):
    connect = staticmethod(asyncio_clients.connect)
    reconnecting = staticmethod(asyncio_clients.reconnecting)

    def __init__(self, name: str, factory: Any = None) -> None:
        self.name = name
        self._factory = factory

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(TIMEOUT_S):
                result = await main
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return result

        with asyncio.Runner(loop_factory=self._factory) as runner:
            return runner.run(bounded())

    async def together(self, *scenarios: Scenario) -> list[Any]:
        return list(await asyncio.gather(*[each() for each in scenarios]))


class AnyioRuntime(Runtime):
    connect = staticmethod(anyio_clients.connect)
    reconnecting = staticmethod(anyio_clients.reconnecting)

    def __init__(self, backend: str) -> None:
        self.name = f"anyio-{backend}"
        self._backend = backend

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        async def bounded() -> Any:
            with anyio.fail_after(TIMEOUT_S):
                return await main

        return anyio.run(bounded, backend=self._backend)

    async def together(self, *scenarios: Scenario) -> list[Any]:
        results: list[Any] = [None] * len(scenarios)

        async def run(index: int, scenario: Scenario) -> None:
            results[index] = await scenario()

        async with anyio.create_task_group() as group:
            for index, scenario in enumerate(scenarios):
                group.start_soon(run, index, scenario)
        return results


class _Awaitable:
    """A blocking client whose methods may be awaited."""

    def __init__(self, client: blocking_clients.Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        if not inspect.ismethod(value):
            return value

        async def call(*arguments: Any, **named: Any) -> Any:
            return value(*arguments, **named)

        return call

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        for message in self._client:
            yield message


class BlockingRuntime(Runtime):
    name = "blocking"

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        result = _finish(main)
        assert not [each for each in threading.enumerate() if each.name == "wireroom-client"]
        return result

    async def together(self, *scenarios: Scenario) -> list[Any]:
        results: list[Any] = [None] * len(scenarios)
        errors: list[BaseException] = []

        def run(index: int, scenario: Scenario) -> None:
            try:
                results[index] = _finish(scenario())
            except BaseException as error:
                errors.append(error)

        threads = [
            threading.Thread(target=run, args=(index, each)) for index, each in enumerate(scenarios)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()
        if errors:
            raise errors[0]
        return results

    @staticmethod
    @contextlib.asynccontextmanager
    async def connect(url: str, **options: Any) -> AsyncIterator[Any]:
        with blocking_clients.connect(url, **options) as client:
            yield _Awaitable(client)

    @staticmethod
    @contextlib.asynccontextmanager
    async def reconnecting(url: str, **options: Any) -> AsyncIterator[AsyncIterator[Any]]:
        async def each() -> AsyncIterator[Any]:
            for client in connections:
                yield _Awaitable(client)

        with contextlib.closing(blocking_clients.reconnecting(url, **options)) as connections:
            yield each()


def _finish(main: Awaitable[Any]) -> Any:
    """Run a coroutine that waits for no loop."""
    iterator = main.__await__()
    try:
        waited = next(iterator)
    except StopIteration as stop:
        return stop.value
    raise AssertionError(f"waits for a loop: {waited!r}")


RUNTIMES: Final = [
    AsyncioRuntime("asyncio"),
    AsyncioRuntime("uvloop", uvloop.new_event_loop),
    AnyioRuntime("asyncio"),
    AnyioRuntime("trio"),
    BlockingRuntime(),
]
