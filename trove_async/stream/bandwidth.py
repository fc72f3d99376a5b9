"""Bytes per second, shared by many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["BURST", "Bandwidth"]

BURST: Final = 0.1
"""Seconds' worth of bytes that may pass at once after a rest."""


class Bandwidth:
    """A token bucket, kept as the time up to which its tokens are spent.

    Whoever takes is served in the order of asking. Streams ask for one piece of at most
    `piece` bytes at a time, so that those that want more than there is share it evenly.
    """

    __slots__ = ("_clock", "_spent", "piece", "rate")

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self.rate = rate
        self.piece = max(1, int(rate * BURST))
        self._clock = clock
        self._spent = clock()  # nobody rested yet: the first of many gets no head start

    async def take(self, size: int) -> None:
        """Returns when ``size`` bytes may pass. Cancelled, it has taken nothing."""
        now = self._clock()
        cost = size / self.rate
        self._spent = max(self._spent, now - BURST) + cost
        try:
            # Also when there is no need to wait: others who want to take come first then.
            await asyncio.sleep(max(0.0, self._spent - now))
        except asyncio.CancelledError:
            self._spent -= cost
            raise
