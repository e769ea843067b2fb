"""A session: one connection from its handshake to its close, and the handle to it. Pure.

Application code holds `Session` objects; each stands for one connection and no other, however
often its fd is used again. The attributes without a docstring are the hub's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from enum import Enum
from math import inf
from typing import Any, Final, Protocol, TypeAlias, TypeVar, final

from mypy_extensions import mypyc_attr

from ..errors import LocalProtocolError, SessionClosedError
from ..events import PauseReading, ResumeReading
from ..limits import Limits
from ..turn import READY, Invocation, Ready, Sleep, Turn, Wait
from ..wire.close_codes import CloseCode, check_close
from ..wire.framing import CloseReceived, Message, Violation
from ..wire.framing_engine import Framing
from ..wire.handshake import Upgrade
from ..wire.host import HostReader
from ..wire.http_head import RequestReader
from ..wire.proxied import Proxied
from ..wire.request import Address, Certificate, Request
from ..wire.states import Input, State, next_state
from .completions import Completion, Future
from .outbox import Outbox
from .positions import Position, Recovery
from .recovering import Recovering
from .rooms import Namespace, Room
from .stages import Stages
from .state import SessionState
from .stats import Stats
from .users import User, UserId, Users, user_id_of

S = TypeVar("S")
T = TypeVar("T")

_OPEN: Final = State.OPEN  # looked up for every message
_NEVER: Final = -inf


RequestId: TypeAlias = int | str
Queue: TypeAlias = deque[Message] | tuple[()]
"""An empty one is (): a deque has 760 bytes, and most sessions never need theirs."""


@final
class PendingReply:
    """A request of ours: when the reply has `arrived`, or the time is up, and the reply."""

    __slots__ = ("arrived", "reply")

    def __init__(self, arrived: Sleep) -> None:
        self.arrived = arrived
        self.reply: object = None  # as the module's parser has taken it apart


class SessionHub(Protocol):
    """What a session, and a handler through it, may ask of the hub; see `Hub`."""

    @property
    def now(self) -> float:
        """The time of the latest input."""

    @property
    def is_backplane_connected(self) -> bool | None:
        """Whether other nodes can be reached; None without a backplane."""

    def session(self, fd: int) -> Session | None:
        """The open session with this fd, or None."""

    def sessions(self) -> list[Session]:
        """The open sessions."""

    def user(self, user_id: UserId) -> User:
        """The user with this id, connected or not."""

    def broadcast(
        self,
        data: object,
        *,
        to: Iterable[Session] | None = None,
        exclude: Iterable[Session] = (),
    ) -> int:
        """Send to every open session, or to those in `to`, but not to those in `exclude`."""

    def service(self, service: type[S]) -> S:
        """The hub's instance of what the application provides under a type."""

    def completion(self, future: Future[T], *, timeout_s: float = inf) -> Completion[T]:
        """Let a handler await what is done elsewhere; see `Completion`."""

    def rooms(self) -> list[tuple[str, Room]]:
        """The rooms that somebody is in, each with the path of its module."""

    def stats(self) -> Stats:
        """The counters, as a snapshot."""

    def settle(self, session: Session) -> None:
        """What came after the last message takes effect now; the session's own business."""


@final
class Common:
    """What all sessions of a module have in common, and those of a hub that have none yet."""

    __slots__ = (
        "deliver",
        "hub",
        "in_function",
        "limits",
        "module",
        "namespace",
        "reads_inbox",
        "stages",
        "stats",
        "turn",
        "users",
    )

    def __init__(
        self, *, limits: Limits, turn: Turn, stats: Stats, hub: SessionHub, users: Users
    ) -> None:
        self.limits = limits
        self.turn = turn
        self.stats = stats
        self.hub = hub
        self.users = users
        self.module: Any = None  # a module of `dispatch`, which is above us
        self.namespace: Namespace | None = None
        self.deliver: Callable[[Session, Message], object] | None = None
        self.stages: Stages | None = None
        # What `receive` takes from: the inbox, if the module has no handlers, or what was handed
        # to a reader that waited for it.
        self.reads_inbox = False
        # Whether a function serves it: what it has received is handled until it asks for more.
        self.in_function = False


