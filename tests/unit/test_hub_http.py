"""Plain HTTP through the hub: routes, refusals, pipelining and keep-alive."""

from __future__ import annotations

import dataclasses

import pytest

from driver import Foreign, Peer, Simulation
from http_responses import HttpResponse, read_response, read_responses
from raw import get, request, text, upgrade
from wireroom.core import (
    App,
    HandlerFailed,
    IdsExhaustedError,
    Limits,
    PauseReading,
    Request,
    RequestAnswered,
    Response,
    ResumeReading,
    Session,
    ShutdownWrite,
)

CUTS = pytest.mark.parametrize("cut", [None, 1])


def http_app(limits: Limits | None = None) -> App:
    app = App(limits=limits)
    app.http("/healthz")(lambda request: {"ok": True})
    app.http("/item/{n:int}")(lambda request: f"item {request.path_params['n']}")
    app.module("/ws").on_message(lambda session, message: message)

    @app.http("/fails")
    def fails(request: Request) -> None:
        raise RuntimeError("on purpose")

    return app


def ask(data: bytes, *methods: str, cut: int | None = None) -> tuple[Peer, list[HttpResponse]]:
    """Send bytes to a new server; its peer and all the responses."""
    simulation = Simulation(http_app(), cut=cut)
    peer = simulation.connect()
    peer.send_raw(data)
    return peer, read_responses(bytes(peer.received), *methods)


# -- answers ------------------------------------------------------------------------------------


@CUTS
def test_get(cut: int | None) -> None:
    peer, (response,) = ask(get("/healthz?verbose"), cut=cut)
    assert (response.status, response.body) == (200, b'{"ok":true}')
    assert not response.closes
    assert not peer.saw_eof


@CUTS
def test_head_is_get_without_the_body(cut: int | None) -> None:
    peer, (response,) = ask(request("HEAD", "/healthz"), "HEAD", cut=cut)
    assert (response.status, response.body) == (200, b"")
    assert response.headers["content-length"] == "11"
    assert bytes(peer.received).endswith(b"\r\n\r\n")
    assert not peer.saw_eof


@CUTS
def test_several_requests_in_one_read_are_answered_in_order(cut: int | None) -> None:
    data = b"".join(get(f"/item/{n}") for n in range(5)) + request("HEAD", "/healthz")
    peer, responses = ask(data, *["GET"] * 5, "HEAD", cut=cut)
    assert [response.body for response in responses[:-1]] == [b"item %d" % n for n in range(5)]
    assert not peer.saw_eof
    assert [each.target for each in peer.simulation.said(RequestAnswered)][:2] == [
        "/item/0",
        "/item/1",
    ]


def test_thousands_of_requests_in_one_read_do_not_recurse() -> None:
    count = 3000
    app = http_app()

    @app.http("/async")
    async def waits(request: Request) -> str:
        return "async"

    simulation = Simulation(app)
    peer = simulation.connect()
    peer.send_raw((get("/async") + get("/item/1") + get("/nowhere")) * (count // 3))
    statuses = [response.status for response in read_responses(bytes(peer.received))]
    assert statuses == [200, 200, 404] * (count // 3)
    assert simulation.hub.stats().requests == count


@pytest.mark.parametrize(
    ("data", "status", "header"),
    [
        (get("/nowhere"), 404, None),
        (request("POST", "/nowhere"), 404, None),
        (request("POST", "/healthz"), 405, ("allow", "GET, HEAD")),
        (request("OPTIONS", "/healthz"), 405, ("allow", "GET, HEAD")),
        (request("POST", "/ws"), 405, ("allow", "GET")),
        (request("HEAD", "/ws"), 405, ("allow", "GET")),
        (get("/ws"), 426, ("sec-websocket-version", "13")),
        (get("/ws", "Upgrade: h2c", "Connection: Upgrade"), 426, ("upgrade", "websocket")),
        (get("/item/word"), 404, None),
    ],
)
def test_a_request_that_is_not_for_us_is_answered_and_the_next_one_too(
    data: bytes, status: int, header: tuple[str, str] | None
) -> None:
    method = data.split(b" ")[0].decode()
    peer, (response, next_one) = ask(data + get("/healthz"), method)
    assert (response.status, next_one.status) == (status, 200)
    assert response.body or method == "HEAD"
    if header is not None:
        assert response.headers[header[0]] == header[1]
    assert peer.simulation.hub.stats().requests_refused == 1


@CUTS
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n broken\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX\xff\r\n\r\n", 400),
        (get("/item/%ff"), 400),
        (get("/healthz#fragment"), 400),
        (get("healthz"), 400),
        (get("/" + "a" * 17_000), 431),
        (get("/healthz", "X: " + "a" * 17_000), 431),
        (get("/healthz", *(f"X-{n}: 1" for n in range(100))), 431),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 17_000, 431),
    ],
)
def test_a_malformed_or_oversized_head_is_refused_and_ends_the_connection(
    data: bytes, status: int, cut: int | None
) -> None:
    if cut and len(data) > 10_000:
        cut = 1000
    peer, (response,) = ask(data, cut=cut)
    assert response.status == status
    assert response.closes
    assert 0 < len(response.body) < 200
    assert peer.lost
    assert not peer.aborted
    assert peer.simulation.hub.stats().requests_refused == 1


