"""Requests as the application sees them, and the responses that it may give."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireroom.core.errors import LocalProtocolError, RemoteProtocolError
from wireroom.core.wire.request import (
    MultiDict,
    Request,
    Response,
    check_headers,
    header_list,
    phrase,
)


def request(target: str = "/", *headers: tuple[str, str]) -> Request:
    return Request(method="GET", target=target, http_version="1.1", headers=list(headers))


# -- MultiDict ------------------------------------------------------------------------------------


def test_the_first_of_several_values_is_given() -> None:
    values = MultiDict([("a", "1"), ("b", "2"), ("a", "3"), ("A", "4")])
    assert values["a"] == values.get("a") == "1"
    assert values.get_all("a") == ["1", "3"]
    assert values.get_all("A") == ["4"]
    assert (list(values), len(values)) == (["a", "b", "A"], 3)
    assert values.multi_items() == [("a", "1"), ("b", "2"), ("a", "3"), ("A", "4")]


def test_what_is_not_there() -> None:
    values = MultiDict([("a", "1")])
    assert values.get("b") is None
    assert values.get("b", "default") == "default"
    assert values.get_all("b") == []
    assert "b" not in values
    with pytest.raises(KeyError, match="b"):
        values["b"]


def test_headers_have_no_case() -> None:
    headers = request("/", ("Host", "a"), ("X-A", "1"), ("x-a", "2")).headers
    assert headers["HOST"] == headers["host"] == "a"
    assert headers.get_all("X-a") == ["1", "2"]
    assert "hOST" in headers
    assert list(headers) == ["host", "x-a"]


def test_its_items_cannot_be_changed_through_the_list() -> None:
    values = MultiDict([("a", "1")])
    values.multi_items().clear()
    assert values["a"] == "1"


# -- the target (RFC 9112 section 3.2) ------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "raw_path", "path", "query"),
    [
        ("/", "/", "/", ""),
        ("/a/b?c=d&e", "/a/b", "/a/b", "c=d&e"),
        ("/?", "/", "/", ""),
        ("/a?b?c", "/a", "/a", "b?c"),
        ("/%C3%BC%2Fx%20y", "/%C3%BC%2Fx%20y", "/ü/x y", ""),
        ("/%zz%", "/%zz%", "/%zz%", ""),
        ("//host/x", "//host/x", "//host/x", ""),
        ("http://a.example", "/", "/", ""),
        ("http://a.example/b?c", "/b", "/b", "c"),
        ("WS://a.example?b/c", "/", "/", "b/c"),
        ("wss://a:1/%62", "/%62", "/b", ""),
    ],
)
def test_targets(target: str, raw_path: str, path: str, query: str) -> None:
    made = request(target)
    assert (made.raw_path, made.path, made.query_string) == (raw_path, path, query)
    assert made.target == target


@pytest.mark.parametrize("target", ["*", "a.example:443", "a/b", "", "ftp://a/b", "/a#b", "ws:/a"])
def test_targets_that_are_no_path_are_refused(target: str) -> None:
    with pytest.raises(RemoteProtocolError, match="target") as caught:
        request(target)
    assert caught.value.status == 400


@pytest.mark.parametrize("target", ["/%ff", "/a/%c3", "/%ed%a0%80"])
def test_a_path_that_is_no_text_is_refused(target: str) -> None:
    with pytest.raises(RemoteProtocolError, match="UTF-8") as caught:
        request(target)
    assert caught.value.status == 400


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40))
def test_any_target_is_read_or_refused(target: str) -> None:
    try:
        made = request(target)
    except RemoteProtocolError:
        return
    assert made.path.startswith("/")
    assert made.query_params is not None


# -- query and cookies ----------------------------------------------------------------------------


def test_the_query_has_names_and_values() -> None:
    query = request("/?a=1&b=%C3%BC+x&a=2&empty=&alone").query_params
    assert query.multi_items() == [
        ("a", "1"),
        ("b", "ü x"),
        ("a", "2"),
        ("empty", ""),
        ("alone", ""),
    ]
    assert "A" not in query


def test_cookies() -> None:
    made = request(
        "/",
        ("Cookie", 'a=1; b="two"; c=x=y ;d=; =no; alone; a=again'),
        ("Cookie", "e=5"),
    )
    assert made.cookies == {"a": "1", "b": "two", "c": "x=y", "d": "", "e": "5"}


def test_no_cookies() -> None:
    assert request().cookies == {}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (("X", "y"), False),
        (("Content-Length", "0"), False),
        (("Content-Length", "1"), True),
        (("Transfer-Encoding", "chunked"), True),
    ],
)
def test_a_body_is_announced_by_its_headers(header: tuple[str, str], expected: bool) -> None:
    assert request("/", header).has_body is expected


# -- responses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204, 404, 599])
def test_final_statuses(status: int) -> None:
    assert Response(status).status == status


@pytest.mark.parametrize("status", [-1, 0, 100, 101, 199, 600, 1000])
def test_a_response_has_a_final_status(status: int) -> None:
    with pytest.raises(LocalProtocolError, match=str(status)):
        Response(status)


def test_a_text_body_is_utf_8() -> None:
    assert Response(body="ü").body_bytes == "ü".encode()
    assert Response(body=b"\xff").body_bytes == b"\xff"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "a"),
        ("a b", "c"),
        ("a:", "b"),
        ("ü", "a"),
        ("X", "a\r\nY: b"),
        ("X", "a\nb"),
        ("X", "\0"),
        ("X", " a"),
        ("X", "a\t"),
        ("X", "\x0b"),
        ("X", "€"),
    ],
)
def test_headers_that_cannot_be_sent(name: str, value: str) -> None:
    for headers in ({name: value}, [(name, value)], (("Fine", "1"), (name, value))):
        with pytest.raises(LocalProtocolError):
            check_headers(headers)
        with pytest.raises(LocalProtocolError):
            Response(headers=headers)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Length", "3"),
        ("content-length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("CONNECTION", "keep-alive"),
        ("Connection", "upgrade, close"),
    ],
)
def test_the_server_alone_says_where_a_response_ends(name: str, value: str) -> None:
    with pytest.raises(LocalProtocolError, match=name):
        Response(headers={name: value})


def test_an_upgrade_may_be_asked_for() -> None:
    headers = (("Upgrade", "websocket"), ("Connection", "Upgrade"))
    assert Response(426, headers=headers).headers == headers


@pytest.mark.parametrize("value", ["", "a", "a b", "ü\xff", "a\tb", '"'])
def test_headers_that_can_be_sent(value: str) -> None:
    check_headers({"X": value})


def test_headers_may_be_given_in_several_ways() -> None:
    given_as: list[Any] = [{"a": "1"}, [("a", "1")], (("a", "1"),), MultiDict([("a", "1")])]
    assert [header_list(each) for each in given_as] == [[("a", "1")]] * 4


def test_phrases() -> None:
    assert (phrase(404), phrase(101), phrase(299)) == ("Not Found", "Switching Protocols", "")


@pytest.mark.parametrize(
    "response",
    [
        {"body": "\ud800"},
        {"body": 5},
        {"body": "x", "content_type": "a\r\nb: c"},
        {"body": "x", "content_type": "\u20ac"},
    ],
)
def test_a_response_that_cannot_be_sent_is_refused_where_it_is_made(response: Any) -> None:
    with pytest.raises(LocalProtocolError):
        Response(200, **response)
