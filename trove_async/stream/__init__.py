"""Managed streams: one producer, one queue, one consumer, and what limits them.

This room knows no store. Whoever has one gives an `Outbound` something that takes a body, and
an `Inbound` something that opens an object. Its parts are loaded when they are first named:
settings are read by every store, streams are not.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_HOMES = {
    "Backpressure": "settings",
    "Chunk": "chunk",
    "ChunkPool": "chunk",
    "ChunkPoolStats": "chunk",
    "Pool": "pool",
    "PoolConfig": "settings",
    "PoolMetrics": "metrics",
    "Progress": "metrics",
    "Stream": "stream",
    "StreamDirection": "settings",
    "StreamMetrics": "metrics",
    "StreamResult": "outbound",
    "StreamState": "settings",
}

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


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found
