"""The client on blocking calls and threads, without an event loop.

    with connect("ws://127.0.0.1:8301/chat/lobby") as ws:
        ws.send({"type": "say", "text": "hello"})
        for message in ws:
            print(message)

Each connection has one thread of its own, which reads, writes what the socket did not take at
once, and watches the clock: Pings are answered and silence is noticed whatever the application
does. It ends with the `with` block. Any thread may call any method, several at once: messages stay
whole, and one that is received goes to one of those who wait.
"""

from __future__ import annotations

import contextlib
import os
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from math import inf
from typing import Any, Final, NamedTuple, Unpack, final

from wireroom.core.clients.session import Operation
from wireroom.core.wire.framing import Message

from ..sockets import set_no_delay
from .client import ClientState
from .options import ConnectOptions, Dial, Options
from .reconnect import RETRIED, Backoff, ReconnectPolicy, check_repeatable

__all__ = ["Client", "connect", "reconnecting"]

_READ_BYTES: Final = 2**16

# poll needs no file descriptor of its own, as epoll does.
_Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)


@contextlib.contextmanager
def connect(url: str, **options: Unpack[ConnectOptions]) -> Iterator[Client]:
    """A connection to `url`, open in the block and closed after it.

    It is closed with 1000, with 1011 if the block raises, and without waiting if that is a
    KeyboardInterrupt or the like. For the options see `options.Options`. Raises `RefusedError` if
    the server answers with another status than 101, `RemoteProtocolError` if with something else,
    `TimeoutError`, `OSError` (of which `ssl.SSLError` is a kind), and `ConfigurationError`.
    """
    client = _open(url, Options(**options))
    try:
        try:
            yield client
        except Exception:
            client.close(1011)
            raise
        client.close()
    finally:
        client._end()


