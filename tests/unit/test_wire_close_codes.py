"""Close codes (RFC 6455 section 7.4, and the registry it set up)."""

from __future__ import annotations

import pytest

from wireroom.core.wire.close_codes import (
    REASON_BYTES_MAX,
    CloseCode,
    may_be_on_the_wire,
    may_be_sent,
)

# Written out from section 7.4.1 and https://www.iana.org/assignments/websocket (2023-05-05).
REGISTERED = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}
NEVER_SENT = {1005, 1006, 1015}


def test_registered_and_private_codes_may_be_on_the_wire() -> None:
    accepted = {code for code in range(-1, 70_000) if may_be_on_the_wire(code)}
    assert accepted == REGISTERED | set(range(3000, 5000))


def test_the_codes_have_their_registered_numbers() -> None:
    assert {int(code) for code in CloseCode} == REGISTERED | NEVER_SENT


@pytest.mark.parametrize("code", sorted(NEVER_SENT | {0, 999, 1004, 1016, 2999, 5000, 65535}))
def test_reserved_codes_may_not_be_sent(code: int) -> None:
    assert not may_be_sent(code, client=False)
    assert not may_be_sent(code, client=True)


def test_only_a_client_misses_an_extension() -> None:
    for code in range(6000):
        assert may_be_sent(code, client=True) == may_be_on_the_wire(code)
        assert may_be_sent(code, client=False) == (may_be_on_the_wire(code) and code != 1010)


def test_a_reason_fills_a_control_frame() -> None:
    assert REASON_BYTES_MAX == 125 - 2
