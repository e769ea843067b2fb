"""Wireroom beside other codecs and servers, in one run: `python tests/benchmarks/run.py`.

See README.md in this folder for what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TypeVar

import codec_rounds
import core_rounds
import idle_rounds
import report
import scale_rounds
import socket_rounds
from framing import ENGINES, Engine
from processes import allow_many_files, cores
from results import Goal, Table
from socket_rounds import SERVERS, TRANSPORTS, Server

GOALS = (
    Goal("decode 64 B", "wireroom", "websockets", 6.0),
    Goal("decode 1 MiB", "wireroom", "websockets", 1.0),
    Goal("dispatch", "wireroom", core_rounds.HAND_WRITTEN, 1 / 1.3),
    Goal("echo 1", "wireroom", "canned", 0.9),
    Goal("echo 1", "wireroom", "picows", 1.0),
    Goal("echo 16", "wireroom", "picows", 6.0),
    Goal("echo 16", "wireroom", "websockets", 15.0),
    Goal("echo 16", "wireroom (async)", "picows", 3.0),
    Goal("command 1", "wireroom", "aiohttp", 1.2),
    Goal("fanout 1", "wireroom", "picows", 1.0),
    Goal("fanout 8", "wireroom", "picows", 5.0),
    Goal("fanout 8", "wireroom", "websockets", 10.0),
    Goal("fanout 8 deflate", "wireroom", "websockets", 10.0),
    Goal("connects", "asyncio", "websockets asyncio", 1.5),
)
SECTIONS = ("codec", "core", "echo", "commands", "fanout", "crowd", "transports", "idle", "scale")
IDLE_CONNECTIONS = 5000
CODEC_SAMPLE_S = 0.05
DURATION_S = 2.0
WARM_UP_S = 0.5
QUICK_SHARE = 0.25

Contestant = TypeVar("Contestant", Engine, Server)


def main() -> int:
    """Measure, print, and fail if a contestant has failed."""
    arguments = parse_arguments()
    cores()  # Chosen before anything is pinned.
    allow_many_files()
    facts = report.machine()
    print(*report.machine_lines(facts), sep="\n", flush=True)
    tables: list[Table] = []
    for section in [arguments.only] if arguments.only else SECTIONS:
        measured = measure(section, arguments)
        report.progress_done()
        for table in measured:
            print("", *report.table_lines(table), sep="\n", flush=True)
        tables += measured
    print("", *report.goal_lines(GOALS, tables), sep="\n")
    if arguments.json:
        write_json(arguments.json, facts, tables)
    return int(any(e.missing.startswith("failed") for table in tables for e in table.entries))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    contestants = (*ENGINES, *SERVERS, *TRANSPORTS)
    names = sorted({contestant.name for contestant in contestants})
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the time a sample")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=SECTIONS)
    parser.add_argument("--peers", help=f"comma-separated, of: {', '.join(names)}")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there too")
    arguments = parser.parse_args()
    arguments.peers = arguments.peers.split(",") if arguments.peers else names
    unknown = set(arguments.peers) - set(names)
    if unknown:
        parser.error(f"no such peer: {', '.join(sorted(unknown))} (of: {', '.join(names)})")
    if arguments.rounds < 1:
        parser.error("--rounds has to be at least 1")
    return arguments


def measure(section: str, arguments: argparse.Namespace) -> list[Table]:
    """The tables of one section."""
    share = QUICK_SHARE if arguments.quick else 1.0
    if section == "codec":
        engines = chosen(ENGINES, arguments.peers)
        return codec_rounds.measure(
            engines, arguments.rounds, CODEC_SAMPLE_S * share, report.progress
        )
    if section == "core":
        return core_rounds.measure(arguments.rounds, CODEC_SAMPLE_S * share, report.progress)
    if section == "scale":
        return scale_rounds.measure(arguments.rounds, report.progress)
    if section == "idle":
        servers = chosen(TRANSPORTS, arguments.peers)
        count = IDLE_CONNECTIONS // 5 if arguments.quick else IDLE_CONNECTIONS
        return idle_rounds.measure(
            count, servers, arguments.rounds, arguments.loop, report.progress
        )
    everybody = TRANSPORTS if section == "transports" else SERVERS
    servers = chosen(everybody, arguments.peers)
    settings = socket_rounds.Settings(
        references=tuple(each.name for each in servers)
        if section == "transports"
        else socket_rounds.REFERENCES,
        rounds=arguments.rounds,
        warm_up_s=WARM_UP_S * share,
        duration_s=DURATION_S * share,
        loop=arguments.loop,
    )
    shapes = {
        "echo": socket_rounds.ECHO,
        "commands": socket_rounds.COMMANDS,
        "fanout": socket_rounds.FAN_OUT,
        "crowd": socket_rounds.CROWD,
        "transports": socket_rounds.ON_TRANSPORTS,
    }[section]
    return socket_rounds.measure(shapes, servers, settings, report.progress)


def chosen(contestants: tuple[Contestant, ...], names: list[str]) -> list[Contestant]:
    """Those that `--peers` names."""
    return [contestant for contestant in contestants if contestant.name in names]


def write_json(path: Path, facts: dict[str, object], tables: list[Table]) -> None:
    """Everything that was measured."""
    document = {
        "machine": facts,
        "tables": [table.as_json() for table in tables],
        "goals": [goal.as_json(tables) for goal in GOALS],
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
