"""`wireroom serve --workers`: several processes on one port, and the one that watches over them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import trustme
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect, unix_connect

from ports import reserved_ports
from programs import TIMEOUT_S, Program

TRANSPORTS = ["asyncio", "uvloop", "anyio-asyncio", "trio", "blocking"]
TRIES = 200  # connections, of which some come to each of two workers

APP = """
import os
from wireroom import operations
from wireroom.core import App, WebSocket

app = App()
operations.install(app, metrics=False)

@app.http("/pid")
def pid(request):
    return f"{os.getpid()} {os.environ['WIREROOM_WORKER']}"

@app.websocket("/pid")
async def echo(ws: WebSocket) -> None:
    await ws.accept()
    await ws.send(str(os.getpid()))
    async for message in ws:
        await ws.send(message)
"""

Serve = Callable[..., Program]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts `wireroom serve server:app --workers 2 --port 0`."""
    (tmp_path / "server.py").write_text(APP)
    with ExitStack() as stack:

        def start(*arguments: str, fd: int = -1, env: dict[str, str] | None = None) -> Program:
            port = [] if {"--unix", "--port"} & {*arguments} or fd >= 0 else ["--port", "0"]
            workers = [] if "--workers" in arguments else ["--workers", "2"]
            program = Program(
                tmp_path, "serve", "server:app", *port, *workers, *arguments, fd=fd, env=env
            )
            stack.callback(program.close)
            return program

        yield start


def get(port: int, path: str = "/pid") -> tuple[int, str]:
    """One request, on a connection of its own."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)) as client:
        client.request("GET", path, headers={"Connection": "close"})
        response = client.getresponse()
        return response.status, response.read().decode()


def pids(port: int, *, count: int = 2) -> set[int]:
    """Those of the workers that answer."""
    found: set[int] = set()
    for _ in range(TRIES):
        found.add(int(get(port)[1].split()[0]))
        if len(found) == count:
            return found
    raise AssertionError(f"only {found} answer")


def open_session(port: int, stack: ExitStack) -> tuple[ClientConnection, int]:
    """A session, and the process that serves it."""
    client = stack.enter_context(connect(f"ws://127.0.0.1:{port}/pid", proxy=None))
    return client, int(client.recv(TIMEOUT_S))


def sessions_of_all(port: int, stack: ExitStack) -> dict[int, ClientConnection]:
    """A session with each of two workers, by its process."""
    found: dict[int, ClientConnection] = {}
    for _ in range(TRIES):
        client, pid = open_session(port, stack)
        if pid in found:
            client.close()
        else:
            found[pid] = client
        if len(found) == 2:
            return found
    raise AssertionError(f"only {list(found)} answer")


def close_code(client: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as ended:
        client.recv(TIMEOUT_S)
    assert ended.value.rcvd is not None
    return ended.value.rcvd.code


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_workers_share_a_port_and_are_replaced_one_after_another(
    serve: Serve, transport: str
) -> None:
    server = serve("--transport", transport)
    port = server.port()
    with ExitStack() as stack:
        before = sessions_of_all(port, stack)
        server.process.send_signal(signal.SIGUSR2)
        for client in before.values():
            assert close_code(client) == 1012
        server.wait_for("all workers have been replaced")
        after = sessions_of_all(port, stack)
        assert not before.keys() & after.keys()
        server.process.send_signal(signal.SIGTERM)
        for client in after.values():
            assert close_code(client) == 1001
    assert server.end(None) == 0
    assert sorted(server.lines[-2:]) == [
        f"worker {number} ended: 1 sessions closed, 0 connections aborted, 0 handlers cancelled"
        for number in (1, 2)
    ]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nobody_is_refused_while_workers_are_replaced(serve: Serve, transport: str) -> None:
    server = serve("--transport", transport)
    port = server.port()
    pids(port)
    server.process.send_signal(signal.SIGUSR2)
    replaced = threading.Event()

    def wait() -> None:
        server.wait_for("all workers have been replaced")
        replaced.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    asked = 0
    while not replaced.is_set() or asked < 10:
        assert get(port)[0] == 200
        asked += 1
    waiting.join()
    assert server.end() == 0


@pytest.mark.parametrize("transport", ["asyncio", "blocking"])
def test_a_worker_that_dies_is_started_again(serve: Serve, transport: str) -> None:
    server = serve("--transport", transport)
    port = server.port()
    with ExitStack() as stack:
        (dies, _), (lives, client) = sessions_of_all(port, stack).items()
        os.kill(dies, signal.SIGKILL)
        assert f"({dies}) was ended by SIGKILL: starting another now" in server.wait_for("SIGKILL")
        assert get(port)[0] == 200  # it waits, if it must
        server.wait_for("is ready")
        assert lives in pids(port)
        client.send("still here")
        assert client.recv(TIMEOUT_S) == "still here"
    assert server.end() == 0


def test_one_that_dies_again_and_again_is_started_after_pauses(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve("--workers", "1")
    port = server.port()
    pauses = ["now", "in 0.5 s", "in 1 s"]
    for pause in pauses:
        os.kill(int(get(port)[1].split()[0]), signal.SIGKILL)
        assert server.wait_for("SIGKILL").endswith(f"starting another {pause}")
        server.wait_for("is ready")
    (tmp_path / "server.py").write_text("this is no Python")
    os.kill(int(get(port)[1].split()[0]), signal.SIGKILL)
    server.wait_for("starting another in 2 s")
    assert server.end() == 0  # also while it waits


def test_an_app_that_cannot_be_loaded_is_status_2(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text("app = 7")
    server = serve()
    assert server.end(None) == 2
    assert any("is a int, and no App" in line for line in server.lines)


TWO_CANNOT_START = """
import os, signal
try:
    os.mkdir("first")
