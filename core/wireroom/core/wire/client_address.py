"""A peer's address by its parts. Pure values."""

from __future__ import annotations

from typing import NamedTuple

from .request import Address


class ClientAddress(NamedTuple):
    """Where a peer connects from; either may be None.

    `host` is an IP address, or the path of a Unix socket that has one; only IP has a `port`.
    """

    host: str | None
    port: int | None


def client_address(address: Address) -> ClientAddress:
    """The parts of an address as the transport gave it."""
    if isinstance(address, tuple):
        return ClientAddress(address[0], address[1])
    return ClientAddress(address or None, None)
