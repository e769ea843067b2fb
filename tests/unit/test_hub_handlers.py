"""`async def` handlers: Invoke, Resume and Cancel, and whatever else they await."""

from __future__ import annotations

import pytest

from driver import Cancelled, Foreign, Simulation
from raw import get, upgrade
from wireroom.core import (
    FINISHED,
    App,
    Cancel,
    Context,
    HandlerFailed,
    Hub,
    Invoke,
    Limits,
    Resume,
    Session,
    Wait,
    WebSocket,
)

GRACE_S = Limits().close_timeout_s


def sleeping_app(*, swallow: bool = False) -> tuple[App, list[str]]:
    """A handler that sleeps for a minute, and what happens to it."""
    app = App()
    events: list[str] = []

    @app.module("/").on_message
    async def on_message(session: Session, message: str) -> str:
        events.append("begins")
        try:
            await session.sleep(60.0)
        except Cancelled:
            events.append("cancelled")
            if not swallow:
                raise
        finally:
            events.append("cleans up")
        return "done"

    return app, events


# -- step by step -------------------------------------------------------------------------------


def test_a_handler_is_run_by_the_transport_and_not_before() -> None:
    app, events = sleeping_app()
    simulation = Simulation(app)
    peer = simulation.open("/")
    hub = simulation.hub
    hub.receive_data(peer.fd, b"\x81\x80aaaa", now=0.0)
    output = hub.next_output()
    assert isinstance(output, Invoke)
    invocation = output.invocation
    assert (invocation.fd, invocation.done, events) == (peer.fd, False, [])
    assert invocation.name.endswith("on_message")
    assert isinstance(hub.resume(invocation, now=0.0), Wait)
    assert events == ["begins"]
    assert hub.next_output() is None
    hub.handle_timeout(now=60.0)
    assert hub.next_output() == Resume(invocation)
    assert hub.resume(invocation, now=60.0) is FINISHED
    assert invocation.done
    assert hub.resume(invocation, now=60.0) is FINISHED
    simulation.end()


def test_sleeps_end_in_the_order_of_the_clock() -> None:
    app = App()
    order: list[float] = []

    @app.websocket("/{seconds:int}")
    async def handler(ws: WebSocket) -> None:
        ws.accept()
        await ws.sleep(ws.path_params["seconds"])
        order.append(simulation.now)

    simulation = Simulation(app)
    for seconds in (3, 1, 2, 0):
        simulation.open(f"/{seconds}")
    simulation.advance(2.5)
    assert order == [0.0, 1.0, 2.0]
    simulation.advance(1.0)
    assert order == [0.0, 1.0, 2.0, 3.0]


def test_a_context_sleeps_too() -> None:
    app = App()

    @app.module("/").command("wait")
    async def wait(ctx: Context) -> float:
        await ctx.sleep(2.0)
        return simulation.now

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send('{"type":"wait"}')
    simulation.advance(5.0)
    assert peer.messages == ["2.0"]


# -- foreign awaits -----------------------------------------------------------------------------


def test_what_is_not_ours_passes_through_unchanged_with_its_value_and_its_error() -> None:
    app = App()
    first, second = Foreign(), Foreign()
    given: list[object] = []

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        ws.accept()
        given.append(await first)
        try:
            await second
        except LookupError as error:
            given.append(error)
        await ws.sleep(1.0)
        ws.send("done")

    simulation = Simulation(app)
    peer = simulation.open("/")
    value, error = object(), LookupError("theirs")
    simulation.complete(first, value)
    simulation.fail(second, error)
    assert given == [value, error]
    simulation.advance(1.0)
    assert peer.messages == ["done"]


def test_a_resume_gives_back_what_the_handler_yielded() -> None:
    app = App()
    gate = Foreign()

    @app.http("/")
    async def handler(request: object) -> str:
        return str(await gate)

    hub = Hub(app)
    fd = hub.connect(None, now=0.0)
    hub.receive_data(fd, get("/"), now=0.0)
    output = hub.next_output()
    assert isinstance(output, Invoke)
    assert hub.resume(output.invocation, now=0.0) is gate
    assert hub.resume(output.invocation, now=0.0, value="value") is FINISHED
    assert b"".join(hub.data_to_send(fd)).endswith(b"\r\n\r\nvalue")


# -- cancellation -------------------------------------------------------------------------------


def test_a_handler_whose_session_is_gone_has_its_time_and_is_cancelled_then() -> None:
    app, events = sleeping_app()
    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send("hello")
    peer.lose()
    simulation.advance(GRACE_S - 0.1)
    assert simulation.said(Cancel) == []
    simulation.advance(0.1)
    assert len(simulation.said(Cancel)) == 1
    assert events == ["begins", "cancelled", "cleans up"]
    assert simulation.hub.stats().invocations == 0
    assert simulation.failures == []
    assert simulation.said(HandlerFailed) == []


def test_a_handler_that_ends_in_time_is_not_cancelled() -> None:
    app = App()
    ended: list[str] = []

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        ws.accept()
        async for _ in ws:
            pass
        await ws.sleep(GRACE_S - 1.0)
        ended.append("in time")

    simulation = Simulation(app)
    simulation.open("/").lose()
    simulation.advance(10 * GRACE_S)
    assert ended == ["in time"]
    assert simulation.said(Cancel) == []


