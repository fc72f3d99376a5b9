"""A path that knows its file system: the names of `pathlib`, the verbs awaited."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from functools import total_ordering
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, overload

from trove_async._opening import Opening
from trove_async.errors import InvalidInputError
from trove_async.vfs.file import BinaryMode, File, TextMode
from trove_async.vfs.incoming import LARGEST
from trove_async.vfs.info import FileInfo
from trove_async.vfs.paths import AnyPath, clean, file_key, text_of

if TYPE_CHECKING:
    from trove_async.vfs.filesystem import FileSystem

__all__ = ["TrovePath"]


@total_ordering
class TrovePath:
    """``fs.path("docs") / "readme.md"``. Names and arithmetic as those of `PurePosixPath`,
    relative to the bucket's root, whose path is ``.``; ``..`` is resolved at once, and
    InvalidKeyError where it leaves the bucket. Verbs as those of `FileSystem`."""

    __slots__ = ("_pure", "fs")

    def __init__(self, fs: FileSystem, path: AnyPath = "") -> None:
        self.fs = fs
        self._pure = PurePosixPath(clean(path))

    def _new(self, path: AnyPath) -> TrovePath:
        return TrovePath(self.fs, path)

    # -- the path alone ----------------------------------------------------------------------

    def __str__(self) -> str:
        return str(self._pure)

    def as_posix(self) -> str:
        return self._pure.as_posix()

    def __repr__(self) -> str:
        return f"TrovePath({self.fs.bucket!r}, {str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TrovePath):
            return NotImplemented
        return self.fs is other.fs and self._pure == other._pure

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, TrovePath) or self.fs is not other.fs:
            return NotImplemented
        return self._pure < other._pure

    def __hash__(self) -> int:
        return hash((id(self.fs), self._pure))

    def __truediv__(self, other: AnyPath) -> TrovePath:
        return self.joinpath(other)

    def joinpath(self, *others: AnyPath) -> TrovePath:
        """A part that begins with a slash starts at the root again."""
        text = self.as_posix()
        for other in others:
            added = text_of(other)
            text = added if added.startswith("/") else f"{text}/{added}" if added else text
        return self._new(text)

    @property
    def key(self) -> str:
        """The key of the file in the bucket; of the root ``""``."""
        return clean(self)

    @property
    def parts(self) -> tuple[str, ...]:
        return self._pure.parts

    @property
    def name(self) -> str:
        return self._pure.name

    @property
    def stem(self) -> str:
        return self._pure.stem

    @property
    def suffix(self) -> str:
        return self._pure.suffix

    @property
    def suffixes(self) -> list[str]:
        return self._pure.suffixes

    @property
    def parent(self) -> TrovePath:
        return self._new(self._pure.parent)

    @property
    def parents(self) -> Iterator[TrovePath]:
        """From the nearest to the root."""
        return (self._new(above) for above in self._pure.parents)

    def with_name(self, name: str) -> TrovePath:
        return self._new(self._pure.with_name(name))

    def with_stem(self, stem: str) -> TrovePath:
        return self._new(self._pure.with_stem(stem))

    def with_suffix(self, suffix: str) -> TrovePath:
        return self._new(self._pure.with_suffix(suffix))

    def relative_to(self, other: AnyPath) -> PurePosixPath:
        return self._pure.relative_to(PurePosixPath(clean(other)))

    def is_relative_to(self, other: AnyPath) -> bool:
        return self._pure.is_relative_to(PurePosixPath(clean(other)))

    def match(self, pattern: str) -> bool:
        return self._pure.match(pattern)

    # -- what is there -----------------------------------------------------------------------

    async def stat(self) -> FileInfo:
        return await self.fs.stat(self)

    async def exists(self) -> bool:
        return await self.fs.exists(self)

    async def is_file(self) -> bool:
        return await self.fs.is_file(self)

    async def is_dir(self) -> bool:
        return await self.fs.is_dir(self)

    async def iterdir(self) -> AsyncGenerator[TrovePath, None]:
        async with aclosing(self.fs.iterdir(self)) as infos:
            async for info in infos:
                yield self._new(info.path)

    async def glob(self, pattern: str) -> AsyncGenerator[TrovePath, None]:
        """See `FileSystem.glob`; the pattern is relative to this path."""
        if pattern.startswith("/"):
            raise InvalidInputError("a pattern is relative to the path")
        async with aclosing(self.fs.glob(pattern, root=self)) as infos:
            async for info in infos:
                yield self._new(info.path)

    def rglob(self, pattern: str) -> AsyncGenerator[TrovePath, None]:
        return self.glob(f"**/{pattern}")

    async def walk(
        self, top_down: bool = True
    ) -> AsyncGenerator[tuple[TrovePath, list[str], list[str]], None]:
        """See `FileSystem.walk`."""
        async with aclosing(self.fs.walk(self, top_down=top_down)) as triples:
            async for path, folders, files in triples:
                yield self._new(path), folders, files

    # -- files -------------------------------------------------------------------------------

    async def read_bytes(self) -> bytes:
        return await self.fs.read_bytes(self)

    async def read_text(
        self, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> str:
        return await self.fs.read_text(self, encoding, errors, newline)

    async def write_bytes(self, data: bytes | bytearray | memoryview) -> int:
        """How many bytes they were."""
        return (await self.fs.write_bytes(self, data)).size

    async def write_text(
        self,
        text: str,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> int:
        """How many characters they were."""
        await self.fs.write_text(self, text, encoding, errors, newline)
        return len(text)

    @overload
    def open(
        self,
        mode: BinaryMode,
        *,
        read_ahead: int = LARGEST,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Opening[File[bytes]]: ...
    @overload
    def open(
        self,
        mode: TextMode = "r",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        read_ahead: int = LARGEST,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Opening[File[str]]: ...
    def open(
        self,
        mode: str = "r",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        read_ahead: int = LARGEST,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Opening[File[bytes]] | Opening[File[str]]:
        """As `FileSystem.open`, but of text unless the mode says otherwise, as in `pathlib`."""
        return self.fs.open(
            self,
            mode,
            encoding=encoding,
            errors=errors,
            newline=newline,
            read_ahead=read_ahead,
            content_type=content_type,
            metadata=metadata,
        )

    async def touch(self, exist_ok: bool = True) -> None:
        await self.fs.touch(self, exist_ok=exist_ok)

    async def unlink(self, missing_ok: bool = False) -> None:
        await self.fs.remove(self, missing_ok=missing_ok)

    async def get_metadata(self) -> dict[str, str]:
        return await self.fs.get_metadata(self)

    async def set_metadata(self, metadata: Mapping[str, str]) -> None:
        await self.fs.set_metadata(self, metadata)

    # -- directories and places --------------------------------------------------------------

    async def mkdir(self, *, parents: bool = True, exist_ok: bool = False) -> None:
        await self.fs.mkdir(self, parents=parents, exist_ok=exist_ok)

    async def rmdir(self) -> None:
        await self.fs.rmdir(self)

    async def remove_all(self) -> int:
        """How many objects there were. The root is refused: say ``fs.remove_all("/")``."""
        return await self.fs.remove_all(file_key(self))

    async def rename(self, target: AnyPath) -> TrovePath:
        """The new path. ``target`` is relative to the root; see `FileSystem.rename`."""
        await self.fs.rename(self, target)
        return self._new(target)

    replace = rename
    move = rename

    async def copy(self, target: AnyPath) -> TrovePath:
        await self.fs.copy(self, target)
        return self._new(target)

    async def move_into(self, directory: AnyPath) -> TrovePath:
        return await self.rename(self._new(directory) / self.name)

    async def copy_into(self, directory: AnyPath) -> TrovePath:
        return await self.copy(self._new(directory) / self.name)
