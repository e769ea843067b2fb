"""The command line as processes: `serve` on every transport, and `connect` against it."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect, unix_connect

from installs import Environment
from ports import reserved_ports
from programs import TIMEOUT_S, Program
from wireroom.transports.conformance.client import Client

TRANSPORTS = ["asyncio", "uvloop", "anyio-asyncio", "trio", "blocking"]
LONG = "3600"  # seconds that no test waits for

APP = """
from wireroom.core import App, Session, WebSocket

app = App()

@app.websocket("/echo", subprotocols=["v1"])
async def echo(ws: WebSocket) -> None:
    await ws.accept("v1" if "v1" in ws.headers.get("sec-websocket-protocol", "") else None)
    async for message in ws:
        await ws.send(message)

@app.websocket("/headers")
async def headers(ws: WebSocket) -> None:
    await ws.accept()
    await ws.send(ws.headers.get("x-test", "none"))

@app.websocket("/silent")
async def silent(ws: WebSocket) -> None:
    await ws.accept()
    async for message in ws:
        pass

@app.websocket("/violate")
async def violate(ws: WebSocket) -> None:
    await ws.accept()
    await ws.close(1008, "go away")

@app.websocket("/refuse")
async def refuse(ws: WebSocket) -> None:
    await ws.reject(401, "no token")

stuck = app.module("/stuck")

@stuck.on_close
async def never(session: Session) -> None:
    await session.sleep(3600)
"""


Run = Callable[..., Program]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Starts programs in a folder with `server.py`."""
    (tmp_path / "server.py").write_text(APP)
    with ExitStack() as stack:

        def start(*arguments: str, env: Mapping[str, str] | None = None, fd: int = -1) -> Program:
            program = Program(tmp_path, *arguments, env=env, fd=fd)
            stack.callback(program.close)
            return program

        yield start


@pytest.fixture
def serve(run: Run) -> Run:
    """Starts `wireroom serve server:app --port 0`."""

    def start(*arguments: str, fd: int = -1) -> Program:
        port = [] if "--unix" in arguments or fd >= 0 else ["--port", "0"]
        return run("serve", "server:app", *port, *arguments, fd=fd)

    return start


