"""Chunks in a file that has no name: gone with its process, whatever happens."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import IO, TypeVar

from trove_async._threads import io_pool, settle
from trove_async.stream.chunk import Chunk

__all__ = ["Spool"]

R = TypeVar("R")


class Spool:
    """First in, first out. The file (0600, in the folder for temporary files, unlinked from
    the beginning) is divided into rooms of one chunk, which are used again."""

    def __init__(self, room: int, limit: int) -> None:
        """``room``: bytes of the largest chunk; ``limit``: of the file."""
        self._room = room
        self._most = limit // room
        self._file: IO[bytes] | None = None
        self._free: list[int] = []
        self._rooms = 0
        self._order: deque[tuple[int, int, Chunk]] = deque()  # room, size, chunk without data
        self._jobs: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        return len(self._order)

    @property
    def is_full(self) -> bool:
        return not self._free and self._rooms >= self._most

    async def push(self, chunk: Chunk) -> None:
        """Legal while it is not full. Cancelled, the chunk is not in it."""
        if self._free:
            room = self._free.pop()
        else:
            room = self._rooms
            self._rooms += 1

        def write() -> None:
            if self._file is None:
                from tempfile import TemporaryFile  # only who overflows needs it

                self._file = TemporaryFile(buffering=0)  # noqa: SIM115 -- closed in close()
            view = memoryview(chunk.data)
            at = room * self._room
            while view:
                written = os.pwrite(self._file.fileno(), view, at)
                view, at = view[written:], at + written

        try:
            await self._run(write)
        except BaseException:
            self._free.append(room)
            raise
        bare = Chunk(chunk.index, chunk.offset, b"", chunk.final)
        self._order.append((room, len(chunk.data), bare))

    async def pop(self) -> Chunk | None:
        """The oldest; None if it was cleared meanwhile. Cancelled, the chunk stays."""
        entry = self._order[0]
        room, size, chunk = entry
        data = b""

        def read() -> None:
            nonlocal data
            assert self._file is not None
            data = os.pread(self._file.fileno(), size, room * self._room)

        await self._run(read)
        if not self._order or self._order[0] is not entry:
            return None
        if len(data) != size:
            raise OSError(f"the spool gave {len(data)} of {size} bytes")
        self._order.popleft()
        self._free.append(room)
        return Chunk(chunk.index, chunk.offset, data, chunk.final)

    def clear(self) -> None:
        while self._order:
            self._free.append(self._order.popleft()[0])

    async def close(self) -> None:
        """Lets a worker that still has the file end first. Twice is fine."""
        self.clear()
        while self._jobs:
            with suppress(OSError):  # popped: one that is done may not have been noticed yet
                await settle(self._jobs.pop())
        file, self._file = self._file, None
        if file is not None:  # giving back its blocks may take a while
            await self._run(file.close)

    async def _run(self, job: Callable[[], None]) -> None:
        future = asyncio.get_running_loop().run_in_executor(io_pool(), job)
        self._jobs.add(future)
        try:
            await settle(future)
        finally:
            self._jobs.discard(future)
