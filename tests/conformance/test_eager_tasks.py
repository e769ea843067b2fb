"""Loops whose tasks begin at once, within `create_task` (`asyncio.eager_task_factory`)."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import anyio
import msgspec
import pytest

from harnesses import LoopHarness, Main
from wireroom.core import App, Context, Session
from wireroom.transports.anyio import Server as AnyioServer
from wireroom.transports.asyncio import Server as AsyncioServer
from wireroom.transports.conformance import Harness
from wireroom.transports.conformance.behaviours import Server
from wireroom.transports.conformance.handlers import Handlers
from wireroom.transports.conformance.messages import Messages

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="there are none")


def _eager(main: Main) -> Main:
    async def run() -> None:
        loop: Any = asyncio.get_running_loop()
        loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009 - since 3.12
        await main()

    return run


HARNESSES: dict[str, Callable[[], Harness]] = {
    "asyncio": lambda: LoopHarness(AsyncioServer, lambda main: asyncio.run(_eager(main)())),
    "anyio-asyncio": lambda: LoopHarness(AnyioServer, lambda main: anyio.run(_eager(main))),
}


class TestEagerTasks(Messages, Handlers):
    """What needs handlers, where these are eager tasks; and tasks that handlers make."""

    @pytest.fixture(params=HARNESSES)
    def harness(self, request: pytest.FixtureRequest) -> Harness:
        return HARNESSES[request.param]()

    @pytest.mark.parametrize(
        ("what", "result"),
        [
            ("sleep", "'slept'"),
            ("receive", "'hello'"),
            ("request", "'answered'"),
            ("completion", "'done'"),
        ],
    )
    def test_a_task_of_a_handler_may_await_what_is_ours_at_once(
        self, server: Server, what: str, result: str
    ) -> None:
        app = App()

        async def wait_for(session: Session) -> object:
            match what:
                case "receive":
                    return await session.receive()
                case "request":
                    return await session.request({"type": "ask"})
                case "completion":
                    future: Future[str] = Future()
                    threading.Timer(0.01, future.set_result, ["done"]).start()
                    return await session.hub.completion(future)
                case _:
                    await session.sleep(0.01)
                    await session.drain()
                    return "slept"

        @app.module("/").command("go")
        async def go(ctx: Context) -> str:
            task = asyncio.create_task(wait_for(ctx.session))
            ctx.session.send("waiting")
            await ctx.sleep(0.001)  # and the handler itself may, meanwhile and afterwards
            ctx.session.send(repr(await task))
            await ctx.sleep(0.001)
            return "the end"

        server.start(app)
        client = server.open("/")
        for _ in range(2):
            client.send('{"type": "go"}')
            if what == "request":
                request_id = msgspec.json.decode(client.receive())["request_id"]
                reply = {"type": "reply", "request_id": request_id, "data": "answered"}
                client.send(msgspec.json.encode(reply).decode())
            assert client.receive() == "waiting"
            if what == "receive":
                client.send("hello")
            assert client.receive() == result
            assert client.receive() == "the end"
        client.close()
        server.wait_idle()

    def test_a_task_of_a_handler_that_is_cancelled_hurts_nobody(self, server: Server) -> None:
        app = App()

        @app.module("/").on_message
        async def race(session: Session, message: str) -> str:
            async def sleep(seconds: float) -> str:
                await session.sleep(seconds)
                return f"{seconds:g}"

            tasks = [asyncio.create_task(sleep(seconds)) for seconds in (3600, 0.01)]
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for each in pending:
                each.cancel()
            async with asyncio.timeout(10):
                await asyncio.gather(*pending, return_exceptions=True)
            return next(iter(done)).result()

        server.start(app)
        client = server.open("/")
        for _ in range(3):
            client.send("go")
            assert client.receive() == "0.01"
