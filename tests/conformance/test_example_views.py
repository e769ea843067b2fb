"""The views example: a function and a class, in memory, over real sockets, and by its command."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_blocking

from driver import Peer, Simulation
from examples import load_example
from loops import RunLoop
from sources import ROOT
from wireroom.transports.asyncio import Server

COMMAND = ROOT / "docs" / "examples" / "views" / "server.py"

app = load_example("views").app


def decoded(peer: Peer) -> list[Any]:
    return [msgspec.json.decode(message) for message in peer.messages]


def test_echo() -> None:
    peer = Simulation(app).open("/echo")
    peer.send("text", b"bytes")
    assert peer.messages == ["text", b"bytes"]


def test_each_counter_counts_for_itself() -> None:
    simulation = Simulation(app)
    ann, bob = simulation.open("/counter/10"), simulation.open("/counter/0")
    ann.send('{"add": 5}', b'{"add": -1}')
    bob.send('{"add": 1}')
    assert decoded(ann) == [{"total": 15}, {"total": 14}]
    assert decoded(bob) == [{"total": 1}]
    ann.close(1000)
    bob.lose()
    assert (ann.close_code(), simulation.failures) == (1000, [])


@pytest.mark.parametrize(
    ("message", "code"),
    [('{"add": "five"}', 4000), ("[]", 4000), ("no json", 1003), (b"\xff", 1003)],
)
def test_what_the_counter_cannot_use_closes(message: str | bytes, code: int) -> None:
    simulation = Simulation(app)
    peer = simulation.open("/counter/10")
    peer.send(message)
    assert (peer.close_code(), peer.messages, simulation.failures) == (code, [], [])


def test_a_counter_starts_with_a_number() -> None:
    assert Simulation(app).open("/counter/ten").status() == 404


def test_what_the_handshake_said() -> None:
    simulation = Simulation(app)
    headers = ((b"Cookie", b"seen=yes"), (b"User-Agent", b"a test"))
    peer = simulation.open("/request/2024-02-29?tag=a&tag=b", headers=headers)
    assert decoded(peer) == [
        {
            "url": "ws://server.example/request/2024-02-29?tag=a&tag=b",
            "port": None,
            "day": "2024-02-29",
            "tags": ["a", "b"],
            "user_agent": "a test",
            "client": "10.0.0.1",
            "seen_before": True,
        }
    ]
    assert peer.accepted is not None
    assert (b"set-cookie", b"seen=yes") in list(peer.accepted.extra_headers)
    assert peer.close_code() == 1000
    assert simulation.open("/request/2023-02-29").status() == 404


def test_over_sockets(run: RunLoop) -> None:
    async def main() -> None:
        async with Server(app, port=0) as server:
            port = server.addresses[0][1]
            base = f"ws://127.0.0.1:{port}"
            async with connect(f"{base}/echo", proxy=None) as echo:
                await echo.send("text")
                assert await echo.recv() == "text"
                await echo.send(b"bytes")
                assert await echo.recv() == b"bytes"
            assert echo.close_code == 1000

            async with connect(f"{base}/counter/10", proxy=None) as counter:
                await counter.send('{"add": 5}')
                assert msgspec.json.decode(await counter.recv()) == {"total": 15}
                await counter.send("no json")
                with pytest.raises(ConnectionClosed):
                    await counter.recv()
            assert counter.close_code == 1003

            target = f"{base}/request/2024-02-29?tag=a"
            async with connect(target, proxy=None, user_agent_header="a test") as request:
                said = msgspec.json.decode(await request.recv())
                assert request.response is not None
                assert request.response.headers["Set-Cookie"] == "seen=yes"
            assert said == {
                "url": target,
                "port": port,
                "day": "2024-02-29",
                "tags": ["a"],
                "user_agent": "a test",
                "client": "127.0.0.1",
                "seen_before": False,
            }

    run(main())


def test_the_command_of_its_first_lines_starts_it() -> None:
    assert f"python {COMMAND.relative_to(ROOT)} " in COMMAND.read_text("utf-8")[:300]
    command = [sys.executable, str(COMMAND), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            said = re.search(r"ws://127\.0\.0\.1:\d+", process.stdout.readline().decode())
            assert said is not None
            with connect_blocking(f"{said[0]}/echo", proxy=None) as echo:
                echo.send("hello")
                assert echo.recv(timeout=60) == "hello"
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
