"""Pieces of a stream, and buffers to fill them from."""

from __future__ import annotations

from dataclasses import dataclass

from trove_async._quick import quick

__all__ = ["Chunk", "ChunkPool", "ChunkPoolStats", "frozen"]


@quick
@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of a stream, never empty."""

    index: int
    """From 0 in the order of the stream; a number that never comes was dropped."""
    offset: int
    """Of its first byte: in the object for downloads, in what was written for uploads."""
    data: bytes | memoryview
    """``bytes`` in downloads; in hooks of uploads it may be a read-only view."""
    final: bool = False
    """The last one. Of an upload only known if `complete` was called before it was taken."""
    dropped: bool = False
    """Given up for newer ones; seen by ``on_chunk`` hooks only."""


@dataclass(frozen=True, slots=True)
class ChunkPoolStats:
    allocated: int
    """Buffers handed out so far."""
    released: int
    """Buffers given back so far."""
    size: int
    """Bytes of each."""


class ChunkPool:
    """Buffers of one size for use again and again. Not thread-safe: one event loop's.

    ``Stream.write`` copies what is mutable, so a buffer may be filled anew, or given back, as
    soon as the write returns.
    """

    __slots__ = ("_allocated", "_free", "_keep", "_released", "_size")

    def __init__(self, size: int, keep: int = 32) -> None:
        """``keep``: how many buffers given back are kept; others are left to the allocator."""
        if size < 1 or keep < 0:
            raise ValueError("a buffer has at least 1 byte, and none or more are kept")
        self._size = size
        self._keep = keep
        self._free: list[bytearray] = []
        self._allocated = 0
        self._released = 0

    def get(self) -> bytearray:
        """A buffer with whatever bytes its last user left in it."""
        self._allocated += 1
        return self._free.pop() if self._free else bytearray(self._size)

    def put(self, buffer: bytearray) -> None:
        """ValueError for one of another size, and for one that is here already."""
        if len(buffer) != self._size:
            raise ValueError(f"a buffer of {len(buffer)} bytes is none of this pool's")
        if self._released == self._allocated or any(buffer is free for free in self._free):
            raise ValueError("the buffer was given back already")
        self._released += 1
        if len(self._free) < self._keep:
            self._free.append(buffer)

    def stats(self) -> ChunkPoolStats:
        return ChunkPoolStats(self._allocated, self._released, self._size)


def frozen(data: object) -> bytes:
    """Bytes that stay as they are now. TypeError for what holds none (str, None, int)."""
    if type(data) is bytes:
        return data
    if isinstance(data, str | int) or data is None:
        raise TypeError(f"a stream takes bytes, not {type(data).__name__}")
    try:
        return memoryview(data).tobytes()  # type: ignore[arg-type]  # its TypeError is the answer
    except TypeError:
        raise TypeError(f"a stream takes bytes, not {type(data).__name__}") from None
