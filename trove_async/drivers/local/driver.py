"""The local driver: each verb checks names on the loop, then does its work in a worker."""

from __future__ import annotations

import asyncio
import builtins
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Self
from urllib.parse import quote

from trove_async._chunks import OneChunk
from trove_async.driver import (
    DSN,
    BucketOptions,
    ByteRange,
    Bytes,
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
from trove_async.driver.conditions import check_read
from trove_async.drivers.local import buckets, folders, reader, writer
from trove_async.drivers.local.base import LocalBase, Opened, no_versions
from trove_async.drivers.local.config import config_of
from trove_async.drivers.local.copying import Copy, move_file
from trove_async.drivers.local.faults import located
from trove_async.drivers.local.intake import Intake
from trove_async.drivers.local.meta import Record
from trove_async.drivers.local.multipart import Assembly
from trove_async.drivers.local.names import Target, bucket_path
from trove_async.drivers.local.watch import Watch
from trove_async.drivers.local.writer import Removal, new_etag
from trove_async.errors import (
    InvalidInputError,
    InvalidKeyError,
    InvalidMetadataError,
    InvalidPartError,
    ObjectChangedError,
    PreconditionFailedError,
    TroveError,
    UnsupportedError,
)
from trove_async.model import (
    BucketInfo,
    DeleteResult,
    ObjectInfo,
    ObjectPage,
    ObjectRef,
    PartInfo,
    UploadInfo,
)

__all__ = ["LocalDriver"]

_NOW: Final = 256 * 1024  # bytes that are written into memory faster than a worker wakes
_TOGETHER: Final = 64  # keys one job of a batch delete removes
_CHASES: Final = 100  # times a copy onto itself follows an object that others write


class LocalDriver(LocalBase):
    """Plain files below ``config.root``. A file that another program puts there is an object
    with a type by its name; private state is in ``<root>/.trove``."""

    features: Final = Features(
        flat_keys=False,
        listing_has_metadata=True,
        late_metadata=True,
        decided=True,
        conditional=frozenset({"create", "match"}),
        max_parts=10_000,
        native=frozenset({"copy", "move", "delete_many", "get_ranges", "watch", "tags"}),
    )

    @classmethod
    def from_dsn(cls, dsn: DSN) -> Self:
        return cls(config_of(dsn))

    def sibling(self) -> LocalDriver:
        """Another, unopened driver on the same root, as a second process would have."""
        return LocalDriver(self.config, self._fs)

    @property
    def dsn(self) -> str:
        """A connection string that opens the same root with the same settings."""
        path = quote(os.path.abspath(os.fspath(self.config.root)))
        where = f"file://{path}?durability={self.config.durability}"
        return f"{where}&metadata={self.config.metadata}"

    @property
    def catalog_path(self) -> str:
        """Where a store remembers what it must beside these objects."""
        return os.path.join(os.path.abspath(os.fspath(self.config.root)), ".trove/catalog.sqlite")

    def __repr__(self) -> str:
        return f"<LocalDriver at {os.fspath(self.config.root)!r}>"

    # -- put -----------------------------------------------------------------------------

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        opened = self._now()
        if folders.is_folder(key):
            return await self._keep(opened, bucket, key, body, options)
        target = Target(bucket, key)
        ground = opened.ground
        if options.if_match is not None or options.if_none_match is not None:
            check = partial(
                writer.check_now, ground, target, options.if_match, options.if_none_match
            )
            await opened.run(check, "put", target)
        intake: Intake | None = None
        try:
            small = _at_hand(body, options.size)
            if small is None:
                intake = Intake(opened, target, "put")
                small = await intake.pull(body)
            record = Record(
                0,
                0,
                new_etag(),
                options.content_type,
                _metadata(options),
                options.tags,
                options.storage_class,
            )
            if small is None:
                assert intake is not None
                staged = await intake.written()
                job = partial(
                    writer.publish,
                    staged,
                    target,
                    record,
                    options.if_match,
                    options.if_none_match,
                )
                await opened.run(job, "put", target)
            elif ground.medium != "memory" or not _put_now(opened, target, small, record, options):
                job = partial(
                    writer.put_small,
                    ground,
                    target,
                    small,
                    record,
                    options.if_match,
                    options.if_none_match,
                )
                await opened.run(job, "put", target)
        finally:
            if intake is not None and intake.is_used:
                await intake.end()
        info = record.info(key)
        if opened.watches:
            _tell(opened, bucket, key, info)
        return info

    async def _keep(
        self, opened: Opened, bucket: str, key: str, body: Chunks, options: PutOptions
    ) -> ObjectInfo:
        """A folder that stays when it is empty."""
        target = folders.target_of(bucket, key)
        async for _ in body:
            raise InvalidKeyError("a key of a folder holds no bytes", bucket=bucket, key=key)
        if any(not name.startswith("trove") for name in options.metadata):
            raise InvalidMetadataError("a folder has no metadata", bucket=bucket, key=key)
        if options.tags or options.storage_class is not None:
            raise UnsupportedError("a folder has no tags and no class", bucket=bucket, key=key)
        job = partial(folders.make, opened.ground, target, options.if_match, options.if_none_match)
        info = await opened.run(job, "put", target)
        if opened.watches:
            _tell(opened, bucket, key, info)
        return info

    async def _keep_as(
        self, source: ObjectRef, target: ObjectRef, options: CopyOptions
    ) -> ObjectInfo:
        info = await self.head(source.bucket, source.key, HeadOptions())
        if options.source_if_match not in (None, info.etag):
            raise ObjectChangedError("the source changed", bucket=source.bucket, key=source.key)
        put = PutOptions(
            info.content_type, options.metadata or {}, if_none_match=options.if_none_match
        )
        return await self.put(target.bucket, target.key, OneChunk(b""), put)

    # -- get, head -----------------------------------------------------------------------

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        opened = self._now()
        if options.version_id is not None:
            no_versions(options.version_id)
        if folders.is_folder(key):
            info = await self.head(bucket, key, HeadOptions())
            check_read(options, info)
            return RawObject(info, OneChunk(b""), 0, 0)
        target = Target(bucket, key)
        ground = opened.ground
        found: reader.Opened | None = None
        try:
            if ground.medium == "memory":
                found = reader.open_object(ground, target, options)
            elif ground.medium == "cached":
                found = reader.open_now(ground, target, options)
        except (OSError, TroveError) as exc:
            raise located(exc, "get", target)  # noqa: B904 -- the cause is set in it
        if found is None:
            job = opened.hop.run(partial(reader.open_object, ground, target, options))
            try:
                found = await job
            except (OSError, TroveError) as exc:
                raise located(exc, "get", target)  # noqa: B904 -- the cause is set in it
            except asyncio.CancelledError:
                if job.exception() is None and job.result()[4] >= 0:
                    ground.fs.close(job.result()[4])
                raise
        return reader.raw_object(ground, opened.hop, target, found)

    async def get_ranges(
        self, bucket: str, key: str, ranges: Sequence[ByteRange], options: GetOptions
    ) -> builtins.list[bytes]:
        opened = self._now()
        no_versions(options.version_id)
        target = Target(bucket, key)
        job = partial(reader.read_ranges, opened.ground, target, ranges, options)
        return await opened.run(job, "get_ranges", target)

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        opened = self._now()
        no_versions(options.version_id)
        if folders.is_folder(key):
            target = folders.target_of(bucket, key)
            return await opened.run(partial(folders.look, opened.ground, target), "head", target)
        target = Target(bucket, key)
        ground = opened.ground
        try:
            record = None
            if ground.medium == "memory":
                record = reader.head(ground, target)
            elif ground.medium == "cached":
                record = reader.head_now(ground, target)
        except (OSError, TroveError) as exc:
            raise located(exc, "head", target)  # noqa: B904 -- the cause is set in it
        if record is None:
            record = await opened.run(partial(reader.head, ground, target), "head", target)
        return record.info(key)

    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        opened = self._now()
        bucket_path(bucket)
        return await opened.run(partial(opened.lister.page, bucket, options), "list", bucket)

    # -- delete --------------------------------------------------------------------------

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        opened = self._now()
        no_versions(options.version_id)
        remove, target = _removal(bucket, key)
        job = partial(remove, opened.ground, target, options.if_match)
        gone = await opened.run(job, "delete", target)
        if gone is not None:
            _tell(opened, bucket, key, None)

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> builtins.list[DeleteResult]:
        """One fsync for each folder and job, not for each key."""
        opened = self._now()
        await opened.run(
            partial(opened.ground.check_bucket, bucket_path(bucket)), "delete_many", bucket
        )
        results: builtins.list[DeleteResult] = []
        for start in range(0, len(keys), _TOGETHER):
            job = partial(_delete_some, opened, bucket, keys[start : start + _TOGETHER])
            for result, is_gone in await opened.run(job, "delete_many", bucket):
                results.append(result)
                if is_gone:
                    _tell(opened, bucket, result.key, None)
        return results

    # -- copy, move ----------------------------------------------------------------------

    async def copy(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        opened = self._now()
        if folders.is_folder(source.key) and folders.is_folder(target.key):
            return await self._keep_as(source, target, options)
        for _ in range(_CHASES):
            try:
                return await self._copied(opened, source, target, options)
            except ObjectChangedError:
                if options.source_if_match is not None:
                    raise
        return await self._copied(opened, source, target, options)

    async def _copied(
        self, opened: Opened, source: ObjectRef, target: ObjectRef, options: CopyOptions
    ) -> ObjectInfo:
        """A copy onto itself replaces just what it has read: else it would take back a put that
        came in between."""
        origin, goal = Target(source.bucket, source.key), Target(target.bucket, target.key)
        is_same = source == target and options.if_none_match is None
        copy = Copy(opened.ground, origin, goal, options)
        try:
            done = await opened.run(copy.begin, "copy", origin)
            while not done:
                done = await opened.run(copy.more, "copy", origin)
            assert copy.staged is not None and copy.record is not None
            pin = copy.etag if is_same else None
            job = partial(
                writer.publish, copy.staged, goal, copy.record, pin, options.if_none_match
            )
            try:
                record = await opened.run(job, "copy", goal)
            except PreconditionFailedError as exc:
                if is_same:
                    raise ObjectChangedError(
                        "the object was replaced", bucket=goal.bucket, key=goal.key
                    ) from exc
                raise
        finally:
            await opened.undo(copy.end)
        info = record.info(goal.key)
        _tell(opened, goal.bucket, goal.key, info)
        return info

    async def server_copy(
        self, source: ObjectRef, target: ObjectRef, options: CopyOptions
    ) -> ObjectInfo:
        return await self.copy(source, target, options)

    async def move(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        """By rename where nothing of the record changes; else a copy, then the delete of just
        what was copied."""
        opened = self._now()
        if folders.is_folder(source.key) and folders.is_folder(target.key):
            info = await self._keep_as(source, target, options)
            if source != target:
                await self.delete(source.bucket, source.key, DeleteOptions())
            return info
        origin, goal = Target(source.bucket, source.key), Target(target.bucket, target.key)
        is_plain = options.metadata is None and options.content_type is None
        if source == target:
            if not is_plain or options.if_none_match is not None:
                return await self.copy(source, target, options)
            return await self.head(source.bucket, source.key, HeadOptions())
        if is_plain and options.source_if_match is None:
            job = partial(move_file, opened.ground, origin, goal, options.if_none_match)
            record = await opened.run(job, "move", origin)
            if record is not None:
                info = record.info(goal.key)
                _tell(opened, goal.bucket, goal.key, info)
                _tell(opened, origin.bucket, origin.key, None)
                return info
        etag = options.source_if_match
        if etag is None:
            etag = (await self.head(source.bucket, source.key, HeadOptions())).etag
        pinned = CopyOptions(
            options.metadata, options.content_type, options.if_none_match, source_if_match=etag
        )
        info = await self.copy(source, target, pinned)
        with suppress(PreconditionFailedError):  # a new object came there: not ours to remove
            await self.delete(source.bucket, source.key, DeleteOptions(if_match=etag))
        return info

    # -- buckets -------------------------------------------------------------------------

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        opened = self._now()
        if options.region is not None:
            raise UnsupportedError("a local bucket has no region", bucket=name, backend="local")
        bucket_path(name)
        await opened.run(partial(buckets.create, opened.ground, name), "create_bucket", name)

    async def delete_bucket(self, name: str) -> None:
        opened = self._now()
        bucket_path(name)

        def remove() -> None:
            buckets.remove_bucket(opened.ground, name)
            opened.uploads.drop_bucket(name)

        await opened.run(remove, "delete_bucket", name)
        for watch in [w for w in opened.watches if w.bucket == name]:
            watch.stop()

    async def list_buckets(self) -> builtins.list[BucketInfo]:
        opened = self._now()
        return await opened.run(partial(buckets.listed, opened.ground), "list_buckets")

    # -- multipart -----------------------------------------------------------------------

    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        opened = self._now()
        target = Target(bucket, key)
        job = partial(opened.uploads.initiate, target, options)
        return await opened.run(job, "initiate_multipart", target)

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        opened = self._now()
        target = Target(bucket, key)
        if not 1 <= number <= 10_000:
            raise InvalidInputError("part numbers go from 1 to 10000", bucket=bucket, key=key)
        await opened.run(partial(opened.uploads.check, target, upload_id), "upload_part", target)
        intake = Intake(opened, target, "upload_part")
        try:
            small = await intake.pull(body)
            if small is not None:
                intake.send(small)
            staged = await intake.written()
            job = partial(opened.uploads.add_part, target, upload_id, number, staged)
            return await opened.run(job, "upload_part", target)
        finally:
            await intake.end()

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[PartInfo],
        options: PutOptions,
    ) -> ObjectInfo:
        opened = self._now()
        target = Target(bucket, key)
        await opened.run(
            partial(opened.uploads.check, target, upload_id), "complete_multipart", target
        )
        numbers = [part.number for part in parts]
        if not parts or numbers != sorted(set(numbers)):
            raise InvalidPartError("parts in rising order, at least one", bucket=bucket, key=key)
        assembly = Assembly(opened.ground, opened.uploads, target, upload_id, parts)
        try:
            done = await opened.run(partial(assembly.begin, options), "complete_multipart", target)
            while not done:
                done = await opened.run(assembly.more, "complete_multipart", target)
            if options.late is not None:
                assembly.record.metadata = {**assembly.record.metadata, **options.late()}
            job = partial(opened.uploads.publish, target, upload_id, assembly, options)
            record = await opened.run(job, "complete_multipart", target)
        finally:
            await opened.undo(assembly.end)
        info = record.info(key)
        _tell(opened, bucket, key, info)
        return info

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        opened = self._now()
        target = Target(bucket, key)
        job = partial(opened.uploads.abort, target, upload_id)
        await opened.run(job, "abort_multipart", target)

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> builtins.list[PartInfo]:
        opened = self._now()
        target = Target(bucket, key)
        job = partial(opened.uploads.parts, target, upload_id)
        return await opened.run(job, "list_parts", target)

    async def list_uploads(self, bucket: str, prefix: str) -> builtins.list[UploadInfo]:
        opened = self._now()
        bucket_path(bucket)
        job = partial(opened.uploads.listed, bucket, prefix)
        return await opened.run(job, "list_uploads", bucket)

    # -- tags, events --------------------------------------------------------------------

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        opened = self._now()
        target = Target(bucket, key)
        record = await opened.run(partial(reader.head, opened.ground, target), "get_tags", target)
        return dict(record.tags or {})

    async def set_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        opened = self._now()
        target = Target(bucket, key)
        job = partial(writer.retag, opened.ground, target, dict(tags))
        await opened.run(job, "set_tags", target)

    async def watch(self, bucket: str, options: WatchOptions) -> Watch:
        opened = self._now()
        bucket_path(bucket)
        root = os.path.realpath(os.fspath(self.config.root))
        watch = Watch(opened.ground, opened.lister, bucket, root, options)
        try:
            await opened.run(watch.prepare, "watch", bucket)
        except BaseException:
            watch.discard()
            raise
        watch.on_close = opened.watches.remove
        opened.watches.append(watch)
        watch.start()
        return watch


def _at_hand(body: Chunks, size: int | None) -> builtins.list[Bytes] | None:
    """A small body that is in memory as one piece: nothing to pull."""
    if type(body) is not OneChunk or size is None or size > _NOW:
        return None
    data = body.whole(size)
    return None if data is None else [data] if data else []


def _put_now(
    opened: Opened,
    target: Target,
    pieces: builtins.list[Bytes],
    record: Record,
    options: PutOptions,
) -> bool:
    """A small put on the event loop, where the medium is memory and nothing blocks; False
    when another writer holds the key: a worker may wait for it.

    Also with many tasks: 13 short system calls in a worker, each giving the interpreter lock
    away and back, cost 260 us of CPU where the loop alone needs 146 (100 KiB)."""
    if sum(map(len, pieces)) > _NOW:
        return False
    try:
        writer.put_small(
            opened.ground,
            target,
            pieces,
            record,
            options.if_match,
            options.if_none_match,
            wait=False,
        )
    except BlockingIOError:
        return False
    except (OSError, TroveError) as exc:
        raise located(exc, "put", target)  # noqa: B904 -- the cause is set in it
    return True


def _removal(bucket: str, key: str) -> tuple[Removal, Target]:
    if folders.is_folder(key):
        return folders.drop, folders.target_of(bucket, key)
    return writer.remove, Target(bucket, key)


def _metadata(options: PutOptions) -> dict[str, str]:
    metadata = dict(options.metadata)
    if options.late is not None:
        metadata.update(options.late())
    return metadata


def _tell(opened: Opened, bucket: str, key: str, info: ObjectInfo | None) -> None:
    for watch in opened.watches:
        if watch.bucket == bucket:
            if info is not None:
                watch.changed(key, info)
            else:
                watch.deleted(key)


def _delete_some(
    opened: Opened, bucket: str, keys: Sequence[str]
) -> builtins.list[tuple[DeleteResult, bool]]:
    results: builtins.list[tuple[DeleteResult, bool]] = []
    changed: set[bytes] = set()
    for key in keys:
        try:
            remove, target = _removal(bucket, key)
            folder = remove(opened.ground, target, sync=False)
        except (OSError, TroveError) as exc:
            error = located(exc, "delete_many", bucket)
            error.at(key=key)
            results.append((DeleteResult(key, error), False))
            continue
        if folder is not None:
            changed.add(folder)
        results.append((DeleteResult(key), folder is not None))
    for folder in changed:
        opened.ground.sync_folder(folder)
    return results
