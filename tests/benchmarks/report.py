"""Prints tables, goals and the machine, for people; and for programs as JSON."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wireroom.core
from processes import cores
from results import Entry, Goal, Spread, Table

PACKAGES = (
    "wireroom",
    "websockets",
    "wsproto",
    "aiohttp",
    "picows",
    "aiofastnet",
    "uvicorn",
    "starlette",
    "trio",
    "trio-websocket",
    "python-socketio",
    "uvloop",
    "h11",
)


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "compiled": wireroom.core.compiled,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "pinned": cores(),
        "load_average": os.getloadavg()[0],
        "packages": {name: version(name) for name in PACKAGES},
    }


def cpu_model() -> str:
    """The processor's name, from /proc/cpuinfo where there is one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def version(package: str) -> str | None:
    """A package's version; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine_lines(facts: dict[str, Any]) -> list[str]:
    """`machine()` for people."""
    packages = ", ".join(f"{name} {number}" for name, number in facts["packages"].items() if number)
    if facts["pinned"] is None:
        pinned = "not pinned"
    else:
        pinned = "servers and codecs on core {}, load generator on core {}".format(*facts["pinned"])
    return [
        f"wireroom.core.compiled: {facts['compiled']}",
        f"{facts['python']}, {facts['system']}",
        f"{facts['cpu']}, {facts['cores']} cores; {pinned}",
        packages,
        f"load average before the start: {facts['load_average']:.2f}"
        + (" (other work runs: expect noise)" if facts["load_average"] > 0.5 else ""),
    ]


def table_lines(table: Table) -> list[str]:
    """A table, aligned. "x NAME" is how many times as fast as NAME."""
    references = [name for name in table.references if table.entry(name) is not None]
    with_cpu = any(entry.generator_cpu for entry in table.entries)
    header = ["", table.unit, "min", "max", *(f"x {name}" for name in references)]
    if with_cpu:
        header += ["server CPU", "per CPU s", "generator CPU"]
    rows = [row(table, entry, references, with_cpu=with_cpu) for entry in table.entries]
    return [table.title, *aligned([header, *rows])]


def row(table: Table, entry: Entry, references: Sequence[str], *, with_cpu: bool) -> list[str]:
    """One contestant's cells."""
    spread = entry.spread()
    if spread is None:
        return [entry.contestant, entry.missing]
    cells = [entry.contestant, *(number(v) for v in (spread.median, spread.low, spread.high))]
    for name in references:
        ratio = table.ratio(entry.contestant, name)
        cells.append("" if ratio is None else f"{ratio.median:.2f}")
    if with_cpu:
        rate = entry.per_cpu_second()
        cells += [percent(entry.server_cpu), "" if rate is None else number(rate)]
        cells.append(percent(entry.generator_cpu))
    return cells


def number(value: float) -> str:
    """With three digits or more."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def percent(shares: Sequence[float]) -> str:
    """The median of some shares of a core."""
    return f"{statistics.median(shares):.0%}" if shares else ""


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns: names to the left, numbers to the right; a short row has a remark."""
    full = [row for row in rows if len(row) > 2]
    widths = [max(len(row[i]) for row in full) for i in range(len(full[0]))]
    widths[0] = max(len(row[0]) for row in rows)
    lines = []
    for cells in rows:
        line = "  " + cells[0].ljust(widths[0])
        if len(cells) == 2:
            line += "  " + cells[1]
        else:
            pairs = zip(cells[1:], widths[1:], strict=True)
            line += "".join("  " + cell.rjust(width) for cell, width in pairs)
        lines.append(line.rstrip())
    return lines


def goal_lines(goals: Sequence[Goal], tables: Sequence[Table]) -> list[str]:
    """Each goal beside the ratio of this run, with its spread over the rounds."""
    rows = [["", "goal", "measured", "min", "max", "per server CPU", ""]]
    for goal in goals:
        name = f"{goal.table}: {goal.contestant} x {goal.reference}"
        by_cpu = goal.per_cpu(tables)
        cells = verdict(goal, goal.measured(tables))
        cells.insert(3, "" if by_cpu is None else f"{by_cpu.median:.2f}")
        rows.append([name, f">= {goal.at_least:g}", *cells])
    return ["goals", *aligned(rows)]


def verdict(goal: Goal, measured: Spread | None) -> list[str]:
    """The measured ratio and what it means for the goal."""
    if measured is None:
        return ["", "", "", "not measured"]
    reached = "reached" if measured.median >= goal.at_least else "missed"
    return [f"{v:.2f}" for v in (measured.median, measured.low, measured.high)] + [reached]


def progress(what: str) -> None:
    """What is measured now, on one line of a terminal, which the next one overwrites."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{what}")
        sys.stderr.flush()


def progress_done() -> None:
    """Clear that line."""
    progress("")
