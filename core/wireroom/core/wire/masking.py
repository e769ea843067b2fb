"""Masking of payloads (RFC 6455 section 5.3). Pure; imports nothing of ours.

The transformation is its own inverse. Short payloads are XORed as one big integer, which is the
fastest that plain Python has; long ones go through `bytes.translate`, a table a key byte, which
passes over the data in C without the quadratic-free but slow conversion to an integer.
"""

from __future__ import annotations

from typing import Final

_TRANSLATE_FROM: Final = 768  # bytes; where translate overtakes the integers, measured on 3.11

_XOR_TABLES: Final = tuple(bytes(value ^ key for value in range(256)) for key in range(256))


def apply_mask(masking_key: bytes, data: bytes) -> bytes:
    """Return `data` masked (or unmasked) with the four bytes of `masking_key`."""
    length = len(data)
    if length < _TRANSLATE_FROM:
        mask = (masking_key * ((length >> 2) + 1))[:length]
        return (int.from_bytes(data, "big") ^ int.from_bytes(mask, "big")).to_bytes(length, "big")
    masked = bytearray(data)
    for offset in range(4):
        masked[offset::4] = data[offset::4].translate(_XOR_TABLES[masking_key[offset]])
    return bytes(masked)


def rotate_key(masking_key: bytes, consumed: int) -> bytes:
    """The key for the rest of a payload of which `consumed` bytes have been (un)masked."""
    shift = consumed & 3
    return masking_key[shift:] + masking_key[:shift] if shift else masking_key
