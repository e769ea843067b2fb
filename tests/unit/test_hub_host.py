"""The hub inside a host that does the handshake and the framing: the same app, the same effects."""

from __future__ import annotations

from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver import Simulation
from host_peer import HostPeer
from wireroom.core import (
    Accept,
    App,
    HandlerFailed,
    IdsExhaustedError,
    Limits,
    LocalProtocolError,
    Reject,
    Request,
    RequestAnswered,
    Response,
    Session,
    SessionClosed,
    SessionOpened,
    WebSocket,
)
from wireroom.core.wire.host import Answered

BROWSER = (("host", "localhost"), ("origin", "https://evil.example"))


def echo_app(**settings: Any) -> App:
    app = App(**settings)
    module = app.module("/", subprotocols=["v2", "v1"])

    @module.on_message
    def echo(session: Session, message: str | bytes) -> str | bytes:
        return message

    return app


# -- the handshake ------------------------------------------------------------------------------


def test_a_session_opens_and_echoes_text_and_binary() -> None:
    simulation = Simulation(echo_app())
    peer = HostPeer(simulation, subprotocols=["v1", "v2"])
    assert (peer.status, peer.subprotocol, peer.headers) == (101, "v2", [])
    peer.send("one")
    peer.send(b"two")
    assert peer.messages == ["one", b"two"]


def test_an_http2_request_needs_no_headers_of_the_handshake() -> None:
    peer = HostPeer(Simulation(echo_app()), http_version="2", headers=())
    assert peer.status == 101


def test_the_application_may_add_headers_but_not_the_handshakes_own() -> None:
    app = App()
    module = app.module("/{name}")

    @module.on_handshake
    def decide(request: Request) -> Accept:
        return Accept(headers={request.path_params["name"]: "value"})

    peer = HostPeer(Simulation(app), "/x-name")
    assert (peer.status, peer.headers) == (101, [("x-name", "value")])
    peer = HostPeer(Simulation(app), "/sec-websocket-accept")
    assert peer.status == 500


def test_a_subprotocol_that_was_not_offered_is_the_applications_mistake() -> None:
    app = App()
    module = app.module("/")

    @module.on_handshake
    def decide(request: Request) -> Accept:
        return Accept(subprotocol="other")

    simulation = Simulation(app)
    peer = HostPeer(simulation, subprotocols=["v1"])
    assert peer.status == 500
    assert [type(error) for error in simulation.failures] == [LocalProtocolError]


def test_another_origin_is_refused() -> None:
    peer = HostPeer(Simulation(echo_app()), headers=BROWSER)
    assert (peer.status, peer.body) == (403, b"this Origin may not connect\n")
    assert peer.is_over
    peer = HostPeer(Simulation(echo_app(origins=["https://evil.example"])), headers=BROWSER)
    assert peer.status == 101


def test_an_origin_without_a_host_is_refused() -> None:
    peer = HostPeer(Simulation(echo_app()), headers=BROWSER[1:])
    assert peer.status == 403


def test_a_malformed_host_is_refused() -> None:
    peer = HostPeer(Simulation(echo_app()), headers=[("host", "a b")])
    assert peer.status == 400


def test_a_path_that_is_not_there_is_not_found() -> None:
    peer = HostPeer(Simulation(echo_app()), "/other")
    assert (peer.status, peer.is_over) == (404, True)


def test_a_refusal_has_status_headers_and_body() -> None:
    app = App()
    module = app.module("/")

    @module.on_handshake
    def decide(request: Request) -> Reject:
        return Reject(401, "who?", {"WWW-Authenticate": "Bearer"})

    simulation = Simulation(app)
    peer = HostPeer(simulation)
    assert (peer.status, peer.body) == (401, b"who?")
    assert ("WWW-Authenticate", "Bearer") in peer.headers
    assert simulation.said(RequestAnswered) == [RequestAnswered(1, "GET", "/", 401)]
    assert simulation.hub.stats().connections == 0


def test_a_host_that_is_no_proxy_is_not_believed_about_its_client() -> None:
    headers = (("host", "localhost"), ("x-forwarded-for", "192.0.2.7"))
    for trusted, client in (((), ("10.0.0.1", 4000)), (("10.0.0.1",), ("192.0.2.7", 0))):
        simulation = Simulation(echo_app(trusted_proxies=trusted))
        peer = HostPeer(simulation, headers=headers)
        session = simulation.hub.session(peer.fd)
        assert session is not None
        assert isinstance(session.address, tuple)
        assert (session.address[0], peer.request.client) == (client[0], session.address)


