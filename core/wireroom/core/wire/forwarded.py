"""Who a request is from behind trusted proxies: X-Forwarded-For and X-Forwarded-Proto. Pure.

Anybody can send these headers, and a proxy appends to what it was sent. So they are read from the
right, where the nearest proxy writes, and only as far as trusted addresses vouch for what stands
to the left of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, TypeAlias, final

from ..errors import ConfigurationError
from .client_address import plain_ip
from .request import Address, MultiDict

UNIX: Final = "unix"  # among trusted proxies: the peers of a Unix socket

_IP: TypeAlias = IPv4Address | IPv6Address
_Network: TypeAlias = IPv4Network | IPv6Network

_SECURE_BY_SCHEME: Final = {"http": False, "ws": False, "https": True, "wss": True}
# An IPv4 address or a bracketed IPv6 one, with or without a port.
_HOST_AND_PORT_RE: Final = re.compile(r"(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?")
_BARE_IPV6_RE: Final = re.compile(r"[0-9A-Fa-f:.]+")
_PORT_MAX: Final = 65_535
_MAPPED_BITS: Final = 96  # RFC 4291 section 2.5.5.2: of ::ffff:0:0/96


@final
class TrustedProxies:
    """The proxies whose word is taken: addresses, networks, and "unix" for Unix-socket peers.

    Raises `ConfigurationError` for what is none of these.
    """

    __slots__ = ("_networks", "_unix", "names")

    def __init__(self, names: Sequence[str] = ()) -> None:
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise ConfigurationError(
                "trusted_proxies", f"must be a list of addresses and networks, not {names!r}"
            )
        self.names = tuple(names)
        self._unix = UNIX in self.names
        self._networks = [_network(name) for name in self.names if name != UNIX]

    def __bool__(self) -> bool:
        return bool(self.names)

    def __contains__(self, address: Address) -> bool:
        """Whether a peer with this address is trusted; without an address it is not."""
        if isinstance(address, tuple):
            try:
                return self._has(plain_ip(ip_address(address[0])))
            except ValueError:
                return False
        return self._unix and address is not None

    def client(self, headers: MultiDict, peer: Address) -> Address:
        """The right-most address of X-Forwarded-For that is not a trusted proxy's.

        `peer` is who sent the request, and trusted. If all are trusted it is the left-most; what
        is no address ends the search at the one to the right of it. The port is 0 if none is given.
        """
        client = peer
        for entry in reversed(_elements(headers, "x-forwarded-for")):
            address = _parse(entry)
            if address is None:
                return client
            ip, port = address
            client = str(ip), port
            if not self._has(ip):
                return client
        return client

    def _has(self, ip: _IP) -> bool:
        return any(ip in network for network in self._networks)


def forwarded_secure(headers: MultiDict) -> bool | None:
    """Whether the client used TLS by X-Forwarded-Proto; None if that is missing or no scheme.

    Of several values the right-most counts, which the nearest proxy has written.
    """
    schemes = _elements(headers, "x-forwarded-proto")
    return _SECURE_BY_SCHEME.get(schemes[-1].lower()) if schemes else None


def _elements(headers: MultiDict, name: str) -> list[str]:
    """The elements of a comma-separated list, over all its header lines; empty ones are kept."""
    return [element.strip(" \t") for value in headers.get_all(name) for element in value.split(",")]


def _parse(entry: str) -> tuple[_IP, int] | None:
    """An address with or without a port; IPv6 with or without brackets; None for anything else."""
    match = _HOST_AND_PORT_RE.fullmatch(entry)
    try:
        if match is not None:
            ip: _IP = IPv6Address(match[2]) if match[1] is None else IPv4Address(match[1])
            port = int(match[3] or 0)
            return None if port > _PORT_MAX else (plain_ip(ip), port)
        return (plain_ip(IPv6Address(entry)), 0) if _BARE_IPV6_RE.fullmatch(entry) else None
    except ValueError:
        return None


def _network(name: object) -> _Network:
    if not isinstance(name, str):
        raise ConfigurationError("trusted_proxies", f"must have names of type str, not {name!r}")
    try:
        network = ip_network(name)
    except ValueError as error:
        raise ConfigurationError(
            "trusted_proxies", f'must have addresses, networks or "{UNIX}": {error}'
        ) from error
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network
