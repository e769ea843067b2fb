"""The example of client handles, in memory, over wss, and started as its first lines say."""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.client import connect

from driver import Simulation
from examples import load_example
from loops import RunLoop
from sources import ROOT
from wireroom.transports.asyncio import Server

example = load_example("handles")


def test_who_connects_is_welcome() -> None:
    assert Simulation(example.make_app()).open("/test/path").messages == [
        "welcome, you are client 1"
    ]


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        ("ping", "pong"),
        ("echo some words", "some words"),
        ("echo", ""),
        (b"\x00\xff", b"\x00\xff"),
        ("tell 9 hello", "there is no client '9'"),
        ("tell x", "there is no client 'x'"),
    ],
)
def test_messages_are_answered(message: str | bytes, reply: str | bytes) -> None:
    peer = Simulation(example.make_app()).open("/test/path")
    peer.send(message)
    assert peer.messages[1:] == [reply]


def test_what_is_unknown_is_answered_with_help() -> None:
    peer = Simulation(example.make_app()).open("/test/path")
    peer.send("shout")
    assert peer.messages[1] == f"there is no 'shout'; there are: {example.HELP}"


def test_status_and_info_are_json() -> None:
    simulation = Simulation(example.make_app())
    simulation.open("/test/path")
    peer = simulation.open("/test/other")
    peer.send("status", "info")
    assert [msgspec.json.decode(each) for each in peer.messages[1:]] == [
        {"connected": [1, 2]},
        {"id": 2, "address": ["10.0.0.1", 4000], "path": "/test/other"},
    ]


def test_time_is_that_since_the_start() -> None:
    now = 100.0
    simulation = Simulation(example.make_app(lambda: now))
    peer = simulation.open("/test/path")
    now = 102.5
    peer.send("time")
    assert peer.messages[1:] == ["2.500"]


def test_one_client_reaches_another() -> None:
    simulation = Simulation(example.make_app())
    ann, bob = simulation.open("/test/a"), simulation.open("/test/b")
    ann.send("tell 2 hello there")
    assert ann.messages[1:] == ["told"]
    assert bob.messages[1:] == ["client 1 says: hello there"]
    bob.lose()
    ann.send("tell 2 hello")
    assert ann.messages[2:] == ["there is no client '2'"]


def test_skip_forgets_what_was_not_read_yet() -> None:
    peer = Simulation(example.make_app()).open("/test/path")
    peer.send("ping", "skip", "ping", b"binary")
    peer.send("ping")
    assert peer.messages[1:] == ["pong", "skipped 2", "pong"]


def test_everybody_gets_a_heartbeat() -> None:
    simulation = Simulation(example.make_app())
    simulation.hub.start(now=0.0)
    peers = [simulation.open("/test/path") for _ in range(3)]
    simulation.advance(61)
    assert [peer.messages[1:] for peer in peers] == [["heartbeat", "heartbeat"]] * 3


@pytest.mark.parametrize("end", ["close", "eof", "lost"])
def test_the_reader_ends_with_its_session(end: str) -> None:
    simulation = Simulation(example.make_app())
    peer = simulation.open("/test/path")
    if end == "close":
        peer.close(1000)
    elif end == "eof":
        peer.send_eof()
    else:
        peer.lose()
    simulation.advance(10)
    assert peer.lost
    assert simulation.running == set()
    assert simulation.failures == []


def test_over_wss(run: RunLoop, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    context = example.new_certificate(ca_file)
    trusting = ssl.create_default_context(cafile=ca_file)

    async def main() -> None:
        async with Server(example.make_app(), port=0, ssl=context) as server:
            url = f"wss://127.0.0.1:{server.addresses[0][1]}/test/path"
            async with (
                connect(url, ssl=trusting, proxy=None) as ann,
                connect(url, ssl=trusting, proxy=None) as bob,
            ):
                assert await ann.recv() == "welcome, you are client 1"
                assert await bob.recv() == "welcome, you are client 2"
                for message, reply in (("ping", "pong"), ("echo a b", "a b"), (b"\x00", b"\x00")):
                    await ann.send(message)
                    assert await ann.recv() == reply
                await ann.send("info")
                info = msgspec.json.decode(await ann.recv())
                assert (info["id"], info["path"]) == (1, "/test/path")
                assert info["address"] == list(ann.local_address)
                await ann.send("tell 2 hello")
                assert await bob.recv() == "client 1 says: hello"

    run(main())


def test_started_by_its_command(tmp_path: Path) -> None:
    async def main() -> None:
        program = ROOT / "docs" / "examples" / "handles" / "server.py"
        ca_file = tmp_path / "ca.pem"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *(program, "--port", "0", "--ca-file", ca_file),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            url = (await process.stdout.readline()).decode().removeprefix("serving ").strip()
            trusting = ssl.create_default_context(cafile=ca_file)
            async with connect(url, ssl=trusting, proxy=None) as client:
                assert await client.recv() == "welcome, you are client 1"
        finally:
            process.terminate()
            assert await process.wait() == 0

    asyncio.run(asyncio.wait_for(main(), 120))