@final
class Arrival:
    """What is known of a connection while its requests are read. An open session has none."""

    __slots__ = ("client_certificate", "held", "proxied", "reader", "secure", "upgrade")

    def __init__(
        self,
        reader: RequestReader | HostReader,
        *,
        secure: bool,
        client_certificate: Certificate | None,
    ) -> None:
        self.reader = reader
        self.secure = secure  # whether it uses TLS, as far as is known
        self.client_certificate = client_certificate
        self.proxied: Proxied | None = None  # if proxies are trusted
        self.upgrade: Upgrade | None = None  # what the latest request asked for
        self.held = b""  # bytes that came while the application decided about a request


@mypyc_attr(allow_interpreted_subclasses=True)  # of sessions/guarded.py
class Session:
    """One connection.

    `fd` is its id while it lives, `generation` is unique among all connections of the hub,
    `address` is the peer's, `hub` is what knows the others. Everything sent is sent at once, in
    order; what is returned may be awaited (it waits until the outbox is below its mark) or
    ignored.
    """

    __slots__ = (
        "_app_state",
        "_drained",
        "_request",
        "_rooms",
        "_user",
        "address",
        "answered",
        "arrival",
        "busy",
        "bytes_received",
        "closing_event",
        "close_by",
        "close_code",
        "close_reason",
        "common",
        "fd",
        "framing",
        "generation",
        "inbox",
        "inbox_bytes",
        "invocations",
        "mail",
        "keepalive_at",
        "last_received",
        "opened_at",
        "outbox",
        "paused",
        "readers",
        "phase",
        "phase_at",
        "pinged_at",
        "received",
        "requests",
        "stage",
        "stall_at",
        "subprotocol",
        "user_id",
        "want_close",
    )

    def __init__(
        self,
        *,
        fd: int,
        generation: int,
        address: Address,
        arrival: Arrival,
        common: Common,
    ) -> None:
        limits = common.limits
        now = common.turn.now
        self.common = common
        self.fd = fd
        self.generation = generation
        self.address = address
        # the wire
        self.phase = State.HEAD
        self.arrival: Arrival | None = arrival  # until the upgrade
        self._request: Request | None = None
        self.framing: Framing | None = None
        self.subprotocol: str | None = None
        self.outbox = Outbox(fd=fd, mark=limits.outbox_mark_bytes, limit=limits.outbox_bytes)
        self.want_close = False  # Disconnect as soon as the outbox has been taken
        self.answered = False  # whether the peer has ended its side, by Close or EOF
        self.paused = False  # whether we asked the transport to stop reading
        self.bytes_received = 0
        # the application
        self.mail: Queue = ()
        self.requests: dict[RequestId, PendingReply] | None = None  # that wait for the peer
        self.readers = 0  # how many wait in `receive`
        self.stage: Enum | None = None  # where the application's own protocol stands
        self._rooms: dict[str, None] | None = None
        self._user: object = None
        self.user_id: UserId | None = None
        self._app_state: SessionState | None = None
        self.inbox: Queue = ()
        self.inbox_bytes = 0
        self.closing_event: CloseReceived | Violation | None = None  # comes after the inbox
        self.busy = False  # whether an earlier message is still being handled
        self.received: Wait | None = None  # what readers wait for
        self.invocations: list[Invocation] | None = None
        self._drained: Wait | None = None
        self.close_code = CloseCode.ABNORMAL_CLOSURE.value
        self.close_reason = ""
        # the clock
        self.opened_at = now  # the handshake was accepted; until then, connected
        self.last_received = now
        self.pinged_at = _NEVER  # when a Ping that nothing has come after was sent
        self.phase_at = inf
        self.close_by = inf  # when a closing that has begun has to be over
        self.keepalive_at = inf
        self.stall_at = inf

    def __repr__(self) -> str:
        return f"<Session fd={self.fd} generation={self.generation} {self.phase.name}>"

    # -- what the application asks ------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Whether something can be sent."""
        return self.phase is _OPEN

    @property
    def hub(self) -> SessionHub:
        """What knows the other sessions."""
        return self.common.hub

    @property
    def secure(self) -> bool:
        """Whether the peer uses TLS, by the transport's word or a trusted proxy's."""
        if self.arrival is not None:
            return self.arrival.secure
        return self._request is not None and self._request.secure

    @property
    def turn(self) -> Turn:
        """The hub's."""
        return self.common.turn

    @property
    def module(self) -> Any:
        """The module that serves it; None before the request is routed."""
        return self.common.module

    @property
    def handshake(self) -> Request:
        """The request of the handshake: path, headers, query, cookies."""
        if self._request is None:
            raise LocalProtocolError("there is no request yet")
        return self._request

    @handshake.setter
    def handshake(self, request: Request) -> None:
        self._request = request

    @property
    def path(self) -> str:
        """The path of the handshake."""
        return self.handshake.path

    @property
    def path_params(self) -> dict[str, Any]:
        """The path's parameters, converted as the module's pattern says."""
        return self.handshake.path_params

    @property
    def user(self) -> Any:
        """Whoever the handshake said this is; any value of the application's, None at first.

        Setting it binds the session to another user, as a token in the first message does.
        """
        return self._user

    @user.setter
    def user(self, user: object) -> None:
        self._bind(user)

    def _bind(self, user: object) -> None:
        self.common.users.remove(self)
        self._user = user
        self.user_id = user_id_of(user)
        if self.phase is _OPEN:
            self.common.users.add(self)

    @property
    def state(self) -> Any:
        """A place for attributes of the application's own."""
        return self._ensure_state() if self._app_state is None else self._app_state

    def _ensure_state(self) -> SessionState:
        if self._app_state is None:
            self._app_state = SessionState()
        return self._app_state

    @property
    def rooms(self) -> list[str]:
        """The names of the rooms it is in."""
        return self._room_names()

    def _room_names(self) -> list[str]:
        return list(self._rooms or ())

    # -- what the application wishes ----------------------------------------------------------

    def send(self, message: object) -> Wait | Ready:
        """Send a text (`str`), a binary (`bytes`) message, or anything the module can pack.

        Raises `SessionClosedError` if the session is not open (any more).
        """
        framing = self.framing
        if self.phase is not _OPEN or framing is None:
            raise self.closed_error()
        kind = type(message)
        if kind is not str and kind is not bytes and not isinstance(message, str | bytes):
            message = self.common.module.pack(message)
        frame = framing.encode_message(message)  # type: ignore[arg-type]  # a message by now
        outbox = self.outbox
        if outbox.first is None:
            self.common.turn.mark(self.fd)
            outbox.first = frame
            outbox.waiting += len(frame)
        else:
            outbox.put(frame)
        self.common.stats.messages_sent += 1
        if outbox.waiting <= outbox.mark:
            return READY
        self.check_outbox()
        return self.drain()

    def drain(self) -> Wait | Ready:
        """What may be awaited until the outbox is below its mark.

        Awaiting it raises nothing if the session ends: the next `send` does.
        """
        if self.outbox.waiting <= self.outbox.mark or self.phase is not _OPEN:
            return READY
        if self._drained is None:
            self._drained = Wait(self.common.turn)
            self.outbox.plain = False
        return self._drained

    async def receive(self) -> Message | None:
        """The next message, or None when there will be none.

        A message goes to one place: to who waits here when it comes, or else to the module's
        handlers, or else (in a module without any) into the inbox, for the next `receive`.
        Several may wait; each message goes to one of them. What came before the end is given
        before None.
        """
        while True:
            message = self.receive_nowait()
            if message is not None:
                return message
            wait = self.begin_receiving()
            if wait is None:
                return None
            try:
                await wait
            finally:
                self.end_receiving()

    def receive_nowait(self) -> Message | None:
        """The next message that has come for `receive`, or None if there is none now."""
        if self.common.in_function:
            self.busy = False
        mail = self.mail
        if mail:
            message = mail.popleft()
            if not mail:
                self.mail = ()
            return message
        if not self.common.reads_inbox:
            return None
        if not self.inbox:
            if self.closing_event is not None and not self.has_unhandled:
                self.common.hub.settle(self)
            return None
        message = self.pop_inbox()
        self.busy = self.common.in_function
        self.maybe_resume()
        return message

    def __aiter__(self) -> AsyncIterator[Message]:
        """Messages until the end, as `receive` gives them."""
        return _Messages(self)

    async def request(self, data: object, *, reply_type: Any = Any, timeout_s: float = 10.0) -> Any:
        """Send `data` as a request, and wait for the peer's reply, checked to be a `reply_type`.

        Raises `TimeoutError` after `timeout_s`, `RequestFailedError` if the peer answers with an
        error or with something else, `SessionClosedError`, and `LocalProtocolError` if the
        module's parser knows no requests.
        """
        pending = PendingReply(Sleep(self.common.turn, timeout_s))
        request_id = self.begin_request(data, pending)
        try:
            await pending.arrived
        finally:
            self.end_request(request_id, pending)
        if pending.reply is not None:
            return self.common.module.reply_data(pending.reply, reply_type)
        if self.phase is not _OPEN:
            raise self.closed_error()
        raise TimeoutError(f"no reply within {timeout_s:g} s")

    def sleep(self, seconds: float) -> Sleep:
        """Wait by the hub's own clock; to be awaited in a handler."""
        return Sleep(self.common.turn, seconds)

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Start the closing handshake (RFC 6455 section 7.1.2). Nothing happens if it has begun.

        Raises `LocalProtocolError` for a code that may not be sent, or a reason of more than
        123 bytes.
        """
        check_close(code, reason)
        if self.phase in (State.HEAD, State.REQUEST):
            raise LocalProtocolError("the session is not open yet: accept or reject it")
        if self.phase is _OPEN:
            self.start_closing(code, reason)

    def room(self, name: str) -> Room:
        """A room of this session's module."""
        return self._namespace_of_module().room(name)

    def join(self, name: str) -> bool:
        """Enter a room; False if it is there already.

        Raises `SessionClosedError`, or `LocalProtocolError` beyond `rooms_per_session_max` and
        `room_sessions_max`.
        """
        if self.phase is not _OPEN:
            raise self.closed_error()
        rooms = self._rooms
        if rooms is None:
            rooms = self._rooms = {}
        if name in rooms:
            return False
        if len(rooms) >= self.common.limits.rooms_per_session_max:
            raise LocalProtocolError(
                f"a session may be in {self.common.limits.rooms_per_session_max} rooms "
                "(Limits.rooms_per_session_max)"
            )
        rooms[name] = None
        try:
            return self._namespace_of_module().join(name, self)
        except LocalProtocolError:  # the room is full
            del rooms[name]
            raise

    def enter(self, stage: Enum) -> None:
        """Change to another stage of the application's own.

        Raises `LocalProtocolError` if the module's `Stages` do not allow it.
        """
        if self.common.stages is None or self.stage is None:
            raise LocalProtocolError("the session's module has no stages")
        self.common.stages.check(self.stage, stage)
        self.stage = stage

    def leave(self, name: str) -> bool:
        """Leave a room; False if it was not there, nor on its way into it by `recover`."""
        if self._rooms is None or name not in self._rooms:
            was_coming = False
            namespace = self.common.namespace
            if namespace is not None:
                for recovering in namespace.coming.get(self, ()):
                    if recovering.name == name:
                        recovering.leave()
                        was_coming = True
            return was_coming
        del self._rooms[name]
        return self._namespace_of_module().leave(name, self)

    async def recover(self, name: str, position: Position | None = None) -> Recovery:
        """Enter a room of a module with history, as a client that has had its messages up to
        `position`; None is for one that begins.

        What it has missed is sent first, as fast as it reads, and it is a member from then on, so
        that it gets each message once and in order. If the history does not reach back so far,
        the recovery is not `recovered`; nor is it if the session was told to `leave` meanwhile,
        and then it is no member. Raises what `join` and `send` raise.
        """
        recovering = self.begin_recovering(name, position)
        try:
            while recovering.recovery is None:
                await self.step_recovering(recovering)
        finally:
            self.end_recovering(recovering)
        return recovering.recovery

    def _namespace_of_module(self) -> Namespace:
        if self.common.namespace is None:
            raise LocalProtocolError("the session has no module yet, and so no rooms")
        return self.common.namespace

    # -- for the hub --------------------------------------------------------------------------

    def begin_receiving(self) -> Wait | Ready | None:
        """What `receive` waits for, until `end_receiving`; None if nothing will come."""
        if self.phase in (State.HEAD, State.REQUEST):
            raise LocalProtocolError("accept() the handshake before receiving")
        if self.mail or (self.inbox and self.common.reads_inbox):  # since it was looked
            self.readers += 1
            return READY
        if self.phase is not _OPEN:
            return None
        if self.received is None:
            self.received = Wait(self.common.turn)
        self.readers += 1
        return self.received

    def end_receiving(self) -> None:
        """`receive` does not wait any more."""
        self.readers -= 1
        if not self.readers:
            self.received = None

    def begin_recovering(self, name: str, position: Position | None) -> Recovering:
        """The session is on its way into a room with history."""
        namespace = self._namespace_of_module()
        if namespace.streams is not None:
            recovering = Recovering(namespace.streams, self, name, position)
        elif namespace.links is not None and namespace.links.history is not None:
            recovering = Recovering(namespace.links, self, name, position)
        else:
            raise LocalProtocolError("the session's module has no history: give it history=")
        namespace.coming.setdefault(self, []).append(recovering)
        return recovering

    def step_recovering(self, recovering: Recovering) -> Wait | Ready:
        """Send it more of what it has missed; gives what the next step waits for."""
        if self.phase is not _OPEN:
            raise self.closed_error()
        return recovering.step()

    def end_recovering(self, recovering: Recovering) -> None:
        """It is in the room, or has given up."""
        recovering.end()
        coming = self._namespace_of_module().coming
        coming[self].remove(recovering)
        if not coming[self]:
            del coming[self]

    def begin_request(self, data: object, pending: PendingReply) -> RequestId:
        """Send a request, whose reply `pending` waits for until `end_request`; its id."""
        request_id = f"s{self.common.turn.next_number()}"
        self.send(self.common.module.pack_request(data, request_id))
        if self.requests is None:
            self.requests = {}
        self.requests[request_id] = pending
        return request_id

    def end_request(self, request_id: RequestId, pending: PendingReply) -> None:
        """Nobody waits for the reply any more."""
        if self.requests is not None:
            del self.requests[request_id]
            self.requests = self.requests or None
        self.common.turn.deadlines.discard(pending.arrived)

    def happened(self, what: Input) -> None:
        self.phase = next_state(self.phase, what)
        framing = self.framing if self.phase is _OPEN else None
        self.outbox.sharing_key = None if framing is None else framing.sharing_key
        self.outbox.plain = False

    def closed_error(self) -> SessionClosedError:
        if self.phase in (State.HEAD, State.REQUEST):
            return SessionClosedError("the session is not open yet: accept it first", code=1006)
        return SessionClosedError(
            f"the session is closed ({self.close_code})",
            code=self.close_code,
            reason=self.close_reason,
        )

    def put_response(self, response: bytes) -> None:
        self.common.turn.mark(self.fd)
        self.outbox.put_response(response)

    def put_close(self, code: int | None, reason: str) -> None:
        assert self.framing is not None
        self.common.turn.mark(self.fd)
        self.outbox.put(self.framing.encode_close(code, reason))

    def put_control(self, frame: bytes) -> None:
        if self.outbox.empty:
            self.common.turn.mark(self.fd)
        if not self.outbox.put_control(frame, self.common.limits.pongs_pending_max):
            self.common.stats.dropped_pongs += 1

    def start_closing(self, code: int, reason: str) -> None:
        """Send a Close first; the peer has until the close deadline to answer."""
        self.put_close(code, reason)
        self.happened(Input.CLOSE_SENT)
        self.common.stats.sessions -= 1
        self.close_code = int(code)
        self.close_reason = reason
        self.stall_at = self.keepalive_at = inf
        self.drop_inbox()
        self.let_go()
        self.resume_reading()  # for the peer's Close
        self.close_by = self.common.turn.now + self.common.limits.close_timeout_s
        self.set_phase_deadline(self.common.limits.close_timeout_s)
        if self.closing_event is not None:
            self.common.hub.settle(self)

    def drop_inbox(self) -> None:
        """Forget, and count, what was received but will not be handled."""
        self.common.stats.dropped_messages_received += len(self.inbox)
        self.inbox = ()
        self.inbox_bytes = 0

    def let_go(self) -> None:
        """Leave all rooms and the user, and wake whoever waits."""
        self.common.users.remove(self)
        if self._rooms:
            for name in list(self._rooms):
                self.leave(name)
        self._rooms = None
        for pending in list((self.requests or {}).values()):
            pending.arrived.happen()
        for wait in (self.received, self._drained):
            if wait is not None:
                wait.happen()
        self.received = self._drained = None

    def check_outbox(self) -> None:
        """Close a session whose peer does not read what others send it."""
        outbox = self.outbox
        if (
            self.phase is _OPEN
            and outbox.waiting > outbox.limit
            and outbox.waiting > len(outbox.frames[-1])  # what is larger by itself may go alone
        ):
            self.common.stats.overflowed += 1
            self.common.stats.dropped_messages_sent += outbox.clear()
            self.start_closing(CloseCode.POLICY_VIOLATION, "too slow: the outbox is full")

    @property
    def waits_for_outbox(self) -> bool:
        """Whether something is to happen once the transport has taken bytes. What makes it so
        makes the outbox no longer `plain`."""
        return self._drained is not None or self.paused or self.want_close or bool(self.inbox)

    def outbox_taken(self) -> None:
        """The transport has made room: whoever awaits `drain` goes on, and so does reading."""
        if self.outbox.waiting > self.outbox.mark:
            return
        if self._drained is not None:
            self._drained.happen()
            self._drained = None
        if self.inbox and not self.busy and not self.common.reads_inbox and self.phase is _OPEN:
            # What waited for the outbox is handled before more is read.
            self.paused = False
            self.common.turn.put(ResumeReading(self.fd))
        else:
            self.maybe_resume()

    @property
    def has_unhandled(self) -> bool:
        """Whether an earlier message is being handled, or waits in the inbox or the framing."""
        return self.busy or bool(self.inbox) or (self.framing is not None and self.framing.more)

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be read from the peer for now."""
        return (
            len(self.inbox) >= self.common.limits.inbox_messages_max
            or self.inbox_bytes >= self.common.limits.inbox_bytes_max
            or self.outbox.waiting > self.outbox.mark
        )

    def maybe_pause(self) -> bool:
        """Stop reading from a peer that is ahead of its handler, or of its own reading; whether
        it is not read from now."""
        if not self.paused and self.phase in (_OPEN, State.HEAD) and self.is_full:
            self.paused = True
            self.outbox.plain = False
            self.common.turn.put(PauseReading(self.fd))
        return self.paused

    def maybe_resume(self) -> None:
        """Read again once the inbox is half empty and the outbox below its mark."""
        if (
            self.paused
            and self.phase in (_OPEN, State.HEAD)
            and len(self.inbox) <= self.common.limits.inbox_messages_max // 2
            and self.inbox_bytes <= self.common.limits.inbox_bytes_max // 2
            and self.outbox.waiting <= self.outbox.mark
        ):
            self.resume_reading()

    def resume_reading(self) -> None:
        if self.paused:
            self.paused = False
            self.common.turn.put(ResumeReading(self.fd))

    def set_phase_deadline(self, seconds: float) -> None:
        self.phase_at = self.common.turn.now + seconds
        self.arm()

    def arm(self) -> None:
        """Tell the clock when to look at this session next."""
        when = min(self.phase_at, self.keepalive_at, self.stall_at)
        if when == inf:
            self.common.turn.deadlines.discard(self)
        else:
            self.common.turn.deadlines.set(self, when)

    def give_to_reader(self, message: Message) -> None:
        """For who waits in `receive`, or will."""
        if self.common.reads_inbox:
            self.put_inbox(message)
        else:
            if not self.mail:
                self.mail = deque()
            self.mail.append(message)
        if self.received is not None:
            received, self.received = self.received, None
            received.happen()

    def put_inbox(self, message: Message) -> None:
        if not self.inbox:
            self.inbox = deque()
        self.inbox.append(message)
        self.inbox_bytes += len(message)
        self.outbox.plain = False

    def pop_inbox(self) -> Message:
        inbox = self.inbox
        assert inbox
        message = inbox.popleft()
        if not inbox:
            self.inbox = ()
        self.inbox_bytes -= len(message)
        return message


@final
class _Messages:
    """What `async for` goes through: its own next message, so that one that has come costs neither
    a coroutine nor a task. (mypyc compiles no async generators.)"""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def __aiter__(self) -> _Messages:
        return self

    def __anext__(self) -> _Messages:
        return self

    def __await__(self) -> Generator[Any, Any, Message]:
        message = self._session.receive_nowait()
        if message is None:
            message = yield from self._session.receive().__await__()
        if message is None:
            raise StopAsyncIteration
        return message
