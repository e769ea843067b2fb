"""A transport on `selectors`: one thread, no event loop, and no rule of the protocol.

docs/writing-an-adapter.md explains it step by step.

    (listener,) = open_listeners(port=8301)     # of wireroom.transports.listening
    server = Server(app, listener)
    server.serve_forever()                      # until the hub is shut down
"""

import logging
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from time import monotonic

from wireroom import core
from wireroom.transports.listening import accept_all


class Cancelled(BaseException):
    """Thrown into a handler that has to end."""


class Peer:
    """One socket: what it has not taken, whether it is read, and how it ends once all is sent."""

    def __init__(self, sock: socket.socket, fd: int) -> None:
        self.sock, self.fd = sock, fd
        self.unsent, self.reading = memoryview(b""), True
        self.ending: core.Disconnect | core.ShutdownWrite | None = None


class Server:
    """A hub, its peers by fd, and the inputs that wait for their turn: calls that lack only
    the time. All of it is used in the thread of `serve_forever`, and `call` in any."""

    def __init__(self, app: core.App, listener: socket.socket) -> None:
        self.hub = core.Hub(app, post=self.call)
        self.peers: dict[int, Peer] = {}
        self.inputs: deque[Callable[..., object]] = deque([self.hub.start])
        self.waker, self.woken = socket.socketpair()
        self.selector = DefaultSelector()
        self.selector.register(self.woken, EVENT_READ, lambda events: self.woken.recv(4096))
        self.selector.register(listener, EVENT_READ, partial(self.accept, listener))

    def serve_forever(self) -> None:
        """Give the hub one input after another, and drain it after each, until it is shut down."""
        hub = self.hub
        with self.selector, self.waker, self.woken:
            while not hub.is_shutting_down or self.inputs or self.peers or hub.stats().invocations:
                wait_s = None if (due := hub.next_timeout()) is None else due - monotonic()
                for key, events in self.selector.select(0 if self.inputs else wait_s):
                    key.data(events)
                self.inputs.append(hub.handle_timeout)
                for _ in range(len(self.inputs)):  # what comes meanwhile is for the next round
                    with suppress(Cancelled):
                        self.inputs.popleft()(now=monotonic())
                    self.drain()

    def call(self, function: Callable[[], object]) -> None:
        """Have this called as an input, soon; from any thread."""
        self.inputs.extend([self.hub.woken, lambda now: function()])
        with suppress(OSError):  # enough bytes wake it already, or it has ended
            self.waker.send(b"!", socket.MSG_DONTWAIT)

    def accept(self, listener: socket.socket, events: int) -> None:
        """Peers have connected."""
        for sock, address in accept_all(listener).connections:
            try:
                fd = self.hub.connect(address, now=monotonic())
                self.peers[fd] = Peer(sock, fd)
                self.update(self.peers[fd])
            except core.IdsExhaustedError as error:  # it is the hub's answer that is sent here too
                with sock, suppress(OSError):
                    sock.send(error.response)

    def step(self, run: core.Invocation, error: BaseException | None = None, *, now: float) -> None:
        """An input: a handler goes on to its next await, which has to be for something of ours."""
        given = self.hub.resume(run, error, now=now)
        if given is not core.FINISHED and not isinstance(given, core.Wait):
            error = RuntimeError(f"{run.name} awaits {given!r}, but no event loop runs here")
            self.inputs.append(partial(self.step, run, error))

    def drain(self) -> None:
        """Take everything the hub has to say: bytes first, then the rest, in order."""
        for peer in filter(None, map(self.peers.get, self.hub.fds_to_send())):
            self.update(peer)
        while (output := self.hub.next_output()) is not None:
            match output:
                case core.Invoke(run) | core.Resume(run):
                    self.inputs.append(partial(self.step, run))
                case core.Cancel(run):
                    self.inputs.append(partial(self.step, run, Cancelled()))
                case core.HandlerFailed(_, handler, error):
                    logging.getLogger(__name__).error("%s failed", handler, exc_info=error)
                case core.Disconnect(fd) | core.ShutdownWrite(fd) if fd in self.peers:
                    self.peers[fd].ending = output
                    self.update(self.peers[fd])
                case core.PauseReading(fd) | core.ResumeReading(fd) if fd in self.peers:
                    self.peers[fd].reading = isinstance(output, core.ResumeReading)
                    if self.peers[fd].reading:  # first what the hub has kept
                        self.inputs.append(partial(self.hub.receive_data, fd, b""))
                    self.update(self.peers[fd])

    def update(self, peer: Peer, events: int = 0) -> None:
        """Receive and send what the socket lets us; then close it, or wait until it lets us."""
        hub, sock, fd, before = self.hub, peer.sock, peer.fd, peer.unsent
        if sock in self.selector.get_map():
            self.selector.unregister(sock)
        try:
            if events & EVENT_READ:
                peer.reading = bool(data := sock.recv(65536))
                received = partial(hub.receive_data, fd, data)
                self.inputs.append(received if data else partial(hub.receive_eof, fd))
            while unsent := peer.unsent or memoryview(b"".join(hub.data_to_send(fd))):
                peer.unsent = unsent  # in case that sending raises
                peer.unsent = unsent[sock.send(unsent) :]
            if isinstance(peer.ending, core.ShutdownWrite):
                sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if not isinstance(error, BlockingIOError):  # the peer has reset it
                peer.ending = core.Disconnect(fd, abort=True, why=str(error))
        if before or peer.unsent:
            hub.bytes_unsent(fd, len(peer.unsent), now=monotonic())
        if isinstance(peer.ending, core.Disconnect) and (peer.ending.abort or not peer.unsent):
            sock.close()
            del self.peers[fd]
            self.inputs.append(partial(hub.connection_lost, fd))
        elif wanted := peer.reading * EVENT_READ | bool(peer.unsent) * EVENT_WRITE:
            self.selector.register(sock, wanted, partial(self.update, peer))
