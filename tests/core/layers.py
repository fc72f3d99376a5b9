"""Bodies and layers that note what happens to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from trove_async import Chunks, Context, Direction, Stage

Bytes = bytes | bytearray | memoryview


class Source:
    """An async body that counts how often it is closed, and fails or waits at chunk ``at``."""

    def __init__(
        self,
        chunks: Sequence[bytes] = (b"one", b"two", b"three"),
        *,
        at: int | None = None,
        error: BaseException | None = None,
        pause: float = 0.0,
    ) -> None:
        self._chunks = list(chunks)
        self._at = at
        self._error = error
        self._pause = pause
        self.given = 0
        self.closed = 0
        self.waiting = asyncio.Event()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._pause:
            await asyncio.sleep(self._pause)
        if self.given == self._at:
            self.waiting.set()
            if self._error is not None:
                raise self._error
            await asyncio.Event().wait()
        if self.given >= len(self._chunks):
            raise StopAsyncIteration
        self.given += 1
        return self._chunks[self.given - 1]

    async def aclose(self) -> None:
        self.closed += 1


class Level:
    """The iterator a `Tag` puts into the chain; it counts its closings."""

    def __init__(self, tag: Tag, chunks: AsyncGenerator[Bytes, None]) -> None:
        self._tag = tag
        self._chunks = chunks
        self.closed = 0

    def __aiter__(self) -> AsyncIterator[Bytes]:
        return self

    async def __anext__(self) -> Bytes:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        self.closed += 1
        self._tag.log.append(f"close {self._tag.name}")
        await self._chunks.aclose()
        if self._tag.fail == "close":
            raise RuntimeError(f"{self._tag.name} cannot close")


class Tag:
    """A transform that puts its name before the body and takes it off again.

    ``fail``: decide, chunk, flush, close on a write; open, read on a read."""

    direction = Direction.READ_WRITE

    def __init__(
        self,
        name: str,
        stage: Stage = Stage.TRANSFORM,
        *,
        encoding: str | None = None,
        fail: str = "",
        skip: bool = False,
        log: list[str] | None = None,
    ) -> None:
        self.name = name
        self.stage = stage
        self.encoding = name if encoding is None else encoding
        self.fail = fail
        self.skip = skip
        self.log: list[str] = [] if log is None else log
        self.levels: list[Level] = []

    @property
    def mark(self) -> bytes:
        return f"<{self.name}>".encode()

    async def write(self, chunks: Chunks, context: Context) -> Chunks:
        self.log.append(f"write {self.name}")
        if self.fail == "decide":
            raise RuntimeError(f"{self.name} cannot decide")
        if self.skip:
            return chunks
        return self._level(self._written(chunks))

    def _level(self, chunks: AsyncGenerator[Bytes, None]) -> Chunks:
        self.levels.append(Level(self, chunks))
        return self.levels[-1]

    async def _written(self, chunks: Chunks) -> AsyncGenerator[Bytes, None]:
        yield self.mark
        count = 0
        async for chunk in chunks:
            count += 1
            if self.fail == "chunk" and count == 2:
                raise RuntimeError(f"{self.name} fails at a chunk")
            yield chunk
        if self.fail == "flush":
            raise RuntimeError(f"{self.name} fails in flush")

    async def read(self, chunks: Chunks, context: Context) -> Chunks:
        self.log.append(f"read {self.name}")
        if self.fail == "open":
            raise RuntimeError(f"{self.name} cannot open")
        return self._level(self._read(chunks))

    async def _read(self, chunks: Chunks) -> AsyncGenerator[Bytes, None]:
        held = b""
        started = False
        async for chunk in chunks:
            if self.fail == "read":
                raise RuntimeError(f"{self.name} fails while it reads")
            held += bytes(chunk)
            if not started:
                if len(held) < len(self.mark):
                    continue
                assert held.startswith(self.mark), f"{held[:40]!r} is not {self.name}'s"
                held, started = held[len(self.mark) :], True
            if held:
                yield held
                held = b""


class Observer:
    """Notes what passes; changes nothing and is not recorded."""

    def __init__(
        self,
        name: str = "observer",
        direction: Direction = Direction.READ_WRITE,
        stage: Stage = Stage.OBSERVE,
        *,
        log: list[str] | None = None,
        refuse: BaseException | None = None,
    ) -> None:
        self.name = name
        self.direction = direction
        self.stage = stage
        self.refuse = refuse
        self.log: list[str] = [] if log is None else log
        self.seen = b""
        self.contexts: list[Context] = []

    async def write(self, chunks: Chunks, context: Context) -> Chunks:
        self.log.append(f"write {self.name}")
        self.contexts.append(context)
        return self._passed(chunks)

    async def read(self, chunks: Chunks, context: Context) -> Chunks:
        self.log.append(f"read {self.name}")
        self.contexts.append(context)
        return self._passed(chunks)

    async def _passed(self, chunks: Chunks) -> AsyncGenerator[Bytes, None]:
        self.seen = b""
        async for chunk in chunks:
            self.seen += bytes(chunk)
            yield chunk
        if self.refuse is not None:
            raise self.refuse
