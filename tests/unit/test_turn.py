"""One turn of the hub: what it leaves to drain, and values that can be awaited."""

from __future__ import annotations

from collections.abc import Generator
from math import inf, nan
from typing import Any

import pytest

from wireroom.core import Invocation, LocalProtocolError, SessionOpened, Wait
from wireroom.core.turn import READY, Sleep, Turn


async def wait_for(wait: Wait, done: list[str]) -> None:
    await wait
    done.append("done")


def stepping(turn: Turn) -> Turn:
    """As while the hub runs a step of a handler."""

    async def handler() -> None: ...

    coroutine = handler()
    turn.step = Invocation(
        coroutine, name="handler", fd=1, current=None, finished=lambda *args: None
    )
    coroutine.close()
    return turn


# -- what is left to drain ----------------------------------------------------------------------


def test_an_fd_is_dirty_once_in_the_order_of_its_first_mark() -> None:
    turn = Turn()
    for fd in (3, 1, 3, 2):
        turn.mark(fd)
    assert turn.take_dirty() == [3, 1, 2]
    assert turn.take_dirty() == []


def test_wake_is_called_once_until_somebody_drains() -> None:
    turn = Turn()
    calls: list[int] = []
    turn.wake = lambda: calls.append(1)
    turn.mark(1)
    turn.mark(2)
    turn.put(SessionOpened(1, "/"))
    assert len(calls) == 1
    turn.take_dirty()
    turn.put(SessionOpened(2, "/"))
    turn.mark(2)
    assert len(calls) == 2


def test_without_wake_everything_is_kept_for_the_next_drain() -> None:
    turn = Turn()
    turn.put(SessionOpened(1, "/"))
    turn.mark(1)
    assert list(turn.outputs) == [SessionOpened(1, "/")]
    assert turn.take_dirty() == [1]


# -- waits --------------------------------------------------------------------------------------


def test_in_a_step_a_wait_is_yielded_to_whoever_drives() -> None:
    turn = stepping(Turn())
    wait, done = Wait(turn), list[str]()
    coroutine = wait_for(wait, done)
    assert coroutine.send(None) is wait
    assert coroutine.send(None) is wait  # a step without cause waits on
    wait.happen()
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert done == ["done"]


def test_what_has_happened_is_not_waited_for() -> None:
    wait, done = Wait(Turn()), list[str]()
    wait.happen()
    with pytest.raises(StopIteration):
        wait_for(wait, done).send(None)
    assert done == ["done"]


def test_outside_of_a_step_the_transports_loop_waits() -> None:
    turn = Turn()
    waited: list[Wait] = []

    def foreign_wait(wait: Wait) -> Generator[Any, Any, None]:
        waited.append(wait)
        yield "the loop's own"

    turn.foreign_wait = foreign_wait
    wait, done = Wait(turn), list[str]()
    coroutine = wait_for(wait, done)
    assert coroutine.send(None) == "the loop's own"
    assert waited == [wait]
    coroutine.close()


def test_a_wait_that_nobody_drives_is_a_clear_error() -> None:
    with pytest.raises(LocalProtocolError, match="nobody drives this"):
        wait_for(Wait(Turn()), []).send(None)


def test_hooks_are_called_once_when_it_happens() -> None:
    wait = Wait(Turn())
    calls: list[str] = []
    wait.add_hook(lambda: calls.append("a"))
    wait.add_hook(lambda: calls.append("b"))
    wait.happen()
    wait.happen()
    assert calls == ["a", "b"]
    wait.add_hook(lambda: calls.append("late"))
    assert calls == ["a", "b", "late"]


def test_a_hook_can_be_removed() -> None:
    wait = Wait(Turn())
    calls: list[str] = []

    def hook() -> None:
        calls.append("called")

    wait.add_hook(hook)
    wait.remove_hook(hook)
    wait.remove_hook(hook)
    wait.happen()
    assert calls == []


def test_what_is_ready_goes_on_at_once() -> None:
    async def handler() -> str:
        await READY
        return "done"

    with pytest.raises(StopIteration) as stopped:
        handler().send(None)
    assert stopped.value.value == "done"


# -- sleep --------------------------------------------------------------------------------------


def test_a_sleep_begins_when_it_is_awaited() -> None:
    turn = stepping(Turn())
    sleep = Sleep(turn, 5.0)
    assert turn.deadlines.next() is None
    turn.now = 100.0
    coroutine = wait_for(sleep, [])
    coroutine.send(None)
    assert turn.deadlines.next() == 105.0
    coroutine.close()


def test_a_sleep_awaited_twice_keeps_its_deadline() -> None:
    turn = stepping(Turn())
    sleep = Sleep(turn, 5.0)
    coroutines = [wait_for(sleep, []) for _ in range(2)]
    for now, coroutine in zip((1.0, 2.0), coroutines, strict=True):
        turn.now = now
        coroutine.send(None)
    assert turn.deadlines.next() == 6.0
    assert len(turn.deadlines) == 1
    for coroutine in coroutines:
        coroutine.close()


def test_an_endless_sleep_sets_no_deadline() -> None:
    turn = stepping(Turn())
    coroutine = wait_for(Sleep(turn, inf), [])
    coroutine.send(None)
    assert turn.deadlines.next() is None
    coroutine.close()


def test_nobody_sleeps_for_nan_seconds() -> None:
    with pytest.raises(LocalProtocolError, match="NaN"):
        Sleep(Turn(), nan)


def test_an_invocation_says_whose_it_is() -> None:
    turn = stepping(Turn())
    assert repr(turn.step) == "<Invocation handler fd=1>"
