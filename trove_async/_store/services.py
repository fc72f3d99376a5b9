"""The verbs beside objects: buckets, versions, tags, lifecycle, presigned requests, events."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import trove_async._store.buckets as _buckets
from trove_async._names import check_key, check_tags, content_type_of
from trove_async._store.backend import Backend
from trove_async._store.listing import listed
from trove_async._store.objects import Objects
from trove_async._store.requests import signed_headers, watch_options
from trove_async._store.watching import Opener, Source, Watching, poll_changes
from trove_async.driver.capabilities import Events
from trove_async.driver.options import BucketOptions, WatchOptions
from trove_async.errors import UnsupportedError
from trove_async.middleware.base import Context, Owned
from trove_async.model import (
    BucketInfo,
    LifecycleRule,
    ObjectEvent,
    ObjectInfo,
    ObjectRef,
    PresignedRequest,
    Seconds,
    VersionInfo,
    seconds,
)

__all__ = ["Services"]


class Services(Objects):
    async def create_bucket(self, name: str, *, region: str | None = None) -> None:
        """On every backend."""

        async def work(bucket: str, key: str, options: BucketOptions) -> None:
            await _buckets.create(self._distinct(), bucket, options, self._core.timeouts)

        await self._on_bucket("create_bucket", name, BucketOptions(region), work)

    async def delete_bucket(self, name: str, *, force: bool = False) -> None:
        """From every backend; refuses one that holds objects unless ``force`` deletes them."""

        async def work(bucket: str, key: str, options: None) -> None:
            await _buckets.delete(self._distinct(), bucket, self._core.timeouts, force=force)

        await self._on_bucket("delete_bucket", name, None, work)

    async def list_buckets(self) -> builtins.list[BucketInfo]:
        async def work(bucket: str, key: str, options: None) -> builtins.list[BucketInfo]:
            return await _buckets.listed(self._distinct(), self._core.timeouts)

        self._core.check()
        return await self._core.seam.run("list_buckets", "", "", None, work)

    # -- versions, tags, lifecycle -------------------------------------------------------------

    async def versions(self, bucket: str | None, key: str) -> builtins.list[VersionInfo]:
        """Newest first, delete markers included. Sizes are stored sizes."""

        async def work(backend: Backend, bucket: str, key: str) -> builtins.list[VersionInfo]:
            return await backend.need(backend.versioning, "versions").list_versions(bucket, key)

        return await self._on_object("versions", bucket, key, work)

    async def restore(self, bucket: str | None, key: str, version_id: str) -> ObjectInfo:
        """Makes a new latest version with the bytes and metadata of that one."""

        async def work(backend: Backend, bucket: str, key: str) -> ObjectInfo:
            versioning = backend.need(backend.versioning, "versions")
            info = await versioning.restore_version(bucket, key, version_id)
            return await self._core.reads.seen(backend, bucket, key, info, None)

        return await self._on_object("restore", bucket, key, work)

    async def owned(self, bucket: str | None, key: str) -> builtins.list[Owned]:
        """What `Owning` layers have written at a key: the object and the older versions of it,
        on every backend that this handle reaches. For what keeps count of them."""
        core = self._core

        async def work(bucket: str, key: str, options: None) -> builtins.list[Owned]:
            found: builtins.list[Owned] = []
            for backend in self._distinct():
                found += await core.owned.found(backend, ObjectRef(bucket, key))
            return found

        core.check()
        return await core.seam.run("owned", self._bucket(bucket), check_key(key), None, work)

    async def get_tags(self, bucket: str | None, key: str) -> dict[str, str]:
        async def work(backend: Backend, bucket: str, key: str) -> dict[str, str]:
            return await backend.need(backend.tagging, "tags").get_tags(bucket, key)

        return await self._on_object("get_tags", bucket, key, work)

    async def set_tags(self, bucket: str | None, key: str, tags: Mapping[str, str]) -> None:
        """Replaces all of them."""
        checked = check_tags(tags)

        async def work(backend: Backend, bucket: str, key: str) -> None:
            return await backend.need(backend.tagging, "tags").set_tags(bucket, key, checked)

        await self._on_object("set_tags", bucket, key, work)

    async def get_lifecycle(self, bucket: str | None) -> builtins.list[LifecycleRule]:
        async def work(bucket: str, key: str, options: None) -> builtins.list[LifecycleRule]:
            backend = self._places()[0]
            driver = backend.need(backend.lifecycle, "lifecycle rules")
            return await driver.get_lifecycle(bucket)

        rules: builtins.list[LifecycleRule] = await self._on_bucket(
            "get_lifecycle", bucket, None, work
        )
        return rules

    async def set_lifecycle(self, bucket: str | None, rules: Sequence[LifecycleRule]) -> None:
        """Replaces all rules, on every backend. ValueError when two have one id."""
        names = [rule.id for rule in rules]
        if len(set(names)) != len(names):
            raise ValueError("two lifecycle rules have the same id")

        async def work(bucket: str, key: str, options: None) -> None:
            drivers = [b.need(b.lifecycle, "lifecycle rules") for b in self._distinct()]
            for driver in drivers:
                await driver.set_lifecycle(bucket, rules)

        await self._on_bucket("set_lifecycle", bucket, None, work)

    # -- presigned requests and events -----------------------------------------------------------

    async def presign_get(
        self,
        bucket: str | None,
        key: str,
        *,
        expires: Seconds = 900.0,
        content_type: str | None = None,
        filename: str | None = None,
    ) -> PresignedRequest:
        """A request that reads the stored bytes for ``expires`` seconds (at most 7 days)."""
        duration = seconds(expires)
        headers = signed_headers("get", duration, content_type, filename, None, None)

        async def work(backend: Backend, bucket: str, key: str) -> PresignedRequest:
            presigner = backend.need(backend.presigner, "presigned requests")
            return await presigner.presign_get(bucket, key, duration, headers)

        return await self._on_object("presign_get", bucket, key, work)

    async def presign_put(
        self,
        bucket: str | None,
        key: str,
        *,
        expires: Seconds = 900.0,
        content_type: str | None = None,
        size: int | None = None,
        checksum: str | None = None,
    ) -> PresignedRequest:
        """Refused where a layer works on what is written to the key: a transform, or a scanner.
        The bytes would pass it by."""
        duration = seconds(expires)
        headers = signed_headers("put", duration, content_type, None, size, checksum)

        async def work(backend: Backend, bucket: str, key: str) -> PresignedRequest:
            presigner = backend.need(backend.presigner, "presigned requests")
            context = Context("put", bucket, key, content_type or content_type_of(key))
            for entry in self._core.pipeline.for_write(context):
                message = f"the layer {entry.middleware.name!r} applies to this key"
                raise UnsupportedError(message, bucket=bucket, key=key)
            return await presigner.presign_put(bucket, key, duration, headers)

        return await self._on_object("presign_put", bucket, key, work)

    def watch(
        self,
        bucket: str | None,
        *,
        prefix: str = "",
        events: Sequence[str] | None = None,
        poll: Seconds | None = None,
    ) -> Watching:
        """Events of a bucket from the first ``anext`` (or ``async with``) on.

        ``poll``: seconds between listings, for backends that do not tell (UnsupportedError
        without it)."""
        core = self._core
        core.check()
        name = self._bucket(bucket)
        pause = None if poll is None else seconds(poll)
        options = watch_options(prefix, events, pause)
        if pause is not None:
            return Watching([self._polling(name, options, pause)])
        return Watching([self._notified(name, options, b) for b in self._places()])

    def _polling(self, bucket: str, options: WatchOptions, pause: float) -> Opener:
        async def work(bucket: str, key: str, options: WatchOptions) -> Source:
            return await poll_changes(
                bucket, lambda: self.list(bucket, prefix=options.prefix), pause, options.events
            )

        return lambda: self._core.seam.run("watch", bucket, "", options, work)

    def _notified(self, bucket: str, options: WatchOptions, backend: Backend) -> Opener:
        notifier = backend.need(backend.notifier, "events of its own; give poll=seconds")
        is_routed = self._pinned is None and bool(self._core.router)

        async def work(bucket: str, key: str, options: WatchOptions) -> Source:
            events = await backend.limited(notifier.watch(bucket, options), self._core.timeouts)
            return _Seen(
                events, lambda key: not is_routed or self._core.route(bucket, key) is backend
            )

        return lambda: self._core.seam.run("watch", bucket, "", options, work)


class _Seen:
    """A driver's events as the store's caller sees them."""

    def __init__(self, events: Events, owns: Callable[[str], bool]) -> None:
        self._events = events
        self._owns = owns

    def __aiter__(self) -> AsyncIterator[ObjectEvent]:
        return self

    async def __anext__(self) -> ObjectEvent:
        while True:
            event = await self._events.__anext__()
            if event.type == "watch.overflow" or self._owns(event.key):
                break
        if event.info is None:
            return event
        return ObjectEvent(event.type, event.bucket, event.key, listed(event.info, True))

    async def aclose(self) -> None:
        await self._events.aclose()
