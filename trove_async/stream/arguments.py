"""The keyword arguments of `Trove.stream` and `Pool.acquire`, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from trove_async.model import Seconds
from trove_async.stream.settings import (
    Backpressure,
    ChunkHook,
    CompleteHook,
    ErrorHook,
    ProgressHook,
)

__all__ = ["StreamArguments"]


class StreamArguments(TypedDict, total=False):
    chunk_size: int | None
    """Bytes; None: the pool's, else the store's."""
    queue_size: int
    """Chunks that wait between producer and consumer."""
    backpressure: Backpressure | None
    buffer_memory: int
    """Bytes BUFFER keeps in memory beyond the queue."""
    buffer_limit: int
    """Bytes BUFFER may put into its file."""
    total_size: int | None
    """Expected bytes of an upload, for percent and ETA; ``size`` is enforced as well."""
    range: slice | None
    """Of a download, as in `Trove.get`."""
    resumable: bool
    session: str | None
    fingerprint: str | None
    acquire_timeout: Seconds | None
    """To wait for the pool; MaxStreamsError after it."""
    on_progress: ProgressHook | None
    on_chunk: ChunkHook | None
    on_complete: CompleteHook | None
    on_error: ErrorHook | None
    # those of `Trove.put`
    content_type: str | None
    metadata: Mapping[str, str] | None
    tags: Mapping[str, str] | None
    storage_class: str | None
    size: int | None
    checksum: str | None
    if_none_match: str | None
    if_match: str | None
    """Of a download: the etag the object must have."""
    raw: bool
    part_size: int | None
    concurrency: int | None
