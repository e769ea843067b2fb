"""Measures the servers of peers/ over loopback sockets, taking turns within each round."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from processes import MeasurementError, generate_load, missing_module, server
from results import Entry, Table

REFERENCES = ("canned", "picows", "aiohttp", "websockets", "uvicorn")


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """A contestant; without a `room` it takes part in the echo only."""

    name: str
    program: str
    needs: tuple[str, ...]
    echo: str = "/echo"
    room: str | None = "/room"


SERVERS = (
    Server("canned", "canned_peer.py", ()),
    Server("canned (unbuffered)", "canned_peer.py", (), echo="/echo_unbuffered", room=None),
    Server("wireroom", "wireroom_peer.py", ("wireroom.transports.asyncio",)),
    Server(
        "wireroom (async)",
        "wireroom_peer.py",
        ("wireroom.transports.asyncio",),
        echo="/echo_async",
        room=None,
    ),
    Server("picows", "picows_peer.py", ("picows",)),
    Server("aiohttp", "aiohttp_peer.py", ("aiohttp",)),
    Server("websockets", "websockets_peer.py", ("websockets",)),
    Server("uvicorn", "uvicorn_peer.py", ("uvicorn", "websockets")),
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
    """One kind of load."""

    kind: str
    connections: int
    in_flight: int

    def path(self, contestant: Server) -> str | None:
        return contestant.echo if self.kind == "echo" else contestant.room

    def title(self, loop: str) -> str:
        if self.kind == "echo":
            what = f"echo, {self.connections} connections, {self.in_flight} in flight on each"
        else:
            what = f"fan-out to {self.connections} clients, {self.in_flight} in flight"
        return f"{what}, 64-byte text, {loop}"


ECHO = (Shape("echo", 50, 1), Shape("echo", 50, 16))
FAN_OUT = (Shape("fanout", 500, 1), Shape("fanout", 500, 8))
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
        key=f"{shape.kind} {shape.in_flight}",
        title=shape.title(settings.loop),
        unit="echoes/s" if shape.kind == "echo" else "deliveries/s",
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
    arguments = [shape.kind, "--path", str(shape.path(contestant))]
    arguments += ["--connections", str(shape.connections), "--in-flight", str(shape.in_flight)]
    arguments += ["--warm-up", str(settings.warm_up_s), "--duration", str(settings.duration_s)]
    try:
        with server(contestant.program, settings.loop) as (pid, port):
            load = generate_load(pid, port, arguments)
    except MeasurementError as error:
        entry.missing = f"failed: {error}"
        return
    entry.samples.append(load.deliveries / load.seconds)
    entry.generator_cpu.append(load.generator_cpu)
    if load.server_cpu is not None:
        entry.server_cpu.append(load.server_cpu)
