"""How many parts of one upload are on their way at once, where that follows what the backend
takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import ceil
from typing import Final

__all__ = ["Width"]

_LOOK: Final = 16
"""Rounds after which one is made with half as many, and rounds that the least time is of."""

_EXACT: Final = 1e-6
"""What a sum of floats may be beside a whole number."""


class Width:
    """Begins at 2. A round is as many acknowledged parts as may be on their way: its rate is
    their bytes by its seconds, its time the seconds that a byte's part was on its way, on
    average. The rate times the least time of the last `_LOOK` rounds is how many parts the
    backend worked on (Little's law); the others only waited. So many, and one more, may be on
    their way in the next round, within 1 and ``most``; at most one more than in this one.

    Every `_LOOK` rounds one is made with half as many: what a part takes when few are on their
    way is else forgotten."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self.now = min(2, most)
        self._most = most
        self._clock = clock
        self._began = clock()
        self._bytes = 0
        self._parts = 0
        self._time = 0.0
        self._times: deque[float] = deque(maxlen=_LOOK + 1)  # one look at least
        self._rounds = 0
        self._before = 0
        """What it was before the round that looks; 0: none does."""

    def sent(self, size: int, took: float) -> None:
        """A part of ``size`` bytes was acknowledged, ``took`` seconds after it began."""
        if self._before and self._clock() - took < self._began:
            return  # it began when more were on their way
        self._bytes += size
        self._parts += 1
        self._time += took
        if self._parts < self.now:
            return
        now = self._clock()
        passed = now - self._began
        self._times.append(self._time / max(1, self._bytes))
        if self._before:
            self.now, self._before = self._before, 0
        else:
            self._follow(passed)
        self._began, self._bytes, self._parts, self._time = now, 0, 0, 0.0

    def _follow(self, passed: float) -> None:
        more = self.now + 1
        least = min(self._times)
        if passed > 0 and least > 0:  # else no clock can tell
            worked_on = self._bytes / passed * least
            more = min(more, ceil(worked_on + 1 - _EXACT))
        self.now = max(1, min(self._most, more))
        self._rounds += 1
        if self._rounds % _LOOK == 0 and self.now > 1:
            self._before, self.now = self.now, self.now // 2
