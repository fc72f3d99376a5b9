"""A body from which exact amounts are taken."""

from __future__ import annotations

from collections import deque
from typing import Self

from trove_async._chunks import Bytes, Closable

__all__ = ["Pieces", "Supply", "length_of"]

Pieces = list[bytes | memoryview]
"""Immutable: they may be kept, and read by a worker."""


def length_of(pieces: Pieces) -> int:
    return len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))


class Supply:
    """Takes chunks in pieces of any size, with no copy of immutable ones.

    It is itself a stream of what was not taken: one that was only looked at can be passed
    on in place of the body, which is what ``is_same_bytes`` tells the pipeline. The level
    below belongs to the chain."""

    __slots__ = ("_chunks", "_held", "ended", "held")

    is_same_bytes = True

    def __init__(self, chunks: Closable) -> None:
        self._chunks = chunks
        self._held: deque[bytes | memoryview] = deque()
        self.held = 0
        """Bytes that have been pulled and not taken."""
        self.ended = False
        """Nothing is left to pull."""

    async def _pull(self) -> bool:
        if self.ended:
            return False
        try:
            chunk = await self._chunks.__anext__()
        except StopAsyncIteration:
            self.ended = True
            return False
        # A chunk belongs to us only until the next one is asked for; an immutable one keeps.
        if type(chunk) is not bytes and not (
            type(chunk) is memoryview and type(chunk.obj) is bytes
        ):
            chunk = bytes(chunk)
        self._held.append(chunk)
        self.held += len(chunk)
        return True

    async def fill(self, size: int) -> None:
        """Pulls until more than ``size`` bytes are held, or all there are."""
        while self.held <= size and await self._pull():
            pass

    async def head(self, size: int) -> bytes:
        """The next ``size`` bytes without taking them, fewer only when there are no more."""
        while self.held < size and await self._pull():
            pass
        if self._held and len(self._held[0]) >= size:
            return bytes(self._held[0][:size])
        return b"".join(self._held)[:size]

    def view(self) -> Pieces:
        """What is held, untaken."""
        return [*self._held]

    async def some(self, most: int) -> bytes | memoryview | None:
        """The next piece as it came, cut at ``most`` bytes; None at the end."""
        if not self._held and not await self._pull():
            return None
        piece = self._held.popleft()
        if len(piece) > most:
            view = memoryview(piece)
            self._held.appendleft(view[most:])
            piece = view[:most]
        self.held -= len(piece)
        return piece

    async def take(self, size: int) -> Pieces:
        """The next ``size`` bytes, fewer only at the end."""
        taken: Pieces = []
        while size and (piece := await self.some(size)) is not None:
            taken.append(piece)
            size -= len(piece)
        return taken

    async def take_bytes(self, size: int) -> bytes:
        """As `take`, joined: for what is small."""
        return b"".join(await self.take(size))

    def put_back(self, pieces: Pieces) -> None:
        self._held.extendleft(reversed(pieces))
        self.held += length_of(pieces)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Bytes:
        if not self._held and not await self._pull():
            raise StopAsyncIteration
        piece = self._held.popleft()
        self.held -= len(piece)
        return piece

    async def aclose(self) -> None:
        self._held.clear()
        self.held = 0
        self.ended = True
