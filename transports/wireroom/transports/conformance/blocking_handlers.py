"""Handlers that are marked as blocking: in threads, where the adapter has them."""

from __future__ import annotations

import threading

import msgspec

from wireroom.core import (
    App,
    Context,
    Hub,
    Request,
    Session,
    blocking,
    current_session,
)

from .applications import Said
from .behaviours import Behaviours, Failures, Server, Told, needs
from .client import PATIENCE_S
from .handlers import Deliberate
from .harness import Feature


class Gate:
    """What handlers are held up by, until the test lets them go on."""

    def __init__(self) -> None:
        self._reached = threading.Semaphore(0)
        self._opened = threading.Event()

    def wait(self) -> None:
        """The handler's part: blocks its thread."""
        self._reached.release()
        assert self._opened.wait(PATIENCE_S), "the gate was never opened"

    def reached(self) -> None:
        """Wait until one more handler has come to the gate."""
        assert self._reached.acquire(timeout=PATIENCE_S), "the handler never came to the gate"

    def open(self) -> None:
        """Let all go on, from now on."""
        self._opened.set()


def _app() -> tuple[App, Gate]:
    app = App()
    gate = Gate()

    @app.module("/held").on_message
    @blocking
    def hold(session: Session, message: str) -> str:
        assert current_session() is session
        gate.wait()
        session.send(f"{message}, and")
        return "done"

    @app.module("/echo").on_message
    def echo(session: Session, message: str) -> str:
        return message

    return app, gate


class BlockingHandlers(Behaviours):
    """Handlers that are marked as blocking."""

    def test_blocking_handlers_may_use_everything_and_keep_the_order(self, server: Server) -> None:
        app = App()
        module = app.module("/")

        @module.on_open
        @blocking
        def enter(session: Session) -> None:
            session.join("room")
            session.user = "ann"

        @module.command("say")
        @blocking
        def say(ctx: Context, data: Said) -> int:
            ctx.session.send(f"{data.text}?")
            assert ctx.room("room").broadcast(f"{data.text}!") == 1
            assert ctx.hub.user("ann").send(f"{data.text}.") == 1
            assert ctx.session.rooms == ["room"]
            return len(ctx.hub.sessions())

        server.start(app)
        client = server.open("/")
        for text in ("one", "two"):
            client.send(msgspec.json.encode({"type": "say", "text": text}).decode())
        for text in ("one", "two"):
            expected = [f"{text}?", f"{text}!", f"{text}.", "1"]
            assert [client.receive() for _ in expected] == expected

    @needs(Feature.HTTP)
    def test_blocking_handlers_of_every_kind(self, server: Server) -> None:
        app = App()
        told: Told[str] = Told()
        ticked: Told[str] = Told()
        module = app.module("/")

        @module.on_handshake
        @blocking
        def check(request: Request) -> None:
            told.put("handshake")

        @module.on_open
        @blocking
        def opened(session: Session) -> None:
            told.put("open")

        @module.command("say")
        @blocking
        def say(ctx: Context) -> str:
            return "said"

        @module.on_close
        @blocking
        def closed(session: Session) -> None:
            told.put("close")

        @app.http("/page")
        @blocking
        def page(request: Request) -> str:
            return "a page"

        @app.every(0.01)
        @blocking
        def tick(hub: Hub) -> None:
            hub.stats()
            ticked.put("tick")

        server.start(app)
        for _ in range(2):
            ticked.next("a periodic handler is called")
        client = server.open("/")
        client.send('{"type": "say"}')
        assert client.receive() == "said"
        client.close()
        assert server.connect().request("/page").body == b"a page"
        order = [told.next("the handlers are called") for _ in range(3)]
        assert order == ["handshake", "open", "close"]

    def test_a_blocking_handler_that_raises_hurts_nobody(
        self, server: Server, failures: Failures
    ) -> None:
        app = App()
        module = app.module("/")

        @module.command("fail")
        @blocking
        def fail(ctx: Context) -> None:
            raise Deliberate

        @module.command("work")
        @blocking
        def work(ctx: Context) -> str:
            return "worked"

        server.start(app)
        client = server.open("/")
        client.send('{"type": "fail", "request_id": 1}', '{"type": "work"}')
        error = msgspec.json.decode(client.receive())
        assert (error["code"], error["request_id"]) == ("handler_failed", 1)
        assert client.receive() == "worked"
        assert [type(each) for each in failures(1)] == [Deliberate]

    @needs(Feature.BLOCKING)
    def test_a_blocking_handler_holds_up_nobody_else(self, server: Server) -> None:
        app, gate = _app()
        server.start(app)
        held, other = server.open("/held"), server.open("/echo")
        held.send("one", "two")
        gate.reached()
        for number in range(10):
            other.send(str(number))
            assert other.receive() == str(number)
        assert server.stats.invocations == 1  # the second message waits for the first
        newcomer = server.open("/echo")
        newcomer.send("and I")
        assert newcomer.receive() == "and I"
        gate.open()
        expected = ["one, and", "done", "two, and", "done"]
        assert [held.receive() for _ in expected] == expected

    @needs(Feature.BLOCKING)
    def test_a_peer_that_leaves_meanwhile_is_forgotten(self, server: Server) -> None:
        app, gate = _app()
        server.start(app)
        client = server.open("/held")
        client.send("one", "two")
        gate.reached()
        client.reset()
        server.wait_for("its connection is gone", lambda hub: hub.stats().connections == 0)
        assert server.stats.invocations == 1
        gate.open()
        assert server.wait_idle().sessions == 0

    @needs(Feature.BLOCKING)
    def test_more_blocking_handlers_than_threads_wait_for_one(self, server: Server) -> None:
        app, gate = _app()
        server.start(app)
        clients = [server.open("/held") for _ in range(100)]
        for number, client in enumerate(clients):
            client.send(str(number))
        server.wait_for("all are under way", lambda hub: hub.stats().invocations == len(clients))
        other = server.open("/echo")
        other.send("still served")
        assert other.receive() == "still served"
        gate.open()
        for number, client in enumerate(clients):
            assert [client.receive(), client.receive()] == [f"{number}, and", "done"]
