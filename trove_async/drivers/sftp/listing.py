"""Listings in key order, over folders that are read as they are reached.

A folder stands in the order of its siblings with a slash behind its name, which is where its
keys stand. Strings compare by code point, which is the order of their UTF-8 bytes.

A folder costs the server all of its names, however few are wanted. So the folders on the way to
the last key of a page are kept for its next page, and for nothing else: a listing that begins
reads everything anew.
"""

from __future__ import annotations

import asyncio
import stat
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Final, NamedTuple

from trove_async.driver import ListOptions
from trove_async.driver.listing import after_prefix, least_key, write_cursor
from trove_async.driver.paths import MAX_KEY, bucket_path
from trove_async.drivers.sftp.folders import folder_info, is_folder
from trove_async.drivers.sftp.gathering import gathered
from trove_async.drivers.sftp.ground import KEEP, Ground
from trove_async.drivers.sftp.link import Link
from trove_async.drivers.sftp.record import foreign_info, identity_of
from trove_async.drivers.sftp.wire import Attributes, Name
from trove_async.model import ObjectInfo, ObjectPage

__all__ = ["Lister"]

_FRESH: Final = 10.0
"""Seconds between two pages after which names are read anew."""
_LISTINGS: Final = 8
_NAMES: Final = 200_000  # entries kept for the next page of one listing
_TURN: Final = 256  # entries shown in one turn of the loop
_STEP: Final = 4096  # names sorted in one
_ASIDE: Final = 16  # folders looked into at the same time


class _Folder(NamedTuple):
    """Entries of one folder by name, and the names in order."""

    names: list[str]
    attributes: dict[str, Attributes]
    kept: Attributes | None
    """Not None: the folder is an object as well, with a slash at the end of its key."""


Folders = dict[str, _Folder]
"""Key prefix (empty, or with a slash at its end) -> that folder."""


class _Kept(NamedTuple):
    folders: Folders
    since: float


class _Entry(NamedTuple):
    key: str
    attributes: Attributes | None
    """None: a folder, as one group."""


