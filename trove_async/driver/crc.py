"""Checksums of a body from those of its parts."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

__all__ = ["CRC32", "CRC32C", "crc_combined"]

CRC32: Final = 0xEDB88320
"""The polynomial of zlib's, its bits reflected."""
CRC32C: Final = 0x82F63B78
"""Castagnoli's."""


def _times(a: int, b: int, polynomial: int) -> int:
    """a * b modulo the polynomial."""
    product = 0
    mask = 1 << 31
    while True:
        if a & mask:
            product ^= b
        mask >>= 1
        if not mask:
            return product
        b = (b >> 1) ^ polynomial if b & 1 else b >> 1


@lru_cache(maxsize=64)  # parts are mostly of one size
def _shift(length: int, polynomial: int) -> int:
    """x^(8 * length)."""
    power, square = 1 << 31, 1 << 23  # x^0, x^8
    while length:
        if length & 1:
            power = _times(power, square, polynomial)
        square = _times(square, square, polynomial)
        length >>= 1
    return power


def crc_combined(first: int, second: int, length: int, polynomial: int = CRC32) -> int:
    """That of two bodies one after the other, the second of ``length`` bytes.

    As zlib's crc32_combine: the first is shifted by x^(8 * length)."""
    return _times(_shift(length, polynomial), first, polynomial) ^ second
