"""What a hub tells those who watch over it: how sessions end, what they cost, how long it takes."""

from __future__ import annotations

import pytest

from driver import Foreign, Peer, Simulation
from frames import frame
from raw import text
from wireroom.core import App, Limits, Session, SessionClosed, SessionOpened, Stopwatch
from wireroom.core.sessions.stats import Stats


def echo_app(**settings: object) -> App:
    app = App(**settings)  # type: ignore[arg-type]  # of the tests below

    @app.module("/echo").on_message
    def echo(session: Session, message: str) -> str:
        return message

    return app


# -- how sessions end -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "counted"), [(1000, 1000), (1001, 1001), (3777, 3000), (4001, 4000), (4999, 4000)]
)
def test_a_peers_close_is_counted_by_its_code(code: int, counted: int) -> None:
    simulation = Simulation(echo_app())
    simulation.open("/echo").close(code)
    assert simulation.hub.stats().closes == {(counted, "peer"): 1}


def test_a_close_without_a_code_is_the_peers() -> None:
    simulation = Simulation(echo_app())
    simulation.open("/echo").send_raw(frame(0x8))
    assert simulation.hub.stats().closes == {(1005, "peer"): 1}


def lose(peer: Peer) -> None:
    peer.lose()


def end(peer: Peer) -> None:
    peer.send_eof()


@pytest.mark.parametrize("how", [lose, end])
def test_an_end_without_a_close_is_nobodys(how: object) -> None:
    simulation = Simulation(echo_app())
    assert callable(how)
    how(simulation.open("/echo"))
    assert simulation.hub.stats().closes == {(1006, "nobody"): 1}


def test_our_own_codes_are_kept_apart() -> None:
    simulation = Simulation(echo_app())
    first, second, third = (simulation.open("/echo") for _ in range(3))
    simulation.session(first).close(4001, "replaced")
    simulation.session(second).close(4002)
    third.send_raw(frame(0x3))  # a violation
    simulation.settle()
    assert simulation.hub.stats().closes == {(4001, "us"): 1, (4002, "us"): 1, (1002, "us"): 1}


def test_a_peer_that_never_answers_our_close_was_closed_by_us() -> None:
    simulation = Simulation(echo_app())
    peer = simulation.open("/echo")
    peer.polite = False
    simulation.session(peer).close(1008)
    assert simulation.hub.stats().closes == {}  # not over yet
    simulation.advance(60.0)
    assert peer.aborted
    assert simulation.hub.stats().closes == {(1008, "us"): 1}


def test_a_peer_that_reads_nothing_is_given_up() -> None:
    simulation = Simulation(echo_app(limits=Limits(stall_timeout_s=5.0)))
    peer = simulation.open("/echo")
    peer.stall()
    peer.send("hello")
    simulation.advance(6.0)
    assert simulation.hub.stats().closes == {(1006, "nobody"): 1}


def test_a_snapshot_does_not_change() -> None:
    stats = Stats()
    before = stats.copy()
    stats.count_close(1000, "us")
    assert before.closes == {}


# -- what a session is, and has cost ----------------------------------------------------------


def test_a_sessions_bytes_and_age_are_known() -> None:
    simulation = Simulation(echo_app(deflate=None))
    simulation.advance(3.0)
    peer = simulation.open("/echo")
    session = simulation.session(peer)
    received, sent = session.bytes_received, session.outbox.bytes_taken
    assert sent == len(peer.received)  # the handshake
    simulation.advance(1.0)
    message = text("hello")
    peer.send_raw(message + message)
    assert session.opened_at == 3.0
    assert session.bytes_received == received + 2 * len(message)
    assert session.outbox.bytes_taken == sent + 2 * len(b"\x81\x05hello") == len(peer.received)
    peer.ping(b"x")  # what is sent out of turn counts too
    assert session.outbox.bytes_taken == len(peer.received)


def test_facts_have_their_session() -> None:
    simulation = Simulation(echo_app())
    peer = simulation.open("/echo")
    session = simulation.session(peer)
    peer.lose()
    (opened,) = simulation.said(SessionOpened)
    (closed,) = simulation.said(SessionClosed)
    assert opened.session is session
    assert closed.session is session
    assert opened == SessionOpened(peer.fd, "/echo")
    assert "session" not in repr(closed)


def test_the_rooms_are_known() -> None:
    app = App()
    for path in ("/one", "/two"):
        app.module(path).on_open(lambda session: session.join("lobby"))
    simulation = Simulation(app)
    peers = [simulation.open(path) for path in ("/one", "/one", "/two")]
    sizes = {(path, room.name): len(room) for path, room in simulation.hub.rooms()}
    assert sizes == {("/one", "lobby"): 2, ("/two", "lobby"): 1}
    for peer in peers:
        peer.lose()
    assert simulation.hub.rooms() == []


# -- how long messages take -------------------------------------------------------------------


class Measured(Stopwatch):
    """By a clock of its own, which is told to go on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.took: list[tuple[str, float]] = []

    def start(self) -> float:
        return self.now

    def stop(self, handler: str, started: float) -> None:
        self.took.append((handler.rpartition(".")[2], self.now - started))


def test_each_message_is_measured_to_the_end_of_its_handler() -> None:
    app = App()
    gate = Foreign()
    watch = Measured()
    app.provide(Stopwatch, lambda: watch)
    module = app.module("/")

    @module.command("quick")
    def quick(ctx: object) -> None:
        watch.now += 1.0

    @module.command("slow")
    async def slow(ctx: object) -> None:
        await gate
        watch.now += 2.0

    @module.command("wrong")
    def wrong(ctx: object) -> None:
        watch.now += 3.0
        raise ValueError("wrong")

    app.module("/raw").on_message(lambda session, message: None)
    simulation = Simulation(app)
    peer = simulation.open("/")
    for command in ("quick", "slow", "wrong"):
        peer.send(f'{{"type": "{command}"}}')
    assert watch.took == [("quick", 1.0)]
    watch.now += 10.0  # while it waits
    simulation.complete(gate)
    assert watch.took == [("quick", 1.0), ("slow", 12.0), ("wrong", 3.0)]
    simulation.open("/raw").send("anything")
    assert watch.took[3:] == [("<lambda>", 0.0)]
    assert simulation.hub.stats().contexts == 0


def test_two_hubs_of_an_app_measure_apart() -> None:
    app = echo_app()
    app.provide(Stopwatch, Measured)
    one, two = Simulation(app), Simulation(app)
    one.open("/echo").send("hello")
    watches = [each.hub.service(Stopwatch) for each in (one, two)]
    assert [len(each.took) for each in watches if isinstance(each, Measured)] == [1, 0]


def test_the_stopwatch_of_the_core_measures_nothing() -> None:
    app = echo_app()
    app.provide(Stopwatch, Stopwatch)
    simulation = Simulation(app)
    peer = simulation.open("/echo")
    peer.send("hello")
    assert peer.messages == ["hello"]
