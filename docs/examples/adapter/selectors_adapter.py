"""A transport on `selectors`: one thread, no event loop, and no rule of the protocol.

docs/writing-an-adapter.md explains it step by step.

    (listener,) = open_listeners(port=8301)     # of wireroom.transports.listening
    server = Server(app, listener)
    server.serve_forever()                      # until the hub is shut down
"""

import logging
import socket
from collections import deque
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from time import monotonic
from typing import Any

from wireroom import core
from wireroom.transports.listening import accept_all


class Cancelled(BaseException):
    """Thrown into a handler that has to end."""


class Connection:
    """One socket: what it has not taken, whether it is read, and how it ends once all is sent."""

    def __init__(self, sock: socket.socket, fd: int) -> None:
        self.sock, self.fd = sock, fd
        self.reads, self.unsent = True, memoryview(b"")
        self.ending: core.Disconnect | core.ShutdownWrite | None = None


class Server:
    """A hub, its connections by fd, and the inputs that wait for their turn."""

    def __init__(self, app: core.App, listener: socket.socket) -> None:
        self.hub = core.Hub(app)
        self.connections: dict[int, Connection] = {}
        self.inputs: deque[tuple[Any, ...]] = deque([(self.hub.start,)])
        self.selector = DefaultSelector()
        self.selector.register(listener, EVENT_READ, partial(self.accept, listener))

    def serve_forever(self) -> None:
        """Give the hub one input after another, and drain it after each, until it is shut down."""
        while not self.hub.is_shutting_down or self.inputs or self.hub.stats().connections:
            wait_s = None if (due := self.hub.next_timeout()) is None else due - monotonic()
            for key, events in self.selector.select(0 if self.inputs else wait_s):
                key.data(events)
            self.inputs.append((self.hub.handle_timeout,))
            for _ in range(len(self.inputs)):  # what comes meanwhile is for the next round
                method, *arguments = self.inputs.popleft()
                with suppress(Cancelled):
                    method(*arguments, now=monotonic())
                self.drain()

    def accept(self, listener: socket.socket, events: int) -> None:
        """Peers have connected."""
        for sock, address in accept_all(listener).connections:
            try:
                connection = Connection(sock, self.hub.connect(address, now=monotonic()))
                self.connections[connection.fd] = connection
                self.update(connection)
            except core.IdsExhaustedError as error:
                sock.send(error.response)
                sock.close()

    def ready(self, connection: Connection, events: int) -> None:
        """A socket takes bytes; or it has some, or has come to its end."""
        if events & EVENT_READ and (data := try_to(connection.sock.recv, 65536, b"")) is not None:
            connection.reads = bool(data)
            received = (self.hub.receive_data, connection.fd, data)
            self.inputs.append(received if data else (self.hub.receive_eof, connection.fd))
        self.update(connection)

    def step(self, invocation: Any, error: BaseException | None = None, *, now: float) -> None:
        """A handler goes on to its next await, which has to be for something of ours."""
        given = self.hub.resume(invocation, error, now=now)
        if given is not core.FINISHED and not isinstance(given, core.Wait):
            error = RuntimeError(f"{invocation.name} awaits {given!r}, but no event loop runs here")
            self.inputs.append((self.step, invocation, error))

    def drain(self) -> None:
        """Take everything the hub has to say: bytes first, then the rest, in order."""
        for connection in filter(None, map(self.connections.get, self.hub.fds_to_send())):
            self.update(connection)
        while (output := self.hub.next_output()) is not None:
            match output:
                case core.Invoke(invocation) | core.Resume(invocation):
                    self.inputs.append((self.step, invocation))
                case core.Cancel(invocation):
                    self.inputs.append((self.step, invocation, Cancelled()))
                case core.HandlerFailed(_, handler, error):
                    logging.getLogger(__name__).error("%s failed", handler, exc_info=error)
                case core.Disconnect(fd) | core.ShutdownWrite(fd) if fd in self.connections:
                    self.connections[fd].ending = output
                    self.update(self.connections[fd])
                case core.PauseReading(fd) | core.ResumeReading(fd) if fd in self.connections:
                    self.connections[fd].reads = isinstance(output, core.ResumeReading)
                    self.update(self.connections[fd])
                    if isinstance(output, core.ResumeReading):  # first what the hub has kept
                        self.inputs.append((self.hub.receive_data, fd, b""))

    def update(self, connection: Connection) -> None:
        """Send what waits, as far as the socket takes it; end, if asked to; or wait for more."""
        hub, fd, ending = self.hub, connection.fd, connection.ending
        if connection.sock in self.selector.get_map():
            self.selector.unregister(connection.sock)
        sent: int = not (aborted := isinstance(ending, core.Disconnect) and ending.abort)
        while sent and (data := connection.unsent or b"".join(hub.data_to_send(fd))):
            sent = try_to(connection.sock.send, data, len(data)) or 0
            if connection.unsent or sent < len(data):
                hub.bytes_unsent(fd, len(data) - sent, now=monotonic())
            connection.unsent = memoryview(data)[sent:]
        if ending and (aborted or not connection.unsent):
            try_to(connection.sock.shutdown, socket.SHUT_WR, None)
            if isinstance(ending, core.Disconnect):
                connection.sock.close()
                del self.connections[fd]
                self.inputs.append((hub.connection_lost, fd))
        events = connection.reads * EVENT_READ | bool(connection.unsent) * EVENT_WRITE
        if events and fd in self.connections:
            self.selector.register(connection.sock, events, partial(self.ready, connection))


def try_to(operation: Any, argument: Any, gone: Any) -> Any:
    """What a call of a socket gives; None if it would block, and `gone` if the peer has gone."""
    try:
        return operation(argument)
    except BlockingIOError:
        return None
    except OSError:
        return gone
