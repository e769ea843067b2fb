"""The chat, unchanged, on every transport and inside FastAPI; over sockets, on SQLite."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvicorn
from fastapi import FastAPI

from chat_clients import PASSWORD, Person, RefusedError, chat_app, token_of
from databases import postgresql_server, sqlite_url
from harnesses import (
    BlockingHarness,
    LoopHarness,
    run_anyio_asyncio,
    run_anyio_trio,
    run_asyncio,
    run_uvloop,
)
from memberships import standing
from postgresql import PrivatePostgreSQL
from records import Account
from store import Store
from wireroom.core import App, Hub
from wireroom.transports.anyio import Server as AnyioServer
from wireroom.transports.asgi import ASGIApp
from wireroom.transports.asyncio import Server as AsyncioServer
from wireroom.transports.conformance import Address, Feature, Harness, Options
from wireroom.transports.conformance.client import PATIENCE_S, Client, Closed
from wireroom.transports.drain import ShutdownReport

T = TypeVar("T")


class FastApiHarness:
    """The app mounted in an application of FastAPI's, in uvicorn."""

    lacks: Mapping[Feature, str] = {}

    def start(self, app: App, options: Options) -> Address:
        self._asgi = ASGIApp(app, grace_s=options.grace_s, close_code=options.close_code)
        api = FastAPI(lifespan=self._asgi.lifespan)

        @api.get("/own")
        async def own() -> dict[str, str]:
            return {"of": "FastAPI"}

        api.mount("/", self._asgi)
        config = uvicorn.Config(api, ws="websockets-sansio", log_config=None, access_log=False)
        self._server = uvicorn.Server(config)
        listener = socket.create_server(("127.0.0.1", 0))
        serve = partial(self._server.serve, sockets=[listener])
        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        self._thread.start()
        address: Address = listener.getsockname()
        assert Client.connect(address).request("/own").body == b'{"of":"FastAPI"}'
        return address

    def call(self, function: Callable[[Hub], T]) -> T:
        return self._asgi.call_from_thread(function).result(PATIENCE_S)

    def adopt(self, sock: socket.socket, received: bytes) -> None:
        raise NotImplementedError

    def stop(self) -> ShutdownReport:
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return ShutdownReport(0, 0, 0, 0, 0)  # that was told to the host


TRANSPORTS: dict[str, Callable[[], Harness]] = {
    "asyncio": lambda: LoopHarness(AsyncioServer, run_asyncio),
    "uvloop": lambda: LoopHarness(AsyncioServer, run_uvloop),
    "anyio-asyncio": lambda: LoopHarness(AnyioServer, run_anyio_asyncio),
    "anyio-trio": lambda: LoopHarness(AnyioServer, run_anyio_trio),
    "blocking": BlockingHarness,
    "fastapi": FastApiHarness,
}


class Chat:
    """A chat that runs; people are logged out when it ends."""

    def __init__(self, app: App, harness: Harness) -> None:
        self._harness = harness
        self.people: list[Person] = []
        self._ended = False
        self.address: Address = harness.start(app, Options(close_code=1012))
        self.store = self.call(lambda hub: hub.service(Store))

    def call(self, function: Callable[[Hub], Any]) -> Any:
        return self._harness.call(function)

    def enter(self, name: str) -> Person:
        """Somebody, who registers if they never have."""
        with self.connect("/accounts") as accounts:
            try:
                logged_in = accounts.ask("register", name=name, password=PASSWORD)
            except RefusedError:
                logged_in = accounts.log_in(name)
        return self.connect("/chat", headers=[("Authorization", f"Bearer {logged_in['token']}")])

    def connect(self, path: str, **options: Any) -> Person:
        person = Person(self.address, path, **options)
        self.people.append(person)
        return person

    def begin_end(self) -> None:
        """Tell people."""
        self.call(lambda hub: hub.shutdown(now=hub.now, code=1012))

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._harness.stop()
            assert self.store.close()


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PrivatePostgreSQL]:
    yield from postgresql_server()


