"""A client of a `Simulation` whose host does the handshake and the framing: whole messages.

    peer = HostPeer(simulation, "/chat/lobby", subprotocols=["chat"])
    peer.send("hello")
    assert peer.messages == ["hello"]

It takes what `wire.host` names, in the order that the hub gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from driver import Peer, Simulation
from wireroom.core import (
    Disconnect,
    PauseReading,
    Request,
    ResumeReading,
    ShutdownWrite,
)
from wireroom.core.wire.host import (
    Accepted,
    Answered,
    BinaryMessage,
    CloseMessage,
    TextMessage,
)


class HostPeer:
    """What the host's client has received, and what it does. `polite` answers a Close."""

    def __init__(
        self,
        simulation: Simulation,
        target: str = "/",
        *,
        subprotocols: Sequence[str] | None = (),
        headers: Sequence[tuple[str, str]] = (("host", "localhost"),),
        method: str = "GET",
        http_version: str = "1.1",
        user: Any = None,
        polite: bool = True,
    ) -> None:
        self.simulation = simulation
        self.polite = polite
        self.status: int | None = None
        self.subprotocol: str | None = None
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        self.messages: list[str | bytes] = []
        self.close_frame: tuple[int | None, str] | None = None
        self.is_read = True
        self.is_over = False  # the hub has ended the connection, or the socket is gone
        self.aborted = False
        self.lost = False
        self.stalls = False  # whether the client reads nothing
        self.waiting: list[bytes] = []  # what the host could not send
        self._closes = False  # whether the client is to answer a Close
        request = Request(
            method=method,
            target=target,
            http_version=http_version,
            headers=list(headers),
            client=("10.0.0.1", 4000),
        )
        request.user = user
        self.request = request
        self.fd = simulation.hub.open(request, subprotocols, now=simulation.now)
        simulation.peers[self.fd] = cast(Peer, self)
        simulation.settle()

    # -- what the client does -------------------------------------------------------------------

    def send(self, message: str | bytes) -> None:
        """One message."""
        self.simulation.hub.receive_message(self.fd, message, now=self.simulation.now)
        self._settle()

    def close(self, code: int = 1005, reason: str = "") -> None:
        """A Close, unless one was sent in answer."""
        self.simulation.hub.receive_close(self.fd, code, reason, now=self.simulation.now)
        self._settle()

    def send_eof(self) -> None:
        """The connection ends without a Close."""
        self.simulation.hub.receive_eof(self.fd, now=self.simulation.now)
        self._settle()

    def read(self) -> None:
        """Read what the host could not send, and everything from now on."""
        self.stalls = False
        unsent, self.waiting = self.waiting, []
        self.simulation.hub.bytes_unsent(self.fd, 0, now=self.simulation.now)
        for buffer in unsent:
            self._take(buffer)
        self._lose_if_sent()
        self.write()
        self._settle()

    def lose(self) -> None:
        """The connection is gone, whoever ended it."""
        if not self.lost:
            self.lost = self.is_over = True
            del self.simulation.peers[self.fd]
            self.simulation.hub.connection_lost(self.fd, now=self.simulation.now)
            self.simulation.settle()

    def _settle(self) -> None:
        self.simulation.settle()
        if self._closes and not self.lost and not self.is_over:
            self._closes = False
            self.close(1000)

    # -- the transport's side -------------------------------------------------------------------

    def write(self) -> None:
        """Take what the hub has, and send it, unless the client reads nothing."""
        if self.waiting or self.lost:
            return
        for buffer in self.simulation.hub.data_to_send(self.fd):
            if self.stalls:
                self.waiting.append(buffer)
            else:
                self._take(buffer)
        self.report_unsent()

    def report_unsent(self) -> None:
        """Tell the hub how much the host has not sent."""
        if self.waiting:
            unsent = sum(map(len, self.waiting))
            self.simulation.hub.bytes_unsent(self.fd, unsent, now=self.simulation.now)

    def deliver(self) -> None:
        """Nothing arrives but what the methods above give at once."""

    def _take(self, buffer: bytes) -> None:
        assert self.close_frame is None, f"{buffer!r} after the Close"
        match buffer:
            case Accepted():
                self.status, self.subprotocol = 101, buffer.subprotocol
                self.headers = buffer.headers
            case Answered():
                self.status, self.headers = buffer.status, buffer.headers
                self.body = bytes(buffer)
            case TextMessage():
                self.messages.append(buffer.decode())
            case BinaryMessage():
                self.messages.append(bytes(buffer))
            case CloseMessage():
                self.close_frame = (buffer.code, buffer.reason)
                self._closes = self.polite
            case _:
                raise AssertionError(f"{buffer!r} is nothing that a host can carry out")

    def carry_out(self, output: Disconnect | ShutdownWrite | PauseReading | ResumeReading) -> None:
        """Do what the hub asks for."""
        match output:
            case PauseReading():
                self.is_read = False
            case ResumeReading():
                self.is_read = True
                self.simulation.hub.receive_data(self.fd, b"", now=self.simulation.now)
            case ShutdownWrite() | Disconnect():
                self.is_over = True
                self.aborted = isinstance(output, Disconnect) and output.abort
                self._lose_if_sent()

    def _lose_if_sent(self) -> None:
        if self.is_over and not self.lost and (self.aborted or not self.waiting):
            self.simulation.gone.append(cast(Peer, self))
