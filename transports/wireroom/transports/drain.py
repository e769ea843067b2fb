"""What all transports have in common: taking from the hub what it has to say, and doing it.

A transport derives its server from `Drain`, gives the hub its inputs, and calls `drain` after them.
What differs (how a socket is written, a handler run, a timer set) are the abstract methods and
those of `Connection`. Nothing here knows a rule of the protocol, or a kind of loop.
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypedDict, TypeVar

from wireroom.backplanes.link import Backplane, Link
from wireroom.core import (
    App,
    Cancel,
    ConfigurationError,
    Disconnect,
    HandlerFailed,
    Hub,
    Invocation,
    Invoke,
    Output,
    PauseReading,
    RequestAnswered,
    Resume,
    ResumeReading,
    SessionClosed,
    SessionOpened,
    ShutdownWrite,
    Wait,
)
from wireroom.core.backplane import (
    Append,
    BackplaneInput,
    Publish,
    ReadHistory,
    Subscribe,
    Unsubscribe,
)
from wireroom.core.turn import Enter

from .log_outputs import log_fact, log_failure


class Connection(Protocol):
    """A socket, or what stands for one, as the drain uses it."""

    def write(self) -> None:
        """The hub has bytes: take them with `data_to_send`, if the socket accepts bytes now."""

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`."""

    def resume_reading(self) -> None:
        """Read again."""

    def shutdown_write(self) -> None:
        """Send no more once what was taken is sent, and read on; or close, where that cannot be."""

    def disconnect(self, *, abort: bool) -> None:
        """Close: at once, or when what was taken is sent. Then say `connection_lost`."""


C = TypeVar("C", bound=Connection)

FLUSH_S: Final = 2.0  # for what waits to reach the backplane, at the end
LAST_WAIT_S: Final = 1.0  # for what was aborted to end


class DrainOptions(TypedDict):
    """What every `Drain` is told by the user of its transport."""

    grace_s: float
    spread_s: float
    close_code: int
    backplane: Backplane | None


class Until(NamedTuple):
    """What is to be waited for, and not longer than so many seconds."""

    happened: Callable[[], bool]
    timeout_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class ShutdownReport:
    """How a server ended. `closed` sessions got a Close and ended in time, `aborted` connections
    and `cancelled` handlers did not, `unfinished` handlers have ignored even their cancellation;
    `dropped_messages` were in the outboxes of those that were given up."""

    closed: int
    aborted: int
    cancelled: int
    unfinished: int
    dropped_messages: int


