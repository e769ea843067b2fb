"""A whole server in virtual time, driven by hypothesis, against a model of its rooms.

Each connection has a serial number, and whatever the server sends to one begins with it, so a
message that reaches a stranger is seen. Handles of connections that are long gone are used on
purpose, and fds are few, so that they are reused all the time.
"""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from driver import Peer, Simulation
from frames import PING, frame
from invariants import check_invariants, check_nothing_is_left
from raw import close, get, text
from wireroom.core import (
    App,
    IdsExhaustedError,
    Limits,
    Session,
    SessionClosed,
    SessionClosedError,
    SessionOpened,
    WebSocket,
)
from wireroom.core.sessions.ids import Policy
from wireroom.core.wire.engines import EngineName

FD_MAX = 5
LIMITS = Limits(
    inbox_messages_max=4,
    outbox_mark_bytes=400,
    outbox_bytes_max=1200,
    pongs_pending_max=3,
    rooms_per_session_max=3,
)
ROOMS = ["red", "green", "blue", "black"]
PATHS = st.sampled_from(["/def/", "/async/", "/function/"])
INDEX = st.integers(0, FD_MAX - 1)
COMMANDS = st.lists(
    st.one_of(
        st.sampled_from(["echo", "echo", "long", "long", "raise", "close"]),
        st.sampled_from(ROOMS).map("join {}".format),
        st.sampled_from(ROOMS).map("leave {}".format),
        st.sampled_from(ROOMS).map("say {}".format),
        st.integers(1, 20).map("to {}".format),
    ),
    min_size=1,
    max_size=8,
)


class Town:
    """The application, which keeps books of its own about who is where."""

    def __init__(self, framing: EngineName, policy: Policy) -> None:
        self.handles: dict[int, Session] = {}  # by serial; stale ones stay
        self.rooms: dict[int, set[str]] = {}
        self.told: dict[int, tuple[str, set[int]]] = {}  # broadcasts: the room, who was in it
        self.closed: list[int] = []
        self.count = 0
        self.app = App(limits=LIMITS, framing=framing, fd_max=FD_MAX, fd_policy=policy)
        self.app.http("/healthz")(lambda request: "ok")
        for path, handler in (("/def/", self.on_message), ("/async/", self.on_message_later)):
            module = self.app.module(path + "{serial:int}")
            module.on_open(self.on_open)
            module.on_close(self.on_close)
            module.on_message(handler)
        self.app.websocket("/function/{serial:int}")(self.function)

    def on_open(self, session: Session) -> None:
        serial = session.path_params["serial"]
        self.handles[serial] = session
        self.rooms[serial] = set()
        self.join(serial, ROOMS[0])

    def on_close(self, session: Session) -> None:
        self.closed.append(session.path_params["serial"])
        assert session.rooms == []

    async def on_message_later(self, session: Session, message: str) -> str | None:
        await session.sleep(0.5)
        return self.on_message(session, message)

    async def function(self, ws: WebSocket) -> None:
        await ws.accept()
        self.on_open(ws.session)
        async for message in ws:
            reply = self.on_message(ws.session, str(message))
            if reply is not None:
                await ws.send(reply)

    def on_message(self, session: Session, message: str) -> str | None:
        """`number command argument`; only open sessions may act, as everywhere."""
        serial = session.path_params["serial"]
        number, command, *arguments = message.split()
        if command == "echo":
            return f"{serial} echo {number}"
        if command == "long":
            return f"{serial} echo {number} " + "x" * 300
        if command == "close":
            session.close(4000)
        elif command == "raise":
            raise LookupError(message)
        elif command == "join":
            self.join(serial, arguments[0])
        elif command == "leave":
            self.leave(serial, arguments[0])
        elif command == "say":
            self.say(serial, arguments[0])
        elif command == "to":
            self.tell(int(arguments[0]))
        return None

    def join(self, serial: int, room: str) -> None:
        session = self.handles[serial]
        if len(self.rooms[serial] - {room}) == LIMITS.rooms_per_session_max:
            return
        if session.is_connected:
            assert session.join(room) is (room not in self.rooms[serial])
            self.rooms[serial].add(room)
        else:
            with pytest.raises(SessionClosedError):
                session.join(room)

    def leave(self, serial: int, room: str) -> None:
        session = self.handles[serial]
        expected = session.is_connected and room in self.rooms[serial]
        assert session.leave(room) is expected
        self.rooms[serial].discard(room)

    def say(self, serial: int, room: str) -> None:
        self.count += 1
        namespace = self.handles[serial].module
        members = {
            each
            for each, session in self.handles.items()
            if session.is_connected and session.module is namespace and room in self.rooms[each]
        }
        self.told[self.count] = (room, members)
        sent = self.handles[serial].room(room).broadcast(f"all {self.count} {room} " + "x" * 500)
        assert sent == len(members)

    def tell(self, serial: int) -> None:
        session = self.handles.get(serial)
        if session is None:
            return
        if session.is_connected:
            session.send(f"{serial} told")
        else:
            with pytest.raises(SessionClosedError):
                session.send(f"{serial} told")


