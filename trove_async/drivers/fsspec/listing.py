"""Pages of a listing, in the order of the keys' bytes, out of folders that are read as needed."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Final

from trove_async.driver import ListOptions
from trove_async.driver.listing import after_prefix, least_key, write_cursor
from trove_async.driver.paths import MAX_KEY
from trove_async.drivers.fsspec.ground import Ground
from trove_async.drivers.fsspec.identity import foreign_info, identity_of
from trove_async.model import ObjectInfo, ObjectPage

__all__ = ["Lister"]

_FRESH: Final = 10.0
"""Seconds between two pages after which names are read anew."""
_LISTINGS: Final = 8
_NAMES: Final = 200_000  # entries kept for the next page of one listing

Entry = Mapping[str, object]
Folder = tuple[list[str], dict[str, Entry]]
"""Names in order, those of folders with a slash at their end; what is known of each."""


class Lister:
    """Blocks, as its ground does; used by one call at a time per cursor."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._kept: OrderedDict[tuple[object, ...], tuple[dict[str, Folder], float]] = OrderedDict()

    def page(self, bucket: str, options: ListOptions) -> ObjectPage:
        low = least_key(options)
        about = (bucket, options.prefix, options.delimiter)
        kept = self._kept.pop((*about, options.cursor), None) if options.cursor else None
        folders = kept[0] if kept is not None and time.monotonic() - kept[1] < _FRESH else {}
        if not folders:
            self._ground.check_bucket(bucket)
        walk = _Walk(self._ground, bucket, options, folders)
        found = _collect(walk, low, options)
        if found.cursor is not None:
            last = found.cursor[1:]
            held = {path: folder for path, folder in walk.folders.items() if last.startswith(path)}
            if sum(len(names) for names, _ in held.values()) <= _NAMES:
                self._kept[(*about, found.cursor)] = held, time.monotonic()
                while len(self._kept) > _LISTINGS:
                    self._kept.popitem(last=False)
        return found


def _collect(walk: _Walk, low: str | None, options: ListOptions) -> ObjectPage:
    prefix, delimiter = options.prefix, options.delimiter
    objects: list[ObjectInfo] = []
    groups: list[str] = []
    marker: str | None = None
    while low is not None:
        start, low = low, None
        for key, entry in walk.entries("", start):
            if len(objects) + len(groups) >= options.page_size:
                return ObjectPage(objects, groups, marker)
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if entry is not None and (cut < 0 or not delimiter):
                objects.append(foreign_info(key, identity_of(entry)))
                marker = write_cursor(key, is_prefix=False)
                continue
            group = key if entry is None else key[: cut + len(delimiter or "")]
            groups.append(group)
            marker = write_cursor(group, is_prefix=True)
            if entry is not None:
                low = after_prefix(group)
                break
    return ObjectPage(objects, groups, None)


class _Walk:
    """With a slash for delimiter a folder below the prefix comes as one group, and is looked
    into only to see that it is not empty."""

    def __init__(
        self, ground: Ground, bucket: str, options: ListOptions, folders: dict[str, Folder]
    ) -> None:
        self._ground = ground
        self._place = ground.bucket_path(bucket)
        self._prefix = options.prefix
        self._grouped = options.delimiter == "/"
        self.folders = folders

    def entries(self, path: str, low: str) -> Iterator[tuple[str, Entry | None]]:
        """Keys from ``low`` on below one folder; None for a group."""
        names, known = self._read(path)
        prefix = self._prefix
        for name in names[self._from(path, names, low) :]:
            key = path + name
            if not key.startswith(prefix):
                if prefix.startswith(key) and name[-1] == "/":
                    yield from self.entries(key, low)
                elif key > prefix:
                    return  # all that follow are greater still
                continue
            if name[-1] != "/":
                if len(key) * 4 <= MAX_KEY or len(key.encode()) <= MAX_KEY:
                    yield key, known[name]
                continue
            bound = after_prefix(key)
            if bound is not None and bound <= low:
                continue
            if self._is_group(key) and not low.startswith(key):
                if self._ground.holds_file(f"{self._place}/{key[:-1]}"):
                    yield key, None
                continue
            yield from self.entries(key, low)
            self.folders.pop(key, None)  # the walk does not come back to it

    def _is_group(self, folder: str) -> bool:
        size = len(self._prefix)
        return self._grouped and len(folder) > size and "/" not in folder[size:-1]

    def _from(self, path: str, names: list[str], low: str) -> int:
        """Index of the first name that can hold a key >= ``low``."""
        if not low.startswith(path):
            return 0 if path > low else len(names)
        rest = low[len(path) :]
        index = bisect_left(names, rest)
        if "/" in rest:
            index = min(index, bisect_left(names, rest[: rest.index("/") + 1]))
        return index

    def _read(self, path: str) -> Folder:
        folder = self.folders.get(path)
        if folder is None:
            found = {
                name if entry["type"] == "file" else f"{name}/": entry
                for name, entry in self._ground.names(f"{self._place}/{path}".rstrip("/"))
            }
            folder = self.folders[path] = (sorted(found), found)
        return folder
