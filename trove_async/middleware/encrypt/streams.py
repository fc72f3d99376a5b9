"""A message as a stream of chunks: sealed on the way to the driver, opened on the way back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Final, TypeVar

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from trove_async._threads import cpu_pool, settle
from trove_async.driver.base import Bytes, Chunks
from trove_async.middleware.encrypt.frames import FrameReader, FrameWriter, seal_final
from trove_async.middleware.encrypt.message import FRAME_OVERHEAD, message_size

__all__ = ["Sealed", "SealedParts", "opened", "stepped"]

T = TypeVar("T", bound=Bytes)

_OFFLOAD: Final = 1024 * 1024
"""Frames from this size on are for a worker: one is more than the loop should wait for. Smaller
ones stay, since a hop costs as much as 500 KiB of cipher and two threads with small frames are
slower than one (measured: 4.0 against 6.5 GB/s, each frame being a hand-over of the GIL)."""
_BREATH: Final = 2 * 1024 * 1024
"""Bytes of one chunk after which the loop gets a turn: about 0.3 ms."""


async def stepped(pieces: Iterator[T], frame_size: int) -> AsyncGenerator[T, None]:
    """The pieces made of one chunk, without holding the loop for long."""
    if frame_size < _OFFLOAD:
        done = 0
        for piece in pieces:
            yield piece
            done += len(piece)
            if done >= _BREATH:
                done = 0
                await asyncio.sleep(0)
        return
    loop = asyncio.get_running_loop()
    while True:
        # Settled: nobody may free or reuse the chunk while a worker reads it.
        piece_or_none = await settle(loop.run_in_executor(cpu_pool(), next, pieces, None))
        if piece_or_none is None:
            return
        yield piece_or_none


class Sealed:
    """The message of a body. A class, so that an object of one chunk needs no generator: it
    becomes one chunk, header and all."""

    __slots__ = ("_begun", "_chunks", "_cipher", "_header", "_id", "_size", "_stream")

    def __init__(
        self, chunks: Chunks, header: bytes, cipher: AESGCM, message_id: bytes, frame_size: int
    ) -> None:
        self._chunks = chunks
        self._header = header
        self._cipher = cipher
        self._id = message_id
        self._size = frame_size
        self._begun = False
        self._stream: AsyncGenerator[Bytes, None] | None = None

    def __aiter__(self) -> AsyncIterator[Bytes]:
        return self

    async def __anext__(self) -> Bytes:
        if self._stream is not None:
            return await self._stream.__anext__()
        if self._begun:
            raise StopAsyncIteration
        self._begun = True
        first: Bytes | None = await anext(self._chunks, None)
        second: Bytes | None = None
        if first is None:
            first = b""
        elif len(first) <= self._size:
            if type(first) is not bytes:
                first = bytes(first)  # it is ours only until we ask for the next
            second = await anext(self._chunks, None)
        if second is None and len(first) <= self._size:
            return self._header + seal_final(self._cipher, self._id, 1, first)
        self._stream = self._frames(first, second)
        return await self._stream.__anext__()

    async def _frames(self, first: Bytes, second: Bytes | None) -> AsyncGenerator[Bytes, None]:
        yield self._header
        size = self._size
        writer = FrameWriter(self._cipher, self._id, size)
        for begun in (first, second):
            if begun is not None:
                async with aclosing(stepped(writer.feed(begun), size)) as pieces:
                    async for piece in pieces:
                        yield piece
        del first, second, begun
        async for chunk in self._chunks:
            async with aclosing(stepped(writer.feed(chunk), size)) as pieces:
                async for piece in pieces:
                    yield piece
        yield writer.finish()

    async def aclose(self) -> None:
        self._begun = True
        if self._stream is not None:
            await self._stream.aclose()


class SealedParts:
    """A message whose parts may be sealed by several processes."""

    __slots__ = ("_cipher", "_id", "grain", "header")

    def __init__(self, header: bytes, cipher: AESGCM, message_id: bytes, frame_size: int) -> None:
        self.header = header
        self.grain = frame_size
        self._cipher = cipher
        self._id = message_id

    def sealed_size(self, size: int, start: int, *, is_last: bool) -> int:
        head = len(self.header) if start == 0 else 0
        if is_last:
            return message_size(size, head, self.grain)
        return head + size // self.grain * (self.grain + FRAME_OVERHEAD)

    def seal(self, data: Bytes, start: int, *, is_last: bool) -> AsyncGenerator[Bytes, None]:
        size = self.grain
        if start % size or (not is_last and (len(data) % size or not len(data))):
            raise ValueError(f"a part has whole frames of {size} bytes")
        return self._sealed(data, start, is_last)

    async def _sealed(self, data: Bytes, start: int, is_last: bool) -> AsyncGenerator[Bytes, None]:
        size = self.grain
        writer = FrameWriter(self._cipher, self._id, size, 1 + start // size)
        if start == 0:
            yield self.header
        async with aclosing(stepped(writer.feed(data), size)) as pieces:
            async for piece in pieces:
                yield piece
        yield writer.finish() if is_last else writer.pause()


async def opened(
    reader: FrameReader, frame_size: int, first: Bytes, chunks: Chunks
) -> AsyncGenerator[Bytes, None]:
    """The plaintext of a whole message; the end of it only when nothing follows."""
    if first:
        async with aclosing(stepped(reader.feed(first), frame_size)) as pieces:
            async for piece in pieces:
                yield piece
    del first
    async for chunk in chunks:
        async with aclosing(stepped(reader.feed(chunk), frame_size)) as pieces:
            async for piece in pieces:
                yield piece
    if ending := reader.end():
        yield ending
