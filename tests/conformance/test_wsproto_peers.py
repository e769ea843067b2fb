"""In memory: wsproto's client against our server, and our client against wsproto's server.

The other side is somebody else's code, there is no socket and no loop, and every stream goes
whole and byte by byte.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.extensions import Extension, PerMessageDeflate

from framings import CUTS, ENGINES, Cut, whole
from wireroom.core import (
    App,
    ClientConnection,
    CloseReceived,
    Deflate,
    Disconnect,
    Hub,
    Limits,
    Opened,
    PingReceived,
    PongReceived,
    Refused,
    ResumeReading,
    Session,
    SessionClosed,
    ShutdownWrite,
    Violation,
)
from wireroom.core.wire.client import ClientEvent
from wireroom.core.wire.engines import EngineName
from wireroom.core.wire.states import State

MESSAGES: Final[list[str | bytes]] = [
    "",
    b"",
    "hello",
    "grüße € \U0001f600",
    b"\x00\xff" * 60,
    "the same again, the same again, the same again",
    "the same again, the same again, the same again",
    bytes(range(256)) * 2,
]
SETTINGS: Final = {
    "plain": None,
    "default": Deflate(),
    "takeover": Deflate(
        server_no_context_takeover=False, client_no_context_takeover=False, threshold_bytes=0
    ),
    "narrow": Deflate(server_max_window_bits=9, client_max_window_bits=9, memory_level=1),
}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> EngineName:
    chosen: EngineName = request.param
    return chosen


@pytest.fixture(params=CUTS, ids=lambda cut: cut.__name__)
def cut(request: pytest.FixtureRequest) -> Cut:
    chosen: Cut = request.param
    return chosen


@pytest.fixture(params=SETTINGS)
def deflate(request: pytest.FixtureRequest) -> Deflate | None:
    return SETTINGS[request.param]


def extensions(deflate: Deflate | None) -> list[Extension]:
    return [] if deflate is None else [PerMessageDeflate()]


class Messages:
    """Puts wsproto's pieces of messages together."""

    def __init__(self) -> None:
        self.whole: list[str | bytes] = []
        self._text: list[str] = []
        self._data: list[bytes] = []

    def add(self, event: Event) -> str | bytes | None:
        """The message that this event completes, or None."""
        message: str | bytes | None = None
        if isinstance(event, TextMessage):
            self._text.append(event.data)
            if event.message_finished:
                message = "".join(self._text)
                self._text.clear()
        elif isinstance(event, BytesMessage):
            self._data.append(bytes(event.data))
            if event.message_finished:
                message = b"".join(self._data)
                self._data.clear()
        if message is not None:
            self.whole.append(message)
        return message


# -- wsproto's client and our server -------------------------------------------------------------


class EchoServer:
    """A hub that echoes, driven by hand: an input, then a full drain."""

    def __init__(
        self, engine: EngineName, deflate: Deflate | None, limits: Limits | None = None
    ) -> None:
        app = App(framing=engine, deflate=deflate, limits=limits)
        module = app.module("/echo", subprotocols=("echo",))

        @module.on_message
        def echo(session: Session, message: str | bytes) -> None:
            session.send(message)

        self.hub = Hub(app)
        self.fd = self.hub.connect(("10.0.0.1", 4000), now=0.0)
        self.outputs: list[object] = []

    def receive(self, reads: list[bytes]) -> bytes:
        """What the server sends for these reads."""
        sent = []
        for data in reads:
            self.hub.receive_data(self.fd, data, now=1.0)
            sent += self._drain()
        return b"".join(sent)

    def _drain(self) -> list[bytes]:
        sent: list[bytes] = []
        drained = False
        while not drained:
            fds = self.hub.fds_to_send()
            sent += [each for fd in fds for each in self.hub.data_to_send(fd)]
            drained = True
            while (output := self.hub.next_output()) is not None:
                drained = False
                self.outputs.append(output)
                if isinstance(output, ResumeReading):
                    self.hub.receive_data(self.fd, b"", now=1.0)
        return sent

    def closed(self) -> list[int]:
        """The codes of the sessions that have closed."""
        return [each.code for each in self.outputs if isinstance(each, SessionClosed)]


class Client:
    """wsproto's client, connected to an `EchoServer`."""

    def __init__(
        self, server: EchoServer, cut: Cut, extensions: list[Extension], path: str = "/echo"
    ) -> None:
        self._server = server
        self._cut = cut
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self.events: list[Event] = []
        self.messages = Messages()
        self.send(Request(host="a.example", target=path, extensions=extensions))

    @property
    def state(self) -> ConnectionState:
        return self._protocol.state

    def send(self, *events: Event) -> None:
        """Send these in one go, and take the answers."""
        data = b"".join(self._protocol.send(event) for event in events)
        for piece in self._cut(self._server.receive(self._cut(data))):
            self._protocol.receive_data(piece)
            for event in self._protocol.events():
                self.messages.add(event)
                self.events.append(event)

    def seen(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def test_wsprotos_client_opens_a_session(
    engine: EngineName, deflate: Deflate | None, cut: Cut
) -> None:
    client = Client(EchoServer(engine, deflate), cut, extensions(deflate))
    (accepted,) = client.events
    assert isinstance(accepted, AcceptConnection)
    assert [each.name for each in accepted.extensions] == [
        each.name for each in extensions(deflate)
    ]


def test_our_server_echoes_to_wsprotos_client(
    engine: EngineName, deflate: Deflate | None, cut: Cut
) -> None:
    client = Client(EchoServer(engine, deflate), cut, extensions(deflate))
    client.send(*map(_message, MESSAGES))
    for message in MESSAGES:
        client.send(_message(message))
    assert client.messages.whole == MESSAGES * 2


def test_our_server_echoes_long_messages(engine: EngineName, deflate: Deflate | None) -> None:
    client = Client(EchoServer(engine, deflate), whole, extensions(deflate))
    message = bytes(range(256)) * 4000
    client.send(BytesMessage(data=message), TextMessage(data="ü" * 70_000))
    assert client.messages.whole == [message, "ü" * 70_000]


def test_our_server_echoes_what_comes_in_fragments(
    engine: EngineName, deflate: Deflate | None, cut: Cut
) -> None:
    client = Client(EchoServer(engine, deflate), cut, extensions(deflate))
    client.send(
        TextMessage(data="grü", message_finished=False),
        TextMessage(data="", message_finished=False),
        TextMessage(data="ße", message_finished=True),
        BytesMessage(data=b"\x00" * 300, message_finished=False),
        BytesMessage(data=b"\xff" * 300, message_finished=True),
    )
    assert client.messages.whole == ["grüße", b"\x00" * 300 + b"\xff" * 300]


def test_our_server_answers_pings_also_between_fragments(
    engine: EngineName, deflate: Deflate | None, cut: Cut
) -> None:
    client = Client(EchoServer(engine, deflate), cut, extensions(deflate))
    client.send(
        Ping(payload=b"1"),
        TextMessage(data="a", message_finished=False),
        Ping(payload=b"2"),
        Pong(payload=b"never asked for"),
        TextMessage(data="b", message_finished=True),
    )
    pongs = [bytes(event.payload) for event in client.seen(Pong) if isinstance(event, Pong)]
    assert pongs == [b"1", b"2"]
    assert client.messages.whole == ["ab"]


@pytest.mark.parametrize(("code", "answer"), [(1000, 1000), (4321, 4321), (1001, 1001)])
def test_our_server_answers_wsprotos_close(
    engine: EngineName, deflate: Deflate | None, cut: Cut, code: int, answer: int
) -> None:
    server = EchoServer(engine, deflate)
    client = Client(server, cut, extensions(deflate))
    client.send(TextMessage(data="last"), CloseConnection(code=code, reason="bye"))
    assert client.messages.whole == ["last"]
    (close,) = client.seen(CloseConnection)
    assert isinstance(close, CloseConnection)
    assert close.code == answer
    assert client.state is ConnectionState.CLOSED
    assert server.closed() == [code]
    assert any(isinstance(each, Disconnect | ShutdownWrite) for each in server.outputs)


def test_our_server_closes_and_wsprotos_client_answers(engine: EngineName, cut: Cut) -> None:
    server = EchoServer(engine, None)
    client = Client(server, cut, [])
    session = server.hub.session(server.fd)
    assert session is not None
    session.close(1012, "restart")
    client.send(TextMessage(data="crosses the close"))
    (close,) = client.seen(CloseConnection)
    assert isinstance(close, CloseConnection)
    assert (close.code, close.reason) == (1012, "restart")
    assert client.state is ConnectionState.REMOTE_CLOSING
    client.send(close.response())
    assert server.closed() == [1012]
    assert client.messages.whole == []


def test_wsprotos_client_is_told_why_a_message_was_too_big(engine: EngineName, cut: Cut) -> None:
    server = EchoServer(engine, Deflate(), Limits(message_bytes_max=1000))
    client = Client(server, cut, [PerMessageDeflate()])
    client.send(TextMessage(data="a" * 1000), TextMessage(data="a" * 1001))
    assert client.messages.whole == ["a" * 1000]
    (close,) = client.seen(CloseConnection)
    assert isinstance(close, CloseConnection)
    assert close.code == 1009
    assert server.closed() == [1009]


def test_wsprotos_client_is_refused(engine: EngineName, cut: Cut) -> None:
    client = Client(EchoServer(engine, None), cut, [], path="/nowhere")
    (rejected,) = client.seen(RejectConnection)
    assert isinstance(rejected, RejectConnection)
    assert rejected.status_code == 404
    body = b"".join(
        event.data for event in client.seen(RejectData) if isinstance(event, RejectData)
    )
    assert b"nothing at this path" in body


def _message(message: str | bytes) -> TextMessage | BytesMessage:
    return TextMessage(data=message) if isinstance(message, str) else BytesMessage(data=message)


# -- our client and wsproto's server -------------------------------------------------------------


class WsprotoServer:
    """wsproto's server: accepts, echoes, answers Pings and Closes."""

    def __init__(self, accept: Callable[[], Event]) -> None:
        self._accept = accept
        self._protocol = WSConnection(ConnectionType.SERVER)
        self._messages = Messages()
        self.pongs: list[bytes] = []
        self.close: CloseConnection | None = None

    def receive(self, reads: list[bytes]) -> bytes:
        """What the server sends for these reads."""
        sent = b""
        for data in reads:
            self._protocol.receive_data(data)
            for event in self._protocol.events():
                sent += b"".join(self._protocol.send(each) for each in self._answer(event))
        return sent

    def send(self, *events: Event) -> bytes:
        return b"".join(self._protocol.send(event) for event in events)

    def _answer(self, event: Event) -> list[Event]:
        if isinstance(event, Request):
            return [self._accept()]
        if isinstance(event, Ping):
            return [event.response()]
        if isinstance(event, Pong):
            self.pongs.append(bytes(event.payload))
        if isinstance(event, CloseConnection):
            self.close = event
            closing = self._protocol.state is ConnectionState.REMOTE_CLOSING
            return [event.response()] if closing else []
        message = self._messages.add(event)
        return [] if message is None else [_message(message)]


class Connected:
    """Our client, connected to wsproto's server."""

    def __init__(
        self, engine: EngineName, deflate: Deflate | None, cut: Cut, accept: Callable[[], Event]
    ) -> None:
        self.server = WsprotoServer(accept)
        self._cut = cut
        self.client = ClientConnection(
            "ws://a.example/echo",
            random_bytes=os.urandom,
            subprotocols=["x", "echo"],
            deflate=deflate,
            framing=engine,
        )
        self.events: list[ClientEvent] = []
        self.exchange()

    def exchange(self, data: bytes = b"") -> None:
        """The server sends `data`; then both answer each other until nothing is left to say."""
        while True:
            for piece in self._cut(data):
                self.events += self.client.receive_data(piece)
            outgoing = self.client.data_to_send()
            if not outgoing:
                return
            data = self.server.receive(self._cut(outgoing))


def connected(engine: EngineName, deflate: Deflate | None, cut: Cut) -> Connected:
    made = Connected(
        engine,
        deflate,
        cut,
        lambda: AcceptConnection(subprotocol="echo", extensions=extensions(deflate)),
    )
    opened = made.events.pop(0)
    assert isinstance(opened, Opened)
    assert opened.subprotocol == "echo"
    assert ("sec-websocket-extensions" in opened.headers) == (deflate is not None)
    return made


def test_wsprotos_server_echoes_to_our_client(
    engine: EngineName, deflate: Deflate | None, cut: Cut
) -> None:
    both = connected(engine, deflate, cut)
    for message in MESSAGES:
        both.client.send(message)
    both.exchange()
    for message in MESSAGES:
        both.client.send(message)
        both.exchange()
    assert both.events == MESSAGES * 2


def test_our_client_and_wsprotos_server_ping_each_other(
    engine: EngineName, deflate: Deflate | None, cut: Cut
) -> None:
    both = connected(engine, deflate, cut)
    both.client.ping(b"ours")
    both.exchange()
    data = both.server.send(
        TextMessage(data="a", message_finished=False),
        Ping(payload=b"theirs"),
        TextMessage(data="b" * 100, message_finished=True),
    )
    both.exchange(data)
    assert both.events == [PongReceived(b"ours"), PingReceived(b"theirs"), "a" + "b" * 100]
    assert both.server.pongs == [b"theirs"]


def test_our_client_closes(engine: EngineName, deflate: Deflate | None, cut: Cut) -> None:
    both = connected(engine, deflate, cut)
    both.client.send("last")
    both.client.close(4000, "bye")
    both.exchange()
    assert both.events == ["last", CloseReceived(4000, "bye")]
    assert both.server.close == CloseConnection(code=4000, reason="bye")
    assert both.client.state is State.ENDING


def test_wsprotos_server_closes(engine: EngineName, deflate: Deflate | None, cut: Cut) -> None:
    both = connected(engine, deflate, cut)
    both.exchange(both.server.send(CloseConnection(code=1001, reason="going")))
    assert both.events == [CloseReceived(1001, "going")]
    assert both.server.close == CloseConnection(code=1001, reason="")
    assert both.client.state is State.ENDING


def test_wsprotos_server_refuses(engine: EngineName, cut: Cut) -> None:
    both = Connected(engine, None, cut, lambda: RejectConnection(status_code=403))
    (refused,) = both.events or both.client.receive_eof()
    assert isinstance(refused, Refused)
    assert refused.status == 403


def test_our_client_fails_an_extension_that_it_did_not_offer(engine: EngineName, cut: Cut) -> None:
    both = Connected(
        engine,
        None,
        cut,
        lambda: AcceptConnection(
            extra_headers=[(b"Sec-WebSocket-Extensions", b"permessage-deflate")]
        ),
    )
    (violation,) = both.events
    assert isinstance(violation, Violation)
    assert "not offered" in violation.reason
