"""The programs in docs/asgi.md do what is said of them, in uvicorn and in hypercorn on trio."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from asgi_hosts import Host, HostThread, Hypercorn, Uvicorn
from sources import ROOT
from wireroom.transports.conformance.client import Client

PROGRAMS = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "asgi.md").read_text("utf-8"), re.DOTALL
)
PATIENCE_S = 60.0

Serve = Callable[[int, str], HostThread]


@pytest.fixture(
    params=[lambda: Uvicorn("websockets-sansio"), lambda: Hypercorn("trio")],
    ids=["uvicorn", "hypercorn"],
)
def serve(request: pytest.FixtureRequest) -> Serve:
    """Serves what a program calls by a name."""

    def hosted(number: int, name: str) -> HostThread:
        # FastAPI looks annotations up in the function's globals.
        namespace: dict[str, Any] = {}
        exec(compile(PROGRAMS[number], "asgi.md", "exec"), namespace)
        host: Host = request.param()
        return HostThread(host, namespace[name])

    return hosted


def opened(host: HostThread, path: str, **headers: str) -> ClientConnection:
    uri = f"ws://127.0.0.1:{host.address[1]}{path}"
    return connect(uri, additional_headers=headers, proxy=None, ping_interval=None)


def post(host: HostThread, path: str) -> bytes:
    return Client.connect(host.address).request(path, "POST").body


def test_by_itself(serve: Serve) -> None:
    with serve(0, "asgi") as host:
        with opened(host, "/rooms/a") as one, opened(host, "/rooms/a") as two:
            one.send("hello")
            assert [one.recv(PATIENCE_S), two.recv(PATIENCE_S)] == ["hello", "hello"]
        assert Client.connect(host.address).request("/healthz").body == b'{"status":"ok"}'


def test_in_starlette(serve: Serve) -> None:
    with serve(1, "api") as host, opened(host, "/live/rooms/lobby") as client:
        assert post(host, "/announce?text=hello") == b"sent to 1"
        assert client.recv(PATIENCE_S) == "hello"


def test_in_fastapi(serve: Serve) -> None:
    with serve(2, "api") as host:
        with pytest.raises(InvalidStatus) as refused:
            opened(host, "/live/inbox")
        response = refused.value.response
        assert (response.status_code, response.body) == (401, b"who are you?")
        with opened(host, "/live/inbox", Authorization="Bearer ann") as client:
            assert client.recv(PATIENCE_S) == "hello ann"
            assert post(host, "/users/ann/messages?text=psst") == b"1"
            assert client.recv(PATIENCE_S) == "psst"
            assert post(host, "/users/ann/summons") == b"1"
            assert client.recv(PATIENCE_S) == "come"
            assert post(host, "/users/bob/summons") == b"0"


def test_every_program_is_run() -> None:
    assert len(PROGRAMS) == 3
