"""The writing half of a file: a body that is pulled by one put, and published by its end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Final, Self

from trove_async._chunks import Closable
from trove_async._threads import settle
from trove_async.errors import StreamClosedError
from trove_async.model import MiB, ObjectInfo
from trove_async.vfs.store import Reader

__all__ = ["GATHERED", "Outgoing", "Pipe", "appended"]

GATHERED: Final = MiB
"""Bytes of writes that are handed on together. What is no more is one put of known size."""
QUEUED: Final = 4
"""Pieces that wait for the store."""

Put = Callable[[object], Coroutine[Any, Any, ObjectInfo]]
"""Stores a body: all of it, or nothing."""


class Pipe:
    """A bounded queue as a body. `end` is its end; `break_off` is an error in its place, and
    whoever stores it changes nothing."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._ended = False
        self._broken: BaseException | None = None
        self._moved = asyncio.Event()

    @property
    def is_full(self) -> bool:
        return len(self._pieces) >= QUEUED

    def put(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._moved.set()

    async def room(self) -> None:
        while self.is_full and self._broken is None:
            self._moved.clear()
            await self._moved.wait()

    def end(self) -> None:
        self._ended = True
        self._moved.set()

    def break_off(self, error: BaseException) -> None:
        self._broken = error
        self._pieces.clear()
        self._moved.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._broken is not None:
                raise self._broken
            if self._pieces:
                self._moved.set()
                return self._pieces.popleft()
            if self._ended:
                raise StopAsyncIteration
            self._moved.clear()
            await self._moved.wait()

    async def aclose(self) -> None:
        """Nobody pulls any more: a writer that waits must not wait for ever."""
        if not self._ended or self._pieces:
            self.break_off(StreamClosedError("the store takes no more of this file"))


async def appended(reader: Reader, chunks: Closable) -> AsyncGenerator[bytes, None]:
    """What is there, and then what is written."""
    try:
        while piece := await reader.read(GATHERED):
            yield piece
    finally:
        await reader.aclose()
    async with aclosing(chunks):
        async for chunk in chunks:
            yield bytes(chunk)


class Outgoing:
    """Writes are gathered, then streamed to ``put`` in a task of its own, which ends with
    `close` or `abort`; a body that stays small is put at once by `close`."""

    def __init__(self, put: Put, *, at_once: bool = True) -> None:
        """``at_once`` False: the put gets the `Pipe` even when all is at hand."""
        self._put = put
        self._at_once = at_once
        self._held: list[bytes] = []
        self._size = 0
        self._pipe: Pipe | None = None
        self._task: asyncio.Task[ObjectInfo] | None = None
        self._failure: BaseException | None = None
        self.written = 0
        """Bytes that were taken from the writer."""
        self.info: ObjectInfo | None = None
        """Of what was published."""

    async def write(self, data: bytes) -> None:
        """Waits while the store is behind. A write that fails, also by a cancel, ends the
        file: nobody could tell how much of it was taken, so it is never published."""
        self._check()
        self._held.append(data)
        self._size += len(data)
        self.written += len(data)
        if self._size >= GATHERED:
            await self.flush()

    async def flush(self) -> None:
        self._check()
        if not self._size:
            return
        try:
            pipe = self._started()
            await pipe.room()
            self._check_task()
            pipe.put(self._held[0] if len(self._held) == 1 else b"".join(self._held))
            self._held, self._size = [], 0
        except BaseException as exc:
            self._failure = exc
            await self.abort()
            raise

    def _started(self) -> Pipe:
        if self._pipe is None:
            self._pipe = Pipe()
            self._task = asyncio.create_task(self._put(self._pipe))
        return self._pipe

    def _check(self) -> None:
        if self._failure is not None:
            raise StreamClosedError("an earlier write failed: nothing is published") from (
                self._failure
            )

    def _check_task(self) -> None:
        """Raises what the put failed with, when it ended before the body."""
        if self._task is not None and self._task.done():
            self._task.result()
            raise StreamClosedError("the store took less than was written")

    async def close(self) -> ObjectInfo:
        """Publishes. A cancel meanwhile leaves the old object or the new one."""
        self._check()
        try:
            if self._pipe is None and self._at_once:
                self.info = await self._put(b"".join(self._held))
                return self.info
            pipe = self._started()
            if self._size:
                await pipe.room()
                pipe.put(b"".join(self._held))
                self._held, self._size = [], 0
            pipe.end()
            assert self._task is not None
            await asyncio.wait([self._task])
            self.info = self._task.result()
            return self.info
        except BaseException as exc:
            self._failure = exc
            await self.abort()
            raise

    def break_off(self, error: BaseException) -> None:
        """From now on nothing is published; the task ends by itself."""
        self._failure = self._failure or error
        self._held, self._size = [], 0
        if self._pipe is not None:
            self._pipe.break_off(error)
        if self._task is not None:
            self._task.cancel()
            self._task.add_done_callback(_retrieved)

    async def abort(self) -> None:
        """Publishes nothing, and returns when nothing of it is under way. Raises nothing but a
        cancel that came meanwhile."""
        self.break_off(StreamClosedError("the file was given up"))
        if self._task is not None and not self._task.done():
            await settle(asyncio.ensure_future(asyncio.wait([self._task])))


def _retrieved(task: asyncio.Task[ObjectInfo]) -> None:
    if not task.cancelled():
        task.exception()
