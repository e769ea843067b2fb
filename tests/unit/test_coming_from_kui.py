"""docs/coming-from.md, "From kui": each row by the name that it has there."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any, Final, TypeAlias
from uuid import UUID

import pytest

from driver import Foreign, Peer, Simulation
from sources import ROOT
from wireroom.core import (
    URL,
    App,
    LocalProtocolError,
    SessionClosedError,
    WebSocket,
    WebSocketView,
)
from wireroom.core.dispatch.function import WebSocketHandler

Check: TypeAlias = Callable[[], None]

CHECKS: Final[dict[str, Check]] = {}


def row(name: str) -> Callable[[Check], Check]:
    """This is the check of the row with `name` in its first column."""

    def register(check: Check) -> Check:
        assert name not in CHECKS
        CHECKS[name] = check
        return check

    return register


def rows_of_the_document() -> list[str]:
    text = (ROOT / "docs" / "coming-from.md").read_text("utf-8")
    section = re.search(r"^## From kui$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    cells = [line.split("|")[1].strip() for line in section[1].splitlines() if line[:1] == "|"]
    return cells[2:]


def serve(handler: WebSocketHandler, path: str = "/") -> Simulation:
    app = App()
    app.websocket(path, subprotocols=["chat"])(handler)
    return Simulation(app)


def serve_view(view: type[WebSocketView]) -> Simulation:
    app = App()
    app.view("/")(view)
    return Simulation(app)


def accepted(use: Callable[[WebSocket], Any], *messages: str | bytes, **options: Any) -> Peer:
    """A peer of a function that accepts and awaits what `use` gives; nothing may fail."""

    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        await use(ws)

    simulation = serve(handler)
    peer = simulation.open("/", **options)
    if peer.close_frame is None:
        peer.send(*messages)
    assert simulation.failures == []
    return peer


def request_of(
    use: Callable[[WebSocket], object], target: str = "/", path: str = "/", **options: Any
) -> object:
    """What `use` gives for a handshake."""
    seen: list[object] = []

    async def handler(ws: WebSocket) -> None:
        seen.append(use(ws))

    simulation = serve(handler, path)
    simulation.open(target, **options)
    assert simulation.failures == []
    assert seen, f"nothing is at {target}"
    return seen[0]


def path_param(pattern: str, target: str) -> object:
    return request_of(lambda ws: ws.path_params["name"], target, pattern)


# -- functions and views ------------------------------------------------------------------------


@row("`@app.router.socket(path)`, a function")
def a_function() -> None:
    app = App()

    @app.websocket("/{name}")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        if ws.path == "/raise":
            raise KeyError("on purpose")

    simulation = Simulation(app)
    assert simulation.open("/return").close_code() == 1000
    assert simulation.open("/raise").close_code() == 1011


@row("`@app.router.socket(path)`, a class")
def a_class() -> None:
    app = App()
    made: list[WebSocketView] = []

    @app.view("/")
    class View(WebSocketView):
        def __init__(self) -> None:
            made.append(self)

    simulation = Simulation(app)
    assert [simulation.open("/").status(), simulation.open("/").status()] == [101, 101]
    assert [type(view) for view in made] == [View, View]
    assert made[0] is not made[1]


@row("`SocketView`")
def socket_view() -> None:
    class View(WebSocketView):
        def on_receive(self, data: Any) -> None: ...  # type: ignore[override]  # on purpose

    with pytest.raises(ValueError, match=r"View\.on_receive: must be async def"):
        serve_view(View)


@row("`SocketView.encoding`")
def socket_view_encoding() -> None:
    class View(WebSocketView):
        encoding = "json"

        async def on_receive(self, data: Any) -> None:
            await self.websocket.send_text(data["text"])

    assert WebSocketView.encoding == "anystr"
    simulation = serve_view(View)
    peer = simulation.open("/")
    peer.send('{"text": "hello"}')
    assert peer.messages == ["hello"]
    peer.send("hello")
    assert (peer.close_code(), simulation.failures) == (1003, [])


@row("`SocketView.on_connect()`")
def on_connect() -> None:
    class View(WebSocketView):
        async def on_connect(self) -> None:
            if "token" in self.websocket.query_params:
                await self.websocket.accept()

    assert serve_view(WebSocketView).open("/").status() == 101
    assert serve_view(View).open("/?token=x").status() == 101
    assert serve_view(View).open("/").status() == 500


@row("`SocketView.on_receive(data)`")
def on_receive() -> None:
    class View(WebSocketView):
        async def on_receive(self, data: Any) -> None:
            await self.websocket.send(data)

    peer = serve_view(View).open("/")
    peer.send("a", b"b")
    assert peer.messages == ["a", b"b"]


@row("`SocketView.on_disconnect(close_code)`")
def on_disconnect() -> None:
    codes: list[int] = []

    class View(WebSocketView):
        async def on_receive(self, data: Any) -> None:
            raise KeyError("on purpose")

        async def on_disconnect(self, close_code: int) -> None:
            codes.append(close_code)
            await self.websocket.close(code=4100 if close_code == 1011 else close_code)

    simulation = serve_view(View)
    peers = [simulation.open("/") for _ in range(3)]
    peers[0].close(4001)
    peers[1].lose()
    peers[2].send("a")
    assert codes == [4001, 1006, 1011]
    assert [peer.close_code() for peer in peers] == [4001, None, 4100]


# -- messages -----------------------------------------------------------------------------------


@row("`websocket`")
def websocket() -> None:
    class View(WebSocketView):
        async def on_receive(self, data: Any) -> None:
            assert isinstance(self.websocket, WebSocket)
            await self.websocket.send(self.websocket.path)

    peer = serve_view(View).open("/")
    peer.send("a")
    assert peer.messages == ["/"]
    assert request_of(type) is WebSocket


@row("`websocket.accept(subprotocol)`")
def accept() -> None:
    async def handler(ws: WebSocket) -> None:
        with pytest.raises(LocalProtocolError, match="did not offer"):
            await ws.accept("other")
        await ws.accept(subprotocol="v1", headers={"X-Seen": "yes"})

    peer = serve(handler).open("/", subprotocols=("v1",))
    assert peer.accepted is not None
    assert peer.accepted.subprotocol == "v1"
    assert (b"x-seen", b"yes") in list(peer.accepted.extra_headers)


@row("`websocket.receive()`")
def receive() -> None:
    received: list[object] = []

    async def use(ws: WebSocket) -> None:
        received.extend([await ws.receive(), await ws.receive(), await ws.receive()])

    accepted(use, "a", b"b").close(4001)
    assert received == ["a", b"b", None]


@row("`websocket.receive_text()`")
def receive_text() -> None:
    async def use(ws: WebSocket) -> None:
        await ws.send_text(await ws.receive_text())
        await ws.receive_text()

    peer = accepted(use, "a", b"b")
    assert (peer.messages, peer.close_code()) == (["a"], 1003)


@row("`websocket.receive_bytes()`")
def receive_bytes() -> None:
    async def use(ws: WebSocket) -> None:
        await ws.send_bytes(await ws.receive_bytes())
        await ws.receive_bytes()

    peer = accepted(use, b"a", "b")
    assert (peer.messages, peer.close_code()) == ([b"a"], 1003)


@row("`websocket.receive_json(mode)`")
def receive_json() -> None:
    received: list[object] = []

    async def use(ws: WebSocket) -> None:
        received.extend([await ws.receive_json(), await ws.receive_json()])
        received.extend([await ws.receive_json("text"), await ws.receive_json(mode="binary")])
        for _ in range(2):
            with pytest.raises(ValueError, match=r"truncated|nested"):
                await ws.receive_json()
        with pytest.raises(LocalProtocolError, match="mode"):
            await ws.receive_json("bytes")  # type: ignore[arg-type]  # on purpose
        await ws.receive_json("text")

    peer = accepted(use, "[1]", b"[2]", "[3]", b"[4]", "{", "[" * 100_000, b"[5]")
    assert received == [[1], [2], [3], [4]]
    assert peer.close_code() == 1003


@row("`websocket.iter_text()`")
def iter_text() -> None:
    received: list[object] = []

    async def use(ws: WebSocket) -> None:
        received.extend([text async for text in ws.iter_text()])
        received.append(ws.close_code)

    accepted(use, "a", "b").close(4001)
    accepted(use, "c", b"d", "e")
    assert received == ["a", "b", 4001, "c", 1003]


@row("`websocket.iter_bytes()`")
def iter_bytes() -> None:
    received: list[object] = []

    async def use(ws: WebSocket) -> None:
        received.extend([data async for data in ws.iter_bytes()])
        received.append(ws.close_code)

    accepted(use, b"a", b"b").close(4001)
    accepted(use, b"c", "d", b"e")
    assert received == [b"a", b"b", 4001, b"c", 1003]


@row("`websocket.iter_json()`")
def iter_json() -> None:
    received: list[object] = []

    async def use(ws: WebSocket) -> None:
        received.extend([value async for value in ws.iter_json()])
        received.append(ws.close_code)

    async def use_text(ws: WebSocket) -> None:
        received.extend([value async for value in ws.iter_json("text")])
        received.append(ws.close_code)

    async def use_both(ws: WebSocket) -> None:
        received.extend([message async for message in ws])

    accepted(use, "[1]", b"[2]").close(4001)
    accepted(use_text, "[3]", b"[4]", "[5]")
    accepted(use_both, "[6]", b"[7]").close()
    assert received == [[1], [2], 4001, [3], 1003, "[6]", b"[7]"]


@row("`websocket.send(message)`")
def send() -> None:
    async def use(ws: WebSocket) -> None:
        await ws.send("a")
        await ws.send(b"b")
        await ws.send({"c": 1})

    assert accepted(use).messages == ["a", b"b", '{"c":1}']


@row("`websocket.send_text(data)`")
def send_text() -> None:
    assert accepted(lambda ws: ws.send_text("a")).messages == ["a"]


@row("`websocket.send_bytes(data)`")
def send_bytes() -> None:
    assert accepted(lambda ws: ws.send_bytes(b"a")).messages == [b"a"]


@row("`websocket.send_json(data, mode)`")
def send_json() -> None:
    async def use(ws: WebSocket) -> None:
        await ws.send_json([1])
        await ws.send_json([2], "text")
        await ws.send_json([3], mode="binary")
        with pytest.raises(LocalProtocolError, match="mode"):
            await ws.send_json([4], "bytes")  # type: ignore[arg-type]  # on purpose

    assert accepted(use).messages == ["[1]", "[2]", b"[3]"]


@row("`websocket.close(code, reason)`")
def close() -> None:
    async def use(ws: WebSocket) -> None:
        await ws.close(4001, "enough")
        await ws.close(4002)
        await ws.close(ws.close_code)

    peer = accepted(use)
    assert peer.close_frame is not None
    assert (peer.close_frame.code, peer.close_frame.reason) == (4001, "enough")

    async def refuse(ws: WebSocket) -> None:
        if ws.path == "/close":
            await ws.close()
            await ws.close()
        else:
            await ws.reject(451)

    simulation = serve(refuse, "/{name}")
    assert [simulation.open(path).status() for path in ("/close", "/reject")] == [403, 451]
    assert simulation.failures == []


@row("`websocket.is_disconnected()`")
def is_disconnected() -> None:
    gate = Foreign()
    seen: list[object] = []

    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        seen.append(not ws.is_connected)
        await gate
        seen.extend([not ws.is_connected, await ws.receive()])

    simulation = serve(handler)
    peer = simulation.open("/")
    peer.send("a")
    peer.lose()
    simulation.complete(gate)
    assert seen == [False, True, "a"]


@row("`WebSocketDisconnect`")
def websocket_disconnect() -> None:
    caught: list[SessionClosedError] = []

    async def use(ws: WebSocket) -> None:
        try:
            await ws.receive_text()
        except SessionClosedError as error:
            caught.append(error)
            raise  # which nobody need do, and which is no failure

    accepted(use).close(4001, "why")
    (error,) = caught
    assert (error.code, error.reason) == (4001, "why")


@row("`AssertionError` for a wrong order")
def wrong_order() -> None:
    async def handler(ws: WebSocket) -> None:
        waits = (ws.receive, ws.receive_text, ws.receive_bytes, ws.receive_json)
        for receive in waits:
            with pytest.raises(LocalProtocolError, match=r"accept\(\) the handshake before"):
                await receive()
        for iterate in (ws.__aiter__, ws.iter_text, ws.iter_bytes, ws.iter_json):
            with pytest.raises(LocalProtocolError, match=r"accept\(\) the handshake before"):
                await anext(iterate())
        sends: list[Callable[[], object]] = [
            lambda: ws.send("x"),
            lambda: ws.send_text("x"),
            lambda: ws.send_bytes(b"x"),
            lambda: ws.send_json("x"),
        ]
        for early in sends:
            with pytest.raises(SessionClosedError, match="accept it first"):
                early()
        await ws.accept()
        with pytest.raises(LocalProtocolError, match=r"already, so call send\(\) or receive\(\)"):
            await ws.accept()
        with pytest.raises(LocalProtocolError, match=r"already, so call close\(\)"):
            await ws.reject()
        await ws.close(4001)
        for receive in waits[1:]:
            with pytest.raises(SessionClosedError, match=r"is closed \(4001\)"):
                await receive()
        for late in (*sends, ws.accept, ws.reject):
            with pytest.raises(SessionClosedError, match=r"is closed \(4001\)"):
                late()

    simulation = serve(handler)
    assert simulation.open("/").close_code() == 4001
    assert simulation.failures == []


# -- the request --------------------------------------------------------------------------------


@row("`websocket.url`")
def url() -> None:
    url = request_of(lambda ws: ws.url, "/caf%C3%A9?a=1&a=2", "/café")
    assert isinstance(url, str)
    assert isinstance(url, URL)
    assert url == "ws://server.example/caf%C3%A9?a=1&a=2"
    assert (url.scheme, url.netloc, url.hostname) == ("ws", "server.example", "server.example")
    assert (url.path, url.query, url.fragment) == ("/caf%C3%A9", "a=1&a=2", "")
    assert (url.port, url.username, url.password) == (None, None, None)
    assert request_of(lambda ws: ws.path, "/caf%C3%A9", "/café") == "/café"
    assert accepted(lambda ws: ws.send_json(str(ws.url))).messages == ['"ws://server.example/"']

    seen: list[URL] = []

    async def handler(ws: WebSocket) -> None:
        seen.append(ws.url)

    secure = serve(handler).connect(secure=True)
    secure.send_raw(
        b"GET / HTTP/1.1\r\nHost: [::1]:9999\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert seen == ["wss://[::1]:9999/"]
    assert (seen[0].hostname, seen[0].port) == ("::1", 9999)


@row("`websocket.path_params`")
def path_params() -> None:
    params = request_of(lambda ws: ws.path_params, "/a/7", "/{name}/{number:int}")
    assert params == {"name": "a", "number": 7}


@row("`{name}`, `{name:str}`")
def str_parameter() -> None:
    assert path_param("/{name}", "/a%20b") == "a b"
    assert path_param("/{name:str}", "/7") == "7"
    with pytest.raises(ValueError, match="neither fixed nor one"):
        path_param("/user-{name}", "/user-7")


@row("`{name:int}`")
def int_parameter() -> None:
    assert path_param("/{name:int}", "/007") == 7


@row("`{name:decimal}`")
def decimal_parameter() -> None:
    assert repr(path_param("/{name:decimal}", "/1.50")) == repr(Decimal("1.50"))


@row("`{name:date}`")
def date_parameter() -> None:
    assert path_param("/{name:date}", "/2024-02-29") == date(2024, 2, 29)


@row("`{name:uuid}`")
def uuid_parameter() -> None:
    assert path_param("/{name:uuid}", f"/{UUID(int=0xABC)}") == UUID(int=0xABC)
    assert path_param("/{name:uuid}", f"/{UUID(int=0xABC)}".upper()) == UUID(int=0xABC)


@row("`{name:any}`")
def any_parameter() -> None:
    assert path_param("/{name:any}", "/a/b.txt") == "a/b.txt"
    assert path_param("/{name:any}", "/") == ""


@row("`websocket.headers`")
def headers() -> None:
    def use(ws: WebSocket) -> object:
        headers = ws.headers
        assert "x-oNE" in headers
        assert all(name == name.lower() for name in headers.keys())  # noqa: SIM118 - kui's words
        assert dict(headers.items())["x-one"] == "1"
        return headers["X-One"], headers.get("no"), headers.get_all("X-ONE")

    sent = ((b"X-One", b"1"), (b"x-oNe", b"2"))
    assert request_of(use, headers=sent) == ("1", None, ["1", "2"])


@row("`websocket.query_params`")
def query_params() -> None:
    def use(ws: WebSocket) -> object:
        return ws.query_params["a"], ws.query_params["empty"], ws.query_params.get("A")

    assert request_of(use, "/?a=1&a=%262&empty=") == ("1", "", None)


@row("`websocket.query_params.getlist(name)`")
def getlist() -> None:
    def use(ws: WebSocket) -> object:
        return ws.query_params.get_all("a"), ws.query_params.get_all("b")

    assert request_of(use, "/?a=1&c=x&a=%262") == (["1", "&2"], [])


@row("`websocket.cookies`")
def cookies() -> None:
    sent = ((b"Cookie", b"a=1; b=x=y"),)
    assert request_of(lambda ws: ws.cookies, headers=sent) == {"a": "1", "b": "x=y"}


def client_of(address: tuple[str, int] | str | None) -> tuple[object, object]:
    seen: list[tuple[object, object]] = []

    async def handler(ws: WebSocket) -> None:
        seen.append((ws.client.host, ws.client.port))
        assert ws.session.address == address

    simulation = serve(handler)
    fd = simulation.hub.connect(address, now=simulation.now)
    peer = simulation.peers[fd] = Peer(simulation, fd)
    peer.open("/")
    assert simulation.failures == []
    return seen[0]


@row("`websocket.client.host`")
def client_host() -> None:
    addresses = (("10.0.0.1", 4000), ("::1", 4000), "/run/client.sock", "", None)
    hosts = [client_of(address)[0] for address in addresses]
    assert hosts == ["10.0.0.1", "::1", "/run/client.sock", None, None]


@row("`websocket.client.port`")
def client_port() -> None:
    ports = [client_of(address)[1] for address in (("10.0.0.1", 4000), "/run/client.sock", None)]
    assert ports == [4000, None, None]


@row("`websocket.state`")
def state() -> None:
    async def handler(ws: WebSocket) -> None:
        ws.state.user = "somebody"
        await ws.accept()
        assert ws.state.user == "somebody"
        assert ws.session.state.user == "somebody"
        del ws.state.user
        assert not hasattr(ws.state, "user")
        with pytest.raises(AttributeError, match="state has no 'user'"):
            _ = ws.state.user
        with pytest.raises(AttributeError, match="state has no 'user'"):
            del ws.state.user
        ws.state.user = "somebody else"
        await ws.send_text(f"{ws.state.user} {ws.state!r}")

    simulation = serve(handler)
    peers = [simulation.open("/"), simulation.open("/")]
    expected = "somebody else <SessionState {'user': 'somebody else'}>"
    assert [peer.messages for peer in peers] == [[expected], [expected]]
    assert simulation.failures == []


# -- the table ----------------------------------------------------------------------------------


def test_every_row_has_its_check_and_every_check_its_row() -> None:
    assert rows_of_the_document() == list(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_row(name: str) -> None:
    CHECKS[name]()
