"""The PROXY protocol's header, version 1 and 2, which comes before a client's own bytes. Pure.

After HAProxy's doc/proxy-protocol.txt; sections below are that text's. Whether the sender may be
believed is not decided here. Of the TLVs, only PP2_TYPE_SSL is read; a checksum is not verified.
"""

from __future__ import annotations

import re
import struct
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, NamedTuple, final

from ..errors import RemoteProtocolError
from .client_address import plain_ip
from .request import Address

_V1_PREFIX: Final = b"PROXY "
_V1_BYTES_MAX: Final = 107  # section 2.1, CRLF included
_V1_IP_RE: Final = re.compile(
    r"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})"
)
_V1_UNKNOWN_RE: Final = re.compile(r"PROXY UNKNOWN(?: [^\r\n]*)?")
_PORT_MAX: Final = 65_535

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"  # section 2.2
_V2_FIXED: Final = struct.Struct("!12sBBH")  # signature, version and command, family, length
_V2_LOCAL: Final = 0x20
_V2_PROXY: Final = 0x21
_FAMILY_MAX: Final = 3
_TRANSPORT_MAX: Final = 2
_TCP4: Final = 0x11
_TCP6: Final = 0x21
_UNIX_STREAM: Final = 0x31
_ADDRESS_BYTES: Final = {_TCP4: 12, _TCP6: 36, _UNIX_STREAM: 216}
_TLV: Final = struct.Struct("!BH")  # type, length
_TYPE_SSL: Final = 0x20
_SSL_BYTES_MIN: Final = 5  # section 2.2.6: client flags and verify
_CLIENT_SSL: Final = 0x01


class ProxyHeader(NamedTuple):
    """What a proxy says of its client.

    `address` is None if it says none (UNKNOWN, LOCAL, AF_UNSPEC, datagrams): the connection's own
    stands. `secure` is whether the client used TLS, None if it does not say.
    """

    address: Address
    secure: bool | None


@final
class ProxyHeaderReader:
    """Takes the bytes of a connection until its PROXY header is complete.

    A header has at most `bytes_max` bytes (and one of version 1 at most 107).
    """

    __slots__ = ("_bytes_max", "_received", "trailing_data")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._received = bytearray()
        self.trailing_data = b""  # what followed the header

    def receive_data(self, data: bytes) -> ProxyHeader | None:
        """Take bytes; the header once it is complete, None before.

        Raises `RemoteProtocolError` (status 400, or 431 beyond `bytes_max`), at the first byte
        that no header has there if it is among those that tell the version.
        """
        received = self._received
        received += data
        if received[:1] == _SIGNATURE[:1]:
            return self._read_v2()
        if received.startswith(_V1_PREFIX[: len(received)]):
            return self._read_v1()
        raise _malformed("the connection does not begin with one")

    def _read_v1(self) -> ProxyHeader | None:
        received = self._received
        end = received.find(b"\r\n", 0, _V1_BYTES_MAX)
        if end < 0:
            if len(received) >= _V1_BYTES_MAX:
                raise _malformed(f"no CRLF in its first {_V1_BYTES_MAX} bytes")
            return None
        line = self._take(end + 2)[:-2].decode("latin-1")
        return _parse_v1(line)

    def _read_v2(self) -> ProxyHeader | None:
        received = self._received
        if not received.startswith(_SIGNATURE[: len(received)]):
            raise _malformed("the connection does not begin with one")
        if len(received) < _V2_FIXED.size:
            return None
        _, command, family, length = _V2_FIXED.unpack_from(received)
        if command not in (_V2_LOCAL, _V2_PROXY):
            raise _malformed(f"its version and command are {command:#04x}")
        size = _V2_FIXED.size + length
        if size > self._bytes_max:
            raise RemoteProtocolError(
                f"the PROXY header has more than {self._bytes_max} bytes", status=431
            )
        if len(received) < size:
            return None
        block = self._take(size)[_V2_FIXED.size :]
        if command == _V2_LOCAL:
            return ProxyHeader(None, None)  # section 2.2: the whole block is discarded
        return _parse_v2(family, block)

    def _take(self, size: int) -> bytes:
        received = bytes(self._received)
        self._received.clear()
        self.trailing_data = received[size:]
        return received[:size]


def _parse_v1(line: str) -> ProxyHeader:
    if _V1_UNKNOWN_RE.fullmatch(line) is not None:
        return ProxyHeader(None, None)
    match = _V1_IP_RE.fullmatch(line)
    if match is None:
        raise _malformed("its line is not that of version 1")
    ip = IPv4Address if match[1] == "TCP4" else IPv6Address
    try:
        source, _ = ip(match[2]), ip(match[3])
    except AddressValueError as error:
        raise _malformed(f"an address is not one of {match[1]}") from error
    port = int(match[4])
    if max(port, int(match[5])) > _PORT_MAX:
        raise _malformed("a port is too high")
    return ProxyHeader((str(plain_ip(source)), port), None)


def _parse_v2(family: int, block: bytes) -> ProxyHeader:
    if family >> 4 > _FAMILY_MAX or family & 0x0F > _TRANSPORT_MAX:
        raise _malformed(f"its address family and protocol are {family:#04x}")
    size = _ADDRESS_BYTES.get(family)
    if size is None:
        return ProxyHeader(None, None)
    if len(block) < size:
        raise _malformed(f"its addresses have {len(block)} bytes instead of {size}")
    address: Address
    if family == _TCP4:
        address = str(IPv4Address(block[:4])), int.from_bytes(block[8:10], "big")
    elif family == _TCP6:
        address = str(plain_ip(IPv6Address(block[:16]))), int.from_bytes(block[32:34], "big")
    else:
        path, _, _ = block[:108].partition(b"\x00")
        address = path.decode("utf-8", "backslashreplace")
    return ProxyHeader(address, _secure_of(block[size:]))


def _secure_of(tlvs: bytes) -> bool | None:
    """What PP2_TYPE_SSL says (section 2.2.6), None if it is not there."""
    secure = None
    position = 0
    while position < len(tlvs):
        start = position + _TLV.size
        if start > len(tlvs):
            raise _malformed("a TLV is cut")
        kind, length = _TLV.unpack_from(tlvs, position)
        position = start + length
        if position > len(tlvs):
            raise _malformed("a TLV is longer than what is left")
        if kind == _TYPE_SSL:
            if length < _SSL_BYTES_MIN:
                raise _malformed("its PP2_TYPE_SSL is too short")
            secure = bool(tlvs[start] & _CLIENT_SSL)
    return secure


def _malformed(problem: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"the PROXY header is malformed: {problem}", status=400)
