"""What is particular to the blocking transport: threads, and who waits for whom.

What it has in common with the others is in the conformance suite.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import gc
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import trustme
from websockets.sync.client import connect
from wsproto.events import Ping, Pong

from wireroom.core import (
    App,
    ConfigurationError,
    Context,
    Hub,
    Limits,
    LocalProtocolError,
    Session,
    WebSocket,
    blocking,
    current_session,
)
from wireroom.transports.blocking import HandlerCancelled, Server, serve
from wireroom.transports.conformance.behaviours import wait_until
from wireroom.transports.conformance.blocking_handlers import Gate
from wireroom.transports.conformance.client import PATIENCE_S, Client
from wireroom.transports.listening import accept_all
from wireroom.transports.threads import Threads
from wireroom.transports.tls import Certificate, server_context


def make_app(**settings: Any) -> tuple[App, Gate]:
    app = App(**settings)
    gate = Gate()
    echo = app.module("/echo")

    @echo.on_open
    def opened(session: Session) -> None:
        session.join("all")
        session.user = session.handshake.query_params.get("user")

    @echo.on_message
    def say(session: Session, message: str | bytes) -> str | bytes:
        return message

    @app.websocket("/function")
    async def function(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            await ws.send(message)

    @app.websocket("/computes")
    async def computes(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            if message == "compute":
                gate.wait()
            await ws.send(message)

    @app.module("/blocking").on_message
    @blocking
    def blocks(session: Session, message: str) -> str:
        assert current_session() is session
        gate.wait()
        assert session.room("a").broadcast("nobody is here") == 0
        session.send(f"{message}, and")
        return "done"

    return app, gate


@contextmanager
def serving(app: App, **options: Any) -> Iterator[Server]:
    """A server that has to end in time, with all its threads."""
    options = {"port": 0, "grace_s": 1.0, **options}
    server = Server(app, **options)
    server.start()
    try:
        yield server
    finally:
        in_time(server.shutdown)
        wait_until("its threads end", lambda: len(server.threads) == 0)


def in_time(call: Callable[[], Any]) -> Any:
    """What `call` gives, in another thread; an error if it hangs."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(PATIENCE_S)


def wait_until_connected(server: Server, count: int) -> None:
    """Wait until there are so many connections."""
    wait_until(
        f"{count} connections", lambda: server.call(lambda hub: hub.stats().connections) == count
    )


def client(server: Server, path: str = "/echo") -> Client:
    return Client.connect(server.addresses[0]).handshake(path)


def full_socket(server: Server) -> Client:
    """A peer that reads nothing, to whom more was sent than all buffers take."""
    peer = client(server, "/echo?user=stalled")
    server.call(lambda hub: hub.user("stalled").send(b"x" * 16_000_000))
    # Perhaps not at once: another thread may write yet.
    wait_until("its socket is full", lambda: bool(server.full))
    return peer


def large(**limits: Any) -> dict[str, Any]:
    return {"limits": Limits(outbox_bytes_max=64 * 2**20, **limits), "deflate": None}


# -- one lock, and who does not hold it ---------------------------------------------------------


def test_the_threading_client_of_websockets_is_served() -> None:
    app, _ = make_app()
    with serving(app) as server:
        port = server.addresses[0][1]
        for path in ("echo", "function"):
            with connect(f"ws://127.0.0.1:{port}/{path}", proxy=None) as ws:
                for message in ("", "grüße", b"", b"\x00\xff" * 5000, "x" * 300_000):
                    ws.send(message)
                    assert ws.recv(PATIENCE_S) == message
                for number in range(500):
                    ws.send(str(number))
                assert [ws.recv(PATIENCE_S) for _ in range(500)] == [str(n) for n in range(500)]
            assert ws.close_code == 1000
        assert server.wait_idle(PATIENCE_S)
        stats = server.hub.stats()
    assert (stats.sessions, stats.connections, stats.invocations) == (0, 0, 0)
    assert stats.messages_received == stats.messages_sent == 2 * 505


