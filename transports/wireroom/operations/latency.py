"""How long messages take, from their turn to the end of their handlers: a histogram a handler.

The core has no clock; it tells a `Stopwatch` when a message begins and ends. An `async def` handler
is measured with all that it waits for. `Latency` is what `install` provides as that stopwatch.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable
from typing import Final, final

from wireroom.core import Stopwatch

BOUNDS_S: Final = (
    *(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""The upper bounds of the buckets, each included; a last bucket has what is above."""


@final
class Histogram:
    """How many messages of one handler took how long; each is in one bucket of `counts`."""

    __slots__ = ("counts", "max_s", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0
        self.max_s = 0.0

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)


@final
class Latency(Stopwatch):
    """Histograms by the names of handlers, of which an application has so many and no more.

    `clock` gives seconds, and does not run backwards.
    """

    __slots__ = ("_clock", "histograms")

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.histograms: dict[str, Histogram] = {}

    def start(self) -> float:
        return self._clock()

    def stop(self, handler: str, started: float) -> None:
        took_s = self._clock() - started
        histogram = self.histograms.get(handler)
        if histogram is None:
            histogram = self.histograms[handler] = Histogram()
        histogram.counts[bisect_left(BOUNDS_S, took_s)] += 1
        histogram.sum_s += took_s
        if took_s > histogram.max_s:
            histogram.max_s = took_s

    def total(self) -> Histogram:
        """All handlers together."""
        total = Histogram()
        for each in self.histograms.values():
            total.counts = [a + b for a, b in zip(total.counts, each.counts, strict=True)]
            total.sum_s += each.sum_s
            total.max_s = max(total.max_s, each.max_s)
        return total
