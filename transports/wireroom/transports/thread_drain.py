"""A hub in threads: one lock, the steps of handlers, a clock, calls from any thread.

The lock is held for one step of the hub (`act`): an input and the `def` handlers that are a part of
that, and what the hub then has to say. Sockets are written after that, by whoever has it to write.
A step of an `async def` handler, or a blocking one, is run without the lock, by the connection's
thread if it comes of what that has read. If it takes long, another thread reads on meanwhile.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from math import inf
from typing import Any, Final, TypeVar, Unpack, final

from wireroom.core import FINISHED, App, Hub, Invocation, LocalProtocolError, Wait
from wireroom.core.backplane import BackplaneInput

from .backplane_thread import BackplaneThread
from .drain import LAST_WAIT_S, Drain, DrainOptions
from .socket_threads import Connection
from .threads import Threads

T = TypeVar("T")

_TAKE_OVER_S: Final = 0.1  # a step that lasts so long gets its connection another reader


@final
class HandlerCancelled(BaseException):
    """A handler has to end: its session has, or the server does. As a cancellation anywhere else,
    it is raised where the handler waits, and is no `Exception`."""


@final
class _Task:
    """One handler under way, of which at most one thread runs a step."""

    __slots__ = ("_drain", "context", "error", "invocation", "is_due")

    def __init__(self, drain: ThreadDrain, invocation: Invocation) -> None:
        self._drain = drain
        self.invocation = invocation
        self.context = contextvars.Context()
        self.error: BaseException | None = None  # what its next step is
        self.is_due = False  # whether a thread runs a step, or will

    def run(self) -> None:
        """Run the next step, and those that come of it; a thread's work."""
        steps = deque([self])
        while steps:
            steps.popleft().step(steps)

    def step(self, steps: deque[_Task]) -> None:
        """Run one step. What comes of it for the same session is put into `steps`."""
        error, self.error = self.error, None
        outcome = self.context.run(Hub.advance, self.invocation, error)
        drain = self._drain
        drain.act(lambda: drain.stepped(self, outcome), steps, self.invocation.fd)


