"""Plain HTTP routes: what a handler may return."""

from __future__ import annotations

import msgspec
import pytest

from driver import Simulation
from http_responses import HttpResponse, read_response
from raw import get
from wireroom.core import App, ConfigurationError, LocalProtocolError, Request, Response


class Health(msgspec.Struct):
    ok: bool = True


def answer(result: object, *, is_async: bool = False) -> HttpResponse:
    """What a client gets for a handler that returns `result`."""
    app = App()

    @app.http("/")
    def plain(request: Request) -> object:
        return result

    @app.http("/async")
    async def waits(request: Request) -> object:
        return result

    simulation = Simulation(app)
    peer = simulation.connect()
    peer.send_raw(get("/async" if is_async else "/"))
    assert simulation.failures == []
    return read_response(bytes(peer.received))


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("result", "status", "content_type", "body"),
    [
        ("café", 200, "text/plain; charset=utf-8", "café".encode()),
        (b"\x00\xff", 200, "application/octet-stream", b"\x00\xff"),
        ({"ok": True}, 200, "application/json", b'{"ok":true}'),
        (Health(), 200, "application/json", b'{"ok":true}'),
        (None, 204, None, b""),
        (Response(404, "no"), 404, "text/plain; charset=utf-8", b"no"),
        (Response(200, "<p>", content_type="text/html"), 200, "text/html", b"<p>"),
        (Response(200, "<p>", {"Content-Type": "a/b"}), 200, "a/b", b"<p>"),
        (Response(304), 304, None, b""),
        (Response(200), 200, None, b""),
    ],
)
def test_what_a_handler_returns_becomes_a_response(
    result: object, status: int, content_type: str | None, body: bytes, is_async: bool
) -> None:
    response = answer(result, is_async=is_async)
    assert (response.status, response.body) == (status, body)
    assert response.headers.get("content-type") == content_type
    length = response.headers.get("content-length")
    assert length == (None if status in (204, 304) else str(len(body)))


def test_headers_are_sent_in_order_also_those_of_one_name() -> None:
    app = App()
    cookies = [("Set-Cookie", "a=1"), ("X", ""), ("Set-Cookie", "b=2")]
    app.http("/")(lambda request: Response(200, "", cookies))
    peer = Simulation(app).connect()
    peer.send_raw(get("/"))
    assert b"Set-Cookie: a=1\r\nX: \r\nSet-Cookie: b=2\r\n" in bytes(peer.received)


@pytest.mark.parametrize("result", [7, object(), ["list"], Health])
def test_any_other_value_is_the_handlers_failure(result: object) -> None:
    app = App()
    app.http("/")(lambda request: result)
    simulation = Simulation(app)
    peer = simulation.connect()
    peer.send_raw(get("/"))
    assert read_response(bytes(peer.received)).status == 500
    assert [type(error) for error in simulation.failures] == [LocalProtocolError]


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "a\r\nY: b"},
        {"X": "a\0"},
        {"X": "\x01"},
        {"X": " a"},
        {"X": "€"},
        {"a b": "c"},
        {"": "c"},
        {"Content-Length": "1"},
        {"Transfer-Encoding": "chunked"},
        {"Connection": "close"},
    ],
)
def test_headers_that_would_break_the_response_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(LocalProtocolError):
        Response(200, "body", headers)


@pytest.mark.parametrize("status", [0, 100, 101, 199, 600])
def test_only_final_statuses_are_responses(status: int) -> None:
    with pytest.raises(LocalProtocolError):
        Response(status)


def test_a_route_takes_a_request_and_nothing_else() -> None:
    def nothing() -> None: ...
    def two(request: Request, more: object) -> None: ...

    for handler in (nothing, two):
        with pytest.raises(ConfigurationError, match="http /:"):
            App().http("/")(handler)


def test_a_handler_sees_its_request() -> None:
    app = App()
    seen: list[object] = []

    @app.http("/item/{n:int}")
    def item(request: Request) -> None:
        seen.extend([request.method, request.path, request.path_params, request.query_string])
        seen.extend([request.headers["host"], request.client, request.secure])

    peer = Simulation(app).connect(port=5000, secure=True)
    peer.send_raw(get("/item/7?a=b&c"))
    assert seen[:4] == ["GET", "/item/7", {"n": 7}, "a=b&c"]
    assert seen[4:] == ["server.example", ("10.0.0.1", 5000), True]
