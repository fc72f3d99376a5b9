"""`Compress`: which objects are compressed, and what is accepted of those that are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from trove_async._chunks import OneChunk
from trove_async._supply import Supply, length_of
from trove_async.driver.base import Chunks
from trove_async.errors import InvalidConfigError
from trove_async.middleware.base import Direction, Layout, RangeSource, Stage
from trove_async.middleware.compress.codec import INLINE_DECODED, check_level
from trove_async.middleware.compress.decoder import opened, unpacked, unpacked_whole
from trove_async.middleware.compress.encoder import Encoder, Growth, Summed
from trove_async.middleware.compress.format import OVERHEAD, Limits
from trove_async.middleware.compress.layout import TAIL, read_layout
from trove_async.middleware.compress.skipping import (
    SKIP_CONTENT_TYPES,
    SKIP_EXTENSIONS,
    Skips,
)
from trove_async.middleware.context import Context

__all__ = ["Compress"]

KiB = 1024
MiB = 1024 * 1024
ENCODING: Final = "zstd"


class Compress:
    """Seekable zstd: every object is a valid ``.zst`` file, and a range of it decodes only
    the frames it touches.

    ``level``: -7 to 22. ``frame_size``: logical bytes of a frame, what a range read decodes
    at least; frames grow to 4 and 16 times that (up to 16 MiB) after ``growth_after`` frames
    each, 0 for never. Not compressed are bodies under ``min_size`` bytes, keys and types that
    say they are compressed already, and what shrinks by less than ``min_saving`` (of its first
    frame; None compresses everything).

    Limits on reads, checked before anything is decoded: ``max_frame_size`` and
    ``max_table_size`` (bytes), ``max_logical_size`` (bytes of the whole object) and
    ``max_ratio`` (logical to stored). Beyond them a read is a DecompressionLimitError or a
    FormatLimitError. ``check_table=False`` lets full reads pass without a right seek table,
    to save what can be saved; ranges always need it.
    """

    name = "compress"
    direction = Direction.READ_WRITE
    stage = Stage.COMPRESS
    encoding = ENCODING
    tells_covered = True
    head = 0
    tail = TAIL

    def __init__(
        self,
        *,
        level: int = 3,
        frame_size: int = 1 * MiB,
        min_size: int = 1024,
        skip_extensions: Collection[str] = SKIP_EXTENSIONS,
        skip_content_types: Collection[str] = SKIP_CONTENT_TYPES,
        min_saving: float | None = 0.03,
        growth_after: int = 4096,
        max_frame_size: int = 32 * MiB,
        max_table_size: int = 64 * MiB,
        max_logical_size: int | None = None,
        max_ratio: float | None = None,
        check_table: bool = True,
    ) -> None:
        check_level(level)
        if not 1 <= frame_size <= max_frame_size <= 1 << 30:
            raise InvalidConfigError(
                f"a frame of {frame_size} bytes; it is 1 to max_frame_size ({max_frame_size})"
            )
        if min_size < 0 or growth_after < 0 or max_table_size < KiB:
            raise InvalidConfigError("min_size, growth_after or max_table_size is too small")
        if min_saving is not None and not 0 <= min_saving < 1:
            raise InvalidConfigError(f"min_saving is a fraction, not {min_saving:g}")
        if (max_ratio is not None and max_ratio <= 0) or (
            max_logical_size is not None and max_logical_size < 0
        ):
            raise InvalidConfigError("max_ratio or max_logical_size allows nothing")
        self._limits = Limits(max_frame_size, max_table_size, max_logical_size, max_ratio)
        largest = min(max(frame_size, 16 * MiB), max_frame_size)
        self._encoder = Encoder(level, Growth(frame_size, growth_after, largest), self._limits)
        self._frame_size = frame_size
        self._min_size = min_size
        self._min_saving = min_saving
        self._skips = Skips(skip_extensions, skip_content_types)
        self._check_table = check_table

    def __repr__(self) -> str:
        return f"Compress(level={self._encoder.level}, frame_size={self._frame_size})"

    # -- writes --------------------------------------------------------------------------

    async def write(self, chunks: Chunks, context: Context) -> Chunks:
        size = context.stored_size
        if size is not None and size < self._min_size:
            return chunks
        if ENCODING in context.applied or self._skips.match(context.key, context.content_type):
            return chunks
        supply = Supply(chunks)
        await supply.fill(self._frame_size)
        if supply.ended and supply.held < self._min_size:
            return supply
        pieces = await supply.take(self._frame_size)
        size = length_of(pieces)
        is_whole = supply.ended and not supply.held
        frame = await self._encoder.frame(pieces, size) if size else b""
        if not self._is_worth_it(size, len(frame) + (OVERHEAD if is_whole else 0)):
            supply.put_back(pieces)
            return supply
        digest = Summed(None if context.applied else context.digest)
        await digest.feed(pieces)
        if is_whole:
            data = self._encoder.whole(frame, size, digest.text)
            context.stored_size = len(data)
            return OneChunk(data)
        context.stored_size = None
        return self._encoder.stream(supply, (frame, size), digest, context.covers)

    def _is_worth_it(self, size: int, stored: int) -> bool:
        saving = self._min_saving
        return saving is None or (size > 0 and stored <= (1 - saving) * size)

    # -- reads ---------------------------------------------------------------------------

    async def read(self, chunks: Chunks, context: Context) -> Chunks:
        recorded = _recorded_digest(context)
        supply = Supply(chunks)
        await supply.fill(INLINE_DECODED)
        if supply.ended:
            whole = supply.view()
            if whole:
                data = whole[0] if len(whole) == 1 else b"".join(whole)
                plain = unpacked_whole(data, self._limits, recorded)
                if plain is not None:
                    return OneChunk(plain)
        largest = await opened(supply)
        limits = self._limits
        if largest < limits.frame:
            limits = replace(limits, frame=largest)
        return unpacked(supply, limits, recorded, check_table=self._check_table)

    async def layout(self, below: RangeSource, context: Context) -> Layout:
        return await read_layout(below, self._limits)


def _recorded_digest(context: Context) -> str | None:
    """The store's digest of what this layer gives: it is of the logical bytes, so only when
    no other layer stands between."""
    applied = context.applied
    if applied[:1] == [ENCODING] and applied.count(ENCODING) == 1:
        return context.metadata.get("trovedig")
    return None
