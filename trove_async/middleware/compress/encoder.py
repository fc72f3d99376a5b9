"""Logical bytes to frames: whole small objects in one go, long ones as a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from trove_async._chunks import Digest
from trove_async._supply import Pieces, Supply, length_of
from trove_async.driver.base import Bytes
from trove_async.errors import FormatLimitError
from trove_async.middleware.compress.codec import encoded, helped_encoded, inline_encoded
from trove_async.middleware.compress.format import (
    ALGORITHMS,
    INFO_SIZE,
    Limits,
    new_entries,
    write_end,
    write_info,
    write_marker,
    write_table,
)
from trove_async.middleware.compress.ordered import in_pool, ordered

__all__ = ["Encoder", "Growth", "Summed"]

Made = tuple[bytes, int]
"""A frame and the logical bytes in it."""


@dataclass(frozen=True, slots=True)
class Growth:
    """Frames grow with the object, so that its seek table stays small: 5 TB need some 2.5 MB
    of table in place of 40."""

    first: int
    """Bytes of each of the first ``after`` data frames."""
    after: int
    """Data frames before each of two steps: to 4 and to 16 times the first; 0: no steps."""
    cap: int

    @property
    def largest(self) -> int:
        return self.first if self.after == 0 else min(16 * self.first, self.cap)

    def size_of(self, index: int) -> int:
        """Bytes of data frame ``index``, counted from 0."""
        if self.after == 0 or index < self.after:
            return self.first
        return min((4 if index < 2 * self.after else 16) * self.first, self.cap)


class Summed:
    """The digest for the info frame: the operation's own when the format can hold it, so
    that nothing is hashed twice, else one of ours."""

    __slots__ = ("_own", "_shared")

    def __init__(self, shared: Digest | None) -> None:
        self._own: Digest | None = None
        if shared is None or shared.algorithm not in ALGORITHMS:
            shared = self._own = Digest("blake3")
        self._shared = shared

    async def feed(self, pieces: Pieces) -> None:
        if self._own is not None:
            for piece in pieces:
                await self._own.feed(piece)

    @property
    def text(self) -> str:
        """Complete once the body has ended."""
        text = self._shared.text
        assert text is not None
        return text


class Encoder:
    """What one configured layer writes; no state of an operation."""

    __slots__ = ("_entries", "_helped", "_inline", "_marker", "growth", "level")

    def __init__(self, level: int, growth: Growth, limits: Limits) -> None:
        self.level = level
        self.growth = growth
        self._marker = write_marker(growth.largest)
        self._inline = inline_encoded(level)
        self._helped = helped_encoded(level)
        self._entries = limits.entries

    async def frame(self, pieces: Pieces, size: int) -> bytes:
        """One data frame, made here when it is small."""
        if size <= self._inline:
            return encoded(pieces, self.level)
        return await in_pool(encoded, pieces, self.level)

    def whole(self, frame: bytes, size: int, digest: str) -> bytes:
        """An object of one data frame, or of none when it is empty."""
        if size:
            return b"".join((self._marker, frame, write_end(size, digest, len(frame))))
        entries = new_entries()
        entries.extend((INFO_SIZE, 0))
        return b"".join((self._marker, write_info(0, digest), write_table(entries)))

    async def stream(
        self,
        supply: Supply,
        first: Made,
        digest: Summed,
        covers: Callable[[int], None] | None = None,
    ) -> AsyncGenerator[Bytes]:
        """``first`` has been made and fed already; the rest comes from ``supply``."""
        entries = new_entries()
        frame, total = first
        entries.extend((len(frame), total))
        if covers is not None:
            covers(total)
        yield self._marker + frame
        jobs = self._jobs(supply, digest)
        async with aclosing(ordered(jobs, self._inline, self._helped)) as made:
            async for frame, size in made:
                total += size
                entries.extend((len(frame), size))
                if covers is not None:
                    covers(total)
                yield frame
        entries.extend((INFO_SIZE, 0))
        yield write_info(total, digest.text) + write_table(entries)

    async def _jobs(
        self, supply: Supply, digest: Summed
    ) -> AsyncGenerator[tuple[int, Callable[[], Made]]]:
        index = 1
        while pieces := await supply.take(self.growth.size_of(index)):
            index += 1
            if index + 2 > self._entries:
                raise FormatLimitError(f"over {self._entries} frames; make them larger")
            await digest.feed(pieces)
            size = length_of(pieces)
            yield size, partial(_made, pieces, size, self.level)


def _made(pieces: Pieces, size: int, level: int) -> Made:
    return encoded(pieces, level), size
