"""The driver: what blocks is done by workers, or at once where it is only memory."""

from __future__ import annotations

import asyncio
import builtins
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import BinaryIO, Final, Literal, Self, TypeVar, cast

from trove_async._threads import Hop, settle
from trove_async.driver import (
    DSN,
    BucketOptions,
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
)
from trove_async.driver.conditions import check_read
from trove_async.driver.paths import PathTarget, bucket_path
from trove_async.drivers.fsspec.connecting import PREFIX, Connect, is_object_store, plan
from trove_async.drivers.fsspec.faults import translating
from trove_async.drivers.fsspec.ground import Found, Ground
from trove_async.drivers.fsspec.identity import Record
from trove_async.drivers.fsspec.listing import Lister
from trove_async.drivers.fsspec.reading import Body
from trove_async.drivers.fsspec.sdk import AbstractFileSystem
from trove_async.errors import (
    DriverClosedError,
    ObjectChangedError,
    PreconditionFailedError,
    UnsupportedError,
    WrongLoopError,
)
from trove_async.model import BucketInfo, ObjectInfo, ObjectPage, ObjectRef

__all__ = ["FsspecDriver"]

T = TypeVar("T")
Publish = Literal["auto", "rename", "put"]
_GATHER: Final = 1 << 20
"""Bytes of small chunks that go to a worker together."""
_STALE: Final = 24 * 3600.0
_WORKERS: Final = 8
_CHASES: Final = 100
"""Times a copy onto itself follows an object that others write."""