@pytest.mark.parametrize(("path", "first"), [("/computes", "compute"), ("/blocking", "x")])
def test_a_handler_that_takes_long_holds_up_nobody(path: str, first: str) -> None:
    app, gate = make_app()
    with serving(app) as server, client(server, path) as held, client(server) as other:
        held.send(first)
        gate.reached()
        for number in range(10):
            other.send(str(number))
            assert other.receive() == str(number)
        assert server.call(lambda hub: len(hub.sessions())) == 2
        with client(server) as newcomer:
            newcomer.send("and I")
            assert newcomer.receive() == "and I"
        # And its own connection is read from: another thread has taken that over.
        held.send(Ping(b"are you there"))
        await_pong(held)
        gate.open()
        assert held.receive() == (first if path == "/computes" else "x, and")


def await_pong(peer: Client) -> None:
    while not isinstance(peer._next_event("a Pong"), Pong):
        pass


def test_a_connection_goes_on_after_another_thread_has_taken_it_over() -> None:
    app, gate = make_app()
    with serving(app) as server, client(server, "/computes") as peer:
        peer.send("compute", "one")
        gate.reached()
        peer.send(Ping(b""))
        await_pong(peer)
        peer.send("two")
        gate.open()
        assert [peer.receive() for _ in range(3)] == ["compute", "one", "two"]
        peer.send("three")
        assert peer.receive() == "three"
        assert peer.close() == 1000


def test_a_peer_that_leaves_while_its_handler_computes_is_forgotten() -> None:
    app, gate = make_app()
    with serving(app) as server:
        peer = client(server, "/computes")
        peer.send("compute")
        gate.reached()
        peer.reset()
        wait_until_connected(server, 0)
        assert server.hub.stats().invocations == 1
        gate.open()
        assert server.wait_idle(PATIENCE_S)


def test_a_peer_that_never_reads_holds_up_nobody() -> None:
    app, _ = make_app(**large())
    with serving(app, grace_s=0.1) as server, client(server) as reading:
        stalled = full_socket(server)
        for number in range(50):
            server.call(partial(Hub.broadcast, data=f"to all, {number}"))
            assert reading.receive() == f"to all, {number}"
            reading.send("echo")
            assert reading.receive() == "echo"
        assert server.hub.stats().sessions == 2
        stalled.drop()


def test_a_peer_that_reads_late_gets_everything_in_order() -> None:
    app, _ = make_app(**large())
    with serving(app) as server:
        with full_socket(server) as peer:
            for number in range(100):
                server.call(partial(Hub.broadcast, data=str(number)))
            assert peer.receive() == b"x" * 16_000_000
            assert [peer.receive() for _ in range(100)] == [str(n) for n in range(100)]
            wait_until("its socket is full no more", lambda: not server.full)
            peer.send("still served")
            assert peer.receive() == "still served"
            peer.close()
        assert server.wait_idle(PATIENCE_S)


def test_a_peer_that_stalls_is_aborted_though_its_socket_is_full() -> None:
    app, _ = make_app(**large(stall_timeout_s=0.2))
    with serving(app) as server:
        peer = full_socket(server)
        assert server.wait_idle(PATIENCE_S)
        assert server.hub.stats().stalled == 1
        assert not server.full
        peer.drop()


def test_broadcasts_of_many_threads_come_whole_and_each_threads_in_order() -> None:
    senders, receivers, each = 8, 6, 200
    app, _ = make_app(limits=Limits(outbox_bytes_max=64 * 2**20))
    with serving(app) as server:
        peers = [client(server) for _ in range(receivers)]
        session = server.call(lambda hub: hub.sessions()[0])
        room = session.room("all")
        begin = threading.Barrier(senders)

        def send(sender: int) -> None:
            begin.wait(PATIENCE_S)
            for number in range(each):
                assert room.broadcast(f"{sender} {number} " + "x" * number) == receivers

        def receive(peer: Client) -> list[str]:
            return [str(peer.receive()) for _ in range(senders * each)]

        with ThreadPoolExecutor(senders + receivers) as pool:
            sending = [pool.submit(send, sender) for sender in range(senders)]
            received = [pool.submit(receive, peer) for peer in peers]
            for future in sending:
                future.result(PATIENCE_S)
            all_messages = [future.result(PATIENCE_S) for future in received]
        for messages in all_messages:
            for sender in range(senders):
                own = [message for message in messages if message.startswith(f"{sender} ")]
                assert own == [f"{sender} {number} " + "x" * number for number in range(each)]
        for peer in peers:
            peer.drop()


