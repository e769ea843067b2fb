"""The opening handshake (RFC 6455 section 4), both roles, each requirement by what it gets.

It starts from bytes, so that what h11 refuses on its own counts too.
"""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.http11 import Request as TheirRequest
from websockets.server import ServerProtocol

from framings import CUTS, Cut
from heads import ACCEPT, NONCE, Changes, accept_of, upgrade_request
from wireroom.core.errors import LocalProtocolError, RemoteProtocolError
from wireroom.core.limits import Limits
from wireroom.core.wire.deflate import Deflate, DeflateParameters
from wireroom.core.wire.handshake import (
    Origins,
    Upgrade,
    accept_headers,
    accept_value,
    asks_for_websocket,
    check_response,
    check_upgrade,
    choose_subprotocol,
    request_headers,
    upgrade_required,
)
from wireroom.core.wire.http_head import RequestReader
from wireroom.core.wire.request import MultiDict, Request


def read(data: list[bytes]) -> Request:
    reader = RequestReader(Limits())
    for piece in data:
        request = reader.receive_data(piece, client=None, secure=False)
        if request is not None:
            return request
    raise AssertionError("the head is not complete")


def upgrade(
    changes: Changes | None = None,
    origins: Origins = None,
    *,
    method: str = "GET",
    version: str = "1.1",
) -> Upgrade:
    """What the server makes of a handshake."""
    data = upgrade_request("/chat", changes, method=method, version=version)
    return check_upgrade(read([data]), origins)


def refused(
    changes: Changes | None = None,
    origins: Origins = None,
    *,
    method: str = "GET",
    version: str = "1.1",
) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        upgrade(changes, origins, method=method, version=version)
    assert caught.value.message
    return caught.value


# -- the server's side (section 4.2.1) -----------------------------------------------------------


@pytest.mark.parametrize("cut", CUTS)
def test_the_handshake_of_the_rfc_is_accepted(cut: Cut) -> None:
    """Section 1.2, without the extensions."""
    changes = {"Origin": "http://server.example.com", "Sec-WebSocket-Protocol": "chat, superchat"}
    made = check_upgrade(read(cut(upgrade_request("/chat", changes))), None)
    assert made == Upgrade(NONCE, ("chat", "superchat"), [])
    assert accept_value(made.key) == ACCEPT


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "OPTIONS", "get"])
def test_the_method_is_get(method: str) -> None:
    error = refused(method=method)
    assert error.status == 405
    assert ("Allow", "GET") in error.headers


@pytest.mark.parametrize("version", ["1.0", "0.9", "2.0", "1.2"])
def test_the_version_of_http_is_1_1(version: str) -> None:
    assert refused(version=version).status == 400


@pytest.mark.parametrize("host", [None, "", ["a", "b"], "a b", "a@b", "a/b", ":80", "[::1"])
def test_there_is_one_host(host: str | list[str] | None) -> None:
    assert refused({"Host": host}).status == 400


@pytest.mark.parametrize("host", ["a", "a.example:8301", "[::1]:80", "127.0.0.1"])
def test_hosts_that_are_fine(host: str) -> None:
    assert upgrade({"Host": host}).key == NONCE


@pytest.mark.parametrize(
    "value", ["WebSocket", "h2c, websocket", ["h2c", "WEBSOCKET"], "websocket,", "websocket"]
)
def test_upgrade_names_websocket_in_any_case(value: str | list[str]) -> None:
    assert upgrade({"Upgrade": value}).key == NONCE


@pytest.mark.parametrize("value", [None, "", "h2c", "websockets", "web socket", "websocket/13"])
def test_without_an_upgrade_to_websocket_it_is_426(value: str | None) -> None:
    error = refused({"Upgrade": value})
    assert error.status == 426
    assert dict(error.headers) == {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
    }
    assert upgrade_required().headers == error.headers
    assert not asks_for_websocket(read([upgrade_request("/", {"Upgrade": value})]))


@pytest.mark.parametrize("value", ["upgrade", "keep-alive, Upgrade", ["keep-alive", "UPGRADE"]])
def test_connection_names_upgrade_in_any_case(value: str | list[str]) -> None:
    assert upgrade({"Connection": value}).key == NONCE


@pytest.mark.parametrize("value", [None, "", "keep-alive", "Upgraded", "Up grade", "Upgrade/1"])
def test_without_a_connection_token_it_is_400(value: str | None) -> None:
    assert refused({"Connection": value}).status == 400