@pytest.fixture
def new_chat(tmp_path: Path) -> Iterator[NewChat]:
    """Runs chats, by default on one file of SQLite, and ends them."""
    chats: list[Chat] = []

    def make(
        transport: str = "asyncio", *, database_url: str | None = None, **settings: Any
    ) -> Chat:
        app = chat_app(database_url or sqlite_url(tmp_path), **settings)
        chat = Chat(app, TRANSPORTS[transport]())
        chats.append(chat)
        return chat

    yield make
    for chat in chats:
        for person in chat.people:
            person.leave()
        chat.end()


NewChat = Callable[..., Chat]


def texts(page: Any) -> list[str]:
    return [message["text"] for message in page["messages"]]


def entry(person: Person, room: str) -> Any:
    """What somebody's list of rooms says of a room."""
    return {each["name"]: each for each in person.ask("list_rooms")["rooms"]}[room]


def refusal(person: Person, kind: str, **fields: Any) -> str:
    """The code that a request is refused with."""
    with pytest.raises(RefusedError) as caught:
        person.ask(kind, **fields)
    code: str = caught.value.code
    return code


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_same_everywhere(transport: str, new_chat: NewChat) -> None:
    use_all(new_chat(transport))


@pytest.mark.servers
def test_the_same_on_postgresql(new_chat: NewChat, postgresql: PrivatePostgreSQL) -> None:
    use_all(new_chat(database_url=postgresql.new_database()))


