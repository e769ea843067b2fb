"""What is special to wsproto as the engine; the rest is in test_wire_framing.py."""

from __future__ import annotations

import tracemalloc

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate

from frames import BINARY, PING, RSV1, TEXT, close_frame, deflated, fragments, frame
from framings import NO_TAKEOVER, TAKEOVER, framing, receive, verdict
from wireroom.core.wire.framing import CloseReceived, PingReceived


def unwrapped(data: bytes, *, deflate: bool = False) -> list[Event]:
    """What wsproto alone makes of a client's stream."""
    extension = PerMessageDeflate()
    if deflate:
        extension.finalize("permessage-deflate")
    connection = Connection(ConnectionType.SERVER, [extension] if deflate else [])
    connection.receive_data(data)
    return list(connection.events())


# Each of these is why something stands between wsproto and the hub; when one of them fails,
# wsproto has changed and the wrapper may become shorter.


def test_wsproto_alone_inflates_without_bound() -> None:
    data = frame(BINARY, deflated(bytes(5_000_000)), rsv=RSV1)
    (event,) = unwrapped(data, deflate=True)
    assert isinstance(event, BytesMessage)
    assert len(event.data) == 5_000_000
    codec = framing("wsproto", deflate=NO_TAKEOVER)
    assert verdict(receive(codec, [data])) == 1009


def test_wsproto_alone_forgets_compression_after_a_control_frame() -> None:
    first, last = fragments(TEXT, deflated(b"hello hello")[:3], deflated(b"hello hello")[3:])
    data = bytes([first[0] | RSV1]) + first[1:] + frame(PING) + last
    events = unwrapped(data, deflate=True)
    assert "".join(each.data for each in events if isinstance(each, TextMessage)) != "hello hello"
    codec = framing("wsproto", deflate=NO_TAKEOVER)
    assert receive(codec, [data]) == [PingReceived(b""), "hello hello"]


def test_wsproto_alone_does_not_know_close_code_1014() -> None:
    (event,) = unwrapped(close_frame(1014))
    assert isinstance(event, CloseConnection)
    assert event.code == 1002
    assert receive(framing("wsproto"), [close_frame(1014)]) == [CloseReceived(1014, "")]


def test_wsproto_alone_sees_a_surrogate_a_byte_late() -> None:
    data = frame(TEXT, b"\xed\xa0", fin=False) + frame(PING)
    assert [type(event) for event in unwrapped(data)] == [TextMessage, Ping]
    assert verdict(receive(framing("wsproto"), [data])) == 1007


@pytest.mark.parametrize(
    "pieces", [[b"\xed\xa0"], [b"\xed", b"\xa0"], [b"a\xed", b"", b"\xbf\x80"]]
)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_surrogate_is_seen_across_fragments(pieces: list[bytes], compressed: bool) -> None:
    if compressed:
        payload = deflated(b"".join(pieces))
        pieces = [payload[at : at + 1] for at in range(len(payload))]
    first, *rest = fragments(TEXT, *pieces, b"never read", rsv=RSV1 if compressed else 0)
    data = b"".join([first, frame(PING), *rest[:-1]])
    assert verdict(receive(framing("wsproto", deflate=TAKEOVER), [data])) == 1007


def test_binary_messages_may_hold_surrogates() -> None:
    data = b"".join(fragments(BINARY, b"\xed", b"\xa0")) + frame(TEXT, b"\x7f") * 2
    assert receive(framing("wsproto"), [data]) == [b"\xed\xa0", "\x7f", "\x7f"]


def test_a_read_of_any_size_is_given_to_wsproto_in_slices() -> None:
    """wsproto copies what it is given: so only a slice of it is held twice."""
    data = frame(BINARY, bytes(1000)) * 4000
    codec = framing("wsproto")
    tracemalloc.start()
    try:
        assert len(codec.receive(data)) == 4000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * len(data)


def test_the_reason_of_a_violation_is_said() -> None:
    for data, words in [
        (frame(3), "opcode"),
        (frame(TEXT, rsv=RSV1), "reserved bit"),
        (frame(TEXT, b"\xff"), "decode"),
        (frame(BINARY, length=2**30), "too big"),
        (close_frame(999), "999"),
    ]:
        (event,) = receive(framing("wsproto"), [data])
        assert words in str(event)
