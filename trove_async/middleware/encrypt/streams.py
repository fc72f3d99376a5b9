"""A message as a stream of chunks: sealed on the way to the driver, opened on the way back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from trove_async._threads import cpu_pool
from trove_async.driver.base import Bytes, Chunks
from trove_async.errors import IntegrityError
from trove_async.middleware.encrypt.frames import FrameReader, FrameWriter, seal_final

__all__ = ["Sealed", "opened", "worked"]

Made = tuple[deque[Bytes], IntegrityError | None]

_OFFLOAD: Final = 512 * 1024
"""Bytes of a chunk, or of a frame, from which on a worker makes the pieces of one chunk while
the loop's thread hashes or passes on those of the chunk before. A hop costs as much as 500 KiB of
cipher."""
_BREATH: Final = 2 * 1024 * 1024
"""Bytes of small chunks after which the loop gets a turn: about 0.3 ms of cipher."""


def _made(work: Callable[[Bytes], Iterator[Bytes]], chunk: Bytes) -> Made:
    """All pieces of a chunk; with the error that ended them, so that none before it is lost."""
    pieces: deque[Bytes] = deque()
    try:
        pieces.extend(work(chunk))
    except IntegrityError as exc:
        return pieces, exc
    return pieces, None


async def worked(
    chunks: Chunks, work: Callable[[Bytes], Iterator[Bytes]], frame_size: int
) -> AsyncGenerator[Bytes, None]:
    """What ``work`` makes of each chunk, in order: of small ones here, of large ones in a
    worker that is one chunk ahead. It is pure work on memory, so a job that runs when this is
    closed touches nothing and is not waited for."""
    ahead: Future[Made] | None = None
    since = 0
    try:
        async for chunk in chunks:
            if ahead is None and len(chunk) < _OFFLOAD and frame_size < _OFFLOAD:
                since += len(chunk)
                for piece in work(chunk):
                    yield piece
                if since >= _BREATH:
                    since = 0
                    await asyncio.sleep(0)
                continue
            done, error = (deque[Bytes](), None) if ahead is None else await _result(ahead)
            # A chunk belongs to us only until the next one is asked for; an immutable one keeps.
            if type(chunk) is not bytes and not (
                type(chunk) is memoryview and type(chunk.obj) is bytes
            ):
                chunk = bytes(chunk)
            ahead = cpu_pool().submit(_made, work, chunk) if error is None else None
            del chunk
            while done:
                yield done.popleft()
            if error is not None:
                raise error
        if ahead is not None:
            done, error = await _result(ahead)
            ahead = None
            while done:
                yield done.popleft()
            if error is not None:
                raise error
    finally:
        if ahead is not None:
            ahead.cancel()


async def _result(future: Future[Made]) -> Made:
    return future.result() if future.done() else await asyncio.wrap_future(future)


async def _with_first(first: Sequence[Bytes], chunks: Chunks) -> AsyncGenerator[Bytes, None]:
    """``chunks`` with some of it, which has been pulled already, before it."""
    for chunk in first:
        yield chunk
    del first
    async for chunk in chunks:
        yield chunk


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
        writer = FrameWriter(self._cipher, self._id, self._size)
        begun = [chunk for chunk in (first, second) if chunk is not None]
        del first, second
        async with (
            aclosing(_with_first(begun, self._chunks)) as chunks,
            aclosing(worked(chunks, writer.feed, self._size)) as pieces,
        ):
            del begun
            async for piece in pieces:
                yield piece
        yield writer.finish()

    async def aclose(self) -> None:
        self._begun = True
        if self._stream is not None:
            await self._stream.aclose()


async def opened(
    reader: FrameReader, frame_size: int, first: Bytes, chunks: Chunks
) -> AsyncGenerator[Bytes, None]:
    """The plaintext of a whole message; the end of it only when nothing follows."""
    begun = [first] if first else []
    del first
    async with (
        aclosing(_with_first(begun, chunks)) as joined,
        aclosing(worked(joined, reader.feed, frame_size)) as pieces,
    ):
        del begun
        async for piece in pieces:
            yield piece
    if ending := reader.end():
        yield ending
