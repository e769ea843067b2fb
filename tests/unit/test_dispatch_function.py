"""Functions: what one `async def` a connection can ask, wish and await."""

from __future__ import annotations

import pytest

from driver import Foreign, Simulation
from wireroom.core import (
    App,
    ConfigurationError,
    HandlerFailed,
    LocalProtocolError,
    SessionClosedError,
    WebSocket,
)
from wireroom.core.dispatch.function import WebSocketHandler


def serve(handler: WebSocketHandler, path: str = "/") -> Simulation:
    app = App()
    app.websocket(path, subprotocols=["chat"])(handler)
    return Simulation(app)


def only_failure(simulation: Simulation) -> str:
    (error,) = simulation.failures
    return f"{type(error).__name__}: {error}"


def test_a_function_must_be_async_and_take_one_argument() -> None:
    def plain(ws: WebSocket) -> None: ...
    async def too_many(ws: WebSocket, more: object) -> None: ...

    with pytest.raises(ConfigurationError, match="async def"):
        App().websocket("/")(plain)  # type: ignore[type-var]  # on purpose
    with pytest.raises(ConfigurationError, match="must take"):
        App().websocket("/")(too_many)  # type: ignore[type-var]  # on purpose


def test_it_sees_the_request() -> None:
    seen: list[object] = []

    async def handler(ws: WebSocket) -> None:
        seen.extend([ws.path, ws.path_params, ws.query_params["q"], ws.headers["x-one"]])
        seen.extend([ws.cookies, ws.client, ws.request.method, ws.is_connected])
        ws.accept("chat")
        seen.extend([ws.is_connected, ws.subprotocol])

    simulation = serve(handler, "/caf%C3%A9/{n:int}".replace("%C3%A9", "é"))
    peer = simulation.connect()
    peer.open(
        "/caf%C3%A9/7?q=1",
        subprotocols=("other", "chat"),
        headers=((b"X-One", b"1"), (b"Cookie", b"a=b; c=d")),
    )
    address = ("10.0.0.1", 4000)
    assert seen[:4] == ["/café/7", {"n": 7}, "1", "1"]
    assert seen[4:8] == [{"a": "b", "c": "d"}, address, "GET", False]
    assert seen[8:] == [True, "chat"]


def test_it_receives_until_the_end_and_then_none() -> None:
    received: list[object] = []

    async def handler(ws: WebSocket) -> None:
        ws.accept()
        received.extend([message async for message in ws])
        received.append(await ws.receive())
        received.append(ws.close_code)

    peer = serve(handler).open("/")
    peer.send("a", b"b")
    peer.send("c")
    peer.close(4321)
    assert received == ["a", b"b", "c", None, 4321]
    assert peer.close_code() == 4321


def test_send_has_a_form_for_each_kind() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send("text")
        await ws.send(b"bytes")
        await ws.send({"a": 1})
        await ws.send_text("text")
        await ws.send_bytes(b"bytes")
        await ws.send_json("text")

    peer = serve(handler).open("/")
    assert peer.messages == ["text", b"bytes", '{"a":1}', "text", b"bytes", '"text"']
    assert peer.close_code() == 1000


def test_receive_has_a_form_for_each_kind() -> None:
    received: list[object] = []

    async def handler(ws: WebSocket) -> None:
        ws.accept()
        received.extend([await ws.receive_text(), await ws.receive_bytes()])
        received.extend([await ws.receive_json(), await ws.receive_json()])

    peer = serve(handler).open("/")
    peer.send("text", b"bytes", '{"a":1}', b"[2]")
    assert received == ["text", b"bytes", {"a": 1}, [2]]


@pytest.mark.parametrize(("method", "message"), [("receive_text", b"b"), ("receive_bytes", "t")])
def test_the_wrong_kind_closes_with_1003(method: str, message: str | bytes) -> None:
    async def handler(ws: WebSocket) -> None:
        ws.accept()
        await getattr(ws, method)()

    simulation = serve(handler)
    peer = simulation.open("/")
    peer.send(message)
    assert peer.close_code() == 1003
    assert simulation.failures == []  # it is the peer's mistake


def test_what_is_no_json_is_a_value_error() -> None:
    caught: list[ValueError] = []

    async def handler(ws: WebSocket) -> None:
        ws.accept()
        try:
            await ws.receive_json()
        except ValueError as error:
            caught.append(error)

    serve(handler).open("/").send("no json")
    assert len(caught) == 1


def test_receiving_typed_after_the_end_raises_with_the_code() -> None:
    caught: list[SessionClosedError] = []

    async def handler(ws: WebSocket) -> None:
        ws.accept()
        for receive in (ws.receive_text, ws.receive_bytes, ws.receive_json):
            with pytest.raises(SessionClosedError) as raised:
                await receive()
            caught.append(raised.value)

    serve(handler).open("/").close(4001, "why")
    assert [(error.code, error.reason) for error in caught] == [(4001, "why")] * 3


