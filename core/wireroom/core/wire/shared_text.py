"""Text that many requests have in common, kept once. Pure.

A server keeps the request of each session for as long as that lives, and what browsers say differs
little: the names of their headers, in order, and most of the values. So each of those is decoded
once, and shared. The numbers kept are bounded, and so are their sizes; what does not fit is
decoded for itself. Nothing that may be a secret is among them.
"""

from __future__ import annotations

import functools
from typing import Final

_NAMES_BYTES_MAX: Final = 512  # of all names of a head
_VALUE_BYTES_MAX: Final = 256

# Of these headers the values are shared; others have tokens or cookies, or are of one client only.
_SHARED: Final = frozenset(
    (
        *("accept", "accept-encoding", "accept-language", "cache-control", "connection", "host"),
        *("origin", "pragma", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "upgrade"),
        *("sec-websocket-extensions", "sec-websocket-version", "user-agent"),
        *("x-forwarded-host", "x-forwarded-proto"),
    )
)


def header_names(raw: tuple[bytes, ...]) -> tuple[str, ...]:
    """The names of a head, in lower case."""
    if sum(map(len, raw)) > _NAMES_BYTES_MAX:
        return _names(raw)
    return _shared_names(raw)


def header_value(name: str, raw: bytes) -> str:
    """The value of a header; `name` is in lower case."""
    return shared_text(raw) if name in _SHARED else raw.decode("latin-1")


def shared_text(raw: bytes) -> str:
    """Text that is likely to be the same for many."""
    return _shared_text(raw) if len(raw) <= _VALUE_BYTES_MAX else raw.decode("latin-1")


def _names(raw: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple([name.decode("latin-1").lower() for name in raw])


_shared_names: Final = functools.lru_cache(maxsize=256)(_names)


@functools.lru_cache(maxsize=1024)
def _shared_text(raw: bytes) -> str:
    return raw.decode("latin-1")
