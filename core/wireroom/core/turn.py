"""One turn of the hub: the time it acts at, and what it has to say when it is done.

Every input gives a time and leaves effects here: sessions with bytes to send, and outputs for
the transport. `Wait` is what awaiting something of ours yields, `Invocation` is an `async`
handler under way. Pure values; nothing here knows a session or the hub.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable
from math import inf, isnan
from typing import Any, Final, Protocol, TypeAlias, TypeVar, cast, final

from .deadlines import Deadlines
from .errors import LocalProtocolError
from .events import Output
from .stopwatch import Stopwatch

T = TypeVar("T")

ForeignWait: TypeAlias = Callable[["Wait"], Generator[Any, Any, None]]


class Enter(Protocol):
    """Runs a function of ours as an input of the hub, whatever thread it is called in."""

    def __call__(self, call: Callable[[], T], /) -> T:
        """Give what `call` gives, or raise what it raises."""


Post: TypeAlias = Callable[[Callable[[], None]], object]
"""Has a function of ours run as an input of the hub, soon, whatever thread it is called in."""


@final
class Turn:
    """What the inputs of a hub leave behind until the transport has drained it.

    `wake` is called once when there is something to drain, or a deadline to arm, and nothing was
    said of it yet. A transport that drains after its own inputs needs it only for application
    code that acts between them, which is why it is called before that takes effect: the transport
    says the time (`Hub.woken`) and drains soon.

    `enter` is for transports that run application code outside of the hub's inputs, in other
    threads: what such code asks of the hub goes through it.

    `post` is how results come in from other threads (`arrive`). Without it, or `enter`, there is
    one thread, and they come in where they are said.

    `current_task` is for loops that may begin a task within `create_task` (asyncio's eager ones):
    one that a handler makes begins within the handler's step, and this tells it from the handler.
    """

    __slots__ = (
        "_arrivals",
        "_awake",
        "_before_drain",
        "_numbers",
        "_posted",
        "current_task",
        "deadlines",
        "dirty",
        "enter",
        "foreign_wait",
        "now",
        "outputs",
        "post",
        "step",
        "step_task",
        "stopwatch",
        "wake",
    )

    def __init__(self) -> None:
        self.now = 0.0
        self.deadlines: Deadlines[Hashable] = Deadlines()
        self.dirty: dict[int, None] = {}  # fds with something to send, in order
        self.outputs: deque[Output] = deque()
        self.step: Invocation | None = None  # the handler whose step is running
        self.step_task: object = None  # in which task
        self.current_task: Callable[[], object] | None = None
        self.wake: Callable[[], None] | None = None
        self.foreign_wait: ForeignWait | None = None
        self.enter: Enter | None = None
        self.post: Post | None = None
        self.stopwatch: Stopwatch | None = None  # the application's, if it measures
        self._arrivals: deque[Callable[[], object]] = deque()  # to be called in the next input
        self._posted = False  # whether that input was asked for
        self._awake = False
        self._numbers = 0
        self._before_drain: list[Callable[[], None]] = []

    def next_number(self) -> int:
        """1, 2, 3 …: names that no two things of a hub share."""
        self._numbers += 1
        return self._numbers

    def mark(self, fd: int) -> None:
        """`fd` has something to send."""
        self.dirty[fd] = None
        if not self._awake:
            self.wake_once()

    def put(self, output: Output) -> None:
        """Say something to the transport."""
        self.outputs.append(output)
        if not self._awake:
            self.wake_once()

    def before_drain(self, call: Callable[[], None]) -> None:
        """Call this once, when the turn ends."""
        self._before_drain.append(call)
        self.wake_once()

    def take_dirty(self) -> list[int]:
        """End the turn: the fds with something to send, once."""
        while self._before_drain:
            self._before_drain.pop(0)()
        self._awake = False
        fds = list(self.dirty)
        self.dirty.clear()
        return fds

    def entered(self, call: Callable[[], T]) -> T:
        """Call something that reads or changes the hub, from wherever application code runs."""
        return call() if self.enter is None else self.enter(call)

    def is_in_step(self) -> bool:
        """Whether what runs now is a handler's step, and no task that was begun within it."""
        if self.step is None:
            return False
        return self.current_task is None or self.current_task() is self.step_task

    def arrive(self, call: Callable[[], object]) -> None:
        """Call this as an input of the hub, soon, in the order said. In any thread.

        Calls that come before the input has begun share it. (Each step of this is atomic, and an
        input too many does no harm, so that threads need no lock.)
        """
        self._arrivals.append(call)
        if not self._posted:
            self._posted = True
            if self.post is not None:
                self.post(self._take_arrivals)
            else:
                self.entered(self._take_arrivals)

    def _take_arrivals(self) -> None:
        self._posted = False
        while self._arrivals:
            self._arrivals.popleft()()

    def wake_once(self) -> None:
        """There is something to drain: call `wake`, if it does not know."""
        if not self._awake and self.wake is not None:
            self._awake = True
            self.wake()


class Wait:
    """Something of ours that will happen. It carries no value: what happened is looked up.

    Awaited in a handler that the hub steps, it is yielded to whoever drives the handler.
    Awaited in a task of the transport's loop, the transport's `foreign_wait` waits for it.
    """

    __slots__ = ("_hooks", "_turn", "done")

    def __init__(self, turn: Turn) -> None:
        self.done = False
        self._turn = turn
        self._hooks: list[Callable[[], object]] = []

    def happen(self) -> None:
        """It happened; whoever waits goes on."""
        if not self.done:
            self.done = True
            hooks, self._hooks = self._hooks, []
            for hook in hooks:
                hook()

    def add_hook(self, hook: Callable[[], object]) -> None:
        """Call `hook` when it happens (at once, if it has)."""
        if self.done:
            hook()
        else:
            self._hooks.append(hook)

    def remove_hook(self, hook: Callable[[], object]) -> None:
        """Do not call `hook` any more."""
        if hook in self._hooks:
            self._hooks.remove(hook)

    def __await__(self) -> Generator[Any, Any, None]:
        if self.done:
            return
        if self._turn.is_in_step():
            while not self.done:  # a step may be taken for a wait that was given up
                yield self
        elif self._turn.foreign_wait is not None:
            yield from self._turn.foreign_wait(self)
        else:
            raise LocalProtocolError("nobody drives this: await it in a handler")


@final
class Sleep(Wait):
    """Happens `seconds` after it is first awaited, by the hub's own clock."""

    __slots__ = ("seconds",)

    def __init__(self, turn: Turn, seconds: float) -> None:
        super().__init__(turn)
        if isnan(seconds):
            raise LocalProtocolError("cannot sleep for NaN seconds")
        self.seconds = seconds

    def __await__(self) -> Generator[Any, Any, None]:
        if not self.done:
            self._turn.entered(self._begin)
        try:
            yield from super().__await__()
        finally:
            if not self.done:
                self._turn.entered(self._give_up)

    def _begin(self) -> None:
        if not self.done and self.seconds < inf and self._turn.deadlines.get(self) is None:
            self._turn.wake_once()
            self._turn.deadlines.set(self, self._turn.now + self.seconds)

    def _give_up(self) -> None:
        if not self.done and not self._hooks:  # given up, and by everybody
            self._turn.deadlines.discard(self)


@final
class Ready:
    """What there is nothing to wait for: awaiting it goes on at once."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return cast(Generator[Any, Any, None], iter(()))  # the cheapest that is over at once


READY: Final = Ready()


class Steps(Protocol):
    """What a handler is run by: a coroutine, or what takes its steps for it."""

    def send(self, value: Any) -> Any:
        """The next step; `StopIteration` is the end."""

    def throw(self, error: BaseException) -> Any:
        """The next step, which is an exception."""

    def close(self) -> None:
        """Give it up."""


@final
class BlockingCall:
    """A call of a handler that is marked as blocking: a single step, which may take long."""

    __slots__ = ("_arguments", "_handler")

    def __init__(self, handler: Callable[..., object], arguments: tuple[object, ...]) -> None:
        self._handler = handler
        self._arguments = arguments

    def send(self, value: Any) -> Any:
        """Call the handler; what it gives comes with a `StopIteration`, as a coroutine's does."""
        try:
            result = self._handler(*self._arguments)
        except StopIteration as error:
            failure = RuntimeError("the handler raised StopIteration")
            failure.__cause__ = error  # mypyc compiles no `from`
            raise failure from error
        raise StopIteration(result)

    def throw(self, error: BaseException) -> Any:
        """Give it up before it was called."""
        raise error

    def close(self) -> None:
        """Nothing is held."""


@final
class Invocation:
    """One call of an `async def` handler, or of a blocking one, from `Invoke` to its end.

    `name` is the handler's, `fd` the session's it serves, `current` what it sees as the current
    context or session. `finished(result, error)` is called
    by the hub when it ends.
    """

    __slots__ = (
        "cancelled",
        "coroutine",
        "current",
        "done",
        "fd",
        "finished",
        "hook",
        "name",
        "wait",
    )

    def __init__(
        self,
        coroutine: Steps,
        *,
        name: str,
        fd: int,
        current: Any,
        finished: Callable[[object, BaseException | None], None],
    ) -> None:
        self.coroutine = coroutine
        self.name = name
        self.fd = fd
        self.current = current
        self.finished = finished
        self.done = False
        self.cancelled = False  # whether a Cancel was put out
        self.hook: Callable[[], object] | None = None  # what that will call
        self.wait: Wait | None = None  # what it is parked at, if it is one of ours

    def __repr__(self) -> str:
        return f"<Invocation {self.name} fd={self.fd}>"

    @property
    def is_blocking(self) -> bool:
        """Whether it is a plain call that may take long, to be made in a thread."""
        return isinstance(self.coroutine, BlockingCall)
