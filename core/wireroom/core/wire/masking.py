"""Masking of payloads (RFC 6455 section 5.3). Pure; imports nothing of ours.

The transformation is its own inverse. Compiled, it goes over words of eight bytes. In plain Python
short payloads are XORed as one big integer, which is the fastest that there is; long ones go
through `bytes.translate`, a table a key byte, which passes over the data in C without the
quadratic-free but slow conversion to an integer.
"""

from __future__ import annotations

from types import FunctionType
from typing import Final

from librt.strings import BytesWriter, read_i32_le, read_i64_le, write_i64_le
from mypy_extensions import i64

_BLOCK: Final = 2**16  # bytes that are masked at once, so that a buffer need not grow and move
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
        return _mask_blocks(masking_key, data)
    if length < _TRANSLATE_FROM:
        mask = (masking_key * ((length >> 2) + 1))[:length]
        return (from_bytes(data) ^ from_bytes(mask)).to_bytes(length)
    masked = bytearray(data)
    for offset in range(4):
        masked[offset::4] = data[offset::4].translate(_XOR_TABLES[masking_key[offset]])
    return bytes(masked)


def _mask_blocks(masking_key: bytes, data: bytes) -> bytes:
    length = len(data)
    if length <= _BLOCK:
        return mask_words(masking_key, 0, data, 0, length)
    starts = range(0, length, _BLOCK)
    return b"".join(
        [mask_words(masking_key, 0, data, at, min(at + _BLOCK, length)) for at in starts]
    )


def mask_words(keys: bytes, key_at: i64, data: bytes, start: i64, stop: i64) -> bytes:
    """Return `data[start:stop]` masked with `keys[key_at : key_at + 4]`. Slow unless compiled."""
    key = i64(read_i32_le(keys, key_at))
    word: i64 = key << 32 | key & 0xFFFFFFFF
    masked = BytesWriter()
    position = start
    while position + 8 <= stop:
        write_i64_le(masked, read_i64_le(data, position) ^ word)
        position += 8
    while position < stop:
        masked.append(data[position] ^ word & 0xFF)
        word >>= 8
        position += 1
    return masked.getvalue()


def rotate_key(masking_key: bytes, consumed: int) -> bytes:
    """The key for the rest of a payload of which `consumed` bytes have been (un)masked."""
    shift = consumed & 3
    return masking_key[shift:] + masking_key[:shift] if shift else masking_key


COMPILED: Final = not isinstance(rotate_key, FunctionType)
"""Whether this is an extension module, and so all of the core that can be one."""