def use_all(chat: Chat) -> None:
    """Accounts, rooms, messages, presence, direct messages and moderation, from end to end."""
    ann, bob = chat.enter("Ann"), chat.enter("Bob")

    # A room of one's own.
    assert ann.ask("create_room", room="garden") == {
        "name": "garden",
        "last_offset": 0,
        "unread": 0,
        "members": 0,
        "is_joined": False,
        "direct": None,
    }
    assert refusal(bob, "create_room", room="garden") == "name_taken"
    joined = ann.ask("join_room", room="garden")
    assert (joined["last_offset"], joined["read_offset"], joined["may_moderate"]) == (0, 0, True)
    joined = bob.ask("join_room", room="garden")
    assert [each["name"] for each in joined["members"]] == ["Ann", "Bob"]
    assert not joined["may_moderate"]
    ann.hear_joined("Bob")

    # What is said is stored, heard, and then acknowledged; sent again it is the same.
    said: dict[str, Any] = {}
    stored: Any = None
    for number in range(3):
        said = {"room": "garden", "text": f"hello {number}", "client_id": f"c{number}"}
        stored = ann.ask("chat_message", **said)
        assert stored["offset"] == number + 1
        assert ann.hear("chat_message", text=f"hello {number}")["offset"] == number + 1
        heard = bob.hear("chat_message")
        heard.pop("position", None)
        assert heard == {"type": "chat_message", **stored}
    assert ann.ask("chat_message", **said) == stored
    assert bob.hear("message_changed")["offset"] == 3

    # Typing is heard by others only; so is what is edited, by all.
    ann.send("typing", room="garden", is_typing=True)
    assert bob.hear("typing") == {
        "type": "typing",
        "room": "garden",
        "name": "Ann",
        "is_typing": True,
    }
    assert ann.ask("edit_message", room="garden", offset=1, text="hello!")["edited_at"]
    assert bob.hear("message_changed")["text"] == "hello!"
    assert refusal(bob, "edit_message", room="garden", offset=1, text="?") == "not_allowed"
    assert refusal(bob, "delete_message", room="garden", offset=1) == "not_allowed"
    assert ann.ask("delete_message", room="garden", offset=2)["deleted_at"]
    assert bob.hear("message_changed", offset=2)["text"] == ""

    # The history, and what is unread.
    assert texts(bob.ask("history", room="garden")) == ["hello 2", "", "hello!"]
    page = bob.ask("history", room="garden", before=3, limit=1)
    assert (texts(page), page["more"]) == ([""], True)
    assert texts(bob.ask("history", room="garden", after=2)) == ["hello 2"]
    garden = entry(bob, "garden")
    assert (garden["unread"], garden["is_joined"], garden["members"]) == (3, True, 2)
    assert bob.ask("mark_read", room="garden", offset=2) == {"room": "garden", "offset": 2}
    assert bob.ask("mark_read", room="garden", offset=1)["offset"] == 2
    assert bob.ask("list_rooms")["rooms"][0]["unread"] == 1
    assert refusal(bob, "mark_read", room="lobby", offset=2) == "not_found"

    # Direct messages are heard by two, and read by two.
    eve = chat.enter("Eve")
    direct = ann.ask("direct_message", to="bob", text="psst", client_id="d1")
    heard = bob.hear("direct_message")
    assert (heard["sender"], heard["to"], heard["text"]) == ("Ann", "Bob", "psst")
    assert ann.hear("direct_message")["offset"] == 1
    assert ann.ask("direct_message", to="bob", text="psst", client_id="d1") == direct
    assert bob.ask("direct_message", to="Ann", text="what?")["offset"] == 2
    room = direct["room"]
    assert texts(bob.ask("history", room=room)) == ["what?", "psst"]
    assert [each for each in bob.ask("list_rooms")["rooms"] if each["direct"]] == [
        {
            "name": room,
            "last_offset": 2,
            "unread": 2,
            "members": 0,
            "is_joined": True,
            "direct": "Ann",
        }
    ]
    assert refusal(eve, "history", room=room) == "not_allowed"
    assert refusal(eve, "join_room", room=room) == "not_allowed"
    assert refusal(eve, "direct_message", to="nobody", text="?") == "not_found"
    assert [each["name"] for each in eve.ask("list_rooms")["rooms"]] == ["garden", "lobby"]
    assert bob.ask("edit_message", room=room, offset=2, text="what is it?")["edited_at"]
    assert ann.hear("message_changed", room=room, offset=2)["text"] == "what is it?"

    # Outside of a room there is nothing to hear, or to say.
    elsewhere: dict[str, dict[str, Any]] = {
        "chat_message": {"text": "?"},
        "history": {},
        "typing": {"is_typing": True},
        "edit_message": {"offset": 1, "text": "?"},
    }
    for kind, fields in elsewhere.items():
        assert refusal(eve, kind, room="garden", **fields) == "not_joined"
    assert refusal(eve, "join_room", room="nowhere") == "not_found"

    # Moderation: of one's own room only, and not of its maker.
    assert refusal(bob, "kick", room="garden", name="Ann") == "not_allowed"
    assert refusal(ann, "ban", room="garden", name="ann") == "not_allowed"
    assert refusal(ann, "mute", room="garden", name="nobody", seconds=9) == "not_found"
    assert ann.ask("mute", room="garden", name="Bob", seconds=60)["action"] == "mute"
    assert "muted Bob" in bob.hear("system_notification")["text"]
    assert refusal(bob, "chat_message", room="garden", text="mmm") == "muted"
    ann.ask("unmute", room="garden", name="Bob")
    ann.ask("slow_mode", room="garden", seconds=3600)
    assert bob.ask("chat_message", room="garden", text="slowly")["offset"] == 4
    assert refusal(bob, "chat_message", room="garden", text="again") == "slow_mode"
    ann.ask("slow_mode", room="garden", seconds=0)
    assert bob.ask("chat_message", room="garden", text="again")["offset"] == 5
    assert ann.ask("delete_message", room="garden", offset=5)["sender"] == "Bob"
    ann.ask("kick", room="garden", name="Bob")
    assert not bob.hear("kicked")["is_banned"]
    assert refusal(bob, "chat_message", room="garden", text="I am not here") == "not_joined"
    assert [each["name"] for each in ann.hear("presence", joined=[])["left"]] == ["Bob"]
    bob.ask("join_room", room="garden")
    ann.ask("ban", room="garden", name="Bob")
    assert bob.hear("kicked")["is_banned"]
    assert refusal(bob, "join_room", room="garden") == "banned"
    ann.ask("unban", room="garden", name="Bob")
    bob.ask("join_room", room="garden")

    # Who comes back is sent what was missed, and then what is said.
    position = bob.ask("join_room", room="lobby")["position"]
    ann.ask("join_room", room="lobby")
    bob.leave()
    for number in range(3):
        ann.ask("chat_message", room="lobby", text=f"where is Bob? {number}")
    bob = chat.enter("Bob")
    back = bob.ask("join_room", room="lobby", position=position)
    assert (back["recovered"], back["last_offset"]) == (True, 3)
    ann.ask("chat_message", room="lobby", text="there he is")
    assert [bob.hear("chat_message")["offset"] for _ in range(4)] == [1, 2, 3, 4]
    assert not [each for each in bob.events if each["type"] == "chat_message"]
    stranger = {"offset": 1, "epoch": "another"}
    assert not eve.ask("join_room", room="lobby", position=stranger)["recovered"]
    bob.ask("join_room", room="garden")

    # Who leaves is no member, and is missed.
    bob.ask("leave_room", room="garden")
    assert refusal(bob, "leave_room", room="garden") == "not_found"
    assert not entry(bob, "garden")["is_joined"]
    assert chat.call(lambda hub: hub.stats().handler_failures) == 0


