"""What streams and pools can be told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from trove_async.model import MiB, ObjectInfo, Seconds, seconds
from trove_async.stream.chunk import Chunk
from trove_async.stream.metrics import Progress

__all__ = [
    "Backpressure",
    "ChunkHook",
    "CompleteHook",
    "ErrorHook",
    "PoolConfig",
    "ProgressHook",
    "StreamDirection",
    "StreamOptions",
    "StreamState",
]

ProgressHook = Callable[[Progress], Awaitable[None] | None]
ChunkHook = Callable[[Chunk], Awaitable[None] | None]
CompleteHook = Callable[[ObjectInfo], Awaitable[None] | None]
ErrorHook = Callable[[BaseException], Awaitable[None] | None]

SPOOL_LIMIT: Final = 1024 * MiB
MEMORY: Final = 32 * MiB


class StreamDirection(Enum):
    UPLOAD = "upload"
    DOWNLOAD = "download"
    BIDI = "bidi"
    """Both on one handle: reads the object that is there while it writes its successor."""


class Backpressure(Enum):
    """What happens when the queue of a stream is full."""

    BLOCK = "block"
    """The producer waits."""
    DROP = "drop"
    """The oldest chunk that nobody has taken yet is given up."""
    BUFFER = "buffer"
    """Chunks overflow into memory, then into a file without a name; beyond its bound the
    producer waits."""
    ADAPTIVE = "adaptive"
    """The producer waits, and the size of chunks follows the consumer's rate."""


class StreamState(Enum):
    IDLE = "idle"
    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETING = "completing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in _TERMINAL


_TERMINAL = frozenset({StreamState.COMPLETED, StreamState.FAILED, StreamState.CANCELLED})


@dataclass(frozen=True, slots=True, init=False)
class PoolConfig:
    """Limits that the streams of one pool share. Times are seconds (or timedelta)."""

    max_streams: int = 16
    """Streams at once; others wait their turn."""
    max_bandwidth: float | None = None
    """Bytes per second of all its streams together, bursts of at most 100 ms; None: no limit."""
    chunk_size: int | None = None
    """Bytes; None: the store's."""
    buffer_count: int = 32
    """Buffers of each size that its `ChunkPool`s keep for use again."""
    stream_timeout: float | None = None
    """From the start of a stream to its end."""
    idle_timeout: float | None = 300.0
    """Without a chunk taken or given; time spent paused is not idle."""
    backpressure: Backpressure = Backpressure.BLOCK

    def __init__(
        self,
        max_streams: int = 16,
        max_bandwidth: float | None = None,
        chunk_size: int | None = None,
        buffer_count: int = 32,
        stream_timeout: Seconds | None = None,
        idle_timeout: Seconds | None = 300.0,
        backpressure: Backpressure = Backpressure.BLOCK,
    ) -> None:
        if max_streams < 1:
            raise ValueError("max_streams is at least 1")
        if max_bandwidth is not None and not max_bandwidth > 0:  # nor NaN
            raise ValueError("max_bandwidth must be positive or None")
        if chunk_size is not None and chunk_size < 1:
            raise ValueError("chunk_size is at least 1 byte")
        if buffer_count < 0:
            raise ValueError("buffer_count must not be negative")
        values: dict[str, object] = {
            "max_streams": max_streams,
            "max_bandwidth": max_bandwidth,
            "chunk_size": chunk_size,
            "buffer_count": buffer_count,
            "backpressure": Backpressure(backpressure),
        }
        for name, given in (("stream_timeout", stream_timeout), ("idle_timeout", idle_timeout)):
            value = None if given is None else seconds(given)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive or None")
            values[name] = value
        for name, setting in values.items():
            object.__setattr__(self, name, setting)


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What one stream was asked to be; the pool has filled in its defaults."""

    chunk_size: int = 8 * MiB
    queue_size: int = 16
    backpressure: Backpressure = Backpressure.BLOCK
    buffer_memory: int = MEMORY
    """Bytes that BUFFER keeps in memory beyond the queue."""
    buffer_limit: int = SPOOL_LIMIT
    """Bytes that BUFFER may put into its file."""
    spool: bool = True
    """False: BUFFER stays in memory, because the file would hold what is to be encrypted."""
    total_size: int | None = None
    """For percent and ETA of an upload only; ``size`` is what is enforced."""
    on_progress: ProgressHook | None = None
    on_chunk: ChunkHook | None = None
    on_complete: CompleteHook | None = None
    on_error: ErrorHook | None = None

    def __post_init__(self) -> None:
        if self.chunk_size < 1 or self.queue_size < 1:
            raise ValueError("chunk_size and queue_size are at least 1")
        if self.buffer_limit < 0 or self.buffer_memory < 0:
            raise ValueError("buffer_limit and buffer_memory must not be negative")
        if self.total_size is not None and self.total_size < 0:
            raise ValueError("total_size must not be negative")
