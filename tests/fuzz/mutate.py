"""Broken copies of good inputs, the same ones again for the same seed."""

from __future__ import annotations

import random
from collections.abc import Sequence

__all__ = ["broken"]

_EDGES = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)
_NUMBERS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def broken(dice: random.Random, good: Sequence[bytes]) -> bytes:
    """One of ``good`` after one to four changes, most of them where the structure is: the
    first and the last bytes."""
    data = bytearray(dice.choice(good))
    for _ in range(dice.choice((1, 1, 1, 2, 3, 4))):
        _change(dice, data, good)
    return bytes(data)


def _place(dice: random.Random, size: int) -> int:
    where = dice.random()
    if where < 0.4:
        return dice.randrange(min(size, 300))
    if where < 0.6:
        return size - 1 - dice.randrange(min(size, 120))
    return dice.randrange(size)


def _change(dice: random.Random, data: bytearray, good: Sequence[bytes]) -> None:
    if not data:
        data += dice.randbytes(dice.randrange(64))
        return
    at = _place(dice, len(data))
    kind = dice.randrange(9)
    if kind == 0:
        data[at] ^= 1 << dice.randrange(8)
    elif kind == 1:
        data[at] = dice.choice(_EDGES)
    elif kind == 2:
        number = dice.choice(_NUMBERS)
        is_big = dice.random() < 0.5
        data[at : at + 4] = number.to_bytes(4, "big" if is_big else "little")
    elif kind == 3:
        del data[at:]
    elif kind == 4:
        del data[at : at + dice.randrange(1, 40)]
    elif kind == 5:
        data[at:at] = dice.randbytes(dice.randrange(1, 40))
    elif kind == 6:
        start = _place(dice, len(data))
        data[at:at] = data[start : start + dice.randrange(1, 200)]
    elif kind == 7:
        other = dice.choice(good)
        start = _place(dice, len(other)) if other else 0
        data[at : at + 64] = other[start : start + 64]
    else:
        data += dice.randbytes(dice.randrange(1, 20))