except FileExistsError:
    open("fifo").read()  # until the first waits for its end
    os._exit(2)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
open("fifo", "w").close()
signal.sigwait([signal.SIGTERM])
os._exit(2)
"""


def test_status_2_stays_when_several_cannot_start(serve: Serve, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "server.py").write_text(TWO_CANNOT_START)
    server = serve("--workers", "2")
    assert server.end(None) == 2
    assert sum("ended with status 2" in line for line in server.lines) == 2


def test_a_worker_that_never_starts_ends_it(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text("import os; os._exit(7)")
    server = serve("--workers", "1")
    assert server.end(None) == 1
    assert server.lines[-1].endswith("ended with status 7")
    assert len(server.lines) == 3  # tries


def test_workers_stay_if_their_replacements_cannot_start(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    port = server.port()
    before = pids(port)
    (tmp_path / "server.py").write_text("this is no Python")
    server.process.send_signal(signal.SIGUSR2)
    assert "the workers stay as they are" in server.wait_for("before it was ready")
    assert pids(port) == before
    (tmp_path / "server.py").write_text(APP)
    server.process.send_signal(signal.SIGUSR2)  # and now they can
    server.wait_for("all workers have been replaced")
    assert not pids(port) & before
    assert server.end() == 0


def test_each_worker_has_a_port_of_its_own(serve: Serve) -> None:
    with reserved_ports(2) as (first, second):
        server = serve("--worker-port", str(first))
        port = server.port()
        answers = [get(each)[1].split() for each in (first, second)]
        assert [number for _, number in answers] == ["1", "2"]
        assert {int(pid) for pid, _ in answers} == pids(port)
        assert server.end() == 0


def test_a_port_of_another_program_is_not_shared(serve: Serve) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = serve("--port", str(other.getsockname()[1]))
        assert server.end(None) == 2
    assert "is in use" in server.lines[-1]


def test_it_is_unready_before_it_ends(serve: Serve) -> None:
    server = serve("--unready-s", "3600", "--workers", "1")
    port = server.port()
    with ExitStack() as stack:
        client, _ = open_session(port, stack)
        assert get(port, "/readyz")[0] == 200
        server.process.send_signal(signal.SIGTERM)
        while get(port, "/readyz")[0] != 503:  # as soon as the signal has come through
            pass
        client.send("still here")
        assert client.recv(TIMEOUT_S) == "still here"
        server.process.send_signal(signal.SIGTERM)  # enough of it
        assert close_code(client) == 1001
    assert server.end(None) == 0


def test_sighup_reads_certificates_again_in_all(serve: Serve, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
    certificate.write_to_path(str(tmp_path / "server.pem"))
    server = serve("--certfile", "server.pem")
    assert server.address().startswith("https://")
    server.process.send_signal(signal.SIGHUP)
    for _ in range(2):
        server.wait_for("the certificate was read again")
    assert server.end() == 0


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_end_it_too(serve: Serve, sent: signal.Signals) -> None:
    server = serve()
    server.address()
    assert server.end(sent) == 0


def test_workers_do_not_outlive_their_supervisor(serve: Serve) -> None:
    with reserved_ports() as (port,):
        server = serve("--port", str(port))
        assert server.port() == port
        with ExitStack() as stack:
            sessions = sessions_of_all(port, stack)
            server.process.kill()
            for client in sessions.values():
                assert close_code(client) == 1001
        server.end(None)  # when all have closed their stderr
        with pytest.raises(ConnectionRefusedError):
            get(port)


def test_a_unix_socket_is_shared(serve: Serve, tmp_path: Path) -> None:
    server = serve("--unix", "a.sock")
    assert server.address() == "unix:a.sock"
    with unix_connect(str(tmp_path / "a.sock"), "ws://localhost/pid") as client:
        client.recv(TIMEOUT_S)
        server.process.send_signal(signal.SIGUSR2)
        assert close_code(client) == 1012
    server.wait_for("all workers have been replaced")
    with unix_connect(str(tmp_path / "a.sock"), "ws://localhost/pid") as client:
        client.recv(TIMEOUT_S)
    assert server.end() == 0
    assert not (tmp_path / "a.sock").exists()


def test_an_inherited_socket_is_shared(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = serve("--inherited", fd=listener.fileno())
        assert server.port() == listener.getsockname()[1]
        assert get(listener.getsockname()[1])[0] == 200
        assert server.end() == 0


def test_all_that_is_said_can_be_json(serve: Serve) -> None:
    server = serve("--log-format", "json", "--log-level", "info")
    line = json.loads(server.wait_for("listening on http"))
    port = int(line["message"].rpartition(":")[2])
    assert (line["event"], line["workers"]) == ("listening", 2)
    pid = int(get(port)[1].split()[0])
    os.kill(pid, signal.SIGKILL)
    assert json.loads(server.wait_for("worker_died"))["pid"] == pid
    server.wait_for("worker_ready")
    assert server.end() == 0
    events = [json.loads(line).get("event") for line in server.lines]
    assert events.count("ended") == 2


def test_systemd_is_told(serve: Serve, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(TIMEOUT_S)
        server = serve(env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert systemd.recv(100) == b"READY=1"
        server.address()
        assert server.end() == 0
        assert systemd.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--workers", "2", "--reload"], "--workers, --reload: exclude each other"),
        (["--worker-port", "8400"], "--worker-port: is for workers"),
        (["--unready-s", "5"], "--unready-s: is for workers"),
        (["--workers", "1", "--unready-s", "nan"], "--unready-s: must be a number"),
        (["--workers", "2", "--limit", "nothing=1"], "--limit nothing: there is none"),
        (["--workers", "0"], "Invalid value for '--workers'"),
    ],
)
def test_what_does_not_go_together_is_status_2(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "server.py").write_text(APP)
    program = Program(tmp_path, "serve", "server:app", "--port", "0", *arguments)
    assert program.end(None) == 2
    program.close()
    assert said in program.lines[-1]
