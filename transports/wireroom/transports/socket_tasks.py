"""A connection of the anyio transport: a task that reads, and one that writes what the socket does
not take at once."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, final

import anyio

from wireroom.core import IdsExhaustedError
from wireroom.core.wire.request import Address

from .sockets import REFUSAL_LINGER_S, set_no_delay
from .tls import TlsPipe

if TYPE_CHECKING:
    from .anyio import Server

_READ_BYTES: Final = 64 * 1024  # read at most at once


@final
class Connection:
    """One socket, what it has not taken yet, and whether it is read from."""

    __slots__ = (
        "_address",
        "_ending",
        "_may_read",
        "_scope",
        "_server",
        "_sock",
        "_tls",
        "_unsent",
        "fd",
    )

    def __init__(
        self,
        server: Server,
        sock: socket.socket,
        address: Address,
        context: ssl.SSLContext | None,
    ) -> None:
        self.fd = 0  # none
        self._server = server
        self._sock = sock
        self._address = address
        self._tls = None if context is None else TlsPipe(context, server_side=True)
        self._scope = anyio.CancelScope()  # of the reading
        self._unsent = memoryview(b"")
        self._may_read: anyio.Event | None = None  # set while reading is paused
        self._ending: Literal["", "shutdown", "close"] = ""  # once everything is sent

    # -- reading ------------------------------------------------------------------------------

    async def serve(self, received: bytes) -> None:
        """From the socket, of which others have `received` something, to the end of it."""
        try:
            set_no_delay(self._sock)
            with self._scope:
                data = await self._open(received)
                if data is not None:
                    await self._read(data)
        finally:
            anyio.notify_closing(self._sock)
            self._sock.close()
            if self.fd:
                self._say_lost()

    async def _open(self, data: bytes) -> bytes | None:
        """Shake hands, and get an fd: what was received until then, None if it came to nothing."""
        server = self._server
        if self._tls is not None:
            try:
                with anyio.fail_after(server.hub.limits.head_timeout_s):
                    data = await self._shake_hands(self._tls)
            except (OSError, TimeoutError) as error:
                server.tls_failed(self._address, error)
                return None
        try:
            self._connect()
        except IdsExhaustedError as error:
            server.logger.warning("connection refused: %s", error)
            with anyio.move_on_after(REFUSAL_LINGER_S), suppress(OSError):
                await self._refuse(error.response, has_asked=bool(data))
            return None
        return data

    async def _shake_hands(self, tls: TlsPipe) -> bytes:
        """TLS's handshake; gives what came after it. Raises `OSError` if it fails."""
        plaintext = b""
        while not tls.handshake_done:
            await anyio.wait_readable(self._sock)
            data = self._sock.recv(_READ_BYTES)
            if not data:
                raise ConnectionResetError("the peer left during the TLS handshake")
            plaintext += self._decrypt(tls, data)
        return plaintext

    def _connect(self) -> None:
        server = self._server
        tls = self._tls
        self.fd = server.hub.connect(
            self._address,
            now=server.time(),
            secure=tls is not None,
            client_certificate=None if tls is None else tls.peer_certificate,
        )
        server.connections[self.fd] = self
        server.drain()  # a deadline for its first byte has to be armed

    async def _read(self, data: bytes) -> None:
        """Give the hub what the peer sends, until it ends or the hub ends it."""
        server = self._server
        hub = server.hub
        sock = self._sock
        tls = self._tls
        while True:
            if data:
                hub.receive_data(self.fd, data, now=server.time())
                server.drain()
            if self._may_read is not None:
                await self._may_read.wait()
            await anyio.wait_readable(sock)
            if self._may_read is not None:
                continue
            try:
                data = sock.recv(_READ_BYTES)
                ended = not data
                if tls is not None and data:
                    data = self._decrypt(tls, data)
                    ended = tls.received_eof
            except (BlockingIOError, InterruptedError):
                data = b""
                continue
            except OSError:  # a reset, or TLS that is none
                return
            if ended:
                if data:
                    hub.receive_data(self.fd, data, now=server.time())
                hub.receive_eof(self.fd, now=server.time())
                server.drain()
                await anyio.sleep_forever()  # the hub says when to close

    def _decrypt(self, tls: TlsPipe, data: bytes) -> bytes:
        """Plaintext; what TLS itself has to say is sent. Raises `ssl.SSLError`."""
        try:
            return tls.receive_data(data)
        finally:
            self._send(tls.data_to_send())

    async def _refuse(self, response: bytes, *, has_asked: bool) -> None:
        """Answer when the peer has asked; it has until the linger time to read that."""
        sock = self._sock
        if not has_asked:
            await anyio.wait_readable(sock)
            sock.recv(_READ_BYTES)
        if self._tls is not None:
            self._tls.send([response])
            response = self._tls.data_to_send()
        self._try_to_send(memoryview(response))
        self.shutdown_write()
        await anyio.wait_readable(sock)
        while sock.recv(_READ_BYTES):
            await anyio.wait_readable(sock)

    def pause_reading(self) -> None:
        if self._may_read is None:
            self._may_read = anyio.Event()

    def resume_reading(self) -> None:
        if self._may_read is not None:
            self._may_read.set()
            self._may_read = None

    # -- writing ------------------------------------------------------------------------------

    def write(self) -> None:
        """Take what the hub has for this connection, if the socket accepts it, and write it."""
        if self._unsent:
            return
        buffers = self._server.hub.data_to_send(self.fd)
        if self._tls is not None:
            self._tls.send(buffers)
            self._send(self._tls.data_to_send())
        elif buffers:
            self._send(buffers[0] if len(buffers) == 1 else b"".join(buffers))

    def _send(self, data: bytes) -> None:
        """Send now what the socket takes, and leave the rest to a task."""
        if self._unsent:
            self._unsent = memoryview(bytes(self._unsent) + data) if data else self._unsent
            return
        sent = self._try_to_send(memoryview(data))
        if sent < len(data):
            self._unsent = memoryview(data)[sent:]
            self._server.full.add(self)
            self.report_unsent()
            self._server.spawn(self._send_rest)

    def _try_to_send(self, data: memoryview) -> int:
        try:
            return self._sock.send(data) if data else 0
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._scope.cancel()
            return len(data)

    async def _send_rest(self) -> None:
        server = self._server
        with suppress(OSError, anyio.ClosedResourceError):
            while self._unsent and self._sock.fileno() >= 0:
                await anyio.wait_writable(self._sock)
                self._unsent = self._unsent[self._try_to_send(self._unsent) :]
        server.full.discard(self)
        if self.fd in server.connections and not self._scope.cancel_called:
            self.report_unsent()
            self.write()
            self._end_if_sent()
            server.drain()

    def report_unsent(self) -> None:
        """Say how much the socket has not taken."""
        if self.fd:
            self._server.hub.bytes_unsent(self.fd, len(self._unsent), now=self._server.time())

    # -- ending -------------------------------------------------------------------------------

    def shutdown_write(self) -> None:
        self._ending = self._ending or "shutdown"
        self._end_if_sent()

    def disconnect(self, *, abort: bool) -> None:
        if abort:
            self._unsent = memoryview(b"")
            self._scope.cancel()
        else:
            self._ending = "close"
            self._end_if_sent()

    def _end_if_sent(self) -> None:
        if self._unsent or not self._ending:
            return
        if self._tls is not None:
            self._tls.close_notify()
            self._try_to_send(memoryview(self._tls.data_to_send()))
        if self._ending == "close":
            self._scope.cancel()
        else:
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)

    def _say_lost(self) -> None:
        server = self._server
        server.full.discard(self)
        del server.connections[self.fd]
        server.hub.connection_lost(self.fd, now=server.time())
        server.drain()
        server.check_quiet()
