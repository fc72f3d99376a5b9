"""Listings in key order, a page at a time, over directory names that are read once.

The names of a directory are kept as long as its (device, inode, mtime, ctime) stay the same,
and only if it had not been changed just before they were read: two changes within one tick
of the clock look like one (the "racy" rule of git's index).

A folder stands in the order of its siblings with a slash behind its name, which is where its
keys stand. Strings compare by code point, which is the order of their UTF-8 bytes.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from trove_async.driver import ListOptions
from trove_async.driver.listing import after_prefix, least_key, write_cursor
from trove_async.drivers.local import folders
from trove_async.drivers.local.ground import Ground
from trove_async.drivers.local.meta import Record, foreign
from trove_async.drivers.local.names import MAX_KEY, Target, bucket_path
from trove_async.errors import InvalidKeyError, ObjectNotFoundError, PermissionDeniedError
from trove_async.model import ObjectInfo, ObjectPage

__all__ = ["Lister"]

_SLICE: Final = 4096  # names sorted by one call, which holds the interpreter
_SETTLED: Final = 50_000_000  # nanoseconds after which a directory's mtime can be trusted
_REMEMBERED: Final = 20_000  # folders known to hold a file
_ENTRY: Final = 80  # bytes a name costs beside its characters, about


class _Names:
    """The entries of one directory. They are sorted when they are wanted a second time: the
    first page of a directory that is read once needs only the least of them."""

    __slots__ = ("_is_sorted", "_names", "cost", "identity", "is_kept")

    def __init__(
        self, identity: tuple[int, ...], names: list[str], *, is_kept: bool = False
    ) -> None:
        self.identity = identity
        self.is_kept = is_kept
        """The folder is an object as well, with a slash at the end of its key."""
        self._names = names
        self._is_sorted = len(names) <= _SLICE
        if self._is_sorted:
            names.sort()
        self.cost = sum(map(len, names)) + _ENTRY * len(names)

    def from_(self, low: str, wanted: int, *, fresh: bool) -> tuple[list[str], int, bool]:
        """(names, index of the first that may hold a key >= low, whether the names go on)."""
        if not self._is_sorted:
            if fresh and wanted < len(self._names) // 8:
                names = self._names
                if low:
                    folder = low.partition("/")[0] + "/"
                    names = [name for name in names if name >= low or name == folder]
                least = _least(names, wanted)
                return least, 0, len(least) == wanted
            self._names = _sorted(self._names)
            self._is_sorted = True
        names = self._names
        index = bisect_left(names, low)
        if "/" in low:
            index = min(index, bisect_left(names, low[: low.index("/") + 1]))
        return names, index, False


def _least(names: list[str], wanted: int) -> list[str]:
    """The first ``wanted`` in order: a sample tells below which name they are, and only those
    are sorted. Much faster than a heap when names come in falling order."""
    sample = sorted(names[:: max(1, len(names) // 1024)])
    index = 2 * wanted * len(sample) // max(1, len(names)) + 16
    if index < len(sample):
        pivot = sample[index]
        few = [name for name in names if name <= pivot]
        if len(few) >= wanted:
            few.sort()
            return few[:wanted]
    return _sorted(names)[:wanted]


def _sorted(names: list[str]) -> list[str]:
    """As `sorted`, in steps of which none holds the interpreter for long."""
    runs = []
    for start in range(0, len(names), _SLICE):
        run = names[start : start + _SLICE]
        run.sort()
        runs.append(run)
    while len(runs) > 1:
        pairs = []
        for start in range(0, len(runs), 2):
            pair = runs[start]
            if start + 1 < len(runs):
                pair += runs[start + 1]
                pair.sort()  # two runs: one merge
            pairs.append(pair)
        runs = pairs
    return runs[0] if runs else []


class Lister:
    """Of one opened root; its methods run in workers, several at a time."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._cache: OrderedDict[bytes, _Names] = OrderedDict()
        self._cost = 0
        self._guard = threading.Lock()
        self._full: dict[bytes, tuple[int, ...]] = {}

    def page(self, bucket: str, options: ListOptions) -> ObjectPage:
        place = bucket_path(bucket)
        self._ground.check_bucket(place)
        prefix, delimiter = options.prefix, options.delimiter
        low = least_key(options)
        objects: list[ObjectInfo] = []
        groups: list[str] = []
        marker: str | None = None
        while low is not None:
            walk = _Walk(self, place, prefix, low, delimiter, options.page_size + 1)
            low = None
            for key, is_group in walk:
                full = len(objects) + len(groups) >= options.page_size
                cut = -1
                if delimiter:
                    cut = len(key) if is_group else key.find(delimiter, len(prefix))
                if cut < 0 or not delimiter:
                    info = None if full else self.info(bucket, key)
                    if info is not None:
                        objects.append(info)
                        marker = write_cursor(key, is_prefix=False)
                    elif full and self._exists(bucket, key):
                        return ObjectPage(objects, groups, marker)
                    continue
                if full:
                    return ObjectPage(objects, groups, marker)
                group = key if is_group else key[: cut + len(delimiter)]
                groups.append(group)
                marker = write_cursor(group, is_prefix=True)
                if not is_group:
                    low = after_prefix(group)
                    break
        return ObjectPage(objects, groups, None)

    def _exists(self, bucket: str, key: str) -> bool:
        """Whether one more entry stands behind a full page."""
        path = bucket_path(bucket) + b"/" + key.encode()
        try:
            fd = self._ground.fs.open_beneath(self._ground.root, path, os.O_PATH)
        except OSError:
            return False
        self._ground.fs.close(fd)
        return True

    def info(self, bucket: str, key: str) -> ObjectInfo | None:
        """None when the file has vanished since its name was read."""
        ground = self._ground
        if folders.is_folder(key):
            try:
                return folders.look(ground, folders.target_of(bucket, key))
            except (ObjectNotFoundError, InvalidKeyError):
                return None
        try:
            target = Target(bucket, key)
            fd, _, record = ground.load(target)
        except (ObjectNotFoundError, InvalidKeyError):
            return None
        except (PermissionError, PermissionDeniedError):
            unread = self._unreadable(target)
            return None if unread is None else unread.info(key)
        ground.fs.close(fd)
        return record.info(key)

    def _unreadable(self, target: Target) -> Record | None:
        """A file that we may not open is listed with what its folder tells of it."""
        ground = self._ground
        try:
            folder = ground.open_folder(target.folder)
            if folder is None:
                return None
            try:
                status = ground.fs.stat(target.leaf, folder)
            finally:
                ground.fs.close(folder)
        except OSError:
            return None
        return foreign(target.key, status) if stat.S_ISREG(status.st_mode) else None

    def names(self, path: bytes) -> tuple[_Names, bool]:
        """(entries of a folder below the root, whether they were read just now)."""
        fs, ground = self._ground.fs, self._ground
        fd = _open(ground, path)
        if fd is None:
            return _Names((), []), True
        try:
            status = fs.fstat(fd)
            identity = _identity(status)
            with self._guard:
                kept = self._cache.get(path)
                if kept is not None and kept.identity == identity:
                    self._cache.move_to_end(path)
                    return kept, False
            began = time.time_ns()
            is_kept = bool(status.st_mode & stat.S_ISVTX)
            names = _Names(identity, _scan(ground, fd), is_kept=is_kept)
            if identity == _identity(fs.fstat(fd)) and began - identity[2] > _SETTLED:
                self._keep(path, names)
            return names, True
        finally:
            fs.close(fd)

    def _keep(self, path: bytes, names: _Names) -> None:
        limit = self._ground.config.name_cache
        with self._guard:
            old = self._cache.pop(path, None)
            if old is not None:
                self._cost -= old.cost
            if names.cost > limit:
                return
            self._cache[path] = names
            self._cost += names.cost
            while self._cost > limit:
                _, dropped = self._cache.popitem(last=False)
                self._cost -= dropped.cost

    def holds_object(self, path: bytes) -> bool:
        """Whether a folder is kept or any file is below it; reads no further than to the first, and
        remembers that a folder which did not change holds one."""
        ground = self._ground
        fd = _open(ground, path)
        if fd is None:
            return False
        below: list[str] = []
        try:
            status = ground.fs.fstat(fd)
            identity = _identity(status)
            if status.st_mode & stat.S_ISVTX or self._full.get(path) == identity:
                return True
            began = time.time_ns()
            for entry in ground.fs.scandir(fd):
                name = _readable(entry.name)
                if name is None:
                    continue
                if entry.is_file(follow_symlinks=False):
                    if began - identity[2] > _SETTLED:
                        self._remember(path, identity)
                    return True
                if entry.is_dir(follow_symlinks=False):
                    below.append(name)
        finally:
            ground.fs.close(fd)
        return any(self.holds_object(path + b"/" + name.encode()) for name in below)

    def _remember(self, path: bytes, identity: tuple[int, ...]) -> None:
        if len(self._full) >= _REMEMBERED:
            self._full.clear()
        self._full[path] = identity


