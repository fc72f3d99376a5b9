"""A whole driver: objects in a dict, bodies in pieces of at most a mebibyte."""

import asyncio
import builtins
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from uuid import uuid4

import trove_async as trove
from trove_async.driver.conditions import check_read, check_write
from trove_async.driver.listing import page_of

PIECE = 1024 * 1024
Stored = tuple[trove.ObjectInfo, tuple[bytes, ...]]
Write = trove.PutOptions | trove.DeleteOptions | trove.CopyOptions


class DictDriver:
    name = "dict"
    version = "1"  # named in the conformance report
    in_memory = True  # so are the bodies: cases about memory do not apply
    features = trove.Features(
        listing_has_metadata=True, late_metadata=True, conditional=frozenset({"create", "match"})
    )

    def __init__(self) -> None:
        self._buckets: dict[str, dict[str, Stored]] = {}
        self._is_open = False

    async def open(self) -> None:
        self._is_open = True

    async def close(self) -> None:
        self._is_open = False

    async def ping(self) -> None:
        self._check_open()

    async def put(
        self, bucket: str, key: str, body: trove.Chunks, options: trove.PutOptions
    ) -> trove.ObjectInfo:
        if options.storage_class is not None:
            raise trove.UnsupportedError("there are no storage classes here")
        self._check_write(bucket, key, options)  # before the body moves
        pieces = tuple(
            [bytes(c[at : at + PIECE]) async for c in body for at in range(0, len(c), PIECE)]
        )
        self._check_write(bucket, key, options)  # the one that counts: no await after it
        metadata = {**options.metadata, **(options.late() if options.late is not None else {})}
        shown = MappingProxyType(metadata)  # whoever gets it cannot change it here
        size = sum(map(len, pieces))
        info = trove.ObjectInfo(
            key, size, size, options.content_type, uuid4().hex, datetime.now(UTC), shown
        )
        self._bucket(bucket)[key] = info, pieces
        return info

    async def get(self, bucket: str, key: str, options: trove.GetOptions) -> trove.RawObject:
        info, pieces = self._object(bucket, key, options.version_id)
        check_read(options, info)
        start, stop = (options.range or trove.ByteRange(0)).resolve(info.size)
        return trove.RawObject(info, _cut(pieces, start, stop), start, stop)

    async def head(self, bucket: str, key: str, options: trove.HeadOptions) -> trove.ObjectInfo:
        return self._object(bucket, key, options.version_id)[0]

    async def delete(self, bucket: str, key: str, options: trove.DeleteOptions) -> None:
        _refuse_version(options.version_id)
        self._check_write(bucket, key, options)
        self._bucket(bucket).pop(key, None)

    async def list(self, bucket: str, options: trove.ListOptions) -> trove.ObjectPage:
        await asyncio.sleep(0)  # nothing here waits, so let others have a turn for each page
        objects = self._bucket(bucket)
        keys, prefixes, cursor = page_of(sorted(objects), options)
        return trove.ObjectPage([objects[key][0] for key in keys], prefixes, cursor)

    async def copy(
        self, source: trove.ObjectRef, target: trove.ObjectRef, options: trove.CopyOptions
    ) -> trove.ObjectInfo:
        info, pieces = self._object(source.bucket, source.key)
        if options.source_if_match not in (None, info.etag):
            raise trove.ObjectChangedError("the source has changed")
        self._check_write(target.bucket, target.key, options)
        replaced = options.metadata
        info = replace(
            info,
            key=target.key,
            etag=uuid4().hex,
            last_modified=datetime.now(UTC),
            content_type=options.content_type or info.content_type,
            metadata=info.metadata if replaced is None else MappingProxyType(dict(replaced)),
        )
        self._bucket(target.bucket)[target.key] = info, pieces
        return info

    async def create_bucket(self, name: str, options: trove.BucketOptions) -> None:
        self._check_open()
        if options.region is not None:
            raise trove.UnsupportedError("there are no regions here")
        if name in self._buckets:
            raise trove.BucketExistsError("the bucket exists already", bucket=name)
        self._buckets[name] = {}

    async def delete_bucket(self, name: str) -> None:
        if self._bucket(name):
            raise trove.BucketNotEmptyError("the bucket holds objects", bucket=name)
        del self._buckets[name]

    async def list_buckets(self) -> builtins.list[trove.BucketInfo]:
        self._check_open()
        return [trove.BucketInfo(name) for name in sorted(self._buckets)]

    def _check_open(self) -> None:
        if not self._is_open:
            raise trove.DriverClosedError("the driver is not open")

    def _bucket(self, name: str) -> dict[str, Stored]:
        self._check_open()
        if name not in self._buckets:
            raise trove.BucketNotFoundError("no such bucket", bucket=name)
        return self._buckets[name]

    def _object(self, bucket: str, key: str, version_id: str | None = None) -> Stored:
        _refuse_version(version_id)
        if key not in self._bucket(bucket):
            raise trove.ObjectNotFoundError("no such object", bucket=bucket, key=key)
        return self._buckets[bucket][key]

    def _check_write(self, bucket: str, key: str, options: Write) -> None:
        stored = self._bucket(bucket).get(key)
        match = None if isinstance(options, trove.CopyOptions) else options.if_match
        none_match = None if isinstance(options, trove.DeleteOptions) else options.if_none_match
        check_write(match, none_match, stored[0].etag if stored is not None else None)


def _refuse_version(version_id: str | None) -> None:
    if version_id is not None:
        raise trove.UnsupportedError("no versions are kept here")


async def _cut(pieces: tuple[bytes, ...], start: int, stop: int) -> AsyncGenerator[bytes, None]:
    at = 0
    for piece in pieces:
        if wanted := piece[max(0, start - at) : max(0, stop - at)]:
            yield wanted
        at += len(piece)
