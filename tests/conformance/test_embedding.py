"""The programs of docs/embedding.md: servers of others that hand over their WebSockets."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from frames import CLOSE, TEXT, frame
from raw import get, text, upgrade
from sources import ROOT

PROGRAMS = ROOT / "docs" / "examples" / "embedding"
PAGE = (ROOT / "docs" / "embedding.md").read_text("utf-8")
TIMEOUT_S = 60.0


class Host:
    """A program in a process of its own."""

    def __init__(self, *arguments: str, announces: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=PROGRAMS,
            env=os.environ | {"PYTHONWARNINGS": "error", "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.name = ""
        self._told = self._ended = False
        try:
            self.announced = self._wait_for(announces)
        except BaseException:
            self.process.kill()
            self.process.communicate()
            raise

    def _wait_for(self, announces: str) -> str:
        said: list[str] = []
        for line in self._output:
            said.append(line)
            if found := re.search(announces, line):
                return found[1]
        raise AssertionError(f"it has ended: {''.join(said)}")

    @property
    def _output(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def port(self) -> int:
        return int(self.announced)

    def terminate(self) -> None:
        """Ask it to end; once, for a second signal would mean to be in a hurry."""
        if not self._told:
            self._told = True
            self.process.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Terminate it; it has to end in order, and to complain of nothing."""
        if self._ended:
            return
        self._ended = True
        with self.process:
            self.terminate()
            try:
                said, _ = self.process.communicate(timeout=TIMEOUT_S)
            finally:
                self.process.kill()
            assert self.process.returncode == 0, said
            assert "Traceback" not in said
            assert "ERROR" not in said


