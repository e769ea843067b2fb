"""The chat's rate limits, by a clock that a test moves."""

from __future__ import annotations

import pytest

from rate_limits import site_of
from rates import Rate, Rates, too_fast
from wireroom.core.wire.request import Address


def test_a_burst_and_then_a_rate() -> None:
    rates = Rates(Rate(per_s=2.0, burst=3))
    assert [rates.take("ann", 100.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 0.5]
    assert rates.take("bob", 100.0) == 0.0
    assert rates.take("ann", 100.25) == 0.25
    assert [rates.take("ann", 100.5) for _ in range(2)] == [0.0, 0.5]
    assert [rates.take("ann", 1000.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_who_is_refused_is_not_put_off() -> None:
    rates = Rates(Rate(per_s=1.0, burst=1))
    assert rates.take("ann", 0.0) == 0.0
    for now in (0.2, 0.4, 0.6, 0.8):
        assert rates.take("ann", now) == pytest.approx(1.0 - now)
    assert rates.take("ann", 1.0) == 0.0


def test_those_who_are_quiet_are_forgotten() -> None:
    rates = Rates(Rate(per_s=1.0, burst=2))
    for number in range(5000):
        assert rates.take(number, float(number)) == 0.0
        assert len(rates) <= 1002
    assert rates.take(4999, 4999.0) == 0.0
    assert rates.take(4999, 4999.0) == 1.0


def test_so_many_are_known_at_most() -> None:
    rates = Rates(Rate(per_s=1.0, burst=1), keys_max=3)
    for key in "abc":
        assert rates.take(key, 0.0) == 0.0
    assert rates.take("a", 0.0) == 1.0  # which was asked for last
    assert rates.take("d", 0.0) == 0.0
    assert len(rates) == 3
    assert [rates.take(key, 0.0) for key in "acd"] == [1.0, 1.0, 1.0]
    assert rates.take("b", 0.0) == 0.0


def test_what_was_not_needed_is_given_back() -> None:
    rates = Rates(Rate(per_s=1.0, burst=2))
    rates.give_back("ann")
    assert [rates.take("ann", 0.0) for _ in range(2)] == [0.0, 0.0]
    rates.give_back("ann")
    assert [rates.take("ann", 0.0) for _ in range(2)] == [0.0, 1.0]
    for _ in range(3):
        rates.give_back("ann")
    assert [rates.take("ann", 0.0) for _ in range(3)] == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(("per_s", "burst"), [(0, 1), (-1, 1), (1, 0), (1, 0.5), (float("nan"), 1)])
def test_rates_that_are_none(per_s: float, burst: float) -> None:
    with pytest.raises(ValueError, match="per_s > 0"):
        Rate(per_s, burst)


def test_what_is_said() -> None:
    assert too_fast(0.01) == "that was too fast: try again in 1 second"
    assert too_fast(1.5) == "that was too fast: try again in 2 seconds"


@pytest.mark.parametrize(
    ("address", "site"),
    [
        (("192.0.2.1", 5000), "192.0.2.1"),
        (("2001:db8:1:2:3:4:5:6", 5000), "2001:db8:1:2::/64"),
        (("2001:db8:1:2::7", 5001), "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.1", 5000), "192.0.2.1"),
        (("fe80::1%eth0", 5000), "fe80::/64"),
        (("unknown", 0), "unknown"),
        ("/run/chat.sock", None),
        (None, None),
    ],
)
def test_what_an_address_is_counted_by(address: Address, site: str | None) -> None:
    assert site_of(address) == site
