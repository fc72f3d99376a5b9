"""Objects in this process's memory: for tests, and the reference for every other driver.

A put keeps what it replaces: past versions stay readable within a budget of bytes
(`MemoryDriver.history`), the oldest go first.
"""

from __future__ import annotations

import builtins
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, Self

from trove_async._chunks import OneChunk, chunks_of, collect
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
from trove_async.errors import (
    BucketExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    DriverClosedError,
    InvalidInputError,
    InvalidPartError,
    ObjectChangedError,
    ObjectNotFoundError,
    UploadNotFoundError,
    VersionNotFoundError,
)
from trove_async.model import (
    BucketInfo,
    DeleteResult,
    EventType,
    LifecycleRule,
    MiB,
    ObjectInfo,
    ObjectPage,
    ObjectRef,
    PartInfo,
    UploadInfo,
    VersionInfo,
)

__all__ = ["MemoryDriver"]

_PIECE: Final = MiB
_OVERHEAD: Final = 512  # bytes a past version is charged beside its body


def _now() -> datetime:
    return datetime.now(UTC)


class _Stored:
    """One version of an object; a delete marker has no data."""

    __slots__ = ("data", "dropped", "info", "tags")

    def __init__(self, info: ObjectInfo, data: bytes | None, tags: Mapping[str, str]) -> None:
        self.info = info
        self.data = data
        self.tags = tags
        self.dropped = False


class _Upload:
    __slots__ = ("key", "options", "parts", "started_at")

    def __init__(self, key: str, options: PutOptions, started_at: datetime) -> None:
        self.key = key
        self.options = options
        self.parts: dict[int, tuple[bytes, str]] = {}
        self.started_at = started_at


class _Bucket:
    def __init__(self, name: str, created_at: datetime) -> None:
        self.name = name
        self.created_at = created_at
        self.objects: dict[str, _Stored] = {}
        self.past: dict[str, deque[_Stored]] = {}
        self.uploads: dict[str, _Upload] = {}
        self.rules: list[LifecycleRule] = []
        self.expired_at: datetime | None = None
        self.watchers: list[tuple[WatchOptions, EventQueue]] = []
        self._sorted: list[str] = []
        self._fresh: list[str] = []

    def added(self, key: str) -> None:
        self._fresh.append(key)

    def ordered(self) -> list[str]:
        """All keys in order; sorting only what came since the last call."""
        if self._fresh or len(self._sorted) != len(self.objects):
            known = [key for key in self._sorted if key in self.objects]
            known += sorted(key for key in set(self._fresh) if key in self.objects)
            known.sort()  # two runs: one merge
            self._sorted = [k for i, k in enumerate(known) if not i or k != known[i - 1]]
            self._fresh = []
        return self._sorted

    def notify(self, kind: EventType, key: str, info: ObjectInfo | None) -> None:
        for options, queue in self.watchers:
            if key.startswith(options.prefix) and (
                options.events is None or kind in options.events
            ):
                queue.push(kind, key, info)


class _State:
    """What `mem://name` shares within the process."""

    def __init__(self) -> None:
        self.buckets: dict[str, _Bucket] = {}
        self.past: deque[tuple[_Bucket, _Stored]] = deque()
        self.past_bytes = 0
        self.count = 0
        self.salt = secrets.token_hex(4)


_shared: dict[str, _State] = {}


