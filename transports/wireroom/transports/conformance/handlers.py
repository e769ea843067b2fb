"""Handlers that raise, are cancelled, run by the clock, and are called from outside."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import msgspec
import pytest

from wireroom.core import (
    Accept,
    App,
    Context,
    Hub,
    Limits,
    Request,
    Session,
    SessionClosedError,
    WebSocket,
)

from .behaviours import Behaviours, Failures, Server, Told, needs
from .handshakes import refusal
from .harness import Feature, Options


class Deliberate(Exception):  # noqa: N818
    """What handlers raise here."""


def _failing_app() -> App:
    """Handlers of every kind that raise."""
    app = App()

    @app.websocket("/function")
    async def function(ws: WebSocket) -> None:
        await ws.accept()
        raise Deliberate(await ws.receive())

    @app.websocket("/unaccepted")
    async def unaccepted(ws: WebSocket) -> None:
        await ws.sleep(0.001)
        raise Deliberate

    module = app.module("/module")

    @module.command("fail")
    def fail(ctx: Context) -> None:
        raise Deliberate

    @module.command("fail_later")
    async def fail_later(ctx: Context) -> None:
        await ctx.sleep(0.001)
        raise Deliberate

    @module.command("work")
    def work(ctx: Context) -> str:
        return "worked"

    opening = app.module("/opening")

    @opening.on_open
    def fail_to_open(session: Session) -> None:
        raise Deliberate

    closing = app.module("/closing")

    @closing.on_close
    async def fail_to_close(session: Session) -> None:
        raise Deliberate

    @app.module("/handshake").on_handshake
    def fail_to_decide(request: Request) -> Accept:
        raise Deliberate

    @app.http("/page")
    async def fail_to_answer(request: Request) -> str:
        raise Deliberate

    return app


class Handlers(Behaviours):
    """Handlers."""

    @pytest.mark.parametrize("command", ["fail", "fail_later"])
    def test_a_command_that_raises_hurts_nobody(
        self, server: Server, failures: Failures, command: str
    ) -> None:
        server.start(_failing_app())
        client, other = server.open("/module"), server.open("/module")
        client.send(f'{{"type": "{command}", "request_id": 1}}', '{"type": "work"}')
        error = msgspec.json.decode(client.receive())
        assert (error["code"], error["request_id"]) == ("handler_failed", 1)
        assert client.receive() == "worked"
        other.send('{"type": "work"}')
        assert other.receive() == "worked"
        assert server.stats.handler_failures == 1
        assert [type(each) for each in failures(1)] == [Deliberate]

    def test_a_function_that_raises_closes_with_1011(
        self, server: Server, failures: Failures
    ) -> None:
        server.start(_failing_app())
        client, other = server.open("/function"), server.open("/module")
        client.send("go")
        assert client.finish() == (1011, "internal error")
        assert server.open("/opening").finish()[0] == 1011
        other.send('{"type": "work"}')
        assert other.receive() == "worked"
        assert [type(each) for each in failures(2)] == [Deliberate] * 2

    @pytest.mark.parametrize("target", ["/unaccepted", "/handshake"])
    def test_a_handshake_whose_handler_raises_is_refused(
        self, server: Server, failures: Failures, target: str
    ) -> None:
        server.start(_failing_app())
        expected = {500} if server.can(Feature.REJECTION) else {403, 500}
        assert refusal(server.connect(), target).response.status in expected
        assert [type(each) for each in failures(1)] == [Deliberate]
        server.wait_idle()

    @needs(Feature.HTTP)
    def test_a_page_whose_handler_raises_is_a_500(self, server: Server, failures: Failures) -> None:
        server.start(_failing_app())
        assert server.connect().request("/page").status == 500
        assert [type(each) for each in failures(1)] == [Deliberate]

    def test_on_close_may_raise(self, server: Server, failures: Failures) -> None:
        server.start(_failing_app())
        server.open("/closing").close()
        server.open("/closing").reset()
        assert server.wait_idle().handler_failures == 2
        assert [type(each) for each in failures(2)] == [Deliberate] * 2

    # -- cancellation -------------------------------------------------------------------------

    def test_who_waits_for_a_message_of_a_peer_that_has_left_gets_none(
        self, server: Server
    ) -> None:
        app = App()
        told: Told[object] = Told()

        @app.websocket("/")
        async def function(ws: WebSocket) -> None:
            await ws.accept()
            told.put(await ws.receive())
            told.put(ws.is_connected)
            try:
                await ws.send("too late")
            except SessionClosedError as error:
                told.put(error.code)
                raise

        server.start(app)
        server.open("/").reset()
        assert [told.next("the handler goes on") for _ in range(2)] == [None, False]
        assert told.next("send raises") in (1005, 1006)
        server.wait_idle()

    @pytest.mark.parametrize("kind", ["function", "message", "command"])
    def test_a_handler_that_goes_on_without_its_peer_is_cancelled(
        self, server: Server, kind: str
    ) -> None:
        app = App(limits=Limits(close_timeout_s=0.1, close_reply_timeout_s=0.1))
        told: Told[str] = Told()

        async def forever(session: Session) -> None:
            told.put("started")
            try:
                await session.sleep(3600)
                told.put("ended")
            except Exception as error:
                told.put(f"failed with {error!r}")
            finally:
                told.put("left")

        @app.websocket("/function")
        async def function(ws: WebSocket) -> None:
            await ws.accept()
            await ws.receive()
            await forever(ws.session)

        @app.module("/message").on_message
        async def message(session: Session, message: str) -> None:
            await forever(session)

        @app.module("/command").command("go")
        async def command(ctx: Context) -> None:
            await forever(ctx.session)

        server.start(app)
        client = server.open(f"/{kind}")
        client.send('{"type": "go"}')
        assert told.next("the handler starts") == "started"
        client.reset()
        assert told.next("the handler is cancelled") == "left"
        server.wait_idle()

    # -- by the clock -------------------------------------------------------------------------

    def test_periodic_handlers_run_and_may_send(self, server: Server) -> None:
        app = App()
        app.module("/")

        @app.every(0.02)
        def tick(hub: Hub) -> None:
            hub.broadcast("tick")

        @app.every(0.03)
        async def tock(hub: Hub) -> None:
            hub.broadcast("tock")

        server.start(app)
        client = server.open("/")
        missing = {"tick": 3, "tock": 3}
        while any(count > 0 for count in missing.values()):
            missing[str(client.receive())] -= 1

    def test_a_periodic_handler_that_raises_is_called_again(
        self, server: Server, failures: Failures
    ) -> None:
        app = App()
        told: Told[str] = Told()

        @app.every(0.02)
        def tick(hub: Hub) -> None:
            told.put("tick")
            raise Deliberate

        server.start(app)
        for _ in range(3):
            told.next("the handler is called")
        server.stop()
        assert {type(each) for each in failures(3)} == {Deliberate}

    def test_sleeping_takes_as_long_as_was_said(self, server: Server) -> None:
        app = App()

        @app.module("/").on_open
        async def sleep(session: Session) -> None:
            started = session.hub.now
            await session.sleep(0.05)
            await session.send(str(session.hub.now >= started + 0.05))

        server.start(app)
        assert server.open("/").receive() == "True"

    # -- from outside -------------------------------------------------------------------------

    def test_other_threads_may_call_in(self, server: Server) -> None:
        app = App()

        @app.module("/").on_handshake
        def who(request: Request) -> Accept:
            return Accept(user="ann")

        server.start(app)
        clients = [server.open("/") for _ in range(3)]
        assert server.call(lambda hub: hub.user("ann").send("to ann")) == 3
        assert server.call(lambda hub: hub.broadcast(b"to all")) == 3
        for each in clients:
            assert [each.receive(), each.receive()] == ["to ann", b"to all"]

        def close_one(hub: Hub) -> Any:
            hub.sessions()[0].close(4001, "chosen")

        server.call(close_one)
        assert clients[0].finish() == (4001, "chosen")

    def test_what_a_call_raises_comes_out_of_it(self, server: Server) -> None:
        app = App()
        app.module("/")
        server.start(app)
        client = server.open("/")

        def fail(hub: Hub) -> None:
            hub.broadcast("sent before")
            raise Deliberate

        with pytest.raises(Deliberate):
            server.call(fail)
        assert client.receive() == "sent before"

    @needs(Feature.COMPLETIONS)
    def test_results_of_other_threads_come_in_in_order(self, server: Server) -> None:
        app = App()
        waiting: Told[Future[str]] = Told()

        @app.module("/").on_message
        async def ask(session: Session, message: str) -> str:
            future: Future[str] = Future()
            completion = session.hub.completion(future, timeout_s=30.0)
            completion.then(session.hub.broadcast)
            waiting.put(future)
            return await completion + ", to you"

        server.start(app)
        clients = [server.open("/") for _ in range(3)]
        for client in clients:
            client.send("ask")
        futures = [waiting.next("the handler asks") for _ in clients]
        for number, future in enumerate(futures):
            future.set_result(str(number))
        for client in clients:
            received = [client.receive() for _ in range(len(clients) + 1)]
            own = [each for each in received if str(each).endswith(", to you")]
            assert len(own) == 1
            assert [each for each in received if each not in own] == ["0", "1", "2"]

    @needs(Feature.COMPLETIONS, Feature.SHUTDOWN)
    def test_a_result_that_comes_after_the_end_hurts_nobody(self, server: Server) -> None:
        app = App()
        future: Future[str] = Future()
        waiting: Told[str] = Told()

        @app.module("/").on_message
        async def ask(session: Session, message: str) -> str:
            completion = session.hub.completion(future)
            waiting.put("waiting")
            return await completion

        server.start(app, Options(grace_s=0.2))
        server.open("/").send("ask")
        waiting.next("the handler asks")
        server.stop()
        future.set_result("late")
