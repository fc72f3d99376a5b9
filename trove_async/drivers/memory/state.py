"""Where the memory driver keeps things: buckets of objects, their past versions, open uploads."""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from trove_async._chunks import OneChunk, chunks_of
from trove_async.driver import Chunks, GetOptions, PutOptions, RawObject, WatchOptions
from trove_async.driver.conditions import check_read
from trove_async.driver.events import EventQueue
from trove_async.errors import (
    BucketNotFoundError,
    DriverClosedError,
    ObjectNotFoundError,
    UploadNotFoundError,
    VersionNotFoundError,
)
from trove_async.model import EventType, LifecycleRule, MiB, ObjectInfo

__all__ = ["Bucket", "Keeper", "Stored", "Upload", "now"]

_PIECE: Final = MiB
_OVERHEAD: Final = 512  # bytes a past version is charged beside its body


def now() -> datetime:
    return datetime.now(UTC)


class Stored:
    """One version of an object; a delete marker has no data."""

    __slots__ = ("data", "info", "tags", "turn")

    def __init__(self, info: ObjectInfo, data: bytes | None, tags: Mapping[str, str]) -> None:
        self.info = info
        self.data = data
        self.tags = tags
        self.turn = 0
        """Its key in `State.past`; 0: not kept there."""


class Upload:
    __slots__ = ("key", "options", "parts", "started_at")

    def __init__(self, key: str, options: PutOptions, started_at: datetime) -> None:
        self.key = key
        self.options = options
        self.parts: dict[int, tuple[bytes, str]] = {}
        self.started_at = started_at


class Bucket:
    def __init__(self, name: str, created_at: datetime) -> None:
        self.name = name
        self.created_at = created_at
        self.objects: dict[str, Stored] = {}
        self.past: dict[str, deque[Stored]] = {}
        self.uploads: dict[str, Upload] = {}
        self.rules: list[LifecycleRule] = []
        self.expired_at: datetime | None = None
        self.watchers: list[tuple[WatchOptions, EventQueue]] = []
        self._sorted: list[str] = []
        self._fresh: list[str] = []

    def added(self, key: str) -> None:
        self._fresh.append(key)
        if len(self._fresh) > 1024 + 2 * len(self.objects):
            self.ordered()  # keys come and go, and nobody lists

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


class State:
    """What `mem://name` shares within the process."""

    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.past: OrderedDict[int, tuple[Bucket, Stored]] = OrderedDict()
        self.past_bytes = 0
        self.turns = 0
        self.count = 0
        self.salt = secrets.token_hex(4)
        self.beside: dict[str, object] = {}
        """What a store remembers beside the objects, for as long as they last."""


_shared: dict[str, State] = {}


class Keeper:
    """Plain functions over the state: no await between looking and changing."""

    def __init__(
        self,
        name: str = "",
        *,
        history: int = 64 * MiB,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self.history = history
        """Bytes of past versions kept; 0 keeps none."""
        self.clock = clock
        self._state = _shared.setdefault(name, State()) if name else State()
        self._closed = False
        self._queues: list[EventQueue] = []

    def _check(self) -> None:
        if self._closed:
            raise DriverClosedError("the driver is closed")

    def _bucket(self, name: str) -> Bucket:
        if self._closed:
            raise DriverClosedError("the driver is closed")
        place = self._state.buckets.get(name)
        if place is None:
            raise BucketNotFoundError("no such bucket", bucket=name)
        if place.rules:
            self._expire(place)
        return place

    def _object(self, place: Bucket, key: str) -> Stored:
        stored = place.objects.get(key)
        if stored is None:
            raise ObjectNotFoundError("no such object", bucket=place.name, key=key)
        return stored

    def _etag(self, place: Bucket, key: str) -> str | None:
        stored = place.objects.get(key)
        return None if stored is None else stored.info.etag

    def _version(self, place: Bucket, key: str, version_id: str) -> Stored:
        current = place.objects.get(key)
        if current is not None and current.info.etag == version_id:
            return current
        for stored in place.past.get(key, ()):
            if stored.info.etag == version_id:
                return stored
        raise VersionNotFoundError("no such version", bucket=place.name, key=key)

    def _readable(self, stored: Stored) -> Stored:
        if stored.data is None:
            raise ObjectNotFoundError("this version is a delete marker", key=stored.info.key)
        return stored

    def _opened(self, stored: Stored, options: GetOptions) -> RawObject:
        info, data = stored.info, stored.data or b""
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

    def _upload(self, bucket: str, key: str, upload_id: str) -> Upload:
        upload = self._bucket(bucket).uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise UploadNotFoundError("no such upload", bucket=bucket, key=key)
        return upload

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
        place.objects[key] = Stored(info, data, tags)
        if old is None:
            place.added(key)
        else:
            self._keep(place, old)
        if place.watchers:
            place.notify("object.created" if old is None else "object.updated", key, info)
        return info

    def _remove(self, place: Bucket, key: str) -> None:
        stored = place.objects.pop(key, None)
        if stored is None:
            return
        self._keep(place, stored)
        if self.history:
            self._state.count += 1
            marker = f"{self._state.salt}{self._state.count:012x}"
            gone = ObjectInfo(key, 0, 0, "", marker, self.clock(), {}, None, marker)
            self._keep(place, Stored(gone, None, {}))
        if place.watchers:
            place.notify("object.deleted", key, None)

    def _expire(self, place: Bucket) -> None:
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

    def _keep(self, place: Bucket, stored: Stored) -> None:
        """Makes ``stored`` a past version, and forgets the oldest ones beyond the budget."""
        state = self._state
        if not self.history:
            return
        versions = place.past.get(stored.info.key)
        if versions is None:
            versions = place.past[stored.info.key] = deque()
        versions.append(stored)
        state.turns += 1
        stored.turn = state.turns
        state.past[stored.turn] = (place, stored)
        state.past_bytes += stored.info.stored_size + _OVERHEAD
        while state.past_bytes > self.history:
            where, oldest = next(iter(state.past.values()))
            self._drop(oldest)
            versions = where.past.get(oldest.info.key)
            if versions and versions[0] is oldest:
                versions.popleft()
                if not versions:
                    del where.past[oldest.info.key]

    def _drop(self, stored: Stored) -> None:
        if stored.turn:
            del self._state.past[stored.turn]
            stored.turn = 0
            self._state.past_bytes -= stored.info.stored_size + _OVERHEAD
