"""Masking of payloads (RFC 6455 section 5.3). Pure; imports nothing of ours.

The transformation is its own inverse. Compiled, it goes over words of eight bytes: one by one into
a buffer that grows, or, for long payloads, in place over a copy of them, which takes one allocation
and which the C compiler turns into vector instructions. In plain Python short payloads are XORed as
one big integer, which is the fastest that there is; long ones go through `bytes.translate`, a table
a key byte, which passes over the data in C without the quadratic-free but slow conversion to an
integer.
"""

from __future__ import annotations

from types import FunctionType
from typing import Final

from librt.strings import BytesWriter, read_i32_le, read_i64_le, write_i64_le
from librt.vecs import append, vec
from mypy_extensions import i64

_VIEW_FROM: Final = 2**13  # bytes; where `mask_view` overtakes `mask_words`, measured on 3.11
_TRANSLATE_FROM: Final = 768  # bytes; where translate overtakes the integers, measured on 3.11

from_bytes: Final = int.from_bytes  # big-endian; looking it up costs as much as a short XOR

# The key of four bytes, as an integer, times KEY_REPEATS[n] and shifted right by KEY_SHIFTS[n],
# is the mask of n bytes.
KEY_REPEATS: Final = tuple(from_bytes(b"\0\0\0\1" * ((n + 3) // 4)) for n in range(126))
KEY_SHIFTS: Final = tuple(-n % 4 * 8 for n in range(126))

_XOR_TABLES: Final = tuple(bytes(value ^ key for value in range(256)) for key in range(256))


def apply_mask(masking_key: bytes, data: bytes) -> bytes:
    """Return `data` masked (or unmasked) with the four bytes of `masking_key`."""
    length = len(data)
    if COMPILED:
        return mask_part(masking_key, data, 0, length)
    if length < _TRANSLATE_FROM:
        mask = (masking_key * ((length >> 2) + 1))[:length]
        return (from_bytes(data) ^ from_bytes(mask)).to_bytes(length)
    masked = bytearray(data)
    for offset in range(4):
        masked[offset::4] = data[offset::4].translate(_XOR_TABLES[masking_key[offset]])
    return bytes(masked)


def mask_part(masking_key: bytes, data: bytes, start: int, stop: int) -> bytes:
    """Return `data[start:stop]` masked (or unmasked) with the four bytes of `masking_key`."""
    if not COMPILED:
        return apply_mask(masking_key, data[start:stop])
    if stop - start < _VIEW_FROM:
        return mask_words(masking_key, 0, data, start, stop)
    return bytes(mask_view(masking_key, data, start, stop))


def mask_chunk(masking_key: bytes, data: bytes, start: int, stop: int) -> bytes | memoryview:
    """What `mask_part` returns, or a view of the same, which is then nobody else's."""
    if COMPILED and stop - start >= _VIEW_FROM:
        return mask_view(masking_key, data, start, stop)
    return mask_part(masking_key, data, start, stop)


def mask_view(masking_key: bytes, data: bytes, start: int, stop: int) -> memoryview:
    """A view of `data[start:stop]`, at least eight bytes, masked. Slow unless compiled."""
    length = stop - start
    rest = length & 7
    whole = stop - rest
    words = vec[i64](memoryview(data)[start:whole].cast("q"), capacity=(length + 7) >> 3)
    if rest:
        words = append(words, _word(data[whole:stop] + bytes(8 - rest)))
    word = _word(masking_key + masking_key)
    for index in range(len(words)):
        words[index] ^= word
    return memoryview(words).cast("B")[:length]


def _word(eight: bytes) -> i64:
    """Eight bytes, as they stand in memory."""
    return i64(memoryview(eight).cast("q")[0])


def mask_words(keys: bytes, key_at: i64, data: bytes, start: i64, stop: i64) -> bytes:
    """Return `data[start:stop]` masked with `keys[key_at : key_at + 4]`. Slow unless compiled."""
    masked = BytesWriter()
    _write_masked(masked, keys, key_at, data, start, stop)
    return masked.getvalue()


def _write_masked(
    masked: BytesWriter, keys: bytes, key_at: i64, data: bytes, start: i64, stop: i64
) -> None:
    key = i64(read_i32_le(keys, key_at))
    word: i64 = key << 32 | key & 0xFFFFFFFF
    position = start
    while position + 8 <= stop:
        write_i64_le(masked, read_i64_le(data, position) ^ word)
        position += 8
    while position < stop:
        masked.append(data[position] ^ word & 0xFF)
        word >>= 8
        position += 1


def rotate_key(masking_key: bytes, consumed: int) -> bytes:
    """The key for the rest of a payload of which `consumed` bytes have been (un)masked."""
    shift = consumed & 3
    return masking_key[shift:] + masking_key[:shift] if shift else masking_key


COMPILED: Final = not isinstance(rotate_key, FunctionType)
"""Whether this is an extension module, and so all of the core that can be one."""
