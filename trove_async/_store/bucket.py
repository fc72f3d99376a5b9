"""A bucket as a handle: every verb of the store without its bucket argument."""

from __future__ import annotations

import builtins
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Unpack

from trove_async._opening import Opening
from trove_async._store.reader import ObjectReader
from trove_async._store.streaming import Streaming
from trove_async._store.watching import Watching
from trove_async.model import (
    CommonPrefix,
    DeleteResult,
    LifecycleRule,
    MiB,
    ObjectInfo,
    ObjectPage,
    PresignedRequest,
    Seconds,
    VersionInfo,
)
from trove_async.stream.settings import StreamDirection

if TYPE_CHECKING:
    from trove_async._transfers.progress import OnProgress
    from trove_async.stream.arguments import StreamArguments
    from trove_async.stream.stream import Stream

if TYPE_CHECKING:
    from trove_async.vfs import FileSystem

__all__ = ["Bucket"]


class Bucket:
    """Meanings and limits are those of the store's verbs of the same names."""

    __slots__ = ("_store", "name")

    def __init__(self, store: Streaming, name: str) -> None:
        self._store = store
        self.name = name

    def __repr__(self) -> str:
        return f"<Bucket {self.name!r} of {self._store!r}>"

    def vfs(self) -> FileSystem:
        """Files and directories over the keys of this bucket."""
        from trove_async.vfs import FileSystem

        return FileSystem(self._store, self.name)

    async def create_bucket(self, *, region: str | None = None) -> None:
        await self._store.create_bucket(self.name, region=region)

    async def delete_bucket(self, *, force: bool = False) -> None:
        await self._store.delete_bucket(self.name, force=force)

    async def put(
        self,
        key: str,
        body: object,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        storage_class: str | None = None,
        size: int | None = None,
        checksum: str | None = None,
        if_none_match: str | None = None,
        if_match: str | None = None,
        raw: bool = False,
        part_size: int | None = None,
        concurrency: int | None = None,
    ) -> ObjectInfo:
        return await self._store.put(
            self.name,
            key,
            body,
            content_type=content_type,
            metadata=metadata,
            tags=tags,
            storage_class=storage_class,
            size=size,
            checksum=checksum,
            if_none_match=if_none_match,
            if_match=if_match,
            raw=raw,
            part_size=part_size,
            concurrency=concurrency,
        )

    def get(
        self,
        key: str,
        *,
        range: slice | None = None,
        version_id: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        if_modified_since: datetime | None = None,
        raw: bool = False,
    ) -> Opening[ObjectReader]:
        return self._store.get(
            self.name,
            key,
            range=range,
            version_id=version_id,
            if_match=if_match,
            if_none_match=if_none_match,
            if_modified_since=if_modified_since,
            raw=raw,
        )

    async def get_bytes(
        self, key: str, *, range: slice | None = None, version_id: str | None = None
    ) -> bytes:
        return await self._store.get_bytes(self.name, key, range=range, version_id=version_id)

    async def get_ranges(
        self, key: str, ranges: Sequence[slice], *, coalesce: int = MiB, concurrency: int = 10
    ) -> builtins.list[bytes]:
        return await self._store.get_ranges(
            self.name, key, ranges, coalesce=coalesce, concurrency=concurrency
        )

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        return await self._store.head(self.name, key, version_id=version_id)

    async def exists(self, key: str) -> bool:
        return await self._store.exists(self.name, key)

    async def delete(
        self, key: str, *, version_id: str | None = None, if_match: str | None = None
    ) -> None:
        await self._store.delete(self.name, key, version_id=version_id, if_match=if_match)

    async def delete_many(self, keys: Sequence[str]) -> builtins.list[DeleteResult]:
        return await self._store.delete_many(self.name, keys)

    def list(
        self,
        *,
        prefix: str = "",
        delimiter: str | None = None,
        start_after: str | None = None,
        limit: int | None = None,
        page_size: int = 1000,
        resolve: bool = False,
    ) -> AsyncGenerator[ObjectInfo | CommonPrefix, None]:
        return self._store.list(
            self.name,
            prefix=prefix,
            delimiter=delimiter,
            start_after=start_after,
            limit=limit,
            page_size=page_size,
            resolve=resolve,
        )

    async def list_page(
        self,
        *,
        prefix: str = "",
        delimiter: str | None = None,
        start_after: str | None = None,
        page_size: int = 1000,
        cursor: str | None = None,
    ) -> ObjectPage:
        return await self._store.list_page(
            self.name,
            prefix=prefix,
            delimiter=delimiter,
            start_after=start_after,
            page_size=page_size,
            cursor=cursor,
        )

    async def copy(
        self,
        key: str,
        dst_key: str,
        *,
        dst_bucket: str | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        if_none_match: str | None = None,
        if_match: str | None = None,
        raw: bool = False,
    ) -> ObjectInfo:
        """Within this bucket unless ``dst_bucket`` names another."""
        return await self._store.copy(
            self.name,
            key,
            self.name if dst_bucket is None else dst_bucket,
            dst_key,
            metadata=metadata,
            content_type=content_type,
            if_none_match=if_none_match,
            if_match=if_match,
            raw=raw,
        )

    async def move(
        self,
        key: str,
        dst_key: str,
        *,
        dst_bucket: str | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        if_none_match: str | None = None,
    ) -> ObjectInfo:
        """Within this bucket unless ``dst_bucket`` names another."""
        return await self._store.move(
            self.name,
            key,
            self.name if dst_bucket is None else dst_bucket,
            dst_key,
            metadata=metadata,
            content_type=content_type,
            if_none_match=if_none_match,
        )

    async def versions(self, key: str) -> builtins.list[VersionInfo]:
        return await self._store.versions(self.name, key)

    async def restore(self, key: str, version_id: str) -> ObjectInfo:
        return await self._store.restore(self.name, key, version_id)

    async def get_tags(self, key: str) -> dict[str, str]:
        return await self._store.get_tags(self.name, key)

    async def set_tags(self, key: str, tags: Mapping[str, str]) -> None:
        await self._store.set_tags(self.name, key, tags)

    async def get_lifecycle(self) -> builtins.list[LifecycleRule]:
        return await self._store.get_lifecycle(self.name)

    async def set_lifecycle(self, rules: Sequence[LifecycleRule]) -> None:
        await self._store.set_lifecycle(self.name, rules)

    async def presign_get(
        self,
        key: str,
        *,
        expires: Seconds = 900.0,
        content_type: str | None = None,
        filename: str | None = None,
    ) -> PresignedRequest:
        return await self._store.presign_get(
            self.name, key, expires=expires, content_type=content_type, filename=filename
        )

    async def presign_put(
        self,
        key: str,
        *,
        expires: Seconds = 900.0,
        content_type: str | None = None,
        size: int | None = None,
        checksum: str | None = None,
    ) -> PresignedRequest:
        return await self._store.presign_put(
            self.name, key, expires=expires, content_type=content_type, size=size, checksum=checksum
        )

    async def upload(
        self,
        key: str,
        path: str | os.PathLike[str],
        *,
        resumable: bool = False,
        on_progress: OnProgress | None = None,
        part_size: int | None = None,
        concurrency: int | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        storage_class: str | None = None,
        checksum: str | None = None,
        if_none_match: str | None = None,
        if_match: str | None = None,
    ) -> ObjectInfo:
        return await self._store.upload(
            self.name,
            key,
            path,
            resumable=resumable,
            on_progress=on_progress,
            part_size=part_size,
            concurrency=concurrency,
            content_type=content_type,
            metadata=metadata,
            tags=tags,
            storage_class=storage_class,
            checksum=checksum,
            if_none_match=if_none_match,
            if_match=if_match,
        )

    async def download(
        self,
        key: str,
        path: str | os.PathLike[str],
        *,
        resumable: bool = False,
        on_progress: OnProgress | None = None,
        concurrency: int | None = None,
    ) -> ObjectInfo:
        return await self._store.download(
            self.name,
            key,
            path,
            resumable=resumable,
            on_progress=on_progress,
            concurrency=concurrency,
        )

    def stream(
        self,
        key: str,
        direction: StreamDirection,
        *,
        pool: str | None = None,
        **options: Unpack[StreamArguments],
    ) -> Opening[Stream]:
        return self._store.stream(self.name, key, direction, pool=pool, **options)

    def watch(
        self, *, prefix: str = "", events: Sequence[str] | None = None, poll: Seconds | None = None
    ) -> Watching:
        return self._store.watch(self.name, prefix=prefix, events=events, poll=poll)
