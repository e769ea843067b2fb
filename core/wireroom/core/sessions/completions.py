"""Completions: what is done elsewhere, in another thread or process, comes in as an input. Pure.

stored = await ctx.hub.completion(executor.submit(store, message), timeout_s=5.0)

Whatever has `add_done_callback` and `result` will do: a `concurrent.futures.Future` of a thread
pool, of a store's own thread, or of a client of something else. The same handler can await it on
every transport, and its result comes into the hub through one door.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, final

from ..turn import Sleep, Turn, Wait

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Report: TypeAlias = Callable[[Exception], object]


class Future(Protocol[T_co]):
    """What will have a result."""

    def add_done_callback(self, callback: Callable[[Any], object], /) -> object:
        """Call `callback(self)`, in any thread, when it is done; at once if it is."""

    def result(self) -> T_co:
        """What it gave, or what it raised; called when it is done."""


@final
class Completion(Generic[T]):
    """A future's result, for a handler to await. Made by `Hub.completion`.

    Awaiting it gives the result or raises what the future raised, and `TimeoutError` after
    `timeout_s` seconds of the hub's clock. A future that nobody waits for any more goes on.
    """

    __slots__ = ("_arrived", "_future", "_report", "_timeout_s", "_turn")

    def __init__(self, turn: Turn, future: Future[T], timeout_s: float, report: Report) -> None:
        self._turn = turn
        self._future = future
        self._timeout_s = timeout_s
        self._report = report
        self._arrived = Wait(turn)
        future.add_done_callback(lambda _: turn.arrive(self._arrived.happen))

    @property
    def done(self) -> bool:
        """Whether the hub knows the result."""
        return self._arrived.done

    def then(self, call: Callable[[T], object]) -> None:
        """Call this with the result, as an input of the hub, before a handler that awaits it goes
        on, and even if the handler was cancelled; not if the future has failed.

        Futures that are done in an order are so in this order too. What `call` raises is reported
        as a handler's failure.
        """

        def succeeded() -> None:
            try:
                result = self._future.result()
            except Exception:  # for whoever awaits it
                return
            try:
                call(result)
            except Exception as error:
                self._report(error)

        self._turn.entered(lambda: self._arrived.add_hook(succeeded))

    def __await__(self) -> Generator[Any, Any, T]:
        if not self._arrived.done:
            limit = Sleep(self._turn, self._timeout_s)
            self._turn.entered(lambda: self._arrived.add_hook(limit.happen))
            try:
                yield from limit.__await__()
            finally:
                self._turn.entered(lambda: self._stop_waiting(limit))
        if not self._arrived.done:
            raise TimeoutError(f"not done within {self._timeout_s:g} s")
        return self._future.result()

    def _stop_waiting(self, limit: Sleep) -> None:
        self._arrived.remove_hook(limit.happen)
        self._turn.deadlines.discard(limit)
