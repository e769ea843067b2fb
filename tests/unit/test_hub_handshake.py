"""The handshake through the hub: what the application decides, and what happens if it does not."""

from __future__ import annotations

from typing import Any

import pytest

from driver import Foreign, Peer, Simulation
from frames import CLOSE, PING, frame
from heads import NONCE
from http_responses import read_response
from raw import get, text, upgrade
from wireroom.core import (
    Accept,
    App,
    Deflate,
    HandlerFailed,
    Limits,
    LocalProtocolError,
    PauseReading,
    Reject,
    Request,
    RequestAnswered,
    Session,
    SessionClosedError,
    SessionOpened,
    WebSocket,
)

CUTS = pytest.mark.parametrize("cut", [None, 1])


def checked_app(decision: object, gate: Foreign | None = None, **settings: Any) -> App:
    """`/` decides in a `def`, `/async` in an `async def` that waits for the gate."""
    app = App(**settings)

    def decide(request: Request) -> object:
        if isinstance(decision, Exception):
            raise decision
        return decision

    async def decide_later(request: Request) -> object:
        if gate is not None:
            await gate
        return decide(request)

    for path, check in (("/", decide), ("/async", decide_later)):
        module = app.module(path, subprotocols=["v2", "v1"])
        module.on_handshake(check)
        module.on_message(lambda session, message: message)
    return app


def refuse(data: bytes, *, cut: int | None = None) -> tuple[Peer, int]:
    """Send a handshake that is refused; the peer and the status."""
    simulation = Simulation(checked_app(None), cut=cut)
    peer = simulation.connect()
    peer.send_raw(data)
    response = read_response(bytes(peer.received))
    assert response.closes
    assert response.body
    assert (peer.lost, peer.aborted) == (True, False)
    assert not simulation.said(SessionOpened)
    assert [each.status for each in simulation.said(RequestAnswered)] == [response.status]
    return peer, response.status


# -- what the protocol asks ---------------------------------------------------------------------


@CUTS
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (upgrade("/").replace(b"GET", b"POST"), 405),
        (upgrade("/").replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
        (upgrade("/").replace(b"Host: server.example\r\n", b""), 400),
        (upgrade("/").replace(b"Connection: Upgrade", b"Connection: keep-alive"), 400),
        (upgrade("/").replace(b"Version: 13", b"Version: 8"), 426),
        (upgrade("/").replace(b"Version: 13", b"Version: 8, 13"), 426),
        (upgrade("/").replace(b"Sec-WebSocket-Version: 13\r\n", b""), 400),
        (upgrade("/").replace(NONCE.encode(), b"c2hvcnQ="), 400),
        (upgrade("/").replace(NONCE.encode(), b"not base64"), 400),
        (upgrade("/", f"Sec-WebSocket-Key: {NONCE}"), 400),
        (upgrade("/", "Origin: https://elsewhere.example"), 403),
        (upgrade("/", "Sec-WebSocket-Extensions: a b"), 400),
        (upgrade("/", "Sec-WebSocket-Protocol: a b"), 400),
        (upgrade("/nowhere"), 404),
        (upgrade("/%ff"), 400),
    ],
)
def test_a_wrong_handshake_is_refused_and_ends_the_connection(
    data: bytes, status: int, cut: int | None
) -> None:
    assert refuse(data, cut=cut)[1] == status