@pytest.mark.parametrize("value", ["8", "0", "12", "14", "013", "13, 8", "", "13.0", "+13"])
def test_another_version_gets_426_and_the_one_we_speak(value: str) -> None:
    error = refused({"Sec-WebSocket-Version": value})
    assert error.status == 426
    assert ("Sec-WebSocket-Version", "13") in error.headers


@pytest.mark.parametrize("value", [None, ["13", "13"], ["13", "8"]])
def test_there_is_one_version(value: list[str] | None) -> None:
    assert refused({"Sec-WebSocket-Version": value}).status == 400


@pytest.mark.parametrize(
    "key",
    [
        None,
        "",
        [NONCE, NONCE],
        "AAAA",
        base64.b64encode(bytes(15)).decode(),
        base64.b64encode(bytes(17)).decode(),
        base64.b64encode(bytes(18)).decode(),
        NONCE[:-1],
        NONCE[:-2],
        NONCE + "=",
        NONCE.replace("==", "=A"),
        "dGhlIHNhbXBsZSBub25j ZQ==",
        "dGhlIHNhbXBsZSBub25-ZQ==",
        "dGhlIHNhbXBsZSBub25_ZQ==",
        "=" + NONCE[:-1],
        "ü" + NONCE[1:],
        NONCE + ", " + NONCE,
    ],
)
def test_the_key_is_16_bytes_of_base64(key: str | list[str] | None) -> None:
    assert refused({"Sec-WebSocket-Key": key}).status == 400


@given(st.binary(min_size=16, max_size=16))
def test_any_16_bytes_are_a_key(nonce: bytes) -> None:
    key = base64.b64encode(nonce).decode()
    assert upgrade({"Sec-WebSocket-Key": key}).key == key
    assert accept_value(key) == accept_of(key)


@pytest.mark.parametrize("changes", [{"Content-Length": "5"}, {"Transfer-Encoding": "chunked"}])
def test_a_handshake_has_no_body(changes: Changes) -> None:
    """It would be taken for frames."""
    assert refused(changes).status == 400
    assert upgrade({"Content-Length": "0"}).key == NONCE


# -- Origin (section 10.2) -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("a.example", None),
        ("a.example", "http://a.example"),
        ("a.example", "https://a.example"),
        ("A.example", "http://a.EXAMPLE"),
        ("a.example:80", "http://a.example"),
        ("a.example", "http://a.example:80"),
        ("a.example:443", "https://a.example"),
        ("a.example", "https://a.example:443"),
        ("a.example:8301", "http://a.example:8301"),
        ("[::1]:8301", "http://[::1]:8301"),
        ("127.0.0.1", "http://127.0.0.1"),
    ],
)
def test_by_default_the_same_host_may_connect(host: str, origin: str | None) -> None:
    assert upgrade({"Host": host, "Origin": origin}).key == NONCE


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("a.example", "http://b.example"),
        ("a.example", "http://a.example.evil"),
        ("a.example", "http://evil.a.example"),
        ("a.example", "http://a.example:8301"),
        ("a.example:8301", "http://a.example"),
        ("a.example:8301", "http://a.example:8302"),
        ("a.example:443", "http://a.example"),
        ("a.example", "null"),
        ("a.example", ""),
        ("a.example", "a.example"),
        ("a.example", "//a.example"),
        ("a.example", "file://a.example"),
        ("a.example", "ws://a.example"),
        ("a.example", "http://"),
        ("a.example", "http://[a.example"),
        ("a.example", "http://a.example:99999"),
        ("a.example", "http://b.example@evil/a.example"),
        ("a.example", "http://a.example@evil"),
    ],
)
def test_by_default_another_origin_gets_403(host: str, origin: str) -> None:
    assert refused({"Host": host, "Origin": origin}).status == 403


def test_two_origins_get_403() -> None:
    same = "http://server.example.com"
    assert refused({"Origin": [same, same]}).status == 403
    assert refused({"Origin": [same, same]}, [same]).status == 403


def test_a_list_of_origins_is_exact_but_for_case() -> None:
    listed = ["https://App.example", "http://localhost:3000"]
    for origin in ("https://app.example", "HTTPS://APP.EXAMPLE", "http://localhost:3000", None):
        assert upgrade({"Origin": origin}, listed).key == NONCE
    for origin in (
        "http://app.example",
        "https://app.example:3000",
        "http://localhost",
        "http://server.example.com",
        "null",
    ):
        assert refused({"Origin": origin}, listed).status == 403
    assert refused({"Origin": "http://server.example.com"}, []).status == 403


def test_null_may_be_listed() -> None:
    assert upgrade({"Origin": "null"}, ["null"]).key == NONCE


