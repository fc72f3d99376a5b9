"""Capabilities with faults: one mixin per protocol, put together as the inner driver has them."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TypeVar

from trove_async.driver import (
    BatchDeleteDriver,
    ByteRange,
    Chunks,
    CopyOptions,
    Driver,
    Events,
    GetOptions,
    LifecycleDriver,
    MoveDriver,
    MultipartDriver,
    NotificationDriver,
    PresignDriver,
    PutOptions,
    RangeDriver,
    RawObject,
    ServerCopyDriver,
    TaggingDriver,
    VersioningDriver,
    WatchOptions,
    capability,
)
from trove_async.model import (
    DeleteResult,
    LifecycleRule,
    ObjectInfo,
    ObjectRef,
    PartInfo,
    PresignedRequest,
    UploadInfo,
    VersionInfo,
)
from trove_async.testing.faults import Fault, FaultyDriver

__all__ = ["faulty"]

C = TypeVar("C")


class _Capable(FaultyDriver):
    def _able(self, protocol: type[C]) -> C:
        found = capability(self.inner, protocol)
        assert found is not None, "composed for a driver that has it"
        return found


class _Multipart(_Capable):
    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        able = self._able(MultipartDriver)
        return await self._call(
            "initiate_multipart", key, lambda: able.initiate_multipart(bucket, key, options)
        )

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        able = self._able(MultipartDriver)
        return await self._call(
            "upload_part",
            key,
            lambda: able.upload_part(bucket, key, upload_id, number, body, size),
        )

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[PartInfo],
        options: PutOptions,
    ) -> ObjectInfo:
        able = self._able(MultipartDriver)
        return await self._call(
            "complete_multipart",
            key,
            lambda: able.complete_multipart(bucket, key, upload_id, parts, options),
        )

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        able = self._able(MultipartDriver)
        await self._call(
            "abort_multipart", key, lambda: able.abort_multipart(bucket, key, upload_id)
        )

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> builtins.list[PartInfo]:
        able = self._able(MultipartDriver)
        return await self._call("list_parts", key, lambda: able.list_parts(bucket, key, upload_id))

    async def list_uploads(self, bucket: str, prefix: str) -> builtins.list[UploadInfo]:
        able = self._able(MultipartDriver)
        return await self._call("list_uploads", prefix, lambda: able.list_uploads(bucket, prefix))


class _Ranges(_Capable):
    async def get_ranges(
        self, bucket: str, key: str, ranges: Sequence[ByteRange], options: GetOptions
    ) -> builtins.list[bytes]:
        able = self._able(RangeDriver)
        return await self._call(
            "get_ranges", key, lambda: able.get_ranges(bucket, key, ranges, options)
        )


class _Presign(_Capable):
    async def presign_get(
        self, bucket: str, key: str, expires: float, headers: Mapping[str, str]
    ) -> PresignedRequest:
        able = self._able(PresignDriver)
        return await self._call(
            "presign_get", key, lambda: able.presign_get(bucket, key, expires, headers)
        )

    async def presign_put(
        self, bucket: str, key: str, expires: float, headers: Mapping[str, str]
    ) -> PresignedRequest:
        able = self._able(PresignDriver)
        return await self._call(
            "presign_put", key, lambda: able.presign_put(bucket, key, expires, headers)
        )


class _Versioning(_Capable):
    async def list_versions(self, bucket: str, key: str) -> builtins.list[VersionInfo]:
        able = self._able(VersioningDriver)
        return await self._call("list_versions", key, lambda: able.list_versions(bucket, key))

    async def get_version(
        self, bucket: str, key: str, version_id: str, options: GetOptions
    ) -> RawObject:
        able = self._able(VersioningDriver)
        return await self._opened(
            "get_version", key, lambda: able.get_version(bucket, key, version_id, options)
        )

    async def delete_version(self, bucket: str, key: str, version_id: str) -> None:
        able = self._able(VersioningDriver)
        await self._call(
            "delete_version", key, lambda: able.delete_version(bucket, key, version_id)
        )

    async def restore_version(self, bucket: str, key: str, version_id: str) -> ObjectInfo:
        able = self._able(VersioningDriver)
        return await self._call(
            "restore_version", key, lambda: able.restore_version(bucket, key, version_id)
        )


class _Notification(_Capable):
    async def watch(self, bucket: str, options: WatchOptions) -> Events:
        able = self._able(NotificationDriver)

        async def ended(events: Events) -> None:
            await events.aclose()

        return await self._call("watch", bucket, lambda: able.watch(bucket, options), ended)


class _Lifecycle(_Capable):
    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        able = self._able(LifecycleDriver)
        await self._call("set_lifecycle", bucket, lambda: able.set_lifecycle(bucket, rules))

    async def get_lifecycle(self, bucket: str) -> builtins.list[LifecycleRule]:
        able = self._able(LifecycleDriver)
        return await self._call("get_lifecycle", bucket, lambda: able.get_lifecycle(bucket))


class _ServerCopy(_Capable):
    async def server_copy(
        self, source: ObjectRef, target: ObjectRef, options: CopyOptions
    ) -> ObjectInfo:
        able = self._able(ServerCopyDriver)
        return await self._call(
            "server_copy", source.key, lambda: able.server_copy(source, target, options)
        )


class _Move(_Capable):
    async def move(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        able = self._able(MoveDriver)
        return await self._call("move", source.key, lambda: able.move(source, target, options))


class _BatchDelete(_Capable):
    async def delete_many(self, bucket: str, keys: Sequence[str]) -> builtins.list[DeleteResult]:
        able = self._able(BatchDeleteDriver)
        return await self._call("delete_many", bucket, lambda: able.delete_many(bucket, keys))


class _Tagging(_Capable):
    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        able = self._able(TaggingDriver)
        return await self._call("get_tags", key, lambda: able.get_tags(bucket, key))

    async def set_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        able = self._able(TaggingDriver)
        await self._call("set_tags", key, lambda: able.set_tags(bucket, key, tags))


_MIXINS: dict[type[object], type[FaultyDriver]] = {
    MultipartDriver: _Multipart,
    RangeDriver: _Ranges,
    PresignDriver: _Presign,
    VersioningDriver: _Versioning,
    NotificationDriver: _Notification,
    LifecycleDriver: _Lifecycle,
    ServerCopyDriver: _ServerCopy,
    MoveDriver: _Move,
    BatchDeleteDriver: _BatchDelete,
    TaggingDriver: _Tagging,
}
"""Every capability protocol; a test checks that none is missing."""


@cache
def _composed(mixins: tuple[type[FaultyDriver], ...]) -> type[FaultyDriver]:
    return type("FaultyDriver", (*mixins, FaultyDriver), {})


def faulty(inner: Driver, *faults: Fault, yields: bool = False) -> FaultyDriver:
    """A `FaultyDriver` whose capabilities are exactly those of ``inner``, with faults too."""
    mixins = tuple(
        mixin for protocol, mixin in _MIXINS.items() if capability(inner, protocol) is not None
    )
    return _composed(mixins)(inner, *faults, yields=yields)
