"""URLs: text with parts, whatever the text; and the one that a handshake was made for."""

from __future__ import annotations

import pickle
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireroom.core import URL, ClientAddress, Request
from wireroom.core.wire.client_address import client_address
from wireroom.core.wire.url import websocket_url

PARTS = (
    "scheme",
    "netloc",
    "hostname",
    "port",
    "username",
    "password",
    "path",
    "query",
    "fragment",
)


def parts(url: str) -> dict[str, Any]:
    """What of a URL is there."""
    found = {part: getattr(URL(url), part) for part in PARTS}
    return {part: value for part, value in found.items() if value not in ("", None)}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "wss://Chat.Example:9999/a%2Fb/c?x=1&y=2",
            {
                "scheme": "wss",
                "netloc": "Chat.Example:9999",
                "hostname": "chat.example",
                "port": 9999,
                "path": "/a%2Fb/c",
                "query": "x=1&y=2",
            },
        ),
        (
            "http://me:secret@host/p#f?g",
            {
                "scheme": "http",
                "netloc": "me:secret@host",
                "username": "me",
                "password": "secret",
                "hostname": "host",
                "path": "/p",
                "fragment": "f?g",
            },
        ),
        (
            "ws://[::1]:80/",
            {"scheme": "ws", "netloc": "[::1]:80", "hostname": "::1", "port": 80, "path": "/"},
        ),
        ("ws://[FE80::1]", {"scheme": "ws", "netloc": "[FE80::1]", "hostname": "fe80::1"}),
        ("WS://h", {"scheme": "ws", "netloc": "h", "hostname": "h"}),
        ("ws://h:", {"scheme": "ws", "netloc": "h:", "hostname": "h"}),
        ("/path?", {"path": "/path"}),
        ("", {}),
        ("a@b", {"path": "a@b"}),
        ("//me@h", {"netloc": "me@h", "username": "me", "hostname": "h"}),
    ],
)
def test_what_is_there_and_what_is_not(url: str, expected: dict[str, Any]) -> None:
    assert parts(url) == expected


@pytest.mark.parametrize(
    ("netloc", "hostname", "port"),
    [
        ("h:65535", "h", 65535),
        ("h:65536", "h", None),
        ("h:" + "9" * 5000, "h", None),
        ("h:8x", "h", None),
        ("h:٣", "h", None),
        (":80", None, 80),
    ],
)
def test_a_port_that_cannot_be_one_is_none(
    netloc: str, hostname: str | None, port: int | None
) -> None:
    url = URL(f"ws://{netloc}/")
    assert (url.hostname, url.port) == (hostname, port)


def test_what_is_missing_is_empty_or_none() -> None:
    url = URL("")
    assert [getattr(url, part) for part in PARTS] == ["", "", None, None, None, None, "", "", ""]


def test_it_is_text() -> None:
    url = URL("ws://h/p")
    assert url == "ws://h/p"
    assert url.endswith("/p")
    assert {"ws://h/p": 1}[url] == 1
    assert f"{url}?q" == "ws://h/p?q"
    assert pickle.loads(pickle.dumps(url)).path == "/p"


@given(st.text())
def test_no_text_at_all_raises(text: str) -> None:
    parts(text)
    parts("ws://" + text)


@given(
    netloc=st.from_regex(
        r"([a-z]{1,3}(:[a-z]{0,2})?@)?([A-Za-z.]{1,5}|\[[0-9a-f]{1,3}::1\])(:[1-9]?[0-9]{0,3})?",
        fullmatch=True,
    ),
    rest=st.from_regex(r"(/[a-z%:@]{0,4})?(\?[a-z/?:@=&]{0,5})?(#[a-z/?:@]{0,3})?", fullmatch=True),
)
def test_the_standard_library_sees_the_same(netloc: str, rest: str) -> None:
    url = f"wss://{netloc}{rest}"
    theirs = urlsplit(url)
    for part in PARTS:
        assert getattr(URL(url), part) == getattr(theirs, part), part


def request(target: str, *, host: str | None = "h.example:81", secure: bool = False) -> Request:
    return Request(
        method="GET",
        target=target,
        http_version="1.1",
        headers=[] if host is None else [("Host", host)],
        secure=secure,
    )


@pytest.mark.parametrize(
    ("asked", "url"),
    [
        (request("/a?b=c"), "ws://h.example:81/a?b=c"),
        (request("/caf%C3%A9", secure=True), "wss://h.example:81/caf%C3%A9"),
        (request("/a?"), "ws://h.example:81/a"),
        (request("//a//b"), "ws://h.example:81//a//b"),
        (request("http://other:82/a?b"), "ws://other:82/a?b"),
        (request("https://other", secure=True), "wss://other/"),
        (request("/a", host=None), "ws:///a"),
    ],
)
def test_a_handshakes_url(asked: Request, url: str) -> None:
    assert websocket_url(asked) == url


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        (("10.0.0.1", 4000), ("10.0.0.1", 4000)),
        (("::1", 4000), ("::1", 4000)),
        ("/run/client.sock", ("/run/client.sock", None)),
        ("", (None, None)),
        (None, (None, None)),
    ],
)
def test_a_clients_address(
    address: tuple[str, int] | str | None, parts: tuple[str | None, int | None]
) -> None:
    client = client_address(address)
    assert isinstance(client, ClientAddress)
    assert (client.host, client.port) == parts
