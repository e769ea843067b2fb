"""What the transports of event loops, asyncio's and trio's, have in common: handlers, and the end.

`async def` handlers are tasks of the loop, which `Drive` steps. Handlers marked as blocking run in
threads, and what they ask of the hub is done in the loop's thread, while they wait.
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from math import inf
from typing import Any, Final, TypeVar, Unpack, final

import anyio

from wireroom.core import FINISHED, App, Hub, Invocation, Wait

from .drain import C, Drain, DrainOptions
from .threads import Threads

T = TypeVar("T")

BLOCKING_MAX: Final = 64  # blocking handlers at a time; more of them wait


class LoopDrain(Drain[C]):
    """A hub whose inputs are all given in one thread, that of a loop. See `Drain`."""

    def __init__(
        self,
        app: App,
        logger: logging.Logger,
        *,
        wake: Callable[[], None],
        foreign_wait: Callable[[Wait], Generator[Any, Any, None]],
        current_task: Callable[[], object],
        secure: bool = False,
        **options: Unpack[DrainOptions],
    ) -> None:
        super().__init__(
            app,
            logger,
            wake=wake,
            foreign_wait=foreign_wait,
            enter=self._enter if app.has_blocking_handlers else None,
            current_task=current_task,
            secure=secure,
            **options,
        )
        self._loop_thread = 0
        self._threads = Threads("wireroom-blocking", stack_bytes=0)
        self._blocking = 0  # handlers that run in threads
        self._waiting: deque[Invocation] = deque()  # for one of them to end
        self._changed: anyio.Event | None = None  # for who waits in `wait_until`

    def begin(self) -> None:
        """The hub begins, in the thread that this is called in."""
        self._loop_thread = threading.get_ident()
        self.hub.start(now=self.time())

    # -- what a transport does ----------------------------------------------------------------

    @abstractmethod
    def stepped(self) -> None:
        """A handler has taken a step: drain, now or soon."""

    @abstractmethod
    def park(self, invocation: Invocation) -> Generator[Any, Any, None]:
        """Wait, in the handler's task, for its `Resume`."""

    @abstractmethod
    def cancelled(self, invocation: Invocation, error: BaseException) -> None:
        """A handler's step has ended with what is no `Exception`."""

    @abstractmethod
    def start_task(self, invocation: Invocation) -> None:
        """Run an `async def` handler to its end; then call `ended`."""

    @abstractmethod
    def call_from_thread(self, function: Callable[[Hub], T]) -> concurrent.futures.Future[T]:
        """Have `function(hub)` called in the server's loop, from any thread."""

    # -- handlers -----------------------------------------------------------------------------

    def start_handler(self, invocation: Invocation) -> None:
        if not invocation.is_blocking:
            self.start_task(invocation)
        elif self._blocking < BLOCKING_MAX:
            self._start_blocking(invocation)
        else:
            self._waiting.append(invocation)

    def _start_blocking(self, invocation: Invocation) -> None:
        if not self.hub.begin_step(invocation):
            self.ended(invocation)
            return
        self._blocking += 1
        self._threads.run_or_wait(lambda: self._run_blocking(invocation))

    def _run_blocking(self, invocation: Invocation) -> None:
        """In a thread: the handler, and the end of it in the loop's."""
        outcome = self.hub.advance(invocation)

        def end(hub: Hub) -> None:
            self._blocking -= 1
            self.ended(invocation)
            if self._waiting:
                self._start_blocking(self._waiting.popleft())
            hub.end_step(invocation, outcome, now=self.time())
            self.check_quiet()

        with suppress(RuntimeError):  # the loop has ended, and the hub with it
            self.call_from_thread(end)

    def post(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended, and the hub with it
            self.call_from_thread(lambda hub: call())

    def _enter(self, call: Callable[[], T]) -> T:
        """An input of the hub from wherever application code runs."""
        if threading.get_ident() == self._loop_thread:
            return call()
        return self.call_from_thread(lambda hub: call()).result()

    # -- the end ------------------------------------------------------------------------------

    def change(self) -> None:
        if self._changed is not None:
            self._changed.set()

    def check_quiet(self) -> None:
        """A handler, or a connection, has ended."""
        if self.is_quiet:
            self.change()

    async def wait_until(self, happened: Callable[[], bool], timeout_s: float = inf) -> None:
        """Wait for what is followed by a `change`, at most so long."""
        with anyio.move_on_after(timeout_s):
            while not happened():
                if self._changed is None or self._changed.is_set():
                    self._changed = anyio.Event()
                await self._changed.wait()

    async def serve_forever(self) -> None:
        """Wait until `stop` is called, or this is cancelled."""
        await self.wait_until(lambda: self.is_stopped)

    async def wait_idle(self) -> None:
        """Wait until there is no connection and no handler."""
        await self.wait_until(lambda: self.is_quiet)

    async def end(self) -> None:
        """Close every session, wait for them and their handlers, and abort the rest."""
        for until in self.ending():
            await self.wait_until(*until)


def settle(future: concurrent.futures.Future[T], call: Callable[[], T]) -> None:
    """Give `future` what `call` gives or raises; nothing is called if it was cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)


@final
class Drive:
    """Runs one `async def` handler where it is awaited: steps it in the hub, and waits as it
    waits, for what is ours or for what is the loop's."""

    __slots__ = ("_invocation", "_loop")

    def __init__(self, loop: LoopDrain[Any], invocation: Invocation) -> None:
        self._loop = loop
        self._invocation = invocation

    def __await__(self) -> Generator[Any, Any, None]:
        loop = self._loop
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                yielded = loop.hub.resume(self._invocation, error, now=loop.time(), value=value)
            except BaseException as raised:
                loop.stepped()
                loop.cancelled(self._invocation, raised)
                raise
            loop.stepped()
            if yielded is FINISHED:
                return
            value = error = None
            try:
                if isinstance(yielded, Wait):
                    yield from loop.park(self._invocation)
                else:
                    value = yield yielded
            except BaseException as raised:  # a cancellation too: the handler has to see it
                if loop.gave_up:  # it has ignored one, and may do so for ever
                    raise
                error = raised
