"""The verbs by which objects go, where they may own something: each is asked of the backend
between a look at what will be gone and its giving up."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from trove_async._store.backend import Backend
from trove_async._store.owned import Opened, Ownership
from trove_async._together import side_by_side
from trove_async.driver.base import Chunks, Driver
from trove_async.driver.capabilities import (
    BatchDeleteDriver,
    MoveDriver,
    MultipartDriver,
    VersioningDriver,
)
from trove_async.driver.options import CopyOptions, DeleteOptions, PutOptions
from trove_async.model import DeleteResult, ObjectInfo, ObjectRef, PartInfo

__all__ = ["account"]


def account(ownership: Ownership, backend: Backend) -> None:
    """From now on the backend's verbs are those below. `Backend.resolve` undoes it."""
    backend.writer = _Writer(ownership, backend, backend.driver)
    if backend.batch is not None:
        backend.batch = _Batch(ownership, backend, backend.batch)
    if backend.mover is not None:
        backend.mover = _Mover(ownership, backend, backend.mover)
    if backend.multipart is not None:
        backend.multipart = _Multipart(ownership, backend, backend.multipart)
    if backend.versioning is not None:
        backend.versioning = _Versioning(ownership, backend, backend.versioning)


class _Writer:
    def __init__(self, ownership: Ownership, backend: Backend, driver: Driver) -> None:
        self._ownership = ownership
        self._backend = backend
        self._driver = driver

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        own = self._ownership
        before = await own.before(self._backend, bucket, key)
        info = await self._driver.put(bucket, key, body, options)
        await own.after(self._backend, before, own.owner_of(options.metadata))
        return info

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        own = self._ownership
        before = await own.before(self._backend, bucket, key, options.version_id)
        await self._driver.delete(bucket, key, options)
        await own.after(self._backend, before, None)

    async def copy(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        own = self._ownership
        before = await own.before(self._backend, target.bucket, target.key)
        info = await self._driver.copy(source, target, options)
        if options.metadata is not None:
            owner = own.owner_of(options.metadata)
        else:  # as at the source; elsewhere no two objects have one owner
            owner = before.owner if before is not None and source == target else None
        await own.after(self._backend, before, owner)
        return info


class _Batch:
    def __init__(self, ownership: Ownership, backend: Backend, inner: BatchDeleteDriver) -> None:
        self._ownership = ownership
        self._backend = backend
        self._inner = inner

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> builtins.list[DeleteResult]:
        async def look(key: str) -> Opened | None:
            return await self._ownership.before(self._backend, bucket, key)

        async def let_go(before: Opened | None) -> None:
            await self._ownership.after(self._backend, before, None)

        every = await side_by_side(keys, look)
        results = await self._inner.delete_many(bucket, keys)
        gone = {result.key for result in results if result.error is None}
        await side_by_side(
            [found for key, found in zip(keys, every, strict=True) if key in gone and found], let_go
        )
        return results


class _Mover:
    def __init__(self, ownership: Ownership, backend: Backend, inner: MoveDriver) -> None:
        self._ownership = ownership
        self._backend = backend
        self._inner = inner

    async def move(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        own = self._ownership
        leaving = await own.before(self._backend, source.bucket, source.key)
        before = await own.before(self._backend, target.bucket, target.key)
        info = await self._inner.move(source, target, options)
        owner = None if options.metadata is None else own.owner_of(options.metadata)
        await own.after(self._backend, before, owner)
        await own.after(self._backend, leaving, None)
        return info


class _Multipart:
    """Nothing is gone before an upload is completed; the rest is the backend's own."""

    def __init__(self, ownership: Ownership, backend: Backend, inner: MultipartDriver) -> None:
        self._ownership = ownership
        self._backend = backend
        self._inner = inner
        self.initiate_multipart = inner.initiate_multipart
        self.upload_part = inner.upload_part
        self.abort_multipart = inner.abort_multipart
        self.list_parts = inner.list_parts
        self.list_uploads = inner.list_uploads

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[PartInfo],
        options: PutOptions,
    ) -> ObjectInfo:
        own = self._ownership
        before = await own.before(self._backend, bucket, key)
        info = await self._inner.complete_multipart(bucket, key, upload_id, parts, options)
        await own.after(self._backend, before, own.owner_of(options.metadata))
        return info


class _Versioning:
    def __init__(self, ownership: Ownership, backend: Backend, inner: VersioningDriver) -> None:
        self._ownership = ownership
        self._backend = backend
        self._inner = inner
        self.list_versions = inner.list_versions
        self.get_version = inner.get_version

    async def delete_version(self, bucket: str, key: str, version_id: str) -> None:
        own = self._ownership
        before = await own.before(self._backend, bucket, key, version_id)
        await self._inner.delete_version(bucket, key, version_id)
        await own.after(self._backend, before, None)

    async def restore_version(self, bucket: str, key: str, version_id: str) -> ObjectInfo:
        """The new version has the owner of the one it was made from; both must be gone before
        that is given up."""
        own = self._ownership
        before = await own.before(self._backend, bucket, key)
        info = await self._inner.restore_version(bucket, key, version_id)
        await own.after(self._backend, before, own.owner_of(info.metadata))
        return info
