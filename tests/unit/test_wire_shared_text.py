"""What sessions keep of their requests: once, where many say the same, and never a secret twice."""

from __future__ import annotations

import pytest

from heads import head
from wireroom.core.limits import Limits
from wireroom.core.wire.http_head import RequestReader
from wireroom.core.wire.request import Request
from wireroom.core.wire.shared_text import header_names, header_value, shared_text


def read(headers: dict[str, str]) -> Request:
    data = head("GET /path HTTP/1.1", {"Host": "server.example", **headers})
    request = RequestReader(Limits()).receive_data(data, client=None, secure=False)
    assert request is not None
    return request


@pytest.mark.parametrize("name", ["Host", "Origin", "User-Agent", "Sec-WebSocket-Extensions"])
def test_what_many_clients_say_is_kept_once(name: str) -> None:
    one, other = (read({name: "something-long"}).headers[name] for _ in range(2))
    assert one == "something-long"
    assert one is other


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "Sec-WebSocket-Protocol", "X-Token"])
def test_what_may_be_a_secret_is_not_kept_longer_than_its_request(name: str) -> None:
    one, other = (read({name: "something-long"}).headers[name] for _ in range(2))
    assert one == other == "something-long"
    assert one is not other


def test_names_are_in_lower_case_and_kept_once_for_a_head() -> None:
    raw = (b"Host", b"X-One", b"x-one")
    assert header_names(raw) == ("host", "x-one", "x-one")
    again = tuple([bytes(bytearray(name)) for name in raw])
    assert header_names(again) is header_names(raw)


def test_what_is_long_is_not_kept() -> None:
    raw = b"x" * 10_000
    assert shared_text(raw) is not shared_text(raw)
    assert header_value("host", raw) == raw.decode()
    assert header_names((raw,)) is not header_names((raw,))


def test_bytes_beyond_ascii_are_latin_1() -> None:
    assert header_value("user-agent", b"\xfc\xff") == header_value("cookie", b"\xfc\xff") == "üÿ"
