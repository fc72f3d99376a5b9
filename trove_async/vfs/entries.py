"""Directories as the keys of a bucket imply them: what is at a path, and what is below it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final

from trove_async._together import both, side_by_side
from trove_async.errors import (
    IsDirectoryError,
    KeyConflictError,
    NotDirectoryError,
    ObjectNotFoundError,
    TroveError,
)
from trove_async.model import CommonPrefix, ObjectInfo
from trove_async.vfs.info import FileInfo, directory, file_info
from trove_async.vfs.paths import ancestors, below, is_name, joined
from trove_async.vfs.patterns import Matcher, head_of, is_magic, matcher
from trove_async.vfs.store import Store

__all__ = ["Entries"]

Infos = AsyncGenerator[FileInfo, None]
Triples = AsyncGenerator[tuple[str, list[str], list[str]], None]

NAMES: Final = 10_000
"""Names of one directory that a walk gives at once."""


class Entries:
    def __init__(self, store: Store, bucket: str) -> None:
        self.store = store
        self.bucket = bucket

    # -- what is there -----------------------------------------------------------------------

    async def object(self, key: str) -> ObjectInfo | None:
        try:
            return await self.store.head(self.bucket, key)
        except ObjectNotFoundError:
            return None

    async def first(self, key: str, count: int = 1) -> list[ObjectInfo]:
        """The first objects below a directory; its marker, if there is one, before all others."""
        async with aclosing(
            self.store.list(self.bucket, prefix=below(key), limit=count)
        ) as entries:
            return [entry async for entry in entries if isinstance(entry, ObjectInfo)]

    async def look(self, key: str) -> FileInfo | None:
        """A file before a directory of the same path, which only flat backends can hold."""
        if key and (found := await self.object(key)) is not None:
            return file_info(found)
        inside = await self.first(key)
        if not inside:
            return directory("") if not key else None
        return directory(key, inside[0].last_modified if inside[0].key == below(key) else None)

    async def stat(self, key: str) -> FileInfo:
        found = await self.look(key)
        if found is None:
            raise await self.missing(key)
        return found

    # -- what is in the way --------------------------------------------------------------------

    async def file_above(self, key: str) -> str | None:
        """A file that stands where ``key`` needs a directory."""
        above = ancestors(key)
        found = await side_by_side(above, self.object)
        return next((name for name, info in zip(above, found, strict=True) if info), None)

    async def missing(self, key: str) -> TroveError:
        """Why nothing is at a path."""
        blocker = await self.file_above(key)
        if blocker is not None:
            return self.not_directory(blocker)
        return ObjectNotFoundError("no such file or directory", bucket=self.bucket, key=key)

    async def no_file(self, key: str) -> TroveError:
        """Why no object is at a path."""
        if await self.first(key):
            return self.is_directory(key)
        return await self.missing(key)

    def not_directory(self, key: str) -> NotDirectoryError:
        return NotDirectoryError("it is a file", bucket=self.bucket, key=key)

    def is_directory(self, key: str) -> IsDirectoryError:
        return IsDirectoryError("it is a directory", bucket=self.bucket, key=key)

    async def check_place(self, key: str, *, by_hand: bool = False) -> None:
        """Raises unless a file may be written at ``key``.

        Backends with folders of their own refuse by themselves, which `placing` translates; but
        late, where the file is put late: ``by_hand``."""
        if not by_hand and not self.store.features(self.bucket, key).flat_keys:
            return
        blocker, inside = await both(lambda: self.file_above(key), lambda: self.first(key))
        if blocker is not None:
            raise self.not_directory(blocker)
        if inside:
            raise self.is_directory(key)

    @asynccontextmanager
    async def placing(self, key: str) -> AsyncIterator[None]:
        try:
            yield
        except KeyConflictError as exc:
            raise await self._conflict(key) from exc

    async def _conflict(self, key: str) -> TroveError:
        """What a backend's refusal of a key beside another one means for paths."""
        if await self.first(key):
            return self.is_directory(key)
        blocker = await self.file_above(key)
        return self.not_directory(blocker if blocker is not None else key)

    # -- what is below -------------------------------------------------------------------------

    async def children(self, key: str) -> Infos:
        """One level, in key order."""
        found = not key
        async with aclosing(self._level(below(key))) as entries:
            async for info in entries:
                found = True
                if info is not None:
                    yield info
        if not found:
            raise await self._no_directory(key)

    async def _no_directory(self, key: str) -> TroveError:
        if await self.object(key) is not None:
            return self.not_directory(key)
        return await self.missing(key)

    async def _level(self, prefix: str) -> AsyncGenerator[FileInfo | None, None]:
        """Of the keys that begin with ``prefix`` those of its last directory. None: a key that
        is no path of its own (a marker, or one with an empty or dotted part)."""
        size = prefix.rfind("/") + 1
        files = _Files()
        listing = self.store.list(self.bucket, prefix=prefix, delimiter="/")
        async with aclosing(listing) as entries:
            async for entry in entries:
                if isinstance(entry, CommonPrefix):
                    path = entry.prefix[:-1]
                    shown = is_name(path[size:]) and not files.has(path)
                    yield directory(path) if shown else None
                elif is_name(entry.key[size:]):
                    files.add(entry.key)
                    yield file_info(entry)
                else:
                    yield None

    async def objects(self, key: str) -> AsyncGenerator[ObjectInfo, None]:
        """Every object below a directory, its marker and keys that are no path included."""
        async with aclosing(self.store.list(self.bucket, prefix=below(key))) as entries:
            async for entry in entries:
                if isinstance(entry, ObjectInfo):
                    yield entry

    async def tree(self, key: str) -> Infos:
        """Everything below a directory by one listing, in key order; a directory comes before
        what is in it."""
        prefix = below(key)
        found = not key
        files = _Files()
        inside: list[str] = []
        async with aclosing(self.objects(key)) as objects:
            async for entry in objects:
                found = True
                *folders, leaf = entry.key[len(prefix) :].split("/")
                if not all(map(is_name, folders)) or leaf in (".", ".."):
                    continue
                depth = 0
                for old, new in zip(inside, folders, strict=False):
                    if old != new:
                        break
                    depth += 1
                del inside[depth:]
                for name in folders[depth:]:
                    inside.append(name)
                    path = prefix + "/".join(inside)
                    if not files.has(path):
                        is_marker = not leaf and len(inside) == len(folders)
                        yield directory(path, entry.last_modified if is_marker else None)
                if leaf:
                    files.add(entry.key)
                    yield file_info(entry)
        if not found:
            raise await self._no_directory(key)

    async def walk(self, key: str, *, top_down: bool, is_root: bool = True) -> Triples:
        try:
            async with aclosing(self._portions(key)) as portions:
                async for folders, files in portions:
                    if top_down:
                        yield key, folders, files
                    for name in folders:
                        path = joined(key, name)
                        inner = self.walk(path, top_down=top_down, is_root=False)
                        async with aclosing(inner) as triples:
                            async for triple in triples:
                                yield triple
                    if not top_down:
                        yield key, folders, files
        except (ObjectNotFoundError, NotDirectoryError):
            if is_root:
                raise  # else it was removed since it was listed

    async def _portions(self, key: str) -> AsyncGenerator[tuple[list[str], list[str]], None]:
        folders: list[str] = []
        files: list[str] = []
        given = False
        async with aclosing(self.children(key)) as entries:
            async for info in entries:
                (folders if info.is_dir else files).append(info.name)
                if len(folders) + len(files) == NAMES:
                    yield folders, files
                    folders, files, given = [], [], True
        if folders or files or not given:
            yield folders, files

    # -- patterns ------------------------------------------------------------------------------

    async def glob(self, key: str, parts: Sequence[str], only_dirs: bool) -> Infos:
        """What is below ``key`` and matches. Directories that are not there hold nothing."""
        part, rest = parts[0], parts[1:]
        if part == "**":
            matching = self._deep(key, Matcher(parts))
        elif is_magic(part):
            matching = self._matching(key, part, rest, only_dirs)
        elif rest:
            matching = self.glob(joined(key, part), rest, only_dirs)
        else:
            matching = self._named(joined(key, part))
        async with aclosing(matching) as infos:
            async for info in infos:
                if info.is_dir or not only_dirs:
                    yield info

    async def _named(self, key: str) -> Infos:
        found = await self.look(key)
        if found is not None:
            yield found

    async def _matching(self, key: str, part: str, rest: Sequence[str], only_dirs: bool) -> Infos:
        matches = matcher(part)
        async with aclosing(self._level(below(key) + head_of(part))) as infos:
            async for info in infos:
                if info is None or not matches(info.name):
                    continue
                if not rest:
                    yield info
                elif info.is_dir:
                    async with aclosing(self.glob(info.path, rest, only_dirs)) as inner:
                        async for deeper in inner:
                            yield deeper

    async def _deep(self, key: str, matches: Matcher) -> Infos:
        size = len(below(key))
        if matches((), True):
            found = await self.look(key)
            if found is not None and found.is_dir:
                yield found
        try:
            async with aclosing(self.tree(key)) as infos:
                async for info in infos:
                    if matches(info.path[size:].split("/"), info.is_dir):
                        yield info
        except (ObjectNotFoundError, NotDirectoryError):
            return


class _Files:
    """Files seen in a sorted listing that may come again as a directory: ``a`` stands before
    ``a/b``, with only keys between them that begin with ``a``. As many as a key has prefixes."""

    def __init__(self) -> None:
        self._paths: list[str] = []

    def _drop(self, path: str) -> None:
        while self._paths and not path.startswith(self._paths[-1]):
            self._paths.pop()

    def add(self, path: str) -> None:
        self._drop(path)
        self._paths.append(path)

    def has(self, path: str) -> bool:
        self._drop(path)
        return path in self._paths