def test_many_threads_join_leave_send_and_close_at_once() -> None:
    app, _ = make_app()
    with serving(app, grace_s=5.0) as server:
        peers = [client(server) for _ in range(8)]
        sessions = server.call(lambda hub: hub.sessions())
        begin = threading.Barrier(len(sessions))

        def churn(session: Session) -> None:
            begin.wait(PATIENCE_S)
            for number in range(200):
                session.join(f"room {number % 7}")
                session.room(f"room {number % 7}").broadcast("x", exclude=[session])
                session.user = number % 5
                session.hub.user(number % 5).send("y")
                assert session.rooms
                session.leave(f"room {number % 7}")
            session.close(4000, "enough")

        with ThreadPoolExecutor(2 * len(sessions)) as pool:
            churning = [pool.submit(churn, session) for session in sessions]
            ends = [pool.submit(peer.finish) for peer in peers]
            for future in churning:
                future.result(PATIENCE_S)
            assert [end.result(PATIENCE_S)[0] for end in ends] == [4000] * len(peers)
        assert server.wait_idle(PATIENCE_S)
        stats = server.hub.stats()
        assert (stats.rooms, stats.users, stats.sessions) == (0, 0, 0)


# -- handlers -----------------------------------------------------------------------------------


class Foreign:
    """What some loop would know to wait for."""

    def __await__(self) -> Generator[object, None, None]:
        yield object()


@pytest.mark.parametrize("kind", ["a loop's", "unknown"])
def test_awaiting_what_is_not_ours_is_an_error_that_names_the_handler(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    app, _ = make_app()
    cleaned_up = threading.Event()

    @app.module("/foreign").on_message
    async def waits_elsewhere(session: Session, message: str) -> None:
        try:
            await (asyncio.sleep(0) if kind == "a loop's" else Foreign())
        finally:
            cleaned_up.set()

    with serving(app) as server, client(server, "/foreign") as peer:
        peer.send("go")
        assert "handler_failed" in str(peer.receive())
        assert cleaned_up.wait(PATIENCE_S)
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LocalProtocolError)
    assert "waits_elsewhere awaited something that is not Wireroom's" in str(record.exc_info[1])


def test_a_handler_that_catches_that_error_goes_on() -> None:
    app = App()

    @app.module("/").on_message
    async def falls_back(session: Session, message: str) -> str:
        try:
            await Foreign()
        except LocalProtocolError:
            await session.sleep(0.001)
        return message

    with serving(app) as server, client(server, "/") as peer:
        peer.send("here")
        assert peer.receive() == "here"


def test_each_handler_has_context_variables_of_its_own() -> None:
    app = App()
    variable = contextvars.ContextVar("variable", default="unset")

    @app.module("/").on_message
    async def remember(session: Session, message: str) -> str:
        before = variable.get()
        variable.set(message)
        await session.sleep(0.001)  # and another thread goes on
        return f"{before} {variable.get()}"

    with serving(app) as server, client(server, "/") as peer:
        for message in ("one", "two"):
            peer.send(message)
            assert peer.receive() == f"unset {message}"


def test_a_cancelled_handler_sees_it_where_it_waits() -> None:
    app = App(limits=Limits(close_timeout_s=0.05))
    seen: SimpleQueue[BaseException] = SimpleQueue()

    @app.websocket("/")
    async def forever(ws: WebSocket) -> None:
        await ws.accept()
        try:
            await ws.sleep(1e6)
        except HandlerCancelled as error:
            seen.put(error)
            raise

    with serving(app) as server:
        client(server, "/").reset()
        assert isinstance(seen.get(timeout=PATIENCE_S), HandlerCancelled)
        assert server.wait_idle(PATIENCE_S)
        assert server.hub.stats().handler_failures == 0


