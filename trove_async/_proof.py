"""A source that is read again must be the one that was read before."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable

from trove_async._chunks import Digest
from trove_async.driver.base import Bytes, Chunks
from trove_async.errors import ObjectChangedError

__all__ = ["Proven"]


class Proven:
    """Passes a source on. At each of the ``marks``, places and digests of what lies before
    them, it must have the same digest again; else ObjectChangedError, before anything that
    follows the mark has left."""

    __slots__ = ("_chunks", "_held", "_marks", "digest")

    def __init__(
        self, chunks: Chunks, marks: Iterable[tuple[int, str]], digest: Digest | None = None
    ) -> None:
        """``digest``: a BLAKE3 of all that passes, where somebody wants it anyway."""
        self._chunks = chunks
        self._marks = deque(sorted(mark for mark in marks if mark[0] > 0))
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
    def mark(self) -> tuple[int, str]:
        return self.digest.count, self.digest.text or ""

    async def aclose(self) -> None:
        """The level below belongs to the chain."""
