"""The console: who may look, what is told, and how a session is closed from there."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from driver import Peer, Simulation
from http_responses import HttpResponse, read_response
from raw import get
from wireroom import operations
from wireroom.core import Accept, App, ConfigurationError, Request, Session
from wireroom.core.wire.request import Address
from wireroom.operations import console, feed, scan

TOKEN = "a-token-of-the-tests"


def make_app(**options: Any) -> App:
    app = App(deflate=None)
    module = app.module("/chat/{name}")

    @module.on_handshake
    def decide(request: Request) -> Accept:
        return Accept(user=request.path_params["name"])

    @module.on_open
    def opened(session: Session) -> None:
        session.join("lobby")

    @module.on_message
    def say(session: Session, message: str) -> None:
        session.room("lobby").broadcast(message)

    operations.install(app, console_token=TOKEN, **options)
    return app


def simulate(app: App) -> Simulation:
    simulation = Simulation(app)
    simulation.hub.start(now=0.0)
    return simulation


def ask(simulation: Simulation, path: str) -> HttpResponse:
    peer = simulation.connect()
    peer.send_raw(get(path))
    response = read_response(bytes(peer.received))
    peer.lose()
    return response


def take(peer: Peer) -> list[Any]:
    """What has come, decoded."""
    messages = [json.loads(message) for message in peer.messages]
    peer.messages.clear()
    return messages


def open_console(simulation: Simulation) -> Peer:
    """One that has shown the token, and has read the reply."""
    peer = simulation.open("/console/feed")
    peer.send(json.dumps({"type": "authenticate", "request_id": 1, "token": TOKEN}))
    (reply,) = take(peer)
    assert reply["type"] == "reply"
    assert reply["request_id"] == 1
    return peer


def snapshot(simulation: Simulation, peer: Peer, **watch: str) -> Any:
    """The next one."""
    if watch:
        peer.send(json.dumps({"type": "watch", **watch}))
    take(peer)
    simulation.advance(1.0)
    (found,) = take(peer)
    assert found["type"] == "snapshot"
    return found


# -- who may look -----------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, ""])
def test_without_a_token_there_is_no_console(token: str | None) -> None:
    app = App()
    operations.install(app, console_token=token)
    simulation = simulate(app)
    for path in ("/console", "/console/feed", "/console/console.js", "/console/console.css"):
        assert ask(simulation, path).status == 404


def test_a_token_has_to_be_long() -> None:
    with pytest.raises(ConfigurationError, match="console_token: must have at least 16"):
        operations.install(App(), console_token="a" * 15)


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/console", "text/html"),
        ("/console/console.js", "text/javascript"),
        ("/console/console.css", "text/css"),
    ],
)
def test_the_page_is_served_under_a_strict_policy(path: str, content_type: str) -> None:
    response = ask(simulate(make_app()), path)
    assert response.status == 200
    assert response.headers["content-type"] == f"{content_type}; charset=utf-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    policy = response.headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in response.headers["content-security-policy"]
    assert TOKEN.encode() not in response.body


def test_the_token_comes_in_the_first_message() -> None:
    simulation = simulate(make_app())
    peer = open_console(simulation)
    simulation.advance(1.0)
    (found,) = take(peer)
    assert found["type"] == "snapshot"


def test_or_with_the_handshake() -> None:
    simulation = simulate(make_app())
    peer = simulation.open(
        "/console/feed", headers=[(b"Authorization", f"bearer {TOKEN}".encode())]
    )
    simulation.advance(1.0)
    assert take(peer)[0]["type"] == "snapshot"


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1], "ü"])
def test_a_wrong_token_is_closed_after_a_second(token: str) -> None:
    simulation = simulate(make_app())
    peer = simulation.open("/console/feed")
    peer.send(json.dumps({"type": "authenticate", "token": token}))
    simulation.advance(0.9)
    assert peer.close_frame is None
    simulation.advance(0.2)
    assert peer.close_code() == 4401
    assert take(peer) == []


def test_a_wrong_token_in_the_handshake_is_refused_after_a_second() -> None:
    simulation = simulate(make_app())
    peer = simulation.open("/console/feed", headers=[(b"Authorization", b"Bearer wrong")])
    simulation.advance(0.9)
    assert peer.status() is None
    simulation.advance(0.2)
    assert peer.status() == 401


def test_no_token_in_time_is_closed() -> None:
    simulation = simulate(make_app())
    peer = simulation.open("/console/feed")
    simulation.advance(9.0)
    assert peer.close_frame is None
    simulation.advance(2.0)
    assert peer.close_code() == 4401
    assert take(peer) == []


@pytest.mark.parametrize("request_type", ["watch", "kick"])
def test_nothing_is_done_for_strangers(request_type: str) -> None:
    simulation = simulate(make_app())
    other = simulation.open("/chat/ann")
    generation = simulation.session(other).generation
    peer = simulation.open("/console/feed")
    peer.send(json.dumps({"type": request_type, "fd": other.fd, "generation": generation}))
    (error,) = take(peer)
    assert (error["type"], error["code"]) == ("error", "unauthenticated")
    simulation.advance(3.0)
    assert take(peer) == []
    assert other.close_frame is None


def test_strangers_and_consoles_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "STRANGERS_MAX", 2)
    monkeypatch.setattr(console, "CONSOLES_MAX", 1)
    simulation = simulate(make_app())
    strangers = [simulation.open("/console/feed") for _ in range(3)]
    assert [peer.close_code() for peer in strangers] == [4429, None, None]
    authenticate = json.dumps({"type": "authenticate", "token": TOKEN})
    for peer in strangers[1:]:
        peer.send(authenticate)
    assert [peer.close_code() for peer in strangers] == [4429, None, 4429]
    strangers[1].send(authenticate)  # once more does no harm
    assert strangers[1].close_frame is None
    strangers[1].lose()
    open_console(simulation)


def stranger(simulation: Simulation, host: str) -> Peer:
    """Somebody at an address who has opened the feed, and said nothing."""
    peer = simulation.connect(host)
    peer.open("/console/feed")
    return peer


def test_who_keeps_places_does_not_keep_an_operator_out() -> None:
    simulation = simulate(make_app())
    many = [stranger(simulation, "192.0.2.1") for _ in range(console.STRANGERS_MAX)]
    operator = stranger(simulation, "198.51.100.1")
    more = [stranger(simulation, "192.0.2.1") for _ in range(10)]
    assert [peer.close_code() for peer in many] == [4429] * 11 + [None] * (len(many) - 11)
    assert [peer.close_code() for peer in more] == [None] * 10
    operator.send(json.dumps({"type": "authenticate", "token": TOKEN}))
    simulation.advance(console.AUTHENTICATE_S + 1.0)
    assert operator.close_frame is None
    assert [peer.close_code() for peer in more] == [4401] * 10


def test_of_strangers_from_everywhere_the_oldest_goes() -> None:
    simulation = simulate(make_app())
    hosts = [f"2001:db8::{number}:0:0:0:1" for number in range(console.STRANGERS_MAX - 1)]
    first = stranger(simulation, "198.51.100.1")
    others = [stranger(simulation, host) for host in hosts]
    one_site = [stranger(simulation, f"2001:db8:1::{number}") for number in (1, 2)]
    assert first.close_code() == 4429  # nobody is there twice
    assert one_site[0].close_code() == 4429
    assert {peer.close_code() for peer in [*others, one_site[1]]} == {None}


def test_who_guesses_gives_no_place_up_and_gets_no_more_guesses() -> None:
    simulation = simulate(make_app())
    wrong = json.dumps({"type": "authenticate", "token": "wrong"})
    guessing = [stranger(simulation, "192.0.2.1") for _ in range(console.STRANGERS_MAX)]
    for peer in guessing:
        peer.send(wrong)
    late = stranger(simulation, "192.0.2.1")
    assert late.close_code() == 4429
    assert all(peer.close_frame is None for peer in guessing)
    simulation.advance(console.WRONG_TOKEN_S)
    assert {peer.close_code() for peer in guessing} == {4401}
    assert stranger(simulation, "192.0.2.1").close_frame is None


@pytest.mark.parametrize(
    ("address", "site"),
    [
        (("192.0.2.1", 5000), "192.0.2.1"),
        (("2001:db8:1:2:3:4:5:6", 5000), "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.1", 5000), "192.0.2.1"),
        (("fe80::1%eth0", 5000), "fe80::/64"),
        (("unknown", 0), "unknown"),
        ("/run/wireroom.sock", None),
        (None, None),
    ],
)
def test_what_a_stranger_is_counted_by(address: Address, site: str | None) -> None:
    assert console.site_of(address) == site


# -- what is told -----------------------------------------------------------------------------


def test_a_snapshot_says_how_it_is() -> None:
    simulation = simulate(make_app(checks={"backplane": lambda: "gone"}))
    ann, ben = simulation.open("/chat/ann"), simulation.open("/chat/ben")
    peer = open_console(simulation)
    snapshot(simulation, peer)
    ann.send("hello")
    ben.close(1001)
    found = snapshot(simulation, peer)
    assert found["is_ready"] is True
    assert found["uptime_s"] == 1.0  # since the first look
    assert found["gauges"] == {
        "connections": 2,
        "sessions": 2,
        "rooms": 1,
        "users": 1,
        "invocations": 0,
        "contexts": 0,
    }
    assert found["rates"]["messages_received"] == 1.0
    assert found["rates"]["messages_sent"] == 3.0  # and a snapshot
    assert found["rates"]["sessions_closed"] == 1.0
    assert found["closes"] == [{"code": 1001, "by": "peer", "count": 1}]
    assert found["checks"] == [{"name": "backplane", "reason": "gone", "is_required": False}]
    assert found["rooms"] == {
        "total": 1,
        "shown": [{"path": "/chat/{name}", "name": "lobby", "sessions": 1}],
    }
    assert sum(found["latency"]["counts"]) == 2  # and the authentication
    assert len(found["latency"]["counts"]) == len(found["latency"]["bounds_s"]) + 1
    assert {each["name"].rpartition(".")[2] for each in found["latency"]["handlers"]} == {
        "say",
        "authenticate",
    }
    sessions = found["sessions"]
    assert (sessions["total"], sessions["matching"]) == (2, 2)
    (row,) = [each for each in sessions["shown"] if each["user"] == "ann"]
    assert row["fd"] == ann.fd
    assert row["generation"] == simulation.session(ann).generation
    assert row["path"] == "/chat/ann"
    assert row["address"] == "10.0.0.1:4000"
    assert row["age_s"] == 2.0
    assert (row["rooms"], row["rooms_total"]) == (["lobby"], 1)
    assert row["bytes_sent_per_s"] == len(b"\x81\x05hello")
    assert row["bytes_received_per_s"] == len(b"\x81\x05....hello")


def test_what_is_documented_is_told() -> None:
    simulation = simulate(make_app())
    found = snapshot(simulation, open_console(simulation))
    assert feed.__doc__ is not None
    for name in found:
        assert f'"{name}"' in feed.__doc__
    for name in found["sessions"]["shown"][0]:
        assert f'"{name}"' in feed.__doc__
    for name in (*found["rates"], *found["failures"], *found["drops"], *found["queues"]):
        assert f'"{name}"' in feed.__doc__


def test_rates_are_per_second_also_after_a_pause() -> None:
    simulation = simulate(make_app())
    peer = open_console(simulation)
    snapshot(simulation, peer)
    ann = simulation.open("/chat/ann")
    ann.send(*["hello"] * 10)
    simulation.now += 3.0  # nobody looked for so long
    simulation.hub.handle_timeout(now=simulation.now)
    simulation.settle()
    found = take(peer)[-1]
    assert found["rates"]["messages_received"] == pytest.approx(10 / 3)


def test_a_console_that_comes_later_is_told_the_past() -> None:
    simulation = simulate(make_app())
    simulation.open("/chat/ann")
    simulation.advance(console.HISTORY_MAX + 10)
    peer = simulation.open("/console/feed")
    peer.send(json.dumps({"type": "authenticate", "request_id": 1, "token": TOKEN}))
    (told,) = take(peer)
    assert told["data"]["interval_s"] == 1.0
    history = told["data"]["history"]
    assert len(history) == console.HISTORY_MAX
    assert history[-1]["sessions"] == 1
    assert history[-1]["rates"].keys() == set(feed.Rates.__struct_fields__)


def test_sessions_are_found_and_sorted() -> None:
    simulation = simulate(make_app())
    peer = open_console(simulation)
    peers = {}
    for name in ("ann", "ben", "cat"):
        simulation.advance(1.0)
        peers[name] = simulation.open(f"/chat/{name}")
    peers["ben"].stall()
    peers["ann"].send("x" * 1000, "y" * 500)
    peers["cat"].send("z")

    def users(**watch: str) -> list[str | None]:
        return [each["user"] for each in snapshot(simulation, peer, **watch)["sessions"]["shown"]]

    assert users()[0] == "ben"  # its outbox
    assert users(sort="newest") == ["cat", "ben", "ann", None]
    assert users(sort="oldest") == [None, "ann", "ben", "cat"]
    peers["cat"].send("hello" * 100)
    assert users(sort="bytes_received_per_s")[0] == "cat"
    assert users(sort="oldest", search="BEN") == ["ben"]
    assert users(sort="oldest", search="lobby") == ["ann", "ben", "cat"]
    assert users(sort="oldest", search="nobody") == []
    found = snapshot(simulation, peer, sort="oldest", search="/chat/")
    assert (found["sessions"]["total"], found["sessions"]["matching"]) == (4, 3)
    assert found["sessions"]["search"] == "/chat/"
    assert found["queues"]["outbox_bytes"] == found["queues"]["outbox_bytes_highest"] > 0


def test_a_snapshot_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "SESSIONS_MAX", 3)
    monkeypatch.setattr(scan, "ROOMS_MAX", 2)
    simulation = simulate(make_app())
    for number in range(5):
        session = simulation.session(simulation.open(f"/chat/{number}"))
        for room in range(10):
            session.join("r" * 500 + str(room))
    peer = open_console(simulation)
    found = snapshot(simulation, peer)
    assert len(found["sessions"]["shown"]) == 3
    assert found["sessions"]["total"] == 6
    assert len(found["rooms"]["shown"]) == 2
    assert found["rooms"]["total"] == 11
    row = next(each for each in found["sessions"]["shown"] if each["rooms_total"])
    assert row["rooms_total"] == 11
    assert len(row["rooms"]) == feed.ROOMS_OF_SESSION_MAX
    assert max(map(len, row["rooms"])) == feed.TEXT_MAX


def test_very_many_sessions_are_looked_at_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "SCAN_MAX", 2)
    simulation = simulate(make_app())
    for number in range(4):
        simulation.open(f"/chat/{number}")
    peer = open_console(simulation)  # the fifth: a look every third time
    found = snapshot(simulation, peer)
    assert found["sessions"]["total"] == 5
    assert found["sessions"]["shown"][0]["bytes_sent_per_s"] is None
    simulation.open("/chat/another")
    totals = [snapshot(simulation, peer)["sessions"]["total"] for _ in range(3)]
    assert totals == [5, 5, 6]


def test_a_console_that_does_not_read_is_told_less() -> None:
    simulation = simulate(make_app())
    peer = open_console(simulation)
    session = simulation.session(peer)
    for number in range(100):
        simulation.session(simulation.open(f"/chat/{number}")).join("room" * 30)
    peer.stall()
    simulation.advance(15.0)
    assert session.is_connected
    assert session.outbox.waiting < 2 * session.outbox.mark + 100_000
    peer.read()
    assert take(peer)
    snapshot(simulation, peer)


def test_nobody_who_watches_costs_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr(scan.Scan, "look", lambda self, hub: looks.append(hub.now))
    simulation = simulate(make_app())
    simulation.advance(5.0)
    assert looks == []
    peer = open_console(simulation)
    simulation.advance(1.0)
    peer.lose()
    simulation.advance(5.0)
    assert len(looks) == 1


def test_a_user_that_json_does_not_know_can_be_shown() -> None:
    app = make_app()
    app.module("/odd").on_handshake(lambda request: Accept(user="\ud800" * 200))
    simulation = simulate(app)
    simulation.open("/odd")
    found = snapshot(simulation, open_console(simulation), search="odd")
    assert found["sessions"]["shown"][0]["user"].startswith("???")
    assert simulation.failures == []


# -- closing sessions -------------------------------------------------------------------------


def kick(simulation: Simulation, peer: Peer, other: Peer, **more: object) -> Any:
    message = {"type": "kick", "request_id": 9, "fd": other.fd, **more}
    if "generation" not in more:
        message["generation"] = simulation.session(other).generation
    take(peer)
    peer.send(json.dumps(message))
    (answer,) = take(peer)
    assert answer["request_id"] == 9
    return answer


def test_a_session_can_be_closed(caplog: pytest.LogCaptureFixture) -> None:
    simulation = simulate(make_app())
    peer, ann, ben = (
        open_console(simulation),
        simulation.open("/chat/ann"),
        simulation.open("/chat/ben"),
    )
    generation = simulation.session(ann).generation
    with caplog.at_level(logging.WARNING, "wireroom.console"):
        answer = kick(simulation, peer, ann)
    assert answer["type"] == "reply"
    assert answer["data"] == {"fd": ann.fd, "generation": generation}
    assert ann.close_frame is not None
    assert (ann.close_code(), ann.close_frame.reason) == (1008, "closed by an operator")
    (record,) = caplog.records
    assert vars(record)["event"] == "session_kicked"
    assert vars(record)["user"] == "ann"

    kick(simulation, peer, ben, code=4321, reason="spam")
    assert ben.close_frame is not None
    assert (ben.close_code(), ben.close_frame.reason) == (4321, "spam")


def test_another_session_of_the_same_fd_is_not_closed() -> None:
    simulation = simulate(make_app())
    peer, ann = open_console(simulation), simulation.open("/chat/ann")
    generation = simulation.session(ann).generation
    answer = kick(simulation, peer, ann, generation=generation - 1)
    assert (answer["type"], answer["code"]) == ("error", "no_session")
    assert ann.close_frame is None
    ann.lose()
    answer = kick(simulation, peer, ann, generation=generation)
    assert answer["code"] == "no_session"


@pytest.mark.parametrize(
    "more",
    [{"code": 1005}, {"code": 999}, {"code": 1010}, {"reason": "x" * 124}, {"code": "1008"}],
)
def test_what_cannot_be_said_is_refused(more: dict[str, object]) -> None:
    simulation = simulate(make_app())
    peer, ann = open_console(simulation), simulation.open("/chat/ann")
    answer = kick(simulation, peer, ann, **more)
    assert (answer["type"], answer["code"]) == ("error", "invalid_data")
    assert ann.close_frame is None
    assert simulation.failures == []