class Lister:
    """Of one opened root."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._kept: OrderedDict[tuple[object, ...], _Kept] = OrderedDict()

    async def page(self, bucket: str, options: ListOptions) -> ObjectPage:
        ground = self._ground
        place = ground.root + b"/" + bucket_path(bucket)
        low = least_key(options)
        folders = self._take(bucket, options)
        async with ground.pool.use() as link:
            if not folders:
                await ground.check_bucket(link, bucket)
            walk = _Walk(link, place, options, folders)
            found = await _collect(walk, low, options)
        if found.cursor is not None:
            self._keep(bucket, options, found.cursor, folders)
        return found

    def _take(self, bucket: str, options: ListOptions) -> Folders:
        if options.cursor is None:
            return {}
        kept = self._kept.pop((bucket, options.prefix, options.delimiter, options.cursor), None)
        if kept is None or self._ground.loop.time() - kept.since > _FRESH:
            return {}
        return kept.folders

    def _keep(self, bucket: str, options: ListOptions, cursor: str, folders: Folders) -> None:
        last = cursor[1:]
        held = {path: folder for path, folder in folders.items() if last.startswith(path)}
        if sum(len(folder.names) for folder in held.values()) > _NAMES:
            return
        now = self._ground.loop.time()
        self._kept[bucket, options.prefix, options.delimiter, cursor] = _Kept(held, now)
        while len(self._kept) > _LISTINGS:
            self._kept.popitem(last=False)


async def _in_order(found: Iterable[str]) -> list[str]:
    """Sorted, in steps of which none holds the loop for long."""
    names = list(found)
    if len(names) <= _STEP:
        names.sort()
        return names
    runs = []
    for start in range(0, len(names), _STEP):
        runs.append(sorted(names[start : start + _STEP]))
        await asyncio.sleep(0)
    while len(runs) > 1:
        merged = []
        for one in range(0, len(runs), 2):
            merged.append(sorted([*runs[one], *(runs[one + 1] if one + 1 < len(runs) else ())]))
            await asyncio.sleep(0)
        runs = merged
    return runs[0]


async def _collect(walk: _Walk, low: str | None, options: ListOptions) -> ObjectPage:
    prefix, delimiter = options.prefix, options.delimiter
    objects: list[ObjectInfo] = []
    groups: list[str] = []
    marker: str | None = None
    while low is not None:
        start, low = low, None
        async with aclosing(walk.entries(start)) as entries:
            async for key, attributes in entries:
                count = len(objects) + len(groups)
                if count >= options.page_size:
                    return ObjectPage(objects, groups, marker)
                if count % _TURN == _TURN - 1:
                    await asyncio.sleep(0)  # others have their turn
                cut = key.find(delimiter, len(prefix)) if delimiter else -1
                if attributes is not None and (cut < 0 or not delimiter):
                    objects.append(
                        folder_info(key, attributes)
                        if is_folder(key)
                        else foreign_info(key, identity_of(attributes))
                    )
                    marker = write_cursor(key, is_prefix=False)
                    continue
                group = key if attributes is None else key[: cut + len(delimiter or "")]
                groups.append(group)
                marker = write_cursor(group, is_prefix=True)
                if attributes is not None:
                    low = after_prefix(group)
                    break
    return ObjectPage(objects, groups, None)


class _Walk:
    """Keys of a bucket that begin with the prefix, in order. With a slash for delimiter a folder
    below the prefix comes as one group, and is looked into only to see that it is not empty."""

    def __init__(self, link: Link, place: bytes, options: ListOptions, folders: Folders) -> None:
        self._link = link
        self._place = place
        self._prefix = options.prefix
        self._groups = options.delimiter == "/"
        self._page = options.page_size
        self._folders = folders
        self._full: dict[str, bool] = {}

    async def entries(self, low: str) -> AsyncGenerator[_Entry, None]:
        """From ``low`` on."""
        stack = [await self._names("", low)]
        while stack:
            path, names, index = stack[-1]
            if index >= len(names):
                stack.pop()
                if path:
                    self._folders.pop(path, None)  # the walk does not come back to it
                continue
            stack[-1] = path, names, index + 1
            name = names[index]
            key = path + name
            if not key.startswith(self._prefix):
                if self._prefix.startswith(key) and name[-1] == "/":
                    stack.append(await self._names(key, low))
                elif key > self._prefix:
                    return  # all that follow are greater still
                continue
            if name[-1] != "/":
                if len(key) * 4 <= MAX_KEY or len(key.encode()) <= MAX_KEY:
                    yield _Entry(key, self._folders[path].attributes[name])
                continue
            bound = after_prefix(key)
            if bound is not None and bound <= low:
                continue
            if self._is_group(key) and not low.startswith(key):
                if await self._is_full(path, names, index):
                    yield _Entry(key, None)
                continue
            stack.append(await self._names(key, low))
            kept = self._folders[key].kept
            if kept is not None and low <= key:
                yield _Entry(key, kept)

    def _is_group(self, folder: str) -> bool:
        size = len(self._prefix)
        return self._groups and len(folder) > size and "/" not in folder[size:-1]

    async def _names(self, path: str, low: str) -> tuple[str, list[str], int]:
        """(folder, its names, index of the first that can hold a key >= ``low``)."""
        folder = self._folders.get(path)
        if folder is None:
            folder = self._folders[path] = await self._read(path)
        names = folder.names
        if not low.startswith(path):
            return path, names, 0 if path > low else len(names)
        rest = low[len(path) :]
        index = bisect_left(names, rest)
        if "/" in rest:
            index = min(index, bisect_left(names, rest[: rest.index("/") + 1]))
        return path, names, index

    async def _read(self, path: str) -> _Folder:
        found: dict[str, Attributes] = {}
        kept: Attributes | None = None

        def take(entries: list[Name]) -> None:
            nonlocal kept
            for raw, attributes in entries:
                if raw == KEEP and attributes.is_folder:
                    kept = attributes
                    continue
                try:
                    name = raw.decode()
                except UnicodeDecodeError:
                    continue  # no key can say it
                if stat.S_ISREG(attributes.mode):
                    found[name] = attributes
                elif stat.S_ISDIR(attributes.mode):
                    found[name + "/"] = attributes

        await self._link.scan(self._path(path), take)
        return _Folder(await _in_order(found), found, kept)

    def _path(self, path: str) -> bytes:
        return (self._place + b"/" + path.encode()).rstrip(b"/")

    async def _is_full(self, path: str, names: list[str], index: int) -> bool:
        """Whether any file is below a folder; its next siblings are looked into as well."""
        key = path + names[index]
        if key not in self._full:
            following = names[index : index + 4 * min(_ASIDE, self._page + 1)]
            wanted = [path + name for name in following if name[-1] == "/"][:_ASIDE]
            answers = await gathered([self._holds_file(one) for one in wanted])
            self._full.update(zip(wanted, answers, strict=True))
        return self._full[key]

    async def _holds_file(self, path: str) -> bool:
        below: list[str] = []
        for raw, attributes in await self._link.entries(self._path(path)) or ():
            if raw == KEEP and attributes.is_folder:
                return True
            try:
                name = raw.decode()
            except UnicodeDecodeError:
                continue
            if attributes.is_file:
                return True
            if attributes.is_folder:
                below.append(f"{path}{name}/")
        for one in below:
            if await self._holds_file(one):
                return True
        return False
