"""A peer's address by its parts. Pure values."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
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


def plain_ip(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IPv4 address in IPv6's form (`::ffff:192.0.2.1`, RFC 4291 section 2.5.5.2), as a
    dual-stack socket gives it, as the IPv4 address that it is."""
    return ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip
