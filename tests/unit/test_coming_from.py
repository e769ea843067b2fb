"""docs/coming-from.md, the sections on client handles, Swoft and the relay: each row by the name
that it has there. Its neighbour test_coming_from_kui.py has the section on kui."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from driver import Peer, Simulation
from examples import load_example
from sources import ROOT
from wireroom.core import (
    Accept,
    App,
    CommandDataParser,
    Context,
    Hub,
    JsonParser,
    Limits,
    MessagePackParser,
    Module,
    Parsed,
    Parser,
    PauseReading,
    RawParser,
    Reject,
    Request,
    Session,
    SessionClosedError,
    command,
    controller,
    current_context,
    current_session,
)
from wireroom.transports.discovery import discover

HANDLES: Final = "From client handles (Rust)"
SWOFT: Final = "From Swoft (PHP)"
RELAY: Final = "From the IM relay (Go)"

Test = Callable[..., None]

TESTED: Final[dict[str, list[str]]] = {HANDLES: [], SWOFT: [], RELAY: []}


def rows(section: str, *names: str) -> Callable[[Test], Test]:
    """This tests the rows of a section that have these names in their first column."""

    def register(test: Test) -> Test:
        TESTED[section] += names
        return test

    return register


@pytest.mark.parametrize("section", TESTED)
def test_every_row_is_tested_once(section: str) -> None:
    text = (ROOT / "docs" / "coming-from.md").read_text("utf-8")
    found = re.search(rf"^## {re.escape(section)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    cells = [line.split("|")[1].strip() for line in found[1].splitlines() if line[:1] == "|"]
    assert sorted(cells[2:]) == sorted(TESTED[section])


# -- client handles -----------------------------------------------------------------------------


def handles(count: int = 1, **limits: int) -> tuple[Simulation, list[Peer], list[Session]]:
    """Sessions of a module without handlers."""
    app = App(limits=Limits(**limits))
    app.module("/test/{name}")
    simulation = Simulation(app)
    peers = [simulation.open("/test/path?x=1") for _ in range(count)]
    return simulation, peers, [simulation.session(peer) for peer in peers]


@rows(HANDLES, "`server.get_client_handle(&client_id)`", "`server.get_all_client_handles()`")
def test_handles_from_the_hub() -> None:
    simulation, _, sessions = handles(2)
    assert simulation.hub.session(1) is sessions[0]
    assert simulation.hub.session(99) is None
    assert simulation.hub.sessions() == sessions


@rows(HANDLES, "`handle.client_id()`", "`handle.addr()`", "`handle.path_info()`")
def test_what_a_handle_knows() -> None:
    _, (peer,), (session,) = handles()
    assert session.fd == peer.fd == session.generation == 1
    assert session.address == ("10.0.0.1", 4000)
    assert (session.path, session.path_params) == ("/test/path", {"name": "path"})
    assert session.handshake.query_params["x"] == "1"
    assert "upgrade" in session.handshake.headers


@rows(
    HANDLES,
    "`handle.send_message(WsMessage::Text(text))`",
    "`handle.send_message(WsMessage::Binary(data))`",
    "`handle.send_message(WsMessage::Close)`",
    "`handle.is_connected()`",
)
def test_sending_by_a_handle() -> None:
    simulation, (peer,), (session,) = handles()
    connected: list[bool] = []

    async def send() -> None:
        await session.send("text")
        session.send(b"binary")
        session.send({"a": 1})
        connected.append(session.is_connected)
        session.close(4000, "enough")
        connected.append(session.is_connected)
        with pytest.raises(SessionClosedError):
            session.send("late")

    simulation.spawn(send())
    assert connected == [True, False]
    assert peer.messages == ["text", b"binary", '{"a":1}']
    assert peer.close_code() == 4000


@rows(
    HANDLES,
    "`handle.read_message()`",
    "`handle.try_read_message()`",
    "`WsMessage::Text(text)`, `WsMessage::Binary(data)`",
    "`WsMessage::Close`",
)
def test_reading_by_a_handle() -> None:
    simulation, (peer,), (session,) = handles()
    received: list[object] = []

    async def read() -> None:
        received.append(await session.receive())
        received.extend([message async for message in session])
        received.append(await session.receive())

    assert session.receive_nowait() is None
    peer.send("first", "text")
    assert session.receive_nowait() == "first"
    simulation.spawn(read())
    peer.send(b"binary")
    peer.close(4000, "bye")
    assert received == ["text", b"binary", None]
    assert (session.close_code, session.close_reason) == (4000, "bye")


@rows(HANDLES, "`handle.clone()`")
def test_holders_share_a_handle() -> None:
    simulation, (peer,), (session,) = handles()
    received: list[object] = []

    async def read() -> None:
        received.append(await session.receive())

    for _ in range(2):
        simulation.spawn(read())
    peer.send("a", "b")
    assert sorted(map(str, received)) == ["a", "b"]


@rows(
    HANDLES,
    "`on_connect_with_path(client_id, addr, path_info)`",
    "`broadcast_message(server, message)`",
    "`monitor_clients(server)`, a loop that sleeps 30 s",
)
def test_welcome_broadcast_and_heartbeat() -> None:
    app = App()
    module = app.module("/test/{name}")

    @module.on_open
    async def opened(session: Session) -> None:
        await session.send("welcome")

    @app.every(30)
    def monitor(hub: Hub) -> None:
        assert hub.broadcast("heartbeat") == 2

    simulation = Simulation(app)
    simulation.hub.start(now=0.0)
    peers = [simulation.open("/test/path") for _ in range(2)]
    assert simulation.hub.broadcast("news", exclude=[simulation.session(peers[1])]) == 1
    simulation.advance(30)
    assert [peer.messages for peer in peers] == [
        ["welcome", "news", "heartbeat"],
        ["welcome", "heartbeat"],
    ]


@rows(HANDLES, "the bound of a message channel")
def test_a_peer_that_is_ahead_is_not_read_from() -> None:
    simulation, (peer,), (session,) = handles(inbox_messages_max=4)
    peer.send(*map(str, range(20)))
    assert simulation.said(PauseReading)
    received = []
    while (message := session.receive_nowait()) is not None:
        received.append(message)
        simulation.settle()
    assert received == list(map(str, range(20)))


# -- Swoft --------------------------------------------------------------------------------------


class RoomController:
    @command("join")
    def enter(self, ctx: Context, data: dict[str, str]) -> dict[str, Any]:
        assert ctx.data is data
        assert current_context() is ctx
        assert current_session() is ctx.session
        return {"cmd": ctx.command, "fd": ctx.session.fd, **data}

    @command()
    def leave(self, ctx: Context) -> str:
        return ctx.command


def swoft(**options: Any) -> tuple[App, Module]:
    app = App()
    return app, app.module("/chat", **options)


@rows(
    SWOFT,
    '`@WsModule("/chat")`',
    "`controllers={RoomController::class}`",
    '`@MessageMapping("join")`',
    "`messageParser=JsonParser::class`",
    "`$message->getCmd()`",
    "`$message->getData()`",
    "the return value of a method",
    "`context()`",
    "`Session::current()`",
    "`$request->getFd()`",
)
def test_a_module_with_controllers() -> None:
    app, module = swoft(parser=JsonParser(key="cmd", data_key="data"))
    module.controller("room")(RoomController)
    module.controller("other")(RoomController())
    peer = Simulation(app).open("/chat")
    peer.send('{"cmd": "room.join", "data": {"room": "a"}}', '{"cmd": "other.leave"}')
    peer.send('{"cmd": "room.leave", "request_id": 7}')
    assert peer.messages == [
        '{"cmd":"room.join","fd":1,"room":"a"}',
        "other.leave",
        '{"cmd":"reply","request_id":7,"data":"room.leave"}',
    ]


@rows(SWOFT, '`@WsController("room")`', "the scan of `app/WebSocket`")
def test_controllers_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "coming_from_swoft"
    package.mkdir()
    (package / "__init__.py").write_text("from wireroom.core import Module\nm = Module('/chat')\n")
    (package / "rooms.py").write_text(
        "from wireroom.core import Context, command, controller\n\n"
        "@controller('room', path='/chat')\nclass Rooms:\n"
        "    @command()\n    def join(self, ctx: Context) -> str:\n        return ctx.command\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    app = App()
    try:
        discover(app, "coming_from_swoft")
    finally:
        for name in [name for name in sys.modules if name.startswith("coming_from_swoft")]:
            del sys.modules[name]
    peer = Simulation(app).open("/chat")
    peer.send('{"type": "room.join"}')
    assert peer.messages == ["room.join"]
    assert controller("room")(RoomController) is RoomController


class Shouted(Parser):
    """`COMMAND!data`"""

    def parse(self, message: Any) -> Parsed:
        name, _, data = message.partition("!")
        return Parsed(name.lower(), data)


@rows(
    SWOFT,
    "`messageParser=RawTextParser::class`",
    "`messageParser=TokenTextParser::class`",
    "`MessageParserInterface`",
    '`defaultCommand="home.index"`',
    "`defaultOpcode=WEBSOCKET_OPCODE_BINARY`",
)
@pytest.mark.parametrize(
    ("parser", "message", "reply"),
    [
        (RawParser(), "hello", ":hello"),
        (CommandDataParser(), "say:hello", "say:hello"),
        (Shouted(), "SAY!hello", "say:hello"),
    ],
)
def test_parsers_and_the_default_command(parser: Parser, message: str, reply: str) -> None:
    app, module = swoft(parser=parser)

    @module.default_command
    def index(ctx: Context, data: str) -> str:
        return f"{ctx.command}:{data}"

    peer = Simulation(app).open("/chat")
    peer.send(message)
    assert peer.messages == [reply]

    binary_app, binary = swoft(parser=MessagePackParser())
    binary.controller("room")(RoomController)
    peer = Simulation(binary_app).open("/chat")
    peer.send(msgspec.msgpack.encode({"type": "room.join", "room": "a"}))
    assert isinstance(peer.messages[0], bytes)


@rows(SWOFT, "`@OnHandshake`", "`@OnOpen`", "`@OnMessage`", "`@OnClose`", "handshake middleware")
def test_the_events_of_a_module() -> None:
    app, module = swoft()
    events: list[object] = []

    @module.handshake_middleware
    def around(request: Request, call_next: Callable[[], Any]) -> Any:
        events.append("handshake")
        return call_next()

    @module.on_handshake
    def check(request: Request) -> Accept | Reject | None:
        return None if "token" in request.query_params else Reject(401)

    @module.on_open
    def opened(session: Session) -> None:
        events.append("open")

    @module.on_message
    def on_message(session: Session, message: str | bytes) -> str | bytes:
        return message

    @module.on_close
    def closed(session: Session) -> None:
        events.append(session.close_code)

    simulation = Simulation(app)
    assert simulation.open("/chat").status() == 401
    peer = simulation.open("/chat?token=x")
    peer.send("hello")
    peer.close(4000)
    assert peer.messages == ["hello"]
    assert events == ["handshake", "handshake", "open", 4000]


@rows(SWOFT, "middleware of one controller or method")
def test_middleware_of_one_controller_or_method() -> None:
    app, module = swoft()

    def shout(ctx: Context, call_next: Callable[[], Any]) -> Any:
        return call_next().upper()

    module.controller("room", middleware=[shout])(RoomController)
    module.controller("other")(RoomController)

    @module.command("home.index", middleware=[shout])
    def index(ctx: Context) -> str:
        return "home"

    peer = Simulation(app).open("/chat")
    peer.send('{"type": "room.leave"}', '{"type": "other.leave"}', '{"type": "home.index"}')
    assert peer.messages == ["ROOM.LEAVE", "other.leave", "HOME"]


@rows(SWOFT, "message middleware", "an error handler")
def test_middleware_and_errors() -> None:
    app, module = swoft()

    @module.middleware
    def not_ping(ctx: Context, call_next: Callable[[], Any]) -> Any:
        return "pong" if ctx.command == "ping" else call_next()

    @module.default_command
    def fails(ctx: Context) -> None:
        raise ValueError("on purpose")

    @module.on_error
    def explain(session: Session, error: Exception) -> str:
        return f"sorry: {error}"

    peer = Simulation(app).open("/chat")
    peer.send('{"type": "ping"}', '{"type": "other"}')
    assert peer.messages == ["pong", "sorry: on purpose"]


@rows(
    SWOFT,
    "`server()->push($fd, $data)`",
    "`server()->sendTo($fd, $data)`",
    "`server()->sendToAll($data)`",
    "`server()->sendToSome($data, $receivers)`",
    "`server()->sendToSome($data, [], $excluded)`",
    "`server()->broadcast($data, [], [], $sender)`",
    "`server()->disconnect($fd)`",
    "`$pageSize`",
)
def test_sending_to_one_some_all_and_all_but_some() -> None:
    simulation, peers, sessions = handles(3, broadcast_page_max=2)
    hub = simulation.hub
    one = hub.session(2)
    assert one is not None
    one.send("one")
    assert hub.broadcast("some", to=sessions[:2]) == 2
    assert hub.broadcast("but some", exclude=sessions[:2]) == 1
    assert hub.broadcast("but me", exclude=[sessions[0]]) == 2
    assert hub.broadcast("all") == 3
    simulation.advance(0)  # a page a turn
    assert [peer.messages for peer in peers] == [
        ["some", "all"],
        ["one", "some", "but me", "all"],
        ["but some", "but me", "all"],
    ]
    one.close(4000, "enough")
    simulation.settle()
    assert peers[1].close_code() == 4000
    assert hub.session(2) is None


# -- the IM relay -------------------------------------------------------------------------------


def users(**options: Any) -> Simulation:
    app = App(**options)
    module = app.module("/ws/{id:int}")

    @module.on_handshake
    def bind(request: Request) -> Accept:
        return Accept(user=request.path_params["id"])

    return Simulation(app)


@rows(
    RELAY,
    "`/ws/{id}`",
    "the user of a connection",
    "the map from users to connections",
    "writing to a user's connection",
)
def test_users() -> None:
    simulation = users()
    peers = [simulation.open("/ws/7"), simulation.open("/ws/7")]
    user = simulation.hub.user(7)
    assert user.is_connected
    assert [session.fd for session in user.sessions] == [1, 2]
    assert user.send({"content": "hello"}) == 2
    assert simulation.open("/ws/ann").status() == 404
    simulation.session(peers[1]).user = 8
    assert simulation.hub.user(8).close(4000, "enough") == 1
    simulation.settle()
    assert [peer.messages for peer in peers] == [['{"content":"hello"}']] * 2
    assert [peer.close_code() for peer in peers] == [None, 4000]
    assert simulation.hub.user(8).send("away") == 0


@rows(RELAY, "a second connection of a user")
@pytest.mark.parametrize(
    ("policy", "old_code", "status"),
    [("allow", None, 101), ("replace", 4001, 101), ("reject", None, 409)],
)
def test_a_second_connection(policy: str, old_code: int | None, status: int) -> None:
    simulation = users(second_session=policy)
    old, new = simulation.open("/ws/7"), simulation.open("/ws/7")
    assert (old.close_code(), new.status()) == (old_code, status)


def relayed() -> tuple[Peer, Peer]:
    """Users 1 and 2 of the example."""
    simulation = Simulation(load_example("relay").make_app())
    return simulation.open("/ws/1"), simulation.open("/ws/2")


@rows(RELAY, "`CONNECT`", "`SEND`, `RECEIVE`", "`CLOSE`")
def test_the_types_of_the_relay() -> None:
    ann, bob = relayed()
    assert ann.messages == ['{"type":1,"sender":2}']
    bob.send('{"type": 2, "receiver": 1, "content": "hello"}', '{"type": 4}')
    assert ann.messages[1:] == ['{"type":3,"sender":2,"receiver":1,"content":"hello"}']
    assert bob.close_code() == 1000


@rows(
    RELAY,
    "panic: the receiver is away",
    "panic: an unknown type",
    "panic: bad JSON",
    "panic: an id that is no number",
)
@pytest.mark.parametrize(
    ("message", "error"),
    [
        ('{"type": 2, "receiver": 9, "content": "x"}', "user 9 is not connected"),
        ('{"type": 77}', "Invalid enum value 77"),
        ("{", "truncated"),
    ],
)
def test_what_made_the_relay_panic(message: str, error: str) -> None:
    ann, bob = relayed()
    bob.send(message)
    (reply,) = [msgspec.json.decode(each) for each in bob.messages]
    assert reply["type"] == 0
    assert error in reply["error"]
    assert bob.close_frame is None
    assert ann.simulation.open("/ws/ann").status() == 400
