"""Limits: their defaults, and that what cannot work is refused by name."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from wireroom.core.errors import ConfigurationError, WireroomError
from wireroom.core.limits import Limits

FIELDS = dataclasses.fields(Limits)
NAMES = [field.name for field in FIELDS]
TIMES = [name for name in NAMES if name.endswith("_s")]
COUNTS = [name for name in NAMES if not name.endswith("_s")]
OPTIONAL = ["frame_bytes_max", "outbox_bytes_max"]


def changed(name: str, value: object) -> Limits:
    arguments: dict[str, Any] = {name: value}
    return Limits(**arguments)


def test_the_defaults_that_are_promised() -> None:
    limits = Limits()
    assert limits.head_bytes_max == 16 * 1024
    assert limits.head_headers_max == 100
    assert limits.message_bytes_max == limits.frame_bytes == 2**20
    assert limits.outbox_bytes == 4 * 2**20


def test_every_bound_has_its_unit_last() -> None:
    units = ("_max", "_s", "_bytes")
    assert [name for name in NAMES if not name.endswith(units)] == []


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, math.inf, math.nan, True, "1", b"1"])
def test_counts_are_whole_numbers_of_at_least_1(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"Limits.{name}: must be") as caught:
        changed(name, value)
    assert caught.value.setting == f"Limits.{name}"


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", [0, -1, 0.0, -math.inf, math.nan, False, True, "1", None])
def test_times_are_more_than_no_seconds(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"Limits.{name}: must be") as caught:
        changed(name, value)
    assert caught.value.setting == f"Limits.{name}"


@pytest.mark.parametrize("name", TIMES)
def test_a_time_may_be_switched_off(name: str) -> None:
    assert getattr(changed(name, math.inf), name) == math.inf
    assert getattr(changed(name, 0.001), name) == 0.001


@pytest.mark.parametrize("name", COUNTS)
def test_only_what_is_derived_may_be_left_open(name: str) -> None:
    if name in OPTIONAL:
        changed(name, None)
    else:
        with pytest.raises(ConfigurationError, match=f"Limits.{name}"):
            changed(name, None)


def test_derived_bounds_follow_the_message_bound() -> None:
    limits = Limits(message_bytes_max=100)
    assert (limits.frame_bytes, limits.outbox_bytes) == (100, 400)
    limits = Limits(message_bytes_max=100, frame_bytes_max=10, outbox_bytes_max=7)
    assert (limits.frame_bytes, limits.outbox_bytes) == (10, 7)


def test_a_frame_is_not_longer_than_a_message() -> None:
    assert Limits(message_bytes_max=100, frame_bytes_max=100).frame_bytes == 100
    with pytest.raises(ConfigurationError, match="frame_bytes_max") as caught:
        Limits(message_bytes_max=100, frame_bytes_max=101)
    assert caught.value.setting == "Limits.frame_bytes_max"


def test_limits_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().head_bytes_max = 1  # type: ignore[misc]


def test_a_configuration_error_can_be_caught_as_either_kind() -> None:
    for kind in (ValueError, WireroomError):
        with pytest.raises(kind):
            Limits(head_bytes_max=0)