@pytest.mark.parametrize("origin", ["http://elsewhere", "null", "", ["http://a", "http://b"]])
def test_any_origin(origin: str | list[str]) -> None:
    assert upgrade({"Origin": origin}, "*").key == NONCE


# -- subprotocols and extensions -----------------------------------------------------------------


def test_subprotocols_are_read_from_all_lines_in_order() -> None:
    made = upgrade({"Sec-WebSocket-Protocol": ["b, a", "C"]})
    assert made.subprotocols == ("b", "a", "C")
    assert upgrade({"Sec-WebSocket-Protocol": "a, A"}).subprotocols == ("a", "A")


@pytest.mark.parametrize("value", ["a, a", ["a", "b, a"], "a b", "a/b", '"a"', "ü"])
def test_subprotocols_are_different_tokens(value: str | list[str]) -> None:
    assert refused({"Sec-WebSocket-Protocol": value}).status == 400


def test_the_subprotocol_is_our_first_that_they_offer() -> None:
    assert choose_subprotocol(["x", "b", "a"], ("a", "b")) == "b"
    assert choose_subprotocol(["A"], ("a",)) is None
    assert choose_subprotocol([], ("a",)) is None
    assert choose_subprotocol(["a"], ()) is None


@pytest.mark.parametrize("value", ["a b", "a;", 'a; b="', "permessage-deflate; =1", ";", "a=1"])
def test_malformed_extensions_get_400(value: str) -> None:
    assert refused({"Sec-WebSocket-Extensions": value}).status == 400


# -- our response (section 4.2.2) ----------------------------------------------------------------


def response(
    changes: Changes | None = None,
    *,
    subprotocol: str | None = None,
    headers: dict[str, str] | None = None,
    settings: Deflate | None = None,
) -> tuple[dict[str, str], DeflateParameters | None]:
    pairs, agreed = accept_headers(
        upgrade(changes), subprotocol=subprotocol, headers=headers or {}, settings=settings
    )
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs), agreed


def test_the_response_of_the_rfc() -> None:
    expected = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": ACCEPT}
    assert response() == (expected, None)


def test_the_response_names_the_subprotocol_that_was_chosen() -> None:
    changes = {"Sec-WebSocket-Protocol": "a, b"}
    assert response(changes, subprotocol="b")[0]["Sec-WebSocket-Protocol"] == "b"
    assert "Sec-WebSocket-Protocol" not in response(changes)[0]


@pytest.mark.parametrize("wrong", ["c", "A", ""])
def test_a_subprotocol_that_was_not_offered_is_our_callers_mistake(wrong: str) -> None:
    with pytest.raises(LocalProtocolError, match="did not offer"):
        response({"Sec-WebSocket-Protocol": "a, b"}, subprotocol=wrong)


def test_deflate_is_answered_where_it_is_offered_and_wanted() -> None:
    offered = {"Sec-WebSocket-Extensions": "x, permessage-deflate; client_max_window_bits"}
    headers, agreed = response(offered, settings=Deflate())
    assert headers["Sec-WebSocket-Extensions"] == (
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    )
    assert agreed == DeflateParameters(True, True, 15, 15)
    assert response(offered)[1] is None
    assert "Sec-WebSocket-Extensions" not in response(offered)[0]
    assert response(settings=Deflate())[1] is None
    declined = {"Sec-WebSocket-Extensions": "permessage-deflate; unknown"}
    assert "Sec-WebSocket-Extensions" not in response(declined, settings=Deflate())[0]


def test_the_application_adds_headers() -> None:
    assert response(headers={"Set-Cookie": "a=b"})[0]["Set-Cookie"] == "a=b"


@pytest.mark.parametrize(
    "name",
    [
        "Upgrade",
        "connection",
        "SEC-WEBSOCKET-ACCEPT",
        "Sec-WebSocket-Protocol",
        "Content-Length",
        "Sec-WebSocket-Extensions",
        "Sec-WebSocket-Version",
        "Transfer-Encoding",
        "Host",
    ],
)
def test_the_application_does_not_contradict_the_handshake(name: str) -> None:
    with pytest.raises(LocalProtocolError, match=name):
        response(headers={name: "x"})


@pytest.mark.parametrize(("name", "value"), [("a b", "c"), ("X", "a\r\nY: b"), ("X", " a")])
def test_headers_that_cannot_be_sent(name: str, value: str) -> None:
    with pytest.raises(LocalProtocolError):
        response(headers={name: value})


# -- the client's side (section 4.1) -------------------------------------------------------------


