"""A source that is read again must be the one that was read before; and how much of it is in
what the layers gave."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable

from trove_async._chunks import Digest
from trove_async.driver.base import Bytes, Chunks
from trove_async.errors import ObjectChangedError

__all__ = ["Covered", "Proven"]


class Proven:
    """Passes a source on. At each of the ``marks``, digests of what lies before a place, it must
    have the same digest again; else ObjectChangedError, before anything that follows the mark
    has left."""

    __slots__ = ("_chunks", "_held", "_marks", "digest")

    def __init__(self, chunks: Chunks, marks: Iterable[str], digest: Digest | None = None) -> None:
        """``digest``: a BLAKE3 of all that passes, where somebody wants it anyway."""
        self._chunks = chunks
        split = (mark.rpartition("@") for mark in marks)
        places = ((int(place), text) for text, _, place in split if text)
        self._marks = deque(sorted(mark for mark in places if mark[0] > 0))
        self._held: memoryview | None = None
        self.digest = Digest("blake3") if digest is None else digest

    def __aiter__(self) -> AsyncIterator[Bytes]:
        return self

    async def __anext__(self) -> Bytes:
        chunk: Bytes
        if self._held is not None:
            chunk, self._held = self._held, None
        else:
            try:
                chunk = await self._chunks.__anext__()
            except StopAsyncIteration:
                if self._marks:
                    raise ObjectChangedError(
                        "the source is shorter than when its upload began"
                    ) from None
                raise
        if self._marks and self._marks[0][0] - self.digest.count < len(chunk):
            view = memoryview(chunk)
            left = self._marks[0][0] - self.digest.count
            chunk, self._held = view[:left], view[left:]
        if len(chunk) <= self.digest.is_inline:
            self.digest.update(chunk)
        else:
            await self.digest.feed(chunk)
        while self._marks and self._marks[0][0] == self.digest.count:
            if self._marks.popleft()[1] != self.digest.text:
                raise ObjectChangedError("the source is not what it was when its upload began")
        return chunk

    @property
    def mark(self) -> str:
        """``"<digest>@<bytes>"`` of what has passed."""
        return f"{self.digest.text or ''}@{self.digest.count}"

    async def aclose(self) -> None:
        """The level below belongs to the chain."""


class Covered:
    """What a transform gives, with how much of the source is behind each of its chunks."""

    __slots__ = ("_given", "_marks", "_told", "chunks")

    def __init__(self) -> None:
        self.chunks: Chunks | None = None
        self._given = 0
        self._told = 0
        self._marks = deque([(0, 0)])

    def tell(self, place: int) -> None:
        """Said by the transform before it gives a chunk (`Context.covers`)."""
        self._told = place

    def at(self, given: int) -> int:
        """Bytes of the source in the first ``given`` ones; asked in ascending order."""
        while len(self._marks) > 1 and self._marks[1][0] <= given:
            self._marks.popleft()
        return self._marks[0][1]

    def __aiter__(self) -> AsyncIterator[Bytes]:
        return self

    async def __anext__(self) -> Bytes:
        assert self.chunks is not None
        chunk: Bytes = await self.chunks.__anext__()
        self._given += len(chunk)
        self._marks.append((self._given, self._told))
        return chunk

    async def aclose(self) -> None:
        """The level below belongs to the chain."""
