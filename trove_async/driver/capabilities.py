"""What some backends can do beyond the contract, one small protocol each.

`capability` finds them also behind a driver that wraps another one. A wrapper that
changes what a capability would give must implement it itself.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import Protocol, Self, TypeVar, runtime_checkable

from trove_async.driver.base import Chunks, RawObject
from trove_async.driver.options import (
    ByteRange,
    CopyOptions,
    GetOptions,
    PutOptions,
    WatchOptions,
)
from trove_async.model import (
    DeleteResult,
    LifecycleRule,
    ObjectEvent,
    ObjectInfo,
    ObjectRef,
    PartInfo,
    PresignedRequest,
    UploadInfo,
    VersionInfo,
)

__all__ = [
    "BatchDeleteDriver",
    "Events",
    "LifecycleDriver",
    "MoveDriver",
    "MultipartDriver",
    "NotificationDriver",
    "PresignDriver",
    "RangeDriver",
    "ServerCopyDriver",
    "TaggingDriver",
    "VersioningDriver",
    "capability",
]


class Events(Protocol):
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> ObjectEvent: ...
    async def aclose(self) -> None: ...


@runtime_checkable
class MultipartDriver(Protocol):
    """Nothing of an upload is visible before ``complete_multipart`` returns."""

    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str: ...

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        """A part sent twice counts once, the last one whole."""
        ...

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[PartInfo],
        options: PutOptions,
    ) -> ObjectInfo:
        """``parts`` in rising order; its ``options`` carry conditions and late metadata."""
        ...

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None: ...

    async def list_parts(
        self, bucket: str, key: str, upload_id: str
    ) -> builtins.list[PartInfo]: ...

    async def list_uploads(self, bucket: str, prefix: str) -> builtins.list[UploadInfo]: ...


@runtime_checkable
class RangeDriver(Protocol):
    async def get_ranges(
        self, bucket: str, key: str, ranges: Sequence[ByteRange], options: GetOptions
    ) -> builtins.list[bytes]:
        """All ranges of one version of the object, in the order asked."""
        ...


@runtime_checkable
class PresignDriver(Protocol):
    """A header the backend cannot bind is an UnsupportedError."""

    async def presign_get(
        self, bucket: str, key: str, expires: float, headers: Mapping[str, str]
    ) -> PresignedRequest: ...

    async def presign_put(
        self, bucket: str, key: str, expires: float, headers: Mapping[str, str]
    ) -> PresignedRequest: ...


@runtime_checkable
class VersioningDriver(Protocol):
    async def list_versions(self, bucket: str, key: str) -> builtins.list[VersionInfo]:
        """Newest first, delete markers included; empty for a key that never was."""
        ...

    async def get_version(
        self, bucket: str, key: str, version_id: str, options: GetOptions
    ) -> RawObject: ...

    async def delete_version(self, bucket: str, key: str, version_id: str) -> None: ...

    async def restore_version(self, bucket: str, key: str, version_id: str) -> ObjectInfo:
        """Makes a new latest version with the bytes and metadata of that one."""
        ...


@runtime_checkable
class NotificationDriver(Protocol):
    async def watch(self, bucket: str, options: WatchOptions) -> Events:
        """Returns once the watch stands: what happens after is seen."""
        ...


@runtime_checkable
class LifecycleDriver(Protocol):
    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None: ...
    async def get_lifecycle(self, bucket: str) -> builtins.list[LifecycleRule]: ...


@runtime_checkable
class ServerCopyDriver(Protocol):
    async def server_copy(
        self, source: ObjectRef, target: ObjectRef, options: CopyOptions
    ) -> ObjectInfo: ...


@runtime_checkable
class MoveDriver(Protocol):
    async def move(
        self, source: ObjectRef, target: ObjectRef, options: CopyOptions
    ) -> ObjectInfo: ...


@runtime_checkable
class BatchDeleteDriver(Protocol):
    async def delete_many(
        self, bucket: str, keys: Sequence[str]
    ) -> builtins.list[DeleteResult]: ...


@runtime_checkable
class TaggingDriver(Protocol):
    async def get_tags(self, bucket: str, key: str) -> dict[str, str]: ...
    async def set_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> None: ...


C = TypeVar("C")


def capability(driver: object, protocol: type[C]) -> C | None:
    """``driver``, or the driver it wraps (``.inner``), that has the capability."""
    seen: object | None = driver
    while seen is not None:
        if isinstance(seen, protocol):
            return seen
        seen = getattr(seen, "inner", None)
    return None