def test_receiving_before_accepting_is_a_mistake() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.receive()

    simulation = serve(handler)
    peer = simulation.open("/")
    assert "accept() the handshake before" in only_failure(simulation)
    assert peer.status() == 500


def test_sending_before_accepting_is_a_mistake() -> None:
    async def handler(ws: WebSocket) -> None:
        ws.send("early")

    simulation = serve(handler)
    simulation.open("/")
    assert "accept it first" in only_failure(simulation)


def test_accepting_twice_is_a_mistake() -> None:
    async def handler(ws: WebSocket) -> None:
        ws.accept()
        with pytest.raises(LocalProtocolError, match="accepted already"):
            ws.accept()
        with pytest.raises(LocalProtocolError, match="accepted already"):
            ws.reject()

    simulation = serve(handler)
    assert simulation.open("/").close_code() == 1000
    assert simulation.failures == []


def test_a_subprotocol_that_was_not_offered_is_a_mistake_that_can_be_mended() -> None:
    async def handler(ws: WebSocket) -> None:
        with pytest.raises(LocalProtocolError, match="did not offer"):
            ws.accept("chat")
        ws.accept()

    simulation = serve(handler)
    peer = simulation.open("/", subprotocols=("other",))
    assert peer.accepted is not None
    assert peer.accepted.subprotocol is None


def test_reject_answers_with_any_response() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.reject(418, "no coffee", {"X-Why": "teapot"})

    peer = serve(handler).open("/")
    assert peer.rejected is not None
    assert peer.rejected.status_code == 418
    assert (b"x-why", b"teapot") in list(peer.rejected.headers)
    assert peer.body == b"no coffee"


def test_close_before_accepting_refuses() -> None:
    async def handler(ws: WebSocket) -> None:
        ws.close()

    peer = serve(handler).open("/")
    assert peer.status() == 403


def test_after_a_refusal_everything_raises_what_has_happened() -> None:
    raised: list[str] = []

    async def handler(ws: WebSocket) -> None:
        ws.reject()
        for wish in (ws.accept, ws.reject, lambda: ws.send("x"), lambda: ws.join("x")):
            with pytest.raises(SessionClosedError) as caught:
                wish()
            raised.append(str(caught.value))
        assert await ws.receive() is None

    simulation = serve(handler)
    simulation.open("/")
    assert simulation.failures == []
    assert len(raised) == 4
    assert not any("not open yet" in each for each in raised)


def test_rooms_and_state_are_the_sessions() -> None:
    async def handler(ws: WebSocket) -> None:
        ws.accept(user="somebody")
        ws.state.number = 7
        assert ws.join("room")
        assert len(ws.room("room")) == 1
        ws.room("room").broadcast([ws.session.user, ws.session.state.number])
        assert ws.leave("room")

    simulation = serve(handler)
    assert simulation.open("/").messages == ['["somebody",7]']
    assert simulation.failures == []


def test_sleep_is_by_the_hubs_clock() -> None:
    async def handler(ws: WebSocket) -> None:
        ws.accept()
        await ws.sleep(5.0)
        ws.send("awake")

    simulation = serve(handler)
    peer = simulation.open("/")
    simulation.advance(4.9)
    assert peer.messages == []
    simulation.advance(0.1)
    assert peer.messages == ["awake"]


def test_a_function_that_returns_without_accepting_refuses_with_403() -> None:
    async def handler(ws: WebSocket) -> None: ...

    simulation = serve(handler)
    peer = simulation.open("/")
    assert peer.status() == 403
    assert simulation.failures == []


@pytest.mark.parametrize("accepted", [False, True])
def test_a_function_that_raises_ends_with_500_or_1011_and_is_reported(accepted: bool) -> None:
    async def handler(ws: WebSocket) -> None:
        if accepted:
            ws.accept()
        raise KeyError("on purpose")

    simulation = serve(handler)
    peer = simulation.open("/")
    if accepted:
        assert peer.close_code() == 1011
    else:
        assert peer.status() == 500
    (failed,) = simulation.said(HandlerFailed)
    assert failed.handler.endswith("handler")
    assert b"on purpose" not in bytes(peer.received)


def test_sending_to_who_has_gone_is_nobodys_failure_but_other_mistakes_are() -> None:
    gate = Foreign()

    async def handler(ws: WebSocket) -> None:
        ws.accept()
        await gate
        if ws.path == "/send":
            ws.send("too late")
        raise ValueError("a mistake")

    simulation = serve(handler, "/{name}")
    for path in ("/send", "/raise"):
        simulation.open(path).lose()
    simulation.complete(gate)
    assert only_failure(simulation) == "ValueError: a mistake"
    assert simulation.hub.stats().invocations == 0
