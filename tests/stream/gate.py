"""A consumer that takes what it is allowed to, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from trove_async import Chunks, Context, Direction, Stage

__all__ = ["Gate", "turns"]


class Gate:
    """An observing layer: stands between a stream's queue and the driver."""

    name = "gate"
    direction = Direction.WRITE
    stage = Stage.OBSERVE

    def __init__(self) -> None:
        self.is_open = False
        self.failure: BaseException | None = None
        self.taken: list[bytes] = []
        self._permits = 0
        self._moved = asyncio.Event()

    def let(self, count: int) -> None:
        self._permits += count
        self._moved.set()

    def open(self) -> None:
        self.is_open = True
        self._moved.set()

    def fail(self, error: BaseException) -> None:
        self.failure = error
        self._moved.set()

    async def write(self, chunks: Chunks, context: Context) -> Chunks:
        return self._held(chunks)

    async def _held(self, chunks: Chunks) -> AsyncGenerator[bytes, None]:
        await self._allowed()
        async for chunk in chunks:
            self.taken.append(bytes(chunk))
            yield bytes(chunk)
            await self._allowed()

    async def _allowed(self) -> None:
        """Before each pull."""
        while self._permits == 0 and not self.is_open and self.failure is None:
            self._moved.clear()
            await self._moved.wait()
        if self.failure is not None:
            raise self.failure
        if not self.is_open:
            self._permits -= 1


async def turns(count: int = 12) -> None:
    """Lets every task go as far as it can."""
    for _ in range(count):
        await asyncio.sleep(0)
