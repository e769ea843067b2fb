"""Class views: what is called when, who has to close, and which classes are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from driver import Cancelled, Foreign, Simulation
from wireroom.core import (
    App,
    ConfigurationError,
    HandlerFailed,
    SessionClosedError,
    WebSocketView,
)

Calls = list[tuple[str, object]]


class Recorder(WebSocketView):
    """Overrides nothing but what it has to, to say what was called."""

    calls: Calls

    def __init__(self) -> None:
        self.calls.append(("init", None))

    async def on_receive(self, data: Any) -> None:
        self.calls.append(("receive", data))

    async def on_disconnect(self, close_code: int) -> None:
        self.calls.append(("disconnect", int(close_code)))
        await super().on_disconnect(close_code)


def recorder(**members: Any) -> type[Recorder]:
    """A class of its own for each test."""
    return type("View", (Recorder,), {"calls": [], **members})


def serve(view: type[WebSocketView], **settings: Any) -> Simulation:
    app = App()
    assert app.view("/", **settings)(view) is view
    return Simulation(app)


def only_failure(simulation: Simulation) -> str:
    (error,) = simulation.failures
    return f"{type(error).__name__}: {error}"


# -- what is called when ------------------------------------------------------------------------


def test_a_view_that_overrides_nothing_accepts_listens_and_closes() -> None:
    class Nothing(WebSocketView):
        """As it comes."""

    simulation = serve(Nothing)
    peer = simulation.open("/")
    assert peer.status() == 101
    peer.send("a", b"b")
    assert peer.messages == []
    peer.close(4001)
    assert (peer.close_code(), simulation.failures) == (4001, [])
    assert simulation.hub.stats().invocations == 0


def test_the_methods_are_called_in_order_and_the_end_is_told_once() -> None:
    view = recorder()
    peer = serve(view).open("/")
    peer.send("a", b"b")
    peer.close(4001)
    assert view.calls == [("init", None), ("receive", "a"), ("receive", b"b"), ("disconnect", 4001)]


def test_what_was_sent_before_a_close_is_received_before_the_end() -> None:
    gate = Foreign()

    async def on_receive(self: Recorder, data: Any) -> None:
        await gate
        self.calls.append(("receive", data))

    view = recorder(on_receive=on_receive)
    simulation = serve(view)
    peer = simulation.open("/")
    peer.send("a")
    peer.send("b")
    peer.close(4001)
    assert view.calls == [("init", None)]
    simulation.complete(gate)
    simulation.complete(gate)
    assert view.calls[1:] == [("receive", "a"), ("receive", "b"), ("disconnect", 4001)]


def test_each_connection_has_its_own_instance() -> None:
    class Counter(WebSocketView):
        """Keeps what it needs in itself."""

        def __init__(self) -> None:
            self.count = 0

        async def on_receive(self, data: Any) -> None:
            self.count += 1
            await self.websocket.send_json([data, self.count, self.websocket.path])

    simulation = serve(Counter)
    ann, bob = simulation.open("/"), simulation.open("/")
    ann.send("a", "a")
    bob.send("b")
    assert ann.messages == ['["a",1,"/"]', '["a",2,"/"]']
    assert bob.messages == ['["b",1,"/"]']


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda peer: peer.lose(), 1006),
        (lambda peer: peer.send_eof(), 1006),
        (lambda peer: peer.send_raw(b"\x88\x80\0\0\0\0"), 1005),
        (lambda peer: peer.send_raw(b"\xff" * 8), 1002),
        (lambda peer: peer.close(1000), 1000),
    ],
)
def test_however_it_ends_the_code_is_told(end: Callable[[Any], None], code: int) -> None:
    view = recorder()
    simulation = serve(view)
    end(simulation.open("/"))
    assert view.calls == [("init", None), ("disconnect", code)]
    assert simulation.failures == []


def test_a_view_that_closes_hears_of_its_own_code() -> None:
    async def on_receive(self: Recorder, data: Any) -> None:
        await self.websocket.close(4002, "enough")

    view = recorder(on_receive=on_receive)
    simulation = serve(view)
    peer = simulation.open("/")
    peer.send("a", "b")
    assert peer.close_code() == 4002
    assert view.calls[1:] == [("disconnect", 4002)]
    assert simulation.failures == []


def test_the_subprotocols_are_those_of_the_view() -> None:
    peer = serve(recorder(), subprotocols=["v2", "v1"]).open("/", subprotocols=("v1", "v2"))
    assert peer.accepted is not None
    assert peer.accepted.subprotocol == "v2"


def test_the_origins_are_those_of_the_view() -> None:
    simulation = serve(recorder(), origins=["https://good.example"])
    good = simulation.open("/", headers=((b"Origin", b"https://good.example"),))
    evil = simulation.open("/", headers=((b"Origin", b"https://evil.example"),))
    assert (good.status(), evil.status()) == (101, 403)


# -- encoding -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "message", "data"),
    [
        ("anystr", "text", "text"),
        ("anystr", b"bytes", b"bytes"),
        ("anystr", "", ""),
        ("text", "text", "text"),
        ("text", b"bytes", None),
        ("bytes", b"bytes", b"bytes"),
        ("bytes", b"", b""),
        ("bytes", "text", None),
        ("json", '{"a": [1, null]}', {"a": [1, None]}),
        ("json", b"[true]", [True]),
        ("json", "{", None),
        ("json", "", None),
        ("json", b"\xff", None),
        ("json", b'"\xff"', None),
        ("json", "NaN", None),
        ("json", "[" * 100_000, None),
    ],
)
def test_what_does_not_fit_the_encoding_closes_with_1003(
    encoding: str, message: str | bytes, data: object
) -> None:
    view = recorder(encoding=encoding)
    simulation = serve(view)
    peer = simulation.open("/")
    peer.send(message)
    fits = data is not None
    assert peer.close_code() == (None if fits else 1003)
    assert view.calls[1:] == [("receive", data) if fits else ("disconnect", 1003)]
    assert simulation.failures == []  # it is the peer's mistake


def test_json_null_is_a_value() -> None:
    view = recorder(encoding="json")
    serve(view).open("/").send("null")
    assert view.calls[1:] == [("receive", None)]


# -- who has to accept --------------------------------------------------------------------------


def test_an_overridden_on_connect_accepts_itself() -> None:
    async def on_connect(self: Recorder) -> None:
        await self.websocket.accept("v1", {"X-Seen": "yes"})
        await self.websocket.send_text("welcome")

    peer = serve(recorder(on_connect=on_connect)).open("/", subprotocols=("v1",))
    assert peer.accepted is not None
    assert peer.accepted.subprotocol == "v1"
    assert (b"x-seen", b"yes") in list(peer.accepted.extra_headers)
    assert peer.messages == ["welcome"]


def test_an_overridden_on_connect_that_decides_nothing_is_a_mistake_that_is_named() -> None:
    async def on_connect(self: Recorder) -> None:
        self.calls.append(("connect", None))

    view = recorder(on_connect=on_connect)
    simulation = serve(view)
    peer = simulation.open("/")
    assert peer.status() == 500
    failure = only_failure(simulation)
    assert "View.on_connect must call accept(), reject() or close()" in failure
    assert view.calls == [("init", None), ("connect", None), ("disconnect", 1011)]


@pytest.mark.parametrize(("verb", "status"), [("close", 403), ("reject", 403)])
def test_an_overridden_on_connect_may_refuse(verb: str, status: int) -> None:
    async def on_connect(self: Recorder) -> None:
        await getattr(self.websocket, verb)()

    view = recorder(on_connect=on_connect)
    simulation = serve(view)
    peer = simulation.open("/")
    assert (peer.status(), simulation.failures) == (status, [])
    assert view.calls == [("init", None), ("disconnect", 1006)]


@pytest.mark.parametrize("accepted", [False, True])
def test_an_on_connect_that_raises_ends_with_500_or_1011(accepted: bool) -> None:
    async def on_connect(self: Recorder) -> None:
        if accepted:
            await self.websocket.accept()
        raise KeyError("on purpose")

    view = recorder(on_connect=on_connect)
    simulation = serve(view)
    peer = simulation.open("/")
    assert only_failure(simulation) == "KeyError: 'on purpose'"
    assert (peer.status(), peer.close_code()) == ((101, 1011) if accepted else (500, None))
    assert view.calls == [("init", None), ("disconnect", 1011)]


# -- who has to close ---------------------------------------------------------------------------


async def fail(self: Recorder, data: Any) -> None:
    raise KeyError("on purpose")


def test_the_default_on_disconnect_closes_with_1011_when_a_method_raised() -> None:
    class View(WebSocketView):
        """Fails."""

        async def on_receive(self, data: Any) -> None:
            raise KeyError("on purpose")

    simulation = serve(View)
    peer = simulation.open("/")
    peer.send("a", "b")
    assert peer.close_code() == 1011
    (failed,) = simulation.said(HandlerFailed)
    assert failed.handler.endswith("View")
    assert only_failure(simulation) == "KeyError: 'on purpose'"
    assert not hasattr(failed.error, "__notes__")


def test_an_overridden_on_disconnect_closes_as_it_likes() -> None:
    async def on_disconnect(self: Recorder, close_code: int) -> None:
        self.calls.append(("disconnect", int(close_code)))
        await self.websocket.send_text("sorry")
        await self.websocket.close(4500, "sorry")

    view = recorder(on_receive=fail, on_disconnect=on_disconnect)
    peer = serve(view).open("/")
    peer.send("a")
    assert peer.messages == ["sorry"]
    assert peer.close_code() == 4500
    assert view.calls[1:] == [("disconnect", 1011)]


def test_an_overridden_on_disconnect_that_leaves_it_open_is_named_in_the_failure() -> None:
    async def on_disconnect(self: Recorder, close_code: int) -> None: ...

    simulation = serve(recorder(on_receive=fail, on_disconnect=on_disconnect))
    peer = simulation.open("/")
    peer.send("a")
    assert peer.close_code() == 1011  # the hub leaves nothing open
    (error,) = simulation.failures
    (note,) = error.__notes__
    assert "on_disconnect must call close(), and did not" in note


@pytest.mark.parametrize("end", ["lose", "send_eof", "close"])
def test_an_overridden_on_disconnect_may_close_with_the_code_it_was_given(end: str) -> None:
    async def on_disconnect(self: Recorder, close_code: int) -> None:
        self.calls.append(("disconnect", int(close_code)))
        await self.websocket.close(close_code)  # even one that could not be sent

    view = recorder(on_disconnect=on_disconnect)
    simulation = serve(view)
    getattr(simulation.open("/"), end)()
    assert view.calls[1:] == [("disconnect", 1000 if end == "close" else 1006)]
    assert simulation.failures == []


def test_an_on_disconnect_that_raises_is_reported() -> None:
    async def on_disconnect(self: Recorder, close_code: int) -> None:
        raise ValueError(close_code)

    simulation = serve(recorder(on_disconnect=on_disconnect))
    peer = simulation.open("/")
    peer.close(4001)
    assert peer.close_code() == 4001
    assert only_failure(simulation) == "ValueError: 4001"


def test_sending_to_who_has_gone_is_no_failure_and_the_code_is_the_peers() -> None:
    gate = Foreign()

    async def on_receive(self: Recorder, data: Any) -> None:
        await gate
        with pytest.raises(SessionClosedError):
            self.websocket.send("too late")
        await self.websocket.send_text("too late")

    view = recorder(on_receive=on_receive)
    simulation = serve(view)
    peer = simulation.open("/")
    peer.send("a")
    peer.lose()
    assert view.calls == [("init", None)]
    simulation.complete(gate)
    assert view.calls[1:] == [("disconnect", 1006)]
    assert simulation.failures == []


def test_one_that_is_cancelled_still_hears_of_the_end() -> None:
    gate = Foreign()

    async def on_receive(self: Recorder, data: Any) -> None:
        try:
            await gate
        except Cancelled:
            self.calls.append(("cancelled", None))
            raise

    view = recorder(on_receive=on_receive)
    simulation = serve(view)
    peer = simulation.open("/")
    peer.send("a")
    peer.lose()
    simulation.advance(simulation.hub.limits.close_timeout_s + 1)
    assert view.calls[1:] == [("cancelled", None), ("disconnect", 1006)]
    assert (simulation.failures, simulation.hub.stats().invocations) == ([], 0)


def test_one_that_is_thrown_away_awaits_nothing() -> None:
    gate = Foreign()

    async def on_connect(self: Recorder) -> None:
        await gate

    view = recorder(on_connect=on_connect)
    simulation = serve(view)
    simulation.open("/")
    (invocation,) = simulation.running
    with pytest.raises(GeneratorExit):
        invocation.coroutine.throw(GeneratorExit())  # as a loop that ends does
    assert view.calls == [("init", None)]


# -- registration -------------------------------------------------------------------------------


class _PlainConnect(WebSocketView):
    def on_connect(self) -> None: ...  # type: ignore[override]  # on purpose


class _PlainReceive(WebSocketView):
    def on_receive(self, data: Any) -> None: ...  # type: ignore[override]  # on purpose


class _PlainDisconnect(WebSocketView):
    def on_disconnect(self, close_code: int) -> None: ...  # type: ignore[override]  # on purpose


class _TooMany(WebSocketView):
    async def on_receive(self, data: Any, more: Any) -> None: ...  # type: ignore[override]


class _Generator(WebSocketView):
    async def on_receive(self, data: Any) -> Any:
        yield data


class _WrongEncoding(WebSocketView):
    encoding = "utf-8"  # type: ignore[assignment]  # on purpose


class _NeedsArguments(WebSocketView):
    def __init__(self, what: str) -> None: ...


class _NoView:
    async def on_receive(self, data: Any) -> None: ...


async def _function(ws: object) -> None: ...


@pytest.mark.parametrize(
    ("view", "where", "problem"),
    [
        (_PlainConnect, "_PlainConnect.on_connect", "must be async def"),
        (_PlainReceive, "_PlainReceive.on_receive", "must be async def"),
        (_PlainDisconnect, "_PlainDisconnect.on_disconnect", "must be async def"),
        (_TooMany, "_TooMany.on_receive", "must take (self, data)"),
        (_Generator, "_Generator.on_receive", "not a generator"),
        (_WrongEncoding, "_WrongEncoding.encoding", "must be one of anystr, text, bytes, json"),
        (_NeedsArguments, "_NeedsArguments", "without arguments"),
        (_NoView, "_NoView", "must be a subclass of WebSocketView"),
        (_function, "_function", "must be a subclass of WebSocketView"),
        (WebSocketView(), "WebSocketView object", "must be a subclass of WebSocketView"),
    ],
)
def test_a_class_that_cannot_work_is_refused_by_name(view: Any, where: str, problem: str) -> None:
    app = App()
    with pytest.raises(ConfigurationError) as raised:
        app.view("/chat")(view)
    assert raised.value.setting.startswith("view /chat: ")
    assert where in raised.value.setting
    assert problem in str(raised.value)
    assert list(app.modules) == []


def test_a_class_where_a_function_belongs_is_shown_the_way() -> None:
    with pytest.raises(ConfigurationError, match=r"app\.view\(path\)"):
        App().websocket("/")(Recorder)  # type: ignore[type-var]  # on purpose


def test_a_path_is_taken_once() -> None:
    app = App()
    app.view("/chat")(recorder())
    with pytest.raises(ConfigurationError, match="matches the same paths"):
        app.websocket("/chat")(_function)