def test_websockets_server_accepts_our_request() -> None:
    pairs = request_headers(
        "a.example:8301",
        NONCE,
        subprotocols=("chat", "other"),
        origin="http://a.example",
        headers={"Cookie": "a=b"},
        settings=Deflate(),
    )
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names)
    server = ServerProtocol(subprotocols=["other"], origins=["http://a.example"])  # type: ignore[list-item]
    answer = server.accept(TheirRequest("/", Headers(pairs)))
    assert answer.status_code == 101
    assert answer.headers["Sec-WebSocket-Accept"] == ACCEPT
    assert answer.headers["Sec-WebSocket-Protocol"] == "other"


def test_what_is_not_asked_for_is_not_sent() -> None:
    pairs = request_headers("a", NONCE, subprotocols=(), origin=None, headers=(), settings=None)
    assert dict(pairs) == {
        "Host": "a",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": NONCE,
        "Sec-WebSocket-Version": "13",
    }


@pytest.mark.parametrize("wrong", [["a b"], [""], ["a", "a"], ["ü"], ["a,b"]])
def test_our_subprotocols_are_different_tokens(wrong: list[str]) -> None:
    with pytest.raises(LocalProtocolError, match="subprotocols"):
        request_headers("a", NONCE, subprotocols=wrong, origin=None, headers=(), settings=None)


def test_our_origin_is_a_value_that_can_be_sent() -> None:
    with pytest.raises(LocalProtocolError, match="Origin"):
        request_headers("a", NONCE, subprotocols=(), origin="a\r\nb", headers=(), settings=None)


def checked(
    changes: Changes | None = None,
    *,
    subprotocols: tuple[str, ...] = (),
    settings: Deflate | None = None,
) -> tuple[str | None, DeflateParameters | None]:
    """What the client makes of the server's response."""
    headers: dict[str, str | list[str] | None] = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": ACCEPT,
        **(changes or {}),
    }
    pairs = [
        (name, each)
        for name, value in headers.items()
        for each in ([value] if isinstance(value, str) else value or [])
    ]
    return check_response(
        MultiDict(pairs, fold_case=True), NONCE, subprotocols=subprotocols, settings=settings
    )


def test_the_servers_response_is_accepted() -> None:
    assert checked() == (None, None)
    assert checked({"Upgrade": "WebSocket", "Connection": "keep-alive, UPGRADE"}) == (None, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"Upgrade": None},
        {"Upgrade": ""},
        {"Upgrade": "h2c"},
        {"Upgrade": "h2c, websocket"},
        {"Upgrade": ["websocket", "websocket"]},
        {"Connection": None},
        {"Connection": "keep-alive"},
        {"Connection": "Up grade"},
        {"Sec-WebSocket-Accept": None},
        {"Sec-WebSocket-Accept": ""},
        {"Sec-WebSocket-Accept": ACCEPT.lower()},
        {"Sec-WebSocket-Accept": ACCEPT[:-1]},
        {"Sec-WebSocket-Accept": accept_of("another")},
        {"Sec-WebSocket-Accept": [ACCEPT, ACCEPT]},
        {"Sec-WebSocket-Extensions": "permessage-deflate"},
        {"Sec-WebSocket-Extensions": "x"},
        {"Sec-WebSocket-Extensions": "a b"},
        {"Sec-WebSocket-Protocol": "a"},
        {"Sec-WebSocket-Protocol": ""},
    ],
)
def test_a_wrong_response_fails(changes: Changes) -> None:
    with pytest.raises(RemoteProtocolError):
        checked(changes)


def test_the_subprotocol_is_one_of_ours() -> None:
    offered = ("a", "b")
    assert checked({"Sec-WebSocket-Protocol": "b"}, subprotocols=offered)[0] == "b"
    assert checked(subprotocols=offered)[0] is None
    for wrong in ("c", "A", "a, b", "", ["a", "b"], ["a", "a"]):
        with pytest.raises(RemoteProtocolError, match="subprotocol"):
            checked({"Sec-WebSocket-Protocol": wrong}, subprotocols=offered)


def test_the_extension_is_the_one_we_offered() -> None:
    deflate = "permessage-deflate; server_no_context_takeover"
    agreed = checked({"Sec-WebSocket-Extensions": deflate}, settings=Deflate())[1]
    assert agreed == DeflateParameters(True, True, 15, 15)
    assert checked({"Sec-WebSocket-Extensions": ""}, settings=Deflate())[1] is None
    for wrong in ("x", f"{deflate}, x", f"{deflate}, {deflate}", [deflate, deflate], "x;"):
        with pytest.raises(RemoteProtocolError):
            checked({"Sec-WebSocket-Extensions": wrong}, settings=Deflate())
