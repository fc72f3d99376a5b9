"""The SFTP driver: each verb checks names, then talks to the server over a link of the pool."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self
from urllib.parse import quote

from trove_async._chunks import OneChunk
from trove_async._threads import settle
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
)
from trove_async.driver.conditions import check_read
from trove_async.driver.paths import PathTarget, bucket_path
from trove_async.drivers.sftp import buckets, folders, reader, writer
from trove_async.drivers.sftp.config import SFTPConfig, config_of
from trove_async.drivers.sftp.copying import copy
from trove_async.drivers.sftp.deleting import delete, delete_many
from trove_async.drivers.sftp.dial import load_credentials
from trove_async.drivers.sftp.faults import located
from trove_async.drivers.sftp.ground import Ground
from trove_async.drivers.sftp.listing import Lister
from trove_async.drivers.sftp.moving import move
from trove_async.drivers.sftp.multipart import Uploads
from trove_async.drivers.sftp.pool import Pool
from trove_async.drivers.sftp.sweep import sweep
from trove_async.drivers.sftp.tags import get_tags as read_tags
from trove_async.drivers.sftp.tags import set_tags as replace_tags
from trove_async.drivers.sftp.wire import Failure
from trove_async.errors import (
    BackendError,
    DriverClosedError,
    InvalidInputError,
    InvalidKeyError,
    ObjectChangedError,
    TroveError,
    UnsupportedError,
    WrongLoopError,
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

__all__ = ["SFTPDriver"]


class _Opened:
    """Everything that exists while the driver is open."""

    __slots__ = ("ground", "lister", "loop", "pool", "uploads")

    def __init__(self, ground: Ground, pool: Pool) -> None:
        self.ground = ground
        self.pool = pool
        self.loop = ground.loop
        self.lister = Lister(ground)
        self.uploads = Uploads(ground)


class SFTPDriver:
    """Plain files below ``config.path`` on an SFTP server. A file that another program puts
    there is an object with a type by its name; private state is in ``<path>/.trove``."""

    name: Final = "sftp"

    def __init__(self, config: SFTPConfig) -> None:
        self.config = config
        self._opened: _Opened | None = None
        self._features = _features(None)

    @property
    def features(self) -> Features:
        """Complete once the server has said, at `open`, what it can do."""
        return self._features

    @classmethod
    def from_dsn(cls, dsn: DSN) -> Self:
        return cls(config_of(dsn))

    def sibling(self) -> SFTPDriver:
        """Another, unopened driver on the same root, as a second process would have."""
        return SFTPDriver(self.config)

    @property
    def dsn(self) -> str | None:
        """A connection string that opens the same root; None when that would tell a password."""
        config = self.config
        if config.password is not None:
            return None
        user = f"{quote(config.user, safe='')}@" if config.user else ""
        host = f"[{config.host}]" if ":" in config.host else config.host
        params = {
            "key": config.key,
            "key_passphrase_env": config.key_passphrase_env,
            "known_hosts": config.known_hosts,
            "agent": config.agent if isinstance(config.agent, str) else str(config.agent).lower(),
            "connections": config.connections,
            "durability": config.durability,
        }
        query = "&".join(
            f"{name}={quote(str(value))}" for name, value in params.items() if value is not None
        )
        return f"sftp://{user}{host}:{config.port}{quote(config.path)}?{query}"

    def __repr__(self) -> str:
        return f"<SFTPDriver at {self.config.host}:{self.config.port}{self.config.path}>"

    # -- life --------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connects, makes the root, and removes what interrupted writers left."""
        if self._opened is not None:
            self._now()
            return
        pool: Pool | None = None
        done = False
        try:
            pool = Pool(self.config, await load_credentials(self.config))
            ground = Ground(self.config, pool)
            opened = _Opened(ground, pool)
            async with pool.use() as link:
                await ground.set_up(link)
                await sweep(ground, link, opened.uploads)
            self._features = _features(ground)
            self._opened = opened
            done = True
        except (Failure, TroveError) as exc:
            raise located(exc, "open", None)  # noqa: B904 -- the cause is set in it
        finally:
            if not done and pool is not None:
                await settle(asyncio.ensure_future(pool.close()))

    async def close(self) -> None:
        """Ends the connections. What is under way says DriverClosedError."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        if asyncio.get_running_loop() is not opened.loop:
            return  # that loop is gone, and its connections with it
        link = opened.pool.best()
        if link is not None:
            opened.ground.drop_gone(link)
        await settle(asyncio.ensure_future(opened.pool.close()))

    async def ping(self) -> None:
        async with self._verb("ping") as opened, opened.pool.use() as link:
            if await link.stat(opened.ground.root) is None:
                raise BackendError("the root is gone")

    def _now(self) -> _Opened:
        opened = self._opened
        if opened is None:
            raise DriverClosedError("the driver is not open", backend="sftp")
        if asyncio.get_running_loop() is not opened.loop:
            raise WrongLoopError("opened in another event loop", backend="sftp")
        return opened

    @asynccontextmanager
    async def _verb(
        self, operation: str, target: PathTarget | str | None = None
    ) -> AsyncGenerator[_Opened, None]:
        opened = self._now()
        try:
            yield opened
        except (Failure, TroveError) as exc:
            raise located(exc, operation, target)  # noqa: B904 -- the cause is set in it

    # -- objects -----------------------------------------------------------------------------

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        opened = self._now()
        self._refuse(options.if_match, options.if_none_match)
        if folders.is_folder(key):
            return await self._keep(bucket, key, body, options)
        target = PathTarget(bucket, key)
        try:
            return await writer.put(opened.ground, target, body, options)
        except (Failure, TroveError) as exc:
            raise located(exc, "put", target)  # noqa: B904 -- the cause is set in it

    async def _keep(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        """A folder that stays when it is empty."""
        target = folders.target_of(bucket, key)
        async for _ in body:
            raise InvalidKeyError("a key of a folder holds no bytes", bucket=bucket, key=key)
        async with self._verb("put", target) as opened, opened.pool.use() as link:
            return await folders.make(opened.ground, link, target, options)

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

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        opened = self._now()
        _no_versions(options.version_id)
        if folders.is_folder(key):
            info = await self.head(bucket, key, HeadOptions())
            check_read(options, info)
            return RawObject(info, OneChunk(b""), 0, 0)
        target = PathTarget(bucket, key)
        try:
            return await reader.get(opened.ground, target, options)
        except (Failure, TroveError) as exc:
            raise located(exc, "get", target)  # noqa: B904 -- the cause is set in it

    async def get_ranges(
        self, bucket: str, key: str, ranges: Sequence[ByteRange], options: GetOptions
    ) -> builtins.list[bytes]:
        _no_versions(options.version_id)
        target = PathTarget(bucket, key)
        async with self._verb("get_ranges", target) as opened:
            return await reader.get_ranges(opened.ground, target, ranges, options)

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        opened = self._now()
        _no_versions(options.version_id)
        if folders.is_folder(key):
            target = folders.target_of(bucket, key)
            async with self._verb("head", target), opened.pool.use() as link:
                return await folders.look(opened.ground, link, target)
        target = PathTarget(bucket, key)
        try:
            async with opened.pool.use() as link:
                return await reader.head(opened.ground, link, target)
        except (Failure, TroveError) as exc:
            raise located(exc, "head", target)  # noqa: B904 -- the cause is set in it

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        _no_versions(options.version_id)
        self._refuse(options.if_match, None)
        if folders.is_folder(key):
            target = folders.target_of(bucket, key)
            async with self._verb("delete", target) as opened, opened.pool.use() as link:
                await folders.drop(opened.ground, link, target)
            return
        target = PathTarget(bucket, key)
        async with self._verb("delete", target) as opened, opened.pool.use() as link:
            await delete(opened.ground, link, target)

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> builtins.list[DeleteResult]:
        async with self._verb("delete_many", bucket) as opened:
            return await delete_many(opened.ground, bucket, keys)

    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        bucket_path(bucket)
        async with self._verb("list", bucket) as opened:
            return await opened.lister.page(bucket, options)

    async def copy(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        self._refuse(None, options.if_none_match)
        if folders.is_folder(source.key) and folders.is_folder(target.key):
            return await self._keep_as(source, target, options)
        origin = PathTarget(source.bucket, source.key)
        goal = PathTarget(target.bucket, target.key)
        async with self._verb("copy", origin) as opened:
            return await copy(opened.ground, origin, goal, options)

    async def move(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        self._refuse(None, options.if_none_match)
        if source == target:
            if options == CopyOptions():
                return await self.head(source.bucket, source.key, HeadOptions())
            return await self.copy(source, target, options)
        if folders.is_folder(source.key) and folders.is_folder(target.key):
            info = await self._keep_as(source, target, options)
            await self.delete(source.bucket, source.key, DeleteOptions())
            return info
        origin = PathTarget(source.bucket, source.key)
        goal = PathTarget(target.bucket, target.key)
        async with self._verb("move", origin) as opened:
            return await move(opened.ground, origin, goal, options)

    def _refuse(self, if_match: str | None, if_none_match: str | None) -> None:
        """Nothing over SFTP compares and replaces at once."""
        if if_match is not None:
            raise UnsupportedError("SFTP has no if_match", backend="sftp")
        if if_none_match is not None and (
            if_none_match != "*" or "create" not in self._features.conditional
        ):
            raise UnsupportedError("this server has no create-only write", backend="sftp")

    # -- buckets -----------------------------------------------------------------------------

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        if options.region is not None:
            raise UnsupportedError("an SFTP bucket has no region", bucket=name, backend="sftp")
        bucket_path(name)
        async with self._verb("create_bucket", name) as opened, opened.pool.use() as link:
            await buckets.create(opened.ground, link, name)

    async def delete_bucket(self, name: str) -> None:
        bucket_path(name)
        async with self._verb("delete_bucket", name) as opened, opened.pool.use() as link:
            await buckets.remove(opened.ground, link, name)
            await opened.uploads.drop_bucket(link, name)

    async def list_buckets(self) -> builtins.list[BucketInfo]:
        async with self._verb("list_buckets") as opened, opened.pool.use() as link:
            return await buckets.listed(opened.ground, link)

    # -- tags --------------------------------------------------------------------------------

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        target = PathTarget(bucket, key)
        async with self._verb("get_tags", target) as opened, opened.pool.use() as link:
            return await read_tags(opened.ground, link, target)

    async def set_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        target = PathTarget(bucket, key)
        async with self._verb("set_tags", target) as opened, opened.pool.use() as link:
            await replace_tags(opened.ground, link, target, tags)

    # -- multipart ---------------------------------------------------------------------------

    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        target = PathTarget(bucket, key)
        async with self._verb("initiate_multipart", target) as opened:
            return await opened.uploads.initiate(target, options)

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        if not 1 <= number <= 10_000:
            raise InvalidInputError("part numbers go from 1 to 10000", bucket=bucket, key=key)
        target = PathTarget(bucket, key)
        async with self._verb("upload_part", target) as opened:
            return await opened.uploads.upload_part(target, upload_id, number, body)

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[PartInfo],
        options: PutOptions,
    ) -> ObjectInfo:
        self._refuse(options.if_match, options.if_none_match)
        target = PathTarget(bucket, key)
        async with self._verb("complete_multipart", target) as opened:
            return await opened.uploads.complete(target, upload_id, parts, options)

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        target = PathTarget(bucket, key)
        async with self._verb("abort_multipart", target) as opened:
            await opened.uploads.abort(target, upload_id)

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> builtins.list[PartInfo]:
        target = PathTarget(bucket, key)
        async with self._verb("list_parts", target) as opened:
            return await opened.uploads.list_parts(target, upload_id)

    async def list_uploads(self, bucket: str, prefix: str) -> builtins.list[UploadInfo]:
        bucket_path(bucket)
        async with self._verb("list_uploads", bucket) as opened:
            return await opened.uploads.list_uploads(bucket, prefix)


def _no_versions(version_id: str | None) -> None:
    if version_id is not None:
        raise UnsupportedError("SFTP keeps no versions", backend="sftp")


def _features(ground: Ground | None) -> Features:
    """``ground`` None: not opened yet, as an OpenSSH server would say."""
    native = {"delete_many", "get_ranges", "tags"}
    if ground is None or ground.can_copy:
        native.add("copy")
    if ground is None or (ground.can_link and ground.can_replace):
        native.add("move")
    has_create = ground is None or ground.can_link
    return Features(
        flat_keys=False,
        late_metadata=True,
        conditional=frozenset({"create"}) if has_create else frozenset(),
        max_parts=10_000,
        parts_in_order=True,
        atomic_overwrite=ground is None or ground.can_replace,
        native=frozenset(native),
    )
