"""Operations over real servers: health, metrics and the console on every transport."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from programs import TIMEOUT_S, Program

TRANSPORTS = ["asyncio", "uvloop", "anyio-asyncio", "trio", "blocking"]
TOKEN = "a-token-of-the-tests"

APP = f"""
from wireroom import operations
from wireroom.core import App, Session, blocking

app = App()
operations.install(app, checks={{"backplane": lambda: "gone"}}, console_token="{TOKEN}")

chat = app.module("/chat")

@chat.on_open
def opened(session: Session) -> None:
    session.join("lobby")

@chat.on_message
def say(session: Session, message: str) -> str:
    return message

slow = app.module("/slow")

@slow.on_message
@blocking
def think(session: Session, message: str) -> str:
    return message
"""


@pytest.fixture(params=TRANSPORTS)
def port(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """Of a server."""
    (tmp_path / "server.py").write_text(APP)
    arguments = ("serve", "server:app", "--port", "0", "--transport", request.param)
    with closing(Program(tmp_path, *arguments)) as server:
        yield server.port()
        assert server.end() == 0
        _, kicked, _ = server.lines  # nothing has failed
        assert "has closed fd" in kicked


def get(port: int, path: str) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)) as client:
        client.request("GET", path)
        response = client.getresponse()
        return response.status, response.read()


def ask(client: ClientConnection, **message: object) -> Any:
    """The reply to a request; snapshots may come before it."""
    client.send(json.dumps(message | {"request_id": 1}))
    while (answer := json.loads(client.recv(TIMEOUT_S)))["type"] == "snapshot":
        pass
    assert answer["request_id"] == 1
    return answer


def test_a_server_is_watched_over(port: int) -> None:
    with ExitStack() as stack:

        def open_session(path: str) -> ClientConnection:
            return stack.enter_context(connect(f"ws://127.0.0.1:{port}{path}", proxy=None))

        client = open_session("/chat")
        thinker = open_session("/slow")
        for each in (client, thinker):
            each.send("hello")
            assert each.recv(TIMEOUT_S) == "hello"

        assert json.loads(get(port, "/healthz")[1])["status"] == "degraded"
        assert get(port, "/readyz")[0] == 200
        status, body = get(port, "/metrics")
        assert status == 200
        found = {
            (sample.name, sample.labels.get("handler")): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }
        assert found["wireroom_sessions", None] == 2
        assert found["wireroom_message_handling_seconds_count", "server.say"] == 1
        assert found["wireroom_message_handling_seconds_count", "server.think"] == 1

        console = open_session("/console/feed")
        assert ask(console, type="authenticate", token=TOKEN)["data"]["interval_s"] == 1.0
        assert ask(console, type="watch", search="/chat")["type"] == "reply"
        while True:
            snapshot = json.loads(console.recv(TIMEOUT_S))
            if snapshot["sessions"]["search"]:
                break
        (row,) = snapshot["sessions"]["shown"]
        assert row["rooms"] == ["lobby"]
        assert row["address"].startswith("127.0.0.1:")
        assert snapshot["checks"][0]["reason"] == "gone"
        wish = {"fd": row["fd"], "generation": row["generation"], "reason": "enough"}
        assert ask(console, type="kick", **wish)["type"] == "reply"
        with pytest.raises(ConnectionClosed) as ended:
            client.recv(TIMEOUT_S)
        assert ended.value.rcvd is not None
        assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (1008, "enough")
