"""Managed streams: one producer, one queue, one consumer, and what limits them.

This room knows no store. Whoever has one gives an `Outbound` something that takes a body, and
an `Inbound` something that opens an object.
"""

from trove_async.stream.chunk import Chunk, ChunkPool, ChunkPoolStats
from trove_async.stream.metrics import PoolMetrics, Progress, StreamMetrics
from trove_async.stream.outbound import StreamResult
from trove_async.stream.pool import Pool
from trove_async.stream.settings import (
    Backpressure,
    PoolConfig,
    StreamDirection,
    StreamState,
)
from trove_async.stream.stream import Stream

__all__ = [
    "Backpressure",
    "Chunk",
    "ChunkPool",
    "ChunkPoolStats",
    "Pool",
    "PoolConfig",
    "PoolMetrics",
    "Progress",
    "Stream",
    "StreamDirection",
    "StreamMetrics",
    "StreamResult",
    "StreamState",
]
