"""The hub: every connection of a server, as one state machine without I/O.

It is the only file that knows all layers, and has four kinds of method: getters, inputs (from a
transport, each with `now=`), commands (from application code, mostly on `Session`), and outputs.

A transport does this, for ever: give an input; then take `data_to_send(fd)` for each fd of
`fds_to_send()`, carry out each `next_output()`, and arm one timer for `next_timeout()`.

No input raises for what a peer did. Handlers run inside inputs; one that raises is reported by
`HandlerFailed` and hurts nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any, Final, TypeVar, cast, final

from .app import App
from .backplane import BackplaneInput, BackplaneSettings
from .errors import ConfigurationError, IdsExhaustedError, LocalProtocolError
from .events import Output, PauseReading
from .serving.calls import Calls, Ended, advance
from .serving.closing import ABNORMAL, Closing
from .serving.messages import Messages
from .serving.opening import Opening
from .serving.recurring import Farewell, Pages, Periodic
from .serving.timeouts import Timeouts
from .sessions.completions import Completion, Future
from .sessions.guarded import GuardedHub, GuardedSession, GuardedUser
from .sessions.ids import new_fds
from .sessions.node import Node
from .sessions.registry import Registry
from .sessions.remote_users import RemoteUsers
from .sessions.rooms import Room
from .sessions.sending import by_module
from .sessions.session import Arrival, Common, Session, SessionHub
from .sessions.stats import Stats
from .sessions.streams import Stream
from .sessions.users import User, UserId, Users
from .stopwatch import Stopwatch
from .turn import Enter, ForeignWait, Invocation, Post, Sleep, Turn
from .wire.close_codes import CloseCode
from .wire.framing import CloseReceived, Message
from .wire.host import HostFraming, HostReader
from .wire.http_head import RequestReader
from .wire.request import Address, Certificate, Request, Response
from .wire.states import Input, State

S = TypeVar("S")
T = TypeVar("T")

_OPEN: Final = State.OPEN  # looked up for every read


@final
class Hub:
    """One server's connections. Raises `ConfigurationError` for an app that cannot work.

    `wake` is called when application code acts between two inputs: say `woken(now=)` at once, and
    drain soon. `foreign_wait` lets tasks of the transport's loop await what is ours. `enter` is for
    transports that run handlers in other threads: it runs a function as an input, and what such
    handlers ask of sessions, rooms, users and the hub goes through it. `post` has a function run as
    an input soon, from any thread: for `completion`. `current_task` tells a handler from the tasks
    that it makes, where these may begin within its step. `epoch` is a random text, which modules
    with history need: it tells what this hub has kept from what another has. With `backplane` this
    hub is a node among others, `epoch` is its name, and what comes from there goes to `deliver`.
    All may be left out.
    """

    def __init__(
        self,
        app: App,
        *,
        wake: Callable[[], None] | None = None,
        foreign_wait: ForeignWait | None = None,
        enter: Enter | None = None,
        post: Post | None = None,
        current_task: Callable[[], object] | None = None,
        epoch: str = "",
        backplane: BackplaneSettings | None = None,
    ) -> None:
        app.check()
        self.app = app
        self.limits = app.limits
        self._turn = Turn()
        self._turn.wake = wake
        self._turn.foreign_wait = foreign_wait
        self._turn.enter = enter
        self._turn.post = post
        self._turn.current_task = current_task
        # What application code sees of the hub, and by which types.
        seen: SessionHub = self if enter is None else GuardedHub(self, self._turn)
        self._session_type = Session if enter is None else GuardedSession
        self._user_type = User if enter is None else GuardedUser
        self._stats = Stats()
        self._registry = Registry(new_fds(app.fd_policy, app.fd_max))
        self._taken: list[Session] = []  # sessions to look at once the transport has taken bytes
        self._lost: list[int] = []  # fds to release when nothing that was said names them
        self.is_shutting_down = False  # whether no more connections are taken
        self._users = Users(self._turn, self._stats)
        self._node: Node | None = None
        if backplane is not None:
            if not epoch:
                raise ConfigurationError("Hub.epoch", "must be a random text for a backplane")
            self._node = Node(epoch, backplane, self._turn, self._stats)
            packs = {module.path: module.pack for _, module in app.modules}
            self._users.remote = RemoteUsers(self._node, packs, self._registry)
        self._seen = seen
        self._common = Common(
            limits=app.limits, turn=self._turn, stats=self._stats, hub=seen, users=self._users
        )
        self._calls = Calls(self._turn, self._stats)
        self._closing = Closing(self._turn, self._stats, app.limits, self._calls)
        self._messages = Messages(self._stats, self._calls, self._closing)
        self._opening = Opening(
            app,
            self._turn,
            self._stats,
            self._calls,
            self._closing,
            self._messages,
            self._common,
            epoch,
            self._node,
        )
        watch = self._opening.services.get(Stopwatch)
        self._turn.stopwatch = watch if isinstance(watch, Stopwatch) else None
        self._timeouts = Timeouts(self._turn, self._stats, app.limits, self._opening, self._closing)

    # -- getters ------------------------------------------------------------------------------

    def session(self, fd: int) -> Session | None:
        """The open session with this fd, or None."""
        session = self._registry.get(fd)
        return session if session is not None and session.is_connected else None

    def sessions(self) -> list[Session]:
        """The open sessions: a snapshot, safe to use while sessions come and go."""
        return [session for session in self._registry if session.is_connected]

    def user(self, user_id: UserId) -> User:
        """The user with this id, connected or not."""
        return self._user_type(self._users, user_id)

    def service(self, service: type[S]) -> S:
        """The hub's instance of what the application provides under a type.

        Raises `LookupError` if it provides none.
        """
        instance = self._opening.services.get(service)
        if instance is None:
            raise LookupError(f"nothing provides {service.__name__}")
        return cast(S, instance)

    def rooms(self) -> list[tuple[str, Room]]:
        """The rooms that somebody is in, each with the path of its module: a snapshot."""
        return self._opening.rooms()

    def stats(self) -> Stats:
        """The counters, as a snapshot."""
        return self._stats.copy()

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout` next, on the clock of `now`, or None."""
        return self._turn.deadlines.next()

    @property
    def is_backplane_connected(self) -> bool | None:
        """Whether other nodes can be reached; None without a backplane."""
        return None if self._node is None else self._node.is_connected

    @property
    def now(self) -> float:
        """The time of the latest input."""
        return self._turn.now

    # -- outputs ------------------------------------------------------------------------------

    def fds_to_send(self) -> list[int]:
        """The fds that have got something to send since the last call."""
        return self._turn.take_dirty()

    def data_to_send(self, fd: int) -> list[bytes]:
        """Take everything that waits for this connection; each byte is given once.

        To be called only while the socket accepts bytes; say `bytes_unsent` of what it did not.
        """
        outbox = self._registry.outbox(fd)
        if outbox is None:
            return []
        if outbox.plain:
            size = outbox.waiting - outbox.unsent
            outbox.bytes_taken += size
            self._stats.bytes_sent += size
            return outbox.take_frames()
        size = outbox.size + sum(map(len, outbox.control or ()))
        taken = outbox.take()
        if taken:
            outbox.bytes_taken += size
            self._stats.bytes_sent += size
            session = self._registry.require(fd)
            if session.waits_for_outbox:
                self._taken.append(session)
            else:
                outbox.plain = session.is_connected
        return taken

    def next_output(self) -> Output | None:
        """The next fact, or request to the transport; None when there is none."""
        if self._taken:
            taken, self._taken = self._taken, []
            for session in taken:
                self._closing.outbox_taken(session)
        outputs = self._turn.outputs
        if outputs:
            return outputs.popleft()
        if self._lost:
            self._release_fds()
        return None

    # -- commands -----------------------------------------------------------------------------

    def broadcast(
        self,
        data: object,
        *,
        to: Iterable[Session] | None = None,
        exclude: Iterable[Session] = (),
    ) -> int:
        """Send to every open session, or to those in `to`, but not to those in `exclude`.

        Gives how many sessions that is. What is no text and no bytes is packed by each session's
        module. Beyond `broadcast_page_max` the rest is sent a page a turn, so that it does
        not hold up everybody else; a session that has gone by then is left out. With a backplane
        and without `to`, sessions at other nodes are sent it too, and not counted; see `User.send`.
        """
        if to is None and self._users.remote is not None:
            self._users.remote.broadcast(data)
        excluded = set(exclude)
        chosen = self.sessions() if to is None else to
        groups = by_module(session for session in chosen if session not in excluded)
        for module, sessions in groups.items():
            message = data if isinstance(data, str | bytes) else module.pack(data)
            page = self.limits.broadcast_page_max
            Pages(sessions, message, page, self._turn, self._stats).send()
        self._stats.broadcasts += 1
        return sum(map(len, groups.values()))

    def completion(self, future: Future[T], *, timeout_s: float = inf) -> Completion[T]:
        """Let a handler await what is done elsewhere: `await hub.completion(future)`.

        See `Completion`; it raises `TimeoutError` after `timeout_s`.
        """

        def report(error: Exception) -> None:
            self._calls.report(None, "Completion.then", error)

        return Completion(self._turn, future, timeout_s, report)

    def settle(self, session: Session) -> None:
        """What came after a session's last message takes effect; the session asks for it."""
        self._closing.settle(session)

    # -- inputs: connections ------------------------------------------------------------------

    def connect(
        self,
        address: Address,
        *,
        now: float,
        secure: bool = False,
        client_certificate: Certificate | None = None,
    ) -> int:
        """A peer has connected (over TLS if `secure`, where it may have shown a certificate, as
        `ssl.SSLSocket.getpeercert` gives it). Gives its fd.

        Raises `IdsExhaustedError`, with the response to write, if no more are taken.
        """
        self._turn.now = now
        reader = RequestReader(self.limits)
        session = self._new_session(reader, address, secure, client_certificate)
        session.set_phase_deadline(self.limits.head_timeout_s)
        return session.fd

    def _new_session(
        self,
        reader: RequestReader | HostReader,
        address: Address,
        secure: bool,
        client_certificate: Certificate | None,
    ) -> Session:
        if not self._turn.outputs:
            self._release_fds()
        fd = None
        if len(self._registry) < self.limits.connections_max and not self.is_shutting_down:
            fd = self._registry.acquire()
        if fd is None:
            self._stats.connections_refused += 1
            response = Response(503, "the server is full\n", {"Retry-After": "5"})
            raise IdsExhaustedError(
                f"all {len(self._registry)} connections are in use"
                if not self.is_shutting_down
                else "the server is shutting down",
                response=reader.respond(None, response, close=True),
            )
        self._registry.generation += 1
        session = self._session_type(
            fd=fd,
            generation=self._registry.generation,
            address=address,
            arrival=Arrival(reader, secure=secure, client_certificate=client_certificate),
            common=self._common,
        )
        self._registry.add(session)
        self._stats.connections += 1
        self._stats.connections_total += 1
        return session

    def receive_data(self, fd: int, data: bytes, *, now: float) -> None:
        """Bytes from a peer; none after `ResumeReading`, to go on with what was kept."""
        session = self._registry.get(fd) or self._registry.require(fd)
        self._turn.now = now
        session.last_received = now
        size = len(data)
        session.bytes_received += size
        self._stats.bytes_received += size
        phase = session.phase
        if phase is _OPEN or phase is State.CLOSING:
            if session.paused:
                assert session.framing is not None
                session.framing.hold(data)
                return
            if session.inbox and not data:
                self._messages.pump(session)
                if session.maybe_pause():
                    return  # what the framing keeps comes after what is in the inbox
            self._messages.receive_frames(session, data)
        elif phase is State.HEAD:
            self._opening.receive_head(session, data)
        elif phase is State.REQUEST:
            arrival = session.arrival
            assert arrival is not None
            arrival.held += data
            if not session.paused and len(arrival.held) > self.limits.head_bytes_max:
                session.paused = True
                self._turn.put(PauseReading(fd))
        else:
            self._stats.dropped_bytes_received += len(data)

    def receive_eof(self, fd: int, *, now: float) -> None:
        """The peer will send nothing more."""
        session = self._registry.require(fd)
        self._turn.now = now
        if session.answered:
            return
        session.answered = True
        phase = session.phase
        if phase is State.OPEN or phase is State.CLOSING:
            self._closing.take(session, ABNORMAL)
        elif phase is State.HEAD:
            session.happened(Input.EOF_RECEIVED)
            self._closing.conclude(session)
        elif phase is State.ENDING:
            self._closing.conclude(session)
        # In REQUEST the application's answer is sent first.

    def bytes_unsent(self, fd: int, count: int, *, now: float) -> None:
        """The transport holds `count` bytes that the socket has not taken yet.

        To be said when that becomes more than none, when it becomes none, and, while it is more
        than none, before `handle_timeout`: without progress the connection is aborted at the
        stall deadline.
        """
        session = self._registry.require(fd)
        self._turn.now = now
        before = session.outbox.unsent
        session.outbox.set_unsent(count)
        if count == 0:
            session.stall_at = inf
        elif before == 0 or count < before:
            session.stall_at = now + self.limits.stall_timeout_s
            session.arm()
        if count == 0 or count < before:
            self._closing.outbox_taken(session)

    def connection_lost(self, fd: int, *, now: float) -> None:
        """The socket is gone, whoever closed it; to be said once for each `connect` or `open`.

        Raises `LocalProtocolError` if it was said before.
        """
        session = self._registry.require(fd)
        self._turn.now = now
        self._closing.end(session, Input.LOST, ABNORMAL)
        self._stats.dropped_messages_sent += session.outbox.clear()
        self._stats.connections -= 1
        self._registry.remove(session)
        self._lost.append(fd)
        session.phase_at = session.keepalive_at = session.stall_at = inf
        if session.invocations:
            session.set_phase_deadline(self.limits.close_timeout_s)
        else:
            session.arm()

    # -- inputs: from a host that does the handshake and the framing itself -------------------

    def open(
        self, request: Request, subprotocols: Sequence[str] | None = None, *, now: float
    ) -> int:
        """A host has received a request: the handshake of a WebSocket, valid by RFC 6455 sections
        4.1 or RFC 8441, that offers `subprotocols`, or plain HTTP if they are None. Gives its fd.

        `data_to_send` then gives what `wire.host` names, in order, for the host to carry out, and
        `receive_message` and `receive_close` are the inputs; the rest is as for `connect`.
        Raises `IdsExhaustedError`, whose response is an `Answered`, if no more are taken.
        """
        self._turn.now = now
        session = self._new_session(
            HostReader(), request.client, request.secure, request.client_certificate
        )
        self._opening.receive_request(session, request, subprotocols)
        return session.fd

    def receive_message(self, fd: int, message: Message, *, now: float) -> None:
        """A whole message from a peer.

        Raises `LocalProtocolError` before the handshake is accepted.
        """
        session = self._registry.get(fd) or self._registry.require(fd)
        self._turn.now = now
        session.last_received = now
        session.bytes_received += len(message)
        self._stats.bytes_received += len(message)
        framing = session.framing
        if not isinstance(framing, HostFraming):
            if session.phase is State.ENDING:
                self._stats.dropped_messages_received += 1
                return
            raise LocalProtocolError("there is no session that a host frames")
        if session.phase is _OPEN or session.phase is State.CLOSING:
            framing.give(message)
            if not session.paused:
                self._messages.receive_frames(session, b"")
        else:
            self._stats.dropped_messages_received += 1

    def receive_close(self, fd: int, code: int, reason: str, *, now: float) -> None:
        """A peer's Close, which the host answers or has answered: it takes its place after
        earlier messages. `code` is 1005 for one without, and 1006 if the connection has ended
        without a Close (RFC 6455 section 7.1.5)."""
        session = self._registry.require(fd)
        self._turn.now = now
        framing = session.framing
        if isinstance(framing, HostFraming) and session.phase in (_OPEN, State.CLOSING):
            framing.give(CloseReceived(code, reason))
            if not session.paused:
                self._messages.receive_frames(session, b"")
        else:
            self.receive_eof(fd, now=now)

    # -- inputs: from other nodes -------------------------------------------------------------

    def deliver(self, event: BackplaneInput, *, now: float) -> None:
        """The backplane says something; see `wireroom.core.backplane`.

        Raises `LocalProtocolError` if the hub was made without one.
        """
        if self._node is None:
            raise LocalProtocolError("the hub was made without a backplane")
        self._turn.now = now
        self._node.deliver(event)

    # -- inputs: time and handlers ------------------------------------------------------------

    def start(self, *, now: float) -> None:
        """The server begins: periodic handlers count from here."""
        self._turn.now = now
        for seconds, handler in self.app.periodic:
            Periodic(handler, seconds, self, self._seen, self._turn, self._calls).schedule()

    def woken(self, *, now: float) -> None:
        """Application code acts between two inputs, as `wake` has said: this is the time."""
        self._turn.now = max(self._turn.now, now)  # within an input, that one's is the time

    def handle_timeout(self, *, now: float) -> None:
        """Do what is due at `now`; nothing if it is early."""
        self._turn.now = now
        for key in self._turn.deadlines.due(now):
            if isinstance(key, Sleep):
                key.happen()
            elif isinstance(key, Session):
                self._timeouts.check(key)
            elif isinstance(key, Stream):
                key.check()
            elif isinstance(key, Node):
                key.beat()
            elif isinstance(key, Pages | Farewell):
                key.send()
            elif isinstance(key, Periodic) and not self.is_shutting_down:
                key.run()

    def resume(
        self,
        invocation: Invocation,
        error: BaseException | None = None,
        *,
        now: float,
        value: Any = None,
    ) -> Any:
        """Run one step of an `async` handler, from one await to the next.

        `value` or `error` is what a foreign await gave. Gives `FINISHED`, a `Wait` of ours (call
        again after its `Resume`), or what the handler yielded to the transport's loop. Only
        exceptions that are no `Exception`, such as a cancellation, come out of it.
        """
        self._turn.now = now
        return self._calls.step(invocation, error, value)

    # The same in three, for transports that run the middle outside of the hub, in other threads.

    def begin_step(self, invocation: Invocation) -> bool:
        """A handler is about to take a step; False if it has ended, and must not."""
        return self._calls.begin(invocation)

    @staticmethod
    def advance(
        invocation: Invocation, error: BaseException | None = None, value: Any = None
    ) -> Any | Ended:
        """Run the handler, from one await to the next. In any thread: nothing of the hub's is read
        or changed, but for what the handler asks for through `enter`."""
        return advance(invocation, error, value)

    def end_step(self, invocation: Invocation, outcome: Any | Ended, *, now: float) -> Any:
        """`advance` has given this. Gives and raises what `resume` does."""
        self._turn.now = now
        return self._calls.end(invocation, outcome)

    def shutdown(
        self,
        *,
        now: float,
        code: int = CloseCode.GOING_AWAY,
        reason: str = "the server is shutting down",
        spread_s: float = 0.0,
    ) -> None:
        """Take no more connections, and close those that there are (RFC 6455 section 7.4.1).

        Sessions get a Close with `code`, evenly spread over `spread_s` seconds, so that their
        clients do not all come back at once, and have until the close deadline; requests that
        are being decided get 503.
        """
        self._turn.now = now
        self.is_shutting_down = True
        Farewell(self.sessions(), int(code), reason, spread_s, self._turn).send()
        for session in self._registry:
            if session.phase is State.REQUEST:
                self._opening.respond(
                    session, session.handshake, Response(503, reason + "\n"), close=True
                )
            elif session.phase is State.HEAD:
                session.answered = True
                session.happened(Input.FAILED)
                self._closing.conclude(session)

    def _release_fds(self) -> None:
        """The transport has carried out all that was said of them: they may be used again."""
        for fd in self._lost:
            self._registry.release(fd)
        self._lost.clear()
