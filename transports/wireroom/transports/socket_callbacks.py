"""Sockets of the asyncio transport: watched by the loop, read and written by ourselves.

asyncio's own transports cost a message more than the hub does, and an idle connection more than a
KiB; all that is needed of the loop is to be told when a socket is ready (`readiness.py`).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, final

from wireroom.core import IdsExhaustedError
from wireroom.core.hub import Hub
from wireroom.core.wire.request import Address

from .sockets import REFUSAL_LINGER_S, set_no_delay
from .tls import TlsPipe

if TYPE_CHECKING:
    from .asyncio import Server
    from .readiness import LoopTurn

_JOIN_BYTES: Final = 64 * 1024  # up to here a copy costs less than a system call's list of buffers
_BUFFERS_MAX: Final = 512  # of one system call; the system's bound (IOV_MAX) is 1024 or more

# How far the end has been asked for, once all is sent.
_OPEN: Final = 0
_HALF: Final = 1  # send no more, read on
_CLOSED: Final = 2
_GONE: Final = 3  # the socket is closed


@final
class _Opening:
    """What there is of a connection that has no fd: it shakes hands, or is refused."""

    __slots__ = ("address", "refusal", "timer")

    def __init__(self, address: Address) -> None:
        self.address = address
        self.refusal = b""  # the response, until it is sent
        self.timer: Any = None  # asyncio.TimerHandle

    def stop_timer(self) -> None:
        """Have it not call, and not refer to the connection any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@final
