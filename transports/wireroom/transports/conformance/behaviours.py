"""What the tests of the suite are written with: a server that an adapter runs, and its clients."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Final, Generic, TypeAlias, TypeVar, final

import pytest

from wireroom.core import App, Hub
from wireroom.core.sessions.stats import Stats

from ..drain import ShutdownReport
from .client import PATIENCE_S, Client
from .harness import Address, Feature, Harness, Options

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])

Failures: TypeAlias = Callable[[int], list[BaseException]]

_LOOK_INTERVAL_S: Final = 0.002  # between two looks at what has no event of its own


def needs(*features: Feature) -> Callable[[F], F]:
    """The test is skipped for an adapter that lacks one of these."""

    def mark(test: F) -> F:
        test.needed_features = features  # type: ignore[attr-defined]
        return test

    return mark


def wait_until(expected: str, condition: Callable[[], bool]) -> None:
    """Wait until a condition holds that nobody tells of; AssertionError if it does not."""
    deadline = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{expected}: not within {PATIENCE_S:g} s")
        pause.wait(_LOOK_INTERVAL_S)


@final
class Told(Generic[T]):
    """What handlers tell the test, in order. Handlers `put`, which never blocks."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[T] = queue.SimpleQueue()
        self.put = self._queue.put

    def next(self, expected: str) -> T:
        """The next thing; AssertionError if it does not come."""
        try:
            return self._queue.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise AssertionError(f"{expected}: not within {PATIENCE_S:g} s") from None

    def all(self) -> list[T]:
        """What has been told and not been taken yet."""
        taken = []
        while not self._queue.empty():
            taken.append(self._queue.get())
        return taken


@final
class Server:
    """The server of one test, through its harness, and all clients that the test connects."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._clients: list[Client] = []
        self._running = False
        self._stopping: Future[ShutdownReport] | None = None
        self.address: Address = ""

    def start(self, app: App, options: Options | None = None) -> None:
        """Run `app`, once."""
        self.address = self._harness.start(app, options or Options())
        self._running = True

    def can(self, feature: Feature) -> bool:
        """Whether the adapter does this."""
        return feature not in self._harness.lacks

    # -- clients ------------------------------------------------------------------------------

    def connect(self, **options: Any) -> Client:
        """A connection that nothing was sent on; the options are those of `Client.connect`."""
        return self.keep(Client.connect(self.address, **options))

    def open(self, target: str, **options: Any) -> Client:
        """An open session; the options are those of `Client.upgrade`."""
        return self.connect().handshake(target, **options)

    def keep(self, client: Client) -> Client:
        """Drop this client too when the test is over."""
        self._clients.append(client)
        return client

    # -- the server's side --------------------------------------------------------------------

    def call(self, function: Callable[[Hub], T]) -> T:
        """Call `function(hub)` in the server."""
        return self._harness.call(function)

    def adopt(self, *arguments: Any) -> None:
        """See `Harness.adopt`."""
        self._harness.adopt(*arguments)

    @property
    def stats(self) -> Stats:
        """The hub's counters now."""
        return self._harness.call(lambda hub: hub.stats())

    def wait_for(self, expected: str, condition: Callable[[Hub], bool]) -> None:
        """Wait until a condition holds that nobody tells of; AssertionError if it does not."""
        try:
            wait_until(expected, lambda: self._harness.call(condition))
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.stats}") from None

    def wait_idle(self) -> Stats:
        """Wait until no connection, session or handler is left; the counters then."""
        self.wait_for("no connection, session, handler, room, user or context is left", _is_idle)
        return self.stats

    # -- the end ------------------------------------------------------------------------------

    def stop(self) -> ShutdownReport:
        """Shut down, and wait for the end."""
        return self.stop_soon().result(PATIENCE_S)

    def stop_soon(self) -> Future[ShutdownReport]:
        """Begin to shut down."""
        if self._stopping is None:
            self._stopping = Future()
            self._running = False
            threading.Thread(target=self._stop, args=(self._stopping,), daemon=True).start()
        return self._stopping

    def _stop(self, future: Future[ShutdownReport]) -> None:
        try:
            future.set_result(self._harness.stop())
        except BaseException as error:
            future.set_exception(error)

    def end(self) -> None:
        """The test is over, however it went."""
        for client in self._clients:
            client.drop()
        if self._running or self._stopping is not None:
            self.stop()


def _is_idle(hub: Hub) -> bool:
    stats = hub.stats()
    return not (
        stats.connections
        or stats.sessions
        or stats.invocations
        or stats.rooms
        or stats.users
        or stats.contexts
    )


class Behaviours:
    """What the parts of the suite have in common. Tests may use the fixtures `server` and, if the
    server has to log failures, `failures`; others fail if it logs an error."""

    @pytest.fixture
    def harness(self) -> Harness:
        """The adapter; to be overridden."""
        raise NotImplementedError("override the fixture `harness` in your subclass of Suite")

    @pytest.fixture
    def server(self, harness: Harness, request: pytest.FixtureRequest) -> Iterator[Server]:
        """A server that is not started yet."""
        server = Server(harness)
        for feature in getattr(request.function, "needed_features", ()):
            if not server.can(feature):
                pytest.skip(f"{feature.name.lower()}: {harness.lacks[feature]}")
        yield server
        server.end()

    @pytest.fixture
    def failures(self, caplog: pytest.LogCaptureFixture) -> Failures:
        """Gives the exceptions that were logged as errors, once there are that many."""

        def logged(count: int) -> list[BaseException]:
            found: list[BaseException] = []

            def enough() -> bool:
                found[:] = [
                    record.exc_info[1]
                    for record in _errors(caplog)
                    if record.exc_info is not None and record.exc_info[1] is not None
                ]
                return len(found) >= count

            wait_until(f"{count} failures are logged", enough)
            return found

        return logged

    @pytest.fixture(autouse=True)
    def _logs_no_errors(
        self, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
    ) -> Iterator[None]:
        yield
        if "failures" not in request.fixturenames:
            assert [record.getMessage() for record in _errors(caplog)] == []


def _errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    return [record for record in records if record.levelno >= logging.ERROR]