class MemoryDriver:
    """Ready when constructed; each instance is its own store unless it is given a ``name``,
    which is shared in the process until it ends."""

    name = "memory"
    features = Features(
        listing_has_metadata=True,
        late_metadata=True,
        ready=True,
        conditional=frozenset({"create", "match"}),
        max_parts=10_000,
        native=frozenset({"copy", "move", "delete_many", "watch"}),
    )

    def __init__(
        self,
        name: str = "",
        *,
        history: int = 64 * MiB,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self.history = history
        """Bytes of past versions kept; 0 keeps none."""
        self.clock = clock
        self._state = _shared.setdefault(name, _State()) if name else _State()
        self._closed = False
        self._queues: list[EventQueue] = []

    def sibling(self) -> MemoryDriver:
        """Another driver on the same objects, as a second client would be."""
        other = MemoryDriver(history=self.history, clock=self.clock)
        other._state = self._state
        return other

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
        if options.if_match is not None or options.if_none_match is not None:
            check_write(options.if_match, options.if_none_match, self._etag(place, key))
        data = await collect(body)
        place = self._bucket(bucket)  # it may be gone by now
        if options.if_match is not None or options.if_none_match is not None:
            check_write(options.if_match, options.if_none_match, self._etag(place, key))
        return self._publish(place, key, data, options)

    def _publish(self, place: _Bucket, key: str, data: bytes, options: PutOptions) -> ObjectInfo:
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

    def _store(
        self,
        place: _Bucket,
        key: str,
        data: bytes,
        content_type: str,
        metadata: dict[str, str],
        storage_class: str | None,
        tags: Mapping[str, str],
    ) -> ObjectInfo:
        state = self._state
        state.count += 1
        etag = f"{state.salt}{state.count:012x}"
        old = place.objects.get(key)
        now = self.clock()
        if old is not None and now < old.info.last_modified:
            now = old.info.last_modified  # the clock went back
        size = len(data)
        info = ObjectInfo(
            key,
            size,
            size,
            content_type,
            etag,
            now,
            MappingProxyType(metadata),
            None,
            etag,
            storage_class,
        )
        place.objects[key] = _Stored(info, data, tags)
        if old is None:
            place.added(key)
        else:
            self._keep(place, old)
        if place.watchers:
            place.notify("object.created" if old is None else "object.updated", key, info)
        return info

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        place = self._bucket(bucket)
        if options.version_id is None:
            stored = self._object(place, key)
        else:
            stored = self._version(place, key, options.version_id)
        info, data = stored.info, stored.data
        if data is None:
            raise ObjectNotFoundError("this version is a delete marker", bucket=bucket, key=key)
        check_read(options, info)
        if options.range is None:
            start, stop = 0, len(data)
        else:
            start, stop = options.range.resolve(len(data))
        body: Chunks
        if stop - start <= _PIECE:
            body = OneChunk(data if stop - start == len(data) else data[start:stop])
        else:
            body = chunks_of(memoryview(data)[start:stop], _PIECE)
        return RawObject(info, body, start, stop)

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
        stored = self._version(place, key, options.version_id)
        if stored.data is None:
            raise ObjectNotFoundError("this version is a delete marker", bucket=bucket, key=key)
        return stored.info

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

    def _remove(self, place: _Bucket, key: str) -> None:
        stored = place.objects.pop(key, None)
        if stored is None:
            return
        self._keep(place, stored)
        if self.history:
            self._state.count += 1
            marker = f"{self._state.salt}{self._state.count:012x}"
            gone = ObjectInfo(key, 0, 0, "", marker, self.clock(), {}, None, marker)
            self._keep(place, _Stored(gone, None, {}))
        if place.watchers:
            place.notify("object.deleted", key, None)

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
        if name in self._state.buckets:
            raise BucketExistsError("the bucket exists already", bucket=name)
        self._state.buckets[name] = _Bucket(name, self.clock())

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

    # -- multipart -----------------------------------------------------------------------

    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        place = self._bucket(bucket)
        upload_id = secrets.token_hex(16)
        place.uploads[upload_id] = _Upload(key, options, self.clock())
        return upload_id

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        self._upload(bucket, key, upload_id)
        if not 1 <= number <= 10_000:
            raise InvalidInputError("part numbers go from 1 to 10000", bucket=bucket, key=key)
        data = await collect(body)
        etag = secrets.token_hex(16)
        self._upload(bucket, key, upload_id).parts[number] = (data, etag)
        return PartInfo(number, etag, len(data))

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[PartInfo],
        options: PutOptions,
    ) -> ObjectInfo:
        upload = self._upload(bucket, key, upload_id)
        numbers = [part.number for part in parts]
        if not parts or numbers != sorted(set(numbers)):
            raise InvalidPartError("parts in rising order, at least one", bucket=bucket, key=key)
        pieces = []
        for part in parts:
            data, etag = upload.parts.get(part.number, (b"", None))
            if etag != part.etag:
                raise InvalidPartError(f"part {part.number} is not there", bucket=bucket, key=key)
            pieces.append(data)
        place = self._bucket(bucket)
        check_write(options.if_match, options.if_none_match, self._etag(place, key))
        metadata = {**upload.options.metadata, **options.metadata}
        if options.late is not None:
            metadata.update(options.late())
        del place.uploads[upload_id]
        return self._store(
            place,
            key,
            b"".join(pieces),
            upload.options.content_type,
            metadata,
            upload.options.storage_class,
            dict(upload.options.tags or {}),
        )

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        self._upload(bucket, key, upload_id)
        del self._bucket(bucket).uploads[upload_id]

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> builtins.list[PartInfo]:
        upload = self._upload(bucket, key, upload_id)
        return [PartInfo(n, etag, len(data)) for n, (data, etag) in sorted(upload.parts.items())]

    async def list_uploads(self, bucket: str, prefix: str) -> builtins.list[UploadInfo]:
        uploads = self._bucket(bucket).uploads.items()
        found = (UploadInfo(i, u.key, u.started_at) for i, u in uploads if u.key.startswith(prefix))
        return sorted(found, key=lambda upload: (upload.key, upload.started_at))

    # -- versions ------------------------------------------------------------------------

    async def list_versions(self, bucket: str, key: str) -> builtins.list[VersionInfo]:
        place = self._bucket(bucket)
        every = [*place.past.get(key, ())]
        if (current := place.objects.get(key)) is not None:
            every.append(current)
        every.reverse()
        return [
            VersionInfo(
                stored.info.etag,
                key,
                stored.info.stored_size,
                stored.info.last_modified,
                is_latest=index == 0,
                is_delete_marker=stored.data is None,
            )
            for index, stored in enumerate(every)
        ]

    async def get_version(
        self, bucket: str, key: str, version_id: str, options: GetOptions
    ) -> RawObject:
        return await self.get(
            bucket,
            key,
            GetOptions(
                options.range,
                version_id,
                options.if_match,
                options.if_none_match,
                options.if_modified_since,
            ),
        )

    async def delete_version(self, bucket: str, key: str, version_id: str) -> None:
        place = self._bucket(bucket)
        stored = self._version(place, key, version_id)
        past = place.past.get(key, deque())
        if place.objects.get(key) is stored:
            del place.objects[key]
        else:
            past.remove(stored)
            self._drop(stored)
        if key not in place.objects and past and past[-1].data is not None:
            latest = past.pop()
            self._drop(latest)
            place.objects[key] = latest
            place.added(key)
        if not past:
            place.past.pop(key, None)

    async def restore_version(self, bucket: str, key: str, version_id: str) -> ObjectInfo:
        place = self._bucket(bucket)
        stored = self._version(place, key, version_id)
        if stored.data is None:
            raise VersionNotFoundError("a delete marker holds nothing", bucket=bucket, key=key)
        info = stored.info
        return self._store(
            place,
            key,
            stored.data,
            info.content_type,
            dict(info.metadata),
            info.storage_class,
            dict(stored.tags),
        )

    def _keep(self, place: _Bucket, stored: _Stored) -> None:
        """Makes ``stored`` a past version, and forgets the oldest ones beyond the budget."""
        state = self._state
        if not self.history:
            return
        versions = place.past.get(stored.info.key)
        if versions is None:
            versions = place.past[stored.info.key] = deque()
        stored.dropped = False
        versions.append(stored)
        state.past.append((place, stored))
        state.past_bytes += stored.info.stored_size + _OVERHEAD
        while state.past_bytes > self.history:
            where, oldest = state.past.popleft()
            if oldest.dropped:
                continue
            self._drop(oldest)
            versions = where.past.get(oldest.info.key)
            if versions and versions[0] is oldest:
                versions.popleft()
                if not versions:
                    del where.past[oldest.info.key]

    def _drop(self, stored: _Stored) -> None:
        if not stored.dropped:
            stored.dropped = True
            self._state.past_bytes -= stored.info.stored_size + _OVERHEAD

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

    def _expire(self, place: _Bucket) -> None:
        """Applies the rules, at most once a second of the driver's clock."""
        now = self.clock()
        if place.expired_at is not None and timedelta() <= now - place.expired_at < timedelta(
            seconds=1
        ):
            return
        place.expired_at = now
        for rule in place.rules:
            if not rule.enabled or rule.expiration_days is None:
                continue
            limit = now - timedelta(days=rule.expiration_days)
            for key in [
                key
                for key, stored in place.objects.items()
                if key.startswith(rule.prefix) and stored.info.last_modified <= limit
            ]:
                self._remove(place, key)

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

    # -- finding -------------------------------------------------------------------------

    def _check(self) -> None:
        if self._closed:
            raise DriverClosedError("the driver is closed")

    def _bucket(self, name: str) -> _Bucket:
        if self._closed:
            raise DriverClosedError("the driver is closed")
        place = self._state.buckets.get(name)
        if place is None:
            raise BucketNotFoundError("no such bucket", bucket=name)
        if place.rules:
            self._expire(place)
        return place

    def _object(self, place: _Bucket, key: str) -> _Stored:
        stored = place.objects.get(key)
        if stored is None:
            raise ObjectNotFoundError("no such object", bucket=place.name, key=key)
        return stored

    def _etag(self, place: _Bucket, key: str) -> str | None:
        stored = place.objects.get(key)
        return None if stored is None else stored.info.etag

    def _version(self, place: _Bucket, key: str, version_id: str) -> _Stored:
        current = place.objects.get(key)
        if current is not None and current.info.etag == version_id:
            return current
        for stored in place.past.get(key, ()):
            if stored.info.etag == version_id:
                return stored
        raise VersionNotFoundError("no such version", bucket=place.name, key=key)

    def _upload(self, bucket: str, key: str, upload_id: str) -> _Upload:
        upload = self._bucket(bucket).uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise UploadNotFoundError("no such upload", bucket=bucket, key=key)
        return upload
