"""What the core alone costs at sizes: memory and pings of idle sessions, deadlines, long messages.

Each sample is a process of its own (`scale.py`). No peer takes part, for none has its core apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from processes import MeasurementError, measure_scale
from results import Entry, Table

SESSIONS = (1000, 10_000, 18_000)


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """One table: what `scale.py` measures, at some counts."""

    key: str
    title: str
    unit: str
    contestants: dict[str, tuple[str, int]]  # by name, what and how many
    divided_by: float = 1.0


SCALES = (
    Scale(
        "core memory",
        "resident memory of the core for each idle session",
        "KiB",
        {
            f"{count} sessions, {label}": (what, count)
            for label, what in (("plain", "memory"), ("deflate", "memory-deflate"))
            for count in SESSIONS
        },
        1024.0,
    ),
    Scale(
        "core pings",
        "CPU of the core for idle sessions that are pinged every 20 s, in per cent of one core",
        "%",
        {f"{count} sessions": ("pings", count) for count in SESSIONS},
    ),
    Scale(
        "deadlines",
        "moving one of so many deadlines later, and what comes up meanwhile",
        "ns",
        {f"{count:,}": ("deadlines", count) for count in (1000, 18_000, 100_000, 1_000_000)},
    ),
    Scale(
        "long messages",
        "a byte of a message that comes 64 bytes at a time",
        "ns",
        {f"{size} MiB": ("receive", size * 2**20) for size in (1, 4, 16)},
    ),
)


def measure(rounds: int, progress: Callable[[str], None]) -> list[Table]:
    """All tables of this file."""
    tables = [empty_table(scale) for scale in SCALES]
    for number in range(rounds):
        for scale, table in zip(SCALES, tables, strict=True):
            for entry in table.entries:
                progress(f"round {number + 1} of {rounds}: {scale.key} {entry.contestant}")
                add_sample(entry, scale)
    return tables


def empty_table(scale: Scale) -> Table:
    """Compared with its first line."""
    return Table(
        key=scale.key,
        title=scale.title,
        unit=scale.unit,
        smaller_is_better=True,
        references=(next(iter(scale.contestants)),),
        entries=[Entry(name) for name in scale.contestants],
    )


def add_sample(entry: Entry, scale: Scale) -> None:
    """One more; a failure takes it out of the table."""
    if entry.missing:
        return
    what, count = scale.contestants[entry.contestant]
    try:
        entry.samples.append(measure_scale(what, count) / scale.divided_by)
    except MeasurementError as error:
        entry.missing = f"failed: {error}"
