"""Objects in this process's memory: for tests, and the reference for every other driver.

A put keeps what it replaces: past versions stay readable within a budget of bytes
(`MemoryDriver.history`), the oldest go first.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import Self

from trove_async._chunks import OneChunk, collect
from trove_async.driver import (
    DSN,
    BucketOptions,
    ByteRange,
    Chunks,
    CopyOptions,
    DeleteOptions,
    Features,
    GetOptions,
    HeadOptions,
    ListOptions,
    PutOptions,
    RawObject,
    WatchOptions,
)
from trove_async.driver.conditions import check_read, check_write
from trove_async.driver.events import EventQueue
from trove_async.driver.listing import page_of
from trove_async.drivers.memory.state import Bucket
from trove_async.drivers.memory.versions import Parts, Versions
from trove_async.errors import (
    BucketExistsError,
    BucketNotEmptyError,
    ObjectChangedError,
    UnsupportedError,
)
from trove_async.model import (
    BucketInfo,
    DeleteResult,
    LifecycleRule,
    ObjectInfo,
    ObjectPage,
    ObjectRef,
)

__all__ = ["MemoryDriver"]


class MemoryDriver(Parts, Versions):
    """Ready when constructed; each instance is its own store unless it is given a ``name``,
    which is shared in the process until it ends."""

    name = "memory"
    in_memory = True  # conformance cases about memory do not apply
    features = Features(
        listing_has_metadata=True,
        late_metadata=True,
        ready=True,
        decided=True,
        conditional=frozenset({"create", "match"}),
        max_parts=10_000,
        native=frozenset({"copy", "move", "delete_many", "watch"}),
    )

    def sibling(self) -> MemoryDriver:
        """Another driver on the same objects, as a second client would be."""
        other = MemoryDriver(history=self.history, clock=self.clock)
        other._state = self._state
        return other

    @property
    def beside(self) -> dict[str, object]:
        """What a store remembers beside the objects, for as long as they last."""
        return self._state.beside

    @classmethod
    def from_dsn(cls, dsn: DSN) -> Self:
        dsn.allow()
        if dsn.user is not None or dsn.port is not None or dsn.path.strip("/"):
            dsn.reject("only a name may follow mem://")
        return cls(dsn.host)

    def __repr__(self) -> str:
        return f"<MemoryDriver of {len(self._state.buckets)} buckets>"

    async def open(self) -> None:
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        for queue in self._queues:
            queue.close()
        self._queues.clear()

    async def ping(self) -> None:
        self._check()

    # -- objects -------------------------------------------------------------------------

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        place = self._bucket(bucket)
        conditional = options.if_match is not None or options.if_none_match is not None
        if conditional:
            check_write(options.if_match, options.if_none_match, self._etag(place, key))
        data = body.whole(options.size or 0) if type(body) is OneChunk else None
        if data is None:
            data = await collect(body)
            place = self._bucket(bucket)  # it may be gone by now
            if conditional:
                check_write(options.if_match, options.if_none_match, self._etag(place, key))
        metadata = dict(options.metadata)
        if options.late is not None:
            metadata.update(options.late())
        return self._store(
            place,
            key,
            data,
            options.content_type,
            metadata,
            options.storage_class,
            dict(options.tags) if options.tags else {},
        )

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        if options.version_id is not None:
            return await self.get_version(bucket, key, options.version_id, options)
        return self._opened(self._object(self._bucket(bucket), key), options)

    async def get_ranges(
        self, bucket: str, key: str, ranges: Sequence[ByteRange], options: GetOptions
    ) -> builtins.list[bytes]:
        stored = self._object(self._bucket(bucket), key)
        check_read(options, stored.info)
        data = stored.data or b""
        return [data[slice(*wanted.resolve(len(data)))] for wanted in ranges]

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        place = self._bucket(bucket)
        if options.version_id is None:
            return self._object(place, key).info
        return self._readable(self._version(place, key, options.version_id)).info

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        place = self._bucket(bucket)
        if options.version_id is not None:
            return await self.delete_version(bucket, key, options.version_id)
        if options.if_match is not None:
            check_write(options.if_match, None, self._etag(place, key))
        self._remove(place, key)

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> builtins.list[DeleteResult]:
        place = self._bucket(bucket)
        for key in keys:
            self._remove(place, key)
        return [DeleteResult(key) for key in keys]

    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        place = self._bucket(bucket)
        keys, prefixes, cursor = page_of(place.ordered(), options)
        return ObjectPage([place.objects[key].info for key in keys], prefixes, cursor)

    async def copy(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        stored = self._object(self._bucket(source.bucket), source.key)
        place = self._bucket(target.bucket)
        if options.source_if_match not in (None, stored.info.etag):
            raise ObjectChangedError("the source changed", bucket=source.bucket, key=source.key)
        check_write(None, options.if_none_match, self._etag(place, target.key))
        info = stored.info
        return self._store(
            place,
            target.key,
            stored.data or b"",
            options.content_type or info.content_type,
            dict(info.metadata if options.metadata is None else options.metadata),
            info.storage_class,
            dict(stored.tags),
        )

    async def server_copy(
        self, source: ObjectRef, target: ObjectRef, options: CopyOptions
    ) -> ObjectInfo:
        return await self.copy(source, target, options)

    async def move(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        info = await self.copy(source, target, options)
        if source != target:
            self._remove(self._bucket(source.bucket), source.key)
        return info

    # -- buckets -------------------------------------------------------------------------

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        self._check()
        if options.region is not None:
            raise UnsupportedError("memory has no regions", bucket=name)
        if name in self._state.buckets:
            raise BucketExistsError("the bucket exists already", bucket=name)
        self._state.buckets[name] = Bucket(name, self.clock())

    async def delete_bucket(self, name: str) -> None:
        place = self._bucket(name)
        if place.objects:
            raise BucketNotEmptyError("the bucket holds objects", bucket=name)
        del self._state.buckets[name]
        for versions in place.past.values():
            for stored in versions:
                self._drop(stored)
        for _, queue in place.watchers:
            queue.close()

    async def list_buckets(self) -> builtins.list[BucketInfo]:
        self._check()
        places = self._state.buckets.values()
        return sorted((BucketInfo(p.name, p.created_at) for p in places), key=lambda b: b.name)

    # -- tags, lifecycle, events -----------------------------------------------------------

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        return dict(self._object(self._bucket(bucket), key).tags)

    async def set_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        self._object(self._bucket(bucket), key).tags = dict(tags)

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        place = self._bucket(bucket)
        place.rules, place.expired_at = [*rules], None

    async def get_lifecycle(self, bucket: str) -> builtins.list[LifecycleRule]:
        return [*self._bucket(bucket).rules]

    async def watch(self, bucket: str, options: WatchOptions) -> EventQueue:
        place = self._bucket(bucket)
        queue = EventQueue(bucket, options.buffer)
        entry = (options, queue)
        place.watchers.append(entry)
        self._queues.append(queue)

        def forget() -> None:
            if entry in place.watchers:
                place.watchers.remove(entry)
            if queue in self._queues:
                self._queues.remove(queue)

        queue.on_close = forget
        return queue
