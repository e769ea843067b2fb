"""Behind proxies: PROXY headers and forwarded headers through the hub, and who may send them."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver import Peer, Simulation
from http_responses import read_response, read_responses
from raw import get, pieces, text, upgrade
from wireroom.core import (
    App,
    ConfigurationError,
    Disconnect,
    Hub,
    Limits,
    Request,
    RequestAnswered,
    Session,
    SessionOpened,
    WebSocket,
)
from wireroom.core.wire.request import Address

CUTS = pytest.mark.parametrize("cut", [None, 1])

PROXY = "10.0.0.1"  # where `Simulation.connect` connects from
V1 = b"PROXY TCP4 192.0.2.7 10.0.0.80 56324 443\r\n"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(*, tls: bool | None = None, command: int = 0x21, family: int = 0x11) -> bytes:
    """A PROXY header of version 2 for the same addresses as `V1`."""
    block = bytes([192, 0, 2, 7, 10, 0, 0, 80]) + struct.pack("!HH", 56324, 443)
    if tls is not None:
        block += b"\x20\x00\x05" + bytes([tls, 0, 0, 0, 0])
    return SIGNATURE + struct.pack("!BBH", command, family, len(block)) + block


def proxied_app(
    trusted: tuple[str, ...] = (PROXY,), *, proxy_protocol: bool = False, **settings: Any
) -> App:
    """`/` answers who asks; `/ws` sends it first, and then what it is sent."""
    app = App(trusted_proxies=trusted, proxy_protocol=proxy_protocol, **settings)

    @app.http("/")
    def who(request: Request) -> str:
        return f"{request.client} {request.secure}"

    module = app.module("/ws")

    @module.on_open
    def opened(session: Session) -> None:
        assert session.handshake.client == session.address
        assert session.handshake.secure == session.secure
        session.send(f"{session.address} {session.secure}")

    @module.on_message
    def said(session: Session, message: str) -> None:
        session.send(message)

    return app


def connect(simulation: Simulation, address: Address, *, secure: bool = False) -> Peer:
    """A peer with any address, that of a Unix socket for one."""
    fd = simulation.hub.connect(address, now=simulation.now, secure=secure)
    peer = simulation.peers[fd] = Peer(simulation, fd)
    return peer


def who_asks(simulation: Simulation, data: bytes, address: Address = (PROXY, 4000)) -> str:
    """Who the application takes the sender of a plain request for."""
    peer = connect(simulation, address)
    peer.send_raw(data)
    response = read_response(bytes(peer.received))
    assert response.status == 200
    return response.body.decode()


def refused(peer: Peer) -> int:
    """The status that ended the connection, before any handler saw it."""
    response = read_response(bytes(peer.received))
    assert response.closes
    assert (peer.lost, peer.aborted) == (True, False)
    assert not peer.simulation.failures
    assert not peer.simulation.said(SessionOpened)
    assert peer.simulation.said(RequestAnswered) == [
        RequestAnswered(peer.fd, "", "", response.status)
    ]
    return response.status


# -- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"trusted_proxies": "10.0.0.1"}, "trusted_proxies"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, "trusted_proxies"),
        ({"trusted_proxies": ["proxy.example"]}, "trusted_proxies"),
        ({"proxy_protocol": True}, "trusted_proxies"),
        ({"proxy_protocol": True, "trusted_proxies": []}, "trusted_proxies"),
        ({"proxy_protocol": "v2", "trusted_proxies": ["10.0.0.1"]}, "proxy_protocol"),
        ({"proxy_protocol": 1, "trusted_proxies": ["10.0.0.1"]}, "proxy_protocol"),
    ],
)
def test_a_setting_that_cannot_work_is_named(settings: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name) as raised:
        App(**settings)
    assert raised.value.setting == name


def test_nobody_is_trusted_at_first() -> None:
    app = App()
    assert not app.trusted_proxies
    assert not app.proxy_protocol
    simulation = Simulation(proxied_app(()))
    data = get("/", "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")
    assert who_asks(simulation, data) == "('10.0.0.1', 4000) False"
    assert who_asks(simulation, data, "") == " False"


# -- the PROXY protocol -------------------------------------------------------------------------


@CUTS
@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (V1, "('192.0.2.7', 56324) False"),
        (v2(), "('192.0.2.7', 56324) False"),
        (v2(tls=False), "('192.0.2.7', 56324) False"),
        (v2(tls=True), "('192.0.2.7', 56324) True"),
        (v2(tls=True, command=0x20), "('10.0.0.1', 4000) False"),
        (v2(tls=True, family=0), "('10.0.0.1', 4000) False"),
        (b"PROXY UNKNOWN\r\n", "('10.0.0.1', 4000) False"),
    ],
)
def test_a_proxy_says_who_connects(header: bytes, expected: str, cut: int | None) -> None:
    simulation = Simulation(proxied_app(proxy_protocol=True), cut=cut)
    assert who_asks(simulation, header + get("/")) == expected
    peer = simulation.connect()
    peer.send_raw(header)
    peer.open("/ws", then=text("hello"))
    assert peer.messages == [expected, "hello"]
    session = simulation.session(peer)
    assert f"{session.address} {session.secure}" == expected
    assert session.arrival is None  # an open session keeps nothing of it
    assert simulation.hub.stats().proxies_refused == 0


@pytest.mark.parametrize(("tls", "expected"), [(None, True), (True, True), (False, False)])
def test_a_header_says_more_of_tls_than_the_proxys_own_connection(
    tls: bool | None, expected: bool
) -> None:
    simulation = Simulation(proxied_app(proxy_protocol=True))
    peer = simulation.connect(secure=True)
    peer.send_raw(v2(tls=tls) + upgrade("/ws"))
    assert simulation.session(peer).secure is expected


def test_a_function_sees_the_client_too() -> None:
    app = proxied_app(proxy_protocol=True)

    @app.websocket("/function")
    async def handler(ws: WebSocket) -> None:
        ws.accept()
        await ws.send(f"{ws.client.host} {ws.client.port} {ws.url.scheme}")

    peer = Simulation(app).connect()
    peer.send_raw(v2(tls=True))
    peer.open("/function")
    assert peer.messages == ["192.0.2.7 56324 wss"]


def test_a_proxy_on_a_unix_socket_is_trusted_by_name() -> None:
    simulation = Simulation(proxied_app(("unix",), proxy_protocol=True))
    assert who_asks(simulation, V1 + get("/"), "") == "('192.0.2.7', 56324) False"
    peer = simulation.connect()
    peer.send_raw(V1 + get("/"))
    assert read_response(bytes(peer.received)).status == 400


def test_a_client_of_the_proxys_unix_socket_has_its_path() -> None:
    block = b"/run/client.sock".ljust(216, b"\0")
    header = SIGNATURE + struct.pack("!BBH", 0x21, 0x31, 216) + block
    simulation = Simulation(proxied_app((PROXY, "unix"), proxy_protocol=True))
    data = header + get("/", "X-Forwarded-For: 192.0.2.7")
    assert who_asks(simulation, data) == "/run/client.sock False"


@CUTS
@pytest.mark.parametrize("address", [("192.0.2.66", 1), ("::1", 1), ("10.0.0.2", 1), "", None])
@pytest.mark.parametrize("data", [V1 + get("/"), v2(tls=True) + get("/"), get("/"), b"\x16\x03"])
def test_a_connection_from_elsewhere_is_refused(
    data: bytes, address: Address, cut: int | None
) -> None:
    simulation = Simulation(proxied_app(proxy_protocol=True), cut=cut)
    peer = connect(simulation, address)
    peer.send_raw(data)
    assert refused(peer) == 400
    stats = simulation.hub.stats()
    assert (stats.proxies_refused, stats.requests_refused, stats.requests) == (1, 1, 0)
    assert stats.connections == 0


@CUTS
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get("/"), 400),
        (upgrade("/ws"), 400),
        (b"PROXY TCP4 192.0.2.7 10.0.0.80 56324 65536\r\n" + get("/"), 400),
        (b"PROXY TCP4 192.0.2.7 10.0.0.80 1 2\n" + get("/") * 3, 400),
        (v2(command=0x22) + get("/"), 400),
        (SIGNATURE + b"\x21\x11\xff\xff", 431),
        # only the proxy's own is read: what a client sends before its request is no head
        (V1 + b"PROXY TCP4 127.0.0.1 10.0.0.80 1 2\r\n" + get("/"), 400),
        (V1 + v2() + get("/"), 400),
        (v2() + V1 + get("/"), 400),
    ],
)
def test_a_proxy_has_to_send_one_header(data: bytes, status: int, cut: int | None) -> None:
    simulation = Simulation(proxied_app(proxy_protocol=True), cut=cut)
    peer = simulation.connect()
    peer.send_raw(data)
    assert refused(peer) == status


def test_a_refused_header_hurts_nobody_else() -> None:
    simulation = Simulation(proxied_app(proxy_protocol=True))
    good = simulation.connect()
    good.send_raw(V1)
    good.open("/ws")
    for count in (1, 2):
        simulation.connect().send_raw(b"\x16\x03\x01")
        assert simulation.hub.stats().proxies_refused == count
    good.send("still here")
    assert good.messages[1:] == ["still here"]


@CUTS
@pytest.mark.parametrize("header", [V1, v2()])
def test_a_header_that_is_not_asked_for_is_no_head(header: bytes, cut: int | None) -> None:
    simulation = Simulation(proxied_app(), cut=cut)
    peer = simulation.connect()
    peer.send_raw(header + get("/"))
    assert refused(peer) == 400
    assert simulation.hub.stats().proxies_refused == 0


@pytest.mark.parametrize("header", [V1, v2()])
def test_a_header_has_the_time_of_a_head(header: bytes) -> None:
    limits = Limits(head_timeout_s=10, close_timeout_s=1)
    simulation = Simulation(proxied_app(proxy_protocol=True, limits=limits))
    silent, slow, between, late = (simulation.connect() for _ in range(4))
    slow.send_raw(header[:-1])
    between.send_raw(header)
    late.send_raw(header + b"GET / HT")
    simulation.advance(9)
    late.send_raw(b"TP/1.1\r\n")
    assert not simulation.said(Disconnect)
    simulation.advance(1)
    assert simulation.hub.stats().head_timeouts == 4
    assert all(peer.lost for peer in (silent, slow, between, late))
    assert not slow.received
    assert read_response(bytes(late.received)).status == 408


@pytest.mark.parametrize("data", [b"", V1[:-1], V1, v2()[:13], v2()])
def test_a_connection_may_end_within_or_after_its_header(data: bytes) -> None:
    simulation = Simulation(proxied_app(proxy_protocol=True))
    peer = simulation.connect()
    peer.send_raw(data)
    peer.send_eof()
    assert (peer.lost, bytes(peer.received)) == (True, b"")
    assert simulation.hub.stats().connections == 0


def test_a_header_does_not_count_as_part_of_the_head() -> None:
    head = get("/")
    limits = Limits(head_bytes_max=len(head))
    simulation = Simulation(proxied_app(proxy_protocol=True, limits=limits))
    assert who_asks(simulation, v2() + head) == "('192.0.2.7', 56324) False"
    peer = simulation.connect()
    peer.send_raw(v2() + get("/", "X: y"))
    assert read_response(bytes(peer.received)).status == 431


# -- forwarded headers --------------------------------------------------------------------------


@CUTS
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "('10.0.0.1', 4000) False"),
        (["X-Forwarded-For: 192.0.2.7"], "('192.0.2.7', 0) False"),
        (["X-Forwarded-For: [2001:db8::7]:5678"], "('2001:db8::7', 5678) False"),
        (["X-Forwarded-Proto: https"], "('10.0.0.1', 4000) True"),
        (
            ["X-Forwarded-For: 192.0.2.7:1", "X-Forwarded-Proto: wss"],
            "('192.0.2.7', 1) True",
        ),
        # a client's own
        (["X-Forwarded-For: 127.0.0.1, 192.0.2.7"], "('192.0.2.7', 0) False"),
        (["X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: 192.0.2.7"], "('192.0.2.7', 0) False"),
        (["X-Forwarded-For: 127.0.0.1, x"], "('10.0.0.1', 4000) False"),
        (["X-Forwarded-Proto: https, http"], "('10.0.0.1', 4000) False"),
        (["X-Forwarded-Proto: gopher"], "('10.0.0.1', 4000) False"),
        # other headers are not read
        (["Forwarded: for=192.0.2.7;proto=https"], "('10.0.0.1', 4000) False"),
        (["X-Real-IP: 192.0.2.7"], "('10.0.0.1', 4000) False"),
    ],
)
def test_a_trusted_proxy_says_who_asks(lines: list[str], expected: str, cut: int | None) -> None:
    simulation = Simulation(proxied_app(), cut=cut)
    assert who_asks(simulation, get("/", *lines)) == expected
    peer = simulation.connect()
    headers = [line.encode().split(b": ") for line in lines]
    peer.open("/ws", headers=tuple((name, value) for name, value in headers))
    assert peer.messages == [expected]


@pytest.mark.parametrize("address", [("192.0.2.66", 1), ("10.0.0.2", 1), "/run/x.sock", "", None])
def test_nobody_else_is_believed(address: Address) -> None:
    simulation = Simulation(proxied_app())
    lines = ["X-Forwarded-For: 10.0.0.1", "X-Forwarded-Proto: https"]
    assert who_asks(simulation, get("/", *lines), address) == f"{address} False"


def test_a_proxy_that_used_tls_to_us_may_say_that_its_client_did_not() -> None:
    simulation = Simulation(proxied_app())
    for line, expected in (
        ("X-Forwarded-Proto: http", False),
        ("X-Forwarded-Proto: https", True),
        ("X: y", True),
    ):
        peer = simulation.connect(secure=True)
        peer.send_raw(upgrade("/ws", line))
        assert simulation.session(peer).secure is expected


@CUTS
def test_each_request_of_a_connection_is_for_itself(cut: int | None) -> None:
    simulation = Simulation(proxied_app(), cut=cut)
    peer = simulation.connect()
    peer.send_raw(
        get("/", "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")
        + get("/", "X-Forwarded-For: 192.0.2.8:9")
        + get("/")
        + get("/", "X-Forwarded-For: 192.0.2.7, 10.0.0.1")
    )
    assert [each.body.decode() for each in read_responses(bytes(peer.received))] == [
        "('192.0.2.7', 0) True",
        "('192.0.2.8', 9) False",
        "('10.0.0.1', 4000) False",
        "('192.0.2.7', 0) False",
    ]


@pytest.mark.parametrize("header", [V1, v2(), v2(command=0x20), v2(family=0), b"PROXY UNKNOWN\r\n"])
def test_a_proxy_that_relays_bytes_does_not_vouch_for_headers(header: bytes) -> None:
    """The headers are its client's, also where it does not say who that is."""
    simulation = Simulation(proxied_app(proxy_protocol=True))
    honest = who_asks(simulation, header + get("/"))
    lines = ["X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: https"]
    assert who_asks(simulation, header + get("/", *lines)) == honest


