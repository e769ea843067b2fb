"""The programs in docs/clients.md do what is said of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from client_peers import Peers
from wireroom.core import App, Context, Session, WebSocket

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "clients.md").read_text("utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)


@pytest.fixture
def url() -> Iterator[str]:
    """A server of what the programs talk to."""
    app = App()
    left = [1000, 1012]

    @app.websocket("/echo", subprotocols=["v2"])
    async def repeat(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            await ws.send(message)

    @app.module("/sums").command("sum")
    def add(ctx: Context, data: dict[str, int | str]) -> int:
        return int(data["a"]) + int(data["b"])

    restarting = app.module("/restarting")

    @restarting.on_open
    def greet(session: Session) -> None:
        session.send(f"hello {len(left)}")
        session.close(left.pop())

    peers = Peers()
    try:
        with peers.wireroom(app) as url:
            yield url
    finally:
        peers.close()


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        (PROGRAMS[0], r"hello\n0\.\d{3} s\n1000\n"),
        (PROGRAMS[1], r"\{'text': 'hello'\}\n"),
        (PROGRAMS[2], r"3\nunknown_type\n"),
        (PROGRAMS[3], r"hello 2\nhello 1\n"),
    ],
    ids=["asyncio", "blocking", "requests", "reconnecting"],
)
def test_a_program(
    program: str, printed: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(compile(program.replace("ws://127.0.0.1:8301", url), "clients.md", "exec"), {})
    assert re.fullmatch(printed, capsys.readouterr().out)


def test_every_program_is_run() -> None:
    assert len(PROGRAMS) == 4