class FsspecDriver:
    """``fsspec+<protocol>://...``, or over an instance: ``FsspecDriver(fs, root)``.

    Objects are plain files at ``<root>/<bucket>/<key>``; metadata is in ``<root>/.trove``.
    ``publish``: ``rename`` writes under another name and renames, ``put`` hands a finished
    local file to the file system, as is right for object stores; ``auto`` knows which are.
    What is declared is what holds for this file system; see docs/fsspec.md.
    """

    def __init__(
        self, fs: AbstractFileSystem | Connect, root: str, *, publish: Publish = "auto"
    ) -> None:
        self._connect: Connect = (lambda: fs) if isinstance(fs, AbstractFileSystem) else fs
        self._root = root
        self._publish = publish
        self._ground: Ground | None = None
        self._hop: Hop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.name = "fsspec"
        self.features = Features(flat_keys=False, late_metadata=True, atomic_overwrite=False)
        self.in_memory = False

    @classmethod
    def from_dsn(cls, dsn: DSN) -> Self:
        connect, root = plan(dsn)
        publish = dsn.choice("publish", "auto", "auto", "rename", "put")
        made = cls(connect, root, publish=cast("Publish", publish))
        made.name = f"{PREFIX}{dsn.scheme.removeprefix(PREFIX)}"
        return made

    def __repr__(self) -> str:
        return f"<FsspecDriver {self.name}, {'open' if self._ground else 'not open'}>"

    # -- life ------------------------------------------------------------------------------

    async def open(self) -> None:
        if self._ground is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._hop = hop = Hop(_WORKERS, "trove-fsspec")
        try:
            with translating(self.name, "open"):
                ground = await hop.run(self._grounded)
        except BaseException:
            self._hop = None
            await hop.close()
            raise
        self._ground = ground
        self._lister = Lister(ground)
        self.in_memory = ground.in_memory
        sure = ground.in_memory or ground.is_local
        self.features = Features(
            flat_keys=False,
            late_metadata=True,
            # Elsewhere nothing keeps two processes from deciding at once.
            conditional=frozenset({"create", "match"}) if ground.in_memory else frozenset(),
            atomic_overwrite=sure,
        )

    def _grounded(self) -> Ground:
        ground = Ground(self._connect(), self._root)
        if self._publish == "auto":
            self._puts = is_object_store(ground.fs)
        else:
            self._puts = self._publish == "put"
        with suppress(Exception):  # a file system that cannot tell or delete keeps them
            ground.sweep(_STALE)
        return ground

    async def close(self) -> None:
        self._ground = None
        hop, self._hop = self._hop, None
        if hop is not None:
            await hop.close()

    def _opened(self) -> Ground:
        if self._ground is None:
            raise DriverClosedError("the driver is not open", backend=self.name)
        if asyncio.get_running_loop() is not self._loop:
            raise WrongLoopError("the driver was opened in another event loop", backend=self.name)
        return self._ground

    async def run(
        self,
        work: Callable[[], T],
        undo: Callable[[T], object] | None = None,
        *,
        is_long: bool = False,
    ) -> T:
        """``work`` runs to its end whatever happens to the task; ``undo`` then takes back what
        it gave. ``is_long``: by a worker, also in memory."""
        if self.in_memory and not is_long:
            return work()
        hop = self._hop
        if hop is None:
            raise DriverClosedError("the driver is closed", backend=self.name)
        job = hop.run(work)
        try:
            return await job
        except asyncio.CancelledError:
            if undo is not None and job.done() and job.exception() is None:
                await self._undone(hop, partial(undo, job.result()))
            raise

    async def _undone(self, hop: Hop, undo: Callable[[], object]) -> None:
        """By a worker: to close or delete a file may be a journey."""
        try:
            undoing = hop.run(undo)
        except DriverClosedError:
            undo()
        else:
            await settle(undoing)

    async def ping(self) -> None:
        ground = self._opened()
        with translating(self.name, "ping"):
            await self.run(lambda: ground.fs.exists(ground.root or "/"))

    # -- objects ---------------------------------------------------------------------------

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        ground = self._opened()
        target = PathTarget(bucket, key)
        if options.storage_class is not None:
            raise UnsupportedError("no storage classes here", bucket=bucket, key=key)
        if options.tags:
            raise UnsupportedError("no tags here", bucket=bucket, key=key)
        self._need_conditions(options.if_match, options.if_none_match)
        with translating(self.name, "put", bucket, key):
            staged = await self.run(lambda: self._stage(ground, target), Staged.drop)
            try:
                await self._write(staged, body)
                record = _record_of(options)

                def publish() -> ObjectInfo:
                    staged.file.close()
                    if staged.is_here:
                        ground.check_place(target)
                        return ground.put_file(staged.path, target, record)
                    return ground.publish(
                        staged.path, target, record, options.if_match, options.if_none_match
                    )

                info = await self.run(publish)
            except BaseException:
                await self._dropped(staged)
                raise
            if staged.is_here:
                await self._dropped(staged)
        return info

    def _need_conditions(self, if_match: str | None, if_none_match: str | None) -> None:
        wanted = {"match"} if if_match is not None else set()
        wanted |= {"create"} if if_none_match is not None else set()
        if not wanted <= self.features.conditional:
            raise UnsupportedError("conditions cannot be kept here", backend=self.name)

    def _stage(self, ground: Ground, target: PathTarget) -> Staged:
        ground.check_place(target)
        if self._puts:
            number, path = tempfile.mkstemp(prefix="trove-")
            return Staged(ground, path, os.fdopen(number, "wb"), is_here=True)
        path = ground.new_name()
        return Staged(ground, path, ground.fs.open(path, "wb"), is_here=False)

    async def _write(self, staged: Staged, body: Chunks) -> None:
        held: list[bytes] = []
        size = 0
        async for chunk in body:
            if len(chunk) < _GATHER:
                held.append(bytes(chunk))  # the chunk's owner may use it again
                size += len(chunk)
                if size < _GATHER:
                    continue
                await self._written(staged, b"".join(held))
                held, size = [], 0
                continue
            if held:
                await self._written(staged, b"".join(held))
                held, size = [], 0
            await self._written(staged, chunk)
        if held:
            await self._written(staged, b"".join(held))

    async def _written(self, staged: Staged, data: Bytes) -> None:
        await self.run(lambda: staged.file.write(data))
        if self.in_memory:
            await asyncio.sleep(0)  # others have their turn

    async def _dropped(self, staged: Staged) -> None:
        if self._hop is None or self.in_memory:
            staged.drop()
        else:
            await settle(self._hop.run(staged.drop))

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        ground = self._opened()
        target = PathTarget(bucket, key)
        if options.version_id is not None:
            raise UnsupportedError("no versions here", bucket=bucket, key=key)
        with translating(self.name, "get", bucket, key):
            found, file = await self.run(lambda: ground.open(target), _close)
            try:
                check_read(options, found.info)
                size = found.identity.size
                start, stop = options.range.resolve(size) if options.range else (0, size)
            except BaseException:
                await self.close_file(file)
                raise
        body = Body(self, ground, target, found.identity, file, start, stop)
        return RawObject(found.info, body, start, stop)

    async def close_file(self, file: BinaryIO) -> None:
        """Also once the driver is closed."""
        if self._hop is None or self.in_memory:
            file.close()
        else:
            await settle(self._hop.run(file.close))

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        ground = self._opened()
        target = PathTarget(bucket, key)
        if options.version_id is not None:
            raise UnsupportedError("no versions here", bucket=bucket, key=key)
        with translating(self.name, "head", bucket, key):
            return (await self.run(lambda: ground.look(target))).info

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        ground = self._opened()
        target = PathTarget(bucket, key)
        if options.version_id is not None:
            raise UnsupportedError("no versions here", bucket=bucket, key=key)
        self._need_conditions(options.if_match, None)
        with translating(self.name, "delete", bucket, key):
            await self.run(lambda: ground.delete(target, options.if_match))

    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        self._opened()
        bucket_path(bucket)
        with translating(self.name, "list", bucket):
            return await self.run(lambda: self._lister.page(bucket, options), is_long=True)

    async def copy(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        ground = self._opened()
        here, there = PathTarget(source.bucket, source.key), PathTarget(target.bucket, target.key)
        self._need_conditions(None, options.if_none_match)

        def once() -> ObjectInfo:
            with translating(self.name, "copy", source.bucket, source.key):
                staged, found = ground.stage_copy(here, options.source_if_match)
            with translating(self.name, "copy", target.bucket, target.key):
                is_same = source == target and options.if_none_match is None
                pin = found.info.etag if is_same else None
                try:
                    return ground.publish(
                        staged, there, _copied(found, options), pin, options.if_none_match
                    )
                except PreconditionFailedError as exc:
                    ground.forget(staged)
                    if is_same:
                        raise ObjectChangedError(
                            "the object was replaced", bucket=target.bucket, key=target.key
                        ) from exc
                    raise
                except BaseException:
                    ground.forget(staged)
                    raise

        def work() -> ObjectInfo:
            for _ in range(_CHASES):
                try:
                    return once()
                except ObjectChangedError:
                    if options.source_if_match is not None:
                        raise
            return once()

        return await self.run(work)

    # -- buckets ---------------------------------------------------------------------------

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        ground = self._opened()
        bucket_path(name)
        if options.region is not None:
            raise UnsupportedError("no regions here", bucket=name)
        with translating(self.name, "create_bucket", name):
            await self.run(lambda: ground.create_bucket(name))

    async def delete_bucket(self, name: str) -> None:
        ground = self._opened()
        bucket_path(name)
        with translating(self.name, "delete_bucket", name):
            await self.run(lambda: ground.delete_bucket(name))

    async def list_buckets(self) -> builtins.list[BucketInfo]:
        ground = self._opened()
        with translating(self.name, "list_buckets"):
            return [BucketInfo(name) for name in await self.run(ground.buckets)]


class Staged:
    """A file that nobody sees: in the file system, or on this machine (``is_here``)."""

    __slots__ = ("_ground", "file", "is_here", "path")

    def __init__(self, ground: Ground, path: str, file: BinaryIO, *, is_here: bool) -> None:
        self._ground = ground
        self.path = path
        self.file = file
        self.is_here = is_here

    def drop(self) -> None:
        """Twice is fine, and so is one that was published."""
        with suppress(Exception):  # it may publish what is then deleted; it must not hide why
            self.file.close()
        if self.is_here:
            with suppress(FileNotFoundError):
                os.unlink(self.path)
        else:
            self._ground.forget(self.path)


def _close(opened: tuple[Found, BinaryIO]) -> None:
    opened[1].close()


def _record_of(options: PutOptions) -> Record:
    """Legal once the body has ended."""
    metadata = dict(options.metadata)
    if options.late is not None:
        metadata.update(options.late())
    return Record(options.content_type, metadata)


def _copied(found: Found, options: CopyOptions) -> Record:
    return Record(
        options.content_type or found.info.content_type,
        dict(found.info.metadata if options.metadata is None else options.metadata),
    )
