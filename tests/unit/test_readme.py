"""The README's code does what the README says."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from wireroom.core import Hub

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)

UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the README's first two snippets define; it serves nothing."""
    served: list[Any] = []
    monkeypatch.setattr(asyncio, "run", served.append)
    names: dict[str, Any] = {"__name__": "readme"}
    for snippet in SNIPPETS[:2]:
        exec(compile(snippet, "README.md", "exec"), names)
    assert len(served) == 1
    served[0].close()  # the coroutine of `serve`
    return names


def masked(text: bytes) -> bytes:
    return bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text


def open_session(hub: Hub, path: bytes) -> int:
    fd = hub.connect(("10.0.0.1", 4000), now=0.0)
    hub.receive_data(fd, UPGRADE % path, now=0.0)
    assert b"".join(hub.data_to_send(fd)).startswith(b"HTTP/1.1 101 ")
    return fd


def test_the_chat_and_its_error_reply(names: dict[str, Any]) -> None:
    hub = Hub(names["app"])
    ann, bob = open_session(hub, b"/chat/lobby"), open_session(hub, b"/chat/lobby")
    hub.receive_data(ann, masked(b'{"type": "chat_message", "text": "hello"}'), now=1.0)
    assert hub.data_to_send(ann) == []
    assert b"".join(hub.data_to_send(bob))[2:] == b'{"type":"chat_message","text":"hello"}'
    hub.receive_data(ann, masked(b'{"type": "chat_message", "text": 3}'), now=1.0)
    reply = b"".join(hub.data_to_send(ann))[2:].decode()
    assert reply.replace(":", ": ").replace(",", ", ").replace("`,  ", "`, ") in README


def test_the_module_that_takes_whole_messages(names: dict[str, Any]) -> None:
    hub = Hub(names["app"])
    fd = open_session(hub, b"/telemetry")
    hub.receive_data(fd, masked(b"21.5"), now=1.0)
    assert b"".join(hub.data_to_send(fd)) == b"\x81\x0421.5"


def test_the_hub_by_hand(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    snippet = SNIPPETS[2].replace(
        rb'b"GET /chat/lobby HTTP/1.1\r\nHost: example.org\r\n..."'.decode(), "REQUEST"
    )
    assert "REQUEST" in snippet
    lines = [line for line in snippet.splitlines() if "#" in line]
    results: dict[str, Any] = dict(names, REQUEST=UPGRADE % b"/chat/lobby")
    for line in snippet.splitlines():
        statement, _, said = line.partition("  # ")
        if not said:
            exec(statement, results)
            continue
        value = eval(statement, results)
        if isinstance(value, bytes):
            assert value.decode().startswith(said.removesuffix(" ..."))
        else:
            assert said.startswith(repr(value))
    assert len(lines) == 3
