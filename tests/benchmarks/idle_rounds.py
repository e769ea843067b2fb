"""What idle connections cost each server of peers/: memory, and handshakes a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from processes import MeasurementError, missing_module, open_idle, server
from results import Entry, Table
from socket_rounds import Server

AT_ONCE = 50


def measure(
    connections: int,
    servers: Sequence[Server],
    rounds: int,
    loop: str,
    progress: Callable[[str], None],
) -> list[Table]:
    """Both tables; each sample has a server of its own."""
    references = tuple(each.name for each in servers)
    memory = Table(
        key="idle",
        title=f"resident memory of the server for each of {connections} idle connections",
        unit="KiB",
        smaller_is_better=True,
        references=references,
        entries=[_entry(each) for each in servers],
    )
    connects = Table(
        key="connects",
        title=f"handshakes, {AT_ONCE} at once, from one client process",
        unit="connects/s",
        smaller_is_better=False,
        references=references,
        entries=[_entry(each) for each in servers],
    )
    for number in range(rounds):
        for contestant in servers:
            progress(f"round {number + 1} of {rounds}: idle {contestant.name}")
            _add_sample(contestant, connections, loop, memory, connects)
    return [memory, connects]


def _entry(contestant: Server) -> Entry:
    return Entry(contestant.name, missing=missing_module(contestant.needs))


def _add_sample(
    contestant: Server, connections: int, loop: str, memory: Table, connects: Table
) -> None:
    entries = [memory.entry(contestant.name), connects.entry(contestant.name)]
    if any(entry is None or entry.missing for entry in entries):
        return
    arguments = ["idle", "--path", contestant.echo, "--connections", str(connections)]
    arguments += ["--in-flight", str(AT_ONCE)]
    try:
        with server(contestant.program, loop) as (pid, port):
            idle = open_idle(pid, port, arguments)
    except MeasurementError as error:
        for entry in entries:
            if entry is not None:
                entry.missing = f"failed: {error}"
        return
    bytes_entry, rate_entry = entries
    if rate_entry is not None:
        rate_entry.samples.append(idle.connects_per_s)
    if bytes_entry is not None:
        if idle.bytes_each is None:
            bytes_entry.missing = "this system does not tell"
        else:
            bytes_entry.samples.append(idle.bytes_each / 1024)