class ThreadDrain(Drain[Connection]):
    """A hub whose inputs are given in any thread. See `Drain`."""

    def __init__(
        self,
        app: App,
        logger: logging.Logger,
        *,
        stack_bytes: int,
        secure: bool,
        **options: Unpack[DrainOptions],
    ) -> None:
        self.lock = threading.RLock()  # around the hub, and all that is said to be under it
        super().__init__(
            app,
            logger,
            wake=self._woken,
            foreign_wait=_wait_in_step,
            enter=self.act,
            secure=secure,
            **options,
        )
        app.check_loop(None)
        self.threads = Threads("wireroom", stack_bytes=stack_bytes)
        self.sockets: set[Connection] = set()  # all, and those without an fd (yet)
        self.full: set[Connection] = set()  # those whose sockets take no bytes for now
        self.to_flush: list[Connection] = []  # of this step of the hub
        self._tasks: dict[Invocation, _Task] = {}
        self._due: list[_Task] = []  # of this step of the hub
        self._owner = 0  # the thread whose step it is
        self._awake = False
        self._clock = threading.Condition(self.lock)
        self._clock_thread: threading.Thread
        self._clock_ended = False
        self._armed = inf
        # Connections whose threads run a handler's step, by since when; whoever takes one out
        # reads on.
        self._stepping: dict[Connection, float] = {}
        self._watching = False  # whether the clock looks at that
        self._changed = threading.Condition(self.lock)  # what others wait for who look again then
        self._was_stopped = False  # whether the clock is to say so
        self._backplane_thread: BackplaneThread | None = None

    def begin(self) -> None:
        """The hub begins, and its clock, and the backplane."""
        self.act(lambda: self.hub.start(now=self.hub.now))
        # Made only now: Python 3.13 starts no thread that was made before a fork (gunicorn forks).
        self._clock_thread = threading.Thread(
            target=self._keep_time, name="wireroom-clock", daemon=True
        )
        self._clock_thread.start()
        if self.backplane is not None and self.link is not None:
            self._backplane_thread = BackplaneThread(self.backplane, self.link)

    # -- steps of the hub ---------------------------------------------------------------------

    def act(self, call: Callable[[], T], steps: deque[_Task] | None = None, fd: int = 0) -> T:
        """Run `call` as one step of the hub, in any thread, and do what the hub then says.

        Within another step it is a part of that. Handlers' steps that come of it are left to the
        caller, in `steps`, if they are of the session `fd`; others get threads.
        """
        me = threading.get_ident()
        if self._owner == me:
            return call()
        flushed: list[Connection] = []
        due: list[_Task] = []
        try:
            with self.lock:
                self._owner = me
                try:
                    self.hub.woken(now=time.monotonic())
                    return call()
                finally:
                    try:
                        flushed, due = self._drain_all()
                    finally:
                        self._owner = 0
        finally:
            for connection in flushed:
                connection.flush()
            for task in due:
                if steps is not None and fd and task.invocation.fd == fd:
                    steps.append(task)
                else:
                    self.threads.run_or_wait(task.run)

    def post(self, call: Callable[[], None]) -> None:
        self.act(call)

    def deliver(self, events: Sequence[BackplaneInput]) -> None:
        self.act(lambda: self._deliver(events))

    def _deliver(self, events: Sequence[BackplaneInput]) -> None:
        for event in events:
            self.hub.deliver(event, now=self.hub.now)

    def _drain_all(self) -> tuple[list[Connection], list[_Task]]:
        """Drain the hub; gives which connections have something to write, and the handlers' steps
        to run."""
        while True:
            self._awake = False
            self.drain()
            if not self._awake:
                break
        if self.is_quiet:
            self._changed.notify_all()
        done = self.to_flush, self._due
        self.to_flush, self._due = [], []
        return done

    def _woken(self) -> None:
        self._awake = True

    def time(self) -> float:
        return time.monotonic()

    # -- the clock ----------------------------------------------------------------------------

    def arm(self, when: float | None) -> None:
        """One timer; one that is early costs a look, so it is moved only to be earlier."""
        if when is not None and when < self._armed:
            self._armed = when
            self._clock.notify()

    def _keep_time(self) -> None:
        """Handle timeouts, until the server has ended; a thread's work."""
        while True:
            with self._clock:
                while not self._clock_ended and (wait_s := self._armed - time.monotonic()) > 0:
                    if self._was_stopped:
                        self._was_stopped = False
                        self._changed.notify_all()
                    if self._watching:
                        wait_s = min(wait_s, _TAKE_OVER_S)
                    self._clock.wait(min(wait_s, threading.TIMEOUT_MAX))
                    if self._watching:
                        break
                if self._clock_ended:
                    return
                is_due = self._armed <= time.monotonic()
                if is_due:
                    self._armed = inf
            try:
                if is_due:
                    self.act(self._time_out)
                self._take_over()
            except Exception:
                self.logger.exception("a timeout failed")

    def _time_out(self) -> None:
        for connection in self.full:
            connection.report_unsent()
        self.hub.handle_timeout(now=self.hub.now)

    # -- handlers -----------------------------------------------------------------------------

    def start_handler(self, invocation: Invocation) -> None:
        task = self._tasks[invocation] = _Task(self, invocation)
        self._make_due(task)

    def resume_handler(self, invocation: Invocation) -> None:
        task = self._tasks.get(invocation)
        if task is not None and not task.is_due:
            self._make_due(task)

    def cancel_handler(self, invocation: Invocation) -> None:
        task = self._tasks[invocation]
        task.error = HandlerCancelled()
        if not task.is_due:
            self._make_due(task)

    def _make_due(self, task: _Task) -> None:
        task.is_due = self.hub.begin_step(task.invocation)
        if task.is_due:
            self._due.append(task)

    def stepped(self, task: _Task, outcome: Any) -> None:
        """A handler has taken a step; under the lock."""
        invocation = task.invocation
        try:
            yielded = self.hub.end_step(invocation, outcome, now=self.hub.now)
        except BaseException as error:
            self.interrupted(invocation, error, wanted=isinstance(error, HandlerCancelled))
            yielded = FINISHED
        if yielded is FINISHED:
            del self._tasks[invocation]
            self.ended(invocation)
            return
        task.is_due = False
        if not isinstance(yielded, Wait) and task.error is None:
            task.error = LocalProtocolError(
                f"handler {invocation.name} awaited something that is not Wireroom's: in threads"
                " there is no loop for it; await sleep(), receive(), drain() or request() of the"
                " session, mark a def handler as blocking, or serve the app with asyncio or trio"
            )
        if task.error is not None:
            self._make_due(task)

    def run_steps(self, connection: Connection, steps: deque[_Task]) -> bool:
        """Run steps of handlers in the connection's thread; False if another reads on by now."""
        self._stepping[connection] = time.monotonic()
        if not self._watching:
            with self._clock:
                self._watching = True
                self._clock.notify()
        try:
            while steps:
                steps.popleft().step(steps)
        except Exception:
            self.logger.exception("a step of a handler failed")
        return self._stepping.pop(connection, None) is not None

    def _take_over(self) -> None:
        """Give connections whose threads are busy with a handler for long another reader."""
        self._watching = False
        for connection, since in list(self._stepping.items()):
            self._watching = True
            if (
                since + _TAKE_OVER_S <= time.monotonic()
                and self._stepping.pop(connection, None) is not None
            ):
                self.threads.run_or_wait(connection.read)

    # -- the end ------------------------------------------------------------------------------

    def stop(self) -> None:
        """Make `serve_forever` return; said twice, have `shutdown` wait for nobody. This may be
        called in any thread, in a handler, and in a signal's handler."""
        with self.lock:
            self._stops += 1
            # Told by the clock's thread: a signal's handler may interrupt its own thread just when
            # that has looked, and does not wait yet.
            self._was_stopped = True
            self._clock.notify()

    def change(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def serve_forever(self) -> None:
        """Wait until `stop` or `shutdown` is called, in another thread or by a signal."""
        self._check_may_wait()
        with self._changed:
            self._changed.wait_for(lambda: self.is_stopped or self._report is not None)

    def wait_idle(self, timeout_s: float | None = None) -> bool:
        """Wait until no connection that was accepted is left, and no handler; False if that takes
        longer."""
        self._check_may_wait()
        with self._changed:
            return self._changed.wait_for(lambda: self.is_quiet and not self.sockets, timeout_s)

    def _check_may_wait(self) -> None:
        if self._owner == threading.get_ident():
            raise LocalProtocolError("this waits for others: in a handler, call stop()")

    def end(self) -> None:
        """Close every session, wait for them and their handlers, and abort the rest."""
        steps = self.ending()
        while (until := self.act(lambda: next(steps, None))) is not None:
            with self._changed:
                self._changed.wait_for(*until)
        if self._backplane_thread is not None:
            self._backplane_thread.end()
        for connection in list(self.sockets):  # refused ones that linger, and TLS handshakes
            connection.abort()
        with self._clock:
            self._clock_ended = True
            self._clock.notify()
        self._clock_thread.join()
        self.threads.close(LAST_WAIT_S)


def _wait_in_step(wait: Wait) -> Generator[Any, Any, None]:
    """A handler's step waits for what is ours."""
    while not wait.done:
        yield wait