def test_accounts(new_chat: NewChat) -> None:
    chat = new_chat()
    accounts = chat.connect("/accounts")
    logged_in = accounts.ask("register", name=" Ann ", password=PASSWORD)
    assert logged_in["account"] == {"id": 1, "name": "Ann"}
    again = accounts.log_in("ann")
    assert again["account"] == logged_in["account"]
    assert again["expires_at"] > 0
    assert refusal(accounts, "register", name="ANN", password=PASSWORD) == "name_taken"
    assert refusal(accounts, "register", name="Bob", password="short") == "invalid_data"
    assert refusal(accounts, "register", name="", password=PASSWORD) == "invalid_data"
    for name, password in {"Ann": "incorrect horse", "nobody": PASSWORD}.items():
        assert refusal(accounts, "log_in", name=name, password=password) == "wrong_password"
    assert refusal(accounts, "join_room", room="lobby") == "unknown_type"


def test_a_token_lets_in_by_each_way_that_there_is(new_chat: NewChat) -> None:
    chat = new_chat()
    token = token_of(Account(1, "Ann"))
    with_subprotocol = chat.connect("/chat", subprotocols=["chat", f"wireroom.token.{token}"])
    assert with_subprotocol.client.accepted.subprotocol == "chat"
    with_cookie = chat.connect("/chat", headers=[("Cookie", f"wireroom_token={token}")])
    with_message = chat.connect("/chat")
    assert refusal(with_message, "list_rooms") == "unauthenticated"
    assert with_message.ask("authenticate", token=token)["subject"] == "1"
    for person in (with_subprotocol, with_cookie, with_message):
        assert [each["name"] for each in person.ask("list_rooms")["rooms"]] == ["lobby"]
    wrong = chat.connect("/chat", headers=[("Authorization", f"Bearer {token}x")])
    with pytest.raises(Closed) as closed:
        wrong.ask("list_rooms")
    assert closed.value.code == 4401


def test_who_is_too_fast_is_told_when_to_try_again(new_chat: NewChat) -> None:
    chat = new_chat(chat_messages_burst=3, chat_messages_per_s=0.001, chat_log_ins_burst=2)
    ann, other = chat.enter("Ann"), chat.enter("Bob")
    ann.ask("join_room", room="lobby")
    for _ in range(3):
        ann.ask("chat_message", room="lobby", text="spam")
    with pytest.raises(RefusedError, match=r"rate_limited: .*try again in \d+ seconds"):
        ann.ask("chat_message", room="lobby", text="spam")
    with pytest.raises(RefusedError, match="rate_limited"):
        ann.ask("direct_message", to="Bob", text="spam")
    other.ask("join_room", room="lobby")
    assert other.ask("chat_message", room="lobby", text="hello")["offset"] == 4
    assert len(ann.ask("history", room="lobby")["messages"]) == 4


def test_operators_moderate_every_room(new_chat: NewChat) -> None:
    chat = new_chat(chat_operators="root, Eve")
    ann, eve = chat.enter("Ann"), chat.enter("eve")
    ann.ask("join_room", room="lobby")
    assert eve.ask("join_room", room="lobby")["may_moderate"]
    eve.ask("slow_mode", room="lobby", seconds=3600)
    for number in range(1, 3):
        assert eve.ask("chat_message", room="lobby", text="I may")["offset"] == number
    eve.ask("ban", room="lobby", name="Ann")
    assert ann.hear("kicked")["text"] == "eve banned Ann"
    assert refusal(ann, "join_room", room="lobby") == "banned"


