"""When a client connects again: delays, and what ends it. No clock, and no randomness but given."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireroom.core import ConfigurationError, RefusedError, RemoteProtocolError, SessionClosedError
from wireroom.core.wire.request import MultiDict
from wireroom.transports.clients.reconnect import Backoff, ReconnectPolicy, retry_after_s


def refused(status: int, **headers: str) -> RefusedError:
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return RefusedError(status, MultiDict(pairs, fold_case=True), b"")


def longest() -> float:
    return 1.0


def test_delays_grow_to_the_longest() -> None:
    policy = ReconnectPolicy(initial_delay_s=1, max_delay_s=10)
    backoff = Backoff(policy, longest)
    assert [backoff.failed(OSError()) for _ in range(6)] == [1, 2, 4, 8, 10, 10]


@given(
    st.floats(0, 1),
    st.floats(0, 100),
    st.floats(0, 100),
    st.floats(1, 1e300),
    st.integers(1, 60),
)
def test_each_delay_is_a_part_of_what_it_may_be(
    part: float, initial: float, most: float, factor: float, count: int
) -> None:
    policy = ReconnectPolicy(initial_delay_s=initial, max_delay_s=most, factor=factor)
    backoff = Backoff(policy, lambda: part)
    bounds = Backoff(policy, longest)
    before = 0.0
    for _ in range(count):
        bound = bounds.failed(OSError())
        assert before <= bound <= most
        assert backoff.failed(OSError()) == part * bound
        before = bound


def test_however_many_failures_there_are() -> None:
    backoff = Backoff(ReconnectPolicy(max_delay_s=7), longest)
    assert [backoff.failed(OSError()) for _ in range(5000)][-1] == 7


def test_a_connection_that_lasted_starts_anew_and_a_short_one_does_not() -> None:
    backoff = Backoff(ReconnectPolicy(initial_delay_s=1, reset_after_s=30), longest)
    assert backoff.failed(OSError()) == 1
    backoff.opened(now=100.0)
    assert backoff.closed(1006, "", now=129.9) == 2
    backoff.opened(now=200.0)
    assert backoff.closed(1012, "", now=230.0) == 1


@pytest.mark.parametrize("code", [1001, 1005, 1006, 1011, 1012, 1013, 4000, 4999])
def test_codes_that_do_not_end_it(code: int) -> None:
    assert Backoff(None, longest).closed(code, "", now=0.0) == 0.5


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009, 1010, 3000, 3003])
def test_codes_that_end_it(code: int) -> None:
    with pytest.raises(SessionClosedError) as caught:
        Backoff(None, longest).closed(code, "why", now=0.0)
    assert (caught.value.code, caught.value.reason) == (code, "why")


def test_a_normal_closure_ends_it_quietly_and_giving_up_does_not() -> None:
    assert Backoff(None, longest).closed(1000, "", now=0.0) is None
    assert Backoff(None, longest).closed(None, None, now=0.0) == 0.5
    policy = ReconnectPolicy(stop_codes=range(4000, 5000))
    assert Backoff(policy, longest).closed(1000, "", now=0.0) == 0.5
    with pytest.raises(SessionClosedError):
        Backoff(policy, longest).closed(4003, "", now=0.0)


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 426, 451])
def test_statuses_that_end_it(status: int) -> None:
    error = refused(status)
    with pytest.raises(RefusedError) as caught:
        Backoff(None, longest).failed(error)
    assert caught.value is error


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_statuses_that_do_not(status: int) -> None:
    assert Backoff(None, longest).failed(refused(status)) == 0.5


@pytest.mark.parametrize(
    "error", [OSError(), TimeoutError(), ConnectionRefusedError(), RemoteProtocolError("x")]
)
def test_failures_to_connect_do_not(error: Exception) -> None:
    assert Backoff(None, longest).failed(error) == 0.5


def test_a_certificate_that_is_not_trusted_does() -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        Backoff(None, longest).failed(ssl.SSLCertVerificationError())
    assert Backoff(None, longest).failed(ssl.SSLError()) == 0.5


def test_so_many_failures_in_a_row() -> None:
    backoff = Backoff(ReconnectPolicy(failures_max=2), longest)
    backoff.failed(OSError())
    backoff.opened(now=0.0)
    backoff.failed(OSError())
    with pytest.raises(TimeoutError):
        backoff.failed(TimeoutError())


def test_retry_after_is_the_least_and_bounded() -> None:
    policy = ReconnectPolicy(initial_delay_s=4, retry_after_max_s=100)
    assert Backoff(policy, longest).failed(refused(503, Retry_After="3")) == 4
    assert Backoff(policy, longest).failed(refused(503, Retry_After="30")) == 30
    assert Backoff(policy, longest).failed(refused(503, Retry_After="9" * 400)) == 100


DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"Retry_After": " 12 "}, 12),
        ({"Retry_After": "-1"}, 0),
        ({"Retry_After": "soon"}, 0),
        ({"Retry_After": "²"}, 0),
        ({"Retry_After": "Wed, 21 Oct 2015 07:29:30 GMT", "Date": DATE}, 90),
        ({"Retry_After": "Wed, 21 Oct 2015 07:20:00 GMT", "Date": DATE}, 0),
        ({"Retry_After": "Wed, 21 Oct 2015 07:29:30 GMT"}, 0),
        ({"Retry_After": "Wed, 21 Oct 2015 07:29:30 -0000", "Date": DATE}, 0),
    ],
)
def test_what_retry_after_says(headers: dict[str, str], seconds: float) -> None:
    assert retry_after_s(refused(503, **headers).headers) == seconds


@given(st.text())
def test_retry_after_may_be_anything(value: str) -> None:
    assert retry_after_s({"retry-after": value, "date": value}) >= 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"initial_delay_s": -1},
        {"max_delay_s": float("nan")},
        {"factor": 0.5},
        {"factor": float("nan")},
        {"failures_max": 0},
        {"retry_after_max_s": -1},
        {"reset_after_s": -1},
    ],
)
def test_policies_that_cannot_work(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        ReconnectPolicy(**wrong)
