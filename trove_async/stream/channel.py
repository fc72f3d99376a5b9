"""The one queue of a stream.

As an `asyncio.Queue`, but it can end and break (which that one learns in 3.13 only), and a
policy says what becomes of a chunk that finds it full.
"""

from __future__ import annotations

import asyncio
from collections import deque

from trove_async.stream.chunk import Chunk
from trove_async.stream.policy import Policy

__all__ = ["Channel"]


class Channel:
    def __init__(self, size: int, policy: Policy) -> None:
        self.items: deque[Chunk] = deque()
        self.policy = policy
        self._size = size
        self._ended = False
        self._broken: BaseException | None = None
        self._has_items = asyncio.Event()
        self._has_room = asyncio.Event()

    # -- the producer's side ------------------------------------------------------------------

    async def put(self, chunk: Chunk) -> None:
        """Raises what the channel was broken with. Cancelled, the chunk is not in it."""
        while True:
            if self._broken is not None:
                raise self._broken
            if len(self.items) < self._size and not self.policy.spilled():
                self.append(chunk)
                return
            if await self.policy.full(self, chunk):
                return

    def append(self, chunk: Chunk) -> None:
        self.items.append(chunk)
        self._has_items.set()

    def filled(self) -> None:
        self._has_items.set()

    async def room(self) -> None:
        self._has_room.clear()
        await self._has_room.wait()

    def end(self) -> None:
        """Nothing comes after what is in it."""
        self._ended = True
        self._has_items.set()

    # -- the consumer's side ------------------------------------------------------------------

    async def get(self) -> Chunk | None:
        """The oldest chunk, None at the end. Cancelled, nothing was taken."""
        while True:
            if self._broken is not None:
                raise self._broken
            if self.items:
                self._has_room.set()
                return self.items.popleft()
            if self.policy.spilled():
                chunk = await self.policy.fetch()
                if chunk is None:
                    continue
                self._has_room.set()
                return chunk
            if self._ended:
                return None
            self._has_items.clear()
            await self._has_items.wait()

    # -- either side --------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        return not self.items and not self.policy.spilled()

    @property
    def has_ended(self) -> bool:
        return self._ended

    def break_off(self, error: BaseException) -> None:
        """Both sides wake and find ``error``; what is in it is gone."""
        self._broken = error
        self.items.clear()
        self._has_items.set()
        self._has_room.set()

    def restart(self) -> None:
        """Empty and open again, for a producer that begins elsewhere."""
        self.items.clear()
        self.policy.clear()
        self._ended = False
        self._has_room.set()

    async def close(self) -> None:
        """Legal once broken or ended; lets go of files."""
        self.items.clear()
        await self.policy.close()