# -- users --------------------------------------------------------------------------------------


def test_the_hosts_user_is_the_sessions_unless_the_application_names_another() -> None:
    app = App()
    app.module("/host")
    named = app.module("/named")

    @named.on_handshake
    def decide(request: Request) -> Accept:
        return Accept(user=f"not {request.user}")

    simulation = Simulation(app)
    peer = HostPeer(simulation, "/host", user="alice")
    session = simulation.hub.session(peer.fd)
    assert session is not None
    assert session.user == "alice"
    assert simulation.hub.user("alice").sessions == [session]
    peer = HostPeer(simulation, "/named", user="alice")
    session = simulation.hub.session(peer.fd)
    assert session is not None
    assert session.user == "not alice"


def test_a_second_session_of_the_hosts_user_follows_the_policy() -> None:
    simulation = Simulation(echo_app(second_session="reject"))
    assert HostPeer(simulation, user="alice").status == 101
    assert HostPeer(simulation, user="alice").status == 409
    assert HostPeer(simulation, user="bob").status == 101


# -- messages -----------------------------------------------------------------------------------


def test_a_broadcast_is_one_object_for_all() -> None:
    app = App()
    app.module("/")
    simulation = Simulation(app)
    peers = [HostPeer(simulation) for _ in range(3)]
    for peer in peers:
        peer.stalls = True
    simulation.hub.broadcast("hello")
    simulation.settle()
    taken = [peer.waiting[-1] for peer in peers]
    assert taken[0] == b"hello"
    assert len({id(buffer) for buffer in taken}) == 1


def test_a_message_beyond_the_bound_is_closed_with_1009() -> None:
    peer = HostPeer(Simulation(echo_app(limits=Limits(message_bytes_max=5))))
    peer.send("12345")
    peer.send("123456")
    assert peer.messages == ["12345"]
    assert peer.close_frame is not None
    assert peer.close_frame[0] == 1009
    assert peer.is_over


def test_a_message_before_the_accept_is_the_hosts_mistake() -> None:
    app = App()

    @app.websocket("/")
    async def waits(ws: WebSocket) -> None:
        await ws.session.sleep(1.0)
        await ws.accept()

    peer = HostPeer(Simulation(app))
    assert peer.status is None
    with pytest.raises(LocalProtocolError, match="host"):
        peer.send("early")


def test_a_message_after_the_end_is_counted() -> None:
    simulation = Simulation(echo_app(limits=Limits(message_bytes_max=5)))
    peer = HostPeer(simulation, polite=False)
    peer.stalls = True
    peer.send("123456")
    peer.send("late")
    assert simulation.hub.stats().dropped_messages_received == 1


def test_a_full_inbox_pauses_the_peer_and_keeps_order() -> None:
    app = App(limits=Limits(inbox_messages_max=2))
    module = app.module("/")

    @module.on_message
    async def slow(session: Session, message: str | bytes) -> str | bytes:
        await session.sleep(1.0)
        return message

    simulation = Simulation(app)
    peer = HostPeer(simulation)
    sent = [f"{number}" for number in range(6)]
    for message in sent:
        peer.send(message)
    assert not peer.is_read
    simulation.advance(10.0)
    assert peer.messages == sent
    assert peer.is_read


# -- the end ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "answer"), [(1000, 1000), (4001, 4001), (1005, None), (1006, None)]
)
def test_a_close_of_the_peer_is_answered(code: int, answer: int | None) -> None:
    simulation = Simulation(echo_app())
    peer = HostPeer(simulation)
    peer.close(code, "bye" if answer else "")
    assert peer.close_frame == (answer, "")
    assert peer.is_over
    (closed,) = simulation.said(SessionClosed)
    assert closed.code == code


def test_a_close_of_ours_is_completed_by_the_host() -> None:
    app = App()
    module = app.module("/")

    @module.on_message
    def leave(session: Session, message: str | bytes) -> None:
        session.close(4002, "enough")

    simulation = Simulation(app)
    peer = HostPeer(simulation)
    peer.send("x")
    assert peer.close_frame == (4002, "enough")
    assert (peer.is_over, peer.aborted) == (True, False)
    assert simulation.said(SessionClosed) == [SessionClosed(1, 4002, "enough")]
    assert simulation.hub.stats().close_timeouts == 0


