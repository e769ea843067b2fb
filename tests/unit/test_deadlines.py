"""Deadlines, against a plain dictionary; their memory; and that keys need no order."""

from __future__ import annotations

import gc
import math
import weakref

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wireroom.core.deadlines import Deadlines

keys = st.integers(0, 7)
times = st.integers(-8, 160).map(lambda quarters: quarters / 4)


@settings(max_examples=60, stateful_step_count=60, deadline=None)
class DeadlinesAgainstADictionary(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.deadlines: Deadlines[int] = Deadlines()
        self.model: dict[int, float] = {}

    @rule(key=keys, when=times)
    def set(self, key: int, when: float) -> None:
        self.deadlines.set(key, when)
        self.model[key] = when

    @rule(key=keys, step=st.integers(1, 50))
    def postpone_often(self, key: int, step: int) -> None:
        """What a busy connection does; the heap must be rebuilt without losing anything."""
        for count in range(100):
            self.deadlines.discard(key)
            self.deadlines.set(key, float(step + count))
        self.model[key] = float(step + 99)

    @rule(key=keys)
    def discard(self, key: int) -> None:
        self.deadlines.discard(key)
        self.model.pop(key, None)

    @rule(now=times)
    def due(self, now: float) -> None:
        expected = {key: when for key, when in self.model.items() if when <= now}
        got = self.deadlines.due(now)
        assert sorted(got) == sorted(expected)
        assert [expected[key] for key in got] == sorted(expected.values())
        for key in expected:
            del self.model[key]

    @rule()
    def next(self) -> None:
        assert self.deadlines.next() == min(self.model.values(), default=None)

    @invariant()
    def same(self) -> None:
        assert len(self.deadlines) == len(self.model)
        assert all(self.deadlines.get(key) == self.model.get(key) for key in range(8))


TestDeadlinesAgainstADictionary = DeadlinesAgainstADictionary.TestCase


@given(st.lists(st.tuples(st.integers(0, 200), times), max_size=300), times)
def test_due_comes_earliest_first_however_it_was_moved(
    changes: list[tuple[int, float]], now: float
) -> None:
    deadlines: Deadlines[int] = Deadlines()
    for key, when in changes:
        deadlines.set(key, when)
    model = dict(changes)
    moments = [model[key] for key in deadlines.due(now)]
    assert moments == sorted(when for when in model.values() if when <= now)


def test_equal_deadlines_come_in_the_order_they_were_set() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key in "bac":
        deadlines.set(key, 1.0)
    assert deadlines.due(1.0) == ["b", "a", "c"]


def test_keys_are_never_compared() -> None:
    deadlines: Deadlines[object] = Deadlines()
    for _ in range(50):
        deadlines.set(object(), 1.0)
    assert len(deadlines.due(1.0)) == 50


def test_an_idle_key_costs_little_more_than_its_time() -> None:
    """As the many connections of a server that nothing comes from: in lists, not in the heap."""
    deadlines: Deadlines[int] = Deadlines()
    for key in range(10_000):
        deadlines.set(key, 10.0 + key / 1024)
        deadlines.set(key, 20.0 + key / 1024)
    assert deadlines.next() == 20.0
    assert len(deadlines._near) == 1024
    assert deadlines.due(29.0) == list(range(9 * 1024 + 1))
    assert deadlines.next() == 29.0 + 1 / 1024


def test_times_that_no_slot_can_tell_apart() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key, when in (("a", 1e300), ("b", math.inf), ("c", 1e300)):
        deadlines.set(key, when)
    assert deadlines.next() == 1e300
    assert deadlines.due(1e299) == []
    assert deadlines.due(1e300) == ["a", "c"]
    assert deadlines.next() == math.inf


def test_what_was_moved_past_its_slot_is_due_with_the_rest() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 1.0)
    assert deadlines.next() == 1.0
    deadlines.set("a", 5.0)
    assert deadlines.due(10.0) == ["a"]


def test_a_key_is_due_once() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for when in (5.0, 3.0, 4.0, 2.0):
        deadlines.set("a", when)
    assert deadlines.due(1.9) == []
    assert deadlines.due(10.0) == ["a"]
    assert deadlines.due(10.0) == []
    assert deadlines.next() is None


def test_memory_is_in_proportion_to_the_deadlines_that_are_set() -> None:
    deadlines: Deadlines[int] = Deadlines()
    for count in range(10_000):
        deadlines.set(count % 10, 1_000_000.0 - count)
    entries = len(deadlines._near) + sum(map(len, deadlines._far.values()))
    assert entries == deadlines._entries <= 2 * 10 + 64
    assert len(deadlines._starts) == len(deadlines._far)
    assert deadlines.next() == 1_000_000.0 - 9_999


def test_keys_that_were_discarded_are_not_kept_for_ever() -> None:
    class Key:
        pass

    deadlines: Deadlines[Key] = Deadlines()
    keys = [Key() for _ in range(1000)]
    gone = [weakref.ref(key) for key in keys]
    for key in keys:
        deadlines.set(key, 9.0)
    for key in keys:
        deadlines.discard(key)
    del keys, key
    for when in range(100, 0, -1):  # the other keys' life goes on
        deadlines.set(Key(), float(when))
    gc.collect()
    assert [ref for ref in gone if ref() is not None] == []
