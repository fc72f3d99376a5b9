"""Throttling slows every request of the client, and success speeds it up again."""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["Limiter"]

_LEAST: Final = 0.01
_MOST: Final = 2.0


class Limiter:
    """The pause between the starts of two requests, in seconds: none until the server says
    "slow down", doubled each time it does, a tenth shorter with each success."""

    __slots__ = ("_next", "pause")

    def __init__(self) -> None:
        self.pause = 0.0
        self._next = 0.0

    async def turn(self) -> None:
        """Waits for this request's turn. Only worth calling while ``pause`` is not zero."""
        now = asyncio.get_running_loop().time()
        start = max(now, self._next)
        self._next = start + self.pause
        if start > now:
            await asyncio.sleep(start - now)

    def throttled(self) -> None:
        self.pause = min(max(self.pause * 2, _LEAST), _MOST)

    def succeeded(self) -> None:
        self.pause *= 0.9
        if self.pause < _LEAST / 4:
            self.pause = 0.0
