"""Calling handlers: `def` ones at once, `async def` and blocking ones step by step. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias, final

from ..dispatch.context import Context, handled
from ..dispatch.handlers import RUNS, call_handler
from ..events import HandlerFailed, Invoke, Resume
from ..sessions.session import Session
from ..sessions.stats import Stats
from ..turn import Invocation, Steps, Turn, Wait
from ..wire.states import State

Finish: TypeAlias = Callable[[object, BaseException | None], None]
"""Gets what a handler gave, or what it raised."""


@final
class Finished:
    """What a step of a handler gives when it was the last."""


FINISHED: Final = Finished()


@final
class Ended:
    """What `advance` gives for a step that was the last: what the handler gave or raised."""

    __slots__ = ("error", "result")

    def __init__(self, result: object, error: BaseException | None) -> None:
        self.result = result
        self.error = error


def advance(
    invocation: Invocation, error: BaseException | None = None, value: Any = None
) -> Any | Ended:
    """Run the handler itself from one await to the next, and nothing of the hub's.

    `value` or `error` is what an await gave. Gives what the handler yields, or `Ended`.
    """
    token = handled.set(invocation.current)
    try:
        if error is None:
            return invocation.coroutine.send(value)
        return invocation.coroutine.throw(error)
    except StopIteration as stop:
        return Ended(stop.value, None)
    except BaseException as raised:
        return Ended(None, raised)
    finally:
        handled.reset(token)


@final
class Calls:
    """Calls handlers, and keeps count of those under way."""

    __slots__ = ("_stats", "_turn")

    def __init__(self, turn: Turn, stats: Stats) -> None:
        self._turn = turn
        self._stats = stats

    def call(
        self,
        session: Session | None,
        handler: Callable[..., Any],
        arguments: tuple[object, ...],
        name: str,
        finished: Finish,
    ) -> None:
        """Call a handler, `def` or `async def`; `finished` gets what it gave or raised."""
        token = handled.set(session)
        try:
            result = call_handler(handler, arguments)
        except Exception as error:
            finished(None, error)
            return
        finally:
            handled.reset(token)
        if isinstance(result, RUNS):
            self.invoke(session, session, result, name, finished)
        else:
            finished(result, None)

    def invoke(
        self,
        session: Session | None,
        current: Context | Session | None,
        coroutine: Steps,
        name: str,
        finished: Finish,
    ) -> None:
        """Have the transport run a handler, for a session or (None) for the hub itself.

        `current` is what the handler is for; see `dispatch.context`.
        """

        def ended(result: object, error: BaseException | None) -> None:
            if session is not None:
                self._forget(session, invocation)
            finished(result, error)

        fd = 0 if session is None else session.fd
        invocation = Invocation(coroutine, name=name, fd=fd, current=current, finished=ended)
        if session is not None:
            if session.invocations is None:
                session.invocations = []
            session.invocations.append(invocation)
        self._stats.invocations += 1
        self._turn.put(Invoke(invocation))

    def _forget(self, session: Session, invocation: Invocation) -> None:
        if session.invocations is not None and invocation in session.invocations:
            session.invocations.remove(invocation)
        if session.phase is State.CLOSED and not session.invocations:
            self._turn.deadlines.discard(session)

    def _park(self, invocation: Invocation, wait: Wait) -> None:
        """The handler waits for something of ours: say `Resume` when it happens."""

        def resume() -> None:
            if invocation.wait is wait and not invocation.done:
                self._turn.put(Resume(invocation))

        invocation.wait = wait
        invocation.hook = resume
        wait.add_hook(resume)

    def _finish(self, invocation: Invocation, result: object, error: BaseException | None) -> None:
        invocation.done = True
        self._stats.invocations -= 1
        invocation.finished(result, error)

    def report(self, session: Session | None, name: str, error: BaseException) -> None:
        if not isinstance(error, Exception):
            return  # a cancellation is nobody's failure
        self._stats.handler_failures += 1
        self._turn.put(HandlerFailed(0 if session is None else session.fd, name, error))

    def step(
        self,
        invocation: Invocation,
        error: BaseException | None = None,
        value: Any = None,
    ) -> Any:
        """Run one step of an `async` handler, from one await to the next.

        `value` or `error` is what a foreign await gave. Gives `FINISHED`, a `Wait` of ours (call
        again after its `Resume`), or what the handler yielded to the transport's loop. Only
        exceptions that are no `Exception`, such as a cancellation, come out of it.
        """
        if not self.begin(invocation):
            return FINISHED
        turn = self._turn
        before, task_before = turn.step, turn.step_task  # if this one begins within another's
        turn.step = invocation
        if turn.current_task is not None:
            turn.step_task = turn.current_task()
        outcome = advance(invocation, error, value)
        turn.step, turn.step_task = before, task_before
        return self.end(invocation, outcome)

    def begin(self, invocation: Invocation) -> bool:
        """The handler is about to take a step; False if it has ended already."""
        if invocation.done:
            return False
        if invocation.wait is not None and invocation.hook is not None:
            invocation.wait.remove_hook(invocation.hook)
            invocation.wait = invocation.hook = None
        return True

    def end(self, invocation: Invocation, outcome: Any | Ended) -> Any:
        """The step has given this; see `step` for what this gives and raises."""
        if type(outcome) is Ended:
            self._finish(invocation, outcome.result, outcome.error)
            if outcome.error is not None and not isinstance(outcome.error, Exception):
                raise outcome.error
            return FINISHED
        if isinstance(outcome, Wait):
            self._park(invocation, outcome)
        return outcome
