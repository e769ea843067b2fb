"""What application code in other threads asks of the hub is run as a whole, by `enter`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from raw import close, text, upgrade
from wireroom.core import (
    FINISHED,
    App,
    History,
    Hub,
    Invocation,
    Invoke,
    LocalProtocolError,
    Resume,
    Session,
    Wait,
    WebSocket,
)
from wireroom.core.sessions.guarded import GuardedRoom, GuardedSession, GuardedUser
from wireroom.core.sessions.rooms import Room
from wireroom.core.sessions.users import User
from wireroom.core.turn import READY

T = TypeVar("T")


class Guard:
    """A transport of one hub that counts what is asked of it from outside."""

    def __init__(self, app: App) -> None:
        self.entered = 0
        self._is_inside = False
        self.before: Callable[[], object] | None = None  # comes first, as another thread would
        self.hub = Hub(app, enter=self.enter, foreign_wait=_yield_until_done, epoch="e")
        self.invocations: list[Invocation] = []

    def enter(self, call: Callable[[], T]) -> T:
        if self._is_inside:  # a part of another, which nobody comes between
            return call()
        if self.before is not None:
            before, self.before = self.before, None
            before()
        self.entered += 1
        self._is_inside = True
        try:
            return call()
        finally:
            self._is_inside = False

    def open(self, path: str = "/", then: bytes = b"") -> Session:
        fd = self.hub.connect(None, now=0.0)
        self.hub.receive_data(fd, upgrade(path) + then, now=0.0)
        self.drain()
        session = self.hub.session(fd)
        assert session is not None
        return session

    def drain(self) -> None:
        for fd in self.hub.fds_to_send():
            self.hub.data_to_send(fd)
        while (output := self.hub.next_output()) is not None:
            if isinstance(output, Invoke | Resume):
                self.invocations.append(output.invocation)

    def step(self) -> Any:
        """A step of the next handler, outside of the hub."""
        invocation = self.invocations.pop(0)
        assert self.hub.begin_step(invocation)
        outcome = self.hub.advance(invocation)
        result = self.hub.end_step(invocation, outcome, now=0.0)
        self.drain()
        return result


def _yield_until_done(wait: Wait) -> Any:
    while not wait.done:
        yield wait


def app_without_handlers() -> App:
    app = App()
    app.module("/")
    return app


COMMANDS: dict[str, Callable[[Session], object]] = {
    "send": lambda session: session.send("a"),
    "drain": lambda session: session.drain(),
    "close": lambda session: session.close(),
    "join": lambda session: session.join("a"),
    "leave": lambda session: session.leave("a"),
    "rooms": lambda session: session.rooms,
    "receive_nowait": lambda session: session.receive_nowait(),
    "user": lambda session: setattr(session, "user", "ann"),
    "state": lambda session: session.state,
    "len(room)": lambda session: len(session.room("a")),
    "in room": lambda session: session in session.room("a"),
    "iter(room)": lambda session: list(session.room("a")),
    "room.presence": lambda session: session.room("a").presence(),
    "room.broadcast": lambda session: session.room("a").broadcast("a"),
    "user.sessions": lambda session: session.hub.user("ann").sessions,
    "user.send": lambda session: session.hub.user("ann").send("a"),
    "user.close": lambda session: session.hub.user("ann").close(),
    "hub.session": lambda session: session.hub.session(1),
    "hub.sessions": lambda session: session.hub.sessions(),
    "hub.broadcast": lambda session: session.hub.broadcast("a"),
    "hub.stats": lambda session: session.hub.stats(),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_entered(name: str) -> None:
    guard = Guard(app_without_handlers())
    session = guard.open()
    assert type(session) is GuardedSession
    guard.entered = 0
    COMMANDS[name](session)
    assert guard.entered >= 1


def test_what_a_room_keeps_is_looked_at_as_an_input() -> None:
    app = App()
    app.module("/", history=History())
    guard = Guard(app)
    room = guard.open().room("a")
    room.broadcast({"text": "hi"})
    guard.entered = 0
    kept = room.kept()
    assert kept is not None
    assert (kept.position.offset, len(kept.messages), guard.entered) == (1, 1, 1)


def test_commands_give_and_raise_what_they_do_elsewhere() -> None:
    guard = Guard(app_without_handlers())
    session = guard.open()
    session.user = "ann"
    assert session.user == "ann"
    assert session.join("a")
    room = session.room("a")
    assert (type(room), len(room), list(room), session in room) == (GuardedRoom, 1, [session], True)
    assert [each.fd for each in room.presence()] == [session.fd]
    assert room.broadcast("hi", exclude=[session]) == 0
    assert room.broadcast("hi", where=lambda each: each is session) == 1
    user = session.hub.user("ann")
    assert (type(user), user.sessions, user.is_connected) == (GuardedUser, [session], True)
    assert repr(user) == "<User 'ann' with 1 sessions>"
    assert session.rooms == ["a"]
    session.state.number = 3
    assert session.state.number == 3
    assert session.hub.broadcast("all", to=[session]) == 1
    assert session.hub.stats().messages_sent == 2
    assert session.hub.is_backplane_connected is None
    with pytest.raises(LocalProtocolError, match="1005 may not be sent"):
        session.close(1005)
    session.close(4000, "enough")
    with pytest.raises(Exception, match=r"closed \(4000\)"):
        session.send("late")


def test_without_enter_nothing_is_guarded() -> None:
    hub = Hub(app_without_handlers())
    fd = hub.connect(None, now=0.0)
    hub.receive_data(fd, upgrade("/"), now=0.0)
    session = hub.session(fd)
    assert type(session) is Session
    assert session.hub is hub
    assert type(session.room("a")) is Room
    assert type(hub.user("a")) is User


def test_handlers_are_given_what_is_guarded() -> None:
    app = App()
    given: list[object] = []
    module = app.module("/")
    module.on_open(given.append)
    module.on_join(lambda session, room: given.append(room))
    app.every(1.0)(given.append)
    guard = Guard(app)
    guard.hub.start(now=0.0)
    session = guard.open()
    session.join("a")
    guard.hub.handle_timeout(now=1.0)
    assert [type(each).__name__ for each in given] == [
        "GuardedSession",
        "GuardedRoom",
        "GuardedHub",
    ]
    assert given[2] is session.hub


# -- steps outside of the hub -------------------------------------------------------------------


def echo_app() -> App:
    app = App()

    @app.websocket("/")
    async def echo(ws: WebSocket) -> None:
        ws.accept()
        async for message in ws:
            ws.send(message)

    return app


def test_a_message_between_looking_and_waiting_is_not_missed() -> None:
    guard = Guard(echo_app())
    fd = guard.hub.connect(None, now=0.0)
    guard.hub.receive_data(fd, upgrade("/"), now=0.0)
    guard.drain()
    invocation = guard.invocations[0]
    arrive = guard.hub.receive_data

    def look_then_arrive() -> None:  # the first is `accept`
        guard.before = lambda: setattr(guard, "before", lambda: arrive(fd, text("hi"), now=0.0))

    guard.before = look_then_arrive
    assert isinstance(guard.step(), Wait)
    session = guard.hub.sessions()[0]
    assert guard.hub.stats().messages_sent == 1
    assert not invocation.done
    assert session.readers == 1


def test_a_close_waits_for_the_message_that_a_function_has_taken() -> None:
    guard = Guard(echo_app())
    fd = guard.hub.connect(None, now=0.0)
    guard.hub.receive_data(fd, upgrade("/"), now=0.0)
    guard.drain()
    assert isinstance(guard.step(), Wait)
    guard.hub.receive_data(fd, text("last"), now=0.0)
    guard.drain()
    # The Close comes when the message has been taken, and before it is answered.
    closing = close(1000)

    def after_taking() -> None:
        guard.before = lambda: guard.hub.receive_data(fd, closing, now=0.0)

    # 1: the end of waiting; 2: the message is taken; 3: it is answered
    guard.before = lambda: setattr(guard, "before", after_taking)
    invocation = guard.invocations.pop(0)
    assert guard.hub.begin_step(invocation)
    outcome = guard.hub.advance(invocation)
    assert guard.hub.data_to_send(fd) == [b"\x81\x04last", b"\x88\x02\x03\xe8"]
    assert guard.hub.end_step(invocation, outcome, now=0.0) is FINISHED


def test_a_sleep_is_armed_by_who_enters() -> None:
    app = App()
    done: list[str] = []

    @app.module("/").on_open
    async def opened(session: Session) -> None:
        await session.sleep(1e-9)
        done.append("slept")

    guard = Guard(app)
    guard.open()
    entered = guard.entered
    assert isinstance(guard.step(), Wait)
    assert guard.entered == entered + 1
    guard.hub.handle_timeout(now=0.1)
    guard.drain()
    assert guard.step() is FINISHED
    assert done == ["slept"]


def test_a_reply_that_comes_at_once_is_taken() -> None:
    app = App()
    replies: list[object] = []
    module = app.module("/")

    @module.command("ask")
    async def ask(ctx: Any) -> None:
        replies.append(await ctx.session.request({"type": "what"}, reply_type=int))

    guard = Guard(app)
    session = guard.open(then=text('{"type": "ask"}'))
    reply = text('{"type": "reply", "request_id": "s1", "data": 7}')
    # 1: the request is sent; before 2, which is its wait, the reply comes
    guard.before = lambda: setattr(
        guard, "before", lambda: guard.hub.receive_data(session.fd, reply, now=0.0)
    )
    assert guard.step() is FINISHED
    assert replies == [7]
    assert session.requests is None


def test_what_is_ready_needs_no_wait() -> None:
    guard = Guard(app_without_handlers())
    session = guard.open(then=text("here"))
    assert session.begin_receiving() is READY
    session.end_receiving()
    assert session.receive_nowait() == "here"


def test_a_recovery_is_entered_step_by_step() -> None:
    app = App()
    app.module("/", history=History())
    guard = Guard(app)
    session = guard.open()
    guard.entered = 0
    recovering = session.recover("a")
    # Another thread says something before the first step: it is in the history by then.
    guard.before = lambda: session.room("a").broadcast({"type": "said"})
    with pytest.raises(StopIteration) as stopped:
        recovering.send(None)
    recovery = stopped.value.value
    assert (recovery.recovered, recovery.position.offset) == (True, 1)
    assert session.rooms == ["a"]
    assert guard.entered >= 2