class Connection:
    """One socket: what it says becomes inputs of the hub, whose outputs are carried out."""

    __slots__ = (
        "_ending",
        "_eof",
        "_hub",
        "_opening",
        "_paused",
        "_server",
        "_sock",
        "_tls",
        "_turn",
        "_unsent",
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
        """Serve `sock`, from which another server has `received` bytes before."""
        self.fd = 0  # none
        self._server = server
        self._turn: LoopTurn = server.turn
        self._hub: Hub = server.hub
        self._sock = sock
        self._tls = None if context is None else TlsPipe(context, server_side=True)
        self._opening: _Opening | None = _Opening(address)
        self._unsent: list[bytes | memoryview] | None = None  # what the socket has not taken
        self._ending = _OPEN
        self._eof = False
        self._paused = False
        set_no_delay(sock)
        self._watch()
        if self._tls is None:
            self._connect()
            if received:
                self._take(received)
        else:
            self._limit(server.hub.limits.head_timeout_s, self._handshake_timed_out)

    # -- opening ------------------------------------------------------------------------------

    def _connect(self) -> None:
        """Get an fd, or a response that refuses it."""
        opening = self._opening
        assert opening is not None
        tls = self._tls
        try:
            self.fd = self._hub.connect(
                opening.address,
                now=self._turn.begin(),
                secure=tls is not None,
                client_certificate=None if tls is None else tls.peer_certificate,
            )
        except IdsExhaustedError as error:
            self._server.logger.warning("connection refused: %s", error)
            opening.refusal = error.response
            self._limit(REFUSAL_LINGER_S, self._close)
            return
        opening.stop_timer()
        self._opening = None
        self._server.remember(self)

    def _refuse(self) -> None:
        """Answer, now that the peer has asked; it has until the linger time to read that."""
        opening = self._opening
        if opening is not None and opening.refusal:
            response, opening.refusal = opening.refusal, b""
            self._encrypt_and_send([response])
            self.shutdown_write()

    def _limit(self, seconds: float, then: Callable[[], None]) -> None:
        opening = self._opening
        assert opening is not None
        opening.stop_timer()
        opening.timer = self._server.loop.call_later(seconds, then)

    def _handshake_timed_out(self) -> None:
        self._fail_handshake(TimeoutError("it took too long"))

    def _fail_handshake(self, error: Exception) -> None:
        opening = self._opening
        assert opening is not None
        self._server.tls_failed(opening.address, error)
        self._close()

    # -- reading ------------------------------------------------------------------------------

    def _watch(self) -> None:
        if not self._paused and not self._eof and self._ending < _CLOSED:
            self._server.readiness.watch(self._sock.fileno(), self)

    def _unwatch(self) -> None:
        if self._ending < _GONE:
            self._server.readiness.unwatch(self._sock.fileno())

    def readable(self) -> None:
        """The socket can be read, or has ended."""
        try:
            self._read()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Something of ours has raised: that is to hurt no other connection."""
        self._server.logger.error("fd %d is aborted", self.fd, exc_info=error)
        self._close()

    def _read(self) -> None:
        buffer = self._turn.buffer
        try:
            size = self._sock.recv_into(buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            if not self.fd and not self._is_refused:
                self._fail_handshake(error)
            self._close()
            return
        data = buffer[:size].tobytes()
        if size and self.fd and self._tls is None:
            self._hub.receive_data(self.fd, data, now=self._turn.begin())
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        """What is received before there is an fd, or under TLS, or last."""
        ended = not data
        tls = self._tls
        if tls is not None and data:
            try:
                data = tls.receive_data(data)
            except ssl.SSLError as error:
                self._break_tls(tls, error)
                return
            self._send_tls(tls)
            ended = tls.received_eof
            if not self.fd and tls.handshake_done and not self._is_refused:
                self._connect()
        if self.fd:
            if data:
                self._hub.receive_data(self.fd, data, now=self._turn.begin())
            if ended:
                self._eof = True
                self._unwatch()
                self._hub.receive_eof(self.fd, now=self._turn.begin())
        elif data:
            self._refuse()
        elif ended:
            if not self._is_refused:
                self._fail_handshake(ConnectionResetError("the peer left"))
            self._close()

    @property
    def _is_refused(self) -> bool:
        return self._opening is not None and (bool(self._opening.refusal) or self._ending > _OPEN)

    def _break_tls(self, tls: TlsPipe, error: ssl.SSLError) -> None:
        """The peer's TLS is none, or is not to be trusted: say why, and close."""
        self._send_tls(tls)
        if self.fd:
            self._close()
        else:
            self._fail_handshake(error)

    def pause_reading(self) -> None:
        self._paused = True
        self._unwatch()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._watch()

    # -- writing ------------------------------------------------------------------------------

    def write(self) -> None:
        """Take what the hub has for this connection, if the socket accepts it, and write it."""
        if self._unsent is None and self._ending < _GONE:
            buffers = self._hub.data_to_send(self.fd)
            if buffers:
                try:
                    self._encrypt_and_send(buffers)
                except Exception as error:
                    self._fail(error)

    def _encrypt_and_send(self, buffers: list[bytes]) -> None:
        if self._tls is None:
            self._send(buffers)
        else:
            self._tls.send(buffers)
            self._send_tls(self._tls)

    def _send_tls(self, tls: TlsPipe) -> None:
        """Send what TLS has to say."""
        data = tls.data_to_send()
        if data:
            self._send([data])

    def _send(self, buffers: list[bytes]) -> None:
        """Send now what the socket takes, and the rest when it can be written."""
        if self._unsent is not None:
            self._unsent.extend(buffers)
            return
        size = 0
        for each in buffers:
            size += len(each)
        unsent: list[bytes | memoryview]
        if len(buffers) > 1 and size > _JOIN_BYTES:
            unsent = [*buffers]
        else:
            unsent = [buffers[0] if len(buffers) == 1 else b"".join(buffers)]
        if not self._send_of(unsent) and self._ending < _GONE:
            self._unsent = unsent
            server = self._server
            server.loop.add_writer(self._sock.fileno(), self._writable)
            server.full.add(self)
            self.report_unsent()

    def _send_of(self, unsent: list[bytes | memoryview]) -> bool:
        """Send what the socket takes of `unsent`, and take that away; whether it was all. Closes if
        the socket has failed."""
        sock = self._sock
        while unsent:
            tried = _BUFFERS_MAX
            if len(unsent) == 1 or not hasattr(sock, "sendmsg"):  # Windows has none
                tried = 1
            try:
                sent = sock.send(unsent[0]) if tried == 1 else sock.sendmsg(unsent[:tried])
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                self._close()
                return False
            except Exception as error:
                self._fail(error)
                return False
            rest = max(0, len(unsent) - tried)
            _drop(unsent, sent)
            if len(unsent) > rest:
                return False
        return True

    def _writable(self) -> None:
        unsent = self._unsent
        assert unsent is not None
        if self._send_of(unsent):
            self._unsent = None
            server = self._server
            server.loop.remove_writer(self._sock.fileno())
            server.full.discard(self)
            self.report_unsent()
            self.write()
            self._end_if_sent()

    def report_unsent(self) -> None:
        """Say how much the socket has not taken."""
        if self.fd:
            size = sum(map(len, self._unsent or ()))
            self._hub.bytes_unsent(self.fd, size, now=self._turn.begin())

    # -- ending -------------------------------------------------------------------------------

    def shutdown_write(self) -> None:
        self._end(_HALF)

    def disconnect(self, *, abort: bool) -> None:
        if abort:
            self._close()
        elif self._ending < _CLOSED:
            self._unwatch()
            self._end(_CLOSED)

    def _end(self, how: int) -> None:
        if how > self._ending:
            self._ending = how
            self._end_if_sent()

    def _end_if_sent(self) -> None:
        if not _OPEN < self._ending < _GONE or self._unsent is not None:
            return
        if self._tls is not None:
            self._tls.close_notify()
            self._send_tls(self._tls)
        if self._unsent is None:
            if self._ending == _CLOSED:
                self._close()
            elif self._ending == _HALF:
                with suppress(OSError):
                    self._sock.shutdown(socket.SHUT_WR)

    def _close(self) -> None:
        """Close the socket, whatever waits; what comes of that comes in the next turn."""
        if self._ending < _GONE:
            self._unwatch()
            self._ending = _GONE
            loop = self._server.loop
            if self._unsent is not None:
                loop.remove_writer(self._sock.fileno())
                self._unsent = None
            if self._opening is not None:
                self._opening.stop_timer()
            self._sock.close()
            loop.call_soon(self._lost)

    def _lost(self) -> None:
        if self.fd:
            self._hub.connection_lost(self.fd, now=self._turn.begin())
        self._server.forget(self)


def _drop(buffers: list[bytes | memoryview], sent: int) -> None:
    """Take away the first `sent` bytes."""
    whole = 0
    while whole < len(buffers) and sent >= len(buffers[whole]):
        sent -= len(buffers[whole])
        whole += 1
    del buffers[:whole]
    if sent:
        buffers[0] = memoryview(buffers[0])[sent:]