class HubMachine(RuleBasedStateMachine):
    framing: EngineName
    policy: Policy

    def __init__(self) -> None:
        super().__init__()
        self.town = Town(self.framing, self.policy)
        self.simulation = Simulation(self.town.app)
        self.opened: dict[int, Peer] = {}  # by serial
        self.seen: dict[int, int] = {}  # how many of a peer's messages were checked
        self.number = 0
        self.asked: dict[Peer, list[int]] = {}  # the numbers of what has to be echoed

    def peer(self, index: int) -> Peer:
        """One of those that have a socket."""
        peers = list(self.simulation.peers.values())
        return peers[index % len(peers)]

    def numbered(self, peer: Peer, command: str) -> bytes:
        self.number += 1
        if command in ("echo", "long"):
            self.asked.setdefault(peer, []).append(self.number)
        return text(f"{self.number} {command}")

    # -- connections ------------------------------------------------------------------------

    @initialize(paths=st.lists(PATHS, min_size=2, max_size=FD_MAX))
    def open_some(self, paths: list[str]) -> None:
        for path in paths:
            self.open(path, deflate=False, lingers=False)

    @rule(path=PATHS, deflate=st.booleans(), lingers=st.booleans())
    def open(self, path: str, deflate: bool, lingers: bool) -> None:
        if len(self.simulation.peers) == FD_MAX:
            with pytest.raises(IdsExhaustedError):
                self.simulation.connect()
            return
        serial = len(self.opened) + 1
        peer = self.opened[serial] = self.simulation.connect()
        self.seen[serial] = 0
        peer.lingers = lingers
        peer.open(f"{path}{serial}", deflate=deflate)

    @precondition(lambda self: len(self.simulation.peers) < FD_MAX)
    @rule(data=st.sampled_from([b"", get("/healthz"), get("/healthz") * 9, b"x\r\n\r\n", b"GE"]))
    def ask(self, data: bytes) -> None:
        self.simulation.connect().send_raw(data)

    # -- what peers do ----------------------------------------------------------------------

    @precondition(lambda self: self.simulation.peers)
    @rule(index=INDEX, commands=COMMANDS, cut=st.sampled_from([None, None, 1, 7]))
    def say(self, index: int, commands: list[str], cut: int | None) -> None:
        peer = self.peer(index)
        peer.send_raw(b"".join(self.numbered(peer, each) for each in commands), cut=cut)

    say_more = say

    @precondition(lambda self: self.simulation.peers)
    @rule(
        index=INDEX,
        how=st.sampled_from(
            ["ping", "close", "eof", "lose", frame(0x3), frame(0x1, b"\xff"), b"\xff\xff"]
        ),
    )
    def end(self, index: int, how: str | bytes) -> None:
        peer = self.peer(index)
        if how == "ping":
            peer.send_raw(frame(PING, b"ping") * 5)
        elif how == "lose":
            peer.lose()
        elif how == "eof":
            peer.send_eof()
        elif how == "close":
            peer.send_raw(self.numbered(peer, "echo") + close(4001))
        elif isinstance(how, bytes):
            peer.send_raw(self.numbered(peer, "echo") + how + text("never read"))

    @precondition(lambda self: self.simulation.peers)
    @rule(index=INDEX, count=st.sampled_from([0.0, 0.0, 1.0, 100.0, inf]), polite=st.booleans())
    def read(self, index: int, count: float, polite: bool) -> None:
        peer = self.peer(index)
        peer.polite = polite
        if count:
            peer.read(count)
        else:
            peer.stall()

    # -- what the application does, with handles that may be stale ----------------------------

    @precondition(lambda self: self.town.handles)
    @rule(
        index=st.integers(0, 50),
        verb=st.sampled_from(["join", "join", "leave", "say", "tell", "close"]),
        room=st.sampled_from(ROOMS),
    )
    def act(self, index: int, verb: str, room: str) -> None:
        serials = list(self.town.handles)
        serial = serials[index % len(serials)]
        if verb == "tell":
            self.town.tell(serial)
        elif verb == "close":
            self.town.handles[serial].close(4002)
        else:
            {"join": self.town.join, "leave": self.town.leave, "say": self.town.say}[verb](
                serial, room
            )
        self.simulation.settle()

    # -- time -------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.6, 2.0, 10.0, 25.0]))
    def advance(self, seconds: float) -> None:
        self.simulation.advance(seconds)

    # -- what must hold ---------------------------------------------------------------------

    @invariant()
    def everything_adds_up(self) -> None:
        check_invariants(self.simulation)

    @invariant()
    def everybody_is_where_the_books_say(self) -> None:
        for session in self.simulation.hub.sessions():
            assert set(session.rooms) == self.town.rooms[session.path_params["serial"]]

    @invariant()
    def messages_reach_only_those_they_are_for(self) -> None:
        for serial, peer in self.opened.items():
            new = peer.messages[self.seen[serial] :]
            self.seen[serial] = len(peer.messages)
            for message in new:
                words = str(message).split()
                if words[0] == "all":
                    room, members = self.town.told[int(words[1])]
                    assert room == words[2]
                    assert serial in members
                else:
                    assert words[0] == str(serial) or '"handler_failed"' in str(message)

    @invariant()
    def only_handlers_that_raise_on_purpose_fail(self) -> None:
        for error in self.simulation.failures:
            assert isinstance(error, LookupError), error

    def teardown(self) -> None:
        self.everything_is_answered_once_and_in_order()
        self.everything_ends()

    def everything_is_answered_once_and_in_order(self) -> None:
        """Once everybody reads again, whoever is still there has got every answer."""
        for peer in list(self.simulation.peers.values()):
            peer.polite = True
            peer.read()
        self.simulation.advance(60.0)
        for serial, peer in self.opened.items():
            echoes = [int(str(each).split()[2]) for each in peer.messages if " echo " in str(each)]
            asked = self.asked.get(peer, [])
            if serial in self.town.handles and self.town.handles[serial].is_connected:
                assert echoes == asked, "a message that was not handled"
            else:
                assert echoes == asked[: len(echoes)]

    def everything_ends(self) -> None:
        """Everything ends by itself once the server stops, whatever its peers do."""
        self.simulation.shut_down()
        for peer in list(self.simulation.peers.values()):
            peer.lingers = False
        self.simulation.advance(2 * LIMITS.close_timeout_s + 1.0)
        for peer in list(self.simulation.peers.values()):
            assert peer.disconnected, "a connection that did not end"
            peer.lose()
        self.simulation.advance(2 * LIMITS.close_timeout_s)
        check_nothing_is_left(self.simulation)
        opened = [each.fd for each in self.simulation.said(SessionOpened)]
        closed = [each.fd for each in self.simulation.said(SessionClosed)]
        assert sorted(opened) == sorted(closed)
        assert len(set(self.town.closed)) == len(self.town.closed)


@pytest.mark.parametrize("policy", ["rising", "lowest"])
@pytest.mark.parametrize("framing", ["wireroom", "wsproto"])
def test_hub(framing: EngineName, policy: Policy) -> None:
    class Machine(HubMachine):
        pass

    Machine.framing, Machine.policy = framing, policy
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=120,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
