"""What deduplication needs of content-addressed storage; a `CAS` fits it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Protocol

from trove_async.model import ObjectInfo

__all__ = ["Blobs", "Content", "StoredContent"]


class StoredContent(Protocol):
    @property
    def digest(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def deduplicated(self) -> bool: ...


class Content(Protocol):
    """Open content; whole, it is checked against its digest before its last byte."""

    @property
    def info(self) -> ObjectInfo: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None: ...


class Blobs(Protocol):
    @property
    def bucket(self) -> str:
        """Where it keeps what it stores: nothing there is deduplicated."""
        ...

    async def store(self, body: object, *, owner: str) -> StoredContent: ...

    def retrieve(self, digest: str, *, range: slice | None = None) -> Awaitable[Content]: ...

    async def retain(self, digest: str, *, owner: str) -> None:
        """Counts the owner once for content that is there; BlobNotFoundError."""
        ...

    async def release(self, digest: str, *, owner: str) -> None: ...

    def owners(self, prefix: str) -> AsyncIterator[tuple[str, str]]:
        """(owner, digest) of every reference whose owner begins so, in the order of owners."""
        ...
