"""Heads that are rebuilt: what goes in is what is read again, or an error."""

from __future__ import annotations

from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heads import NONCE
from raw import text
from wireroom.core import App, Hub, LocalProtocolError, Session, request_head
from wireroom.core.limits import Limits
from wireroom.core.wire.http_head import RequestReader

TOKEN = st.text(ascii_letters + digits + "!#$%&'*+-.^_`|~", min_size=1, max_size=20)
VISIBLE = st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f").filter(
    lambda character: not 0x80 <= ord(character) <= 0xA0
)
VALUE = st.lists(st.text(VISIBLE, min_size=1, max_size=10), max_size=4).map(" \t".join)
TARGET = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#%"), max_size=30
).map("/".__add__)
# Those that h11 gives a meaning to are in the other tests.
FREE = TOKEN.filter(
    lambda name: name.lower() not in {"host", "content-length", "transfer-encoding", "expect"}
)


@given(
    method=TOKEN,
    target=TARGET,
    headers=st.lists(st.tuples(FREE, VALUE), max_size=8),
    http_version=st.sampled_from(("1.0", "1.1")),
    rest=st.binary(max_size=20),
)
def test_what_is_rebuilt_is_read_again(
    method: str, target: str, headers: list[tuple[str, str]], http_version: str, rest: bytes
) -> None:
    headers = [("Host", "server.example"), *headers]
    data = request_head(method, target, headers, http_version)
    reader = RequestReader(Limits())
    request = reader.receive_data(data + rest, client=None, secure=False)
    assert request is not None
    assert (request.method, request.target) == (method, target)
    assert request.http_version == http_version
    assert request.headers.multi_items() == [(name.lower(), value) for name, value in headers]
    assert reader.trailing_data == rest


@given(
    method=st.text(max_size=8),
    target=st.text(max_size=8),
    name=st.text(max_size=8),
    value=st.text(max_size=8),
)
def test_nothing_gets_in_that_was_not_given(
    method: str, target: str, name: str, value: str
) -> None:
    try:
        data = request_head(method, target, [(name, value)])
    except LocalProtocolError:
        return
    assert data.count(b"\r") == data.count(b"\n") == 3
    assert data.endswith(b"\r\n\r\n")
    first, second = data[:-4].decode("latin-1").split("\r\n")
    assert first.split(" ") == [method, target, "HTTP/1.1"]
    assert second.partition(":")[::2] == (name, " " + value.strip(" \t"))


@pytest.mark.parametrize(
    ("method", "target", "headers", "http_version"),
    [
        ("", "/", [], "1.1"),
        ("GET /x HTTP/1.1\r\nA:", "/", [], "1.1"),
        ("GET", "", [], "1.1"),
        ("GET", "/a b", [], "1.1"),
        ("GET", "/ HTTP/1.1\r\nHost: evil", [], "1.1"),
        ("GET", "/größe", [], "1.1"),
        ("GET", "/\n", [], "1.1"),
        ("GET", "/", [("", "x")], "1.1"),
        ("GET", "/", [("A: b\r\nC", "x")], "1.1"),
        ("GET", "/", [("A ", "x")], "1.1"),
        ("GET", "/", [("A", "x\r\nB: y")], "1.1"),
        ("GET", "/", [("A", "folded\r\n once")], "1.1"),
        ("GET", "/", [("A", "x\n")], "1.1"),
        ("GET", "/", [("A", "x\r")], "1.1"),
        ("GET", "/", [("A", "x\0")], "1.1"),
        ("GET", "/", [("A", "€")], "1.1"),
        ("GET", "/", {"A": "\udce9"}, "1.1"),
        ("GET", "/", [], "2"),
        ("GET", "/", [], "HTTP/1.1"),
        ("GET", "/", [], "1.1\r\nA: b"),
    ],
)
def test_what_would_be_read_as_something_else_is_refused(
    method: str, target: str, headers: list[tuple[str, str]], http_version: str
) -> None:
    with pytest.raises(LocalProtocolError):
        request_head(method, target, headers, http_version)


def test_repeated_headers_stay_apart_and_mappings_will_do() -> None:
    assert request_head("GET", "/a?b", [("Host", "h"), ("A", " 1\t"), ("B", ""), ("a", "2")]) == (
        b"GET /a?b HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: \r\na: 2\r\n\r\n"
    )
    assert request_head("GET", "/", {"Host": "h"}, "1.0") == b"GET / HTTP/1.0\r\nHost: h\r\n\r\n"


def test_a_hub_serves_it_and_what_follows() -> None:
    app = App()

    @app.module("/echo").on_message
    def echo(session: Session, message: str | bytes) -> str | bytes:
        return message

    hub = Hub(app)
    fd = hub.connect(None, now=0.0)
    head = request_head(
        "GET",
        "/echo",
        {
            "Host": "server.example",
            "Upgrade": "websocket",
            "Connection": "keep-alive, Upgrade",
            "Sec-WebSocket-Key": NONCE,
            "Sec-WebSocket-Version": "13",
        },
    )
    hub.receive_data(fd, head + text("hello"), now=0.0)
    sent = b"".join(hub.data_to_send(fd))
    assert sent.startswith(b"HTTP/1.1 101 ")
    assert sent.endswith(b"\r\n\r\n\x81\x05hello")