URL = r"http://127\.0\.0\.1:(\d+)"
Start = Callable[..., Host]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts programs, and ends them, the last one first."""
    with ExitStack() as stack:

        def start(*arguments: str, announces: str = URL) -> Host:
            host = Host(*arguments, announces=announces)
            stack.callback(host.end)
            return host

        yield start


def start_http_server(start: Start, path: Path) -> Host:
    return start("http_server.py", "--port=0")


def start_gunicorn(start: Start, path: Path) -> Host:
    settings = ("--config=python:gunicorn_app", "--bind=127.0.0.1:0", "--no-control-socket")
    return start("-m", "gunicorn", *settings, "gunicorn_app:application")


def start_aiohttp(start: Start, path: Path) -> Host:
    return start("aiohttp_server.py", "--port=0")


def start_descriptors(start: Start, path: Path) -> Host:
    start("descriptors.py", "worker", str(path / "rooms"), announces=r"taking over on (.*)")
    return start("descriptors.py", "front", str(path / "rooms"), "--port=0")


WITH_PAGES = {
    "http.server": start_http_server,
    "gunicorn": start_gunicorn,
    "aiohttp": start_aiohttp,
}
ALL = WITH_PAGES | {"descriptors": start_descriptors}


@pytest.fixture(params=ALL)
def host(request: pytest.FixtureRequest, start: Start, tmp_path: Path) -> Host:
    host = ALL[request.param](start, tmp_path)
    host.name = request.param
    return host


@pytest.fixture(params=WITH_PAGES)
def pages(request: pytest.FixtureRequest, start: Start, tmp_path: Path) -> Host:
    """Those that have pages and handlers of their own."""
    host = WITH_PAGES[request.param](start, tmp_path)
    host.name = request.param
    return host


def client(host: Host, path: str = "/echo") -> ClientConnection:
    url = f"ws://127.0.0.1:{host.port}{path}"
    return connect(url, proxy=None, open_timeout=TIMEOUT_S, close_timeout=TIMEOUT_S)


def raw_client(host: Host) -> socket.socket:
    return socket.create_connection(("127.0.0.1", host.port), timeout=TIMEOUT_S)


def fetch(host: Host, path: str, data: bytes | None = None) -> str:
    url = f"http://127.0.0.1:{host.port}{path}"
    with urllib.request.urlopen(url, data, timeout=TIMEOUT_S) as response:
        answer: bytes = response.read()
        return answer.decode()


def read_until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        piece = sock.recv(65536)
        assert piece, f"the stream ended after {data[-200:]!r}"
        data += piece
    return data


def unmasked(message: str) -> bytes:
    return frame(TEXT, message.encode(), key=None)


def test_sessions_are_served(host: Host) -> None:
    with client(host) as ws:
        for message in ("", "grüße", b"\x00\xff", "x" * 300_000):
            ws.send(message)
            assert ws.recv(TIMEOUT_S) == message
        for number in range(200):
            ws.send(str(number))
        assert [ws.recv(TIMEOUT_S) for _ in range(200)] == [str(n) for n in range(200)]
    assert ws.close_code == 1000


def test_frames_that_came_with_the_head_are_served(host: Host) -> None:
    with raw_client(host) as sock:
        sock.sendall(upgrade("/echo") + text("one") + text("two")[:3])
        greeted = read_until(sock, unmasked("one"))
        assert greeted.startswith(b"HTTP/1.1 101 ")
        assert greeted.count(b"HTTP/1.1 ") == 1  # the host has written nothing
        sock.sendall(text("two")[3:] + frame(CLOSE, b"\x03\xe8"))
        read_until(sock, unmasked("two") + frame(CLOSE, b"\x03\xe8", key=None))
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


def test_more_than_the_host_reads_at_once_may_come_with_the_head(host: Host) -> None:
    messages = [f"{number:06}" * 500 for number in range(100)]
    with raw_client(host) as sock:
        sock.sendall(upgrade("/echo") + b"".join(map(text, messages)))
        answers = b"".join(map(unmasked, messages))
        assert read_until(sock, answers[-100:]).endswith(b"\r\n\r\n" + answers)


def test_what_nobody_serves_is_refused(host: Host) -> None:
    with pytest.raises(InvalidStatus, match="404"):
        client(host, "/nothing")


def test_an_invalid_handshake_is_answered_by_the_hub(host: Host) -> None:
    with raw_client(host) as sock:
        sock.sendall(upgrade("/echo").replace(b"Version: 13", b"Version: 12"))
        assert b"HTTP/1.1 426 " in read_until(sock, b"\n")


def test_more_sessions_than_the_host_has_threads(host: Host) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(client(host)) for _ in range(20)]
        for number, each in enumerate(clients):
            each.send(f"{number}")
        for number, each in enumerate(clients):
            assert each.recv(TIMEOUT_S) == f"{number}"
        assert fetch(host, "/").startswith("a page of ")


def test_handlers_of_the_host_reach_the_sessions(pages: Host) -> None:
    with client(pages) as first, client(pages) as second:
        for ws in (first, second):
            ws.send("ready")
            assert ws.recv(TIMEOUT_S) == "ready"
        assert fetch(pages, "/say", b"hello") == "2\n"
        assert first.recv(TIMEOUT_S) == second.recv(TIMEOUT_S) == "hello"


def test_a_connection_may_have_served_pages_before(pages: Host) -> None:
    with raw_client(pages) as sock:
        for _ in range(2):
            sock.sendall(get("/"))
            read_until(sock, b"a page of " + pages.name.encode() + b"\n")
        sock.sendall(upgrade("/echo") + text("after it"))
        assert read_until(sock, unmasked("after it")).startswith(b"HTTP/1.1 101 ")


def test_the_end_of_the_host_is_told(pages: Host) -> None:
    with client(pages) as ws:
        ws.send("ready")
        assert ws.recv(TIMEOUT_S) == "ready"
        pages.terminate()
        with pytest.raises(ConnectionClosed):
            ws.recv(TIMEOUT_S)
        assert ws.close_code == 1001


def test_a_worker_may_be_replaced_while_the_front_goes_on(start: Start, tmp_path: Path) -> None:
    path = str(tmp_path / "rooms")
    front = start("descriptors.py", "front", path, "--port=0")
    with raw_client(front) as sock:
        sock.sendall(upgrade("/echo"))
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 503 ")
    for _ in range(2):
        worker = start("descriptors.py", "worker", path, announces=r"taking over on (.*)")
        assert worker.announced == path
        with client(front) as ws:
            ws.send("ready")
            assert ws.recv(TIMEOUT_S) == "ready"
            worker.end()
            with pytest.raises(ConnectionClosed):
                ws.recv(TIMEOUT_S)
            assert ws.close_code == 1001


def test_sessions_outlive_the_front(start: Start, tmp_path: Path) -> None:
    path = str(tmp_path / "rooms")
    start("descriptors.py", "worker", path, announces=r"taking over on (.*)")
    front = start("descriptors.py", "front", path, "--port=0")
    with client(front) as ws:
        ws.send("ready")
        assert ws.recv(TIMEOUT_S) == "ready"
        front.end()
        ws.send("still here")
        assert ws.recv(TIMEOUT_S) == "still here"


def test_the_page_shows_the_programs() -> None:
    snippets = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    shown = set()
    for program in PROGRAMS.glob("*.py"):
        assert f"({program.relative_to(ROOT / 'docs')})" in PAGE
        source = program.read_text("utf-8")
        found = {snippet for snippet in snippets if snippet in source}
        assert found, f"nothing of {program.name} is shown"
        shown |= found
    assert shown == set(snippets)
