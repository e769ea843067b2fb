"""Our own codec: its functions, its short path, and what it costs in time and memory.

What it has in common with the other engine is in test_wire_framing.py.
"""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frames import BINARY, PING, RSV1, TEXT, close_frame, final_block, fragments, frame
from framings import NO_TAKEOVER, byte_by_byte, framing, keys, receive, verdict
from wireroom.core.errors import RemoteProtocolError
from wireroom.core.wire.frames import close_payload, encode_frame, ends_in_surrogate, parse_close
from wireroom.core.wire.framing import CloseReceived, PingReceived


@given(
    first=st.integers(0, 255),
    payload=st.sampled_from([0, 1, 125, 126, 65535, 65536]).map(bytes),
    masked=st.booleans(),
)
def test_frames_are_encoded_by_section_5_2(first: int, payload: bytes, masked: bool) -> None:
    key = keys(4) if masked else None
    expected = frame(first & 0x0F, payload, fin=first >= 0x80, rsv=first & 0x70, key=key)
    assert encode_frame(first, payload, key) == expected


@given(st.integers(1000, 4999), st.text(max_size=130))
def test_a_close_payload_fits_a_control_frame_and_is_utf_8(code: int, reason: str) -> None:
    payload = close_payload(code, reason)
    assert len(payload) <= 125
    assert int.from_bytes(payload[:2], "big") == code
    assert reason.startswith(payload[2:].decode())
    if len(reason.encode()) <= 123:
        assert payload[2:].decode() == reason
    else:
        assert len(payload) > 125 - 4


def test_a_close_without_a_code_has_no_payload() -> None:
    assert close_payload(None, "never said") == b""
    assert parse_close(b"") == CloseReceived(1005, "")