def put(path: Path, text: str) -> None:
    """Write a file at once: who looks meanwhile sees the one before."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def echo(client: ClientConnection, message: str = "hello") -> None:
    client.send(message)
    assert client.recv(TIMEOUT_S) == message


def close_code(client: ClientConnection) -> int:
    """How a connection ends, now."""
    with pytest.raises(ConnectionClosed) as ended:
        client.recv(TIMEOUT_S)
    assert ended.value.rcvd is not None
    return ended.value.rcvd.code


# -- serve ------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal(serve: Run, transport: str, sent: signal.Signals) -> None:
    server = serve("--transport", transport)
    address = server.address()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address)
    with connect(address.replace("http", "ws") + "/echo") as client:
        echo(client)
        server.process.send_signal(sent)
        assert close_code(client) == 1001
    assert server.end(None) == 0
    assert server.lines == [
        f"listening on {address}",
        "ended: 1 sessions closed, 0 connections aborted, 0 handlers cancelled",
    ]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_unix_socket_is_served_with_its_permissions(
    serve: Run, run: Run, tmp_path: Path, transport: str
) -> None:
    server = serve("--transport", transport, "--unix", "a.sock", "--unix-mode", "600")
    assert server.address() == "unix:a.sock"
    path = tmp_path / "a.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    with unix_connect(str(path), "ws://localhost/echo") as client:
        echo(client)
    asked = run("connect", "ws://localhost/echo", "--unix", "a.sock", "-m", "hello", "--raw")
    assert asked.stdout.read() == b"hello\n"
    assert server.end() == 0
    assert not path.exists()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_second_signal_ends_it_at_once(serve: Run, transport: str) -> None:
    server = serve("--transport", transport, "--grace-s", "3600")
    with connect(f"ws://127.0.0.1:{server.port()}/stuck") as client:
        server.process.send_signal(signal.SIGTERM)
        assert close_code(client) == 1001
    assert server.process.poll() is None  # its handler has not ended
    assert server.end() == 0
    assert server.lines[-1].endswith("1 handlers cancelled")


def test_the_close_code_and_limits_are_the_command_lines(serve: Run) -> None:
    server = serve("--close-code", "1012", "--limit", "message_bytes_max=100")
    port = server.port()
    with connect(f"ws://127.0.0.1:{port}/echo") as client:
        client.send("x" * 101)
        assert close_code(client) == 1009
    with connect(f"ws://127.0.0.1:{port}/echo") as client:
        echo(client, "x" * 100)
        server.process.send_signal(signal.SIGTERM)
        assert close_code(client) == 1012
    assert server.end(None) == 0


def test_an_inherited_socket_is_served(serve: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = serve("--inherited", fd=listener.fileno())
        assert server.port() == listener.getsockname()[1]
    with connect(f"ws://127.0.0.1:{listener_port(server)}/echo") as client:
        echo(client)
    assert server.end() == 0


def listener_port(server: Program) -> int:
    return int(server.lines[-1].rpartition(":")[2])


def test_every_interface_is_a_star(serve: Run) -> None:
    server = serve("--host", "*")
    addresses = server.address().split(", ")
    assert "http://0.0.0.0:" in addresses[0] + addresses[-1]
    with connect(f"ws://127.0.0.1:{listener_port(server)}/echo") as client:
        echo(client)
    assert server.end() == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_port_in_use_is_status_2(run: Run, transport: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        server = run(
            "serve", "server:app", "--transport", transport, env={"WIREROOM_SERVE_PORT": port}
        )
        assert server.end(None) == 2
    (line,) = server.lines
    assert line.startswith(f"wireroom: --port: {port} is in use on 127.0.0.1: ")


@pytest.mark.parametrize("transport", ["trio", "blocking"])
def test_a_handler_that_the_transport_cannot_run_is_status_2(
    run: Run, tmp_path: Path, transport: str
) -> None:
    decorator = '@requires_loop("asyncio")\nasync def echo'
    source = APP.replace("async def echo", decorator).replace(
        "import App", "import requires_loop, App"
    )
    (tmp_path / "server.py").write_text(source)
    server = run("serve", "server:app", "--transport", transport, "--port", "0")
    assert server.end(None) == 2
    (line,) = server.lines
    assert line.startswith("wireroom: --transport: server.echo requires the loop of asyncio (")
    assert "choose one on asyncio" in line


# -- certificates -----------------------------------------------------------------------------


def write_certificate(folder: Path) -> ssl.SSLContext:
    """Write `server.pem`, by a new authority; gives what a client needs to trust only that."""
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "server.pem")
    )
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_sighup_reads_the_certificate_again(serve: Run, tmp_path: Path, transport: str) -> None:
    # By a client of one thread: websockets' reads and writes one SSLSocket in two threads at once,
    # and about one handshake in 500 never gets through to any server.
    before = write_certificate(tmp_path)
    server = serve("--transport", transport, "--certfile", "server.pem")
    address = ("127.0.0.1", server.port())
    with Client.connect(address, tls=before).handshake("/echo") as first:
        after = write_certificate(tmp_path)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("the certificate was read again")
        with Client.connect(address, tls=after).handshake("/echo") as second:
            second.send("hello")
            assert second.receive() == "hello"
        with pytest.raises(ssl.SSLError):
            Client.connect(address, tls=before)
        (tmp_path / "server.pem").write_text("nothing")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("the certificate stays as it was: ")
        with Client.connect(address, tls=after).handshake("/echo") as third:
            third.send("hello")
            assert third.receive() == "hello"
        first.send("still here")
        assert first.receive() == "still here"
    assert server.end() == 0


def test_connect_trusts_whom_it_is_told_to(serve: Run, run: Run, tmp_path: Path) -> None:
    write_certificate(tmp_path)
    server = serve("--certfile", "server.pem")
    url = server.address().replace("https", "wss") + "/echo"
    for trust in (["--ca", "ca.pem"], ["--insecure"]):
        client = run("connect", url, "-m", "hello", "--raw", *trust)
        assert client.stdout.read() == b"hello\n"
        assert client.end(None) == 0
    client = run("connect", url, "-m", "hello")
    assert client.end(None) == 1
    assert client.lines[-1].startswith("cannot connect: ")
    assert server.end() == 0


# -- reload -----------------------------------------------------------------------------------


def test_a_change_starts_it_again_on_the_same_port(serve: Run, tmp_path: Path) -> None:
    server = serve("--reload")
    port = server.port()
    url = f"ws://127.0.0.1:{port}/echo"
    with connect(url) as client:
        echo(client)
        put(tmp_path / "server.py", APP.replace("send(message)", "send('new')"))
        assert close_code(client) == 1012
    server.wait_for("server.py changed: starting again")
    with connect(url, open_timeout=TIMEOUT_S) as client:  # it waits, if it must
        client.send("hello")
        assert client.recv(TIMEOUT_S) == "new"
    assert server.port() == port

    put(tmp_path / "server.py", "this is no Python")
    server.wait_for("SyntaxError")
    server.wait_for("ended with status 2: waiting for a change")
    put(tmp_path / "other.py", "")
    server.wait_for("other.py changed: starting again")
    server.wait_for("ended with status 2: waiting for a change")
    put(tmp_path / "server.py", APP)
    assert server.port() == port
    with connect(url) as client:
        echo(client)
        server.process.send_signal(signal.SIGTERM)
        assert close_code(client) == 1012
    assert server.end(None) == 0


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_of_the_supervisor_alone_ends_both(serve: Run, sent: signal.Signals) -> None:
    server = serve("--reload", "--unix", "a.sock")
    assert server.address() == "unix:a.sock"
    assert server.end(sent) == 0
    assert server.lines[-1].startswith("ended: ")


def test_the_supervisor_hands_on_sighup(serve: Run, tmp_path: Path) -> None:
    write_certificate(tmp_path)
    server = serve("--reload", "--certfile", "server.pem")
    server.address()
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("the certificate was read again")
    assert server.end() == 0


# -- connect ----------------------------------------------------------------------------------


@pytest.fixture
def url(serve: Run) -> str:
    """Where a server is."""
    return serve().address().replace("http", "ws")


def test_lines_are_sent_and_replies_shown(run: Run, url: str) -> None:
    client = run("connect", f"{url}/echo", "--linger-s", LONG)
    client.stdin.write("grün\r\n\x1b[31m\nno end".encode())
    client.stdin.close()
    shown = [client.stdout.readline().decode().rstrip("\n") for _ in range(6)]
    assert client.end(signal.SIGINT) == 0
    assert client.stdout.read() == b""
    form = r"([<>]) +\d+\.\d{3} s  text +(\d+) B  (.*)"
    rows = [match.groups() for line in shown if (match := re.fullmatch(form, line))]
    assert len(rows) == len(shown)
    said = [("5", "grün"), ("5", "\\x1b[31m"), ("6", "no end")]
    assert [row[1:] for row in rows if row[0] == ">"] == said
    assert [row[1:] for row in rows if row[0] == "<"] == said
    assert client.lines[0].startswith("open after ")
    assert client.lines[-1] == "closed by us: 1000"


def test_silence_after_the_end_of_the_lines_closes_it(run: Run, url: str) -> None:
    client = run("connect", f"{url}/silent", "--linger-s", "0.2")
    client.stdin.write(b"hello\n")
    client.stdin.close()
    assert client.stdout.readline().startswith(b"> ")
    assert client.end(None) == 0
    assert client.lines[-1] == "closed by us: 1000"


def test_binary_lines_are_hexadecimal(run: Run, url: str) -> None:
    client = run("connect", f"{url}/echo", "--binary", "--linger-s", LONG)
    client.stdin.write(b"00 ff\nzz\n")
    client.stdin.close()
    assert client.stdout.readline().startswith(b"> ")
    assert re.fullmatch(rb"< .* binary +2 B  00 ff\n", client.stdout.readline())
    client.wait_for("not sent")
    assert client.end(signal.SIGINT) == 2  # a line was not sent
    assert "not sent, for it is not hexadecimal: zz" in client.lines


@pytest.mark.parametrize("how", [["-m", "hello"], ["--once"]])
def test_one_message_has_one_reply(run: Run, url: str, how: list[str]) -> None:
    client = run("connect", f"{url}/echo", "--raw", *how)
    client.stdin.write(b"hello\nnever sent\n")
    client.stdin.flush()
    assert client.stdout.read() == b"hello\n"
    assert client.end(None) == 0


def test_headers_and_subprotocols_are_sent(run: Run, url: str) -> None:
    client = run("connect", f"{url}/headers", "--header", "X-Test: a: b", "--raw")
    assert client.stdout.read() == b"a: b\n"
    assert client.end(None) == 0
    assert client.lines[-1] == "closed by the server: 1000"
    client = run("connect", f"{url}/echo", "-m", "x", "--subprotocol", "v2", "--subprotocol", "v1")
    assert client.end(None) == 0
    assert client.lines[0].endswith(", subprotocol v1")


def test_pings_are_timed(run: Run, url: str) -> None:
    client = run("connect", f"{url}/echo", "--ping", "--once")
    assert re.fullmatch(rb"< .* pong +round trip \d+\.\d\d ms\n", client.stdout.read())
    assert client.end(None) == 0


def test_ctrl_c_closes_it(run: Run, url: str) -> None:
    client = run("connect", f"{url}/echo")
    client.stdin.write(b"hello\n")
    client.stdin.flush()
    assert client.stdout.readline().startswith(b"> ")
    assert client.stdout.readline().startswith(b"< ")
    assert client.end(signal.SIGINT) == 0
    assert client.lines[-1] == "closed by us: 1000"


@pytest.mark.parametrize(
    ("path", "arguments", "said"),
    [
        ("/violate", [], "closed by the server: 1008 go away"),
        ("/refuse", [], "refused: 401 no token"),
        ("/nowhere", [], "refused: 404 there is nothing at this path"),
        ("/silent", ["-m", "x", "--timeout-s", "3"], "no answer in 3 s"),
        ("/violate", ["-m", "x"], "closed by the server: 1008 go away"),
    ],
)
def test_what_does_not_go_well_is_status_1(
    run: Run, url: str, path: str, arguments: list[str], said: str
) -> None:
    client = run("connect", f"{url}{path}", *arguments)
    assert client.end(None) == 1
    assert said in client.lines


def test_nobody_to_connect_to_is_status_1(run: Run) -> None:
    with reserved_ports() as (port,):
        client = run("connect", f"ws://127.0.0.1:{port}/")
        assert client.end(None) == 1
    assert client.lines[-1].startswith("cannot connect: ")


# -- installed --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_program_is_installed_and_asks_for_click(
    wheel_environment: Environment, tmp_path: Path
) -> None:
    program = wheel_environment.python.with_name("wireroom")
    done = subprocess.run([program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "wireroom: the command line needs click: pip install wireroom[cli]\n"


# -- logs -------------------------------------------------------------------------------------


def test_all_that_serve_says_can_be_json(serve: Run) -> None:
    server = serve("--log-format", "json", "--log-level", "debug")
    port = int(json.loads(server.wait_for("listening on http"))["message"].rpartition(":")[2])
    with connect(f"ws://127.0.0.1:{port}/echo") as client:
        echo(client)
    assert json.loads(server.wait_for("session_closed"))["path"] == "/echo"
    assert server.end() == 0
    events = [json.loads(line).get("event") for line in server.lines]
    assert events.index("listening") < events.index("session_opened") < events.index("ended")


def test_what_cannot_start_can_be_json(run: Run, tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text("1 / 0")
    server = run("serve", "server:app", "--log-format", "json")
    assert server.end(None) == 2
    failed, said = map(json.loads, server.lines)
    assert "ZeroDivisionError" in failed["message"]
    assert said["event"] == "cannot_start"
    assert said["message"].startswith("wireroom: server:app: importing server failed")
