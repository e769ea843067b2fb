"""A client's connection as an application uses it: messages, pings, requests, deadlines. Pure.

    session = ClientSession(ClientConnection(url, ...), now=clock(), open_timeout_s=10.0)

What an adapter does, whatever it runs on:

    give one input                       # receive_data, receive_eof, bytes_unsent, handle_timeout,
                                         # connection_lost, or `step` of an operation
    then drain: write data_to_send() if the socket takes bytes (bytes_unsent: what it did not take)
                read only while `reading`
                close the socket if `disconnect` says so, then connection_lost
                arm one timer for next_timeout()

Operations (`opened`, `send`, `receive`, ...) are coroutines that await nothing but `Pending`. An
adapter steps one, waits until the `Pending` that it gets has happened, and steps again until
`StopIteration`, which has the result; to cancel one, it calls `close()` on the coroutine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine
from math import inf
from typing import Any, Final, Literal, TypeAlias, final

import msgspec

from ..deadlines import Deadlines
from ..dispatch.parsers import JsonParser, Parser
from ..errors import LocalProtocolError, RefusedError, RemoteProtocolError, SessionClosedError
from ..limits import Limits
from ..wire.client import ClientConnection, ClientEvent, Opened, Refused
from ..wire.close_codes import REASON_BYTES_MAX, CloseCode, may_be_sent
from ..wire.framing import CloseReceived, Message, PongReceived, Violation
from ..wire.states import State
from .pending import Pending
from .requests import Requests

Operation: TypeAlias = Coroutine[Pending, None, Any]

_LEAVING_S: Final = 0.2  # for the socket to take a last Close that nobody waits for


@final
class ClientSession:
    """One connection, from the handshake to the loss of its socket.

    Of `limits`, those for messages, inbox, outbox and times count; `inf` switches a time off.
    """

    def __init__(
        self,
        connection: ClientConnection,
        *,
        now: float,
        limits: Limits | None = None,
        open_timeout_s: float = inf,
        parser: Parser | None = None,
    ) -> None:
        self.latency_s: float | None = None
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.accepted: Opened | None = None
        self._connection = connection
        self._limits = limits or Limits()
        self._parser = parser or JsonParser()
        self._requests = Requests(self._parser)
        self._now = now
        self._opening = Pending()
        self._readers: dict[Pending, None] = {}
        self._writers: dict[Pending, None] = {}
        self._closers: dict[Pending, None] = {}
        self._pings: dict[bytes, tuple[float, Pending]] = {}  # by payload, in the order sent
        self._ping_count = 0
        self._keepalive: tuple[bytes, float] | None = None  # the latest Ping of our own, and when
        self._inbox: deque[Message] = deque()
        self._inbox_bytes = 0
        self._paused = False  # whether the inbox is full, and nothing is read
        self._held = b""  # what came all the same
        self._eof = False  # whether the server's last byte has come, be it handled or not
        self._lost = False
        self._asked: tuple[int, str] | None = None  # what our own Close said
        self._unsent = 0  # bytes taken from us that the socket has not taken
        self._disconnect: Literal["close", "abort"] | None = None
        self._last_received = now
        self._pinged_at = -inf
        self._deadlines: Deadlines[str | Pending] = Deadlines()
        self._set("open", open_timeout_s)

    # -- inputs -------------------------------------------------------------------------------

    def receive_data(self, data: bytes, *, now: float) -> None:
        """Bytes from the server."""
        self._now = self._last_received = now
        self._held += data
        self._read_on()

    def receive_eof(self, *, now: float) -> None:
        """The server sends nothing more."""
        self._now = now
        self._eof = True
        self._disconnect = self._disconnect or "close"
        self._set("close", self._limits.close_timeout_s)
        self._read_on()

    def bytes_unsent(self, count: int, *, now: float) -> None:
        """Of the data that was taken, so much waits for the socket; 0 when all is written."""
        self._now = now
        if count == 0:
            self._deadlines.discard("stall")
        elif count < self._unsent or self._deadlines.get("stall") is None:
            self._set("stall", self._limits.stall_timeout_s)
        self._unsent = count
        self._wake_writers()

    def connection_lost(self, *, now: float, error: Exception | None = None) -> None:
        """The socket is gone; said once. `error` says why, as far as that is known."""
        self._now = now
        self._eof = self._lost = True
        self._unsent = 0
        self._opening.happen(error=error or RemoteProtocolError("the connection was lost"))
        for key in ("open", "keepalive", "stall", "close"):
            self._deadlines.discard(key)
        self._read_on()
        self._fail_waiters()
        _wake(self._closers)

    def handle_timeout(self, *, now: float) -> None:
        """Do what is due."""
        self._now = now
        for key in self._deadlines.due(now):
            if isinstance(key, Pending):
                key.happen(error=TimeoutError("not in time"))
            elif key == "keepalive":
                self._keep_alive()
            elif key == "open":
                self._opening.happen(error=TimeoutError("the server did not answer in time"))
                self._disconnect = "abort"
            else:
                why = "the server reads nothing" if key == "stall" else "no end in time"
                self._end(CloseCode.ABNORMAL_CLOSURE, why)
                self._disconnect = "abort"

    def step(self, operation: Operation, *, now: float) -> Pending:
        """Run an operation to where it waits. Raises `StopIteration` with its result."""
        self._now = now
        return operation.send(None)

    def leave(self, *, now: float) -> None:
        """Close without waiting for anybody: a Close with 1001 goes out if the socket takes it."""
        self._now = now
        if not self._opening.happened:
            self._opening.happen(error=TimeoutError("given up"))
            self._disconnect = "abort"
            return
        self._close(CloseCode.GOING_AWAY, "")
        self._end(CloseCode.ABNORMAL_CLOSURE, "left")
        self._disconnect = self._disconnect or "close"
        if not self._lost:
            self._set("close", _LEAVING_S)

    # -- outputs ------------------------------------------------------------------------------

    def data_to_send(self) -> bytes:
        """What has to be written; to be taken only when all that was taken before is written."""
        data = self._connection.data_to_send()
        self._wake_writers()
        return data

    def next_timeout(self) -> float | None:
        """When `handle_timeout` should be called, or None."""
        return self._deadlines.next()

    @property
    def reading(self) -> bool:
        """Whether the socket should be read from: not while the inbox is full."""
        return not self._paused and not self._eof

    @property
    def disconnect(self) -> Literal["close", "abort"] | None:
        """Whether to close the socket now; "abort" says that something may be left unsent."""
        if self._disconnect == "close" and (self._unsent or self._connection.has_data_to_send):
            return None
        return self._disconnect

    @property
    def is_connected(self) -> bool:
        """Whether something can be sent."""
        return self._connection.state is State.OPEN and not self._eof and self.close_code is None

    # -- operations ---------------------------------------------------------------------------

    async def opened(self) -> None:
        """Wait for the handshake.

        Raises `RefusedError`, `RemoteProtocolError` for an answer that is none, `TimeoutError`,
        or the error that the connection was lost with.
        """
        await self._opening

    async def send(self, data: object) -> None:
        """Send text (`str`), binary data (`bytes`), or anything that the parser can pack.

        Waits while more than `outbox_mark_bytes` wait to be written, and only then takes the
        message, which is sent whole from then on. Raises `SessionClosedError`.
        """
        if not isinstance(data, str | bytes):
            is_bytes = isinstance(data, bytearray | memoryview)
            data = bytes(data) if is_bytes else self._parser.pack(data)  # type: ignore[call-overload]
        await self._send(data, None)

    async def receive(self, timeout_s: float | None = None) -> Message | None:
        """The next message, or None when there will be none. Raises `TimeoutError`.

        What came before the end is given before None. What comes after our own `close` is not.
        """
        until = None if timeout_s is None else self._now + timeout_s
        while not self._inbox:
            if self.close_code is not None:
                return None
            await self._wait(self._readers, until)
        message = self._inbox.popleft()
        self._inbox_bytes -= len(message)
        if (
            self._paused
            and len(self._inbox) <= self._limits.inbox_messages_max // 2
            and self._inbox_bytes <= self._limits.inbox_bytes_max // 2
        ):
            self._paused = False
            self._read_on()
        return message

    async def receive_text(self, timeout_s: float | None = None) -> str:
        """The next message, which must be text; a binary one closes with 1003.

        Raises `SessionClosedError` when there will be none, and `TimeoutError`.
        """
        message = await self._receive_or_raise(timeout_s)
        if not isinstance(message, str):
            self._close(CloseCode.UNSUPPORTED_DATA, "text was expected")
            raise self._closed_error()
        return message

    async def receive_bytes(self, timeout_s: float | None = None) -> bytes:
        """The next message, which must be binary; a text closes with 1003.

        Raises `SessionClosedError` when there will be none, and `TimeoutError`.
        """
        message = await self._receive_or_raise(timeout_s)
        if not isinstance(message, bytes):
            self._close(CloseCode.UNSUPPORTED_DATA, "binary data was expected")
            raise self._closed_error()
        return message

    async def receive_json(self, data_type: Any = Any, timeout_s: float | None = None) -> Any:
        """The next message, decoded and checked to be a `data_type`.

        Raises `SessionClosedError` when there will be none, `ValueError` if it is not that, and
        `TimeoutError`.
        """
        message = await self._receive_or_raise(timeout_s)
        try:
            return msgspec.json.decode(message, type=data_type)
        except RecursionError as error:
            raise ValueError("the JSON is nested too deeply") from error

    async def request(self, data: object, reply_type: Any, timeout_s: float) -> Any:
        """Send a request; the data of its reply, checked to be a `reply_type`.

        Raises `TimeoutError`, `RequestFailedError` if the server answers with an error or with
        something else, `SessionClosedError`, and `LocalProtocolError` if the parser knows no
        requests. Other messages stay for `receive`.
        """
        request_id, message = self._requests.pack(data)
        pending = self._requests.add(request_id)
        until = self._now + timeout_s
        self._bound(pending, until)
        try:
            await self._send(message, until)
            reply = await pending
        except TimeoutError:
            raise TimeoutError(f"no reply within {timeout_s:g} s") from None
        finally:
            self._deadlines.discard(pending)
            self._requests.discard(request_id)
        return self._requests.reply_data(reply, reply_type)

    async def ping(self, timeout_s: float | None = None) -> float:
        """Send a Ping, and wait for its Pong, or that of a later one; the seconds it took.

        Raises `SessionClosedError` and `TimeoutError`.
        """
        if not self.is_connected:
            raise self._closed_error()
        payload = self._ping()
        sent_at = self._now
        pending = Pending()
        self._pings[payload] = (sent_at, pending)
        self._bound(pending, None if timeout_s is None else sent_at + timeout_s)
        try:
            received_at: float = await pending
        finally:
            self._pings.pop(payload, None)
            self._deadlines.discard(pending)
        return received_at - sent_at

    async def close(self, code: int, reason: str) -> None:
        """Close (RFC 6455 section 7.1.2), and wait until the socket is gone, which takes at most
        `close_timeout_s`. If the end has begun, it is only waited for.

        Raises `LocalProtocolError` for a code that may not be sent, or a reason of more than
        123 bytes.
        """
        if not may_be_sent(code, client=True):
            raise LocalProtocolError(f"close code {code} may not be sent (RFC 6455 section 7.4)")
        if len(reason.encode()) > REASON_BYTES_MAX:
            raise LocalProtocolError(f"a close reason has at most {REASON_BYTES_MAX} bytes")
        self._close(code, reason)
        while not self._lost:
            await self._wait(self._closers, None)

    # -- what happens -------------------------------------------------------------------------

    def _read_on(self) -> None:
        """Handle what has come, as far as the inbox has room."""
        connection = self._connection
        while (self._held or connection.more) and not self._paused:
            data, self._held = self._held, b""
            for event in connection.receive_data(data):
                self._take(event)
            self._paused = self._asked is None and self.close_code is None and self._inbox_is_full
        if self._eof and not self._held and not connection.more and self.close_code is None:
            for event in connection.receive_eof():
                self._take(event)
            self._end(CloseCode.ABNORMAL_CLOSURE, "")

    @property
    def _inbox_is_full(self) -> bool:
        limits = self._limits
        return (
            len(self._inbox) >= limits.inbox_messages_max
            or self._inbox_bytes >= limits.inbox_bytes_max
        )

    def _take(self, event: ClientEvent) -> None:
        if isinstance(event, str | bytes):
            if self._asked is not None or self.close_code is not None:
                return  # we have said that we are not interested
            if not self._requests.take(event):
                self._inbox.append(event)
                self._inbox_bytes += len(event)
                _wake(self._readers)
        elif isinstance(event, PongReceived):
            self._take_pong(event.payload)
        elif isinstance(event, Opened):
            self.accepted = event
            self._deadlines.discard("open")
            self._set("keepalive", self._limits.ping_interval_s)
            self._opening.happen()
        elif isinstance(event, Refused):
            self._not_opened(RefusedError(event.status, event.headers, event.body))
        elif isinstance(event, Violation) and self.accepted is None:
            self._not_opened(RemoteProtocolError(event.reason, close_code=event.code))
        elif isinstance(event, CloseReceived | Violation):
            self._end(event.code, event.reason)
            self._set_close_deadline()  # it is the server that closes the socket (section 7.1.1)

    def _not_opened(self, error: Exception) -> None:
        self._opening.happen(error=error)
        self._disconnect = "abort"

    def _take_pong(self, payload: bytes) -> None:
        if self._keepalive is not None and self._keepalive[0] == payload:
            self.latency_s = self._now - self._keepalive[1]
            self._keepalive = None
        elif payload in self._pings:
            self.latency_s = self._now - self._pings[payload][0]
            for earlier in list(self._pings):  # need not be answered (section 5.5.3)
                self._pings.pop(earlier)[1].happen(self._now)
                if earlier == payload:
                    break

    # -- what is due --------------------------------------------------------------------------

    def _keep_alive(self) -> None:
        """Ping after silence, close after more of it. Silence that is ours does not count."""
        now = self._now
        interval = self._limits.ping_interval_s
        unanswered = self._pinged_at + self._limits.ping_timeout_s
        if not self.is_connected:
            return
        if self._paused:
            # A Pong could not be read, but a server that has vanished makes the socket fail.
            self._keepalive = (self._ping(), now)
            self._set("keepalive", interval)
        elif self._last_received < self._pinged_at and now >= unanswered:
            self._asked = (CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
            self._connection.close(*self._asked)
            self._end(*self._asked)
            self._set_close_deadline()
        elif self._last_received + interval > now:
            self._deadlines.set("keepalive", self._last_received + interval)
        else:
            self._keepalive = (self._ping(), now)
            if self._last_received >= self._pinged_at:
                self._pinged_at = now  # the first that nothing has come after
                unanswered = now + self._limits.ping_timeout_s
            self._deadlines.set("keepalive", min(now + interval, unanswered))

    def _ping(self) -> bytes:
        self._ping_count += 1
        payload = self._ping_count.to_bytes(8, "big")
        self._connection.ping(payload)
        return payload

    # -- the end ------------------------------------------------------------------------------

    def _close(self, code: int, reason: str) -> None:
        """Start the closing handshake, if the connection is open."""
        if not self.is_connected:
            return
        self._connection.close(code, reason)
        self._asked = (int(code), reason)
        self._deadlines.discard("keepalive")
        self._set_close_deadline()
        self._fail_waiters()
        self._paused = False
        self._read_on()  # to the server's Close

    def _end(self, code: int, reason: str) -> None:
        """There will be no more messages; the socket may still exist."""
        if self.close_code is not None:
            return
        self.close_code = int(code)
        self.close_reason = reason
        self._deadlines.discard("keepalive")
        self._paused = False
        self._fail_waiters()
        _wake(self._readers)

    def _fail_waiters(self) -> None:
        """Whoever waits to send, or for an answer, waits in vain."""
        error = self._closed_error()
        self._requests.fail(error)
        for _, pending in self._pings.values():
            pending.happen(error=error)
        _wake(self._writers)

    def _closed_error(self) -> SessionClosedError:
        code, reason = self._asked or (CloseCode.ABNORMAL_CLOSURE.value, "")
        if self.close_code is not None:
            code, reason = self.close_code, self.close_reason or ""
        return SessionClosedError(f"the connection is closed ({code})", code=code, reason=reason)

    def _set_close_deadline(self) -> None:
        if self._deadlines.get("close") is None and not self._lost:
            self._set("close", self._limits.close_timeout_s)

    # -- waiting ------------------------------------------------------------------------------

    async def _send(self, message: Message, until: float | None) -> None:
        while self.is_connected and self._is_full:
            await self._wait(self._writers, until)
        if not self.is_connected:
            raise self._closed_error()
        self._connection.send(message)

    @property
    def _is_full(self) -> bool:
        return self._unsent + self._connection.bytes_waiting > self._limits.outbox_mark_bytes

    def _wake_writers(self) -> None:
        if self._writers and not self._is_full:
            _wake(self._writers)

    async def _receive_or_raise(self, timeout_s: float | None) -> Message:
        message = await self.receive(timeout_s)
        if message is None:
            raise self._closed_error()
        return message

    async def _wait(self, waiters: dict[Pending, None], until: float | None) -> None:
        """Wait to be woken. Raises `TimeoutError` if that is not before `until`."""
        pending = Pending()
        waiters[pending] = None
        self._bound(pending, until)
        try:
            await pending
        finally:
            waiters.pop(pending, None)
            self._deadlines.discard(pending)

    def _bound(self, pending: Pending, until: float | None) -> None:
        if until is not None and until != inf:
            self._deadlines.set(pending, until)

    def _set(self, key: str, seconds: float) -> None:
        if seconds == inf:
            self._deadlines.discard(key)
        else:
            self._deadlines.set(key, self._now + seconds)


def _wake(waiters: dict[Pending, None]) -> None:
    """Each looks for itself whether it can go on."""
    woken = list(waiters)
    waiters.clear()
    for pending in woken:
        pending.happen()