class Drain(ABC, Generic[C]):
    """A hub and the connections that a transport has for it, by fd.

    Raises `ConfigurationError` for an app or a setting that cannot work.
    """

    def __init__(
        self,
        app: App,
        logger: logging.Logger,
        *,
        wake: Callable[[], None],
        foreign_wait: Callable[[Wait], Generator[Any, Any, None]],
        enter: Enter | None = None,
        current_task: Callable[[], object] | None = None,
        secure: bool = False,
        grace_s: float,
        spread_s: float,
        close_code: int,
        backplane: Backplane | None = None,
    ) -> None:
        if secure and app.proxy_protocol:
            raise ConfigurationError(
                "ssl, App.proxy_protocol",
                "a proxy's header comes before TLS: end the TLS in the proxy, or send no header",
            )
        for name, seconds in (("grace_s", grace_s), ("spread_s", spread_s)):
            if not seconds >= 0:
                raise ConfigurationError(name, f"must not be negative, not {seconds!r}")
        if close_code not in (1001, 1012):
            raise ConfigurationError(
                "close_code", f"must be 1001 (going away) or 1012 (restart), not {close_code!r}"
            )
        name = secrets.token_hex(4)
        self.backplane = backplane
        self.link = None if backplane is None else Link(name, self._take_delivered)
        self.hub = Hub(
            app,
            wake=wake,
            foreign_wait=foreign_wait,
            enter=enter,
            post=self.post,
            current_task=current_task,
            epoch=name,
            backplane=None if backplane is None else backplane.settings,
        )
        self.logger = logger
        self.connections: dict[int, C] = {}
        self.handlers: set[Invocation] = set()  # under way
        self.gave_up = (
            False  # whether those that are left are not driven on when they are cancelled
        )
        self.grace_s = grace_s
        self.spread_s = spread_s
        self.close_code = close_code
        # After it has stopped listening, and before sessions are told: for how long the requests of
        # those who have just connected are still taken, because another server accepts from now on.
        self.linger_s = 0.0
        self._stops = 0  # how often `stop` was said
        self._report: ShutdownReport | None = None  # of the end, after it
        self._open_at_shutdown = 0
        self._dropped_before = 0
        self._aborted = 0
        self._cancelled = 0

    # -- what a transport does ----------------------------------------------------------------

    @abstractmethod
    def time(self) -> float:
        """The clock of the hub's inputs, in seconds."""

    @abstractmethod
    def arm(self, when: float | None) -> None:
        """Call `handle_timeout` at this time, not much later; earlier is no harm."""

    @abstractmethod
    def start_handler(self, invocation: Invocation) -> None:
        """Run a handler to its end; then call `ended`."""

    @abstractmethod
    def resume_handler(self, invocation: Invocation) -> None:
        """What a handler waits for has happened."""

    @abstractmethod
    def cancel_handler(self, invocation: Invocation) -> None:
        """A handler has to end now."""

    @abstractmethod
    def post(self, call: Callable[[], None]) -> None:
        """Have `call` run as an input of the hub, soon, from any thread; not if it has ended."""

    @abstractmethod
    def deliver(self, events: Sequence[BackplaneInput]) -> None:
        """Give the hub what came from the backplane, and drain, now or soon."""

    @abstractmethod
    def change(self) -> None:
        """Have those look again who wait: for `stop`, for quiet, or for the end."""

    def _take_delivered(self, events: Sequence[BackplaneInput]) -> None:
        self.deliver(events)
        self.change()

    # -- draining the hub ---------------------------------------------------------------------

    def drain(self) -> None:
        """Take everything the hub has to say, and see to the timer."""
        hub = self.hub
        connections = self.connections
        for fd in hub.fds_to_send():
            connection = connections.get(fd)
            if connection is not None:
                connection.write()
        while (output := hub.next_output()) is not None:
            self._carry_out(output)
        self.arm(hub.next_timeout())

    def _carry_out(self, output: Output) -> None:
        match output:
            case Resume():
                self.resume_handler(output.invocation)
            case Invoke():
                self.handlers.add(output.invocation)
                self.start_handler(output.invocation)
            case Cancel():
                if output.invocation in self.handlers:
                    self.cancel_handler(output.invocation)
            case HandlerFailed():
                log_failure(self.logger, output, self.hub.session(output.fd))
            case SessionOpened() | SessionClosed() | RequestAnswered():
                if self.logger.isEnabledFor(logging.DEBUG):
                    log_fact(self.logger, output)
            case Publish() | Append() | ReadHistory() | Subscribe() | Unsubscribe():
                if self.link is not None:
                    self.link.put(output)
            case Disconnect() | ShutdownWrite() | PauseReading() | ResumeReading():
                if (connection := self.connections.get(output.fd)) is not None:
                    self._carry_out_on(connection, output)

    def _carry_out_on(
        self, connection: C, output: Disconnect | ShutdownWrite | PauseReading | ResumeReading
    ) -> None:
        match output:
            case Disconnect():
                self.logger.debug("fd %d disconnected: %s", output.fd, output.why)
                connection.disconnect(abort=output.abort)
            case ShutdownWrite():
                connection.shutdown_write()
            case PauseReading():
                connection.pause_reading()
            case ResumeReading():
                connection.resume_reading()
                self.hub.receive_data(output.fd, b"", now=self.time())

    # -- handlers -----------------------------------------------------------------------------

    def ended(self, invocation: Invocation) -> None:
        """A handler has ended, however it did."""
        self.handlers.discard(invocation)

    def interrupted(self, invocation: Invocation, error: BaseException, *, wanted: bool) -> None:
        """A handler has ended with a cancellation; if nobody `wanted` it, that is said."""
        if not wanted:
            self.logger.error(
                "handler %s ended because something it awaited was cancelled (fd %d)",
                invocation.name,
                invocation.fd,
                exc_info=error,
            )

    # -- the end ------------------------------------------------------------------------------

    @property
    def is_quiet(self) -> bool:
        """Whether there is no connection and no handler."""
        return not self.connections and not self.handlers

    @property
    def is_said(self) -> bool:
        """Whether nothing waits that other nodes are still to be told, as far as they can be."""
        return not self.hub.is_backplane_connected or not self.hub.stats().waiting_publishes

    def stop(self) -> None:
        """Make `serve_forever` return; said twice, end now, without waiting for anybody."""
        self._stops += 1
        self.change()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was said."""
        return self._stops > 0

    @property
    def is_stopped_now(self) -> bool:
        """Whether `stop` was said twice."""
        return self._stops > 1

    def ending(self) -> Iterator[Until]:
        """The end, from when nobody new is accepted, in steps: each gives what is to be waited for
        before the next. Sessions are told, and what has not ended in time is aborted; what other
        nodes are to know reaches the backplane."""
        if self.linger_s > 0:
            yield Until(lambda: self.is_stopped_now, self.linger_s)
        self.begin_shutdown()
        self.drain()
        yield Until(lambda: self.is_quiet or self.is_stopped_now, self.spread_s + self.grace_s)
        if not self.is_quiet:
            self.abort_rest()
            yield Until(lambda: self.is_quiet, LAST_WAIT_S)
        self.drain()
        if self.link is not None:
            yield Until(lambda: self.is_said, FLUSH_S)

    def begin_shutdown(self) -> None:
        """Sessions are told, over `spread_s` seconds; nobody new is taken."""
        stats = self.hub.stats()
        self._open_at_shutdown = stats.sessions
        self._dropped_before = stats.dropped_messages_sent
        self.hub.shutdown(now=self.time(), code=self.close_code, spread_s=self.spread_s)

    def abort_rest(self) -> None:
        """The time is up: cancel the handlers, and abort the connections, that are left."""
        self._aborted = len(self.connections)
        self._cancelled = len(self.handlers)
        self.logger.warning(
            "aborting %d connections and %d handlers", self._aborted, self._cancelled
        )
        for invocation in list(self.handlers):
            self.cancel_handler(invocation)
        for connection in list(self.connections.values()):
            connection.disconnect(abort=True)

    def report(self) -> ShutdownReport:
        """How it ended. Handlers that have ignored their cancellation are given up: the next one
        ends their tasks, so that the loop can end."""
        self.gave_up = True
        if self.handlers:
            self.logger.error("handlers that do not end: %s", list(self.handlers))
        dropped = self.hub.stats().dropped_messages_sent - self._dropped_before
        return ShutdownReport(
            closed=max(0, self._open_at_shutdown - self._aborted),
            aborted=self._aborted,
            cancelled=self._cancelled,
            unfinished=len(self.handlers),
            dropped_messages=dropped,
        )
