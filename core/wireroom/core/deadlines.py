"""Deadlines: who has to be looked at, and when. Pure; imports nothing of ours.

A deadline that moves *later*, as nearly all do, costs one dict store: its entry stays where it is
and is put in again when it comes up. One that moves *earlier* gets another entry at once.

Entries that are near are in a heap. Those that are far are in plain lists, one for each slot of
time, and go into the heap when it is their slot's turn: a pointer each, where an entry of the heap
is a tuple, and a server has one for each idle connection. So `set` is O(1) for nearly all, and
`next` is exact. Everything is rebuilt when more than half of the entries are stale, which keeps
memory in proportion to the deadlines that are set.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from math import inf
from typing import Final, Generic, TypeVar, final

K = TypeVar("K", bound=Hashable)

_SLOT_S: Final = 1.0
_REBUILD_SLACK: Final = 64


@final
class Deadlines(Generic[K]):
    """A set of keys, each with at most one deadline (in the seconds of whoever passes `now`)."""

    __slots__ = ("_count", "_entries", "_far", "_near", "_near_until", "_starts", "_when")

    def __init__(self) -> None:
        self._when: dict[K, float] = {}
        self._near: list[tuple[float, int, K]] = []  # a heap
        self._far: dict[float, list[K]] = {}  # by where their slot starts
        self._starts: list[float] = []  # of these slots; a heap
        self._near_until = -inf  # what is earlier goes into the heap
        self._entries = 0  # near and far
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
            self._put(when, key)
            if self._entries > 2 * len(self._when) + _REBUILD_SLACK:
                self._rebuild()

    def discard(self, key: K) -> None:
        """Forget the deadline of `key`, if it has one."""
        self._when.pop(key, None)

    def next(self) -> float | None:
        """The time at which `due` should be called, or None while nothing is set."""
        while True:
            self._drop_stale()
            if self._starts and (not self._near or self._starts[0] <= self._near[0][0]):
                self._open_slot()
            else:
                return self._near[0][0] if self._near else None

    def due(self, now: float) -> list[K]:
        """Remove and return the keys whose deadline is at or before `now`, earliest first."""
        keys: list[K] = []
        while True:
            while self._starts and self._starts[0] <= now:
                self._open_slot()
            if not self._near or self._near[0][0] > now:
                return keys
            moment, _, key = self._pop()
            when = self._when.get(key)
            if when is None:
                continue
            if when > moment:
                self._put(when, key)
            else:
                del self._when[key]
                keys.append(key)

    def _put(self, when: float, key: K) -> None:
        self._entries += 1
        if when < self._near_until or when == inf:
            self._push(when, key)
            return
        start = when // _SLOT_S * _SLOT_S
        keys = self._far.get(start)
        if keys is None:
            self._far[start] = [key]
            heapq.heappush(self._starts, start)
        else:
            keys.append(key)

    def _push(self, when: float, key: K) -> None:
        self._count += 1
        heapq.heappush(self._near, (when, self._count, key))

    def _pop(self) -> tuple[float, int, K]:
        self._entries -= 1
        return heapq.heappop(self._near)

    def _open_slot(self) -> None:
        """What is in the first slot is near from now on."""
        start = heapq.heappop(self._starts)
        keys = self._far.pop(start)
        self._near_until = max(self._near_until, start + _SLOT_S)
        for key in keys:
            when = self._when.get(key)
            if when is None or when < start:  # which has an entry of its own
                self._entries -= 1
            elif when // _SLOT_S * _SLOT_S == start:
                self._push(when, key)
            else:
                self._entries -= 1
                self._put(when, key)

    def _rebuild(self) -> None:
        self._near.clear()
        self._far.clear()
        self._starts.clear()
        self._near_until = -inf
        self._entries = 0
        for key, when in self._when.items():
            self._put(when, key)

    def _drop_stale(self) -> None:
        while self._near:
            when, _, key = self._near[0]
            current = self._when.get(key)
            if current is not None and current <= when:
                return
            self._pop()
            if current is not None:
                self._put(current, key)
