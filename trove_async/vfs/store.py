"""What a file system needs of the store below it; `Trove` is one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from typing import Protocol

from trove_async.driver.base import Features
from trove_async.model import CommonPrefix, DeleteResult, ObjectInfo

__all__ = ["Reader", "Store"]


class Reader(Protocol):
    """An open object."""

    @property
    def info(self) -> ObjectInfo: ...
    async def read(self, n: int = -1) -> bytes: ...
    async def aclose(self) -> None: ...


class Store(Protocol):
    def get(
        self,
        bucket: str | None,
        key: str,
        *,
        range: slice | None = None,
        if_match: str | None = None,
    ) -> Awaitable[Reader]: ...

    async def get_bytes(self, bucket: str | None, key: str) -> bytes: ...

    async def put(
        self,
        bucket: str | None,
        key: str,
        body: object,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        if_none_match: str | None = None,
        if_match: str | None = None,
    ) -> ObjectInfo: ...

    async def head(self, bucket: str | None, key: str) -> ObjectInfo: ...

    async def delete(self, bucket: str | None, key: str) -> None: ...

    async def delete_many(self, bucket: str | None, keys: Sequence[str]) -> list[DeleteResult]: ...

    def list(
        self,
        bucket: str | None,
        *,
        prefix: str = "",
        delimiter: str | None = None,
        start_after: str | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[ObjectInfo | CommonPrefix, None]: ...

    async def copy(
        self,
        src_bucket: str | None,
        src_key: str,
        dst_bucket: str | None,
        dst_key: str,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        if_match: str | None = None,
    ) -> ObjectInfo: ...

    async def move(
        self, src_bucket: str | None, src_key: str, dst_bucket: str | None, dst_key: str
    ) -> ObjectInfo: ...

    def features(self, bucket: str | None, key: str) -> Features:
        """What the backend of a key can do."""
        ...
