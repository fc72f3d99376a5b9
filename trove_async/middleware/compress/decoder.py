"""Stored bytes to logical ones, in order and without the seek table: it comes last, and is
then compared with the frames that came."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Final

from trove_async._chunks import Digest
from trove_async._supply import Pieces, Supply, length_of
from trove_async.checksum import digest_of
from trove_async.driver.base import Bytes
from trove_async.errors import (
    ChecksumMismatchError,
    CorruptFrameError,
    FormatLimitError,
    SeekTableError,
    TrailingDataError,
    TruncatedError,
)
from trove_async.middleware.compress.codec import HELPED_DECODED, INLINE_DECODED, decoded
from trove_async.middleware.compress.format import (
    ALGORITHMS,
    DATA_MAGIC,
    FOOTER_SIZE,
    INFO_PREFIX,
    INFO_SIZE,
    MARKER_PREFIX,
    MARKER_SIZE,
    OVERHEAD,
    TABLE_MAGIC,
    Info,
    Limits,
    frame_bound,
    header_size,
    new_entries,
    parse_end,
    parse_footer,
    parse_frame_header,
    parse_info,
    parse_marker,
    split_entries,
)
from trove_async.middleware.compress.ordered import ordered

__all__ = ["opened", "unpacked", "unpacked_whole"]

_HEADER_START: Final = 6  # no header of ours is shorter
_LARGEST_BLOCK: Final = 128 * 1024


# -- digests -----------------------------------------------------------------------------


def _is_checked_by_store(recorded: str | None) -> bool:
    """The store hashes the bytes for the digest it recorded; here only the texts are compared
    then, so that nothing is hashed twice."""
    return recorded is not None and recorded.partition(":")[0] in ALGORITHMS


def _own_digests(recorded: str | None) -> list[Digest]:
    """What to hash here. The info frame, which names the algorithm, comes last."""
    if _is_checked_by_store(recorded):
        return []
    if recorded is not None:  # one that the info frame cannot hold: then it has ours
        return [Digest("blake3")]
    return [Digest(algorithm) for algorithm in ALGORITHMS]


def _check_digest(found: str | None, info: Info) -> None:
    if found != info.digest:
        raise ChecksumMismatchError(f"{found} was expected, the info frame says {info.digest}")


# -- small and whole ---------------------------------------------------------------------


def unpacked_whole(data: bytes | memoryview, limits: Limits, recorded: str | None) -> bytes | None:
    """A small object of one data frame, checked in full. None: read it the long way, which
    also says what is wrong with it."""
    info = parse_end(data)
    if info is None or not 0 < info.size <= INLINE_DECODED:
        return None
    view = memoryview(data)
    largest = parse_marker(view[:MARKER_SIZE])
    frame = view[MARKER_SIZE : MARKER_SIZE + len(view) - OVERHEAD]
    if bytes(frame[:4]) != DATA_MAGIC or info.size > largest:
        return None
    limits.check_size(info.size)
    limits.check_ratio(info.size, len(view))
    plain = decoded([frame], info.size, limits, 0)
    if _is_checked_by_store(recorded):
        _check_digest(recorded, info)
    else:
        _check_digest(digest_of(info.digest.partition(":")[0], plain), info)
    return plain


# -- any size ----------------------------------------------------------------------------


async def opened(supply: Supply) -> int:
    """Reads the marker: the largest frame that follows, in bytes."""
    data = await supply.take_bytes(MARKER_SIZE)
    if len(data) < MARKER_SIZE:
        if MARKER_PREFIX.startswith(data[: len(MARKER_PREFIX)]):
            raise TruncatedError("the body ends inside its marker")
        raise CorruptFrameError("a compressed body begins with its marker")
    return parse_marker(data)


async def unpacked(
    supply: Supply, limits: Limits, recorded: str | None, *, check_table: bool
) -> AsyncGenerator[Bytes]:
    """Everything after the marker. The last frame is given once the whole has been checked."""
    walk = Walk(supply, limits, check_table=check_table)
    digests = _own_digests(recorded)
    held: bytes | None = None
    async with aclosing(ordered(walk.jobs(), INLINE_DECODED, HELPED_DECODED)) as plains:
        async for plain in plains:
            for digest in digests:
                await digest.feed(plain)
            if held is not None:
                yield held
            held = plain
    info = walk.info
    assert info is not None
    if _is_checked_by_store(recorded):
        _check_digest(recorded, info)
    else:
        name = info.digest.partition(":")[0]
        _check_digest(next((d.text for d in digests if d.algorithm == name), recorded), info)
    if held is not None:
        yield held


class Walk:
    """Frame by frame through the stored bytes; remembers what the seek table must say."""

    __slots__ = ("_check_table", "_entries", "_limits", "_stored", "_supply", "_total", "info")

    def __init__(self, supply: Supply, limits: Limits, *, check_table: bool) -> None:
        self._supply = supply
        self._limits = limits
        self._check_table = check_table
        self._entries = new_entries()
        self._stored = MARKER_SIZE
        self._total = 0
        self.info: Info | None = None
        """Once `jobs` has ended."""

    async def jobs(self) -> AsyncGenerator[tuple[int, Callable[[], bytes]]]:
        """A decoder for each data frame. It ends when the structure of the whole is as it
        must be, with nothing after it."""
        supply = self._supply
        number = 0
        while True:
            start = await supply.take_bytes(_HEADER_START)
            if not start:
                raise TruncatedError("the body ends before its info frame")
            if start[:4] != DATA_MAGIC[: len(start)]:
                break
            if number + 3 > self._limits.entries:
                raise FormatLimitError(f"over {self._limits.entries} frames")
            pieces, size = await self._frame(start, number)
            yield size, partial(decoded, pieces, size, self._limits, number)
            number += 1
        self.info = await self._info(start)
        if self._check_table:
            await self._table()
        else:
            await self._skipped_table()
        if await supply.take(1):
            raise TrailingDataError("something follows the seek table")

    async def _exactly(self, size: int, what: str) -> Pieces:
        pieces = await self._supply.take(size)
        if length_of(pieces) < size:
            raise TruncatedError(f"the body ends inside {what}")
        return pieces

    async def _bytes(self, size: int, what: str) -> bytes:
        return b"".join(await self._exactly(size, what))

    async def _frame(self, start: bytes, number: int) -> tuple[Pieces, int]:
        """All of data frame ``number`` and the bytes it decodes to."""
        what = f"data frame {number}"
        if len(start) < _HEADER_START:
            raise TruncatedError(f"the body ends inside {what}")
        start += await self._bytes(header_size(start[4]) - len(start), what)
        header = parse_frame_header(start, self._limits)
        self._total += header.content
        self._limits.check_size(self._total)
        pieces: Pieces = [start]
        stored = await self._blocks(pieces, header.content, header.window, what)
        self._entries.extend((stored, header.content))
        self._stored += stored
        self._limits.check_ratio(self._total, self._stored)
        return pieces, header.content

    async def _blocks(self, pieces: Pieces, content: int, window: int, what: str) -> int:
        """Takes the blocks of a frame by their headers; no decoder has seen them yet."""
        length = len(pieces[0])
        most = frame_bound(content)
        blocks = content // 64 + 64  # no encoder makes more, and each costs us a turn
        largest = min(window, _LARGEST_BLOCK)
        while True:
            head = await self._bytes(3, what)
            fields = int.from_bytes(head, "little")
            is_last, kind, size = fields & 1, fields >> 1 & 3, fields >> 3
            blocks -= 1
            if kind == 3 or size > largest or not blocks:
                raise CorruptFrameError(f"{what} has a block that cannot be")
            if kind == 1:
                size = 1  # one byte, repeated
            if is_last:
                size += 4  # the checksum
            pieces.append(head)
            pieces += await self._exactly(size, what)
            length += 3 + size
            if length > most:
                raise CorruptFrameError(f"{what} is longer than what it holds")
            if is_last:
                return length

    async def _info(self, start: bytes) -> Info:
        data = start + await self._supply.take_bytes(INFO_SIZE - len(start))
        if len(data) < INFO_SIZE:
            if INFO_PREFIX.startswith(data[: len(INFO_PREFIX)]):
                raise TruncatedError("the body ends inside its info frame")
            raise CorruptFrameError("neither a data frame nor the info frame")
        info = parse_info(data)
        if info.size != self._total:
            raise SeekTableError(
                f"the info frame says {info.size} bytes, the frames hold {self._total}"
            )
        self._entries.extend((INFO_SIZE, 0))
        return info

    async def _table(self) -> None:
        """The seek table against the frames that were seen."""
        what = "its seek table"
        head = await self._bytes(8, what)
        if head[:4] != TABLE_MAGIC:
            raise SeekTableError("no seek table after the info frame")
        count = len(self._entries) // 2
        size = int.from_bytes(head[4:], "little")
        if size not in (8 * count + FOOTER_SIZE, 12 * count + FOOTER_SIZE):
            raise SeekTableError(f"a seek table of {size} bytes for {count} frames")
        data = memoryview(await self._bytes(size, what))
        listed, width = parse_footer(data[-FOOTER_SIZE:])
        if listed != count or size != width * count + FOOTER_SIZE:
            raise SeekTableError(f"a seek table of {listed} entries for {count} frames")
        csizes, dsizes = split_entries(data[:-FOOTER_SIZE], width)
        if csizes != self._entries[0::2] or dsizes != self._entries[1::2]:
            raise SeekTableError("the seek table does not match the frames")

    async def _skipped_table(self) -> None:
        """Whatever the table says, and also when it is cut short or missing."""
        head = await self._supply.take_bytes(8)
        if not TABLE_MAGIC.startswith(head[:4]):
            raise TrailingDataError("something other than a seek table follows the info frame")
        size = int.from_bytes(head[4:], "little")
        if size > self._limits.table:
            raise FormatLimitError(f"a seek table of {size} bytes")
        while size > 0 and (pieces := await self._supply.take(min(size, _LARGEST_BLOCK))):
            size -= length_of(pieces)
