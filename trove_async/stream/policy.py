"""What to do about a full queue: one object per stream, one class per answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from trove_async.model import KiB
from trove_async.stream.chunk import Chunk
from trove_async.stream.settings import Backpressure, StreamOptions
from trove_async.stream.spool import Spool

__all__ = ["Adaptive", "Block", "Buffer", "Drop", "Policy", "Queue", "policy_for"]

LEAST: Final = 64 * KiB
"""The smallest chunk that ADAPTIVE makes, unless `chunk_size` is smaller still."""
AIM: Final = 0.05
"""Seconds of the consumer's work that ADAPTIVE wants a chunk to be."""


class Queue(Protocol):
    """As much of the queue as a policy may touch."""

    @property
    def items(self) -> deque[Chunk]: ...
    def append(self, chunk: Chunk) -> None: ...
    async def room(self) -> None:
        """Waits until a chunk has been taken, or the queue was closed."""
        ...

    def filled(self) -> None:
        """Tells the consumer that there is something."""
        ...


class Policy(Protocol):
    chunk_size: int
    """Bytes a chunk may have now."""

    async def full(self, queue: Queue, chunk: Chunk) -> bool:
        """True: ``chunk`` was taken; False: look again. Cancelled, it was not taken."""
        ...

    def spilled(self) -> int:
        """Chunks held besides the queue, all of them newer than its own."""
        ...

    async def fetch(self) -> Chunk | None: ...
    def observe(self, size: int, took: float) -> None:
        """The consumer was busy with ``size`` bytes for ``took`` seconds."""
        ...

    def clear(self) -> None: ...
    async def close(self) -> None: ...


class Block:
    """Nothing is lost or reordered; the producer waits."""

    def __init__(self, chunk_size: int) -> None:
        self.chunk_size = chunk_size

    async def full(self, queue: Queue, chunk: Chunk) -> bool:
        await queue.room()
        return False

    def spilled(self) -> int:
        return 0

    async def fetch(self) -> Chunk | None:
        return None

    def observe(self, size: int, took: float) -> None: ...

    def clear(self) -> None: ...

    async def close(self) -> None: ...


class Drop(Block):
    """The producer never waits; the oldest chunk not yet taken makes room."""

    def __init__(self, chunk_size: int, on_drop: Callable[[Chunk], None]) -> None:
        super().__init__(chunk_size)
        self._on_drop = on_drop

    async def full(self, queue: Queue, chunk: Chunk) -> bool:
        self._on_drop(queue.items.popleft())
        return False


class Adaptive(Block):
    """Waits as `Block`, and makes chunks that keep the consumer busy for about `AIM` seconds.

    After each chunk: ``rate = bytes / seconds`` it took; ``size = rate * AIM``, approached
    half way (so that one stall does not shrink it to nothing and one burst does not fill the
    memory), within `LEAST` and the configured chunk size.
    """

    def __init__(self, chunk_size: int) -> None:
        super().__init__(max(min(LEAST, chunk_size), chunk_size // 8))
        self._least = min(LEAST, chunk_size)
        self._most = chunk_size

    def observe(self, size: int, took: float) -> None:
        wanted = self._most if took <= 0 else min(self._most, int(size / took * AIM))
        self.chunk_size = max(self._least, (self.chunk_size + wanted + 1) // 2)


class Buffer(Block):
    """The producer runs ahead: the queue, then memory, then the spool; then it waits. The order is
    kept and nothing is lost."""

    def __init__(self, chunk_size: int, in_memory: int, limit: int) -> None:
        """``in_memory``: chunks, those of the queue included; ``limit``: bytes of the spool."""
        super().__init__(chunk_size)
        self._spool = Spool(chunk_size, limit)
        self._in_memory = in_memory

    async def full(self, queue: Queue, chunk: Chunk) -> bool:
        spool = self._spool
        if not len(spool) and len(queue.items) < self._in_memory:
            queue.append(chunk)
            return True
        if not spool.is_full:
            await spool.push(chunk)
            queue.filled()
            return True
        await queue.room()
        return False

    def spilled(self) -> int:
        return len(self._spool)

    async def fetch(self) -> Chunk | None:
        return await self._spool.pop()

    def clear(self) -> None:
        self._spool.clear()

    async def close(self) -> None:
        await self._spool.close()


def policy_for(options: StreamOptions, chunk_size: int, on_drop: Callable[[Chunk], None]) -> Policy:
    kind = options.backpressure
    if kind is Backpressure.DROP:
        return Drop(chunk_size, on_drop)
    if kind is Backpressure.ADAPTIVE:
        return Adaptive(chunk_size)
    if kind is Backpressure.BUFFER:
        limit = options.buffer_limit if options.spool else 0
        in_memory = options.queue_size + options.buffer_memory // chunk_size
        return Buffer(chunk_size, in_memory, limit)
    return Block(chunk_size)