def test_a_proxy_behind_one_that_relays_bytes_is_believed() -> None:
    simulation = Simulation(proxied_app((PROXY, "192.0.2.0/24"), proxy_protocol=True))
    lines = ["X-Forwarded-For: 127.0.0.1, 198.51.100.1", "X-Forwarded-Proto: https"]
    assert who_asks(simulation, V1 + get("/", *lines)) == "('198.51.100.1', 0) True"


def test_one_app_may_be_run_by_several_hubs() -> None:
    app = proxied_app(proxy_protocol=True)
    Hub(app)
    for _ in range(2):
        assert who_asks(Simulation(app), V1 + get("/")) == "('192.0.2.7', 56324) False"


# -- however it is cut --------------------------------------------------------------------------

HEADERS = st.sampled_from(
    [
        V1,
        v2(),
        v2(tls=True),
        v2(command=0x20),
        v2(command=0x23),
        b"PROXY UNKNOWN x\r\n",
        b"PROXY TCP4 a b 1 2\r\n",
        b"",
    ]
)
REQUESTS = st.sampled_from(
    [
        get("/"),
        get("/", "X-Forwarded-For: 198.51.100.1"),
        upgrade("/ws", "X-Forwarded-For: 198.51.100.1, 192.0.2.7") + text("a") + text("b"),
        V1,
        b"\r\n",
        b"\x00",
    ]
)


