"""Handlers marked as blocking: what may be marked, and how a transport runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from driver import Simulation
from raw import get, text, upgrade
from wireroom.core import (
    FINISHED,
    App,
    ConfigurationError,
    Context,
    Hub,
    Invoke,
    Reject,
    Request,
    Session,
    blocking,
    command,
    current_context,
    current_session,
)
from wireroom.core.turn import BlockingCall


def invoked(hub: Hub) -> Any:
    """The invocation that the hub asks the transport to run."""
    while (output := hub.next_output()) is not None:
        if isinstance(output, Invoke):
            return output.invocation
    raise AssertionError("nothing is invoked")


def test_a_message_is_handled_outside_of_the_input() -> None:
    app = App()
    seen: list[object] = []

    @app.module("/").on_message
    @blocking
    def echo(session: Session, message: str) -> str:
        seen.append((current_session() is session, current_context().message))
        return message

    hub = Hub(app)
    fd = hub.connect(None, now=0.0)
    hub.receive_data(fd, upgrade("/") + text("one") + text("two"), now=0.0)
    invocation = invoked(hub)
    assert invocation.is_blocking
    assert seen == []
    hub.data_to_send(fd)
    assert hub.begin_step(invocation)
    outcome = hub.advance(invocation)  # in another thread
    assert seen == [(True, "one")]
    assert hub.fds_to_send() != [] or hub.data_to_send(fd) == []  # nothing came of it yet
    assert hub.end_step(invocation, outcome, now=1.0) is FINISHED
    assert hub.data_to_send(fd) == [b"\x81\x03one"]
    assert not hub.begin_step(invocation)
    second = invoked(hub)  # only now, since messages of a session are handled in order
    assert hub.resume(second, now=2.0) is FINISHED  # as a transport without threads does
    assert hub.data_to_send(fd) == [b"\x81\x03two"]


def test_every_kind_of_handler_may_block() -> None:
    app = App()
    seen: list[str] = []
    module = app.module("/")

    @module.on_handshake
    @blocking
    def check(request: Request) -> Reject | None:
        seen.append("handshake")
        return Reject(451) if request.query_params.get("refuse") else None

    @module.on_open
    @blocking
    def opened(session: Session) -> None:
        assert current_session() is session
        seen.append("open")

    @module.on_close
    @blocking
    def closed(session: Session) -> None:
        seen.append("close")

    @module.command("say")
    @blocking
    def say(ctx: Context) -> str:
        assert current_context() is ctx
        seen.append("command")
        return "said"

    @module.controller("c")
    class Controller:
        @blocking
        @command()
        def do(self, ctx: Context) -> str:
            return "done"

    @app.http("/page")
    @blocking
    def page(request: Request) -> str:
        return "a page"

    @app.every(60.0)
    @blocking
    def tick(hub: Hub) -> None:
        seen.append("tick")

    simulation = Simulation(app)
    simulation.hub.start(now=0.0)
    peer = simulation.open("/")
    peer.send('{"type": "say"}', '{"type": "c.do"}')
    assert peer.messages == ["said", "done"]
    peer.close()
    refused = simulation.open("/?refuse=1")
    assert refused.rejected is not None
    assert refused.rejected.status_code == 451
    plain = simulation.connect()
    plain.send_raw(get("/page"))
    assert plain.received.endswith(b"a page")
    simulation.advance(60.0)
    assert seen == ["handshake", "open", "command", "close", "handshake", "tick"]
    assert len(simulation.said(Invoke)) == 8


def test_plain_middleware_is_a_part_of_the_call() -> None:
    app = App()
    module = app.module("/")
    order: list[str] = []

    @module.middleware
    def around(ctx: Context, call_next: Callable[[], Any]) -> Any:
        order.append("before")
        result = call_next()
        order.append("after")
        return result

    @module.handshake_middleware
    def around_handshake(request: Request, call_next: Callable[[], Any]) -> Any:
        order.append("handshake")
        return call_next()

    @module.on_handshake
    @blocking
    def accept(request: Request) -> None:
        order.append("accept")

    @module.command("say")
    @blocking
    def say(ctx: Context) -> str:
        order.append("say")
        return "said"

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send('{"type": "say"}')
    assert peer.messages == ["said"]
    assert order == ["handshake", "accept", "before", "say", "after"]
    assert [each.invocation.is_blocking for each in simulation.said(Invoke)] == [True, True]


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration("no"), SystemError("no")])
def test_one_that_raises_is_reported(error: Exception) -> None:
    app = App()

    @app.module("/").on_message
    @blocking
    def fail(session: Session, message: str) -> None:
        raise error

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send("a")
    (failure,) = simulation.failures
    assert failure is error or failure.__cause__ is error
    assert "handler_failed" in str(peer.messages[0])


def test_one_that_is_cancelled_before_it_runs_is_not_called() -> None:
    called: list[int] = []
    call = BlockingCall(called.append, (1,))
    with pytest.raises(KeyError):
        call.throw(KeyError())
    call.close()
    assert called == []
    with pytest.raises(StopIteration) as stopped:
        call.send(None)
    assert (called, stopped.value.value) == ([1], None)


def test_only_plain_functions_can_be_marked() -> None:
    async def handler(session: Session, message: str) -> None: ...

    with pytest.raises(ConfigurationError, match=r"blocking: .*handler: must be def"):
        blocking(handler)


def test_async_middleware_cannot_be_around_a_blocking_handler() -> None:
    async def around(ctx: Context, call_next: Callable[[], Any]) -> Any: ...

    @blocking
    def handler(ctx: Context) -> None: ...

    app = App()
    module = app.module("/")
    module.middleware(around)
    module.command("say")(handler)
    with pytest.raises(ConfigurationError, match=r"around: must be def: .*handler, which is block"):
        Hub(app)

    @blocking
    def accept(request: Request) -> None: ...

    handshakes = App()
    with_handshake = handshakes.module("/")
    with_handshake.handshake_middleware(around)
    with_handshake.on_handshake(accept)
    with pytest.raises(ConfigurationError, match="must be def"):
        with_handshake.handshake_handler()


def test_what_goes_around_handlers_cannot_be_marked() -> None:
    module = App().module("/")

    @blocking
    def around(ctx: Context, call_next: Callable[[], Any]) -> Any: ...

    @blocking
    def on_error(session: Session, error: Exception) -> None: ...

    with pytest.raises(ConfigurationError, match="cannot be blocking"):
        module.middleware(around)
    with pytest.raises(ConfigurationError, match="and not block"):
        module.on_error(on_error)
