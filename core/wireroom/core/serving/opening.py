"""Requests: plain HTTP, and the handshake that opens a session. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final, final

from ..app import App
from ..dispatch.decisions import Accept, Decision, Reject
from ..dispatch.function import FunctionModule, WebSocket
from ..dispatch.handlers import Handler, handler_name
from ..dispatch.http import HttpRoute, as_response
from ..dispatch.module import SessionModule
from ..errors import (
    ConfigurationError,
    LocalProtocolError,
    RemoteProtocolError,
    SessionClosedError,
)
from ..events import RequestAnswered, SessionOpened
from ..sessions.guarded import GuardedRoom
from ..sessions.node import Node
from ..sessions.rooms import Namespace, PresenceHook, Room, RoomHook
from ..sessions.session import Common, Session
from ..sessions.stats import Stats
from ..sessions.users import REPLACED_CODE, REPLACED_REASON, user_id_of
from ..turn import Turn
from ..wire import handshake
from ..wire.close_codes import CloseCode
from ..wire.engines import new_framing
from ..wire.framing import FramingLimits
from ..wire.host import HostFraming, HostReader
from ..wire.http_head import RequestReader, check_host
from ..wire.request import Request, Response
from ..wire.states import Input, State
from .calls import Calls
from .closing import ABNORMAL, Closing
from .messages import Messages
from .proxies import Proxies

_ACCEPT: Final = Accept()
_REFUSED_FROM: Final = 400  # the lowest status of a refusal


@final
class Opening:
    """Reads requests, asks the application, and opens sessions."""

    __slots__ = (
        "_app",
        "_calls",
        "_closing",
        "_commons",
        "_framing_limits",
        "_limits",
        "_messages",
        "_namespaces",
        "_proxies",
        "_stats",
        "_turn",
        "_users",
        "services",
    )

    def __init__(
        self,
        app: App,
        turn: Turn,
        stats: Stats,
        calls: Calls,
        closing: Closing,
        messages: Messages,
        common: Common,
        epoch: str,
        node: Node | None,
    ) -> None:
        self._app = app
        self._limits = app.limits
        self._framing_limits = FramingLimits.of(app.limits)
        self._turn = turn
        self._stats = stats
        self._calls = calls
        self._closing = closing
        self._messages = messages
        self._users = common.users
        self._proxies = Proxies(app, stats) if app.trusted_proxies else None
        self._namespaces = {
            module: self._new_namespace(module, epoch, node) for _, module in app.modules
        }
        self.services = {service: factory() for service, factory in app.services.items()}
        self._commons = {module: self._new_common(module, common) for _, module in app.modules}

    def _new_namespace(self, module: SessionModule, epoch: str, node: Node | None) -> Namespace:
        if module.history is not None and not epoch:
            raise ConfigurationError(
                "Hub.epoch", f"must be a random text for the history of module {module.path}"
            )
        namespace = Namespace(
            turn=self._turn,
            stats=self._stats,
            pack=module.pack,
            room_sessions_max=self._limits.room_sessions_max,
            presence=module.presence,
            history=module.history,
            epoch=epoch,
            path=module.path,
            node=node,
            room_type=Room if self._turn.enter is None else GuardedRoom,
        )
        namespace.on_join = self._room_hook(module.on_join_handler)
        namespace.on_leave = self._room_hook(module.on_leave_handler)
        namespace.on_presence = self._presence_hook(module.on_presence_handler)
        parser = handler_name(type(module.parser))
        namespace.not_packed = lambda error: self._calls.report(None, parser, error)
        return namespace

    def _new_common(self, module: SessionModule, unrouted: Common) -> Common:
        common = Common(
            limits=unrouted.limits,
            turn=unrouted.turn,
            stats=unrouted.stats,
            hub=unrouted.hub,
            users=unrouted.users,
        )
        common.module = module
        common.namespace = self._namespaces[module]
        common.deliver = module.deliverer(self.services)
        common.stages = module.stages
        common.reads_inbox = common.deliver is None
        common.in_function = isinstance(module, FunctionModule)
        return common

    def rooms(self) -> list[tuple[str, Room]]:
        """Those that somebody is in, with their modules' paths."""
        return [
            (module.path, namespace.room(name))
            for module, namespace in self._namespaces.items()
            for name in namespace.members
        ]

    def _room_hook(self, handler: Handler | None) -> RoomHook | None:
        if handler is None:
            return None
        name = handler_name(handler)

        def call(session: Session, room: Room) -> None:
            def called(result: object, error: BaseException | None) -> None:
                if error is not None:
                    self._calls.report(session, name, error)

            self._calls.call(session, handler, (session, room), name, called)

        return call

    def _presence_hook(self, handler: Handler | None) -> PresenceHook | None:
        if handler is None:
            return None
        name = handler_name(handler)

        def called(result: object, error: BaseException | None) -> None:
            if error is not None:
                self._calls.report(None, name, error)

        return lambda room, changed: self._calls.call(None, handler, (room, changed), name, called)

    def receive_head(self, session: Session, data: bytes) -> None:
        """Requests, one after another; several may come in one read."""
        arrival = session.arrival
        assert arrival is not None
        reader = arrival.reader
        assert isinstance(reader, RequestReader)
        if arrival.held:
            data = arrival.held + data
            arrival.held = b""
        while session.phase is State.HEAD:
            if session.paused:
                arrival.held = data
                return
            started = reader.receiving
            try:
                if self._proxies is not None:
                    received = self._proxies.receive_data(session, data)
                    if received is None:
                        return
                    data = received
                request = reader.receive_data(data, client=session.address, secure=arrival.secure)
                if request is not None and self._proxies is not None:
                    self._proxies.identify(session, request)
            except RemoteProtocolError as error:
                self.refuse(session, None, error)
                return
            data = b""
            if request is None:
                if reader.receiving and not started and reader.answered:
                    session.set_phase_deadline(self._limits.head_timeout_s)
                return
            request.client_certificate = arrival.client_certificate
            self._take_request(session, request)
            session.maybe_pause()  # a peer that asks faster than it reads

    def receive_request(
        self, session: Session, request: Request, subprotocols: Sequence[str] | None
    ) -> None:
        """The request of a connection in a host; a handshake if there are `subprotocols`."""
        if self._proxies is not None:
            self._proxies.begin_in_host(session)
            self._proxies.identify(session, request)
        if subprotocols is not None:
            assert session.arrival is not None
            session.arrival.upgrade = handshake.Upgrade("", tuple(subprotocols), [])
        self._take_request(session, request)

    def _take_request(self, session: Session, request: Request) -> None:
        self._stats.requests += 1
        session.handshake = request
        session.happened(Input.REQUEST_RECEIVED)
        session.phase_at = self._turn.now + self._limits.handshake_timeout_s
        try:
            self._route(session, request)
        except RemoteProtocolError as error:
            self.refuse(session, request, error)
        if session.phase is State.REQUEST:
            session.arm()

    def _route(self, session: Session, request: Request) -> None:
        """To a WebSocket module or an HTTP route. Raises `RemoteProtocolError`."""
        raw_path = request.raw_path
        module_match = self._app.modules.match(raw_path)
        arrival = session.arrival
        assert arrival is not None
        in_host = isinstance(arrival.reader, HostReader)  # which has done its checks
        if in_host:
            check_host(request)
            wants_websocket = arrival.upgrade is not None
        else:
            wants_websocket = handshake.asks_for_websocket(request)
        if module_match is not None and wants_websocket:
            module, request.path_params = module_match
            origins = self._app.origins if module.origins is None else module.origins
            if in_host:
                handshake.check_origin(request, origins)
            else:
                arrival.upgrade = handshake.check_upgrade(request, origins)
            self._ask(session, module)
            return
        route_match = self._app.routes.match(raw_path)
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
            try:
                if error is not None:
                    raise error
                response = as_response(result)
            except Exception as failure:
                self._calls.report(session, route.name, failure)
                response = Response(500, "the server failed to answer\n")
            except BaseException:  # a cancellation: the server ends
                response = Response(503, "the server is shutting down\n")
            if session.phase is not State.REQUEST:
                return
            self.respond(session, request, response, close=False)
            if not inline:
                self._next_request(session)

        self._calls.call(session, route.handler, (request,), route.name, answer)
        inline = False

    def _next_request(self, session: Session) -> None:
        """What came while a request was being answered."""
        if session.phase is State.HEAD:
            session.resume_reading()
            self.receive_head(session, b"")

    def _ask(self, session: Session, module: SessionModule) -> None:
        """Let the application decide about a valid handshake."""
        session.common = self._commons[module]
        session.stage = None if module.stages is None else module.stages.initial
        if isinstance(module, FunctionModule):
            websocket = WebSocket(self, session)

            def ended(result: object, error: BaseException | None) -> None:
                self._function_ended(session, module, error)

            self._calls.call(session, module.handler, (websocket,), module.name, ended)
        elif (handler := module.handshake_handler()) is None:
            self.decide(session, _ACCEPT)
        else:

            def decided(result: object, error: BaseException | None) -> None:
                decision = Accept() if result is None else result
                try:
                    if error is not None:
                        raise error
                    if session.phase is not State.REQUEST:
                        return
                    if not isinstance(decision, Accept | Reject):
                        raise LocalProtocolError(
                            "on_handshake must give Accept, Reject or None, "
                            f"not {type(decision).__name__}"
                        )
                    self.decide(session, decision)
                except Exception as failure:
                    self._calls.report(session, handler_name(handler), failure)
                    self._fail_request(session)
                except BaseException:  # a cancellation: the server ends
                    self._fail_request(session)

            self._calls.call(session, handler, (session.handshake,), handler_name(handler), decided)

    def decide(self, session: Session, decision: Decision) -> None:
        """Accept or refuse a handshake; what `WebSocket.accept` and `on_handshake` come to.

        Raises `LocalProtocolError` for what the handshake does not allow.
        """
        if isinstance(decision, Reject):
            self.respond(session, session.handshake, decision.response(), close=True)
            return
        arrival, module = session.arrival, session.module
        assert arrival is not None
        reader, upgrade = arrival.reader, arrival.upgrade
        assert upgrade is not None
        session.subprotocol = decision.subprotocol or handshake.choose_subprotocol(
            module.subprotocols, upgrade.subprotocols
        )
        headers, agreed = handshake.accept_headers(
            upgrade,
            subprotocol=session.subprotocol,
            headers=decision.headers,
            settings=self._app.deflate,
        )
        state = dict(decision.state)
        if state and not all(isinstance(name, str) for name in state):
            raise LocalProtocolError(f"state has names that are no str: {list(state)!r}")
        user = session.handshake.user if decision.user is None else decision.user
        user_id = user_id_of(user)
        others = [] if user_id is None else self._users.sessions(user_id)
        if others and self._app.second_session == "reject":
            conflict = Response(409, "this user has a session already\n")
            self.respond(session, session.handshake, conflict, close=True)
            return
        session.put_response(reader.switch_protocols(headers))
        session.framing = (
            HostFraming(self._framing_limits)
            if isinstance(reader, HostReader)
            else new_framing(
                self._app.framing,
                client=False,
                limits=self._framing_limits,
                deflate=agreed,
                settings=self._app.deflate,
            )
        )
        data = reader.trailing_data + arrival.held
        session.arrival = None
        session.happened(Input.ACCEPTED)
        session.user = user
        if self._app.second_session == "replace":
            for other in others:
                other.close(REPLACED_CODE, REPLACED_REASON)
            if user_id is not None:
                self._users.close_elsewhere(user_id, REPLACED_CODE, REPLACED_REASON)
        for name, value in state.items():
            setattr(session.state, name, value)
        self._opened(session, data)

    def _opened(self, session: Session, data: bytes) -> None:
        now = self._turn.now
        self._stats.sessions += 1
        self._stats.sessions_total += 1
        session.opened_at = now
        self._turn.put(SessionOpened(session.fd, session.path, session))
        session.phase_at = inf
        session.last_received = now
        if not isinstance(session.framing, HostFraming):  # whose Pings are the host's
            session.keepalive_at = now + self._limits.ping_interval_s
        session.arm()
        handler = session.module.on_open_handler
        if handler is not None:
            name = handler_name(handler)
            session.busy = not session.common.reads_inbox  # else nothing overtakes it

            def opened(result: object, error: BaseException | None) -> None:
                session.busy = False
                if error is not None:
                    self._calls.report(session, name, error)
                    if session.phase is State.OPEN:
                        session.start_closing(CloseCode.INTERNAL_ERROR, "internal error")
                    return
                self._messages.pump(session)

            self._calls.call(session, handler, (session,), name, opened)
        session.maybe_resume()
        if data and session.phase in (State.OPEN, State.CLOSING):
            self._messages.receive_frames(session, data)
        if session.answered:
            self._closing.take(session, ABNORMAL)

    def refuse(self, session: Session, request: Request | None, error: RemoteProtocolError) -> None:
        """Answer a request that is wrong. One that is merely not for us does not end the
        connection; a handshake, or a head that cannot be trusted, does."""
        asked = session.arrival is not None and session.arrival.upgrade is not None
        mere = request is not None and error.status in (404, 405, 426) and not asked
        if request is not None and handshake.asks_for_websocket(request):
            mere = False
        response = Response(error.status, error.message + "\n", error.headers)
        self.respond(session, request, response, close=not mere)

    def _fail_request(self, session: Session) -> None:
        if session.phase is State.REQUEST:
            response = Response(500, "the server failed to answer\n")
            self.respond(session, session.handshake, response, close=True)

    def respond(
        self, session: Session, request: Request | None, response: Response, *, close: bool
    ) -> None:
        """Send a response, and end the connection or wait for the next request."""
        arrival = session.arrival
        assert arrival is not None
        reader = arrival.reader
        close = close or not reader.keeps_alive or session.answered or request is None
        session.put_response(reader.respond(request, response, close=close))
        if response.status >= _REFUSED_FROM:
            self._stats.requests_refused += 1
        method, target = ("", "") if request is None else (request.method, request.target)
        self._turn.put(RequestAnswered(session.fd, method, target, response.status))
        if not close:
            assert isinstance(reader, RequestReader)
            reader.next_request()
            session.happened(Input.RESPONDED)
            session.set_phase_deadline(
                self._limits.head_timeout_s
                if reader.receiving
                else self._limits.keep_alive_timeout_s
            )
            return
        self._stats.dropped_bytes_received += len(arrival.held)
        session.arrival = None
        session.happened(Input.REFUSED)
        self._closing.conclude(session)

    def _function_ended(
        self, session: Session, module: FunctionModule, error: BaseException | None
    ) -> None:
        """A function handler returned or raised; the connection ends with it."""
        gone = session.phase in (State.ENDING, State.CLOSED, State.CLOSING)
        if isinstance(error, Exception) and not (gone and isinstance(error, SessionClosedError)):
            self._calls.report(session, module.name, error)
        session.busy = False
        session.drop_inbox()
        if session.phase is State.REQUEST:
            if error is not None:
                self._fail_request(session)
            else:
                self.decide(session, Reject())
        elif session.phase is State.OPEN:
            if session.closing_event is not None:
                self._closing.settle(session)
            elif error is not None:
                session.start_closing(CloseCode.INTERNAL_ERROR, "internal error")
            else:
                session.start_closing(CloseCode.NORMAL_CLOSURE, "")


def _not_allowed(methods: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"only {methods} here", status=405, headers=(("Allow", methods),))
