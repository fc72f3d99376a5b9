"""Mutants of multipart uploads, versions, lifecycle rules, events, and of what is declared."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from trove_async._chunks import OneChunk
from trove_async.driver import Chunks, DeleteOptions, Features, PutOptions
from trove_async.driver.events import EventQueue
from trove_async.driver.options import WatchOptions
from trove_async.drivers.memory import MemoryDriver
from trove_async.drivers.memory.state import Bucket, Upload
from trove_async.errors import UploadNotFoundError
from trove_async.model import (
    EventType,
    LifecycleRule,
    ObjectInfo,
    PartInfo,
    VersionInfo,
)
from trove_async.testing.mutants.mutant import Mutant

__all__ = ["SERVICES"]


class PartsInOrderOfArrival(MemoryDriver):
    def __init__(self) -> None:
        super().__init__()
        self._came: dict[str, builtins.list[int]] = {}

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        self._came.setdefault(upload_id, []).append(number)
        return await super().upload_part(bucket, key, upload_id, number, body, size)

    async def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: PutOptions
    ) -> ObjectInfo:
        upload = self._upload(bucket, key, upload_id)
        arrived = dict.fromkeys(self._came.get(upload_id, []))
        data = [upload.parts[number][0] for number in arrived if number in upload.parts]
        kept = dict(upload.parts)
        numbers = sorted(kept)
        for number, piece in zip(numbers, data, strict=False):
            upload.parts[number] = (piece, kept[number][1])
        return await super().complete_multipart(bucket, key, upload_id, parts, options)


class PartsAreVisible(MemoryDriver):
    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        part = await super().upload_part(bucket, key, upload_id, number, body, size)
        data = self._upload(bucket, key, upload_id).parts[number][0]
        await self.put(bucket, key, OneChunk(data), PutOptions())
        return part


class PartTagsIgnored(MemoryDriver):
    async def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: PutOptions
    ) -> ObjectInfo:
        upload = self._upload(bucket, key, upload_id)
        trusted = [
            replace(part, etag=upload.parts.get(part.number, (b"", part.etag))[1]) for part in parts
        ]
        return await super().complete_multipart(bucket, key, upload_id, trusted, options)


class UploadsOfAnyKey(MemoryDriver):
    def _upload(self, bucket: str, key: str, upload_id: str) -> Upload:
        upload = self._bucket(bucket).uploads.get(upload_id)
        if upload is None:
            raise UploadNotFoundError("no such upload", bucket=bucket, key=key)
        return upload


class AbortForgetsNothing(MemoryDriver):
    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        self._upload(bucket, key, upload_id)


class UploadForgetsMetadata(MemoryDriver):
    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        return await super().initiate_multipart(bucket, key, PutOptions())


class CompleteIgnoresConditions(MemoryDriver):
    async def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: PutOptions
    ) -> ObjectInfo:
        blind = replace(options, if_match=None, if_none_match=None)
        return await super().complete_multipart(bucket, key, upload_id, parts, blind)


class UploadsOutliveTheBucket(MemoryDriver):
    def __init__(self) -> None:
        super().__init__()
        self._orphans: dict[str, Upload] = {}

    async def delete_bucket(self, name: str) -> None:
        self._orphans = dict(self._bucket(name).uploads)
        await super().delete_bucket(name)

    def _bucket(self, name: str) -> Bucket:
        place = super()._bucket(name)
        place.uploads.update(self._orphans)
        return place


class OldestVersionFirst(MemoryDriver):
    async def list_versions(self, bucket: str, key: str) -> builtins.list[VersionInfo]:
        return (await super().list_versions(bucket, key))[::-1]


class RestoreForgetsMetadata(MemoryDriver):
    async def restore_version(self, bucket: str, key: str, version_id: str) -> ObjectInfo:
        stored = self._version(self._bucket(bucket), key, version_id)
        kept = {k: v for k, v in stored.info.metadata.items() if k.startswith("trove")}
        return self._store(
            self._bucket(bucket), key, stored.data or b"", stored.info.content_type, kept, None, {}
        )


class NoDeleteMarkers(MemoryDriver):
    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        await super().delete(bucket, key, options)
        if options.version_id is None:
            self._bucket(bucket).past.pop(key, None)


class ExpiresEverything(MemoryDriver):
    """Lifecycle rules apply whatever their prefix."""

    def _expire(self, place: Bucket) -> None:
        rules, place.rules = place.rules, [replace(rule, prefix="") for rule in place.rules]
        try:
            super()._expire(place)
        finally:
            place.rules = rules


class RulesAddUp(MemoryDriver):
    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        await super().set_lifecycle(bucket, [*self._bucket(bucket).rules, *rules])


class _Silent(EventQueue):
    """What does not fit is thrown away without a word."""

    def push(self, kind: EventType, key: str, info: ObjectInfo | None) -> None:
        if len(self._events) < self._limit:
            super().push(kind, key, info)


class OverflowInSilence(MemoryDriver):
    async def watch(self, bucket: str, options: WatchOptions) -> EventQueue:
        queue = await super().watch(bucket, options)
        queue.__class__ = _Silent
        return queue


class WatchIgnoresPrefix(MemoryDriver):
    async def watch(self, bucket: str, options: WatchOptions) -> EventQueue:
        return await super().watch(bucket, replace(options, prefix=""))


class WatchShowsStaging(MemoryDriver):
    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        self._bucket(bucket).notify("object.created", f".tmp-{key}", None)
        return await super().put(bucket, key, body, options)


class WatchSeesNoDeletes(MemoryDriver):
    async def watch(self, bucket: str, options: WatchOptions) -> EventQueue:
        seen = frozenset({"object.created", "object.updated"})
        return await super().watch(bucket, replace(options, events=options.events or seen))


class SaysNativeMove(MemoryDriver):
    """Declares what it does not have."""

    features: Features = replace(MemoryDriver.features, native=frozenset({"delete_many", "move"}))
    delete_many = None  # type: ignore[assignment] # what is broken here


SERVICES: Final = (
    Mutant("parts in order of arrival", PartsInOrderOfArrival, ("K198",)),
    Mutant("parts are visible", PartsAreVisible, ("K213", "K173")),
    Mutant("part tags ignored", PartTagsIgnored, ("K201", "K202")),
    Mutant("uploads of any key", UploadsOfAnyKey, ("K209",)),
    Mutant("abort forgets nothing", AbortForgetsNothing, ("K205", "K217", "K173")),
    Mutant("upload forgets metadata", UploadForgetsMetadata, ("K214",)),
    Mutant("complete ignores conditions", CompleteIgnoresConditions, ("K214",)),
    Mutant("uploads outlive the bucket", UploadsOutliveTheBucket, ("K142",)),
    Mutant("oldest version first", OldestVersionFirst, ("K225", "K228")),
    Mutant("restore forgets metadata", RestoreForgetsMetadata, ("K229",)),
    Mutant("no delete markers", NoDeleteMarkers, ("K226",)),
    Mutant("expires everything", ExpiresEverything, ("K231",)),
    Mutant("lifecycle rules add up", RulesAddUp, ("K230",)),
    Mutant("overflow in silence", OverflowInSilence, ("K236",)),
    Mutant("watch ignores its prefix", WatchIgnoresPrefix, ("K234",)),
    Mutant("watch shows staging", WatchShowsStaging, ("K233", "K237")),
    Mutant("watch sees no deletes", WatchSeesNoDeletes, ("K233",)),
    Mutant("says what it has not", SaysNativeMove, ("K196",)),
)
