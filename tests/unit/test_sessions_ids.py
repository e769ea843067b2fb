"""fds: their range, the order in which they come, and what they cost."""

from __future__ import annotations

import tracemalloc
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wireroom.core import ConfigurationError
from wireroom.core.sessions.ids import FD_MAX, Policy, new_fds

POLICIES: tuple[Policy, ...] = ("rising", "lowest")


@pytest.mark.parametrize("policy", POLICIES)
def test_new_ids_rise_from_one(policy: Policy) -> None:
    fds = new_fds(policy, FD_MAX)
    assert [fds.acquire() for _ in range(5)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("policy", POLICIES)
def test_all_ids_in_use_gives_none_until_one_is_released(policy: Policy) -> None:
    fds = new_fds(policy, 2)
    assert [fds.acquire() for _ in range(4)] == [1, 2, None, None]
    fds.release(2)
    assert [fds.acquire(), fds.acquire()] == [2, None]


def test_rising_reuses_nothing_before_it_wraps() -> None:
    fds = new_fds("rising", 4)
    for expected in (1, 2, 3, 4):
        assert fds.acquire() == expected
        fds.release(expected)
    assert [fds.acquire() for _ in range(5)] == [1, 2, 3, 4, None]


def test_rising_reuses_what_has_been_free_longest() -> None:
    fds = new_fds("rising", 3)
    for _ in range(3):
        fds.acquire()
    for fd in (2, 3, 1):
        fds.release(fd)
    assert [fds.acquire() for _ in range(3)] == [2, 3, 1]


def test_lowest_reuses_the_lowest() -> None:
    fds = new_fds("lowest", FD_MAX)
    for _ in range(5):
        fds.acquire()
    for fd in (4, 2, 5):
        fds.release(fd)
    assert [fds.acquire() for _ in range(4)] == [2, 4, 5, 6]


def test_rising_is_first_in_first_out_over_many_blocks() -> None:
    count = 10_000  # more than two blocks of its queue
    fds = new_fds("rising", count)
    for _ in range(count):
        fds.acquire()
    for fd in range(count, 0, -1):
        fds.release(fd)
    assert [fds.acquire() for _ in range(count)] == list(range(count, 0, -1))
    assert fds.acquire() is None


@pytest.mark.parametrize("policy", POLICIES)
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_against_a_model(policy: Policy, data: st.DataObject) -> None:
    fd_max = data.draw(st.integers(1, 6))
    fds = new_fds(policy, fd_max)
    never_used = deque(range(1, fd_max + 1))
    released: list[int] = []
    in_use: list[int] = []
    for acquire in data.draw(st.lists(st.booleans(), max_size=60)):
        if acquire:
            expected = None
            if policy == "lowest" and released:
                expected = min(released)
                released.remove(expected)
            elif never_used:
                expected = never_used.popleft()
            elif released:
                expected = released.pop(0)
            assert fds.acquire() == expected
            if expected is not None:
                in_use.append(expected)
        elif in_use:
            fd = data.draw(st.sampled_from(in_use))
            in_use.remove(fd)
            released.append(fd)
            fds.release(fd)


@pytest.mark.parametrize("policy", POLICIES)
def test_ids_that_were_never_used_cost_no_memory(policy: Policy) -> None:
    tracemalloc.start()
    try:
        fds = new_fds(policy, FD_MAX)
        fds.acquire()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 10_000


def test_free_ids_cost_about_four_bytes_each() -> None:
    count = 100_000
    fds = new_fds("rising", count)
    for _ in range(count):
        fds.acquire()
    tracemalloc.start()
    try:
        for fd in range(1, count + 1):
            fds.release(fd)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 6 * count


@pytest.mark.parametrize("fd_max", [0, -1, 2**32])
def test_a_range_that_cannot_work_is_refused(fd_max: int) -> None:
    with pytest.raises(ConfigurationError) as raised:
        new_fds("rising", fd_max)
    assert raised.value.setting == "fd_max"


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigurationError) as raised:
        new_fds("newest", 5)  # type: ignore[arg-type]  # on purpose
    assert raised.value.setting == "fd_policy"
