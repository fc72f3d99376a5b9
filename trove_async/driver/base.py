"""The contract between the store and a backend.

A driver moves bytes and knows nothing of layers, routes or retries. It receives
validated names and complete options, translates its SDK's errors at its own edge, and
never ignores an option: what it cannot do is an UnsupportedError before any byte moves.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from trove_async.driver.options import (
    BucketOptions,
    CopyOptions,
    DeleteOptions,
    GetOptions,
    HeadOptions,
    ListOptions,
    PutOptions,
)
from trove_async.model import BucketInfo, ObjectInfo, ObjectPage, ObjectRef

__all__ = ["Bytes", "Chunks", "Driver", "Features", "RawObject"]

Bytes = bytes | bytearray | memoryview


class Chunks(Protocol):
    """A closable stream of bytes. A chunk is never empty and belongs to the consumer
    until it asks for the next one. ``aclose`` is idempotent and legal before the first."""

    def __aiter__(self) -> AsyncIterator[Bytes]: ...
    async def __anext__(self) -> Bytes: ...
    async def aclose(self) -> None: ...


@dataclass(slots=True)
class RawObject:
    """An open object. ``body`` gives exactly the bytes ``start`` to ``stop`` of it, or
    raises; whoever receives the record closes the body."""

    info: ObjectInfo
    body: Chunks
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Features:
    """What a backend is like, resolved once when it is opened. ``None``: no limit."""

    flat_keys: bool = True
    """Key ``a`` can stand beside key ``a/b``."""
    ordered_listing: bool = True
    """Listings come in the order of the keys' UTF-8 bytes."""
    listing_has_metadata: bool = False
    """Entries of a listing equal what ``head`` says."""
    late_metadata: bool = False
    """``PutOptions.late`` is always asked, whatever the size of the body."""
    case_insensitive: bool = False
    eventual: bool = False
    """A listing may lag behind a write."""
    ready: bool = False
    """Usable without ``open``."""
    conditional: frozenset[Literal["create", "match"]] = frozenset()
    """``create``: if_none_match="*" on put and copy; ``match``: if_match on put and delete."""
    min_part_size: int | None = None
    max_part_size: int | None = None
    max_parts: int | None = None
    parts_in_order: bool = False
    """Parts must be uploaded in rising order, one at a time."""
    atomic_overwrite: bool = True
    """An object that is replaced is never missing; else it may be for a moment."""
    max_metadata: int | None = None
    """Bytes of all names and values together."""
    decided: bool = False
    """A verb that has raised, or was cancelled, changes nothing any more; else the backend may
    still be about to carry it out."""
    native: frozenset[str] = field(default_factory=frozenset)
    """Verbs the backend does itself ("copy", "move", "delete_many", "watch", ...)."""


@runtime_checkable
class Driver(Protocol):
    """Every method may be cancelled at every await: the object is then old or new, never
    torn, and nothing is left behind. ``close`` twice is fine."""

    @property
    def name(self) -> str: ...
    @property
    def features(self) -> Features: ...

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def ping(self) -> None: ...

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        """Pulls ``body`` to its end, then publishes body and metadata together. Never
        closes the body, and no task of the driver pulls it any more when this returns or
        raises. An error raised by the body passes through unchanged."""
        ...

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject: ...
    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo: ...

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """A missing key is no error (with ``if_match`` it is PreconditionFailedError)."""
        ...

    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        """Objects and prefixes together are at most ``page_size``."""
        ...

    async def copy(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        """Atomic for readers of the target, also when source and target are the same."""
        ...

    async def create_bucket(self, name: str, options: BucketOptions) -> None: ...

    async def delete_bucket(self, name: str) -> None:
        """Refuses a bucket that holds objects; unfinished uploads go with it."""
        ...

    async def list_buckets(self) -> builtins.list[BucketInfo]: ...