def test_json_nested_too_deeply_is_a_bad_message() -> None:
    app = App()

    @app.module("/").command("say")
    def say(ctx: Context, data: Any) -> str:
        return "said"

    with serving(app) as server, client(server, "/") as peer:
        nested = '{"type": "say", "data": ' + "[" * 100_000 + "]" * 100_000 + "}"
        peer.send(nested)
        assert "error" in str(peer.receive())
        peer.send('{"type": "say", "data": []}')
        assert peer.receive() == "said"


# -- calling in ---------------------------------------------------------------------------------


def test_call_runs_a_function_as_an_input_in_any_thread() -> None:
    app, _ = make_app()
    with serving(app) as server, client(server, "/echo?user=ann") as peer:
        assert server.call(lambda hub: hub.user("ann").send("from outside")) == 1
        assert peer.receive() == "from outside"
        with pytest.raises(ZeroDivisionError):
            server.call(lambda hub: 1 // 0)
        # A call within a call is a part of it.
        assert server.call(lambda hub: server.call(lambda same: same is hub))


def test_waiting_for_others_is_refused_to_who_holds_them_up() -> None:
    app, _ = make_app()
    with serving(app) as server:
        waits: list[Callable[[], object]] = [
            server.shutdown,
            server.wait_idle,
            server.serve_forever,
        ]
        for wait in waits:
            with pytest.raises(LocalProtocolError, match=r"in a handler, call stop\(\)"):
                server.call(lambda hub: wait())  # noqa: B023 - called at once
        server.call(lambda hub: server.stop())
        in_time(server.serve_forever)


# -- the end ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/computes", "/blocking"])
def test_a_stuck_handler_does_not_hold_up_the_end(path: str) -> None:
    app, gate = make_app()
    server = Server(app, port=0, grace_s=0.1)
    with server:
        peer = client(server, path)
        peer.send("compute")
        gate.reached()
        report = in_time(server.shutdown)
        assert (report.aborted, report.cancelled, report.unfinished) == (1, 1, 1)
        wait_until_connected(server, 0)  # though its handler runs still
        assert server.shutdown() is report
    gate.open()
    assert server.wait_idle(PATIENCE_S)
    peer.drop()


def test_neither_a_silent_peer_nor_a_full_socket_holds_up_the_end() -> None:
    app, _ = make_app(**large())
    server = Server(app, port=0, grace_s=0.2)
    with server:
        silent = client(server)
        full = full_socket(server)
        half = Client.connect(server.addresses[0])
        half.write(b"GET / HTTP/1.1\r\n")
        wait_until_connected(server, 3)
        report = in_time(server.shutdown)
    assert (report.aborted, report.cancelled, report.unfinished) == (2, 0, 0)
    wait_until("its threads end", lambda: len(server.threads) == 0)
    for peer in (silent, full, half):
        peer.drop()


def test_a_tls_handshake_does_not_hold_up_the_end(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = tmp_path / "certificate.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    app, _ = make_app()
    with serving(app, ssl=server_context(certificate)) as server:
        silent = socket.create_connection(server.addresses[0])
        wait_until("it is accepted", lambda: len(server.sockets) == 1)
    assert server.tls_failures == 1
    silent.close()


def test_handshakes_go_on_while_certificates_are_read_again(tmp_path: Path) -> None:
    authority = trustme.CA()
    path = tmp_path / "certificate.pem"

    def renew() -> None:
        new = authority.issue_cert("localhost").private_key_and_cert_chain_pem
        new.write_to_path(str(path.with_suffix(".new")))
        path.with_suffix(".new").replace(path)

    renew()
    certificate = Certificate(path)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    app, _ = make_app()
    done = threading.Event()

    def renew_on() -> int:
        renewals = 0
        while not done.is_set():
            renew()
            certificate.reload()
            renewals += 1
        return renewals

    def shake_hands(server: Server) -> None:
        for number in range(25):
            with Client.connect(server.addresses[0], tls=trusting).handshake("/echo") as peer:
                peer.send(str(number))
                assert peer.receive() == str(number)

    with serving(app, ssl=certificate.context) as server, ThreadPoolExecutor(5) as pool:
        renewing = pool.submit(renew_on)
        try:
            clients = [pool.submit(shake_hands, server) for _ in range(4)]
            for each in clients:
                each.result(PATIENCE_S)
        finally:
            done.set()
        assert renewing.result(PATIENCE_S) > 1
        assert server.wait_idle(PATIENCE_S)
    assert server.tls_failures == 0


def test_shutdown_makes_serve_forever_return() -> None:
    app, _ = make_app()
    with Server(app, port=0) as server:
        served: Future[None] = Future()

        def serve_on() -> None:
            server.serve_forever()
            served.set_result(None)

        thread = threading.Thread(target=serve_on, daemon=True)
        thread.start()
        assert not served.done()
        reports = [in_time(server.shutdown) for _ in range(2)]
        served.result(PATIENCE_S)
        thread.join(PATIENCE_S)
    assert reports[0] is reports[1]


def test_a_second_stop_ends_the_waiting_for_others() -> None:
    app, _ = make_app()
    with Server(app, port=0, grace_s=1e6) as server:
        peer = client(server)  # which never answers a Close
        server.stop()
        ending = threading.Thread(target=server.shutdown, daemon=True)
        ending.start()
        assert peer.await_close()[0] == 1001
        server.stop()
        ending.join(PATIENCE_S)
        assert not ending.is_alive()
        assert server.shutdown().aborted == 1
        peer.drop()


def test_a_server_is_started_once_and_may_end_unstarted() -> None:
    app, _ = make_app()
    unstarted = Server(app, port=0)
    assert unstarted.shutdown().closed == 0
    server = Server(app, port=0)
    with (
        socket.socket() as sock,
        pytest.raises(LocalProtocolError, match="start the server first"),
    ):
        server.adopt(sock)
    with server, pytest.raises(LocalProtocolError, match="once"):
        server.start()


def open_fds() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="the system does not tell")
def test_a_thousand_connects_and_drops_leave_no_thread_and_no_fd() -> None:
    app, _ = make_app()
    gc.collect()
    threads, fds = set(threading.enumerate()), open_fds()
    with serving(app, grace_s=5.0) as server:
        for number in range(1000):
            peer = Client.connect(server.addresses[0])
            if number % 3:
                peer.handshake("/function" if number % 2 else "/echo")
            if number % 5:
                peer.reset()
            else:
                peer.drop()
        client(server).drop()  # all before it have been accepted then
        assert server.wait_idle(PATIENCE_S)
        assert server.sockets == set()
        assert len(server.threads) < 100
        stats = server.hub.stats()
        assert (stats.connections, stats.sessions, stats.invocations) == (0, 0, 0)
    wait_until("its threads end", lambda: not set(threading.enumerate()) - threads)
    assert open_fds() <= fds


# -- bounds and settings ------------------------------------------------------------------------


def test_connections_are_bounded_by_a_setting_of_the_server() -> None:
    app, _ = make_app()
    with serving(app, connections_max=1) as server:
        with client(server) as peer:

            def ask(hub: Hub) -> Client:
                """While the server takes nobody: who is refused has not long to ask."""
                asking = Client.connect(server.addresses[0])
                asking.write(b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n")
                return asking

            with server.call(ask) as refused:
                assert refused.read_to_end().startswith(b"HTTP/1.1 503 ")
            peer.send("served")
            assert peer.receive() == "served"
            peer.close()
        assert server.wait_idle(PATIENCE_S)
        client(server).drop()


def test_no_thread_for_a_connection_is_said_and_survived(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app, _ = make_app()
    with serving(app) as server:
        run = server.threads.run
        failures = iter([True])

        def fail_once(call: Callable[[], object]) -> None:
            if next(failures, False):
                raise RuntimeError("can't start new thread")
            run(call)

        monkeypatch.setattr(Threads, "run", lambda self, call: fail_once(call))
        with socket.create_connection(server.addresses[0]) as unlucky:
            unlucky.settimeout(PATIENCE_S)
            assert unlucky.recv(1) == b""
        with client(server) as peer:
            peer.send("served")
            assert peer.receive() == "served"
    assert "cannot accept connections: can't start new thread" in caplog.text


def test_no_descriptor_for_a_connection_is_survived(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app, _ = make_app()
    failures = iter([OSError(errno.EMFILE, os.strerror(errno.EMFILE))])

    def fail_once(listener: socket.socket) -> Any:
        error = next(failures, None)
        return ([], False, error) if error is not None else accept_all(listener)

    monkeypatch.setattr("wireroom.transports.accept_thread.accept_all", fail_once)
    with serving(app) as server, client(server) as peer:
        peer.send("served")
        assert peer.receive() == "served"
    assert "cannot accept connections" in caplog.text


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"stack_bytes": 1000}, "stack_bytes"),
        ({"connections_max": 0}, "connections_max"),
        ({"grace_s": -1.0}, "grace_s"),
        ({"close_code": 1000}, "close_code"),
    ],
)
def test_settings_that_cannot_work(options: dict[str, Any], setting: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Server(App(), **options)
    assert raised.value.setting == setting


def test_a_port_in_use_is_an_error_that_names_the_setting() -> None:
    app, _ = make_app()
    with serving(app) as server, pytest.raises(ConfigurationError, match=r"port: .* in use"):
        Server(app, port=server.addresses[0][1]).start()


# -- a program ----------------------------------------------------------------------------------

PROGRAM = """
from wireroom.core import App
from wireroom.transports.blocking import serve

app = App()
app.module("/").on_message(lambda session, message: message)
report = serve(app, port=0, grace_s=%s, on_ready=lambda server: print(
    server.addresses[0][1], flush=True))
print(report.closed, report.aborted)
"""


def start_program(grace_s: float) -> tuple[subprocess.Popen[str], tuple[str, int]]:
    program = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM % grace_s],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    return program, ("127.0.0.1", int(program.stdout.readline()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    program, address = start_program(10.0)
    with Client.connect(address).handshake("/") as peer:
        program.send_signal(number)
        assert peer.finish()[0] == 1001
    output, errors = program.communicate(timeout=PATIENCE_S)
    assert (program.returncode, output, errors) == (0, "1 0\n", "")


def test_a_second_signal_ends_it_now() -> None:
    program, address = start_program(1e6)
    with Client.connect(address).handshake("/") as silent:
        program.send_signal(signal.SIGTERM)
        silent.await_close()
        program.send_signal(signal.SIGTERM)
        output, _ = program.communicate(timeout=PATIENCE_S)
    assert (program.returncode, output) == (0, "0 1\n")


@pytest.mark.parametrize("looked_at", ["is_stopped", "is_stopped_now"])
def test_a_signal_just_before_its_own_thread_waits_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, looked_at: str
) -> None:
    app, _ = make_app()
    look = getattr(Server, looked_at).fget
    signals = iter([signal.SIGTERM])
    peers = []

    def look_and_be_interrupted(server: Server) -> bool:
        seen: bool = look(server)
        for each in signals:
            signal.raise_signal(each)
        return seen

    def ready(server: Server) -> None:
        peers.append(client(server))
        if looked_at == "is_stopped_now":
            server.stop()

    monkeypatch.setattr(Server, looked_at, property(look_and_be_interrupted))
    grace_s = 1e6 if looked_at == "is_stopped_now" else 0.0
    report = serve(app, port=0, grace_s=grace_s, on_ready=ready)
    assert report.aborted == 1
    peers[0].sock.close()


def test_in_another_thread_serve_handles_no_signals() -> None:
    ready: Future[Server] = Future()
    ended: Future[Any] = Future()
    before = signal.getsignal(signal.SIGTERM)

    def run() -> None:
        ended.set_result(serve(make_app()[0], port=0, on_ready=ready.set_result))

    threading.Thread(target=run, daemon=True).start()
    server = ready.result(PATIENCE_S)
    assert signal.getsignal(signal.SIGTERM) is before
    server.stop()
    assert ended.result(PATIENCE_S).aborted == 0
