"""A server and its clients in virtual time: a transport without sockets, loop or clock.

    simulation = Simulation(app)
    peer = simulation.connect()
    peer.open("/chat/lobby")
    peer.send('{"type": "chat_message", "text": "hello"}')
    simulation.advance(20.0)
    assert peer.pings

`Simulation` plays the transport of one hub by its contract: one input, then one full drain.
`Peer` is a client with its socket. wsproto is its codec, so that the other side is somebody
else's code; `send_raw` sends anything at all. Whatever the hub says is kept in `outputs`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from math import inf
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.extensions import Extension, PerMessageDeflate

from raw import pieces
from wireroom.core import (
    FINISHED,
    App,
    BackplaneSettings,
    Cancel,
    Disconnect,
    HandlerFailed,
    Hub,
    Invocation,
    Invoke,
    Output,
    PauseReading,
    Resume,
    ResumeReading,
    Session,
    ShutdownWrite,
    Wait,
)

TIMEOUTS_AT_ONE_TIME_MAX: Final = 1000

T = TypeVar("T")


class Cancelled(BaseException):
    """What a handler gets that the hub wants cancelled, as a loop would give it."""


class Foreign:
    """Something that is not the hub's: a handler awaits it until the test completes it."""

    def __init__(self) -> None:
        self.waiting: list[Invocation] = []

    def __await__(self) -> Generator[Foreign, Any, Any]:
        return (yield self)


