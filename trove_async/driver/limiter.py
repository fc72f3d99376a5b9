"""Throttling slows every request of a client, and success speeds it up again."""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["Limiter"]

_LEAST: Final = 0.01
_MOST: Final = 2.0


class Limiter:
    """The distance between the starts of two requests, in seconds: zero until the server says
    "slow down", doubled each time it does, a tenth less with each success."""

    __slots__ = ("_next", "distance")

    def __init__(self) -> None:
        self.distance = 0.0
        self._next = 0.0

    async def turn(self) -> None:
        """Waits for this request's turn. Only worth calling while ``distance`` is not zero."""
        now = asyncio.get_running_loop().time()
        start = max(now, self._next)
        self._next = start + self.distance
        if start > now:
            await asyncio.sleep(start - now)

    def throttled(self) -> None:
        self.distance = min(max(self.distance * 2, _LEAST), _MOST)

    def succeeded(self) -> None:
        self.distance *= 0.9
        if self.distance < _LEAST / 4:
            self.distance = 0.0