@final
class Client(ClientState):
    """A connection; `connect` makes it."""

    def __init__(self, dial: Dial, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._link = dial.link
        self._sock = sock
        self._lock = threading.Lock()  # around all below, and the session; held for no wait
        self._unsent = memoryview(b"")  # what the socket has not taken
        self._error: OSError | None = None  # what ended the socket
        self._awake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._gone = False  # whether the socket is closed
        self._watched = _Watch(False, 0, inf)  # what the thread waits for
        self._thread = threading.Thread(target=self._move, name="wireroom-client", daemon=True)
        self._thread.start()

    # -- what the application calls -----------------------------------------------------------

    def send(self, data: object) -> None:
        """Send text (`str`), binary data (`bytes`), or anything else as the parser packs it: JSON.

        Waits while too much waits to be written (`Limits.outbox_mark_bytes`). Raises
        `SessionClosedError`.
        """
        self._run(self._session.send(data))

    def receive(self, *, timeout_s: float | None = None) -> Message | None:
        """The next message, or None when there will be none. Raises `TimeoutError`."""
        message: Message | None = self._run(self._session.receive(timeout_s))
        return message

    def receive_text(self, *, timeout_s: float | None = None) -> str:
        """The next message, which must be text; a binary one closes with 1003.

        Raises `SessionClosedError` when there will be none, and `TimeoutError`.
        """
        text: str = self._run(self._session.receive_text(timeout_s))
        return text

    def receive_bytes(self, *, timeout_s: float | None = None) -> bytes:
        """The next message, which must be binary; a text closes with 1003.

        Raises `SessionClosedError` when there will be none, and `TimeoutError`.
        """
        data: bytes = self._run(self._session.receive_bytes(timeout_s))
        return data

    def receive_json(self, data_type: Any = Any, *, timeout_s: float | None = None) -> Any:
        """The next message, decoded from JSON and checked to be a `data_type`.

        Raises `SessionClosedError` when there will be none, `ValueError` if it is something else,
        and `TimeoutError`.
        """
        return self._run(self._session.receive_json(data_type, timeout_s))

    def __iter__(self) -> Iterator[Message]:
        """Messages until the end, however it comes; see `close_code`."""
        while (message := self.receive()) is not None:
            yield message

    def request(self, data: object, *, reply_type: Any = Any, timeout_s: float = 10.0) -> Any:
        """Send `data` as a request; the data of the reply, checked to be a `reply_type`.

        Raises `TimeoutError`, `RequestFailedError` if the server answers with an error or with
        something else, and `SessionClosedError`. Other messages stay for `receive`.
        """
        return self._run(self._session.request(data, reply_type, timeout_s))

    def ping(self, *, timeout_s: float | None = None) -> float:
        """Send a Ping, and wait for its Pong: the round trip in seconds.

        Raises `SessionClosedError` and `TimeoutError`.
        """
        seconds: float = self._run(self._session.ping(timeout_s))
        return seconds

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close, and wait until the socket is gone, at most `close_timeout_s`.

        If the end has begun, it is only waited for. Raises `LocalProtocolError` for a code that
        may not be sent, or a reason of more than 123 bytes.
        """
        self._run(self._session.close(code, reason))

    # -- any thread ---------------------------------------------------------------------------

    def _run(self, operation: Operation) -> Any:
        """Step an operation, and wait as it waits, until it has a result."""
        try:
            while True:
                happened = threading.Event()
                with self._lock:
                    try:
                        pending = self._session.step(operation, now=time.monotonic())
                    except StopIteration as stop:
                        return stop.value
                    finally:
                        self._drain()
                    pending.add_hook(happened.set)
                happened.wait()
        finally:
            with self._lock:
                operation.close()

    def _drain(self) -> None:
        """Write what the socket takes, and wake the thread if it waits for the wrong thing. Needs
        the lock."""
        self._write()
        watched, watch = self._watched, self._watch()
        if watch[:2] != watched[:2] or watch.until < watched.until:
            with contextlib.suppress(OSError):  # so many bytes that it wakes anyway, or it is gone
                self._waker.send(b"\0")

    def _write(self) -> None:
        if self._gone or self._error is not None:
            return
        try:
            while self._unsent or (data := self._link.data_to_send()):
                if not self._unsent:
                    self._unsent = memoryview(data)
                self._unsent = self._unsent[self._sock.send(self._unsent) :]
                self._report_unsent()
        except BlockingIOError:
            self._report_unsent()
        except OSError as error:
            self._error = error

    def _report_unsent(self) -> None:
        self._session.bytes_unsent(len(self._unsent), now=time.monotonic())

    def _watch(self) -> _Watch:
        until = self._session.next_timeout()
        reading = selectors.EVENT_READ if self._session.reading else 0
        return _Watch(
            self._error is not None or self._link.disconnect is not None,
            reading | (selectors.EVENT_WRITE if self._unsent else 0),
            inf if until is None else until,
        )

    # -- the connection's thread --------------------------------------------------------------

    def _move(self) -> None:
        """Move bytes until the connection ends; then there is no socket."""
        try:
            with _Selector() as selector:
                selector.register(self._awake, selectors.EVENT_READ)
                while True:
                    with self._lock:
                        self._write()
                        watch = self._watched = self._watch()
                    if watch.closing:
                        break
                    _change(selector, self._sock, watch.events)
                    timeout_s = watch.until - time.monotonic()
                    ready = selector.select(None if timeout_s == inf else max(0.0, timeout_s))
                    with self._lock:
                        for key, events in ready:
                            if key.fileobj is self._awake:
                                self._awake.recv(_READ_BYTES)
                            elif events & selectors.EVENT_READ:
                                self._read()
                        self._session.handle_timeout(now=time.monotonic())
        finally:
            with self._lock:
                self._gone = True
                for each in (self._sock, self._awake, self._waker):
                    each.close()
                self._link.connection_lost(self._error, now=time.monotonic())

    def _read(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._error = error
            return
        if data:
            self._link.receive_data(data, now=time.monotonic())
        else:
            self._session.receive_eof(now=time.monotonic())

    # -- for `connect` ------------------------------------------------------------------------

    def _opened(self) -> None:
        try:
            self._run(self._session.opened())
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        """Leave no socket and no thread, whatever has happened."""
        with self._lock:
            if not self._gone:
                self._session.leave(now=time.monotonic())
                self._drain()
        self._thread.join()


class _Watch(NamedTuple):
    """What the thread has to look at: is the socket to be closed, its events, the next deadline."""

    closing: bool
    events: int
    until: float


def _change(selector: selectors.BaseSelector, sock: socket.socket, events: int) -> None:
    """Wait for other events than before, which may be none."""
    key = selector.get_map().get(sock)
    if key is None:
        if events:
            selector.register(sock, events)
    elif not events:
        selector.unregister(sock)
    elif key.events != events:
        selector.modify(sock, events)


def _open(url: str, options: Options) -> Client:
    dial = Dial(url, options, now=time.monotonic())
    client = Client(dial, _connect(dial))
    client._opened()
    return client


def _connect(dial: Dial) -> socket.socket:
    """A connected socket. The time for opening does not bound the look-up of the host's name."""
    options = dial.options
    if options.unix_path is not None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(_finite(dial.remaining_s(time.monotonic())))
            sock.connect(os.fspath(options.unix_path))
        except BaseException:
            sock.close()
            raise
        return sock
    sock = options.sock or socket.create_connection(
        (dial.host, dial.port), timeout=_finite(dial.remaining_s(time.monotonic()))
    )
    set_no_delay(sock)
    return sock


def _finite(seconds: float) -> float | None:
    return None if seconds == inf else seconds


# -- reconnecting --------------------------------------------------------------------------------


def reconnecting(
    url: str,
    *,
    policy: ReconnectPolicy | None = None,
    random: Callable[[], float] = random.random,
    sleep: Callable[[float], object] = time.sleep,
    **options: Unpack[ConnectOptions],
) -> Generator[Client, None, None]:
    """Connections to `url`, one after the other, each closed when the next is asked for.

        for ws in reconnecting("ws://127.0.0.1:8301/"):
            for message in ws: ...

    The loop ends after a Close with 1000; what else ends it is raised, see
    `reconnect.ReconnectPolicy`. The generator's `close()` closes the connection. `random` gives
    numbers from 0 to 1 for the jitter, `sleep` waits between two connections (an `Event.wait` can
    be interrupted). For the options see `options.Options`; `sock` is not one of them here.
    """
    repeated = Options(**options)
    check_repeatable(repeated)
    return _connections(url, Backoff(policy, random), sleep, repeated)


def _connections(
    url: str, backoff: Backoff, sleep: Callable[[float], object], options: Options
) -> Generator[Client, None, None]:
    while True:
        try:
            client = _open(url, options)
        except RETRIED as error:
            delay_s: float | None = backoff.failed(error)
        else:
            backoff.opened(now=time.monotonic())
            try:
                yield client
                open_still = client.is_connected
                client.close()
            finally:
                client._end()
            code = None if open_still else client.close_code
            delay_s = backoff.closed(code, client.close_reason, now=time.monotonic())
        if delay_s is None:
            return
        sleep(delay_s)
