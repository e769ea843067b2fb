"""Masking (RFC 6455 section 5.3), against the definition octet by octet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frames import masked
from wireroom.core.wire.masking import (
    apply_mask,
    mask_chunk,
    mask_part,
    mask_view,
    mask_words,
    rotate_key,
)

key = st.binary(min_size=4, max_size=4)


@given(key, st.binary(max_size=2000))
def test_each_octet_is_xored_with_its_octet_of_the_key(key: bytes, data: bytes) -> None:
    assert apply_mask(key, data) == masked(data, key)


AROUND_768 = [766, 767, 768, 769, 770, 771]
AROUND_8192 = range(8190, 8202)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, *AROUND_768, *AROUND_8192, 100_003])
def test_every_length_around_the_changes_of_method(length: int) -> None:
    masking_key = b"\x00\x0f\xf0\xff"
    data = bytes(index * 7 & 0xFF for index in range(length + 13))
    assert apply_mask(masking_key, data[:length]) == masked(data[:length], masking_key)
    for start in (0, 6, 13):
        stop = start + length
        expected = masked(data[start:stop], masking_key)
        part = mask_part(masking_key, data, start, stop)
        assert type(part) is bytes
        assert part == expected
        assert mask_chunk(masking_key, data, start, stop) == expected


@given(st.binary(min_size=4, max_size=40), st.data())
def test_a_part_is_masked_by_words_with_a_part_of_the_keys(
    stream: bytes, draw: st.DataObject
) -> None:
    key_at = draw.draw(st.integers(0, len(stream) - 4))
    start = draw.draw(st.integers(0, len(stream)))
    stop = draw.draw(st.integers(start, len(stream)))
    expected = masked(stream[start:stop], stream[key_at : key_at + 4])
    assert mask_words(stream, key_at, stream, start, stop) == expected


@given(key, st.binary(min_size=8, max_size=80), st.data())
def test_a_view_of_a_part_is_masked_whatever_its_length(
    masking_key: bytes, data: bytes, draw: st.DataObject
) -> None:
    start = draw.draw(st.integers(0, len(data) - 8))
    stop = draw.draw(st.integers(start + 8, len(data)))
    view = mask_view(masking_key, data, start, stop)
    assert (view.format, view.itemsize, view.nbytes) == ("B", 1, stop - start)
    assert view == masked(data[start:stop], masking_key)


@given(key, st.binary(max_size=1000))
def test_masking_twice_gives_the_payload(key: bytes, data: bytes) -> None:
    assert apply_mask(key, apply_mask(key, data)) == data


@given(key, st.binary(max_size=40), st.integers(0, 40))
def test_a_payload_may_be_unmasked_in_two_parts(key: bytes, data: bytes, cut: int) -> None:
    first, rest = data[:cut], data[cut:]
    assert apply_mask(key, first) + apply_mask(rotate_key(key, len(first)), rest) == masked(
        data, key
    )