def test_a_refused_version_is_told_the_one_that_we_speak() -> None:
    peer, _ = refuse(upgrade("/").replace(b"Version: 13", b"Version: 8"))
    assert read_response(bytes(peer.received)).headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize("body", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_a_handshake_with_a_body_opens_nothing(body: str) -> None:
    simulation = Simulation(checked_app(None))
    peer = simulation.connect()
    peer.send_raw(upgrade("/", body) + b"5\r\nhello\r\n0\r\n\r\n")
    assert read_response(bytes(peer.received)).status == 400
    assert peer.lost


# -- accept -------------------------------------------------------------------------------------


@CUTS
@pytest.mark.parametrize("path", ["/", "/async"])
@pytest.mark.parametrize("decision", [None, Accept()])
def test_accepting(path: str, decision: object, cut: int | None) -> None:
    simulation = Simulation(checked_app(decision), cut=cut)
    peer = simulation.open(path)
    peer.send("hello")
    assert peer.messages == ["hello"]
    assert simulation.said(SessionOpened) == [SessionOpened(peer.fd, path)]
    stats = simulation.hub.stats()
    assert (stats.sessions, stats.sessions_total, stats.requests) == (1, 1, 1)


@pytest.mark.parametrize("path", ["/", "/async"])
def test_accept_gives_headers_user_and_state(path: str) -> None:
    decision = Accept(
        headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")],
        user="somebody",
        state={"level": 3},
    )
    simulation = Simulation(checked_app(decision))
    peer = simulation.open(path)
    session = simulation.session(peer)
    assert (session.user, session.state.level) == ("somebody", 3)
    assert peer.accepted is not None
    cookies = [value for name, value in peer.accepted.extra_headers if name == b"set-cookie"]
    assert cookies == [b"a=1", b"b=2"]


@pytest.mark.parametrize(
    ("decision", "offered", "chosen"),
    [
        (None, ("v1", "v2"), "v2"),
        (None, ("v1", "other"), "v1"),
        (None, ("other",), None),
        (None, (), None),
        (Accept("v1"), ("v2", "v1"), "v1"),
        (Accept("other"), ("other",), "other"),
    ],
)
def test_the_subprotocol_is_ours_by_preference_or_the_applications(
    decision: object, offered: tuple[str, ...], chosen: str | None
) -> None:
    simulation = Simulation(checked_app(decision))
    peer = simulation.open("/", subprotocols=offered)
    assert peer.accepted is not None
    assert peer.accepted.subprotocol == chosen
    assert simulation.session(peer).subprotocol == chosen


@pytest.mark.parametrize("deflate", [None, Deflate()])
def test_deflate_is_agreed_on_only_where_both_want_it(deflate: Deflate | None) -> None:
    simulation = Simulation(checked_app(None, deflate=deflate))
    for wants in (True, False):
        peer = simulation.open("/", deflate=wants)
        assert peer.accepted is not None
        assert bool(peer.accepted.extensions) == (wants and deflate is not None)
        peer.send("x" * 1000)
        assert peer.messages == ["x" * 1000]


@pytest.mark.parametrize(
    ("origins", "origin", "opened"),
    [
        (None, None, True),
        (None, "http://server.example", True),
        (None, "http://server.example:8080", False),
        (None, "http://elsewhere.example", False),
        (None, "null", False),
        (["https://a.example"], "https://a.example", True),
        (["https://a.example"], "https://b.example", False),
        (["https://a.example"], "http://server.example", False),
        (["https://a.example"], None, True),
        ([], "http://server.example", False),
        ("*", "https://anything.example", True),
    ],
)
@pytest.mark.parametrize("of_module", [False, True])
def test_origins(origins: Any, origin: str | None, opened: bool, of_module: bool) -> None:
    """A module's own origins override the application's; None means that it has none."""
    others = "*" if origins != "*" else None
    app = App(origins=others if of_module and origins is not None else origins)
    app.module("/", origins=origins if of_module else None)
    simulation = Simulation(app)
    headers = () if origin is None else ((b"Origin", origin.encode()),)
    peer = simulation.connect()
    peer.open("/", headers=headers)
    assert (peer.accepted is not None) is opened
    if not opened:
        assert peer.status() == 403


# -- reject -------------------------------------------------------------------------------------


@CUTS
@pytest.mark.parametrize("path", ["/", "/async"])
@pytest.mark.parametrize("status", [200, 302, 401, 403, 418, 503, 599])
def test_rejecting_with_any_status(path: str, status: int, cut: int | None) -> None:
    decision = Reject(status, "no", {"WWW-Authenticate": "Bearer"})
    simulation = Simulation(checked_app(decision), cut=cut)
    peer = simulation.open(path)
    assert peer.status() == status
    assert peer.body == b"no"
    assert peer.rejected is not None
    assert (b"www-authenticate", b"Bearer") in list(peer.rejected.headers)
    assert peer.lost
    assert simulation.failures == []
    assert simulation.hub.sessions() == []
    assert simulation.hub.stats().requests_refused == (1 if status >= 400 else 0)


def test_what_comes_behind_a_rejected_handshake_is_no_request() -> None:
    simulation = Simulation(checked_app(Reject()))
    peer = simulation.connect()
    peer.send_raw(upgrade("/") + get("/healthz"))
    assert read_response(bytes(peer.received)).status == 403
    assert simulation.hub.stats().requests == 1


# -- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/async"])
@pytest.mark.parametrize(
    "decision",
    [
        LookupError("on purpose"),
        "yes",
        True,
        Accept("never offered"),
        Accept(headers={"X": "a\r\nb"}),
        Accept(headers={"Upgrade": "h2c"}),
        Accept(headers={"Sec-WebSocket-Accept": "x"}),
        Accept(state=7),  # type: ignore[arg-type]  # on purpose
        Reject(999),
        Reject(403, headers={"X": " a"}),
        Reject(403, headers={"Content-Length": "1"}),
    ],
)
def test_a_handshake_handler_that_fails_is_500_and_reported(path: str, decision: object) -> None:
    simulation = Simulation(checked_app(decision))
    peer = simulation.open(path)
    assert peer.status() == 500
    assert b"on purpose" not in bytes(peer.received)
    (failed,) = simulation.said(HandlerFailed)
    assert "decide" in failed.handler
    if isinstance(decision, Exception):
        assert failed.error is decision
    assert peer.lost
    stats = simulation.hub.stats()
    assert (stats.sessions, stats.sessions_total, stats.invocations) == (0, 0, 0)


def test_a_decision_that_takes_too_long_is_503_and_the_late_one_is_dropped() -> None:
    gate = Foreign()
    app = checked_app(Accept(), gate, limits=Limits(handshake_timeout_s=5.0))
    simulation = Simulation(app)
    peer = simulation.open("/async")
    simulation.advance(4.9)
    assert peer.status() is None
    simulation.advance(0.1)
    assert peer.status() == 503
    simulation.complete(gate)
    assert simulation.said(SessionOpened) == []
    assert simulation.failures == []


def test_a_failure_after_the_deadline_is_still_reported() -> None:
    gate = Foreign()
    app = checked_app(ValueError("late"), gate, limits=Limits(handshake_timeout_s=5.0))
    simulation = Simulation(app)
    peer = simulation.open("/async")
    simulation.advance(5.0)
    simulation.complete(gate)
    assert peer.status() == 503
    assert [str(error) for error in simulation.failures] == ["late"]


def test_a_function_that_accepts_after_the_deadline_is_told() -> None:
    gate = Foreign()
    raised: list[Exception] = []
    app = App(limits=Limits(handshake_timeout_s=5.0))

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        await gate
        try:
            ws.accept()
        except Exception as error:
            raised.append(error)

    simulation = Simulation(app)
    peer = simulation.open("/")
    simulation.advance(5.0)
    simulation.complete(gate)
    assert peer.status() == 503
    assert len(raised) == 1
    assert simulation.failures == []


def test_a_peer_that_goes_while_it_is_decided_about_gets_no_session() -> None:
    gate = Foreign()
    simulation = Simulation(checked_app(Accept(), gate))
    peer = simulation.open("/async")
    peer.lose()
    simulation.complete(gate)
    assert simulation.said(SessionOpened) == []
    stats = simulation.hub.stats()
    assert (stats.sessions, stats.invocations, stats.connections) == (0, 0, 0)


# -- what comes with and after the handshake ----------------------------------------------------


@CUTS
@pytest.mark.parametrize("path", ["/", "/async"])
def test_messages_that_come_with_the_handshake_are_handled_in_order(
    path: str, cut: int | None
) -> None:
    gate = Foreign()
    simulation = Simulation(checked_app(None, gate), cut=cut)
    peer = simulation.connect()
    peer.open(path, then=text("one") + text("two"))
    peer.send_raw(text("three"))
    simulation.complete(gate)
    assert peer.messages == ["one", "two", "three"]


def test_the_101_is_the_first_thing_sent_whatever_came_with_the_handshake() -> None:
    simulation = Simulation(checked_app(None))
    peer = simulation.connect()
    peer.open("/", then=frame(PING, b"early") + text("one") + frame(PING, b"late"))
    assert bytes(peer.received).startswith(b"HTTP/1.1 101 ")
    assert (peer.pongs, peer.messages) == ([b"early", b"late"], ["one"])


def test_the_101_survives_an_overflow_in_on_open() -> None:
    app = App(limits=Limits(outbox_bytes_max=1000, outbox_mark_bytes=500))

    @app.module("/").on_open
    def flood(session: Session) -> None:
        for _ in range(10):
            session.send("x" * 400)

    simulation = Simulation(app)
    peer = simulation.open("/")
    assert peer.accepted is not None
    assert peer.close_code() == 1008


@pytest.mark.parametrize("with_it", [True, False])
def test_a_session_closed_in_on_open_reads_the_peers_close(with_it: bool) -> None:
    app = App()
    app.module("/").on_open(lambda session: session.close(4000, "go away"))
    simulation = Simulation(app)
    peer = simulation.connect()
    closing = text("a") + frame(CLOSE, (1000).to_bytes(2, "big"))
    if with_it:
        peer.open("/", then=closing)
    else:
        peer.polite = False
        peer.open("/", then=closing[:3])
        peer.send_raw(closing[3:])
    assert peer.close_code() == 4000
    assert (peer.lost, peer.aborted) == (True, False)
    stats = simulation.hub.stats()
    assert (stats.violations, stats.close_timeouts) == (0, 0)


def test_a_peer_that_sends_on_and_on_while_it_is_decided_about_is_not_read() -> None:
    gate = Foreign()
    simulation = Simulation(checked_app(None, gate))
    peer = simulation.open("/async")
    for number in range(100):
        peer.send_raw(text(f"{number}" * 300))
    assert simulation.said(PauseReading, peer)
    assert simulation.hub.stats().bytes_received < 20_000
    simulation.complete(gate)
    assert peer.messages == [f"{number}" * 300 for number in range(100)]


def test_a_peer_that_is_not_read_from_can_still_be_refused_in_order() -> None:
    gate = Foreign()
    simulation = Simulation(checked_app(Reject(), gate))
    peer = simulation.open("/async")
    for _ in range(20):
        peer.send_raw(text("x" * 2000))
    assert not peer.is_read()
    simulation.complete(gate)
    assert peer.status() == 403
    assert (peer.lost, peer.aborted) == (True, False)


def test_what_the_application_sees_of_a_request() -> None:
    app = App()
    seen: list[object] = []

    @app.module("/{room}").on_handshake
    def check(request: Request) -> None:
        seen.extend([request.path_params, request.query_params["token"], request.cookies])
        seen.extend([request.headers["user-agent"], request.client, request.secure])

    simulation = Simulation(app)
    peer = simulation.connect(host="10.0.0.9", port=99, secure=True)
    headers = (
        (b"Cookie", b'a="b"'),
        (b"User-Agent", b"test"),
        (b"Origin", b"https://server.example"),
    )
    peer.open("/lobby?token=t%20", headers=headers)
    assert seen == [{"room": "lobby"}, "t ", {"a": "b"}, "test", ("10.0.0.9", 99), True]
    assert peer.accepted is not None


def test_wishes_before_the_session_is_open_are_mistakes() -> None:
    app = App()

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        with pytest.raises(LocalProtocolError, match="not open yet"):
            ws.session.close()
        with pytest.raises(SessionClosedError, match="not open yet"):
            ws.join("room")

    simulation = Simulation(app)
    assert simulation.open("/").status() == 403
    assert simulation.failures == []
