"""PROXY headers of version 1 and 2: what is read, what is refused, however the bytes are cut."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raw import pieces
from wireroom.core import RemoteProtocolError
from wireroom.core.wire.proxy_protocol import ProxyHeader, ProxyHeaderReader

BYTES_MAX = 16 * 1024
SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")  # section 2.2
NOTHING = ProxyHeader(None, None)

LOCAL, PROXY = 0x20, 0x21
TCP4, UDP4, TCP6, UDP6, UNIX, UNIX_DATAGRAM = 0x11, 0x12, 0x21, 0x22, 0x31, 0x32
V4 = bytes([192, 0, 2, 7, 10, 0, 0, 1]) + struct.pack("!HH", 56324, 443)
V6 = (
    ip_address("2001:db8::7").packed + ip_address("2001:db8::1").packed + struct.pack("!HH", 1, 443)
)
PATHS = b"/run/client.sock".ljust(108, b"\0") + b"/run/server.sock".ljust(108, b"\0")


def v2(family: int, block: bytes, *, command: int = PROXY) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(block)) + block


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def ssl_tlv(client: int) -> bytes:
    """Section 2.2.6, with the TLS version as HAProxy sends it."""
    return tlv(0x20, bytes([client, 0, 0, 0, 0]) + tlv(0x21, b"TLSv1.3"))


def read(
    data: bytes, *, cut: int | None = None, bytes_max: int = BYTES_MAX
) -> tuple[ProxyHeader | None, bytes]:
    """The header, and what follows it."""
    reader = ProxyHeaderReader(bytes_max)
    header = None
    rest = b""
    for piece in pieces(data, cut):
        if header is None:
            header = reader.receive_data(piece)
            rest = reader.trailing_data
        else:
            rest += piece
    return header, rest


def outcome(data: bytes, cut: int | None) -> tuple[ProxyHeader | None, bytes] | tuple[str, int]:
    try:
        return read(data, cut=cut)
    except RemoteProtocolError as error:
        return error.message, error.status


GOOD = [
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n", (("192.0.2.7", 56324), None)),
    (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        (("255.255.255.255", 65535), None),
    ),
    (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", (("0.0.0.0", 0), None)),
    (b"PROXY TCP6 2001:DB8::7 2001:db8::1 1 443\r\n", (("2001:db8::7", 1), None)),
    (
        b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n",
        ((":".join(["ffff"] * 8), 65535), None),
    ),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 443\r\n", (("192.0.2.7", 1), None)),
    (b"PROXY UNKNOWN\r\n", NOTHING),
    (b"PROXY UNKNOWN ffff::1 whatever\x00\xff 65535\r\n", NOTHING),
    (b"PROXY UNKNOWN " + b"x" * (107 - 16) + b"\r\n", NOTHING),
    (v2(TCP4, V4), (("192.0.2.7", 56324), None)),
    (v2(TCP6, V6), (("2001:db8::7", 1), None)),
    (v2(TCP6, ip_address("::ffff:192.0.2.7").packed + V6[16:]), (("192.0.2.7", 1), None)),
    (v2(UNIX, PATHS), ("/run/client.sock", None)),
    (v2(UNIX, b"x" * 216), ("x" * 108, None)),
    (v2(UNIX, bytes(216)), ("", None)),
    (v2(UNIX, b"/\xff".ljust(216, b"\0")), ("/\\xff", None)),
    # LOCAL: the whole block is ignored, and so is the family
    (v2(0, b"", command=LOCAL), NOTHING),
    (v2(TCP4, V4, command=LOCAL), NOTHING),
    (v2(0xFF, b"\x20\xff", command=LOCAL), NOTHING),
    # what is not supported: the connection's own address
    (v2(0, b""), NOTHING),
    (v2(0, b"anything"), NOTHING),
    (v2(0x10, V4), NOTHING),
    (v2(UDP4, V4), NOTHING),
    (v2(UDP6, V6), NOTHING),
    (v2(UNIX_DATAGRAM, PATHS), NOTHING),
    # TLVs
    (v2(TCP4, V4 + tlv(0x04, b"") + tlv(0xEA, b"\x01vpce-1")), (("192.0.2.7", 56324), None)),
    (v2(TCP4, V4 + ssl_tlv(0x01)), (("192.0.2.7", 56324), True)),
    (v2(TCP4, V4 + ssl_tlv(0x07)), (("192.0.2.7", 56324), True)),
    (v2(TCP4, V4 + ssl_tlv(0x00)), (("192.0.2.7", 56324), False)),
    (v2(TCP4, V4 + ssl_tlv(0x06)), (("192.0.2.7", 56324), False)),
    (v2(TCP6, V6 + tlv(0x02, b"example.com") + ssl_tlv(0x01)), (("2001:db8::7", 1), True)),
    (v2(TCP4, V4 + tlv(0x04, b"\x20\x00\x05\x01")), (("192.0.2.7", 56324), None)),
]

BAD = [
    b"GET / HTTP/1.1\r\n",
    b"POST / HTTP/1.1\r\n",
    b"\x16\x03\x01\x00",  # a TLS handshake
    b"\r\nPROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
    b" PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
    b"proxy TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
    b"PROXY\r\n",
    b"PROXY \r\n",
    b"PROXY TCP4\r\n",
    b"PROXY TCP5 192.0.2.7 10.0.0.1 1 2\r\n",
    b"PROXY tcp4 192.0.2.7 10.0.0.1 1 2\r\n",
    b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
    b"PROXY UNKNOWNX\r\n",
    b"PROXY UNKNOWN \n x\r\n",
    b"PROXY UNKNOWN \r x\r\n",
    b"PROXY  TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
    b"PROXY TCP4  192.0.2.7 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2 \r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1\t2\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1 02\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 2\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1 65536\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 -1 2\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 2\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 \xb2 2\r\n",
    b"PROXY TCP4 192.0.2.07 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.256 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.256 1 2\r\n",
    b"PROXY TCP4 192.0.2.7/32 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 ::1 ::1 1 2\r\n",
    b"PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    b"PROXY TCP6 [::1] ::1 1 2\r\n",
    b"PROXY TCP6 ::1::2 ::1 1 2\r\n",
    b"PROXY TCP6 12345:: ::1 1 2\r\n",
    b"PROXY TCP4 client.example 10.0.0.1 1 2\r\n",
    b"PROXY UNKNOWN " + b"x" * (108 - 16) + b"\r\n",
    b"PROXY TCP4 " + b"1" * 200,
    SIGNATURE[:-1] + b"\r" + v2(TCP4, V4)[12:],
    v2(TCP4, V4, command=0x11),  # version 1
    v2(TCP4, V4, command=0x31),
    v2(TCP4, V4, command=0x22),  # neither LOCAL nor PROXY
    v2(0x41, V4),  # no such family
    v2(0x13, V4),  # no such protocol
    v2(TCP4, V4[:-1]),
    v2(TCP4, b""),
    v2(TCP6, V4),
    v2(UNIX, PATHS[:-1]),
    v2(TCP4, V4 + b"\x04"),
    v2(TCP4, V4 + b"\x04\x00"),
    v2(TCP4, V4 + b"\x04\x00\x01"),
    v2(TCP4, V4 + ssl_tlv(1) + b"\x00"),
    v2(TCP4, V4 + tlv(0x20, b"\x01\x00\x00\x00")),
    v2(TCP4, V4 + tlv(0x20, b"")),
]


@pytest.mark.parametrize("cut", [None, 1, 7])
@pytest.mark.parametrize("rest", [b"", b"GET / HTTP/1.1\r\n"])
@pytest.mark.parametrize(("data", "header"), GOOD)
def test_a_header_is_read_and_what_follows_is_kept(
    data: bytes, header: tuple[object, bool | None], rest: bytes, cut: int | None
) -> None:
    assert read(data + rest, cut=cut) == (header, rest)


@pytest.mark.parametrize("data", [data for data, _ in GOOD])
def test_a_header_is_not_read_before_it_is_complete(data: bytes) -> None:
    reader = ProxyHeaderReader(BYTES_MAX)
    for end in range(len(data) - 1):
        assert reader.receive_data(data[end : end + 1]) is None
    assert reader.receive_data(b"") is None
    assert reader.receive_data(data[-1:]) is not None


@pytest.mark.parametrize("cut", [None, 1, 7])
@pytest.mark.parametrize("data", BAD)
def test_what_is_no_header_is_refused(data: bytes, cut: int | None) -> None:
    with pytest.raises(RemoteProtocolError, match="PROXY header") as raised:
        read(data, cut=cut)
    assert raised.value.status == 400


@pytest.mark.parametrize(("data", "count"), [(b"GET /", 1), (b"POST /", 2), (b"\r\nGET", 3)])
def test_what_begins_otherwise_is_refused_at_its_first_wrong_byte(data: bytes, count: int) -> None:
    assert read(data[: count - 1]) == (None, b"")
    with pytest.raises(RemoteProtocolError, match="does not begin"):
        read(data[:count])


@pytest.mark.parametrize("end", [b"x", b"\r"])
def test_a_line_ends_within_107_bytes(end: bytes) -> None:
    line = b"PROXY UNKNOWN ".ljust(106, b"x")
    assert read(line) == (None, b"")
    with pytest.raises(RemoteProtocolError, match="107 bytes"):
        read(line + end)


@pytest.mark.parametrize("cut", [None, 1])
def test_a_length_beyond_the_bound_is_refused_before_its_bytes_come(cut: int | None) -> None:
    data = v2(TCP4, V4 + tlv(0x04, bytes(85)))
    assert len(data) == 116
    assert read(data, cut=cut, bytes_max=116)[0] == (("192.0.2.7", 56324), None)
    with pytest.raises(RemoteProtocolError, match="more than 115 bytes") as raised:
        read(data[:16], cut=cut, bytes_max=115)
    assert raised.value.status == 431


def test_a_second_header_is_what_follows_the_first() -> None:
    first, second = v2(TCP4, V4), b"PROXY TCP4 198.51.100.1 10.0.0.1 1 2\r\n"
    assert read(first + second) == ((("192.0.2.7", 56324), None), second)


ANY_HEADER = st.one_of(
    st.sampled_from([data for data, _ in GOOD] + BAD),
    st.builds(
        v2,
        st.one_of(st.sampled_from([TCP4, TCP6, UNIX]), st.integers(0, 255)),
        st.one_of(
            st.binary(max_size=300),
            st.binary(max_size=40).map(lambda tail: V4 + tail),
            st.binary(max_size=40).map(lambda tail: V6 + tail),
        ),
        command=st.one_of(st.just(PROXY), st.integers(0, 255)),
    ),
    st.binary(max_size=150),
    st.binary(max_size=150).map(lambda tail: b"PROXY " + tail),
    st.binary(max_size=150).map(lambda tail: SIGNATURE + tail),
    st.from_regex(rb"PROXY (TCP4|TCP6|UNKNOWN) [0-9a-f.: ]{0,60}\r\n", fullmatch=True),
)


@given(ANY_HEADER, st.binary(max_size=8), st.integers(1, 20))
@example(b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n" + b" " * 90, b"\r\n", 1)
def test_any_bytes_give_the_same_however_they_are_cut(data: bytes, rest: bytes, cut: int) -> None:
    assert outcome(data + rest, cut) == outcome(data + rest, None)


@given(st.ip_addresses(), st.ip_addresses(), st.integers(0, 65535), st.booleans())
def test_both_versions_say_the_same_of_any_address(
    source: object, other: object, port: int, secure: bool
) -> None:
    source, other = ip_address(str(source)), ip_address(str(other))
    if source.version != other.version:
        other = source
    line = f"PROXY TCP{source.version} {source} {other} {port} 443\r\n".encode()
    block = source.packed + other.packed + struct.pack("!HH", port, 443)
    family = TCP4 if source.version == 4 else TCP6
    header, _ = read(line)
    assert header is not None
    assert read(v2(family, block)) == (header, b"")
    assert read(v2(family, block + ssl_tlv(int(secure)))) == ((header.address, secure), b"")
    assert isinstance(header.address, tuple)
    assert header.address[1] == port
    assert ip_address(header.address[0]) in (source, getattr(source, "ipv4_mapped", None))