class Simulation:
    """One hub, its transport, its peers and its clock.

    With `cut`, everything that peers send arrives in pieces of so many bytes.
    """

    def __init__(
        self,
        app: App,
        *,
        cut: int | None = None,
        epoch: str = "simulated",
        backplane: BackplaneSettings | None = None,
    ) -> None:
        self.posted: SimpleQueue[Callable[[], None]] = SimpleQueue()  # of other threads
        self.hub = Hub(
            app,
            wake=lambda: self.hub.woken(now=self.now),
            foreign_wait=_wait_in_task,
            post=self.posted.put,
            epoch=epoch,
            backplane=backplane,
        )
        self.now = 0.0
        self.cut = cut
        self.peers: dict[int, Peer] = {}  # those that have a socket, by fd
        self.outputs: list[Output] = []  # all that the hub said, in order
        self.running: set[Invocation] = set()
        self.readable: deque[Peer] = deque()
        self.gone: deque[Peer] = deque()
        self._steps: deque[tuple[Invocation, BaseException | None, object]] = deque()
        self._tasks: deque[Coroutine[Any, Any, object]] = deque()

    # -- what the test does ---------------------------------------------------------------------

    def connect(self, host: str = "10.0.0.1", port: int = 4000, *, secure: bool = False) -> Peer:
        """A new peer. Raises `IdsExhaustedError` as the hub does."""
        fd = self.hub.connect((host, port), now=self.now, secure=secure)
        assert fd not in self.peers, f"fd {fd} was given out twice"
        peer = self.peers[fd] = Peer(self, fd)
        self.settle()
        return peer

    def open(self, path: str = "/", **options: Any) -> Peer:
        """A new peer that has opened a WebSocket; see `Peer.open`."""
        peer = self.connect()
        peer.open(path, **options)
        return peer

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping wherever the hub wants to be called."""
        until = self.now + seconds
        calls = 0
        while (due := self.hub.next_timeout()) is not None and due <= until:
            calls = calls + 1 if due <= self.now else 0
            assert calls < TIMEOUTS_AT_ONE_TIME_MAX, "the hub asks for one timeout after another"
            self.now = max(self.now, due)
            for peer in self.peers.values():
                peer.report_unsent()
            self.hub.handle_timeout(now=self.now)
            self.settle()
        self.now = until

    def complete(self, foreign: Foreign, value: object = None) -> None:
        """What handlers await has happened, and gave `value`."""
        self._complete(foreign, None, value)

    def fail(self, foreign: Foreign, error: BaseException) -> None:
        """What handlers await has failed with `error`."""
        self._complete(foreign, error, None)

    def take_posted(self, until: Callable[[], object], *, timeout_s: float = 60.0) -> None:
        """Take other threads' inputs until something is so; raises `queue.Empty` if none comes."""
        while not until():
            self.posted.get(timeout=timeout_s)()
            self.settle()

    def spawn(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Run a task of the application's own, which the hub does not step."""
        self._tasks.append(coroutine)
        self.settle()

    def shut_down(self) -> None:
        """Close all sessions, as a server that stops does."""
        self.hub.shutdown(now=self.now)
        self.settle()

    def end(self) -> None:
        """Lose every connection, and end every handler."""
        for peer in list(self.peers.values()):
            peer.lose()
        for invocation in list(self.running):
            self._steps.append((invocation, Cancelled(), None))
        self.settle()

    # -- what the test asks ---------------------------------------------------------------------

    def session(self, peer: Peer) -> Session:
        """The open session of `peer`."""
        session = self.hub.session(peer.fd)
        assert session is not None
        return session

    def said(self, kind: type[T], peer: Peer | None = None) -> list[T]:
        """The outputs of one kind so far, of one peer or of all."""
        return [
            output
            for output in self.outputs
            if isinstance(output, kind) and (peer is None or getattr(output, "fd", None) == peer.fd)
        ]

    @property
    def failures(self) -> list[BaseException]:
        """What handlers have raised."""
        return [output.error for output in self.said(HandlerFailed)]

    # -- the transport --------------------------------------------------------------------------

    def settle(self) -> None:
        """Go on until there is nothing left to do at this time."""
        while True:
            self._drain()
            if self.gone:
                self.gone.popleft().lose()
            elif self.readable:
                self.readable.popleft().deliver()
            elif self._tasks:
                self._step_task(self._tasks.popleft())
            elif self._steps:
                self._step(*self._steps.popleft())
            elif not self.posted.empty():
                self.posted.get()()
            else:
                return

    def _drain(self) -> None:
        """Take all bytes, carry out all outputs; again while that gave the hub something."""
        hub = self.hub
        drained = False
        while not drained:
            drained = True
            for fd in hub.fds_to_send():
                if (peer := self.peers.get(fd)) is not None:
                    peer.write()
            while (output := hub.next_output()) is not None:
                drained = False
                self.outputs.append(output)
                self._carry_out(output)

    def _carry_out(self, output: Output) -> None:
        match output:
            case Invoke():
                self.running.add(output.invocation)
                self._steps.append((output.invocation, None, None))
            case Resume():
                self._steps.append((output.invocation, None, None))
            case Cancel():
                self._steps.append((output.invocation, Cancelled(), None))
            case Disconnect() | ShutdownWrite() | PauseReading() | ResumeReading():
                if (peer := self.peers.get(output.fd)) is not None:
                    peer.carry_out(output)
            case _:
                pass  # facts

    def _step(self, invocation: Invocation, error: BaseException | None, value: object) -> None:
        """One step of a handler, as a loop would run it."""
        try:
            yielded = self.hub.resume(invocation, error, now=self.now, value=value)
        except Cancelled:
            yielded = FINISHED
        if yielded is FINISHED:
            self.running.discard(invocation)
        elif isinstance(yielded, Foreign):
            yielded.waiting.append(invocation)
        else:
            assert isinstance(yielded, Wait)

    def _complete(self, foreign: Foreign, error: BaseException | None, value: object) -> None:
        waiting, foreign.waiting = foreign.waiting, []
        for invocation in waiting:
            self._steps.append((invocation, error, value))
        self.settle()

    def _step_task(self, coroutine: Coroutine[Any, Any, object]) -> None:
        try:
            wait = coroutine.send(None)
        except StopIteration:
            return
        assert isinstance(wait, Wait)
        wait.add_hook(lambda: self._tasks.append(coroutine))


def _wait_in_task(wait: Wait) -> Generator[Wait, None, None]:
    """How a task of the application's own waits for something of the hub's."""
    yield wait


class Peer:
    """A client, and the socket between it and the server.

    A polite one (as at first) answers Pings and Closes and ends its side when the server does.
    One that stalls reads nothing; what the server's socket does not take stays with the
    transport. A socket that lingers is not called lost when the server has disconnected it.
    """

    def __init__(self, simulation: Simulation, fd: int) -> None:
        self.simulation = simulation
        self.fd = fd
        self.polite = True
        self.lingers = False
        # what it has seen
        self.received = bytearray()
        self.accepted: AcceptConnection | None = None
        self.rejected: RejectConnection | None = None
        self.body = b""  # of a rejection
        self.messages: list[str | bytes] = []
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.close_frame: CloseConnection | None = None
        self._after_close = b""  # a Pong that has come in part
        self.saw_eof = False
        # the socket
        self.disconnected = False
        self.aborted = False
        self.lost = False
        self._is_read = True
        self._codec: WSConnection | None = None
        self._parts: list[str | bytes] = []
        self._arriving: deque[bytes | None] = deque()  # on the way to the server; None is the end
        self._window = inf  # bytes that it will still read
        self._unsent = b""  # taken by the transport, not by the socket
        self._is_shut = False

    # -- what the client does -------------------------------------------------------------------

    def open(
        self,
        path: str = "/",
        *,
        subprotocols: tuple[str, ...] = (),
        headers: tuple[tuple[bytes, bytes], ...] = (),
        deflate: bool = False,
        then: bytes = b"",
    ) -> None:
        """Send the opening handshake, and `then` more bytes in the same read."""
        self._codec = WSConnection(ConnectionType.CLIENT)
        extensions: list[Extension] = [PerMessageDeflate()] if deflate else []
        handshake = Request(
            host="server.example",
            target=path,
            subprotocols=list(subprotocols),
            extra_headers=list(headers),
            extensions=extensions,
        )
        self.send_raw(self._codec.send(handshake) + then)

    def send(self, *messages: str | bytes) -> None:
        """Send messages, all in one read."""
        self.send_raw(b"".join(self._encode(message) for message in messages))

    def send_parts(self, *parts: str) -> None:
        """Send a text message in fragments, all in one read."""
        last = len(parts) - 1
        self.send_events(
            *(
                TextMessage(data=part, message_finished=index == last)
                for index, part in enumerate(parts)
            )
        )

    def ping(self, payload: bytes = b"") -> None:
        """Send a Ping."""
        self.send_events(Ping(payload=payload))

    def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Send a Close."""
        self.send_events(CloseConnection(code=code, reason=reason))

    def send_events(self, *events: Event) -> None:
        """Send what wsproto makes of its events, all in one read."""
        self.send_raw(b"".join(self.codec.send(event) for event in events))

    def send_raw(self, data: bytes, *, cut: int | None = None) -> None:
        """Send any bytes, in one read or in pieces of `cut` bytes."""
        for piece in pieces(data, cut or self.simulation.cut):
            self._arriving.append(piece)
            self.simulation.readable.append(self)
            self.simulation.settle()

    def send_eof(self) -> None:
        """End the sending side."""
        self._arriving.append(None)
        self.simulation.readable.append(self)
        self.simulation.settle()

    def stall(self) -> None:
        """Read nothing from now on."""
        self._window = 0

    def read(self, count: float = inf) -> None:
        """Read `count` more bytes, or everything from now on."""
        self._window += count
        if self._unsent:
            self._receive_unsent()
        self.simulation.settle()

    def lose(self) -> None:
        """The socket is gone, whoever closed it."""
        if self.lost:
            return
        self.lost = self.saw_eof = True
        del self.simulation.peers[self.fd]
        self.simulation.hub.connection_lost(self.fd, now=self.simulation.now)
        self.simulation.settle()

    @property
    def codec(self) -> WSConnection:
        """wsproto's side of the connection."""
        assert self._codec is not None, "open() first"
        return self._codec

    # -- what the test asks ---------------------------------------------------------------------

    def close_code(self) -> int | None:
        """The code of the Close that the server sent."""
        return None if self.close_frame is None else int(self.close_frame.code)

    def status(self) -> int | None:
        """The HTTP status of the server's answer to the handshake."""
        if self.accepted is not None:
            return 101
        return None if self.rejected is None else self.rejected.status_code

    def is_read(self) -> bool:
        """Whether the server reads from it."""
        return self._is_read

    # -- the transport's side of the socket -----------------------------------------------------

    def deliver(self) -> None:
        """Give the hub the next bytes that have arrived, if it reads."""
        if self.lost or self.disconnected or not self._is_read or not self._arriving:
            return
        hub, now = self.simulation.hub, self.simulation.now
        data = self._arriving.popleft()
        if data is None:
            hub.receive_eof(self.fd, now=now)
        else:
            hub.receive_data(self.fd, data, now=now)

    def write(self) -> None:
        """Take bytes from the hub, if the socket accepts them."""
        if self._unsent or self.lost:
            return
        self._unsent = b"".join(self.simulation.hub.data_to_send(self.fd))
        if self._unsent:
            self._receive_unsent(new=True)

    def _receive_unsent(self, *, new: bool = False) -> None:
        count = int(min(self._window, len(self._unsent)))
        data, self._unsent = self._unsent[:count], self._unsent[count:]
        self._window -= count
        if self._unsent or not new:
            self.report_unsent(always=True)
        if data:
            self._receive(data)
        if not self._unsent and not new:
            self.write()
        self._end_if_sent()

    def report_unsent(self, *, always: bool = False) -> None:
        """Tell the hub how much the socket has not taken."""
        if self._unsent or always:
            self.simulation.hub.bytes_unsent(self.fd, len(self._unsent), now=self.simulation.now)

    def carry_out(self, output: Disconnect | ShutdownWrite | PauseReading | ResumeReading) -> None:
        """Do with the socket what the hub asks for."""
        match output:
            case PauseReading():
                self._is_read = False
            case ResumeReading():
                self._is_read = True
                self.simulation.hub.receive_data(self.fd, b"", now=self.simulation.now)
                self.simulation.readable.extend([self] * len(self._arriving))
            case ShutdownWrite():
                self._is_shut = True
                self._end_if_sent()
            case Disconnect():
                self.disconnected = True
                self.aborted = self.aborted or output.abort
                if output.abort:
                    self._unsent = b""
                self._end_if_sent()

    def _end_if_sent(self) -> None:
        """The end of the stream comes after everything that the socket had to send."""
        if self._unsent:
            return
        if self.disconnected:
            self.saw_eof = True
            if not self.lingers:
                self.simulation.gone.append(self)
        elif self._is_shut and not self.saw_eof:
            self.saw_eof = True
            if self.polite:
                self._arriving.append(None)
                self.simulation.readable.append(self)

    # -- the client's side of the socket --------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        assert not self.saw_eof, "the server sent something after its end"
        self.received += data
        if self._codec is None:
            return
        # Pongs may follow, until the server has received a Close too (RFC 6455 section 5.5.2);
        # wsproto, which has answered the Close, would take no more bytes.
        if self.close_frame is not None:
            self._take_pongs(data)
            return
        self._codec.receive_data(data)
        for event in self._codec.events():
            self._happened(event)

    def _take_pongs(self, data: bytes) -> None:
        """Whole Pongs and nothing else, however they are cut."""
        rest = self._after_close = self._after_close + data
        while rest:
            assert rest[0] == 0x8A, f"the server sent something after its Close: {rest!r}"
            if len(rest) < 2 or len(rest) < 2 + rest[1]:
                break
            rest = rest[2 + rest[1] :]
        self._after_close = rest

    def _happened(self, event: Event) -> None:
        match event:
            case AcceptConnection():
                self.accepted = event
            case RejectConnection():
                self.rejected = event
            case RejectData():
                self.body += event.data
            case TextMessage() | BytesMessage():
                self._take_part(event)
            case Ping():
                self.pings.append(bytes(event.payload))
                if self.polite:
                    self._answer(event.response())
            case Pong():
                self.pongs.append(bytes(event.payload))
            case CloseConnection():
                closing = (ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED)
                assert self.codec.state in closing, f"the server broke the protocol: {event}"
                self.close_frame = event
                if self.polite and self.codec.state is ConnectionState.REMOTE_CLOSING:
                    self._answer(event.response())
            case _:
                raise AssertionError(f"unexpected: {event}")

    def _take_part(self, event: Message[Any]) -> None:
        part: str | bytes = event.data if isinstance(event.data, str) else bytes(event.data)
        self._parts.append(part)
        if event.message_finished:
            parts, self._parts = self._parts, []
            empty = parts[0][:0]
            self.messages.append(empty.join(parts))  # type: ignore[arg-type]  # all of one kind

    def _answer(self, event: Event) -> None:
        self._arriving.append(self.codec.send(event))
        self.simulation.readable.append(self)

    def _encode(self, message: str | bytes) -> bytes:
        if isinstance(message, str):
            return self.codec.send(TextMessage(data=message))
        return self.codec.send(BytesMessage(data=message))
