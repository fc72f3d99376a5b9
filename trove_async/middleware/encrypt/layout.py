"""Where the frames of one message are, so that a range costs only those it touches."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from trove_async.driver.base import Bytes, Chunks
from trove_async.errors import TruncatedError
from trove_async.middleware.base import RangeSource
from trove_async.middleware.encrypt.frames import FrameReader
from trove_async.middleware.encrypt.message import FRAME_OVERHEAD, split
from trove_async.middleware.encrypt.opening import Opened
from trove_async.middleware.encrypt.streams import stepped

__all__ = ["MessageLayout"]


class MessageLayout:
    """Pure state: the header, the cipher and the arithmetic of one message.

    ``size`` is arithmetic until the last frame was read; what touches the last byte reads and
    proves it. A range before that gives genuine bytes of genuine places, and does not prove
    that the object is complete."""

    __slots__ = ("_cipher", "_header", "_total", "_whole", "size")

    def __init__(self, opened: Opened, total: int) -> None:
        header = opened.header
        self._header = header
        self._cipher = opened.cipher
        self._total = total
        self._whole, last = split(total, header.length, header.frame_size)
        self.size = self._whole * header.frame_size + last

    def read(self, below: RangeSource, start: int, stop: int) -> Chunks:
        return self._read(below, start, stop)

    async def _read(self, below: RangeSource, start: int, stop: int) -> AsyncGenerator[Bytes, None]:
        if start >= stop and self.size:
            return
        header = self._header
        size = header.frame_size
        first = start // size
        last = self._whole if stop >= self.size else (stop - 1) // size
        is_end = last == self._whole
        low = header.length + first * (size + FRAME_OVERHEAD)
        high = self._total if is_end else header.length + (last + 1) * (size + FRAME_OVERHEAD)
        reader = FrameReader(self._cipher, header, first + 1, self._whole + 1)
        position = first * size
        async with aclosing(below.read(low, high)) as chunks:
            async for chunk in chunks:
                async with aclosing(stepped(reader.feed(chunk), size)) as pieces:
                    async for piece in pieces:
                        wanted = piece[max(0, start - position) : max(0, stop - position)]
                        position += len(piece)
                        if wanted:
                            yield wanted
        if is_end:
            if wanted := reader.end()[max(0, start - position) : max(0, stop - position)]:
                yield wanted
        elif reader.number != last + 2:
            raise TruncatedError(f"the message ends before the end of frame {reader.number}")

    async def prove(self, below: RangeSource) -> None:
        """Reads the last frame alone: the message is complete and has this size."""
        low = min(self._whole * self._header.frame_size, max(self.size - 1, 0))
        async with aclosing(self._read(below, low, self.size)) as pieces:
            async for _ in pieces:
                pass
