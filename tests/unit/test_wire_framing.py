"""What both framing engines do with a stream (RFC 6455 sections 5, 7 and 8.1), in every cut."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    RSV2,
    RSV3,
    TEXT,
    Compressor,
    close_frame,
    deflated,
    final_block,
    fragments,
    frame,
)
from framings import (
    CUTS,
    ENGINES,
    NO_TAKEOVER,
    TAKEOVER,
    Cut,
    byte_by_byte,
    framing,
    keys,
    receive,
    verdict,
    whole,
)
from wireroom.core.errors import ConfigurationError
from wireroom.core.limits import Limits
from wireroom.core.wire.deflate import Deflate, DeflateParameters
from wireroom.core.wire.engines import new_framing
from wireroom.core.wire.framing import (
    CloseReceived,
    FrameEvent,
    FramingLimits,
    PingReceived,
    PongReceived,
    Violation,
)
from wireroom.core.wire.framing_engine import Framing

LENGTHS = (0, 1, 124, 125, 126, 127, 65535, 65536)
CODES_ON_THE_WIRE = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=CUTS, ids=lambda cut: cut.__name__)
def cut(request: pytest.FixtureRequest) -> Cut:
    chosen: Cut = request.param
    return chosen


# -- messages and control frames -----------------------------------------------------------------


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("client", [False, True])
def test_messages_of_every_length_form_arrive(engine: str, client: bool, length: int) -> None:
    key = None if client else b"\x00\xff\x80\x7f"
    payload = bytes(65 + index % 26 for index in range(length))
    data = frame(TEXT, payload, key=key) + frame(BINARY, payload, key=key)
    for reads in (whole(data), [data[:3], data[3:]], [data[:-1], data[-1:]]):
        assert receive(framing(engine, client=client), reads) == [payload.decode(), payload]


def test_fragments_make_one_message(engine: str, cut: Cut) -> None:
    data = b"".join(fragments(TEXT, b"gr", b"", "üß\U0001f600".encode(), b"!"))
    assert receive(framing(engine), cut(data)) == ["grüß\U0001f600!"]


def test_a_character_may_be_cut_by_fragments(engine: str, cut: Cut) -> None:
    data = b"".join(fragments(TEXT, *byte_by_byte("aß€\U0001f600".encode())))
    assert receive(framing(engine), cut(data)) == ["aß€\U0001f600"]


def test_control_frames_come_between_fragments(engine: str, cut: Cut) -> None:
    first, last = fragments(BINARY, b"ab", b"cd")
    data = first + frame(PING, b"p") + frame(PONG, b"q" * 125) + last + frame(PING)
    assert receive(framing(engine), cut(data)) == [
        PingReceived(b"p"),
        PongReceived(b"q" * 125),
        b"abcd",
        PingReceived(b""),
    ]


def test_empty_messages_are_messages(engine: str, cut: Cut) -> None:
    data = frame(TEXT) + frame(BINARY) + b"".join(fragments(TEXT, b"", b"", b""))
    assert receive(framing(engine), cut(data)) == ["", b"", ""]


def test_nothing_is_read_after_a_close(engine: str, cut: Cut) -> None:
    codec = framing(engine)
    data = frame(TEXT, b"a") + close_frame(1000, b"bye") + frame(TEXT, b"b")
    assert receive(codec, cut(data)) == ["a", CloseReceived(1000, "bye")]
    assert receive(codec, [frame(TEXT, b"c")]) == []
    codec.hold(b"more")
    assert not codec.more


def test_nothing_is_read_after_a_violation(engine: str, cut: Cut) -> None:
    codec = framing(engine)
    data = frame(TEXT, b"a") + frame(3) + frame(TEXT, b"b")
    events = receive(codec, cut(data))
    assert events[:-1] == ["a"]
    assert verdict(events) == 1002
    assert receive(codec, [frame(TEXT, b"c"), close_frame(1000)]) == []


# -- Close frames (section 5.5.1 and 7.4) --------------------------------------------------------


def test_every_close_code_is_judged_as_received(engine: str) -> None:
    accepted = set()
    for code in range(5001):
        events = receive(framing(engine), [close_frame(code, b"why")])
        if events == [CloseReceived(code, "why")]:
            accepted.add(code)
        else:
            assert verdict(events) == 1002, code
    assert accepted == CODES_ON_THE_WIRE


def test_a_close_without_a_code_is_1005(engine: str, cut: Cut) -> None:
    assert receive(framing(engine), cut(frame(CLOSE))) == [CloseReceived(1005, "")]


def test_a_close_code_is_a_plain_number(engine: str) -> None:
    (event,) = receive(framing(engine), [close_frame(1001)])
    assert isinstance(event, CloseReceived)
    assert f"{event.code!s}" == "1001"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\x03", 1002),
        (b"\xff\xff", 1002),
        (b"\x03\xe8\xff", 1007),
        (b"\x03\xe8" + "ü".encode()[:1], 1007),
        (b"\x03\xe8" + b"a" * 122 + b"\x80", 1007),
        (b"\x03\xec\xff", 1002),
    ],
)
def test_a_malformed_close_fails(engine: str, cut: Cut, payload: bytes, code: int) -> None:
    assert verdict(receive(framing(engine), cut(frame(CLOSE, payload)))) == code


def test_a_close_reason_may_fill_the_frame(engine: str, cut: Cut) -> None:
    reason = "ü" * 61 + "!"
    events = receive(framing(engine), cut(close_frame(4999, reason.encode())))
    assert events == [CloseReceived(4999, reason)]


def test_a_close_may_come_within_a_fragmented_message(engine: str, cut: Cut) -> None:
    data = fragments(TEXT, b"a", b"b")[0] + close_frame(1001)
    assert receive(framing(engine), cut(data)) == [CloseReceived(1001, "")]


# -- violations of section 5 ---------------------------------------------------------------------


@pytest.mark.parametrize("rsv", [RSV1, RSV2, RSV3, RSV2 | RSV3, RSV1 | RSV2 | RSV3])
@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
def test_reserved_bits_fail(engine: str, cut: Cut, opcode: int, rsv: int) -> None:
    assert verdict(receive(framing(engine), cut(frame(opcode, rsv=rsv)))) == 1002


@pytest.mark.parametrize("rsv", [RSV1, RSV2, RSV3])
@pytest.mark.parametrize("deflate", [None, NO_TAKEOVER])
def test_reserved_bits_fail_on_continuations(
    engine: str, cut: Cut, rsv: int, deflate: DeflateParameters | None
) -> None:
    data = frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b", rsv=rsv)
    assert verdict(receive(framing(engine, deflate=deflate), cut(data))) == 1002


@pytest.mark.parametrize(
    ("opcode", "rsv"),
    [(PING, RSV1), (PONG, RSV1), (CLOSE, RSV1), (TEXT, RSV2), (BINARY, RSV1 | RSV3), (TEXT, RSV3)],
)
def test_deflate_gives_a_meaning_to_rsv1_of_data_only(
    engine: str, cut: Cut, opcode: int, rsv: int
) -> None:
    codec = framing(engine, deflate=NO_TAKEOVER)
    assert verdict(receive(codec, cut(frame(opcode, deflated(b""), rsv=rsv)))) == 1002


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF])
def test_reserved_opcodes_fail(engine: str, cut: Cut, opcode: int) -> None:
    assert verdict(receive(framing(engine), cut(frame(opcode)))) == 1002


@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("size", [0, 125, 126])
def test_frames_masked_the_wrong_way_fail(
    engine: str, cut: Cut, client: bool, opcode: int, size: int
) -> None:
    data = frame(opcode, bytes(size), key=b"\0\0\0\0" if client else None)
    assert verdict(receive(framing(engine, client=client), cut(data))) == 1002


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_control_frames_are_whole_and_short(engine: str, cut: Cut, opcode: int) -> None:
    payload = b"\x03\xe8" + bytes(124)
    assert verdict(receive(framing(engine), cut(frame(opcode, fin=False)))) == 1002
    assert verdict(receive(framing(engine), cut(frame(opcode, payload)))) == 1002
    assert verdict(receive(framing(engine), cut(frame(opcode, b"", form=64)))) == 1002


@pytest.mark.parametrize(
    ("length", "form"), [(0, 16), (125, 16), (0, 64), (125, 64), (126, 64), (65535, 64)]
)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_lengths_must_be_in_their_shortest_form(
    engine: str, cut: Cut, opcode: int, length: int, form: int
) -> None:
    data = frame(opcode, length=length, form=form)
    assert verdict(receive(framing(engine), cut(data))) == 1002


@pytest.mark.parametrize(("length", "code"), [(2**63, 1002), (2**64 - 1, 1002), (2**63 - 1, 1009)])
def test_hostile_lengths_fail_before_any_payload(
    engine: str, cut: Cut, length: int, code: int
) -> None:
    assert verdict(receive(framing(engine), cut(frame(BINARY, length=length)))) == code


def test_a_continuation_needs_a_message(engine: str, cut: Cut) -> None:
    data = b"".join(fragments(TEXT, b"a", b"b")) + frame(CONTINUATION, b"c")
    events = receive(framing(engine), cut(data))
    assert events[0] == "ab"
    assert verdict(events) == 1002


@pytest.mark.parametrize("fin", [False, True])
@pytest.mark.parametrize("first", [b"", b"a"])
def test_a_message_may_not_begin_within_another(
    engine: str, cut: Cut, first: bytes, fin: bool
) -> None:
    data = frame(TEXT, first, fin=False) + frame(TEXT, b"b", fin=fin)
    assert verdict(receive(framing(engine), cut(data))) == 1002


# -- text (section 8.1) --------------------------------------------------------------------------

# A valid beginning, and the byte at which no continuation can make it UTF-8 any more (RFC 3629).
INVALID = [
    (b"", 0x80),
    (b"", 0xBF),
    (b"", 0xC0),
    (b"", 0xC1),
    (b"", 0xF5),
    (b"", 0xFE),
    (b"", 0xFF),
    (b"\xc3", 0x28),
    (b"\xc3", 0xC3),
    (b"\xe0", 0x9F),
    (b"\xe2\x82", 0x28),
    (b"\xed", 0xA0),
    (b"\xed", 0xBF),
    (b"\xf0", 0x8F),
    (b"\xf0\x9f\x98", 0x20),
    (b"\xf4", 0x90),
]


def _first_verdict(codec: Framing, reads: Iterable[bytes]) -> tuple[int, int | None]:
    """How many bytes were needed for a verdict, and which it was."""
    count = 0
    for data in reads:
        count += len(data)
        if events := receive(codec, [data]):
            return count, verdict(events)
    return count, None


@pytest.mark.parametrize(("start", "wrong"), INVALID)
def test_invalid_text_fails_at_its_first_byte(engine: str, start: bytes, wrong: int) -> None:
    good = "κόσμε ".encode() + start
    data = frame(TEXT, good + bytes([wrong]) + b"never read", fin=False)
    needed = len(data) - len(b"never read")
    assert _first_verdict(framing(engine), byte_by_byte(data)) == (needed, 1007)


@pytest.mark.parametrize(("start", "wrong"), INVALID)
def test_invalid_text_fails_at_its_first_byte_in_a_later_fragment(
    engine: str, start: bytes, wrong: int
) -> None:
    before = frame(TEXT, b"ok" + start, fin=False) + frame(CONTINUATION, fin=False) + frame(PING)
    after = frame(CONTINUATION, bytes([wrong]) + b"never read")
    assert receive(framing(engine), [before]) == [PingReceived(b"")]
    codec = framing(engine)
    receive(codec, byte_by_byte(before))
    assert _first_verdict(codec, byte_by_byte(after)) == (7, 1007)


@pytest.mark.parametrize(("start", "wrong"), INVALID)
def test_invalid_text_fails_in_a_whole_frame(engine: str, start: bytes, wrong: int) -> None:
    for size in (0, 200):
        data = frame(TEXT, b"a" * size + start + bytes([wrong]))
        assert verdict(receive(framing(engine), [data])) == 1007


@pytest.mark.parametrize("rest", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98"])
def test_text_may_not_end_within_a_character(engine: str, cut: Cut, rest: bytes) -> None:
    assert verdict(receive(framing(engine), cut(frame(TEXT, b"a" + rest)))) == 1007
    data = b"".join(fragments(TEXT, rest, b""))
    assert verdict(receive(framing(engine), cut(data))) == 1007
    data = frame(TEXT, deflated(b"a" + rest), rsv=RSV1)
    assert verdict(receive(framing(engine, deflate=NO_TAKEOVER), cut(data))) == 1007


def test_invalid_compressed_text_fails_before_the_message_is_complete(engine: str) -> None:
    data = frame(TEXT, deflated(b"a" * 100 + b"\xff" + b"b" * 100), rsv=RSV1, fin=False)
    assert verdict(receive(framing(engine, deflate=NO_TAKEOVER), [data])) == 1007


def test_each_text_is_checked_on_its_own(engine: str, cut: Cut) -> None:
    """What one message left behind must not spoil, or save, the next."""
    data = b"".join(fragments(TEXT, b"\xe2", b"\x82\xac")) + frame(TEXT, b"\x82\xac")
    events = receive(framing(engine), cut(data))
    assert events[0] == "€"
    assert verdict(events) == 1007


def test_binary_messages_hold_any_bytes(engine: str, cut: Cut) -> None:
    data = frame(BINARY, bytes(range(256))) + b"".join(fragments(BINARY, b"\xff", b"\xc0"))
    assert receive(framing(engine), cut(data)) == [bytes(range(256)), b"\xff\xc0"]


# -- bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [10, 125, 126, 300, 70_000])
def test_a_message_may_have_as_many_bytes_as_the_bound(engine: str, bound: int) -> None:
    payload = b"x" * bound
    for data in (frame(TEXT, payload), b"".join(fragments(TEXT, payload[:-1], b"x", b""))):
        assert receive(framing(engine, message_bytes_max=bound), [data]) == [payload.decode()]
        assert receive(framing(engine, message_bytes_max=bound), byte_by_byte(data[:9])) == []


@pytest.mark.parametrize("bound", [10, 125, 126, 300, 70_000])
def test_a_frame_beyond_the_bound_fails_by_its_header(engine: str, bound: int) -> None:
    data = frame(BINARY, length=bound + 1)
    assert _first_verdict(framing(engine, message_bytes_max=bound), [data]) == (len(data), 1009)
    data = frame(TEXT, b"x" * (bound + 1))
    assert verdict(receive(framing(engine, message_bytes_max=bound), [data])) == 1009


def test_fragments_beyond_the_bound_fail_by_the_header(engine: str, cut: Cut) -> None:
    data = frame(BINARY, b"12345", fin=False) + frame(CONTINUATION, b"6789", fin=False)
    codec = framing(engine, message_bytes_max=10)
    assert receive(codec, cut(data)) == []
    assert verdict(receive(codec, cut(frame(CONTINUATION, length=2)))) == 1009
    codec = framing(engine, message_bytes_max=10)
    assert receive(codec, cut(data + frame(CONTINUATION, b"0"))) == [b"1234567890"]


def test_the_bound_counts_each_message_anew(engine: str, cut: Cut) -> None:
    data = b"".join(fragments(TEXT, b"12345", b"67890")) * 3
    assert receive(framing(engine, message_bytes_max=10), cut(data)) == ["1234567890"] * 3


def test_a_frame_has_a_bound_of_its_own(engine: str, cut: Cut) -> None:
    data = b"".join(fragments(BINARY, b"12345", b"67890"))
    codec = framing(engine, message_bytes_max=10, frame_bytes_max=5)
    assert receive(codec, cut(data)) == [b"1234567890"]
    assert verdict(receive(codec, cut(frame(BINARY, b"123456")))) == 1009
    for reads in (whole(frame(TEXT, b"123456")), [frame(CONTINUATION, b"123456")]):
        codec = framing(engine, message_bytes_max=10, frame_bytes_max=5)
        receive(codec, [frame(TEXT, b"1", fin=False)] if reads[0][0] == 0x80 else [])
        assert verdict(receive(codec, reads)) == 1009


@pytest.mark.parametrize("payload", [b"", b"x"])
def test_a_message_may_have_as_many_fragments_as_the_bound(
    engine: str, cut: Cut, payload: bytes
) -> None:
    data = b"".join(fragments(BINARY, *[payload] * 4))
    assert receive(framing(engine, message_fragments_max=4), cut(data * 2)) == [payload * 4] * 2
    assert verdict(receive(framing(engine, message_fragments_max=3), cut(data))) == 1009


def test_control_frames_are_not_counted_as_fragments(engine: str, cut: Cut) -> None:
    first, last = fragments(BINARY, b"a", b"b")
    data = first + frame(PING) * 9 + last
    assert receive(framing(engine, message_fragments_max=2), cut(data))[-1] == b"ab"


def test_control_frames_have_no_part_in_the_message_bound(engine: str, cut: Cut) -> None:
    codec = framing(engine, message_bytes_max=1)
    assert receive(codec, cut(frame(PING, bytes(125)))) == [PingReceived(bytes(125))]


@pytest.mark.parametrize("deflate", [NO_TAKEOVER, TAKEOVER])
def test_the_bound_holds_after_inflation(engine: str, cut: Cut, deflate: DeflateParameters) -> None:
    at, above = (frame(BINARY, deflated(bytes(size)), rsv=RSV1) for size in (5000, 5001))
    codec = framing(engine, deflate=deflate, message_bytes_max=5000)
    assert receive(codec, cut(at)) == [bytes(5000)]
    codec = framing(engine, deflate=deflate, message_bytes_max=5000)
    assert verdict(receive(codec, cut(above))) == 1009
    pieces = fragments(BINARY, *byte_by_byte(deflated(bytes(5001))), rsv=RSV1)
    codec = framing(engine, deflate=deflate, message_bytes_max=5000)
    assert verdict(receive(codec, cut(b"".join(pieces)))) == 1009


def test_the_bound_holds_for_what_only_the_end_of_the_message_releases(engine: str) -> None:
    payload = deflated(b"hello hello hello")[:7]  # ends within a block; the end adds four bytes
    for bound, code in ((6, 1009), (7, None)):
        codec = framing(engine, deflate=NO_TAKEOVER, message_bytes_max=bound)
        events = receive(codec, [frame(BINARY, payload, rsv=RSV1)])
        assert verdict(events) == code
        assert all(len(each) == 7 for each in events if isinstance(each, bytes))


@pytest.mark.parametrize("memory_level", [1, 2, 5, 8])
@pytest.mark.parametrize("size", [1, 100, 70_000])
def test_what_does_not_compress_may_still_be_as_long_as_the_bound(
    engine: str, memory_level: int, size: int
) -> None:
    """zlib makes it longer than it was, by 5 bytes each 127 at the lowest memory level."""
    noise = bytes(index * index * 2654435761 >> 13 & 0xFF for index in range(size))
    payload = Compressor(memory_level=memory_level).message(noise)
    codec = framing(engine, deflate=NO_TAKEOVER, message_bytes_max=size)
    assert receive(codec, [frame(BINARY, payload, rsv=RSV1)]) == [noise]


def test_a_compressed_frame_far_beyond_the_bound_fails_by_its_header(engine: str) -> None:
    codec = framing(engine, deflate=NO_TAKEOVER, message_bytes_max=1000)
    assert verdict(receive(codec, [frame(TEXT, rsv=RSV1, length=1200)])) == 1009


@pytest.mark.parametrize("read", [1000, 1_000_000])
@pytest.mark.parametrize("deflate", [NO_TAKEOVER, TAKEOVER])
def test_a_bomb_is_not_spent_memory_on(engine: str, deflate: DeflateParameters, read: int) -> None:
    """48,612 bytes on the wire that are 50,000,000."""
    data = frame(BINARY, deflated(bytes(50_000_000)), rsv=RSV1)
    codec = framing(engine, deflate=deflate)
    tracemalloc.start()
    try:
        events = receive(codec, [data[at : at + read] for at in range(0, len(data), read)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert verdict(events) == 1009
    assert peak < 6 * 2**20


# -- permessage-deflate (RFC 7692 section 7.2) ---------------------------------------------------


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("takeover", [False, True])
def test_compressed_and_plain_messages_alternate(
    engine: str, cut: Cut, client: bool, takeover: bool
) -> None:
    key = None if client else b"\x01\x02\x03\x04"
    compressor = Compressor(takeover=takeover)
    texts = [f"message number {number}, much like the one before" for number in range(40)]
    data = b"".join(
        frame(TEXT, compressor.message(text.encode()), rsv=RSV1, key=key)
        + frame(TEXT, text.encode(), key=key)
        for text in texts
    )
    codec = framing(engine, client=client, deflate=TAKEOVER if takeover else NO_TAKEOVER)
    assert receive(codec, cut(data)) == [text for text in texts for _ in range(2)]


def test_context_is_kept_only_where_agreed(engine: str) -> None:
    compressor = Compressor(takeover=True)
    first, second = (compressor.message(b"the same text, the same text") for _ in range(2))
    data = frame(TEXT, first, rsv=RSV1) + frame(TEXT, second, rsv=RSV1)
    assert len(receive(framing(engine, deflate=TAKEOVER), [data])) == 2
    for deflate in (DeflateParameters(False, True, 15, 15), NO_TAKEOVER):
        assert verdict(receive(framing(engine, deflate=deflate), [data])) == 1007


def test_control_frames_come_between_compressed_fragments(engine: str, cut: Cut) -> None:
    payload = deflated("fragmented and compressed €".encode() * 3)
    first, *middle, last = fragments(TEXT, *byte_by_byte(payload), rsv=RSV1)
    data = first + frame(PING, b"1") + b"".join(middle) + frame(PONG, b"2") + last
    events = receive(framing(engine, deflate=NO_TAKEOVER), cut(data))
    assert events == [
        PingReceived(b"1"),
        PongReceived(b"2"),
        "fragmented and compressed €" * 3,
    ]


@pytest.mark.parametrize("deflate", [NO_TAKEOVER, TAKEOVER])
def test_empty_compressed_messages(engine: str, cut: Cut, deflate: DeflateParameters) -> None:
    data = frame(TEXT, b"\x00", rsv=RSV1) + frame(BINARY, b"\x02\x00", rsv=RSV1)
    data += b"".join(fragments(TEXT, b"", b"\x00", b"", rsv=RSV1))
    assert receive(framing(engine, deflate=deflate), cut(data * 3)) == ["", b"", ""] * 3


@pytest.mark.parametrize("deflate", [NO_TAKEOVER, TAKEOVER])
def test_streams_that_end_with_bfinal(engine: str, cut: Cut, deflate: DeflateParameters) -> None:
    """Section 7.2.3.4, its own example and several streams in a message."""
    hello = bytes.fromhex("f348cdc9c9070000")
    data = frame(TEXT, hello, rsv=RSV1)
    data += frame(TEXT, final_block(b"one ") + final_block(b"two ") + hello, rsv=RSV1)
    assert (
        receive(framing(engine, deflate=deflate), cut(data * 2)) == ["Hello", "one two Hello"] * 2
    )


def test_the_examples_of_rfc_7692(engine: str, cut: Cut) -> None:
    """Section 7.2.3.1 to 7.2.3.3: whole, in two fragments, with the window, without compression."""
    stream = "c107f248cdc9c90700" + "4103f248cd8004c9c90700" + "c105f200110000"
    stream += "c10b000500faff48656c6c6f00"
    codec = framing(engine, client=True, deflate=TAKEOVER)
    assert receive(codec, cut(bytes.fromhex(stream))) == ["Hello"] * 4


@pytest.mark.parametrize("payload", [b"\xff\xff\xff\xff", b"\x07", b"\x00\x05\x00\x00\x00hello"])
def test_what_is_not_deflate_fails(engine: str, cut: Cut, payload: bytes) -> None:
    data = frame(BINARY, payload, rsv=RSV1)
    assert verdict(receive(framing(engine, deflate=NO_TAKEOVER), cut(data))) == 1007


# -- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_batches_are_bounded_in_messages_and_lose_nothing(
    engine: str, cut: Cut, batch: int
) -> None:
    codec = framing(engine, batch_messages=batch)
    expected = [f"message {number}" for number in range(20)]
    stream = b"".join(frame(TEXT, each.encode()) for each in expected)
    events: list[FrameEvent] = []
    for data in cut(stream):
        while True:
            got = codec.receive(data)
            assert len(got) <= batch
            events += got
            data = b""
            if not codec.more:
                break
    assert events == expected


def test_batches_are_bounded_in_bytes_after_inflation(engine: str) -> None:
    codec = framing(engine, deflate=NO_TAKEOVER, batch_bytes=100_000)
    data = frame(BINARY, deflated(bytes(60_000)), rsv=RSV1) * 50
    sizes = []
    got = codec.receive(data)
    while got:
        sizes.append(sum(len(each) for each in got if isinstance(each, bytes)))
        got = codec.receive(b"")
    assert sum(sizes) == 50 * 60_000
    assert max(sizes) <= 100_000 + 60_000
    assert not codec.more


def test_batches_of_short_messages_are_bounded_in_bytes(engine: str) -> None:
    codec = framing(engine, batch_bytes=1000)
    counts = [len(codec.receive(frame(TEXT, b"x" * 100) * 40))]
    while codec.more:
        counts.append(len(codec.receive(b"")))
    assert max(counts) == 11  # the one that passes the bound is the last
    assert sum(counts) == 40


def test_a_batch_ends_in_front_of_a_violation_or_a_close(engine: str) -> None:
    for last in (frame(3), close_frame(1000)):
        codec = framing(engine, batch_messages=2)
        assert codec.receive(frame(TEXT, b"a") + frame(TEXT, b"b") + last) == ["a", "b"]
        assert codec.more
        (event,) = codec.receive(b"")
        assert isinstance(event, Violation | CloseReceived)
        assert not codec.more


def test_held_bytes_keep_their_place(engine: str, cut: Cut) -> None:
    codec = framing(engine, batch_messages=1)
    events = codec.receive(frame(TEXT, b"0") + frame(TEXT, b"1") + frame(TEXT, b"2")[:5])
    for data in cut(frame(TEXT, b"2")[5:] + frame(PING, b"3") + frame(TEXT, b"4")):
        codec.hold(data)
        assert codec.more
    events += receive(codec, [b"", frame(TEXT, b"5")])
    assert events == ["0", "1", "2", PingReceived(b"3"), "4", "5"]


def test_held_bytes_may_be_a_part_of_a_payload(engine: str) -> None:
    codec = framing(engine)
    data = frame(TEXT, b"abcdefgh")
    assert codec.receive(data[:9]) == []
    codec.hold(data[9:10])
    codec.hold(data[10:])
    assert codec.receive(b"") == ["abcdefgh"]
    assert not codec.more


# -- sending -------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", LENGTHS)
def test_a_server_sends_plain_frames(engine: str, length: int) -> None:
    text = "t" * length
    codec = framing(engine)
    assert codec.encode_message(text) == frame(TEXT, text.encode(), key=None)
    assert codec.encode_message(text.encode()) == frame(BINARY, text.encode(), key=None)


@pytest.mark.parametrize("length", LENGTHS)
def test_a_client_sends_masked_frames(engine: str, length: int) -> None:
    text = "t" * length
    codec = framing(engine, client=True)
    assert codec.encode_message(text) == frame(TEXT, text.encode(), key=keys(4))
    assert codec.encode_message(text.encode()) == frame(BINARY, text.encode(), key=keys(4))


@pytest.mark.parametrize("client", [False, True])
def test_control_frames_are_sent(engine: str, client: bool) -> None:
    key = keys(4) if client else None
    codec = framing(engine, client=client, deflate=NO_TAKEOVER, settings=Deflate(threshold_bytes=0))
    assert codec.encode_ping(bytes(125)) == frame(PING, bytes(125), key=key)
    assert codec.encode_pong(b"abc") == frame(PONG, b"abc", key=key)
    assert codec.encode_close(1000, "bye") == close_frame(1000, b"bye", key=key)
    assert codec.encode_close(None, "never said") == frame(CLOSE, key=key)


def test_a_long_close_reason_is_cut_at_a_character(engine: str) -> None:
    encoded = framing(engine).encode_close(1011, "a" + "ü" * 100)
    assert encoded == close_frame(1011, ("a" + "ü" * 61).encode(), key=None)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_any_kind_of_bytes_can_be_sent(engine: str, kind: Callable[[bytes], Any]) -> None:
    for client in (False, True):
        codec = framing(engine, client=client)
        expected = frame(BINARY, b"abc", key=keys(4) if client else None)
        assert codec.encode_message(kind(b"abc")) == expected


def test_a_client_takes_a_new_masking_key_for_each_frame(engine: str) -> None:
    asked: list[int] = []

    def random_bytes(count: int) -> bytes:
        asked.append(count)
        return bytes([len(asked)]) * count

    codec = new_framing(
        engine,
        client=True,
        limits=FramingLimits.of(Limits()),
        deflate=None,
        settings=None,
        random_bytes=random_bytes,
    )
    frames = [codec.encode_message("a"), codec.encode_message(b"b"), codec.encode_ping(b"")]
    frames += [codec.encode_pong(b""), codec.encode_close(1000, "")]
    assert [each[2:6] for each in frames] == [bytes([number]) * 4 for number in range(1, 6)]
    assert asked == [4] * 5


def test_a_client_without_randomness_says_what_it_needs(engine: str) -> None:
    limits = FramingLimits.of(Limits())
    codec = new_framing(engine, client=True, limits=limits, deflate=None, settings=None)
    with pytest.raises(ConfigurationError, match="random_bytes"):
        codec.encode_message("a")


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("takeover", [False, True])
def test_what_is_sent_compressed_is_received(engine: str, client: bool, takeover: bool) -> None:
    settings = Deflate(threshold_bytes=10)
    agreed = TAKEOVER if takeover else NO_TAKEOVER
    sender = framing(engine, client=client, deflate=agreed, settings=settings)
    messages: list[str | bytes] = ["short", "x" * 10, "long enough " * 9, bytes(5000), "", b""] * 3
    frames = [sender.encode_message(each) for each in messages]
    assert [bool(each[0] & RSV1) for each in frames] == [len(each) >= 10 for each in messages]
    for other in ENGINES:
        receiver = framing(other, client=not client, deflate=agreed)
        assert receive(receiver, [b"".join(frames)]) == messages


def test_an_empty_message_can_be_sent_compressed(engine: str) -> None:
    for agreed in (NO_TAKEOVER, TAKEOVER):
        codec = framing(engine, deflate=agreed, settings=Deflate(threshold_bytes=0))
        frames = b"".join(codec.encode_message(each) for each in ("", b"", "", "a", ""))
        receiver = framing(engine, client=True, deflate=agreed)
        assert receive(receiver, [frames]) == ["", b"", "", "a", ""]


def test_frames_are_shared_exactly_where_they_are_equal(engine: str) -> None:
    plain = framing(engine).sharing_key
    fresh = framing(engine, deflate=NO_TAKEOVER).sharing_key
    narrow = framing(engine, deflate=DeflateParameters(True, True, 10, 15)).sharing_key
    assert plain is not None
    assert plain is framing(engine).sharing_key
    assert fresh is not None
    assert fresh is framing(engine, deflate=DeflateParameters(True, False, 15, 9)).sharing_key
    assert len({plain, fresh, narrow}) == 3
    assert framing(engine, deflate=TAKEOVER).sharing_key is None
    assert framing(engine, client=True).sharing_key is None
    assert framing(engine, client=True, deflate=NO_TAKEOVER).sharing_key is None


# -- limits of a hub -----------------------------------------------------------------------------


def test_an_engine_keeps_the_limits_of_the_hub(engine: str) -> None:
    limits = Limits(message_bytes_max=100, message_fragments_max=2, inbox_messages_max=3)
    codec = new_framing(
        engine, client=False, limits=FramingLimits.of(limits), deflate=None, settings=None
    )
    assert len(codec.receive(frame(PING) * 5)) == 3
    assert verdict(receive(codec, [frame(BINARY, length=101)])) == 1009
    assert FramingLimits.of(limits) == FramingLimits(100, 100, 2, 3, limits.inbox_bytes_max)
