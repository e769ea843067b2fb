"""How often somebody may ask for something. Pure: the time is the hub's."""

from __future__ import annotations

from collections.abc import Hashable
from math import ceil
from typing import Final, final

import msgspec

_SLACK: Final = 1000  # full buckets are kept until there are so many more than at the last look


class Rate(msgspec.Struct, frozen=True):
    """`per_s` a second in the long run, and `burst` at once."""

    per_s: float
    burst: float

    def __post_init__(self) -> None:
        if not (self.per_s > 0 and self.burst >= 1):
            raise ValueError("a rate has per_s > 0 and burst >= 1")


@final
class Rates:
    """A bucket of tokens for each key, as large as the rate's burst; those that are full are
    forgotten from time to time, and of more than `keys_max` those that were not asked for longest.
    Used by one thread at a time: under the hub's inputs, in `def` handlers and middleware."""

    def __init__(self, rate: Rate, *, keys_max: int = 100_000) -> None:
        self.rate = rate
        self._keys_max = keys_max
        self._buckets: dict[Hashable, tuple[float, float]] = {}  # tokens, and when there were
        self._look_at = _SLACK

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, now: float) -> float:
        """Take a token: 0 if there is one, or else the seconds until there will be."""
        rate = self.rate
        tokens, since = self._buckets.pop(key, (rate.burst, now))
        tokens = min(rate.burst, tokens + (now - since) * rate.per_s)
        if tokens < 1:
            self._buckets[key] = (tokens, now)
            return (1 - tokens) / rate.per_s
        self._buckets[key] = (tokens - 1, now)
        if len(self._buckets) >= self._look_at:
            self._forget(now)
        if len(self._buckets) > self._keys_max:
            del self._buckets[next(iter(self._buckets))]
        return 0.0

    def give_back(self, key: Hashable) -> None:
        """It was not needed after all."""
        if key in self._buckets:
            tokens, since = self._buckets[key]
            self._buckets[key] = (min(self.rate.burst, tokens + 1), since)

    def _forget(self, now: float) -> None:
        rate = self.rate
        self._buckets = {
            key: (tokens, since)
            for key, (tokens, since) in self._buckets.items()
            if tokens + (now - since) * rate.per_s < rate.burst
        }
        self._look_at = len(self._buckets) + _SLACK


def too_fast(wait_s: float) -> str:
    """What to say to who has to wait."""
    seconds = ceil(wait_s)
    return f"that was too fast: try again in {seconds} second{'' if seconds == 1 else 's'}"