def test_two_sessions_of_a_user_are_one_person(new_chat: NewChat) -> None:
    chat = new_chat()
    ann, bob, ann_again = chat.enter("Ann"), chat.enter("Bob"), chat.enter("Ann")
    joined = [person.ask("join_room", room="lobby") for person in (bob, ann, ann_again)]
    assert [each["name"] for each in joined[-1]["members"]] == ["Bob", "Ann"]
    while "Ann" not in [each["name"] for each in bob.hear("presence")["joined"]]:
        pass
    ann_again.ask("leave_room", room="lobby")
    assert ann.ask("list_rooms")["rooms"][0]["is_joined"]
    ann.ask("leave_room", room="lobby")
    assert [each["name"] for each in bob.hear("presence")["left"]] == ["Ann"]
    assert not [each for each in bob.events if each["type"] == "presence"]


def test_a_restart_keeps_all_but_the_connections(new_chat: NewChat) -> None:
    first = new_chat()
    ann = first.enter("Ann")
    ann.ask("join_room", room="lobby")
    ann.ask("chat_message", room="lobby", text="before")
    first.begin_end()
    assert ann.client.finish()[0] == 1012
    first.end()
    second = new_chat()
    ann = second.enter("Ann")
    assert ann.ask("join_room", room="lobby")["last_offset"] == 1
    assert texts(ann.ask("history", room="lobby")) == ["before"]


def test_moderators_are_obeyed_on_every_node(new_chat: NewChat) -> None:
    nodes = [new_chat(chat_operators="Ann"), new_chat()]
    ann, bob = nodes[0].enter("Ann"), nodes[1].enter("Bob")
    for person in (ann, bob):
        person.ask("join_room", room="lobby")
    ann.ask("mute", room="lobby", name="Bob", seconds=60)
    assert refusal(bob, "chat_message", room="lobby", text="mmm") == "muted"
    ann.ask("kick", room="lobby", name="Bob")
    assert bob.hear("kicked") == {
        "type": "kicked",
        "room": "lobby",
        "text": "Ann kicked Bob",
        "is_banned": False,
    }
    bob.ask("join_room", room="lobby")  # and is not kicked again
    ann.ask("ban", room="lobby", name="Bob")
    assert bob.hear("kicked")["is_banned"]


def test_what_was_stored_elsewhere_and_not_heard_is_heard_when_it_is_sent_again(
    new_chat: NewChat,
) -> None:
    nodes = [new_chat(), new_chat()]
    ann, bob = nodes[0].enter("Ann"), nodes[1].enter("Bob")
    for person in (ann, bob):
        person.ask("join_room", room="lobby")
    stored = ann.ask("chat_message", room="lobby", text="hello", client_id="1")
    ann = nodes[1].enter("Ann")
    ann.ask("join_room", room="lobby")
    assert ann.ask("chat_message", room="lobby", text="hello", client_id="1") == stored
    assert bob.hear("message_changed")["text"] == "hello"


@pytest.mark.servers
def test_while_the_database_is_away(new_chat: NewChat, postgresql: PrivatePostgreSQL) -> None:
    chat = new_chat(database_url=postgresql.new_database())
    ann, bob = chat.enter("Ann"), chat.enter("Bob")
    for person in (ann, bob):
        person.ask("join_room", room="lobby")
    postgresql.kill()
    said = {"room": "lobby", "text": "hello", "client_id": "1"}
    for _ in range(3):
        assert refusal(ann, "chat_message", **said) == "store_away"
    assert refusal(bob, "history", room="lobby") == "store_away"
    assert Client.connect(chat.address).request("/readyz").status == 503
    postgresql.start()
    assert chat.store._writer._ready.wait(PATIENCE_S)
    assert Client.connect(chat.address).request("/readyz").status == 200
    assert ann.ask("chat_message", **said)["offset"] == 1
    assert bob.hear("chat_message")["offset"] == 1
    assert not [each for each in bob.events if each["type"] in ("chat_message", "message_changed")]


def test_echo_and_pages(new_chat: NewChat) -> None:
    chat = new_chat()
    echo = chat.connect("/echo")
    echo.client.send("hello")
    assert echo.client.receive() == "hello"
    for path in ("/", "/healthz"):
        assert Client.connect(chat.address).request(path).status == 200


