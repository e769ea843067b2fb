"""The files of docs/examples/deployment: proxies before a server, and the units of systemd."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, final

import pytest
import trustme
from wsproto.events import Ping

from ports import reserved_ports
from sources import ROOT
from wireroom import operations
from wireroom.core import App, WebSocket
from wireroom.operations import Operations
from wireroom.transports.blocking import Server
from wireroom.transports.conformance.client import Client, Refused

EXAMPLES = ROOT / "docs/examples/deployment"
TIMEOUT_S = 60.0
HOST = "chat.example.org"
CLIENT = "127.0.0.2"  # not the proxy's address
TOKEN = "a-token-of-the-tests"

pytestmark = pytest.mark.servers


def program(name: str, package: str = "") -> str:
    """Where it is; skips where it is not installed."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install {package or name}")
    return found


@final
class Proxy:
    """A proxy that runs, and what is needed to be its client."""

    def __init__(self, port: int, tls: ssl.SSLContext, ops: Operations, server_port: int) -> None:
        self.port = port
        self.ops = ops
        self.server_port = server_port
        self._tls = tls

    def _socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), TIMEOUT_S, (CLIENT, 0))

    def open(self, path: str, **options: Any) -> Client:
        """A WebSocket through the proxy; the options are those of `Client.upgrade`."""
        client = Client(self._tls.wrap_socket(self._socket(), server_hostname=HOST))
        try:
            return client.handshake(path, host=f"{HOST}:{self.port}", **options)
        except BaseException:
            client.drop()
            raise

    def get(self, path: str) -> tuple[int, bytes]:
        """A plain request through the proxy."""
        with closing(http.client.HTTPSConnection(HOST, self.port, context=self._tls)) as client:
            client.sock = self._tls.wrap_socket(self._socket(), server_hostname=HOST)
            client.request("GET", path)
            response = client.getresponse()
            return response.status, response.read()

    def get_directly(self, path: str) -> int:
        """The same without the proxy."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.server_port)) as client:
            client.request("GET", path)
            return client.getresponse().status


Start = Callable[..., Proxy]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server, and a proxy before it by one of the files."""
    authority = trustme.CA()
    certificate = authority.issue_cert(HOST).private_key_and_cert_chain_pem
    certificate.write_to_path(str(tmp_path / "chat.pem"))
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    with ExitStack() as stack:

        def start(name: str, **settings: Any) -> Proxy:
            app = App(trusted_proxies=["127.0.0.1"], **settings)
            ops = operations.install(app, console_token=TOKEN)

            @app.websocket("/who")
            async def who(ws: WebSocket) -> None:
                await ws.accept()
                await ws.send(json.dumps([ws.client.host, ws.url.scheme, ws.request.secure]))
                async for message in ws:
                    await ws.send(message)

            @app.http("/plain")
            def plain(request: object) -> str:
                return "plain"

            server = stack.enter_context(Server(app, port=0))
            server_port = server.addresses[0][1]
            (port,) = stack.enter_context(reserved_ports())
            config = tmp_path / name
            config.write_text(adapted(EXAMPLES / name, tmp_path, port, server_port))
            pid_file = tmp_path / "pid"
            if name == "nginx.conf":
                # It listens when this returns.
                run(program("nginx"), "-p", str(tmp_path), "-c", str(config), "-e", "stderr")
            else:
                run(program("haproxy"), "-D", "-f", str(config), "-p", str(pid_file))
            stack.callback(end, pid_file)
            return Proxy(port, tls, ops, server_port)

        yield start


def adapted(example: Path, folder: Path, port: int, server_port: int) -> str:
    """An example with the test's own addresses and files; nothing else is changed."""
    text = example.read_text()
    replacements = [
        (r"listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        (r"bind :443 ", f"bind 127.0.0.1:{port} "),
        (r"/etc/haproxy/chat.example.org.pem", f"{folder}/chat.pem"),
        (r"/etc/ssl/(private/)?chat.example.org.(pem|key)", f"{folder}/chat.pem"),
        (r"server 127.0.0.1:8301 ", f"server 127.0.0.1:{server_port} "),
        (r"server node1 10.0.0.1:8301", f"server node1 127.0.0.1:{server_port}"),
        (r" *server node2 10.0.0.2:8301\n", ""),
        (r"worker_rlimit_nofile 200000;", ""),  # of which a container may have fewer
        (r"worker_connections 100000;", "worker_connections 100;"),
        (r"maxconn 100000", "maxconn 100"),
    ]
    if example.suffix == ".conf":
        user = "user root;\n" if os.geteuid() == 0 else ""
        text = f"{user}pid {folder}/pid;\nerror_log {folder}/error.log;\n{text}"
        paths = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{each}_temp_path {folder}/{each};\n" for each in paths)
        text = text.replace("http {\n", f"http {{\naccess_log off;\n{temporary}", 1)
    for pattern, value in replacements:
        text = re.sub(pattern, value, text)
    assert not re.search(r"(listen |:)443 ", text)
    assert "example.org.pem" not in text
    return text


def run(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, close_fds=True
    )
    assert done.returncode == 0, done.stderr


def end(pid_file: Path) -> None:
    with suppress(ProcessLookupError):
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGTERM)