@pytest.mark.parametrize(
    ("payload", "code"), [(b"\x03", 1002), (b"\x03\xed", 1002), (b"\x03\xe8\xff", 1007)]
)
def test_a_malformed_close_payload_is_refused(payload: bytes, code: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_close(payload)
    assert caught.value.close_code == code


def test_the_beginning_of_a_surrogate_is_known() -> None:
    """Against the decoder, which knows it with the third byte."""
    for lead in range(0xC2, 0xF5):
        for second in range(0x80, 0xC0):
            tail = bytes([lead, second])
            surrogate = lead == 0xED and second >= 0xA0
            assert ends_in_surrogate(tail) == surrogate
            if surrogate:
                assert not (tail + b"\x80").decode(errors="ignore")
        assert not ends_in_surrogate(bytes([lead]))


@pytest.mark.parametrize("bound", [0, 1, 124, 125])
def test_the_short_path_keeps_the_bound(bound: int) -> None:
    for size in (bound, bound + 1):
        events = receive(framing(message_bytes_max=bound), [frame(TEXT, b"x" * size)])
        assert (events == ["x" * size]) == (size == bound)
        assert verdict(events) == (None if size == bound else 1009)


def test_the_short_path_does_not_overtake_a_message_in_progress() -> None:
    codec = framing()
    first, last = fragments(TEXT, b"a", b"b")
    assert receive(codec, [first + last + frame(TEXT, b"c")]) == ["ab", "c"]
    assert verdict(receive(codec, [first + frame(BINARY, b"c")])) == 1002


def test_the_short_path_does_not_take_payload_for_frames() -> None:
    inner = frame(TEXT, b"inner")
    outer = frame(BINARY, inner * 40, key=b"\0\0\0\0")
    for cut in range(1, len(outer)):
        assert receive(framing(), [outer[:cut], outer[cut:]]) == [inner * 40]


def test_reads_that_end_anywhere_give_the_same() -> None:
    data = frame(TEXT, b"one") + frame(PING, b"two") + frame(BINARY, bytes(126)) + frame(TEXT)
    for cut in range(len(data) + 1):
        events = receive(framing(), [data[:cut], data[cut:]])
        assert events == ["one", PingReceived(b"two"), bytes(126), ""]


def _receive_in_small_reads(megabytes: int) -> float:
    """Seconds of processor time for a message of that size in reads of 64 bytes."""
    size = megabytes * 2**20
    data = frame(TEXT, b"x" * size, key=b"\0\0\0\0")
    reads = [data[at : at + 64] for at in range(0, len(data), 64)]
    codec = framing(message_bytes_max=size)
    start = time.process_time()
    events: list[object] = []
    for read in reads:
        events += codec.receive(read)
    spent = time.process_time() - start
    assert events == ["x" * size]
    return spent


def test_small_reads_cost_in_proportion_to_their_number() -> None:
    """Four times the bytes take about four times as long; copying each time, sixteen times."""
    small = min(_receive_in_small_reads(1) for _ in range(3))
    assert min(_receive_in_small_reads(4) for _ in range(3)) < 9 * small


def test_a_message_in_progress_is_held_about_once() -> None:
    size = 2**20
    data = frame(BINARY, bytes(size))
    reads = [data[at : at + 1000] for at in range(0, len(data), 1000)]
    codec = framing()
    tracemalloc.start()
    try:
        receive(codec, reads[:-1])
        held, peak = tracemalloc.get_traced_memory()
        receive(codec, reads[-1:])
    finally:
        tracemalloc.stop()
    assert held < 1.3 * size
    assert peak < 2.5 * size


WIDE_TEXTS = {
    "ASCII": "a" * 2**19,
    "two bytes": "é" * 2**18,
    "three bytes": "界" * 2**17,
    "four bytes": "😀" * 2**17,
    "mixed": ("plain " * 1000 + "é" + "plain " * 1000 + "界" + "plain " * 1000 + "😀") * 12,
    "rarely wide": ("a" * 999 + "😀") * 400,
}


@pytest.mark.parametrize("read", [997, 4096, 5000, 65536, 262147])
@pytest.mark.parametrize("text", WIDE_TEXTS.values(), ids=WIDE_TEXTS)
def test_a_text_in_long_reads_is_the_text(text: str, read: int) -> None:
    """Pieces kept decoded, pieces kept as bytes, and characters cut between them."""
    payload = text.encode()

    def reads(payload: bytes) -> list[bytes]:
        data = frame(TEXT, payload, key=b"\x01\x02\x04\x80")
        return [data[at : at + read] for at in range(0, len(data), read)]

    assert receive(framing(), reads(payload) * 2) == [text, text]
    parts = [payload[at : at + read] for at in range(0, len(payload), read)]
    assert receive(framing(), [b"".join(fragments(TEXT, *parts))]) == [text]
    assert verdict(receive(framing(), reads(payload[:-1] + b"\xff"))) == 1007


def test_long_and_short_pieces_keep_their_order() -> None:
    parts = [bytes([index]) * size for index, size in enumerate((1, 5000, 1, 1, 9000, 4095, 2, 7))]
    data = b"".join(fragments(BINARY, *parts))
    assert receive(framing(), [data]) == [b"".join(parts)]
    assert receive(framing(), byte_by_byte(data)) == [b"".join(parts)]
    data = b"".join(fragments(TEXT, *parts))
    assert receive(framing(), [data]) == [b"".join(parts).decode()]


@pytest.mark.parametrize("text", WIDE_TEXTS.values(), ids=WIDE_TEXTS)
@pytest.mark.parametrize("read", [1000, 65536])
def test_a_text_in_progress_takes_no_more_memory_than_its_bytes(text: str, read: int) -> None:
    """Not even if one wide character makes a `str` four times as large."""
    data = frame(TEXT, text.encode())
    reads = [data[at : at + read] for at in range(0, len(data), read)]
    codec = framing()
    tracemalloc.start()
    try:
        receive(codec, reads[:-1])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1.3 * len(data)


def test_a_codec_that_has_ended_holds_nothing() -> None:
    codec = framing(message_bytes_max=2**21)
    tracemalloc.start()
    try:
        receive(codec, [frame(BINARY, bytes(2**20), fin=False)])
        receive(codec, [close_frame(1000)])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2**16


def test_many_small_deflate_streams_in_a_message_are_not_copied_each_time() -> None:
    """A megabyte of two-byte streams; zlib hands back all that follows each of them."""

    def spent(size: int) -> float:
        data = frame(BINARY, final_block(b"") * (size // 2), rsv=RSV1, key=b"\0\0\0\0")
        start = time.process_time()
        assert receive(framing(deflate=NO_TAKEOVER), [data]) == [b""]
        return time.process_time() - start

    small = min(spent(2**15) for _ in range(3))
    assert min(spent(2**18) for _ in range(3)) < 20 * small


def test_a_frame_received_byte_by_byte_is_unmasked_with_the_right_key_byte() -> None:
    payload = bytes(range(256)) * 4
    data = frame(BINARY, payload, key=b"\x01\x02\x04\x80")
    assert receive(framing(), byte_by_byte(data)) == [payload]
    for size in (1, 2, 3, 5, 6, 7, 1000):
        reads = [data[at : at + size] for at in range(0, len(data), size)]
        assert receive(framing(), reads) == [payload]