def test_a_handler_that_is_cancelled_and_goes_on_is_not_cancelled_again() -> None:
    app, events = sleeping_app(swallow=True)
    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send("hello")
    peer.lose()
    simulation.advance(100 * GRACE_S)
    assert events == ["begins", "cancelled", "cleans up"]
    assert len(simulation.said(Cancel)) == 1
    assert simulation.hub.next_timeout() is None


def test_what_a_cancelled_handler_waited_for_does_not_end_its_next_wait() -> None:
    app = App()
    ended: list[float] = []

    @app.module("/").on_message
    async def on_message(session: Session, message: str) -> None:
        try:
            await session.sleep(60.0)
        except Cancelled:
            await session.sleep(100.0)
            ended.append(simulation.now)
            raise

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send("hello")
    peer.lose()
    simulation.advance(200.0)
    assert ended == [GRACE_S + 100.0]


def test_what_a_cancelled_handler_slept_for_resumes_nobody() -> None:
    app, _ = sleeping_app()
    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send("hello")
    peer.lose()
    simulation.advance(GRACE_S)
    before = len(simulation.outputs)
    simulation.advance(120.0)
    assert simulation.outputs[before:] == []


@pytest.mark.parametrize("path", ["/module", "/function", "/handshake"])
def test_a_cancelled_handler_of_a_living_session_is_no_failure(path: str) -> None:
    """A transport that stops cancels handlers whose sessions are still there."""
    app = App()
    gate = Foreign()

    @app.module("/module").on_message
    async def on_message(session: Session, message: str) -> None:
        await gate

    @app.websocket("/function")
    async def function(ws: WebSocket) -> None:
        ws.accept()
        await gate

    @app.module("/handshake").on_handshake
    async def check(request: object) -> None:
        await gate

    simulation = Simulation(app)
    peer = simulation.connect()
    peer.open(path)
    if path == "/module":
        peer.send("hello")
    simulation.fail(gate, Cancelled())
    assert simulation.failures == []
    assert simulation.hub.stats().invocations == 0
    if path == "/handshake":
        assert peer.rejected is not None
    simulation.end()


def test_an_async_http_handler_of_a_peer_that_has_gone_is_cancelled() -> None:
    app = App()
    gate = Foreign()

    @app.http("/")
    async def handler(request: object) -> None:
        await gate

    simulation = Simulation(app)
    peer = simulation.connect()
    peer.send_raw(get("/"))
    peer.lose()
    simulation.advance(GRACE_S)
    assert len(simulation.said(Cancel)) == 1
    assert simulation.hub.stats().invocations == 0


# -- tasks of the application's own -------------------------------------------------------------


def test_two_tasks_may_receive_and_each_message_goes_to_one() -> None:
    app = App()
    got: list[tuple[str, object]] = []

    async def receiver(name: str, ws: WebSocket) -> None:
        got.extend([(name, message) async for message in ws])

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        ws.accept()
        simulation.spawn(receiver("task", ws))
        await receiver("handler", ws)

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send(*"abcd")
    peer.send("e")
    peer.close()
    assert sorted(str(message) for _, message in got) == list("abcde")
    assert peer.lost
    assert simulation.hub.stats().invocations == 0


def test_a_task_may_wait_for_the_outbox_of_a_session() -> None:
    app = App(limits=Limits(outbox_mark_bytes=100))
    app.module("/")
    sent: list[int] = []

    async def sender(session: Session) -> None:
        for number in range(5):
            await session.send("x" * 80)
            sent.append(number)

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.stall()
    simulation.spawn(sender(simulation.session(peer)))
    assert len(sent) < 5
    peer.read()
    assert len(sent) == 5
    assert len(peer.messages) == 5


def test_who_acts_outside_of_any_input_wakes_the_transport_once() -> None:
    app = App()
    app.module("/")
    calls: list[str] = []
    hub = Hub(app, wake=lambda: calls.append("wake"))
    fd = hub.connect(None, now=0.0)
    hub.receive_data(fd, upgrade("/"), now=0.0)
    for number in range(3):
        hub.fds_to_send()
        hub.data_to_send(fd)
        while hub.next_output() is not None:
            pass
        calls.clear()
        session = hub.session(fd)
        assert session is not None
        session.send(f"message {number}")
        session.send("and another")
        assert calls == ["wake"]


# -- who else is hurt ---------------------------------------------------------------------------


def test_a_handler_of_one_session_may_act_on_another() -> None:
    app = App()
    module = app.module("/")

    @module.on_open
    def joined(session: Session) -> None:
        session.join("room")

    @module.on_message
    def kick(session: Session, message: str) -> None:
        for other in session.room("room"):
            if other is not session:
                other.send("out")
                other.close(4001, message)

    simulation = Simulation(app)
    kicker, victim = simulation.open("/"), simulation.open("/")
    kicker.send("because")
    assert victim.messages == ["out"]
    assert victim.close_frame is not None
    assert (victim.close_frame.code, victim.close_frame.reason) == (4001, "because")
    assert kicker.close_code() is None


def test_a_handler_that_raises_in_the_middle_of_a_broadcast_leaves_all_in_order() -> None:
    app = App()
    module = app.module("/")
    module.on_open(lambda session: session.join("room"))

    @module.on_message
    def say(session: Session, message: str) -> None:
        session.room("room").broadcast(message)
        raise LookupError("on purpose")

    simulation = Simulation(app)
    one, two = simulation.open("/"), simulation.open("/")
    one.send("a", "b")
    assert two.messages == ["a", "b"]
    assert [message for message in one.messages if len(message) == 1] == ["a", "b"]
    assert len(simulation.failures) == 2
