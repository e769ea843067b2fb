"""A hub in the tasks of a loop, asyncio's or trio's: timers, handlers, calls from outside.

What serves sockets (`transports.anyio`) and what lives in another server (`transports.asgi`) derive
from `TaskDrain`. Inputs are drained at once; one task, `run_clock`, sees to the time and to what
the application does between two inputs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import sys
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from functools import partial
from math import inf
from typing import Any, TypeAlias, TypeVar, Unpack

import anyio

from wireroom.core import App, Hub, Invocation, LocalProtocolError, Wait
from wireroom.core.backplane import BackplaneInput

from .drain import C, DrainOptions
from .loops import Drive, LoopDrain, settle

T = TypeVar("T")

_Call: TypeAlias = tuple[Callable[[Hub], Any], concurrent.futures.Future[Any]]


class TaskDrain(LoopDrain[C]):
    """A hub whose handlers are tasks. See `Drain`."""

    def __init__(
        self,
        app: App,
        logger: logging.Logger,
        *,
        secure: bool = False,
        **options: Unpack[DrainOptions],
    ) -> None:
        super().__init__(
            app,
            logger,
            wake=self._woken,
            foreign_wait=_foreign_wait,
            current_task=self._current_task,
            secure=secure,
            **options,
        )
        self._backplane_scope = anyio.CancelScope()
        self._is_trio = False  # where no task begins at once
        self._clock: Callable[[], float] = _not_started
        self._post: Callable[[Callable[[], object]], object] = _not_started
        self._cancellation: type[BaseException] = BaseException
        self._scopes: dict[Invocation, anyio.CancelScope] = {}
        self._parked: dict[Invocation, anyio.Event] = {}
        self._armed_for = inf  # when the clock will look at the hub
        self._must_look: anyio.Event | None = None  # that it has to do so now
        self._has_work = False  # that it is to drain when it does
        self._calls: deque[_Call] = deque()  # from other threads
        self._clock_ended = False

    def begin(self) -> None:
        """The hub begins, in this loop and thread. Raises `LocalProtocolError` if it has begun, and
        `ConfigurationError` if a handler requires the other loop."""
        if self._clock is not _not_started:
            raise LocalProtocolError("it is started once; make another")
        app = self.hub.app
        trio = sys.modules.get("trio")
        if trio is not None and trio.lowlevel.in_trio_run():
            app.check_loop("trio")
            self._is_trio = True
            self._clock = trio.current_time
            self._post = trio.lowlevel.current_trio_token().run_sync_soon
        else:
            app.check_loop("asyncio")
            loop = asyncio.get_running_loop()
            self._clock = loop.time
            self._post = loop.call_soon_threadsafe
        self._cancellation = anyio.get_cancelled_exc_class()
        super().begin()

    def _current_task(self) -> object:
        return None if self._is_trio else asyncio.current_task()

    # -- time ---------------------------------------------------------------------------------

    def time(self) -> float:
        """The loop's clock."""
        return self._clock()

    async def run_clock(self) -> None:
        """See to the hub's deadlines, and to what was not an input of ours, until cancelled."""
        self._arm_clock()
        try:
            while True:
                self._must_look = anyio.Event()
                if not self._has_work:
                    with anyio.move_on_after(self._armed_for - self.time()):
                        await self._must_look.wait()
                self._has_work = False
                if self._armed_for <= self.time():
                    self._armed_for = inf
                    self.before_timeout()
                    self.hub.handle_timeout(now=self.time())
                self._run_calls()
                self.drain()
        finally:
            self._clock_ended = True
            self._run_calls()

    def _arm_clock(self) -> None:
        self._armed_for = inf
        self.arm(self.hub.next_timeout())

    def arm(self, when: float | None) -> None:
        """A time that is early costs a look, so the clock is woken only to look earlier."""
        if when is not None and when < self._armed_for:
            self._armed_for = when
            if self._must_look is not None:
                self._must_look.set()

    def before_timeout(self) -> None:
        """Say what the sockets have not taken, for those that take nothing."""

    def _woken(self) -> None:
        """Application code acts between two inputs of ours."""
        self._look()
        self.hub.woken(now=self.time())

    def _look(self) -> None:
        """There is something for `run_clock`."""
        self._has_work = True
        if self._must_look is not None:
            self._must_look.set()

    # -- handlers -----------------------------------------------------------------------------

    @abstractmethod
    def spawn(self, coroutine: Callable[..., Coroutine[Any, Any, object]], *arguments: Any) -> None:
        """Run a task in the background."""

    def start_task(self, invocation: Invocation) -> None:
        scope = self._scopes[invocation] = anyio.CancelScope()
        self.spawn(self._run_handler, invocation, scope)

    async def _run_handler(self, invocation: Invocation, scope: anyio.CancelScope) -> None:
        with scope:
            try:
                await Drive(self, invocation)
            finally:
                del self._scopes[invocation]
                self.ended(invocation)
                self.check_quiet()

    def cancel_handler(self, invocation: Invocation) -> None:
        scope = self._scopes.get(invocation)
        if scope is not None:
            scope.cancel()

    def cancelled(self, invocation: Invocation, error: BaseException) -> None:
        scope = self._scopes.get(invocation)
        wanted = scope is None or scope.cancel_called or not isinstance(error, self._cancellation)
        self.interrupted(invocation, error, wanted=wanted)

    def stepped(self) -> None:
        self.drain()

    def park(self, invocation: Invocation) -> Generator[Any, Any, None]:
        event = self._parked[invocation] = anyio.Event()
        if invocation.wait is None or invocation.wait.done:
            event.set()  # it happened when the handler's step was drained
        try:
            yield from event.wait().__await__()
        finally:
            del self._parked[invocation]

    def resume_handler(self, invocation: Invocation) -> None:
        event = self._parked.get(invocation)
        if event is not None:
            event.set()

    # -- calls from outside -------------------------------------------------------------------

    async def call(self, function: Callable[[Hub], T]) -> T:
        """Call `function(hub)` as an input of the hub, from a task of the same loop, and give what
        it gives; what it sends is sent at once. From another thread, see `call_from_thread`."""
        self.hub.woken(now=self.time())
        try:
            return function(self.hub)
        finally:
            self.drain()

    def call_from_thread(self, function: Callable[[Hub], T]) -> concurrent.futures.Future[T]:
        """Have `function(hub)` called in the server's loop, from any thread.

        It fails with `LocalProtocolError` if the server has ended, and raises RuntimeError if its
        loop has.
        """
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._calls.append((function, future))
        self._post(self._look_at_calls)
        return future

    def _look_at_calls(self) -> None:
        """In the loop, but in none of its tasks, where nothing of anyio works: have one look."""
        self._look()
        if self._clock_ended:
            self._run_calls()

    def _run_calls(self) -> None:
        while self._calls:
            function, future = self._calls.popleft()
            settle(future, partial(self._call, function))

    def _call(self, function: Callable[[Hub], T]) -> T:
        if self._clock_ended:
            raise LocalProtocolError("the server has ended")
        self.hub.woken(now=self.time())
        return function(self.hub)

    # -- other nodes --------------------------------------------------------------------------

    def deliver(self, events: Sequence[BackplaneInput]) -> None:
        self._look()
        for event in events:
            self.hub.deliver(event, now=self.time())

    async def run_backplane(self) -> None:
        """Be one of several nodes, until the end."""
        if self.backplane is not None and self.link is not None:
            with self._backplane_scope:
                await self.backplane.run(self.link)

    async def end(self) -> None:
        await super().end()
        self._backplane_scope.cancel()


def _foreign_wait(wait: Wait) -> Generator[Any, Any, None]:
    """For a task of the application's own that awaits something of ours."""
    event = anyio.Event()
    wait.add_hook(event.set)
    try:
        yield from event.wait().__await__()
    finally:
        wait.remove_hook(event.set)


def _not_started(*arguments: object) -> Any:
    raise LocalProtocolError("start the server first")