def _what_comes(
    data: bytes, cuts: list[int], address: Address, *, proxy_protocol: bool
) -> tuple[bytes, list[RequestAnswered]]:
    app = proxied_app((PROXY, "192.0.2.7"), proxy_protocol=proxy_protocol)
    simulation = Simulation(app)
    peer = connect(simulation, address)
    start = 0
    for end in [*sorted(cuts), len(data)]:
        peer.send_raw(data[start:end])
        start = end
    received = bytes(peer.received)
    if b"malformed head: " in received:  # h11 has several words for one mistake
        received, _, _ = received.rpartition(b"HTTP/1.1 400")
    return received, simulation.said(RequestAnswered)


@given(
    HEADERS,
    st.lists(REQUESTS, max_size=3),
    st.lists(st.integers(0, 200), max_size=5),
    st.sampled_from([(PROXY, 4000), ("192.0.2.66", 1)]),
    st.booleans(),
)
def test_bytes_give_the_same_however_they_are_cut(
    header: bytes, requests: list[bytes], cuts: list[int], address: Address, proxy_protocol: bool
) -> None:
    data = header + b"".join(requests)
    cuts = [min(cut, len(data)) for cut in cuts]
    whole = _what_comes(data, [], address, proxy_protocol=proxy_protocol)
    for each in (cuts, list(range(len(data)))):
        assert _what_comes(data, each, address, proxy_protocol=proxy_protocol) == whole


@given(st.binary(max_size=200), st.sampled_from([b"", V1[:6], SIGNATURE, SIGNATURE + b"\x21\x11"]))
def test_no_bytes_raise_out_of_the_hub(tail: bytes, start: bytes) -> None:
    simulation = Simulation(proxied_app(proxy_protocol=True))
    peer = simulation.connect()
    for piece in pieces(start + tail, 7):
        peer.send_raw(piece)
    simulation.advance(60)
    assert peer.lost
    assert not simulation.failures