class _Walk:
    """Keys of a bucket from ``low`` on that begin with ``prefix``, in order. With a slash for
    delimiter a folder below the prefix comes as one group, and is not read."""

    def __init__(
        self, lister: Lister, place: bytes, prefix: str, low: str, delimiter: str | None, most: int
    ) -> None:
        self._lister = lister
        self._place = place
        self._prefix = prefix
        self._low = low
        self._groups = delimiter == "/"
        self._most = most

    def __iter__(self) -> Iterator[tuple[str, bool]]:
        stack = [self._entries("", self._low)]
        while stack:
            for key, is_folder in stack[-1]:
                if not is_folder:
                    yield key, False
                elif (
                    self._groups
                    and key.find("/", len(self._prefix)) == len(key) - 1
                    and not self._low.startswith(key)
                ):
                    if self._lister.holds_object(self._path(key)):
                        yield key, True
                else:
                    stack.append(self._entries(key, self._low))
                    break
            else:
                stack.pop()

    def _path(self, folder: str) -> bytes:
        return (self._place + b"/" + folder.encode()).rstrip(b"/")

    def _entries(self, folder: str, low: str) -> Iterator[tuple[str, bool]]:
        """(path below the bucket, whether it is a folder) of what can hold wanted keys."""
        prefix = self._prefix
        rest = low[len(folder) :] if low.startswith(folder) else ""
        while True:
            found, fresh = self._lister.names(self._path(folder))
            if found.is_kept and low <= folder and folder.startswith(prefix):
                yield folder, False
            names, index, goes_on = found.from_(rest, self._most, fresh=fresh)
            for name in names[index:] if index else names:
                path = folder + name
                if not path.startswith(prefix):
                    if path > prefix and not prefix.startswith(path):
                        return
                    if not prefix.startswith(path):
                        continue
                if name[-1] != "/":
                    if len(path) <= MAX_KEY:
                        yield path, False
                elif after_prefix(path) is None or (after_prefix(path) or "") > low:
                    yield path, True
            if not goes_on:
                return
            rest = names[-1] + "\0" if names[-1][-1] != "/" else after_prefix(names[-1]) or ""


def _open(ground: Ground, path: bytes) -> int | None:
    """None: the folder vanished, or something else took its place."""
    try:
        return ground.fs.open_beneath(ground.root, path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)


def _readable(name: str) -> str | None:
    """None for a name that is not UTF-8: no key can say it."""
    if name.isascii():
        return name
    try:
        return os.fsencode(name).decode()
    except UnicodeDecodeError:
        return None


def _scan(ground: Ground, fd: int) -> list[str]:
    entries = ground.fs.entries(fd)
    names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    if len(names) < len(entries):
        names += [e.name + "/" for e in entries if e.is_dir(follow_symlinks=False)]
    if "".join(names).isascii():  # most folders: one question for all names
        return names
    return [readable for name in names if (readable := _readable(name)) is not None]
