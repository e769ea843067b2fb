"""Results of other threads come in as inputs: `Hub.completion`."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from driver import Cancelled, Simulation
from wireroom.core import App, Completion, Session, WebSocket
from wireroom.core.sessions.session import SessionHub

TIMEOUT_S = 5.0


def awaiting(
    *futures: Future[str], then: list[str] | None = None, timeout_s: float = TIMEOUT_S
) -> tuple[Simulation, list[str]]:
    """A server whose handler awaits one future after another, for each message."""
    app = App()
    waiting = iter(futures)
    events: list[str] = []

    @app.module("/").on_message
    async def on_message(session: Session, message: str) -> str:
        completion: Completion[str] = session.hub.completion(next(waiting), timeout_s=timeout_s)
        if then is not None:
            completion.then(then.append)
        try:
            return await completion
        except Cancelled:
            events.append("cancelled")
            raise
        except (TimeoutError, OSError) as error:
            return f"{type(error).__name__}: {error}"

    return Simulation(app), events


def test_a_result_goes_on_to_the_handler_and_leaves_no_deadline() -> None:
    future: Future[str] = Future()
    simulation, _ = awaiting(future)
    peer = simulation.open("/")
    idle_timeout = simulation.hub.next_timeout()
    peer.send("ask")
    assert simulation.hub.next_timeout() == TIMEOUT_S
    assert peer.messages == []
    future.set_result("stored")
    simulation.settle()
    assert peer.messages == ["stored"]
    assert simulation.hub.next_timeout() == idle_timeout


def test_a_future_that_is_done_already_needs_no_more_than_the_next_input() -> None:
    future: Future[str] = Future()
    future.set_result("stored")
    simulation, _ = awaiting(future)
    peer = simulation.open("/")
    peer.send("ask")
    assert peer.messages == ["stored"]


def test_what_the_future_raised_is_raised() -> None:
    future: Future[str] = Future()
    simulation, _ = awaiting(future)
    peer = simulation.open("/")
    peer.send("ask")
    future.set_exception(OSError("away"))
    simulation.settle()
    assert peer.messages == ["OSError: away"]


def test_the_hub_has_its_own_patience() -> None:
    future: Future[str] = Future()
    then: list[str] = []
    simulation, _ = awaiting(future, then=then)
    peer = simulation.open("/")
    peer.send("ask")
    simulation.advance(TIMEOUT_S - 0.001)
    assert peer.messages == []
    simulation.advance(0.001)
    assert peer.messages == ["TimeoutError: not done within 5 s"]
    future.set_result("late")
    simulation.settle()
    assert then == ["late"]


def test_a_session_that_has_gone_does_not_keep_others_from_the_result() -> None:
    future: Future[str] = Future()
    then: list[str] = []
    simulation, events = awaiting(future, then=then)
    peer = simulation.open("/")
    peer.send("ask")
    peer.lose()
    simulation.end()
    assert events == ["cancelled"]
    assert not simulation.running
    future.set_result("stored")
    simulation.settle()
    assert then == ["stored"]


def test_nothing_follows_a_failure_but_the_exception() -> None:
    future: Future[str] = Future()
    then: list[str] = []
    simulation, _ = awaiting(future, then=then)
    simulation.open("/").send("ask")
    future.set_exception(OSError("away"))
    simulation.settle()
    assert then == []


def test_results_come_in_by_one_input_and_in_their_order() -> None:
    futures = [Future[str]() for _ in range(4)]
    then: list[str] = []
    simulation, _ = awaiting(*futures, then=then)
    peers = [simulation.open("/") for _ in futures]
    for peer in peers:
        peer.send("ask")
    for index in (2, 0, 3, 1):
        futures[index].set_result(str(index))
    inputs = simulation.posted.qsize()
    simulation.settle()
    assert inputs == 1
    assert then == ["2", "0", "3", "1"]
    assert [peer.messages for peer in peers] == [["0"], ["1"], ["2"], ["3"]]


def test_a_failing_follower_is_reported_and_the_handler_goes_on() -> None:
    future: Future[str] = Future()
    app = App()

    @app.module("/").on_message
    async def on_message(session: Session, message: str) -> str:
        completion = session.hub.completion(future)
        completion.then(lambda result: 1 // 0)
        return await completion

    simulation = Simulation(app)
    peer = simulation.open("/")
    peer.send("ask")
    future.set_result("stored")
    simulation.settle()
    assert [type(error) for error in simulation.failures] == [ZeroDivisionError]
    assert simulation.hub.stats().handler_failures == 1
    assert peer.messages == ["stored"]


def test_another_thread_touches_the_hub_only_by_its_input() -> None:
    app = App()
    seen: list[int] = []

    @app.websocket("/")
    async def function(ws: WebSocket) -> None:
        await ws.accept()
        future: Future[int] = Future()
        completion = ws.session.hub.completion(future)
        completion.then(lambda result: seen.append(threading.get_ident()))
        thread = threading.Thread(target=lambda: future.set_result(threading.get_ident()))
        thread.start()
        await ws.send(str(await completion != threading.get_ident()))

    simulation = Simulation(app)
    peer = simulation.open("/")
    simulation.take_posted(until=lambda: peer.messages)
    assert peer.messages == ["True"]
    assert seen == [threading.get_ident()]


def test_periodic_handlers_have_completions_too() -> None:
    app = App()
    future: Future[str] = Future()
    got: list[str] = []

    @app.every(1.0)
    async def look(hub: SessionHub) -> None:
        got.append(await hub.completion(future))

    simulation = Simulation(app)
    simulation.hub.start(now=0.0)
    simulation.advance(1.0)
    future.set_result("done")
    simulation.settle()
    assert got == ["done"]


@pytest.mark.parametrize("times", [1, 3])
def test_several_may_await_one_completion(times: int) -> None:
    app = App()
    future: Future[str] = Future()
    completions: list[Completion[str]] = []

    @app.module("/").on_message
    async def on_message(session: Session, message: str) -> str:
        if not completions:
            completions.append(session.hub.completion(future))
        return await completions[0]

    simulation = Simulation(app)
    peers = [simulation.open("/") for _ in range(times)]
    for peer in peers:
        peer.send("ask")
    assert [each.done for each in completions] == [False]
    future.set_result("stored")
    simulation.settle()
    assert [each.done for each in completions] == [True]
    assert [peer.messages for peer in peers] == [["stored"]] * times