PROXIES = pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("nginx.conf", {}),
        ("haproxy.cfg", {}),
        ("haproxy-proxy-protocol.cfg", {"proxy_protocol": True}),
    ],
)


@PROXIES
def test_a_websocket_comes_through_with_its_clients_address(
    start: Start, name: str, settings: dict[str, Any]
) -> None:
    proxy = start(name, **settings)
    lies = [("X-Forwarded-For", "203.0.113.6"), ("X-Forwarded-Proto", "http")]
    with proxy.open("/who", headers=lies) as client:
        assert json.loads(client.receive()) == [CLIENT, "wss", True]
        for message in ("hello", "x" * 100_000, b"\x00\xff" * 1000):
            client.send(message)
            assert client.receive() == message
        client.send(Ping(b"there?"), "the last")
        assert client.receive() == "the last"
        assert client.ponged == [b"there?"]
        assert client.close() == 1000
    assert proxy.get("/plain") == (200, b"plain")


@PROXIES
def test_a_page_of_the_same_host_may_connect_and_no_other(
    start: Start, name: str, settings: dict[str, Any]
) -> None:
    proxy = start(name, **settings)
    with proxy.open("/who", headers=[("Origin", f"https://{HOST}:{proxy.port}")]) as client:
        client.receive()
    with pytest.raises(Refused) as refused:
        proxy.open("/who", headers=[("Origin", "https://evil.example")])
    assert refused.value.response.status == 403


@pytest.mark.parametrize("name", ["nginx.conf", "haproxy.cfg"])
def test_what_is_for_operators_stays_inside(start: Start, name: str) -> None:
    proxy = start(name)
    for path in ("/metrics", "/healthz", "/readyz"):
        assert proxy.get(path)[0] == 404
        assert proxy.get_directly(path) == 200
    for path in ("/console", "/console/console.js"):
        assert proxy.get(path)[0] == 403  # from this address
        assert proxy.get_directly(path) == 200
    with pytest.raises(Refused) as refused:
        proxy.open("/console/feed")
    assert refused.value.response.status == 403


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [("haproxy.cfg", {}), ("haproxy-proxy-protocol.cfg", {"proxy_protocol": True})],
)
def test_an_unready_server_gets_no_new_sessions_and_keeps_its_own(
    start: Start, name: str, settings: dict[str, Any]
) -> None:
    proxy = start(name, **settings)
    with proxy.open("/who") as client:
        client.receive()
        proxy.ops.health.drain()
        while is_served(proxy):  # for as long as two checks take
            pass
        client.send("still here")
        assert client.receive() == "still here"


def is_served(proxy: Proxy) -> bool:
    try:
        return proxy.get("/plain")[0] == 200
    except (OSError, http.client.HTTPException):  # without HTTP nothing can be answered
        return False


def test_the_units_of_systemd_are_valid(tmp_path: Path) -> None:
    verify = program("systemd-analyze", "systemd")
    executable = tmp_path / "wireroom"
    executable.write_text("#!/bin/sh\n")
    executable.chmod(0o755)
    for unit in ("wireroom-chat.service", "wireroom-chat.socket"):
        text = (EXAMPLES / unit).read_text()
        text = text.replace("/opt/chat/venv/bin/wireroom", str(executable))
        (tmp_path / unit).write_text(text.replace("/opt/chat", str(tmp_path)))
    done = subprocess.run(
        [verify, "verify", "--man=no", str(tmp_path / "wireroom-chat.service")],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    ours = [line for line in done.stderr.splitlines() if "wireroom-chat" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize("name", ["wireroom-chat.service", "Containerfile"])
def test_the_options_of_the_examples_exist(name: str) -> None:
    from wireroom.transports.cli.serve import serve

    known = {option for parameter in serve.params for option in parameter.opts}
    text = (EXAMPLES / name).read_text()
    command = text[text.index("serve server:make_app" if "service" in name else '"serve"') :]
    used = set(re.findall(r"(?<![\w-])--[a-z-]+", command.partition("\n# ")[0]))
    assert used
    assert used <= known
