"""The client's side of a connection, against a server written by hand.

Against a server that is somebody else's: tests/conformance/test_wsproto_peers.py.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from frames import BINARY, CLOSE, PING, PONG, RSV1, TEXT, close_frame, deflated, fragments, frame
from framings import CUTS, ENGINES, Cut, keys
from heads import accept_of, head, upgrade_response
from wireroom.core.errors import ConfigurationError, LocalProtocolError
from wireroom.core.limits import Limits
from wireroom.core.wire.client import ClientConnection, ClientEvent, Opened, Refused
from wireroom.core.wire.deflate import Deflate
from wireroom.core.wire.engines import EngineName
from wireroom.core.wire.framing import CloseReceived, PingReceived, PongReceived, Violation
from wireroom.core.wire.states import State

KEY = base64.b64encode(keys(16)).decode()
WELCOME = upgrade_response(KEY)


@pytest.fixture(params=CUTS, ids=lambda cut: cut.__name__)
def cut(request: pytest.FixtureRequest) -> Cut:
    chosen: Cut = request.param
    return chosen


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> EngineName:
    chosen: EngineName = request.param
    return chosen


def client(
    url: str = "ws://a.example/chat",
    *,
    engine: EngineName = "wireroom",
    deflate: Deflate | None = None,
    limits: Limits | None = None,
) -> ClientConnection:
    return ClientConnection(url, random_bytes=keys, framing=engine, deflate=deflate, limits=limits)


def opened(
    engine: EngineName = "wireroom",
    *,
    deflate: Deflate | None = None,
    limits: Limits | None = None,
) -> ClientConnection:
    made = client(engine=engine, deflate=deflate, limits=limits)
    made.data_to_send()
    extensions = "permessage-deflate; server_no_context_takeover" if deflate else None
    answer = upgrade_response(KEY, {"Sec-WebSocket-Extensions": extensions})
    assert isinstance(made.receive_data(answer)[0], Opened)
    return made


def receive(connection: ClientConnection, reads: list[bytes]) -> list[ClientEvent]:
    return [event for data in reads for event in connection.receive_data(data)]


def server_frame(opcode: int, payload: bytes = b"", *, rsv: int = 0) -> bytes:
    return frame(opcode, payload, rsv=rsv, key=None)


def client_frame(opcode: int, payload: bytes = b"") -> bytes:
    return frame(opcode, payload, key=keys(4))


# -- the URL and the request ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "host", "port", "secure", "line", "host_header"),
    [
        ("ws://a.example", "a.example", 80, False, "GET / ", "a.example"),
        ("WS://A.example/", "a.example", 80, False, "GET / ", "a.example"),
        ("wss://a.example/b?c=d", "a.example", 443, True, "GET /b?c=d ", "a.example"),
        ("ws://a:80/", "a", 80, False, "GET / ", "a"),
        ("ws://a:443/", "a", 443, False, "GET / ", "a:443"),
        ("wss://a:80/", "a", 80, True, "GET / ", "a:80"),
        ("ws://[::1]:8301/%20", "::1", 8301, False, "GET /%20 ", "[::1]:8301"),
        ("ws://[::1]?x", "::1", 80, False, "GET /?x ", "[::1]"),
    ],
)
def test_urls(url: str, host: str, port: int, secure: bool, line: str, host_header: str) -> None:
    made = client(url)
    assert (made.host, made.port, made.secure) == (host, port, secure)
    request = made.data_to_send().decode()
    assert request.startswith(line)
    assert f"\r\nHost: {host_header}\r\n" in request


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a",
        "http://a/",
        "ws:/a",
        "ws:///a",
        "ws://:80/",
        "ws://a/#b",
        "ws://a/#",
        "ws://u@a/",
        "ws://u:p@a/",
        "ws://a:x/",
        "ws://a:0/",
        "ws://a:99999/",
        "ws://[::1/",
        "ws://a b/",
        "ws://a/b c",
        "ws://a/ü",
        "ws://ü/",
        "ws://a/\n",
        "ws://a\x00/",
    ],
)
def test_what_is_no_websocket_url(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        client(url)
    assert caught.value.setting == "url"


def test_the_request_asks_for_what_was_asked() -> None:
    made = ClientConnection(
        "ws://a",
        random_bytes=keys,
        subprotocols=["x", "y"],
        origin="http://b",
        headers={"Cookie": "c=d"},
        deflate=Deflate(),
    )
    request = made.data_to_send()
    assert made.data_to_send() == b""
    assert request.endswith(b"\r\n\r\n")
    for line in (
        f"Sec-WebSocket-Key: {KEY}",
        "Origin: http://b",
        "Sec-WebSocket-Protocol: x, y",
        "Cookie: c=d",
    ):
        assert f"\r\n{line}\r\n".encode() in request
    assert b"\r\nSec-WebSocket-Extensions: permessage-deflate; " in request


@pytest.mark.parametrize(
    "headers", [{"Host": "b"}, {"X": " a"}, {"X": "a\r\nb"}, {"upgrade": "x"}, {"a b": "c"}]
)
def test_headers_that_cannot_be_asked_with(headers: dict[str, str]) -> None:
    with pytest.raises(LocalProtocolError):
        ClientConnection("ws://a", random_bytes=keys, headers=headers)


# -- the answer ----------------------------------------------------------------------------------


def test_the_answer_opens_the_connection(cut: Cut) -> None:
    made = client()
    answer = upgrade_response(KEY, {"X": "y"})
    (event,) = receive(made, cut(answer))
    assert isinstance(event, Opened)
    assert event.subprotocol is None
    assert event.headers["x"] == "y"
    assert made.state is State.OPEN


def test_messages_in_the_same_read_as_the_answer_are_received(engine: EngineName, cut: Cut) -> None:
    data = WELCOME + server_frame(TEXT, b"a") + server_frame(BINARY, b"b")
    events = receive(client(engine=engine), cut(data))
    assert events[1:] == ["a", b"b"]


def test_the_subprotocol_is_told() -> None:
    made = ClientConnection("ws://a", random_bytes=keys, subprotocols=["x", "y"])
    (event,) = made.receive_data(upgrade_response(KEY, {"Sec-WebSocket-Protocol": "y"}))
    assert isinstance(event, Opened)
    assert event.subprotocol == "y"


def test_a_refusal_is_told_and_ends_it(cut: Cut) -> None:
    made = client()
    data = head("HTTP/1.1 403 No", {"Content-Length": "3", "X": "y"}) + b"no!"
    (event,) = receive(made, cut(data))
    assert isinstance(event, Refused)
    assert (event.status, event.headers["x"], event.body) == (403, "y", b"no!")
    assert made.state is State.ENDING
    assert made.receive_data(b"more") == []


def test_a_refusal_may_end_with_the_connection() -> None:
    made = client()
    assert made.receive_data(head("HTTP/1.1 500 Oh", {}) + b"dear") == []
    (event,) = made.receive_eof()
    assert isinstance(event, Refused)
    assert event.body == b"dear"


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        upgrade_response(KEY, {"Sec-WebSocket-Accept": accept_of("x")}),
        upgrade_response(KEY, {"Upgrade": "h2c"}),
        upgrade_response(KEY, {"Sec-WebSocket-Extensions": "permessage-deflate"}),
        upgrade_response(KEY, {"X": "a" * 20_000}),
    ],
)
def test_a_wrong_answer_is_a_violation_and_nothing_is_sent(data: bytes, cut: Cut) -> None:
    made = client()
    made.data_to_send()
    (event,) = receive(made, cut(data))
    assert isinstance(event, Violation)
    assert event.code == 1002
    assert made.state is State.ENDING
    assert made.data_to_send() == b""
    with pytest.raises(LocalProtocolError):
        made.send("a")


def test_an_end_before_the_answer_is_a_violation() -> None:
    made = client()
    (event,) = made.receive_eof()
    assert isinstance(event, Violation)
    assert made.state is State.ENDING


def test_no_bytes_are_not_the_end_of_the_stream() -> None:
    made = client()
    assert made.receive_data(b"") == []
    assert len(made.receive_data(WELCOME)) == 1
    assert made.receive_data(b"") == []
    assert made.state is State.OPEN


def test_nothing_is_sent_before_the_answer() -> None:
    made = client()
    calls: list[Callable[[], None]] = [lambda: made.send("a"), made.ping, made.close]
    for call in calls:
        with pytest.raises(LocalProtocolError, match="not open"):
            call()


# -- messages ------------------------------------------------------------------------------------


def test_messages_are_sent_masked(engine: EngineName) -> None:
    made = opened(engine)
    made.send("ü")
    made.send(b"\xff")
    made.ping(b"p")
    expected = client_frame(TEXT, "ü".encode()) + client_frame(BINARY, b"\xff")
    assert made.data_to_send() == expected + client_frame(PING, b"p")
    assert made.data_to_send() == b""


def test_messages_are_received(engine: EngineName, cut: Cut) -> None:
    data = b"".join(fragments(TEXT, b"a", b"b", key=None)) + server_frame(PONG, b"q")
    assert receive(opened(engine), cut(data)) == ["ab", PongReceived(b"q")]


def test_messages_are_compressed_where_agreed(engine: EngineName, cut: Cut) -> None:
    made = opened(engine, deflate=Deflate(threshold_bytes=5))
    made.send("short"[:4])
    made.send("longer")
    data = made.data_to_send()
    assert data.startswith(client_frame(TEXT, b"shor"))
    assert data[len(client_frame(TEXT, b"shor"))] == 0xC1
    data = server_frame(TEXT, deflated(b"longer"), rsv=RSV1) * 2
    assert receive(made, cut(data)) == ["longer", "longer"]


def test_a_ping_is_answered(engine: EngineName, cut: Cut) -> None:
    made = opened(engine)
    events = receive(made, cut(server_frame(PING, b"1") + server_frame(PING, b"2")))
    assert events == [PingReceived(b"1"), PingReceived(b"2")]
    assert made.data_to_send() == client_frame(PONG, b"1") + client_frame(PONG, b"2")


def test_a_ping_is_no_longer_than_a_control_frame() -> None:
    made = opened()
    made.ping(bytes(125))
    with pytest.raises(LocalProtocolError, match="125"):
        made.ping(bytes(126))
    assert made.data_to_send() == client_frame(PING, bytes(125))


# -- the end -------------------------------------------------------------------------------------


def test_we_close(engine: EngineName, cut: Cut) -> None:
    made = opened(engine)
    made.close(1001, "bye")
    assert made.data_to_send() == client_frame(CLOSE, b"\x03\xe9bye")
    assert made.state is State.CLOSING
    data = server_frame(TEXT, b"late") + server_frame(PING, b"p") + close_frame(1001, key=None)
    events = receive(made, cut(data))
    assert events == ["late", PingReceived(b"p"), CloseReceived(1001, "")]
    assert made.data_to_send() == client_frame(PONG, b"p")  # section 5.5.2: no Close had come
    assert made.state.name == "ENDING"


def test_they_close_and_get_the_same_code(engine: EngineName, cut: Cut) -> None:
    for payload, code in ((b"", 1005), (b"\x0f\xa0why", 4000), (b"\x03\xf3", 1011)):
        made = opened(engine)
        (event,) = receive(made, cut(server_frame(CLOSE, payload)))
        assert isinstance(event, CloseReceived)
        assert event.code == code
        assert made.data_to_send() == client_frame(CLOSE, payload[:2])
        assert made.state is State.ENDING


def test_nothing_is_sent_after_a_close() -> None:
    made = opened()
    made.close()
    calls: list[Callable[[], None]] = [lambda: made.send("a"), made.ping, made.close]
    for call in calls:
        with pytest.raises(LocalProtocolError, match="CLOSING"):
            call()


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000])
def test_codes_that_may_not_be_sent(code: int) -> None:
    made = opened()
    with pytest.raises(LocalProtocolError, match=str(code)):
        made.close(code)
    made.close(1010)  # which only a client may send
    assert made.data_to_send() == client_frame(CLOSE, b"\x03\xf2")


def test_a_close_may_be_empty() -> None:
    made = opened()
    made.close(None)
    assert made.data_to_send() == client_frame(CLOSE)


def test_a_close_that_cannot_be_written_has_not_begun() -> None:
    made = opened()
    with pytest.raises(UnicodeEncodeError):
        made.close(1000, "\ud800")
    assert made.state is State.OPEN


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (client_frame(TEXT, b"masked"), 1002),
        (server_frame(TEXT, b"\xff"), 1007),
        (server_frame(BINARY, bytes(200)), 1009),
        (server_frame(CLOSE, b"\x03"), 1002),
        (server_frame(3), 1002),
    ],
)
def test_a_violation_is_answered_by_its_code(
    engine: EngineName, cut: Cut, data: bytes, code: int
) -> None:
    made = opened(engine, limits=Limits(message_bytes_max=100))
    events = receive(made, cut(server_frame(TEXT, b"before") + data + server_frame(TEXT, b"no")))
    assert events[0] == "before"
    assert isinstance(events[1], Violation)
    assert (events[1].code, len(events)) == (code, 2)
    assert made.data_to_send().startswith(b"\x88")
    assert made.state is State.ENDING


def test_a_violation_after_our_close_is_not_answered(engine: EngineName) -> None:
    made = opened(engine)
    made.close()
    made.data_to_send()
    (event,) = made.receive_data(server_frame(3))
    assert isinstance(event, Violation)
    assert made.data_to_send() == b""
    assert made.state is State.ENDING


def test_the_end_of_the_stream_ends_it() -> None:
    for closing in (False, True):
        made = opened()
        if closing:
            made.close()
        assert made.receive_eof() == []
        assert made.state is State.ENDING
        assert made.receive_eof() == []


def test_what_inflates_far_is_given_in_batches() -> None:
    made = opened()
    data = b"".join(server_frame(TEXT, b"x") for _ in range(200))
    events = made.receive_data(data)
    assert len(events) == Limits().inbox_messages_max
    while made.more:
        events += made.receive_data(b"")
    assert events == ["x"] * 200


def test_pending_pongs_are_bounded_and_the_newest_stay() -> None:
    made = opened()
    made.receive_data(b"".join(server_frame(PING, bytes([number])) for number in range(40)))
    newest = range(40 - Limits().pongs_pending_max, 40)
    assert made.data_to_send() == b"".join(client_frame(PONG, bytes([n])) for n in newest)
