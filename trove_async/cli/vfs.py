"""The commands that see directories: tree, du, find."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from trove_async import Trove
from trove_async.cli import show
from trove_async.cli.address import Place, UsageError, locate
from trove_async.cli.run import OK

if TYPE_CHECKING:  # other commands have no use for it
    from trove_async import FileInfo, FileSystem

__all__ = ["Wanted", "disk_usage", "find", "tree"]

_MAGIC = frozenset("*?[")
_MARKS = (("├── ", "│   "), ("└── ", "    "))


def _opened(store: Trove, path: str, bucket: str | None) -> tuple[Place, FileSystem]:
    place = locate(store, path, bucket)
    if not place.bucket:
        raise UsageError("name a bucket: BUCKET or BUCKET/PATH")
    return place, store.vfs(place.bucket)


def _record(bucket: str, info: FileInfo) -> dict[str, object]:
    return {
        "bucket": bucket,
        "path": info.path,
        "type": "directory" if info.is_dir else "file",
        "size": info.size,
        "modified": info.modified.isoformat() if info.modified else None,
    }


# -- tree ------------------------------------------------------------------------------------


async def tree(
    store: Trove,
    path: str,
    *,
    bucket: str | None,
    depth: int | None,
    only_dirs: bool,
    as_json: bool,
) -> int:
    place, fs = _opened(store, path, bucket)
    if not as_json:
        show.line(f"{place.bucket}/{place.key}".rstrip("/"))
    counts = [0, 0]
    lines = _branches(fs, place.key, "", depth, only_dirs)
    async with aclosing(lines) as branches:
        async for lead, info in branches:
            counts[info.is_file] += 1
            if as_json:
                show.json_line(_record(place.bucket, info))
            else:
                show.line(f"{lead}{info.name}{'/' if info.is_dir else ''}")
    if not as_json:
        show.line("")
        show.line(f"{counts[0]} directories" + ("" if only_dirs else f", {counts[1]} files"))
    return OK


async def _branches(
    fs: FileSystem, path: str, lead: str, depth: int | None, only_dirs: bool
) -> AsyncGenerator[tuple[str, FileInfo], None]:
    """(what stands before the name, entry). One entry is held back at each level: the last one
    has another mark."""
    held: FileInfo | None = None
    async with aclosing(fs.iterdir(path)) as entries:
        async for info in entries:
            if only_dirs and info.is_file:
                continue
            if held is not None:
                async with aclosing(_branch(fs, held, lead, depth, only_dirs, False)) as inner:
                    async for branch in inner:
                        yield branch
            held = info
    if held is not None:
        async with aclosing(_branch(fs, held, lead, depth, only_dirs, True)) as inner:
            async for branch in inner:
                yield branch


async def _branch(
    fs: FileSystem, info: FileInfo, lead: str, depth: int | None, only_dirs: bool, is_last: bool
) -> AsyncGenerator[tuple[str, FileInfo], None]:
    mark, further = _MARKS[is_last]
    yield lead + mark, info
    if info.is_dir and (depth is None or depth > 1):
        below = None if depth is None else depth - 1
        async with aclosing(_branches(fs, info.path, lead + further, below, only_dirs)) as inner:
            async for branch in inner:
                yield branch


# -- du --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Total:
    path: str
    size: int = 0
    files: int = 0


async def disk_usage(
    store: Trove,
    path: str,
    *,
    bucket: str | None,
    depth: int | None,
    exact: bool,
    as_json: bool,
) -> int:
    """Directories with all that is below them, the innermost first."""
    place, fs = _opened(store, path, bucket)
    start = await fs.stat(place.key)
    if start.is_file:
        _tell(place.bucket, _Total(start.path, start.size, 1), exact=exact, as_json=as_json)
        return OK
    open_totals = [_Total(start.path)]

    def leave() -> None:
        done = open_totals.pop()
        if open_totals:
            open_totals[-1].size += done.size
            open_totals[-1].files += done.files
        if depth is None or len(open_totals) <= depth:
            _tell(place.bucket, done, exact=exact, as_json=as_json)

    async with aclosing(fs.tree(start.path)) as entries:
        async for info in entries:
            parent = info.path.rpartition("/")[0]
            while len(open_totals) > 1 and not _is_in(parent, open_totals[-1].path):
                leave()
            if info.is_dir:
                open_totals.append(_Total(info.path))
            else:
                open_totals[-1].size += info.size
                open_totals[-1].files += 1
    while open_totals:
        leave()
    return OK


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _tell(bucket: str, total: _Total, *, exact: bool, as_json: bool) -> None:
    if as_json:
        record = {"bucket": bucket, "path": total.path, "size": total.size, "files": total.files}
        show.json_line(record)
        return
    size = str(total.size) if exact else show.size_text(total.size)
    show.line(f"{size:>12}  {bucket}/{total.path}".rstrip("/"))


# -- find ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    name: str | None = None
    """A glob of the last part."""
    kind: Literal["f", "d"] | None = None
    min_size: int | None = None
    """Bytes; of files."""
    max_size: int | None = None

    def __call__(self, info: FileInfo) -> bool:
        if self.kind is not None and (self.kind == "d") != info.is_dir:
            return False
        if self.name is not None and not fnmatchcase(info.name, self.name):
            return False
        if self.min_size is None and self.max_size is None:
            return True
        most = self.max_size if self.max_size is not None else info.size
        return info.is_file and (self.min_size or 0) <= info.size <= most


async def find(
    store: Trove, path: str, *, bucket: str | None, wanted: Wanted, as_json: bool
) -> int:
    """PATH may be a pattern: ``photos/**/*.jpg``."""
    place, fs = _opened(store, path, bucket)
    is_pattern = bool(_MAGIC & set(place.key))
    found = fs.glob(place.key) if is_pattern else fs.tree(place.key)
    async with aclosing(found) as entries:
        async for info in entries:
            if not wanted(info):
                continue
            if as_json:
                show.json_line(_record(place.bucket, info))
            else:
                show.line(f"{place.bucket}/{info}")
    return OK
