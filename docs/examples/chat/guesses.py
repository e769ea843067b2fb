"""How often somebody may be wrong about an account's password, from wherever they try.

It is counted by name, whether there is such an account or not, so that a refusal says nothing of
that. Who has logged in from an address before is counted there apart from all others: those who
guess do not keep them out. Used in blocking handlers, so in several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Final, final

from accounts import WrongPasswordError
from names import name_key
from rates import Rate, Rates
from store_results import StoreError

KNOWN_MAX: Final = 10_000  # addresses from which somebody has logged in; the latest


class TooManyGuessesError(StoreError):
    """The password of an account was wrong too often; that it is right is not looked at."""

    code = "rate_limited"


@final
class Guesses:
    """A rate for each name; see above. What is not a wrong password is not counted."""

    def __init__(self, rate: Rate) -> None:
        self._rates = Rates(rate)
        self._known: dict[tuple[str, str | None], None] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rates) + len(self._known)

    @contextmanager
    def counted(self, name: str, site: str | None, now: float) -> Iterator[None]:
        """Try a password of a name within this, from a site (`site_of`).

        Raises `TooManyGuessesError`.
        """
        name = name_key(name)
        pair = (name, site)
        with self._lock:
            key = pair if pair in self._known else name
            wait_s = self._rates.take(key, now)
        if wait_s:
            seconds = ceil(wait_s)
            raise TooManyGuessesError(
                "too many wrong passwords for this name: try again in"
                f" {seconds} second{'' if seconds == 1 else 's'}"
            )
        try:
            yield
        except WrongPasswordError:
            raise
        except BaseException:
            with self._lock:
                self._rates.give_back(key)
            raise
        with self._lock:
            self._rates.give_back(key)
            self._known.pop(pair, None)
            self._known[pair] = None
            if len(self._known) > KNOWN_MAX:
                del self._known[next(iter(self._known))]