def test_a_second_head_is_bounded_like_the_first() -> None:
    head = get("/healthz", "X: " + "a" * 16_000)
    peer, responses = ask(head + head + get("/healthz", "X: " + "a" * 17_000))
    assert [response.status for response in responses] == [200, 200, 431]
    assert peer.lost


@pytest.mark.parametrize(
    "data",
    [
        get("/healthz", "Connection: close"),
        b"GET /healthz HTTP/1.0\r\n\r\n",
        get("/healthz", "Content-Length: 5") + b"12345",
        get("/healthz", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    ],
)
def test_where_no_other_request_may_follow_the_connection_ends(data: bytes) -> None:
    peer, (response,) = ask(data + get("/healthz"))
    assert response.status == 200
    assert peer.lost
    assert not peer.aborted


def test_a_handler_that_raises_is_500_and_the_next_request_is_answered() -> None:
    peer, (failed, healthy) = ask(get("/fails") + get("/healthz"))
    assert (failed.status, healthy.status) == (500, 200)
    assert b"on purpose" not in failed.body
    (report,) = peer.simulation.said(HandlerFailed)
    assert report.handler.endswith("fails")
    assert report.error.__traceback__ is not None


def test_what_is_answered_is_said_and_counted() -> None:
    peer, _ = ask(get("/healthz") + get("/nowhere") + b"nonsense\r\n\r\n")
    assert [dataclasses.astuple(each) for each in peer.simulation.said(RequestAnswered)] == [
        (peer.fd, "GET", "/healthz", 200),
        (peer.fd, "GET", "/nowhere", 404),
        (peer.fd, "", "", 400),
    ]
    stats = peer.simulation.hub.stats()
    assert (stats.requests, stats.requests_refused) == (2, 2)
    assert stats.bytes_sent == len(peer.received)


def test_an_upgrade_to_a_plain_route_is_answered_as_plain_http() -> None:
    _, (response,) = ask(upgrade("/healthz"))
    assert response.status == 200


def test_a_connection_may_ask_first_and_upgrade_then() -> None:
    simulation = Simulation(http_app())
    peer = simulation.connect()
    peer.send_raw(get("/healthz"))
    peer.received.clear()
    peer.open("/ws")
    peer.send("hello")
    assert peer.messages == ["hello"]


@CUTS
def test_a_request_and_an_upgrade_and_a_message_may_come_in_one_read(cut: int | None) -> None:
    simulation = Simulation(http_app(), cut=cut)
    peer = simulation.connect()
    peer.send_raw(get("/healthz") + upgrade("/ws") + text("hello"))
    received = bytes(peer.received)
    assert received.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 101" in received
    assert received.endswith(b"\x81\x05hello")


# -- async handlers -----------------------------------------------------------------------------


def async_app(gate: Foreign, limits: Limits | None = None) -> App:
    app = http_app(limits)

    @app.http("/slow")
    async def slow(request: Request) -> str:
        return str(await gate)

    return app


@CUTS
def test_requests_behind_an_async_handler_wait_for_its_answer(cut: int | None) -> None:
    gate = Foreign()
    simulation = Simulation(async_app(gate), cut=cut)
    peer = simulation.connect()
    peer.send_raw(get("/item/1") + get("/slow") + get("/item/2") + get("/slow") + get("/item/3"))
    assert len(read_responses(bytes(peer.received))) == 1
    simulation.complete(gate, "one")
    assert len(read_responses(bytes(peer.received))) == 3
    peer.send_raw(get("/item/4"))
    simulation.complete(gate, "two")
    bodies = [response.body for response in read_responses(bytes(peer.received))]
    assert bodies == [b"item 1", b"one", b"item 2", b"two", b"item 3", b"item 4"]


def test_other_peers_are_answered_while_one_waits() -> None:
    gate = Foreign()
    simulation = Simulation(async_app(gate))
    waiting, other = simulation.connect(), simulation.connect()
    waiting.send_raw(get("/slow"))
    other.send_raw(get("/healthz"))
    assert (len(waiting.received), read_response(bytes(other.received)).status) == (0, 200)


def test_a_peer_that_asks_on_and_on_while_one_request_waits_is_not_read() -> None:
    gate = Foreign()
    simulation = Simulation(async_app(gate))
    peer = simulation.connect()
    peer.send_raw(get("/slow"))
    for _ in range(100):
        peer.send_raw(get("/healthz") * 20)
    assert len(simulation.said(PauseReading, peer)) == 1
    assert simulation.hub.stats().bytes_received < 40_000
    simulation.complete(gate, "done")
    assert len(read_responses(bytes(peer.received))) == 2001
    assert peer.is_read()


def test_an_async_handler_that_raises_is_500() -> None:
    gate = Foreign()
    simulation = Simulation(async_app(gate))
    peer = simulation.connect()
    peer.send_raw(get("/slow") + get("/healthz"))
    simulation.fail(gate, ValueError("on purpose"))
    assert [each.status for each in read_responses(bytes(peer.received))] == [500, 200]
    assert [str(error) for error in simulation.failures] == ["on purpose"]


def test_a_failure_after_the_peer_has_gone_is_still_reported() -> None:
    gate = Foreign()
    simulation = Simulation(async_app(gate))
    peer = simulation.connect()
    peer.send_raw(get("/slow"))
    peer.lose()
    simulation.fail(gate, ValueError("on purpose"))
    assert [str(error) for error in simulation.failures] == ["on purpose"]
    assert simulation.hub.stats().invocations == 0


def test_an_answer_that_takes_too_long_is_503_and_the_late_one_is_dropped() -> None:
    gate = Foreign()
    simulation = Simulation(async_app(gate, Limits(handshake_timeout_s=5.0)))
    peer = simulation.connect()
    peer.send_raw(get("/slow") + get("/healthz"))
    simulation.advance(5.0)
    response = read_response(bytes(peer.received))
    assert (response.status, response.closes) == (503, True)
    simulation.complete(gate, "late")
    assert peer.lost
    assert read_response(bytes(peer.received)) == response


def test_eof_after_a_request_is_answered_and_then_the_end() -> None:
    gate = Foreign()
    simulation = Simulation(async_app(gate))
    peer = simulation.connect()
    peer.send_raw(get("/slow"))
    peer.send_eof()
    assert not peer.lost
    simulation.complete(gate, "done")
    response = read_response(bytes(peer.received))
    assert (response.body, response.closes) == (b"done", True)
    assert peer.lost


# -- ends and bounds ----------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"GET /heal", get("/healthz")])
def test_eof_between_or_within_heads_ends_the_connection(data: bytes) -> None:
    simulation = Simulation(http_app())
    peer = simulation.connect()
    peer.send_raw(data)
    peer.send_eof()
    assert peer.lost
    assert not peer.aborted


def test_after_a_refusal_our_side_is_shut_and_the_rest_is_thrown_away() -> None:
    simulation = Simulation(http_app())
    peer = simulation.connect()
    peer.polite = False
    peer.send_raw(b"nonsense\r\n\r\n")
    assert simulation.said(ShutdownWrite, peer)
    peer.send_raw(b"more nonsense")
    assert simulation.hub.stats().dropped_bytes_received == len(b"more nonsense")
    peer.send_eof()
    assert peer.lost


def test_a_peer_that_asks_and_never_reads_gets_a_bounded_outbox() -> None:
    app = App(limits=Limits(outbox_mark_bytes=50_000))
    page = "x" * 10_000
    app.http("/page")(lambda request: page)
    simulation = Simulation(app)
    peer = simulation.connect()
    peer.stall()
    for _ in range(50):
        peer.send_raw(get("/page") * 20)
    assert simulation.said(PauseReading, peer)
    assert simulation.hub.stats().requests < 20
    peer.read()
    assert len(read_responses(bytes(peer.received))) == 1000
    assert simulation.said(ResumeReading, peer)


def test_the_503_of_a_full_server_is_a_whole_response() -> None:
    simulation = Simulation(http_app(Limits(connections_max=1)))
    simulation.connect()
    with pytest.raises(IdsExhaustedError) as raised:
        simulation.connect()
    response = read_response(raised.value.response)
    assert (response.status, response.closes) == (503, True)
    assert int(response.headers["retry-after"]) > 0


def test_a_page_bigger_than_the_mark_is_sent_whole() -> None:
    app = App(limits=Limits(outbox_mark_bytes=100))
    app.http("/")(lambda request: Response(200, b"x" * 1_000_000))
    app.module("/ws").on_open(lambda session: session.send("open"))
    simulation = Simulation(app)
    peer = simulation.connect()
    peer.send_raw(get("/") * 3)
    assert [len(each.body) for each in read_responses(bytes(peer.received))] == [1_000_000] * 3


def test_a_session_never_sees_plain_requests() -> None:
    app = http_app()
    opened: list[Session] = []
    app.module("/other").on_open(opened.append)
    simulation = Simulation(app)
    simulation.connect().send_raw(get("/healthz"))
    assert simulation.hub.sessions() == []
    assert simulation.hub.session(1) is None
    assert opened == []
