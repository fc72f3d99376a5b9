"""Mutants of single objects: keys, bodies, metadata, ranges, copies, conditions."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import unquote

from trove_async._chunks import OneChunk, collect
from trove_async.driver import (
    BucketOptions,
    ByteRange,
    Chunks,
    CopyOptions,
    DeleteOptions,
    GetOptions,
    HeadOptions,
    PutOptions,
    RawObject,
)
from trove_async.driver.conditions import check_write
from trove_async.drivers.memory import MemoryDriver
from trove_async.drivers.memory.state import Bucket, Stored
from trove_async.errors import ObjectNotFoundError
from trove_async.model import ObjectInfo, ObjectRef
from trove_async.testing.mutants.mutant import Mutant

__all__ = ["OBJECTS"]


def renaming(rename: Callable[[str], str]) -> type[MemoryDriver]:
    """Keys arrive changed."""

    class Renaming(MemoryDriver):
        async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
            return await super().put(bucket, rename(key), body, options)

        async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
            return await super().get(bucket, rename(key), options)

        async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
            return await super().head(bucket, rename(key), options)

    return Renaming


class DropsMetadata(MemoryDriver):
    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        return await super().put(bucket, key, body, replace(options, metadata={}, late=None))


class MergesMetadata(MemoryDriver):
    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        try:
            old = (await self.head(bucket, key, HeadOptions())).metadata
        except ObjectNotFoundError:
            old = {}
        merged = {**old, **options.metadata}
        return await super().put(bucket, key, body, replace(options, metadata=merged))


class ForgetsContentType(MemoryDriver):
    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        plain = replace(options, content_type="application/octet-stream")
        return await super().put(bucket, key, body, plain)


class EtagOfSize(MemoryDriver):
    def _store(
        self,
        place: Bucket,
        key: str,
        data: bytes,
        content_type: str,
        metadata: dict[str, str],
        storage_class: str | None,
        tags: Mapping[str, str],
    ) -> ObjectInfo:
        info = super()._store(place, key, data, content_type, metadata, storage_class, tags)
        info = replace(info, etag=f"{len(data)}")
        place.objects[key] = Stored(info, data, tags)
        return info


class LosesTheEnd(MemoryDriver):
    """The last byte of large bodies."""

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        data = await collect(body)
        cut = data[:-1] if len(data) > 100_000 else data
        return await super().put(bucket, key, OneChunk(cut), options)


class RangeOffByOne(MemoryDriver):
    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        wanted = options.range
        if wanted is not None and wanted.stop is not None and wanted.stop > wanted.start + 1:
            wanted = ByteRange(wanted.start, wanted.stop - 1)
        return await super().get(bucket, key, replace(options, range=wanted))


class RangeIgnored(MemoryDriver):
    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        return await super().get(bucket, key, replace(options, range=None))


class SuffixFromStart(MemoryDriver):
    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        wanted = options.range
        if wanted is not None and wanted.start < 0:
            wanted = ByteRange(0, -wanted.start)
        return await super().get(bucket, key, replace(options, range=wanted))


class ReadConditionsIgnored(MemoryDriver):
    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        return await super().get(bucket, key, GetOptions(options.range, options.version_id))


class CreateOnlyIgnored(MemoryDriver):
    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        return await super().put(bucket, key, body, replace(options, if_none_match=None))


class MatchIgnored(MemoryDriver):
    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        return await super().put(bucket, key, body, replace(options, if_match=None))

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        await super().delete(bucket, key, replace(options, if_match=None))


class ChecksBeforeTheBody(MemoryDriver):
    """Looks first and puts later, as if nobody else were there."""

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        etag = self._etag(self._bucket(bucket), key)
        check_write(options.if_match, options.if_none_match, etag)
        unconditional = replace(options, if_match=None, if_none_match=None)
        return await super().put(bucket, key, body, unconditional)


class CopyDropsMetadata(MemoryDriver):
    async def copy(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        if options.metadata is None:
            known = await self.head(source.bucket, source.key, HeadOptions())
            kept = {k: v for k, v in known.metadata.items() if k.startswith("trove")}
            options = replace(options, metadata=kept)
        return await super().copy(source, target, options)


class CopyMergesMetadata(MemoryDriver):
    async def copy(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        if options.metadata is not None:
            known = await self.head(source.bucket, source.key, HeadOptions())
            options = replace(options, metadata={**known.metadata, **options.metadata})
        return await super().copy(source, target, options)


class CopyClearsTargetFirst(MemoryDriver):
    """What the original of copy-onto-itself bugs does."""

    async def copy(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        stored = self._object(self._bucket(source.bucket), source.key)
        await self.delete(target.bucket, target.key, DeleteOptions())
        if source == target:
            stored = Stored(stored.info, b"", {})
        self._bucket(source.bucket).objects[source.key] = stored
        return await super().copy(source, target, options)


class CopySharesWithSource(MemoryDriver):
    """An overwrite of the source shows in its copies."""

    def __init__(self) -> None:
        super().__init__()
        self._copies: dict[ObjectRef, ObjectRef] = {}

    async def copy(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        self._copies[target] = source
        return await super().copy(source, target, options)

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        source = self._copies.get(ObjectRef(bucket, key))
        try:
            found = await super().get(bucket, key, options)
            if source is not None:
                found = await super().get(source.bucket, source.key, options)
        except ObjectNotFoundError:
            return await super().get(bucket, key, options)
        return found


class CopyErrorNamesTarget(MemoryDriver):
    async def copy(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        try:
            return await super().copy(source, target, options)
        except ObjectNotFoundError as error:
            error.key = target.key
            raise


class DeleteOfMissingFails(MemoryDriver):
    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        await self.head(bucket, key, HeadOptions())
        await super().delete(bucket, key, options)


class DeleteByPrefix(MemoryDriver):
    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        for other in [k for k in self._bucket(bucket).objects if k.startswith(key + "/")]:
            await super().delete(bucket, other, DeleteOptions())
        await super().delete(bucket, key, options)


class ForeignErrors(MemoryDriver):
    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        try:
            return await super().head(bucket, key, options)
        except ObjectNotFoundError as error:
            raise KeyError(key) from error


class MakesMissingBuckets(MemoryDriver):
    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        if bucket not in self._state.buckets:
            await self.create_bucket(bucket, BucketOptions())
        return await super().put(bucket, key, body, options)


OBJECTS: Final = (
    Mutant("lower case keys", renaming(str.lower), ("K020",)),
    Mutant("trimmed keys", renaming(str.strip), ("K002",)),
    Mutant("decoded keys", renaming(unquote), ("K006",)),
    Mutant("keys without a leading slash", renaming(lambda key: key.lstrip("/")), ("K012",)),
    Mutant("normalised keys", renaming(lambda key: unicodedata.normalize("NFC", key)), ("K003",)),
    Mutant("drops metadata", DropsMetadata, ("K070", "K104")),
    Mutant("merges metadata", MergesMetadata, ("K077",)),
    Mutant("forgets the content type", ForgetsContentType, ("K063", "K104")),
    Mutant("etag of the size", EtagOfSize, ("K067", "K119", "K159")),
    Mutant("loses the last byte", LosesTheEnd, ("K040", "K158")),
    Mutant("range off by one", RangeOffByOne, ("K089", "K101")),
    Mutant("range ignored", RangeIgnored, ("K089",)),
    Mutant("suffix from the start", SuffixFromStart, ("K093",)),
    Mutant("read conditions ignored", ReadConditionsIgnored, ("K123", "K124", "K125")),
    Mutant("create only ignored", CreateOnlyIgnored, ("K118", "K121")),
    Mutant("if_match ignored", MatchIgnored, ("K119", "K120", "K122", "K126")),
    Mutant("checks before the body", ChecksBeforeTheBody, ("K121", "K122")),
    Mutant("copy drops metadata", CopyDropsMetadata, ("K104", "K105", "K106", "K111")),
    Mutant("copy merges metadata", CopyMergesMetadata, ("K107", "K108")),
    Mutant("copy clears its target", CopyClearsTargetFirst, ("K106",)),
    Mutant("copy shares with its source", CopySharesWithSource, ("K116",)),
    Mutant("copy error names the target", CopyErrorNamesTarget, ("K109",)),
    Mutant("delete of a missing key fails", DeleteOfMissingFails, ("K128",)),
    Mutant("deletes by prefix", DeleteByPrefix, ("K018",)),
    Mutant("foreign errors", ForeignErrors, ("K127", "K238")),
    Mutant("makes missing buckets", MakesMissingBuckets, ("K136", "K239")),
)
