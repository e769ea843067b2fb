"""A connection of the blocking transport: a thread that reads, and one that writes what the socket
does not take at once.

Three things guard it. What is said to be under the hub's lock is the server's `lock`. The write
lock is held while the socket is written, never waiting for it, and may be held when the hub's lock
is not. Who counts as using the socket is under the hub's lock; the last one closes it.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, final

from wireroom.core import IdsExhaustedError
from wireroom.core.wire.request import Address

from .sockets import REFUSAL_LINGER_S, set_no_delay
from .tls import TlsPipe

if TYPE_CHECKING:
    from .blocking import Server

# How far the end of a connection has been asked for: each includes those before it.
_HALF: Final = 1  # send what there is, and no more
_CLOSE: Final = 2  # send what there is, and close
_ABORT: Final = 3  # close

_READ_BYTES_MIN: Final = 4 * 1024  # what each connection holds while it waits to be read from
_READ_BYTES_MAX: Final = 64 * 1024  # what is read at most at once, after a read that was full


@final
class Connection:
    """One socket. Its methods for the drain are called under the hub's lock."""

    __slots__ = (
        "_accepts",
        "_address",
        "_blocked",
        "_context",
        "_ended",
        "_ending",
        "_eof",
        "_failed",
        "_gate",
        "_paused",
        "_pending",
        "_received",
        "_rest",
        "_server",
        "_sock",
        "_tls",
        "_users",
        "_write_lock",
        "fd",
    )

    def __init__(
        self,
        server: Server,
        sock: socket.socket,
        address: Address,
        context: ssl.SSLContext | None,
        received: bytes,
    ) -> None:
        self.fd = 0  # none
        self._server = server
        self._sock = sock
        self._address = address
        self._context = context
        self._received = received  # by who had the socket before
        # Under the hub's lock:
        self._users = 1  # threads that read or write
        self._accepts = True  # whether bytes are taken from the hub
        self._paused = False
        self._eof = False
        self._gate: threading.Lock | None = None  # what a reader waits at that may not read
        self._ending = 0
        # Under the write lock, but that anybody may add to `_pending` who has the hub's:
        self._write_lock = threading.Lock()
        self._pending: deque[bytes] = deque()  # taken from the hub, and not encrypted
        self._rest: bytes | memoryview = b""  # what the socket has not taken of what went before
        self._blocked = False  # whether a thread waits to write
        self._failed = False  # whether the socket is of no use
        self._ended = 0  # of `_ending`
        self._tls: TlsPipe | None = None

    # -- reading ------------------------------------------------------------------------------

    def serve(self) -> None:
        """From the socket to the end of it, or until another thread reads; a thread's work."""
        data = None
        try:
            data = self._open()
        finally:
            if data is None:
                self._leave()
        if data is not None:
            self.read(data)

    def _open(self) -> bytes | None:
        """Shake hands, and get an fd: what was received until then, None if it came to nothing."""
        server = self._server
        sock = self._sock
        sock.setblocking(True)
        set_no_delay(sock)
        data = self._received
        self._received = b""
        if self._context is not None:
            try:
                data = self._shake_hands(self._context)
            except (OSError, TimeoutError) as error:
                server.tls_failed(self._address, error)
                return None
        try:
            server.act(self._connect)
        except IdsExhaustedError as error:
            server.logger.warning("connection refused: %s", error)
            with suppress(OSError):
                self._refuse(error.response, has_asked=bool(data))
            return None
        return data

    def _connect(self) -> None:
        server = self._server
        tls = self._tls
        self.fd = server.hub.connect(
            self._address,
            now=server.hub.now,
            secure=tls is not None,
            client_certificate=None if tls is None else tls.peer_certificate,
        )
        server.connections[self.fd] = self

    def _shake_hands(self, context: ssl.SSLContext) -> bytes:
        """TLS's handshake; gives what came after it. Raises `OSError` if it fails, or is not done
        in the time that a head has."""
        sock = self._sock
        tls = TlsPipe(context, server_side=True)
        until = time.monotonic() + self._server.hub.limits.head_timeout_s
        plaintext = b""
        while not tls.handshake_done:
            sock.settimeout(max(until - time.monotonic(), 0.001))
            data = sock.recv(_READ_BYTES_MIN)
            if not data:
                raise ConnectionResetError("the peer left during the TLS handshake")
            try:
                plaintext += tls.receive_data(data)
            finally:
                with suppress(OSError):  # it is seen when it is read from
                    sock.sendall(tls.data_to_send())
        sock.settimeout(None)
        self._tls = tls
        return plaintext

    def _refuse(self, response: bytes, *, has_asked: bool) -> None:
        """Answer when the peer has asked; it has until the linger time to read that."""
        sock = self._sock
        until = time.monotonic() + REFUSAL_LINGER_S
        sock.settimeout(REFUSAL_LINGER_S)
        if not has_asked:
            sock.recv(_READ_BYTES_MIN)
        if self._tls is not None:
            self._tls.send([response])
            self._tls.close_notify()
            response = self._tls.data_to_send()
        sock.sendall(response)
        sock.shutdown(socket.SHUT_WR)
        while (left_s := until - time.monotonic()) > 0:
            sock.settimeout(left_s)
            if not sock.recv(_READ_BYTES_MIN):
                return

    def read(self, data: bytes = b"") -> None:
        """Give the hub what the peer sends, until the end, or until another thread does that; a
        thread's work."""
        server = self._server
        reading = True
        size = _READ_BYTES_MIN
        try:
            while True:
                if data:
                    reading = self._give(data)
                    if not reading:
                        return
                if (self._paused or self._eof) and self._wait_to_read():
                    return
                received = self._sock.recv(size)
                if not received and self._ending >= _CLOSE:
                    return
                size = _READ_BYTES_MAX if len(received) == size else _READ_BYTES_MIN
                data = received if self._tls is None else self._decrypt(received)
                if not received or (self._tls is not None and self._tls.received_eof):
                    if data:
                        reading = self._give(data)
                        if not reading:
                            return
                        data = b""
                    server.act(self._say_eof)
        except OSError:  # a reset, or TLS that is none
            self.abort()
        except BaseException:
            self.abort()
            raise
        finally:
            if reading:
                self._leave()

    def _give(self, data: bytes) -> bool:
        """Give the hub bytes, and run the steps of handlers that come of it; False if another
        thread reads on by now."""
        server = self._server
        steps: deque[Any] = deque()
        hub = server.hub
        server.act(lambda: hub.receive_data(self.fd, data, now=hub.now), steps, self.fd)
        return not steps or server.run_steps(self, steps)

    def _say_eof(self) -> None:
        self._eof = True
        self._server.hub.receive_eof(self.fd, now=self._server.hub.now)

    def _wait_to_read(self) -> bool:
        """Wait while nothing may be read; whether nothing is to be read any more."""
        while True:
            with self._server.lock:
                if self._ending >= _CLOSE:
                    return True
                if not self._paused and not self._eof:
                    return False
                self._gate = gate = threading.Lock()
                gate.acquire()
            gate.acquire()

    def _open_gate(self) -> None:
        if self._gate is not None:
            self._gate.release()
            self._gate = None

    def _decrypt(self, data: bytes) -> bytes:
        """Plaintext; what TLS itself has to say is sent."""
        assert self._tls is not None
        try:
            with self._write_lock:
                return self._tls.receive_data(data)
        finally:
            self._pending.append(b"")  # for who holds the lock now
            self.flush()

    # -- for the drain ------------------------------------------------------------------------

    def write(self) -> None:
        if self._accepts:
            self._pending.extend(self._server.hub.data_to_send(self.fd))
            self._server.to_flush.append(self)

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._open_gate()

    def shutdown_write(self) -> None:
        self._end(_HALF)

    def disconnect(self, *, abort: bool) -> None:
        self._end(_ABORT if abort else _CLOSE)

    def _end(self, how: int) -> None:
        self._ending = max(self._ending, how)
        if how >= _CLOSE:
            self._open_gate()
        self._server.to_flush.append(self)

    # -- writing ------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what was taken, as far as the socket takes it now; in any thread."""
        while self._write_lock.acquire(blocking=False):
            blocked = failed = False
            try:
                if not self._blocked or self._ending == _ABORT:
                    was_failed = self._failed
                    blocked = not self._try_to_send() and not self._blocked
                    self._blocked = self._blocked or blocked
                    failed = self._failed and not was_failed
            finally:
                self._write_lock.release()
            if failed:
                self._server.act(self._say_failed)
            if blocked:
                if self._server.act(self._say_blocked):
                    self._server.threads.run_or_wait(self._write_rest)
                return
            if self._blocked or (not self._pending and self._ended == self._ending):
                return  # else somebody has added to it and found the lock taken

    def _try_to_send(self) -> bool:
        """Send what there is, and end what is to be ended; False if the socket is full. With the
        write lock."""
        ending = self._ending
        try:
            if not self._failed and ending != _ABORT:
                self._send()
            if ending > self._ended:
                self._ended = ending
                self._sock.shutdown(socket.SHUT_WR if ending == _HALF else socket.SHUT_RDWR)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self._failed = True
        if self._failed or ending == _ABORT:
            self._pending.clear()
            self._rest = b""
            self._ended = ending
        return True

    def _send(self) -> None:
        """Raises `BlockingIOError` when the socket is full, and `OSError`."""
        tls = self._tls
        send = self._sock.send
        pending = self._pending
        while True:
            if not self._rest:
                buffers = [pending.popleft() for _ in range(len(pending))]
                if tls is not None:
                    if buffers and self._ended < _HALF:
                        tls.send(buffers)
                    if self._ending >= _HALF and not pending:
                        tls.close_notify()
                    self._rest = tls.data_to_send()
                else:
                    self._rest = buffers[0] if len(buffers) == 1 else b"".join(buffers)
                if not self._rest:
                    return
            sent = send(self._rest, socket.MSG_DONTWAIT)
            self._rest = b"" if sent == len(self._rest) else memoryview(self._rest)[sent:]

    def _unsent(self) -> int:
        return len(self._rest) + sum(map(len, list(self._pending)))

    def _say_failed(self) -> None:
        """The socket is of no use: whoever reads has to see that."""
        self._end(_ABORT)

    def _say_blocked(self) -> bool:
        """The socket is full; whether that matters still."""
        if not self._users:
            return False
        self._users += 1
        self._accepts = False
        self._server.full.add(self)
        self.report_unsent()
        return True

    def report_unsent(self) -> None:
        """Say how much the socket has not taken; under the hub's lock."""
        hub = self._server.hub
        hub.bytes_unsent(self.fd, self._unsent(), now=hub.now)

    def _write_rest(self) -> None:
        """Send the rest as the socket takes it; a thread's work."""
        wait = _wait_for_room(self._sock)
        try:
            while True:
                if self._ending != _ABORT:  # else it was asked for while this held the lock
                    wait()
                with self._write_lock:
                    if self._try_to_send():
                        self._blocked = False
                        break
            self._server.act(self._say_sent)
        finally:
            self._leave()

    def _say_sent(self) -> None:
        self._accepts = True
        self._server.full.discard(self)
        hub = self._server.hub
        hub.bytes_unsent(self.fd, 0, now=hub.now)
        if self._failed:
            self._end(_ABORT)
        self.write()

    # -- the end ------------------------------------------------------------------------------

    def abort(self) -> None:
        """End what threads wait for at the socket; in any thread."""
        with self._write_lock, suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _leave(self) -> None:
        """A thread has done with the socket; the last one closes it."""
        with self._server.lock:
            self._users -= 1
            is_last = not self._users
        if not is_last:
            return
        with self._write_lock:
            self._failed = True
            self._sock.close()
        self._server.act(self._say_lost)

    def _say_lost(self) -> None:
        server = self._server
        server.sockets.discard(self)
        server.full.discard(self)
        if self.fd:
            del server.connections[self.fd]
            server.hub.connection_lost(self.fd, now=server.hub.now)


def _wait_for_room(sock: socket.socket) -> Callable[[], object]:
    """What waits until the socket takes bytes, or has failed."""
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    return poll.poll
