"""Deadlines: who has to be looked at, and when. Pure; imports nothing of ours.

A deadline that moves *later*, as nearly all do, costs one dict store: the entry in the heap stays
where it is and is pushed again when it comes up. One that moves *earlier* is pushed at once. So
`set` is O(1) for the common case and O(log n) for the rest, and `next` is exact or early, never
late. The heap is rebuilt when more than half of it is stale, which keeps memory in proportion to
the deadlines that are set.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Final, Generic, TypeVar, final

K = TypeVar("K", bound=Hashable)

_REBUILD_SLACK: Final = 64


@final
class Deadlines(Generic[K]):
    """A set of keys, each with at most one deadline (in the seconds of whoever passes `now`)."""

    __slots__ = ("_count", "_heap", "_when")

    def __init__(self) -> None:
        self._when: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0  # orders equal times, so that keys are never compared

    def __len__(self) -> int:
        return len(self._when)

    def get(self, key: K) -> float | None:
        """The deadline of `key`, or None."""
        return self._when.get(key)

    def set(self, key: K, when: float) -> None:
        """Give `key` the deadline `when`, in place of any it had."""
        before = self._when.get(key)
        self._when[key] = when
        if before is None or when < before:
            self._push(when, key)

    def discard(self, key: K) -> None:
        """Forget the deadline of `key`, if it has one."""
        self._when.pop(key, None)

    def next(self) -> float | None:
        """A time at which `due` should be called, or None while nothing is set."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[K]:
        """Remove and return the keys whose deadline is at or before `now`, earliest first."""
        keys: list[K] = []
        while self._heap and self._heap[0][0] <= now:
            moment, _, key = heapq.heappop(self._heap)
            when = self._when.get(key)
            if when is None:
                continue
            if when > moment:
                self._push(when, key)
            else:
                del self._when[key]
                keys.append(key)
        return keys

    def _push(self, when: float, key: K) -> None:
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, key))
        if len(self._heap) > 2 * len(self._when) + _REBUILD_SLACK:
            self._heap = [
                (moment, number, each) for number, (each, moment) in enumerate(self._when.items())
            ]
            self._count = len(self._heap)
            heapq.heapify(self._heap)

    def _drop_stale(self) -> None:
        while self._heap:
            when, _, key = self._heap[0]
            current = self._when.get(key)
            if current is not None and current <= when:
                return
            heapq.heappop(self._heap)
            if current is not None:
                self._push(current, key)
