"""How many parts of one upload are on their way at once, where that follows what the backend
takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["Width"]

_CHANGE: Final = 0.1
"""Part of the rate that counts as faster or slower; less is noise."""
_REST: Final = 8
"""Rounds without a change after which one more is tried again."""


class Width:
    """Begins at 2. A round is as many acknowledged parts as may be on their way; its rate is
    their bytes by its seconds. After a round that was a tenth faster than the one before there
    may be one more, after one a tenth slower one fewer, within 1 and ``most``; else it stays,
    and after `_REST` such rounds one more is tried."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self.now = min(2, most)
        self._most = most
        self._clock = clock
        self._began = clock()
        self._bytes = 0
        self._parts = 0
        self._rate: float | None = None
        self._same = 0

    def sent(self, size: int) -> None:
        """A part of ``size`` bytes was acknowledged."""
        self._bytes += size
        self._parts += 1
        if self._parts < self.now:
            return
        now = self._clock()
        took = now - self._began
        rate = self._bytes / took if took > 0 else float("inf")
        before, self._rate = self._rate, rate
        self._began, self._bytes, self._parts = now, 0, 0
        self._same += 1
        if before is None or rate >= before * (1 + _CHANGE) or self._same > _REST:
            self._to(self.now + 1)
        elif rate <= before * (1 - _CHANGE):
            self._to(self.now - 1)

    def _to(self, width: int) -> None:
        self.now = max(1, min(self._most, width))
        self._same = 0
