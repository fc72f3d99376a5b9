"""Copies, moves, deletes and directories."""

from __future__ import annotations

import errno
from contextlib import aclosing
from glob import has_magic
from typing import Final

from trove_async import (
    BucketExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    ObjectInfo,
    ObjectNotFoundError,
    Trove,
)
from trove_async.fsspec.entries import split
from trove_async.fsspec.lookup import Lookup

__all__ = ["Changing"]

_BATCH: Final = 1000


class Changing(Lookup):
    """Directories need not be made: writing below one is enough, and with its last object it is
    gone. Buckets are made and deleted as directories are."""

    async def _cp_file(self, path1: str, path2: str, **kwargs: object) -> None:
        """Of a directory: nothing but its mark, if it has one."""
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        store = await self._store()
        (bucket, key), (into, name) = split(source), split(target)
        try:
            if not key:
                raise ObjectNotFoundError("no object", bucket=bucket)
            await store.copy(bucket, key, into, name)
        except ObjectNotFoundError:
            if not await self._isdir(source):
                raise
            return
        self.invalidate_cache(target)

    async def _mv_file(self, path1: str, path2: str) -> None:
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        store = await self._store()
        await store.move(*split(source), *split(target))
        self.invalidate_cache(source)
        self.invalidate_cache(target)

    def mv(
        self,
        path1: str | list[str],
        path2: str | list[str],
        recursive: bool = False,
        maxdepth: int | None = None,
        **kwargs: object,
    ) -> None:
        """Onto itself, however that is written, nothing changes."""
        if self._strip_protocol(path1) != self._strip_protocol(path2):
            super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth, **kwargs)

    async def _rm_file(self, path: str, **kwargs: object) -> None:
        path = self._strip_protocol(path)
        if (await self._info(path, refresh=True))["type"] == "directory":
            raise IsADirectoryError(errno.EISDIR, "a directory; delete it recursively", path)
        await (await self._store()).delete(*split(path))
        self.invalidate_cache(path)

    async def _rm(
        self,
        path: str | list[str],
        recursive: bool = False,
        batch_size: int | None = None,
        maxdepth: int | None = None,
        **kwargs: object,
    ) -> None:
        """Many keys by one request. One path that is not there is FileNotFoundError, in a list
        of them it counts as deleted. ``recursive`` takes a bucket with it."""
        store = await self._store()
        doomed = _Doomed(store)
        dropped: list[str] = []
        for name in [path] if isinstance(path, str) else path:
            one = self._strip_protocol(name)
            if has_magic(one) and not await self._exists(one):
                for match in await self._expand_path(one, recursive, maxdepth):
                    if not await self._isdir(match):
                        await doomed.add(match)
            elif not recursive:
                if isinstance(path, str):
                    await self._rm_file(one)
                else:
                    await doomed.add(one)
            elif maxdepth is not None:
                for below in await self._find(one, maxdepth=maxdepth):
                    await doomed.add(below)
            else:
                await self._rm_tree(store, doomed, one)
                if "/" not in one:
                    dropped.append(one)
        await doomed.end()
        for bucket in dropped:
            await store.delete_bucket(bucket)
        for gone in doomed.paths:
            self.invalidate_cache(gone)
        for bucket in dropped:
            self.invalidate_cache(bucket)

    async def _rm_tree(self, store: Trove, doomed: _Doomed, path: str) -> None:
        bucket, key = split(path)
        if not bucket:
            raise ValueError("the root holds every bucket; delete them one by one")
        found = False
        if key and await store.exists(bucket, key):
            await doomed.add(path)
            found = True
        async with aclosing(store.list(bucket, prefix=f"{key}/" if key else "")) as objects:
            async for info in objects:
                assert isinstance(info, ObjectInfo)
                await doomed.add(f"{bucket}/{info.key}")
                found = True
        if not found and key:
            raise FileNotFoundError(path)
        self.invalidate_cache(path)

    async def _mkdir(self, path: str, create_parents: bool = True, **kwargs: object) -> None:
        """Makes the bucket; what is below one needs no directory. FileExistsError."""
        path = self._strip_protocol(path)
        bucket, key = split(path)
        if not key:
            await self._make_bucket(bucket)
            return
        if await self._exists(path):
            raise FileExistsError(errno.EEXIST, "it is there", path)
        if not await self._isdir(bucket):
            if not create_parents:
                raise BucketNotFoundError("no such bucket", bucket=bucket)
            await self._makedirs(bucket, exist_ok=True)

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        path = self._strip_protocol(path)
        bucket, _ = split(path)
        if await self._exists(path):
            if not exist_ok or not await self._isdir(path):
                raise FileExistsError(errno.EEXIST, "it is there", path)
        elif not await self._isdir(bucket):
            try:
                await self._make_bucket(bucket)
            except FileExistsError:  # made by somebody else meanwhile
                if path == bucket and not exist_ok:
                    raise

    async def _make_bucket(self, bucket: str) -> None:
        try:
            await (await self._store()).create_bucket(bucket)
        except BucketExistsError as exc:
            raise FileExistsError(errno.EEXIST, "the bucket is there", bucket) from exc
        self.invalidate_cache(bucket)

    async def _rmdir(self, path: str) -> None:
        """Of an empty directory: a bucket, or the mark of one. OSError when it is not empty."""
        path = self._strip_protocol(path)
        bucket, key = split(path)
        store = await self._store()
        if not key:
            try:
                await store.delete_bucket(bucket)
            except BucketNotEmptyError as exc:
                raise OSError(errno.ENOTEMPTY, "the bucket holds objects", path) from exc
        else:
            entry = await self._info(path, refresh=True)
            if entry["type"] != "directory":
                raise NotADirectoryError(errno.ENOTDIR, "a file", path)
            if await self._ls(path, detail=False, refresh=True):
                raise OSError(errno.ENOTEMPTY, "the directory holds objects", path)
            await store.delete(bucket, f"{key}/")
        self.invalidate_cache(path)


class _Doomed:
    """Keys to delete, a batch at a time."""

    def __init__(self, store: Trove) -> None:
        self._store = store
        self._keys: dict[str, list[str]] = {}
        self.paths: set[str] = set()
        """Directories whose listings are no longer true."""

    async def add(self, path: str) -> None:
        bucket, key = split(path)
        keys = self._keys.setdefault(bucket, [])
        keys.append(key)
        self.paths.add(path.rpartition("/")[0])
        if len(keys) >= _BATCH:
            await self._delete(bucket)

    async def end(self) -> None:
        for bucket in [*self._keys]:
            await self._delete(bucket)

    async def _delete(self, bucket: str) -> None:
        keys = self._keys.pop(bucket, [])
        for result in await self._store.delete_many(bucket, keys):
            if result.error is not None:
                raise result.error
