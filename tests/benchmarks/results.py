"""What a measurement gives: one number a round for each contestant, and what follows from them."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclasses.dataclass(slots=True)
class Entry:
    """One contestant in one table: a sample for each round, or the reason why there is none."""

    contestant: str
    samples: list[float] = dataclasses.field(default_factory=list)
    server_cpu: list[float] = dataclasses.field(default_factory=list)
    generator_cpu: list[float] = dataclasses.field(default_factory=list)
    missing: str = ""

    def spread(self) -> Spread | None:
        return None if self.missing else Spread.of(self.samples)

    def per_cpu_second(self) -> float | None:
        """The median rate by the server's CPU time instead of by wall time."""
        pairs = zip(self.samples, self.server_cpu, strict=False)
        rates = [rate / share for rate, share in pairs if share]
        return statistics.median(rates) if rates else None


@dataclasses.dataclass(slots=True)
class Table:
    """One measurement of all contestants, interleaved: round n of one stands beside round n of
    every other. `smaller_is_better` for times, not for rates; a ratio above 1 is always faster.
    Ratios to the `references` are shown.
    """

    key: str
    title: str
    unit: str
    smaller_is_better: bool
    references: tuple[str, ...]
    entries: list[Entry]

    def entry(self, contestant: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.contestant == contestant), None)

    def ratio(self, contestant: str, reference: str) -> Spread | None:
        """How many times as fast as `reference` it is, round by round."""
        ours, theirs = self.entry(contestant), self.entry(reference)
        if ours is None or theirs is None or ours.missing or theirs.missing:
            return None
        pairs = zip(ours.samples, theirs.samples, strict=True)
        if self.smaller_is_better:
            return Spread.of([their / our for our, their in pairs])
        return Spread.of([our / their for our, their in pairs])

    def cpu_ratio(self, contestant: str, reference: str) -> Spread | None:
        """The same by the servers' CPU time, which others on the machine disturb less."""
        ours, theirs = self.entry(contestant), self.entry(reference)
        if ours is None or theirs is None or ours.missing or theirs.missing:
            return None
        rates = [
            [rate / share for rate, share in zip(each.samples, each.server_cpu, strict=False)]
            for each in (ours, theirs)
        ]
        pairs = list(zip(*rates, strict=False))
        return Spread.of([our / their for our, their in pairs]) if pairs else None

    def as_json(self) -> dict[str, Any]:
        """The table for `--json`, with every sample."""
        return {
            **dataclasses.asdict(self),
            "entries": [
                {**dataclasses.asdict(entry), "spread": _as_dict(entry.spread())}
                for entry in self.entries
            ],
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """A ratio that the project wants to reach."""

    table: str
    contestant: str
    reference: str
    at_least: float

    def as_json(self, tables: Sequence[Table]) -> dict[str, Any]:
        """The goal beside what was measured, null where it was not."""
        return {
            **dataclasses.asdict(self),
            "measured": _as_dict(self.measured(tables)),
            "per_cpu": _as_dict(self.per_cpu(tables)),
        }

    def measured(self, tables: Sequence[Table]) -> Spread | None:
        """The ratio by the clock on the wall."""
        table = self._table(tables)
        return None if table is None else table.ratio(self.contestant, self.reference)

    def per_cpu(self, tables: Sequence[Table]) -> Spread | None:
        """The ratio by the servers' CPU time."""
        table = self._table(tables)
        return None if table is None else table.cpu_ratio(self.contestant, self.reference)

    def _table(self, tables: Sequence[Table]) -> Table | None:
        return next((table for table in tables if table.key == self.table), None)


def _as_dict(spread: Spread | None) -> dict[str, float] | None:
    return None if spread is None else dataclasses.asdict(spread)
