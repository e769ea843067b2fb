"""What is known of a connection's own end while its requests are read. A value. Pure."""

from __future__ import annotations

from typing import final

from .proxy_protocol import ProxyHeaderReader
from .request import Address


@final
class Proxied:
    """A connection that may come from a proxy: dropped at the upgrade.

    `address` and `secure` are the connection's own, or what its PROXY header says;
    `is_trusted` is whether forwarded headers are believed; `header_reader` is None once a PROXY
    header has been read, or if there is none to read.
    """

    __slots__ = ("address", "header_reader", "is_trusted", "secure")

    def __init__(self, address: Address, *, secure: bool, is_trusted: bool) -> None:
        self.address = address
        self.secure = secure
        self.is_trusted = is_trusted
        self.header_reader: ProxyHeaderReader | None = None
