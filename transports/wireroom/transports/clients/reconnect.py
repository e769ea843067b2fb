"""When to connect again, and when not to. Pure: the time and the randomness are passed in."""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Callable, Collection, Mapping
from email.utils import parsedate_to_datetime
from math import isnan
from typing import Final, final

from wireroom.core import (
    CloseCode,
    ConfigurationError,
    RefusedError,
    RemoteProtocolError,
    SessionClosedError,
)

from .options import Options

RETRIED: Final = (OSError, RefusedError, RemoteProtocolError)
"""What `connect` raises that may be over next time; TimeoutError is an OSError."""

STOP_CODES: Final = frozenset([1000, 1002, 1003, 1007, 1008, 1009, 1010, 3000, 3003])
"""Close codes that would come again: all is done, or we do, or are, what the server will not have
(3000 and 3003 are the registry's Unauthorized and Forbidden)."""

STOP_STATUSES: Final = frozenset(range(200, 500)) - {408, 425, 429}
"""HTTP statuses that would come again: this is no such place, or not for us."""


@dataclasses.dataclass(frozen=True, slots=True)
class ReconnectPolicy:
    """The delays between connections, and what ends them.

    The n-th delay in a row is a random part of `initial_delay_s * factor**(n - 1)`, at most of
    `max_delay_s` ("full jitter", so that clients who lost a server together do not return
    together). A connection that lasted `reset_after_s` starts the row anew. A refusal with
    Retry-After is not repeated earlier than that says, up to `retry_after_max_s`. After
    `failures_max` failures in a row to connect, the last is raised. Close codes in `stop_codes`
    and statuses in `stop_statuses` end it; an application's own codes (4000 to 4999) do not
    unless they are added. So does a certificate that cannot be verified.
    Raises `ConfigurationError`.
    """

    initial_delay_s: float = 0.5
    max_delay_s: float = 30.0
    factor: float = 2.0
    reset_after_s: float = 30.0
    retry_after_max_s: float = 600.0
    failures_max: int | None = None
    stop_codes: Collection[int] = STOP_CODES
    stop_statuses: Collection[int] = STOP_STATUSES

    def __post_init__(self) -> None:
        for name in ("initial_delay_s", "max_delay_s", "reset_after_s", "retry_after_max_s"):
            value = getattr(self, name)
            if isnan(value) or value < 0:
                raise ConfigurationError(f"ReconnectPolicy.{name}", f"cannot be {value!r}")
        if not self.factor >= 1:
            raise ConfigurationError(
                "ReconnectPolicy.factor", f"must be at least 1, not {self.factor!r}"
            )
        if self.failures_max is not None and self.failures_max < 1:
            raise ConfigurationError("ReconnectPolicy.failures_max", "must be at least 1")


@final
class Backoff:
    """Where one client stands in its attempts. `random()` gives a number from 0 to 1."""

    __slots__ = ("_attempts", "_failures", "_opened_at", "_policy", "_random")

    def __init__(self, policy: ReconnectPolicy | None, random: Callable[[], float]) -> None:
        self._policy = policy or ReconnectPolicy()
        self._random = random
        self._attempts = 0  # delays given since a connection lasted
        self._failures = 0  # to connect, in a row
        self._opened_at = 0.0

    def opened(self, *, now: float) -> None:
        """A connection was made."""
        self._failures = 0
        self._opened_at = now

    def failed(self, error: Exception) -> float:
        """No connection was made: the seconds to wait. Raises `error` if that is the end."""
        policy = self._policy
        self._failures += 1
        if policy.failures_max is not None and self._failures >= policy.failures_max:
            raise error
        if isinstance(error, ssl.SSLCertVerificationError):
            raise error
        if not isinstance(error, RefusedError):
            return self._next_delay_s()
        if error.status in policy.stop_statuses:
            raise error
        wait_s = min(retry_after_s(error.headers), policy.retry_after_max_s)
        return max(self._next_delay_s(), wait_s)

    def closed(self, code: int | None, reason: str | None, *, now: float) -> float | None:
        """The connection ended with this code, None if we gave it up while it was open: the
        seconds to wait, or None for the end after a normal closure.

        Raises `SessionClosedError` for another code that is the end.
        """
        if now - self._opened_at >= self._policy.reset_after_s:
            self._attempts = 0
        if code is not None and code in self._policy.stop_codes:
            if code == CloseCode.NORMAL_CLOSURE:
                return None
            raise SessionClosedError(
                f"not connecting again after close code {code}", code=code, reason=reason or ""
            )
        return self._next_delay_s()

    def _next_delay_s(self) -> float:
        policy = self._policy
        longest = policy.initial_delay_s
        for _ in range(self._attempts):
            longest *= policy.factor
            if longest >= policy.max_delay_s:
                break
        else:
            self._attempts += 1  # it need not be counted beyond the longest
        return self._random() * min(longest, policy.max_delay_s)


def retry_after_s(headers: Mapping[str, str]) -> float:
    """What Retry-After says (RFC 9110 section 10.2.3), 0 if nothing that can be read.

    A date counts from the response's own Date, so that our clock does not matter.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value) if len(value) < 16 else float("inf")
    try:
        until = parsedate_to_datetime(value)
        since = parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (until - since).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def check_repeatable(options: Options) -> None:
    """Raises `ConfigurationError` for options that serve one connection only."""
    if options.sock is not None:
        raise ConfigurationError("sock", "is one connection, so there is none to connect again")
