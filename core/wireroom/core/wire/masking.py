"""Masking of payloads (RFC 6455 section 5.3). Pure; imports nothing of ours.

The transformation is its own inverse. Short payloads are XORed as one big integer, which is the
fastest that plain Python has; long ones go through `bytes.translate`, a table a key byte, which
passes over the data in C without the quadratic-free but slow conversion to an integer.
"""

from __future__ import annotations

from typing import Final

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
    if length < _TRANSLATE_FROM:
        mask = (masking_key * ((length >> 2) + 1))[:length]
        return (from_bytes(data) ^ from_bytes(mask)).to_bytes(length)
    masked = bytearray(data)
    for offset in range(4):
        masked[offset::4] = data[offset::4].translate(_XOR_TABLES[masking_key[offset]])
    return bytes(masked)


def rotate_key(masking_key: bytes, consumed: int) -> bytes:
    """The key for the rest of a payload of which `consumed` bytes have been (un)masked."""
    shift = consumed & 3
    return masking_key[shift:] + masking_key[:shift] if shift else masking_key