def test_a_host_that_does_not_complete_a_close_is_given_up() -> None:
    app = App(limits=Limits(close_timeout_s=3.0))
    app.module("/")
    simulation = Simulation(app)
    peer = HostPeer(simulation, polite=False)
    simulation.shut_down()
    assert peer.close_frame is not None
    assert peer.close_frame[0] == 1001
    assert not peer.is_over
    simulation.advance(3.0)
    assert peer.aborted
    assert simulation.hub.stats().close_timeouts == 1


def test_an_end_without_a_close_is_1006() -> None:
    simulation = Simulation(echo_app())
    peer = HostPeer(simulation)
    peer.send_eof()
    assert peer.is_over
    (closed,) = simulation.said(SessionClosed)
    assert closed.code == 1006


def test_a_peer_that_reads_nothing_is_aborted_at_the_stall_deadline() -> None:
    simulation = Simulation(echo_app(limits=Limits(stall_timeout_s=7.0)))
    peer = HostPeer(simulation)
    peer.stalls = True
    peer.send("x" * 100)
    simulation.advance(6.9)
    assert not peer.is_over
    simulation.advance(0.2)
    assert peer.aborted
    assert simulation.hub.stats().stalled == 1


def test_a_peer_that_reads_again_is_not_aborted() -> None:
    simulation = Simulation(echo_app(limits=Limits(stall_timeout_s=7.0)))
    peer = HostPeer(simulation)
    peer.stalls = True
    peer.send("x" * 100)
    simulation.advance(6.9)
    peer.read()
    simulation.advance(100.0)
    assert not peer.is_over
    assert peer.messages == ["x" * 100]


def test_pings_are_the_hosts() -> None:
    simulation = Simulation(echo_app())
    peer = HostPeer(simulation)
    assert simulation.hub.next_timeout() is None
    simulation.advance(1000.0)
    assert not peer.is_over


def test_a_handshake_that_is_not_decided_gets_503() -> None:
    app = App(limits=Limits(handshake_timeout_s=5.0))

    @app.websocket("/")
    async def undecided(ws: WebSocket) -> None:
        await ws.session.sleep(100.0)

    simulation = Simulation(app)
    peer = HostPeer(simulation)
    simulation.advance(5.0)
    assert (peer.status, peer.is_over) == (503, True)


def test_a_full_server_answers_503() -> None:
    simulation = Simulation(echo_app(limits=Limits(connections_max=1)))
    HostPeer(simulation)
    with pytest.raises(IdsExhaustedError) as raised:
        HostPeer(simulation)
    response = raised.value.response
    assert isinstance(response, Answered)
    assert (response.status, response) == (503, b"the server is full\n")
    assert ("Retry-After", "5") in response.headers


def test_an_fd_is_free_after_the_end() -> None:
    simulation = Simulation(echo_app(fd_policy="lowest"))
    peer = HostPeer(simulation)
    peer.close(1000)
    assert peer.lost
    assert HostPeer(simulation).fd == peer.fd


# -- plain HTTP ---------------------------------------------------------------------------------


def http_app() -> App:
    app = echo_app()

    @app.http("/health")
    def health(request: Request) -> dict[str, bool]:
        return {"ok": True}

    @app.http("/slow")
    async def slow(request: Request) -> Response:
        return Response(201, "made")

    return app


@pytest.mark.parametrize(
    ("method", "target", "status", "body"),
    [
        ("GET", "/health", 200, b'{"ok":true}'),
        ("HEAD", "/health", 200, b""),
        ("GET", "/slow", 201, b"made"),
        ("POST", "/health", 405, b"only GET, HEAD here\n"),
        ("GET", "/", 426, b"this path speaks WebSocket only\n"),
        ("GET", "/nothing", 404, b"there is nothing at this path\n"),
    ],
)
def test_plain_requests_are_answered(method: str, target: str, status: int, body: bytes) -> None:
    peer = HostPeer(Simulation(http_app()), target, method=method, subprotocols=None)
    assert (peer.status, peer.body, peer.is_over) == (status, body, True)


