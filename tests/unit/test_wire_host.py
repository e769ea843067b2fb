"""What stands in for the wire where a host has done it: bounds, order, and typed bytes."""

from __future__ import annotations

import pytest

from wireroom.core import CloseReceived, LocalProtocolError, Request, Response, Violation
from wireroom.core.wire.framing import FramingLimits
from wireroom.core.wire.host import (
    BinaryMessage,
    CloseMessage,
    HostFraming,
    HostReader,
    TextMessage,
)


def new_framing(
    message_bytes_max: int = 10, batch_messages: int = 100, batch_bytes: int = 1000
) -> HostFraming:
    return HostFraming(
        FramingLimits(
            message_bytes_max=message_bytes_max,
            frame_bytes_max=message_bytes_max,
            message_fragments_max=1,
            batch_messages=batch_messages,
            batch_bytes=batch_bytes,
        )
    )


def request(method: str = "GET", http_version: str = "1.1") -> Request:
    return Request(method=method, target="/", http_version=http_version, headers=[])


# -- framing ------------------------------------------------------------------------------------


def test_what_was_given_is_received_in_order_and_once() -> None:
    framing = new_framing()
    framing.give("one")
    framing.give(b"two")
    framing.give(CloseReceived(1000, "bye"))
    assert framing.more
    assert framing.receive(b"") == ["one", b"two", CloseReceived(1000, "bye")]
    assert framing.receive(b"") == []


def test_more_says_whether_something_waits() -> None:
    framing = new_framing()
    framing.give("one")
    framing.receive(b"")
    assert not framing.more


@pytest.mark.parametrize("message", ["0123456789", b"0123456789", "é" * 5, ""])
def test_a_message_at_the_bound_passes(message: str | bytes) -> None:
    framing = new_framing(10)
    framing.give(message)
    assert framing.receive(b"") == [message]


@pytest.mark.parametrize("message", ["01234567890", b"01234567890", "é" * 6])
def test_a_message_beyond_the_bound_is_the_last_event(message: str | bytes) -> None:
    framing = new_framing(10)
    framing.give("before")
    framing.give(message)
    framing.give("after")
    before, violation = framing.receive(b"")
    assert before == "before"
    assert isinstance(violation, Violation)
    assert violation.code == 1009
    assert framing.receive(b"") == []


def test_text_that_has_no_utf8_is_a_violation() -> None:
    framing = new_framing()
    framing.give("\ud800")
    (violation,) = framing.receive(b"")
    assert isinstance(violation, Violation)
    assert violation.code == 1007


def test_nothing_follows_a_close() -> None:
    framing = new_framing()
    framing.give(CloseReceived(1005, ""))
    framing.give("late")
    assert framing.receive(b"") == [CloseReceived(1005, "")]
    assert not framing.more


def test_a_batch_is_bounded_by_messages() -> None:
    framing = new_framing(batch_messages=2)
    for each in ("a", "b", "c"):
        framing.give(each)
    assert framing.receive(b"") == ["a", "b"]
    assert framing.more
    assert framing.receive(b"") == ["c"]
    assert not framing.more


def test_a_batch_is_bounded_by_bytes() -> None:
    framing = new_framing(batch_bytes=5)
    for each in ("aaa", "bbb", "ccc"):
        framing.give(each)
    assert framing.receive(b"") == ["aaa", "bbb"]
    assert framing.more
    assert framing.receive(b"") == ["ccc"]


def test_bytes_are_the_callers_mistake() -> None:
    framing = new_framing()
    framing.hold(b"")
    with pytest.raises(LocalProtocolError, match="receive_message"):
        framing.receive(b"\x81\x00")
    with pytest.raises(LocalProtocolError, match="receive_message"):
        framing.hold(b"\x81\x00")


def test_messages_know_their_kind_and_their_size() -> None:
    framing = new_framing()
    text, binary = framing.encode_message("é"), framing.encode_message(b"\xff")
    assert isinstance(text, TextMessage)
    assert (len(text), text.decode()) == (2, "é")
    assert isinstance(binary, BinaryMessage)
    assert binary == b"\xff"
    assert framing.sharing_key == new_framing(99).sharing_key


@pytest.mark.parametrize(
    ("code", "reason", "kept"),
    [(1000, "bye", "bye"), (None, "", ""), (4000, "é" * 100, "é" * 61)],
)
def test_a_close_has_its_code_and_what_fits_of_its_reason(
    code: int | None, reason: str, kept: str
) -> None:
    close = new_framing().encode_close(code, reason)
    assert isinstance(close, CloseMessage)
    assert (close.code, close.reason) == (code, kept)
    assert len(close) <= 125


@pytest.mark.parametrize("encode", ["encode_ping", "encode_pong"])
def test_pings_are_the_hosts(encode: str) -> None:
    with pytest.raises(LocalProtocolError, match="the host's"):
        getattr(new_framing(), encode)(b"")


# -- requests -----------------------------------------------------------------------------------


def test_a_response_is_its_body_with_status_and_headers() -> None:
    answered = HostReader().respond(request(), Response(418, "teapot", {"X-A": "1"}), close=True)
    assert answered == b"teapot"
    assert answered.status == 418
    assert answered.headers == [
        ("X-A", "1"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", "6"),
    ]


def test_head_gets_no_body_but_its_length() -> None:
    answered = HostReader().respond(request("HEAD"), Response(200, "page"), close=False)
    assert answered == b""
    assert ("Content-Length", "4") in answered.headers


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_without_a_body_says_nothing_of_one(status: int) -> None:
    answered = HostReader().respond(request(), Response(status, "ignored"), close=True)
    assert (answered, answered.headers) == (b"", [])


@pytest.mark.parametrize(("http_version", "sent"), [("1.1", True), ("2", False), ("3", False)])
def test_headers_of_a_connection_are_of_http_1_only(http_version: str, sent: bool) -> None:
    response = Response(426, "", {"Upgrade": "websocket", "Connection": "Upgrade"})
    answered = HostReader().respond(request("GET", http_version), response, close=True)
    assert (("Upgrade", "websocket") in answered.headers) is sent
    assert (("Connection", "Upgrade") in answered.headers) is sent


def test_an_accept_has_the_applications_headers_and_no_others() -> None:
    accepted = HostReader().switch_protocols(
        [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", "?"),
            ("Sec-WebSocket-Protocol", "chat"),
            ("Set-Cookie", "a=b"),
        ]
    )
    assert (accepted, accepted.subprotocol) == (b"", "chat")
    assert accepted.headers == [("Set-Cookie", "a=b")]