def test_who_may_not_write_cannot_rewrite(new_chat: NewChat) -> None:
    chat = new_chat(chat_operators="Eve")
    ann, eve = chat.enter("Ann"), chat.enter("Eve")
    for person in (ann, eve):
        person.ask("join_room", room="lobby")
    message = {
        "room": "lobby",
        "offset": ann.ask("chat_message", room="lobby", text="one")["offset"],
    }
    eve.ask("mute", room="lobby", name="Ann", seconds=60)
    assert refusal(ann, "edit_message", text="what I may not say", **message) == "muted"
    assert texts(eve.ask("history", room="lobby")) == ["one"]
    assert "deleted_at" in ann.ask("delete_message", **message)


def test_what_two_say_to_each_other_has_no_moderator(new_chat: NewChat) -> None:
    chat = new_chat(chat_operators="Eve")
    ann, bob, eve = map(chat.enter, ("Ann", "Bob", "Eve"))
    room = ann.ask("direct_message", to="Bob", text="hello")["room"]
    for name in (room, "@1.99"):  # whether there is one is not said
        assert refusal(eve, "kick", room=name, name="Bob") == "not_allowed"
        assert refusal(eve, "slow_mode", room=name, seconds=60) == "not_allowed"
    assert texts(bob.ask("history", room=room)) == ["hello"]


def test_who_is_kicked_while_joining_is_told_so(new_chat: NewChat) -> None:
    chat = new_chat(chat_operators="Eve")
    ann, eve = chat.enter("Ann"), chat.enter("Eve")
    eve.ask("join_room", room="lobby")
    looks = []
    read = chat.store.read

    def kicking(call: Callable[[Any], T]) -> Any:
        if getattr(call, "func", None) is not standing:
            return read(call)
        looks.append(call)
        if len(looks) < 2:
            return read(call)

        def kick_first(connection: Any) -> T:
            eve.ask("kick", room="lobby", name="Ann")
            return call(connection)

        return read(kick_first)

    chat.store.read = kicking
    assert refusal(ann, "join_room", room="lobby") == "not_allowed"
    assert ann.hear("kicked")["room"] == "lobby"
    assert refusal(ann, "chat_message", room="lobby", text="here") == "not_joined"


def test_strangers_do_not_keep_each_other_out(new_chat: NewChat) -> None:
    chat = new_chat(chat_requests_burst=2, chat_requests_per_s=0.01)
    token = token_of(Account(1, "Ann"))
    for _ in range(5):
        assert chat.connect("/chat").ask("authenticate", token=token)["subject"] == "1"


@pytest.mark.parametrize("fields", [{"room": "a\0b"}, {"room": "@1." + "9" * 5000}])
@pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)]
)
def test_names_that_no_room_has(
    database: str, fields: dict[str, Any], new_chat: NewChat, request: pytest.FixtureRequest
) -> None:
    url = None
    if database == "postgresql":
        url = request.getfixturevalue("postgresql").new_database()
    chat = new_chat(database_url=url)
    ann = chat.enter("Ann")
    name = fields["room"]
    for kind, more in {
        "join_room": {"room": name},
        "history": {"room": name},
        "mark_read": {"room": name, "offset": 1},
        "kick": {"room": "lobby", "name": name},
        "direct_message": {"to": name, "text": "hello"},
        "list_rooms": {"after": name},
    }.items():
        assert refusal(ann, kind, **more) == "invalid_data"
    assert (
        refusal(chat.connect("/accounts"), "log_in", name=name, password=PASSWORD) == "invalid_data"
    )
    assert chat.call(lambda hub: hub.stats().handler_failures) == 0


def test_names_that_look_like_another(new_chat: NewChat) -> None:
    accounts = new_chat().connect("/accounts")
    accounts.ask("register", name="Peter Cox", password=PASSWORD)
    for name in ("peter  cox", "Peter\u3164 Cox", "Peter Cox\ufe0f", "Peter\u2800Cox\u2800 "):
        assert refusal(accounts, "register", name=name, password=PASSWORD) in (
            "name_taken",
            "invalid_data",
        )
