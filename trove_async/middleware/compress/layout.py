"""Where every frame is, from the seek table at the end of an object; ranges by it."""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from itertools import accumulate
from typing import Final

from trove_async._chunks import OneChunk, collect
from trove_async._supply import Supply, length_of
from trove_async._threads import cpu_pool
from trove_async.driver.base import Bytes, Chunks
from trove_async.errors import (
    CorruptFrameError,
    FormatLimitError,
    SeekTableError,
    TruncatedError,
)
from trove_async.middleware.base import RangeSource
from trove_async.middleware.compress.codec import HELPED_DECODED, INLINE_DECODED, decoded
from trove_async.middleware.compress.format import (
    FOOTER_SIZE,
    INFO_SIZE,
    MARKER_SIZE,
    TABLE_MAGIC,
    Info,
    Limits,
    frame_bound,
    parse_footer,
    parse_info,
    split_entries,
)
from trove_async.middleware.compress.ordered import ordered

__all__ = ["TAIL", "ZstdLayout", "read_layout"]

TAIL: Final = 64 * 1024
"""Bytes read first: the table of some 8000 frames, or 8 GiB."""
_SMALLEST: Final = MARKER_SIZE + INFO_SIZE + 8 + 2 * 8 + FOOTER_SIZE
_INLINE_ENTRIES: Final = 16 * 1024


async def read_layout(below: RangeSource, limits: Limits) -> ZstdLayout:
    """One read of the tail, and one more when the table is longer."""
    size = below.size
    if size < _SMALLEST:
        raise TruncatedError(f"{size} bytes are no compressed object")
    start = max(0, size - TAIL)
    tail = await _span(below, start, size)
    count, width = parse_footer(tail[-FOOTER_SIZE:])
    table = 8 + count * width + FOOTER_SIZE
    if table > limits.table:
        raise FormatLimitError(f"a seek table of {table} bytes; the limit is {limits.table}")
    wanted = table + INFO_SIZE
    if count < 2 or wanted + MARKER_SIZE > size:
        raise SeekTableError(f"a seek table of {count} entries in {size} bytes")
    if wanted > len(tail):
        tail = await _span(below, size - wanted, start) + tail
    parsed = partial(_parsed, memoryview(tail)[-wanted:], width, size, limits)
    if count <= _INLINE_ENTRIES:
        return parsed()
    return await asyncio.get_running_loop().run_in_executor(cpu_pool(), parsed)


async def _span(below: RangeSource, start: int, stop: int) -> bytes:
    async with aclosing(below.read(start, stop)) as chunks:
        data = await collect(chunks)
    if len(data) != stop - start:
        raise TruncatedError(f"{len(data)} bytes of {start} to {stop} were given")
    return data


def _parsed(data: memoryview, width: int, size: int, limits: Limits) -> ZstdLayout:
    """From info frame and table together."""
    table = data[INFO_SIZE:]
    if bytes(table[:4]) != TABLE_MAGIC or int.from_bytes(table[4:8], "little") != len(table) - 8:
        raise SeekTableError("the seek table does not begin where it must")
    csizes, dsizes = split_entries(table[8:-FOOTER_SIZE], width)
    ends = csizes[0], dsizes[0], csizes[-1], dsizes[-1]
    if ends != (MARKER_SIZE, 0, INFO_SIZE, 0):
        raise SeekTableError("the seek table does not list the marker and the info frame")
    info = parse_info(data[:INFO_SIZE])
    stored = array("Q", accumulate(csizes[:-1]))
    logical = array("Q", accumulate(dsizes[:-1]))
    if stored[-1] + len(data) != size:
        raise SeekTableError(f"the frames of the seek table do not make {size} bytes")
    if logical[-1] != info.size:
        raise SeekTableError(f"the info frame says {info.size} bytes, the seek table {logical[-1]}")
    limits.check_size(info.size)
    limits.check_ratio(info.size, size)
    return ZstdLayout(info, stored, logical, limits)


class ZstdLayout:
    """Pure state: 16 bytes for each frame."""

    __slots__ = ("_limits", "_logical", "_stored", "info")

    def __init__(self, info: Info, stored: array[int], logical: array[int], limits: Limits) -> None:
        self.info = info
        self._stored = stored
        """Where each data frame begins, and last the info frame."""
        self._logical = logical
        """Where its content begins, and last the size of the whole."""
        self._limits = limits

    def __sizeof__(self) -> int:
        """With its tables, so that who keeps layouts can bound them in bytes."""
        tables = self._stored.itemsize * (len(self._stored) + len(self._logical))
        return object.__sizeof__(self) + tables

    @property
    def size(self) -> int:
        return self.info.size

    def read(self, below: RangeSource, start: int, stop: int) -> Chunks:
        stop = min(stop, self.size)
        if start >= stop:
            return OneChunk(b"")
        return self._cut(below, start, stop)

    async def _cut(self, below: RangeSource, start: int, stop: int) -> AsyncGenerator[Bytes]:
        first = bisect_right(self._logical, start) - 1
        last = bisect_right(self._logical, stop - 1) - 1
        position = self._logical[first]
        jobs = self._jobs(below, first, last)
        async with aclosing(ordered(jobs, INLINE_DECODED, HELPED_DECODED)) as plains:
            async for plain in plains:
                low, high = max(0, start - position), stop - position
                position += len(plain)
                if low or high < len(plain):
                    yield memoryview(plain)[low:high]
                else:
                    yield plain

    async def _jobs(
        self, below: RangeSource, first: int, last: int
    ) -> AsyncGenerator[tuple[int, Callable[[], bytes]]]:
        """Decoders for the frames ``first`` to ``last``, from one contiguous span."""
        stored, logical, limits = self._stored, self._logical, self._limits
        async with aclosing(below.read(stored[first], stored[last + 1])) as chunks:
            supply = Supply(chunks)
            for number in range(first, last + 1):
                content = logical[number + 1] - logical[number]
                length = stored[number + 1] - stored[number]
                limits.check_frame(content, f"data frame {number}")
                if not content or length > frame_bound(limits.frame):
                    raise CorruptFrameError(f"data frame {number}: {content} in {length} bytes")
                pieces = await supply.take(length)
                if length_of(pieces) < length:
                    raise TruncatedError(f"the body ends inside data frame {number}")
                yield content, partial(decoded, pieces, content, limits, number)
