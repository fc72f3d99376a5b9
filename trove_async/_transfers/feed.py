"""Chunks that are handed over one at a time: who gives waits until the one before was taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from trove_async.driver.base import Bytes

__all__ = ["Feed"]


class Feed:
    """A source for one reader and one writer at a time. One chunk waits in it."""

    __slots__ = ("_ended", "_error", "_held", "_lock", "_ready", "_room")

    def __init__(self) -> None:
        self._held: Bytes | None = None
        self._ended = False
        self._error: BaseException | None = None
        self._lock = asyncio.Lock()
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def put(self, chunk: Bytes) -> None:
        """Raises what the reader ended with, if it has ended. Cancelled, the chunk is not in."""
        async with self._lock:
            await self._room.wait()
            if self._error is not None:
                raise self._error
            self._held = chunk
            self._room.clear()
            self._ready.set()

    def end(self) -> None:
        self._ended = True
        self._ready.set()

    def refuse(self, error: BaseException) -> None:
        """The reader is gone."""
        self._error = error
        self._held = None
        self._room.set()

    def __aiter__(self) -> AsyncIterator[Bytes]:
        return self

    async def __anext__(self) -> Bytes:
        await self._ready.wait()
        chunk = self._held
        if chunk is None:
            raise StopAsyncIteration
        self._held = None
        if not self._ended:
            self._ready.clear()
        self._room.set()
        return chunk

    async def aclose(self) -> None:
        """The reader says how it ended by `refuse`."""