def test_a_handshake_that_the_host_left_alone_is_not_done() -> None:
    headers = [
        ("host", "localhost"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ]
    peer = HostPeer(Simulation(http_app()), "/", headers=headers, subprotocols=None)
    assert peer.status == 426


# -- by bytes and by messages, the same ---------------------------------------------------------

Action: TypeAlias = tuple[str, str | bytes | int]


def any_app() -> App:
    """What an application may do with a message: answer, broadcast, fail, close, wait."""
    app = App(limits=Limits(message_bytes_max=50, inbox_messages_max=4))
    inline = app.module("/inline", subprotocols=["v1"])

    @inline.on_open
    def opened(session: Session) -> None:
        session.join("all")
        session.send("welcome")

    @inline.on_message
    def handle(session: Session, message: str | bytes) -> str | bytes | None:
        match message:
            case "all":
                session.room("all").broadcast("to all")
            case "raise":
                raise ValueError("the handler fails")
            case "close":
                session.close(4004, "closed by the handler")
            case _:
                return message
        return None

    waiting = app.module("/waiting")

    @waiting.on_message
    async def wait(session: Session, message: str | bytes) -> str | bytes:
        await session.sleep(1.0)
        return handle(session, message) or b"done"

    @app.websocket("/function")
    async def function(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            if message == "return":
                return
            if message == "raise":
                raise ValueError("the function fails")
            await ws.send(message)

    refusing = app.module("/refusing")

    @refusing.on_handshake
    async def refuse(request: Request) -> Reject:
        return Reject(402, "pay", {"X-Price": "1"})

    return app


MESSAGES = st.sampled_from(["all", "raise", "close", "return", "é", "", b"", b"\xff", "x" * 51])
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), MESSAGES),
        st.tuples(st.just("advance"), st.sampled_from([1, 30])),
        st.tuples(st.just("close"), st.sampled_from([1000, 4000])),
        st.tuples(st.just("eof"), st.just(0)),
    ),
    max_size=10,
)

FACTS = (SessionOpened, SessionClosed, RequestAnswered, HandlerFailed)


def facts(simulation: Simulation) -> list[object]:
    """What the hub has said of it; of failures, whose."""
    return [
        (output.handler, repr(output.error)) if isinstance(output, HandlerFailed) else same(output)
        for output in simulation.outputs
        if isinstance(output, FACTS)
    ]


def same(value: object) -> str:
    """Without the one difference that is meant: in a host nothing is known of frames."""
    return repr(value).replace("the frame has", "the message has")


def by_bytes(path: str, actions: list[Action]) -> list[object]:
    """What a peer has seen, and the hub has said, with frames."""
    simulation = Simulation(any_app())
    peer = simulation.open(path, subprotocols=["v1"])
    for name, value in actions:
        if name == "advance":
            assert isinstance(value, int)
            simulation.advance(value)
        elif peer.lost or peer.status() != 101 or peer.close_frame is not None:
            continue
        elif name == "send":
            assert not isinstance(value, int)
            peer.send(value)
        elif name == "close":
            assert isinstance(value, int)
            peer.close(value, "bye")
            break
        else:
            peer.send_eof()
            break
    simulation.advance(60.0)
    close = peer.close_frame
    accepted = peer.accepted
    return [
        peer.status(),
        None if accepted is None else accepted.subprotocol,
        peer.body,
        peer.messages,
        None if close is None else same((int(close.code), close.reason or "")),
        facts(simulation),
        simulation.hub.stats().sessions,
    ]


def by_messages(path: str, actions: list[Action]) -> list[object]:
    """The same, with a host."""
    simulation = Simulation(any_app())
    peer = HostPeer(simulation, path, subprotocols=["v1"])
    for name, value in actions:
        if name == "advance":
            assert isinstance(value, int)
            simulation.advance(value)
        elif peer.lost or peer.status != 101 or peer.close_frame is not None:
            continue
        elif name == "send":
            assert not isinstance(value, int)
            peer.send(value)
        elif name == "close":
            assert isinstance(value, int)
            peer.close(value, "bye")
            break
        else:
            peer.send_eof()
            break
    simulation.advance(60.0)
    close = peer.close_frame
    return [
        peer.status,
        peer.subprotocol,
        peer.body,
        peer.messages,
        None if close is None else same((None if close[0] is None else int(close[0]), close[1])),
        facts(simulation),
        simulation.hub.stats().sessions,
    ]


@settings(max_examples=200)
@given(path=st.sampled_from(["/inline", "/waiting", "/function", "/refusing"]), actions=ACTIONS)
def test_an_app_has_the_same_effects_by_bytes_and_by_messages(
    path: str, actions: list[Action]
) -> None:
    assert by_messages(path, actions) == by_bytes(path, actions)
