"""What is there: one path, one directory, everything below."""

from __future__ import annotations

from contextlib import aclosing, suppress

from trove_async import (
    CommonPrefix,
    InvalidBucketNameError,
    InvalidKeyError,
    ObjectInfo,
    ObjectNotFoundError,
    Trove,
)
from trove_async.fsspec.base import Base
from trove_async.fsspec.entries import Entry, directory, file, parents, split

__all__ = ["Lookup"]


class Lookup(Base):
    """Directories are what keys have in common. An object ``dir/`` marks one and is not shown."""

    async def _info(self, path: str, refresh: bool = False, **kwargs: object) -> Entry:
        path = self._strip_protocol(path)
        bucket, key = split(path)
        if not bucket:
            return directory("")
        if key and not refresh and (known := self._remembered(path)) is not None:
            return known
        store = await self._store()
        try:
            if key:
                with suppress(ObjectNotFoundError):
                    return file(bucket, await store.head(bucket, key))
            if await _is_directory(store, bucket, key):
                return directory(path)
        except (InvalidKeyError, InvalidBucketNameError) as exc:
            raise FileNotFoundError(f"nothing can have the name {path!r}") from exc
        raise FileNotFoundError(path)

    async def _ls(
        self, path: str, detail: bool = True, refresh: bool = False, **kwargs: object
    ) -> list[Entry] | list[str]:
        path = self._strip_protocol(path)
        entries: list[Entry] | None = None
        if not refresh:
            with suppress(KeyError):
                entries = self.dircache[path]
        if entries is None:
            store = await self._store()
            resolve = self._resolves(store)
            entries = await self._listed(store, path, detail and resolve)
            if detail or not resolve:
                self.dircache[path] = entries
        if detail:
            return [dict(entry) for entry in entries]
        return sorted(str(entry["name"]) for entry in entries)

    async def _listed(self, store: Trove, path: str, resolve: bool) -> list[Entry]:
        bucket, key = split(path)
        if not bucket:
            return [directory(found.name) for found in await store.list_buckets()]
        folder = f"{key}/" if key else ""
        entries, is_marked = await _level(store, bucket, folder, "", resolve)
        if entries or is_marked or not key:
            return entries
        entry = await self._info(path, refresh=True)
        return [entry] if entry["type"] == "file" else []

    def _remembered(self, path: str) -> Entry | None:
        """From a listing, where that tells all that a request would."""
        try:
            entries = self.dircache[self._parent(path)]
        except KeyError:
            return None
        for entry in entries:
            if entry["name"] == path and entry.get("encodings") is not None:
                return dict(entry)
        return None

    async def _find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        prefix: str = "",
        **kwargs: object,
    ) -> list[str] | dict[str, Entry]:
        """``prefix``: of the names directly below ``path``."""
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        path = self._strip_protocol(path)
        bucket, key = split(path)
        store = await self._store()
        resolve = detail and self._resolves(store)
        found: dict[str, Entry] = {}
        for name in [bucket] if bucket else [b.name for b in await store.list_buckets()]:
            if not bucket:
                if not name.startswith(prefix):
                    continue
                found[name] = directory(name)
                if maxdepth == 1:
                    continue
            folder = f"{key}/" if key else ""
            stem = prefix if bucket else ""
            depth = maxdepth if maxdepth is None or bucket else maxdepth - 1
            try:
                if depth is None:
                    found.update(await self._all(store, name, folder, stem, resolve))
                else:
                    found.update(await self._levels(store, name, folder, stem, resolve, depth))
            except (FileNotFoundError, InvalidKeyError, InvalidBucketNameError):
                continue  # no such bucket, nor can there be: nothing is below
        if not withdirs:
            found = {name: entry for name, entry in found.items() if entry["type"] == "file"}
        elif path and path not in found and await self._isdir(path):
            found[path] = directory(path)
        if not found and key and await self._isfile(path):
            found[path] = await self._info(path)
        names = sorted(found)
        return {name: found[name] for name in names} if detail else names

    async def _all(
        self, store: Trove, bucket: str, folder: str, stem: str, resolve: bool
    ) -> dict[str, Entry]:
        """One listing, however deep; its directories too."""
        found: dict[str, Entry] = {}
        root = f"{bucket}/{folder}".rstrip("/")
        async with aclosing(store.list(bucket, prefix=folder + stem, resolve=resolve)) as objects:
            async for info in objects:
                assert isinstance(info, ObjectInfo)
                name = f"{bucket}/{info.key}"
                for above in parents(name, root):
                    if above not in found:
                        found[above] = directory(above)
                if not info.key.endswith("/"):
                    found[name] = file(bucket, info)
        return found

    async def _levels(
        self, store: Trove, bucket: str, folder: str, stem: str, resolve: bool, depth: int
    ) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        folders = [folder]
        while folders and depth:
            below: list[str] = []
            for one in folders:
                entries, _ = await _level(store, bucket, one, stem, resolve)
                for entry in entries:
                    name = str(entry["name"])
                    if entry["type"] == "directory":
                        below.append(f"{split(name)[1]}/")
                        found.setdefault(name, entry)
                    else:
                        found[name] = entry
            folders, stem, depth = below, "", depth - 1
        return found

    async def _du(
        self, path: str, total: bool = True, maxdepth: int | None = None, **kwargs: object
    ) -> int | dict[str, int]:
        found = await self._find(path, maxdepth=maxdepth, detail=True)
        assert isinstance(found, dict)
        sizes = {name: int(str(entry["size"])) for name, entry in found.items()}
        return sum(sizes.values()) if total else sizes

    async def _isdir(self, path: str) -> bool:
        try:
            return bool((await self._info(path))["type"] == "directory")
        except FileNotFoundError:
            return False

    async def _isfile(self, path: str) -> bool:
        try:
            return bool((await self._info(path))["type"] == "file")
        except FileNotFoundError:
            return False


async def _level(
    store: Trove, bucket: str, folder: str, stem: str, resolve: bool
) -> tuple[list[Entry], bool]:
    """(what is directly below ``folder``, whether that is marked by an object of its name).

    Names with an empty segment, as ``a//b``, have no place in a tree: `find` shows them."""
    found: list[Entry] = []
    is_marked = False
    async with aclosing(
        store.list(bucket, prefix=folder + stem, delimiter="/", resolve=resolve)
    ) as entries:
        async for entry in entries:
            if isinstance(entry, CommonPrefix):
                if not entry.prefix.endswith("//") and entry.prefix != "/":
                    found.append(directory(f"{bucket}/{entry.prefix[:-1]}"))
            elif entry.key == folder:
                is_marked = True
            else:
                found.append(file(bucket, entry))
    return found, is_marked


async def _is_directory(store: Trove, bucket: str, key: str) -> bool:
    """A bucket that is not there is BucketNotFoundError."""
    cursor: str | None = None
    while True:
        page = await store.list_page(
            bucket, prefix=f"{key}/" if key else "", page_size=1, cursor=cursor
        )
        if page.objects or page.prefixes or not key:
            return True
        cursor = page.cursor
        if cursor is None:
            return False
