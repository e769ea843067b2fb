"""Measures the servers of peers/ over loopback sockets, taking turns within each round."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from processes import MeasurementError, generate_load, missing_module, server
from results import Entry, Table

REFERENCES = ("canned", "picows", "aiohttp", "websockets", "uvicorn", "python-socketio")


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """A contestant, and where it does what: None if it takes no part. One that knows no typed
    commands echoes raw text instead."""

    name: str
    program: str
    needs: tuple[str, ...]
    echo: str = "/echo"
    room: str | None = "/room"
    command: str | None = None
    socketio: bool = False  # the texts are its events
    deflate: bool = False
    crowd: bool = False  # whether it is measured among many idle connections too


SERVERS = (
    Server("canned", "canned_peer.py", ()),
    Server("canned (unbuffered)", "canned_peer.py", (), echo="/echo_unbuffered", room=None),
    Server(
        "wireroom",
        "wireroom_peer.py",
        ("wireroom.transports.asyncio",),
        command="/command",
        deflate=True,
        crowd=True,
    ),
    Server(
        "wireroom (async)",
        "wireroom_peer.py",
        ("wireroom.transports.asyncio",),
        echo="/echo_async",
        room=None,
    ),
    Server("picows", "picows_peer.py", ("picows",)),
    Server("aiohttp", "aiohttp_peer.py", ("aiohttp",), command="/echo"),
    Server("websockets", "websockets_peer.py", ("websockets",), deflate=True, crowd=True),
    Server("uvicorn", "uvicorn_peer.py", ("uvicorn", "websockets")),
    Server(
        "python-socketio",
        "socketio_peer.py",
        ("socketio", "aiohttp"),
        echo="/socket.io/?EIO=4&transport=websocket&room=",
        room="/socket.io/?EIO=4&transport=websocket&room=all",
        socketio=True,
    ),
)

# Each of our transports, and after it those that do the same in the same surroundings.
TRANSPORTS = (
    Server("asyncio", "wireroom_peer.py", ("wireroom.transports.asyncio",)),
    Server("websockets asyncio", "websockets_peer.py", ("websockets",)),
    Server("trio", "wireroom_trio_peer.py", ("wireroom.transports.trio", "trio")),
    Server("trio-websocket", "trio_websocket_peer.py", ("trio_websocket",)),
    Server("websockets trio", "websockets_trio_peer.py", ("websockets", "trio")),
    Server("blocking", "wireroom_blocking_peer.py", ("wireroom.transports.blocking",)),
    Server("websockets sync", "websockets_sync_peer.py", ("websockets",)),
    Server("asgi", "wireroom_asgi_peer.py", ("wireroom.transports.asgi", "uvicorn")),
    Server("starlette", "starlette_peer.py", ("starlette", "uvicorn", "websockets")),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """One kind of load; `idle` connections more are open and do nothing."""

    kind: Literal["echo", "command", "fanout"]
    connections: int
    in_flight: int
    deflate: bool = False
    idle: int | None = None

    @property
    def key(self) -> str:
        with_deflate = " deflate" if self.deflate else ""
        among = "" if self.idle is None else f" among {self.idle}"
        return f"{self.kind} {self.in_flight}{with_deflate}{among}"

    def path(self, contestant: Server) -> str | None:
        """Where a contestant does this; None if it does not."""
        if (self.deflate and not contestant.deflate) or (
            self.idle is not None and not contestant.crowd
        ):
            return None
        paths = {"echo": contestant.echo, "command": contestant.command, "fanout": contestant.room}
        return paths[self.kind]

    def title(self, loop: str) -> str:
        """The table's."""
        text = "64-byte text"
        if self.kind == "fanout":
            what = f"fan-out to {self.connections} clients, {self.in_flight} in flight"
        else:
            what = f"{self.connections} connections, {self.in_flight} in flight on each"
            if self.kind == "echo":
                what = f"echo, {what}"
            else:
                what = f"a typed JSON command with a reply (others echo raw text), {what}"
                text = f"{len(COMMAND)}-byte text"
        if self.deflate:
            text += ", compressed replies"
        if self.idle is not None:
            text += f", beside {self.idle} idle connections"
        return f"{what}, {text}, {loop}"

    def arguments(self, contestant: Server) -> list[str]:
        """Of the load generator."""
        path = str(self.path(contestant))
        arguments = ["fanout" if self.kind == "fanout" else "echo", "--path", path]
        arguments += ["--connections", str(self.connections), "--in-flight", str(self.in_flight)]
        arguments += ["--idle", str(self.idle or 0)]
        if self.kind == "command":
            arguments += ["--message", COMMAND]
            if path != contestant.echo:
                arguments += ["--reply", REPLY]
        if self.deflate:
            arguments += ["--deflate"]
        if contestant.socketio:
            arguments += ["--socketio"]
        return arguments


COMMAND = '{"type":"say","room":"lobby","text":"hello, everybody in here!"}'
REPLY = '{"type":"said","room":"lobby","text":"hello, everybody in here!"}'
ECHO = (Shape("echo", 50, 1), Shape("echo", 50, 16))
COMMANDS = (Shape("command", 50, 1),)
FAN_OUT = (Shape("fanout", 500, 1), Shape("fanout", 500, 8), Shape("fanout", 500, 8, deflate=True))
CROWD = (Shape("echo", 50, 1, idle=1000), Shape("echo", 50, 1, idle=18_000))
ON_TRANSPORTS = (Shape("echo", 50, 1), Shape("fanout", 500, 8))


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How to measure, and whom to compare with."""

    references: tuple[str, ...]
    rounds: int
    warm_up_s: float
    duration_s: float
    loop: str


def measure(
    shapes: Sequence[Shape],
    servers: Sequence[Server],
    settings: Settings,
    progress: Callable[[str], None],
) -> list[Table]:
    """All shapes and servers in every round."""
    tables = [empty_table(shape, servers, settings) for shape in shapes]
    for number in range(settings.rounds):
        for shape, table in zip(shapes, tables, strict=True):
            for contestant in servers:
                entry = table.entry(contestant.name)
                if entry is not None and not entry.missing:
                    progress(
                        f"round {number + 1} of {settings.rounds}: {table.key} {contestant.name}"
                    )
                    add_sample(entry, contestant, shape, settings)
    return tables


def empty_table(shape: Shape, servers: Sequence[Server], settings: Settings) -> Table:
    """The table for one kind of load, with nothing measured yet."""
    loop_needs = ("uvloop",) if settings.loop == "uvloop" else ()
    return Table(
        key=shape.key,
        title=shape.title(settings.loop),
        unit="deliveries/s" if shape.kind == "fanout" else "replies/s",
        smaller_is_better=False,
        references=settings.references,
        entries=[
            Entry(contestant.name, missing=missing_module(contestant.needs + loop_needs))
            for contestant in servers
            if shape.path(contestant) is not None
        ],
    )


def add_sample(entry: Entry, contestant: Server, shape: Shape, settings: Settings) -> None:
    """Start the server, measure once, stop it. A failure takes it out of the table."""
    arguments = shape.arguments(contestant)
    arguments += ["--warm-up", str(settings.warm_up_s), "--duration", str(settings.duration_s)]
    options = ["--deflate"] if shape.deflate else []
    try:
        with server(contestant.program, settings.loop, options) as (pid, port):
            load = generate_load(pid, port, arguments)
    except MeasurementError as error:
        entry.missing = f"failed: {error}"
        return
    entry.samples.append(load.deliveries / load.seconds)
    entry.generator_cpu.append(load.generator_cpu)
    if load.server_cpu is not None:
        entry.server_cpu.append(load.server_cpu)
