"""The hub: every connection of a server, as one state machine without I/O.

It is the only file that knows all layers, and has four kinds of method: getters, inputs (from a
transport, each with `now=`), commands (from application code, mostly on `Session`), and outputs.

A transport does this, for ever: give an input; then take `data_to_send(fd)` for each fd of
`fds_to_send()`, carry out each `next_output()`, and arm one timer for `next_timeout()`.

No input raises for what a peer did. Handlers run inside inputs; one that raises is reported by
`HandlerFailed` and hurts nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, Final, final

from .app import App
from .dispatch.decisions import Accept, Decision, Reject
from .dispatch.function import FunctionModule, WebSocket
from .dispatch.handlers import COROUTINE, handler_name
from .dispatch.http import HttpRoute, as_response
from .dispatch.module import SessionModule
from .errors import (
    IdsExhaustedError,
    LocalProtocolError,
    RemoteProtocolError,
    SessionClosedError,
    WireroomError,
)
from .events import (
    Cancel,
    Disconnect,
    HandlerFailed,
    Invoke,
    Output,
    PauseReading,
    RequestAnswered,
    Resume,
    SessionClosed,
    SessionOpened,
    ShutdownWrite,
)
from .sessions.ids import new_fds
from .sessions.registry import Registry
from .sessions.rooms import Namespace
from .sessions.session import Session
from .sessions.stats import Stats
from .turn import ForeignWait, Invocation, Sleep, Turn, Wait
from .wire import handshake
from .wire.close_codes import CloseCode
from .wire.engines import new_framing
from .wire.framing import (
    CloseReceived,
    FrameEvent,
    Message,
    PingReceived,
    PongReceived,
    Violation,
)
from .wire.http_head import RequestReader
from .wire.request import Address, Request, Response
from .wire.states import Input, State


@final
class Finished:
    """What `Hub.resume` gives when the handler has ended."""


FINISHED: Final = Finished()

_ABNORMAL: Final = CloseReceived(CloseCode.ABNORMAL_CLOSURE, "")  # an end without a Close frame
_REFUSED_AT: Final = 400


@final
class Hub:
    """One server's connections. Raises `ConfigurationError` for an app that cannot work.

    `wake` is called when there is something to drain that no input of the transport's own left
    behind (application code called from elsewhere); `foreign_wait` lets tasks of the transport's
    loop await what is ours. Both are for transports and may be left out.
    """

    def __init__(
        self,
        app: App,
        *,
        wake: Callable[[], None] | None = None,
        foreign_wait: ForeignWait | None = None,
    ) -> None:
        app.check()
        self.app = app
        self.limits = app.limits
        self._turn = Turn()
        self._turn.wake = wake
        self._turn.foreign_wait = foreign_wait
        self._stats = Stats()
        self._registry = Registry(new_fds(app.fd_policy, app.fd_max))
        self._taken: list[Session] = []  # sessions to look at once the transport has taken bytes
        self._lost: list[int] = []  # fds to release when nothing that was said names them
        self._shutting_down = False
        self._pings = 0
        self._namespaces = {
            module: Namespace(turn=self._turn, stats=self._stats, pack=module.pack)
            for _, module in app.modules
        }
        self._deliverers = {module: module.deliverer() for _, module in app.modules}

    # -- getters --------------------------------------------------------------------------------

    def session(self, fd: int) -> Session | None:
        """The open session with this fd, or None."""
        session = self._registry.get(fd)
        return session if session is not None and session.is_connected else None

    def sessions(self) -> list[Session]:
        """The open sessions: a snapshot, safe to use while sessions come and go."""
        return [session for session in self._registry if session.is_connected]

    def stats(self) -> Stats:
        """The counters, as a snapshot."""
        return self._stats.copy()

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout` next, on the clock of `now`, or None."""
        return self._turn.deadlines.next()

    @property
    def now(self) -> float:
        """The time of the latest input."""
        return self._turn.now

    # -- outputs --------------------------------------------------------------------------------

    def fds_to_send(self) -> list[int]:
        """The fds that have got something to send since the last call."""
        return self._turn.take_dirty()

    def data_to_send(self, fd: int) -> list[bytes]:
        """Take everything that waits for this connection; each byte is given once.

        To be called only while the socket accepts bytes; say `bytes_unsent` of what it did not.
        """
        session = self._registry.get(fd)
        if session is None:
            return []
        size = session.outbox.size
        taken = session.outbox.take()
        if taken:
            self._stats.bytes_sent += size
            if session.waits_for_outbox:
                self._taken.append(session)
        return taken

    def next_output(self) -> Output | None:
        """The next fact, or request to the transport; None when there is none."""
        if self._taken:
            taken, self._taken = self._taken, []
            for session in taken:
                self._outbox_taken(session)
        outputs = self._turn.outputs
        if outputs:
            return outputs.popleft()
        self._release_fds()
        return None

    # -- inputs: connections --------------------------------------------------------------------

    def connect(self, address: Address, *, now: float, secure: bool = False) -> int:
        """A peer has connected (over TLS if `secure`). Gives its fd.

        Raises `IdsExhaustedError`, with the response to write, if no more are taken.
        """
        self._turn.now = now
        if not self._turn.outputs:
            self._release_fds()
        fd = None
        if len(self._registry) < self.limits.connections_max and not self._shutting_down:
            fd = self._registry.acquire()
        if fd is None:
            self._stats.connections_refused += 1
            response = Response(503, "the server is full\n", {"Retry-After": "5"})
            raise IdsExhaustedError(
                f"all {len(self._registry)} connections are in use"
                if not self._shutting_down
                else "the server is shutting down",
                response=RequestReader(self.limits).respond(None, response, close=True),
            )
        self._registry.generation += 1
        session = Session(
            fd=fd,
            generation=self._registry.generation,
            address=address,
            secure=secure,
            limits=self.limits,
            turn=self._turn,
            stats=self._stats,
            host=self,
        )
        self._registry.add(session)
        self._stats.connections += 1
        self._stats.connections_total += 1
        session.set_phase_deadline(self.limits.head_timeout_s)
        return fd

    def receive_data(self, fd: int, data: bytes, *, now: float) -> None:
        """Bytes from a peer; none after `ResumeReading`, to go on with what was kept."""
        session = self._registry.require(fd)
        self._turn.now = now
        session.last_received = now
        self._stats.bytes_received += len(data)
        phase = session.phase
        if phase is State.OPEN or phase is State.CLOSING:
            if session.paused:
                assert session.framing is not None
                session.framing.hold(data)
                return
            if session.inbox and not data:
                self._pump(session)
            self._receive_frames(session, data)
        elif phase is State.HEAD:
            self._receive_head(session, data)
        elif phase is State.REQUEST:
            session.held += data
            if not session.paused and len(session.held) > self.limits.head_bytes_max:
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
            self._take_closing_event(session, _ABNORMAL)
        elif phase is State.HEAD:
            session.happened(Input.EOF_RECEIVED)
            self._conclude(session)
        elif phase is State.ENDING:
            self._conclude(session)
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
        session.outbox.unsent = count
        if count == 0:
            session.stall_at = inf
            self._outbox_taken(session)
        elif before == 0 or count < before:
            session.stall_at = now + self.limits.stall_timeout_s
            session.arm()

    def connection_lost(self, fd: int, *, now: float) -> None:
        """The socket is gone, whoever closed it; to be said once for each `connect`.

        Raises `LocalProtocolError` if it was said before.
        """
        session = self._registry.require(fd)
        self._turn.now = now
        self._end(session, Input.LOST, _ABNORMAL)
        self._stats.dropped_messages_sent += session.outbox.clear()
        self._stats.connections -= 1
        self._registry.remove(session)
        self._lost.append(fd)
        session.phase_at = session.keepalive_at = session.stall_at = inf
        if session.invocations:
            session.set_phase_deadline(self.limits.close_timeout_s)
        else:
            session.arm()

    # -- inputs: time and handlers --------------------------------------------------------------

    def handle_timeout(self, *, now: float) -> None:
        """Do what is due at `now`; nothing if it is early."""
        self._turn.now = now
        for key in self._turn.deadlines.due(now):
            if isinstance(key, Sleep):
                key.happen()
            elif isinstance(key, Session):
                self._check_deadlines(key)

    def resume(
        self, invocation: Invocation, error: BaseException | None = None, *, now: float, value: Any = None
    ) -> Any:
        """Run one step of an `async` handler, from one await to the next.

        `value` or `error` is what a foreign await gave. Gives `FINISHED`, a `Wait` of ours (call
        again after its `Resume`), or what the handler yielded to the transport's loop. Only
        exceptions that are no `Exception`, such as a cancellation, come out of it.
        """
        self._turn.now = now
        if invocation.done:
            return FINISHED
        invocation.wait = None
        self._turn.step = invocation
        try:
            if error is None:
                yielded = invocation.coroutine.send(value)
            else:
                yielded = invocation.coroutine.throw(error)
        except StopIteration as stop:
            self._turn.step = None
            self._finish_invocation(invocation, stop.value, None)
            return FINISHED
        except BaseException as raised:
            self._turn.step = None
            self._finish_invocation(invocation, None, raised)
            if not isinstance(raised, Exception):
                raise
            return FINISHED
        self._turn.step = None
        if isinstance(yielded, Wait):
            self._park(invocation, yielded)
        return yielded

    def shutdown(
        self,
        *,
        now: float,
        code: int = CloseCode.GOING_AWAY,
        reason: str = "the server is shutting down",
    ) -> None:
        """Take no more connections, and close those that there are (RFC 6455 section 7.4.1).

        Sessions get a Close with `code` and have until the close deadline; requests that are
        being decided get 503.
        """
        self._turn.now = now
        self._shutting_down = True
        for session in self._registry:
            if session.phase is State.OPEN:
                session.start_closing(code, reason)
            elif session.phase is State.REQUEST:
                self._respond(session, session.request, Response(503, reason + "\n"), close=True)
            elif session.phase is State.HEAD:
                session.answered = True
                session.happened(Input.FAILED)
                self._conclude(session)

    # -- the HTTP head and the handshake ----------------------------------------------------------

    def _receive_head(self, session: Session, data: bytes) -> None:
        """Requests, one after another; several may come in one read."""
        while session.phase is State.HEAD:
            reader = session.reader
            assert reader is not None
            started = reader.receiving
            try:
                request = reader.receive_data(data, client=session.address, secure=session.secure)
            except RemoteProtocolError as error:
                self._refuse(session, None, error)
                return
            data = b""
            if request is None:
                if reader.receiving and not started and reader.answered:
                    session.set_phase_deadline(self.limits.head_timeout_s)
                return
            self._stats.requests += 1
            session.request = request
            session.happened(Input.REQUEST_RECEIVED)
            session.set_phase_deadline(self.limits.handshake_timeout_s)
            try:
                self._route(session, request)
            except RemoteProtocolError as error:
                self._refuse(session, request, error)

    def _route(self, session: Session, request: Request) -> None:
        """To a WebSocket module or an HTTP route. Raises `RemoteProtocolError`."""
        module_match = self.app.modules.match(request.raw_path)
        wants_websocket = handshake.asks_for_websocket(request)
        if module_match is not None and wants_websocket:
            module, request.path_params = module_match
            origins = self.app.origins if module.origins is None else module.origins
            session.upgrade = handshake.check_upgrade(request, origins)
            self._ask(session, module)
            return
        route_match = self.app.routes.match(request.raw_path)
        if route_match is not None:
            if request.method not in ("GET", "HEAD"):
                raise _not_allowed("GET, HEAD")
            route, request.path_params = route_match
            self._call_route(session, request, route)
        elif module_match is None:
            raise RemoteProtocolError("there is nothing at this path", status=404)
        elif request.method != "GET":
            raise _not_allowed("GET")
        else:
            raise handshake.upgrade_required()

    def _call_route(self, session: Session, request: Request, route: HttpRoute) -> None:
        inline = True

        def answer(result: object, error: BaseException | None) -> None:
            if session.phase is not State.REQUEST:
                return
            try:
                if error is not None:
                    raise error
                response = as_response(result)
            except Exception as failure:
                self._report(session, route.name, failure)
                response = Response(500, "the server failed to answer\n")
            self._respond(session, request, response, close=False)
            if not inline:
                self._next_request(session)

        self._call(session, route.handler, (request,), route.name, answer)
        inline = False

    def _next_request(self, session: Session) -> None:
        """What came while a request was being answered."""
        if session.phase is State.HEAD:
            held, session.held = session.held, b""
            self._receive_head(session, held)
            session.maybe_resume()

    def _ask(self, session: Session, module: SessionModule) -> None:
        """Let the application decide about a valid handshake."""
        session.module = module
        session.namespace = self._namespaces[module]
        session.deliver = self._deliverers[module]
        if isinstance(module, FunctionModule):
            websocket = WebSocket(self, session)

            def ended(result: object, error: BaseException | None) -> None:
                self._function_ended(session, module, error)

            self._call(session, module.handler, (websocket,), module.current_handler, ended)
        elif module.on_handshake_handler is None:
            self.decide(session, Accept())
        else:
            handler = module.on_handshake_handler

            def decided(result: object, error: BaseException | None) -> None:
                if session.phase is not State.REQUEST:
                    return
                decision = Accept() if result is None else result
                try:
                    if error is not None:
                        raise error
                    if not isinstance(decision, Accept | Reject):
                        raise LocalProtocolError(
                            "on_handshake must give Accept, Reject or None, "
                            f"not {type(decision).__name__}"
                        )
                    self.decide(session, decision)
                except Exception as failure:
                    self._report(session, handler_name(handler), failure)
                    self._fail_request(session)

            self._call(session, handler, (session.request,), handler_name(handler), decided)

    def decide(self, session: Session, decision: Decision) -> None:
        """Accept or refuse a handshake; what `WebSocket.accept` and `on_handshake` come to.

        Raises `LocalProtocolError` for what the handshake does not allow.
        """
        if isinstance(decision, Reject):
            self._respond(session, session.request, decision.response(), close=True)
            return
        upgrade, reader, module = session.upgrade, session.reader, session.module
        assert upgrade is not None
        assert reader is not None
        session.subprotocol = decision.subprotocol or handshake.choose_subprotocol(
            module.subprotocols, upgrade.subprotocols
        )
        headers, agreed = handshake.accept_headers(
            upgrade,
            subprotocol=session.subprotocol,
            headers=decision.headers,
            settings=self.app.deflate,
        )
        session.put(reader.switch_protocols(headers))
        session.framing = new_framing(
            self.app.framing,
            client=False,
            limits=self.limits,
            deflate=agreed,
            settings=self.app.deflate,
        )
        data = reader.trailing_data + session.held
        session.reader = None
        session.upgrade = None
        session.held = b""
        session.happened(Input.ACCEPTED)
        session.user = decision.user
        for name, value in decision.state.items():
            setattr(session.state, name, value)
        self._opened(session, data)

    def _opened(self, session: Session, data: bytes) -> None:
        now = self._turn.now
        self._stats.sessions += 1
        self._stats.sessions_total += 1
        self._turn.put(SessionOpened(session.fd, session.path))
        session.phase_at = inf
        session.last_received = now
        session.keepalive_at = now + self.limits.ping_interval_s
        session.arm()
        handler = session.module.on_open_handler
        if handler is not None:
            name = handler_name(handler)
            session.busy = True

            def opened(result: object, error: BaseException | None) -> None:
                session.busy = False
                if error is not None:
                    self._report(session, name, error)
                    if session.phase is State.OPEN:
                        session.start_closing(CloseCode.INTERNAL_ERROR, "internal error")
                    return
                self._pump(session)

            self._call(session, handler, (session,), name, opened)
        session.maybe_resume()
        if data and session.phase is State.OPEN:
            self._receive_frames(session, data)
        if session.answered:
            self._take_closing_event(session, _ABNORMAL)

    def _refuse(self, session: Session, request: Request | None, error: RemoteProtocolError) -> None:
        """Answer a request that is wrong. One that is merely not for us does not end the
        connection; a handshake, or a head that cannot be trusted, does."""
        mere = request is not None and error.status in (404, 405, 426) and session.upgrade is None
        if request is not None and handshake.asks_for_websocket(request):
            mere = False
        response = Response(error.status, error.message + "\n", error.headers)
        self._respond(session, request, response, close=not mere)

    def _fail_request(self, session: Session) -> None:
        if session.phase is State.REQUEST:
            response = Response(500, "the server failed to answer\n")
            self._respond(session, session.request, response, close=True)

    def _respond(
        self, session: Session, request: Request | None, response: Response, *, close: bool
    ) -> None:
        """Send a response, and end the connection or wait for the next request."""
        reader = session.reader
        assert reader is not None
        close = close or not reader.keeps_alive or session.answered or request is None
        session.put(reader.respond(request, response, close=close))
        if response.status >= _REFUSED_AT:
            self._stats.requests_refused += 1
        method, target = ("", "") if request is None else (request.method, request.target)
        self._turn.put(RequestAnswered(session.fd, method, target, response.status))
        if not close:
            reader.next_request()
            session.happened(Input.RESPONDED)
            session.set_phase_deadline(self.limits.keep_alive_timeout_s)
            return
        self._stats.dropped_bytes_received += len(session.held)
        session.reader = None
        session.held = b""
        session.happened(Input.REFUSED)
        self._conclude(session)

    # -- frames and messages ----------------------------------------------------------------------

    def _receive_frames(self, session: Session, data: bytes) -> None:
        """Bytes of an upgraded connection, to handled messages."""
        framing = session.framing
        deliver = session.deliver
        outbox = session.outbox
        assert framing is not None
        assert deliver is not None
        while True:
            for event in framing.receive(data):
                kind = type(event)
                if (kind is str or kind is bytes) and session.phase is State.OPEN:
                    self._stats.messages_received += 1
                    if session.busy or session.inbox or outbox.size + outbox.unsent > outbox.mark:
                        session.put_inbox(event)  # type: ignore[arg-type]  # a message
                        continue
                    try:
                        result = deliver(session, event)  # type: ignore[arg-type]  # a message
                    except Exception as error:
                        self._message_failed(session, error)
                    else:
                        if result is not None:
                            self._handle_result(session, result)
                else:
                    self._take_event(session, event)
            if session.inbox or outbox.size + outbox.unsent > outbox.mark:
                session.maybe_pause()
            if not framing.more or session.paused or session.phase is State.ENDING:
                return
            data = b""

    def _take_event(self, session: Session, event: FrameEvent) -> None:
        """What is not a message, or comes when we have begun to close."""
        if isinstance(event, str | bytes):
            self._stats.messages_received += 1
            self._stats.dropped_messages_received += 1
        elif isinstance(event, PingReceived):
            if session.phase is State.OPEN and session.framing is not None:
                session.put_control(session.framing.encode_pong(event.payload))
        elif not isinstance(event, PongReceived):
            self._take_closing_event(session, event)

    def _take_closing_event(self, session: Session, event: CloseReceived | Violation) -> None:
        """A Close, a violation or an end of stream takes its place after earlier messages."""
        if session.phase not in (State.OPEN, State.CLOSING) or session.closing_event is not None:
            return
        session.closing_event = event
        if session.phase is State.CLOSING or not (session.busy or session.inbox):
            self.settle(session)
            return
        orderly = isinstance(event, CloseReceived) and event is not _ABNORMAL
        session.set_phase_deadline(
            self.limits.close_reply_timeout_s if orderly else self.limits.close_timeout_s
        )

    def settle(self, session: Session) -> None:
        """What came after the last message takes effect: answer a Close, or fail."""
        event = session.closing_event
        framing = session.framing
        if event is None or framing is None or session.phase not in (State.OPEN, State.CLOSING):
            return
        session.closing_event = None
        if isinstance(event, Violation):
            self._stats.violations += 1
            if session.phase is State.OPEN:
                session.put(framing.encode_close(event.code, event.reason))
            self._end(session, Input.FAILED, CloseReceived(event.code, event.reason))
        elif event is _ABNORMAL:
            self._end(session, Input.EOF_RECEIVED, event)
        else:
            session.answered = True
            if session.phase is State.OPEN:
                code = None if event.code == CloseCode.NO_STATUS_RECEIVED else event.code
                session.put(framing.encode_close(code, ""))
            self._end(session, Input.CLOSE_COMPLETED, event)
        self._conclude(session)

    def _handle_result(self, session: Session, result: object) -> None:
        """What a message's handler gave: a coroutine, a violation, or a reply."""
        if isinstance(result, COROUTINE):
            session.busy = True
            name = session.module.current_handler

            def handled(reply: object, error: BaseException | None) -> None:
                session.busy = False
                if error is not None:
                    if isinstance(error, Exception):
                        self._message_failed(session, error, name)
                elif reply is not None:
                    self._handle_result(session, reply)
                self._pump(session)

            self._invoke(session, result, name, handled)
        elif isinstance(result, Violation):
            self._take_closing_event(session, result)
        elif session.is_connected:
            try:
                session.send(result)
            except Exception as error:
                self._message_failed(session, error)
        else:
            self._stats.dropped_messages_sent += 1

    def _pump(self, session: Session) -> None:
        """Go on with what waited for an earlier message."""
        deliver = session.deliver
        outbox = session.outbox
        if deliver is None or isinstance(session.module, FunctionModule):
            return
        while session.inbox and not session.busy and session.phase is State.OPEN:
            if outbox.size + outbox.unsent > outbox.mark:
                return
            try:
                result = deliver(session, session.pop_inbox())
            except Exception as error:
                self._message_failed(session, error)
            else:
                if result is not None:
                    self._handle_result(session, result)
        if not session.busy and not session.inbox:
            self.settle(session)
        session.maybe_resume()

    def _message_failed(self, session: Session, error: Exception, name: str = "") -> None:
        """A handler raised: report it, tell the peer, go on."""
        if isinstance(error, SessionClosedError) and not session.is_connected:
            return
        self._report(session, name or session.module.current_handler, error)
        reply = session.module.error_reply("handler_failed", "the server failed to handle this")
        if reply is not None and session.is_connected:
            session.send(reply)

    def _function_ended(
        self, session: Session, module: FunctionModule, error: BaseException | None
    ) -> None:
        """A function handler returned or raised; the connection ends with it."""
        gone = session.phase in (State.ENDING, State.CLOSED, State.CLOSING)
        if isinstance(error, Exception) and not (gone and isinstance(error, SessionClosedError)):
            self._report(session, module.current_handler, error)
        session.busy = False
        session.drop_inbox()
        if session.phase is State.REQUEST:
            if error is not None:
                self._fail_request(session)
            else:
                self.decide(session, Reject())
        elif session.phase is State.OPEN:
            if session.closing_event is not None:
                self.settle(session)
            elif error is not None:
                session.start_closing(CloseCode.INTERNAL_ERROR, "internal error")
            else:
                session.start_closing(CloseCode.NORMAL_CLOSURE, "")

    # -- ends ---------------------------------------------------------------------------------------

    def _end(self, session: Session, how: Input, close: CloseReceived) -> None:
        """The session, if there was one, is over; the socket may live a little longer."""
        before = session.phase
        session.happened(how)
        if before is State.OPEN:
            self._stats.sessions -= 1
            session.close_code = int(close.code)
            session.close_reason = close.reason
        if before is not State.OPEN and before is not State.CLOSING:
            session.let_go()
            return
        session.keepalive_at = inf
        session.closing_event = None
        if not isinstance(session.module, FunctionModule):
            session.drop_inbox()
        session.let_go()
        self._turn.put(SessionClosed(session.fd, session.close_code, session.close_reason))
        handler = session.module.on_close_handler
        if handler is not None:
            name = handler_name(handler)

            def closed(result: object, error: BaseException | None) -> None:
                if error is not None:
                    self._report(session, name, error)

            self._call(session, handler, (session,), name, closed)

    def _conclude(self, session: Session) -> None:
        """Nothing more will be put into the outbox: disconnect once it has been taken."""
        session.want_close = True
        session.stall_at = session.keepalive_at = inf
        session.set_phase_deadline(self.limits.close_timeout_s)
        if session.outbox.empty:
            self._outbox_taken(session)

    def _outbox_taken(self, session: Session) -> None:
        session.outbox_taken()
        if session.want_close and session.outbox.empty and session.phase is State.ENDING:
            session.want_close = False
            if session.answered:
                self._turn.put(Disconnect(session.fd, abort=False, why="the connection is done"))
            else:
                self._turn.put(ShutdownWrite(session.fd))

    def _abort(self, session: Session, why: str) -> None:
        """Give up on a connection, whatever its peer does."""
        if session.phase is not State.ENDING:
            self._end(session, Input.FAILED, CloseReceived(CloseCode.ABNORMAL_CLOSURE, why))
        self._stats.dropped_messages_sent += session.outbox.clear()
        session.want_close = False
        session.phase_at = session.keepalive_at = session.stall_at = inf
        self._turn.put(Disconnect(session.fd, abort=True, why=why))

    def _release_fds(self) -> None:
        """The transport has carried out all that was said of them: they may be used again."""
        for fd in self._lost:
            self._registry.release(fd)
        self._lost.clear()

    # -- deadlines ----------------------------------------------------------------------------------

    def _check_deadlines(self, session: Session) -> None:
        now = self._turn.now
        if session.phase_at <= now:
            session.phase_at = inf
            self._phase_timed_out(session)
        if session.stall_at <= now:
            session.stall_at = inf
            self._stats.stalled += 1
            self._abort(session, "stalled: the peer reads nothing")
        if session.keepalive_at <= now:
            self._keep_alive(session)
        session.arm()

    def _phase_timed_out(self, session: Session) -> None:
        phase = session.phase
        if phase is State.HEAD:
            self._stats.head_timeouts += 1
            if session.reader is not None and session.reader.receiving:
                error = RemoteProtocolError("the request head took too long", status=408)
                self._refuse(session, None, error)
            else:
                session.answered = True
                session.happened(Input.FAILED)
                self._conclude(session)
        elif phase is State.REQUEST:
            response = Response(503, "the application did not answer in time\n")
            self._respond(session, session.request, response, close=True)
        elif phase is State.OPEN:  # earlier messages had their time
            session.drop_inbox()
            self.settle(session)
        elif phase is State.CLOSED:
            for invocation in session.invocations or ():
                if not invocation.cancelled:
                    invocation.cancelled = True
                    self._turn.put(Cancel(invocation))
        else:
            self._stats.close_timeouts += 1
            self._abort(session, "the peer did not close in time")

    def _keep_alive(self, session: Session) -> None:
        """Ping after silence, close after more of it. Silence that is ours does not count."""
        now = self._turn.now
        interval = self.limits.ping_interval_s
        if session.phase is not State.OPEN or session.framing is None:
            session.keepalive_at = inf
        elif session.paused:
            session.keepalive_at = now + interval
        elif session.last_received < session.pinged_at:
            self._stats.ping_timeouts += 1
            session.start_closing(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
        elif session.last_received + interval > now:
            session.keepalive_at = session.last_received + interval
        else:
            self._pings += 1
            session.put_control(session.framing.encode_ping(self._pings.to_bytes(8, "big")))
            session.pinged_at = now
            session.keepalive_at = now + self.limits.ping_timeout_s

    # -- calling handlers ---------------------------------------------------------------------------

    def _call(
        self,
        session: Session,
        handler: Callable[..., Any],
        arguments: tuple[object, ...],
        name: str,
        finished: Callable[[object, BaseException | None], None],
    ) -> None:
        """Call a handler, `def` or `async def`; `finished` gets what it gave or raised."""
        try:
            result = handler(*arguments)
        except Exception as error:
            finished(None, error)
            return
        if isinstance(result, COROUTINE):
            self._invoke(session, result, name, finished)
        else:
            finished(result, None)

    def _invoke(
        self,
        session: Session,
        coroutine: Coroutine[Any, Any, object],
        name: str,
        finished: Callable[[object, BaseException | None], None],
    ) -> None:
        def ended(result: object, error: BaseException | None) -> None:
            if session.invocations is not None and invocation in session.invocations:
                session.invocations.remove(invocation)
            if session.phase is State.CLOSED and not session.invocations:
                self._turn.deadlines.discard(session)
            finished(result, error)

        invocation = Invocation(coroutine, name=name, fd=session.fd, finished=ended)
        if session.invocations is None:
            session.invocations = []
        session.invocations.append(invocation)
        self._stats.invocations += 1
        self._turn.put(Invoke(invocation))

    def _park(self, invocation: Invocation, wait: Wait) -> None:
        """The handler waits for something of ours: say `Resume` when it happens."""
        invocation.wait = wait

        def resume() -> None:
            if invocation.wait is wait and not invocation.done:
                self._turn.put(Resume(invocation))

        wait.add_hook(resume)

    def _finish_invocation(
        self, invocation: Invocation, result: object, error: BaseException | None
    ) -> None:
        invocation.done = True
        self._stats.invocations -= 1
        invocation.finished(result, error)

    def _report(self, session: Session, name: str, error: BaseException) -> None:
        if not isinstance(error, Exception):
            return  # a cancellation is nobody's failure
        self._stats.handler_failures += 1
        self._turn.put(HandlerFailed(session.fd, name, error))


def _not_allowed(methods: str) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"only {methods} here", status=405, headers=(("Allow", methods),)
    )
