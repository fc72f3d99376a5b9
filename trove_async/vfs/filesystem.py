"""Files and directories over the keys of one bucket."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Literal, cast, overload

from trove_async._chunks import Closable
from trove_async._opening import Opening
from trove_async.errors import (
    DirectoryNotEmptyError,
    InvalidInputError,
    IsDirectoryError,
    ObjectChangedError,
    ObjectNotFoundError,
    PathExistsError,
    PreconditionFailedError,
    UnsupportedError,
)
from trove_async.model import ObjectInfo
from trove_async.vfs.entries import Entries
from trove_async.vfs.file import BinaryMode, File, TextMode
from trove_async.vfs.incoming import LARGEST, Incoming
from trove_async.vfs.info import DIRECTORY, FileInfo, file_info
from trove_async.vfs.outgoing import Outgoing, appended
from trove_async.vfs.paths import AnyPath, below, clean, file_key, text_of
from trove_async.vfs.patterns import split_pattern
from trove_async.vfs.store import Store
from trove_async.vfs.text import TextReader, TextWriter, check_text
from trove_async.vfs.trees import Trees

if TYPE_CHECKING:
    from trove_async.vfs.path import TrovePath

__all__ = ["FileSystem"]

_KINDS = {"r", "w", "x", "a"}


class FileSystem:
    """Paths are POSIX and relative to the bucket, with or without a leading slash.

    A directory is there as long as a key begins with it and a slash, or its marker is there,
    the empty object ``dir/`` that `mkdir` writes; parents need no `mkdir`. Errors are those of
    the store and, of paths, also Python's own: FileNotFoundError, FileExistsError,
    IsADirectoryError, NotADirectoryError."""

    def __init__(self, store: Store, bucket: str) -> None:
        self._store = store
        self._entries = Entries(store, bucket)
        self._trees = Trees(self._entries)
        self.bucket = bucket

    def __repr__(self) -> str:
        return f"<FileSystem of {self.bucket!r} in {self._store!r}>"

    def path(self, path: AnyPath = "") -> TrovePath:
        from trove_async.vfs.path import TrovePath

        return TrovePath(self, path)

    # -- what is there -----------------------------------------------------------------------

    async def stat(self, path: AnyPath) -> FileInfo:
        """One request for a file, two for a directory."""
        return await self._entries.stat(clean(path))

    async def exists(self, path: AnyPath) -> bool:
        return await self._entries.look(clean(path)) is not None

    async def is_file(self, path: AnyPath) -> bool:
        found = await self._entries.look(clean(path))
        return found is not None and found.is_file

    async def is_dir(self, path: AnyPath) -> bool:
        found = await self._entries.look(clean(path))
        return found is not None and found.is_dir

    def iterdir(self, path: AnyPath = "") -> AsyncGenerator[FileInfo, None]:
        """What a directory holds, in key order, a page of the listing at a time."""
        return self._entries.children(clean(path))

    def tree(self, path: AnyPath = "") -> AsyncGenerator[FileInfo, None]:
        """Everything below a directory in key order, directories before what is in them: by
        one listing, however many directories there are."""
        return self._entries.tree(clean(path))

    def walk(
        self, path: AnyPath = "", *, top_down: bool = True
    ) -> AsyncGenerator[tuple[str, list[str], list[str]], None]:
        """(path, names of directories, names of files), as `os.walk`; top-down, names removed
        from the first list are not walked into.

        A directory of more than 10,000 names comes in several portions of the same path."""
        return self._entries.walk(clean(path), top_down=top_down)

    async def glob(self, pattern: str, *, root: AnyPath = "") -> AsyncGenerator[FileInfo, None]:
        """What matches below ``root``, each once, mostly in key order.

        ``*``, ``?`` and ``[...]`` stay within a part and match hidden names too; ``**`` is any
        number of directories, at the end also all that is in them; with a slash at the end
        only directories match."""
        parts, only_dirs = split_pattern(pattern)
        async with aclosing(self._entries.glob(clean(root), parts, only_dirs)) as infos:
            async for info in infos:
                yield info

    # -- whole files -------------------------------------------------------------------------

    async def read_bytes(self, path: AnyPath) -> bytes:
        """Checked against the recorded digest."""
        key = file_key(path)
        try:
            return await self._store.get_bytes(self.bucket, key)
        except ObjectNotFoundError as exc:
            raise await self._entries.no_file(key) from exc

    async def write_bytes(
        self,
        path: AnyPath,
        data: bytes | bytearray | memoryview,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> FileInfo:
        """Replaces the file, metadata included."""
        key = file_key(path)
        whole = memoryview(data).tobytes()
        async with self._entries.placing(key):
            await self._entries.check_place(key)
            return file_info(
                await self._store.put(
                    self.bucket, key, whole, content_type=content_type, metadata=metadata
                )
            )

    async def read_text(
        self,
        path: AnyPath,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> str:
        """As `pathlib.Path.read_text`; the encoding is UTF-8 unless given."""
        encoding, errors = check_text(encoding, errors, newline)
        data = await self.read_bytes(path)
        return io.TextIOWrapper(io.BytesIO(data), encoding, errors, newline).read()

    async def write_text(
        self,
        path: AnyPath,
        text: str,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> FileInfo:
        """As `pathlib.Path.write_text`; the encoding is UTF-8 unless given."""
        encoder = TextWriter(*check_text(encoding, errors, newline), newline, is_start=True)
        data = encoder.encode(text) + encoder.end()
        return await self.write_bytes(path, data, content_type=content_type, metadata=metadata)

    async def touch(self, path: AnyPath, *, exist_ok: bool = True) -> None:
        """Makes an empty file, or makes one that is there new as of now."""
        key = file_key(path)
        found = await self._entries.object(key)
        if found is not None:
            if not exist_ok:
                raise PathExistsError("the file exists", bucket=self.bucket, key=key)
            await self._store.copy(
                self.bucket, key, self.bucket, key, metadata=found.metadata, if_match=found.etag
            )
            return
        async with self._entries.placing(key):
            await self._entries.check_place(key)
            can = "create" in self._store.features(self.bucket, key).conditional
            try:
                await self._store.put(self.bucket, key, b"", if_none_match="*" if can else None)
            except PreconditionFailedError as exc:
                if not exist_ok:
                    raise PathExistsError("the file exists", bucket=self.bucket, key=key) from exc

    # -- open files --------------------------------------------------------------------------

    @overload
    def open(
        self,
        path: AnyPath,
        mode: BinaryMode = "rb",
        *,
        read_ahead: int = LARGEST,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Opening[File[bytes]]: ...
    @overload
    def open(
        self,
        path: AnyPath,
        mode: TextMode,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        read_ahead: int = LARGEST,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Opening[File[str]]: ...
    @overload
    def open(
        self,
        path: AnyPath,
        mode: str,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        read_ahead: int = LARGEST,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Opening[File[bytes]] | Opening[File[str]]: ...
    def open(
        self,
        path: AnyPath,
        mode: str = "rb",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        read_ahead: int = LARGEST,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Opening[File[bytes]] | Opening[File[str]]:
        """``async with fs.open(path, mode) as file``. ``mode``: ``r``, ``w``, ``x`` or ``a``, of
        text unless with ``b``. Nothing is both read and written (``+``).

        ``a`` writes the file anew, what was there first: an object has no end to write at.
        ``encoding`` (UTF-8), ``errors`` and ``newline`` as in `io.TextIOWrapper`.
        ``read_ahead``: bytes a request may read beyond what was asked for, which it holds.
        ``content_type`` and ``metadata`` are for writing; appending keeps those that are there.
        """
        kind, is_text = _kind_of(mode)
        key = file_key(path)
        if not is_text and (encoding, errors, newline) != (None, None, None):
            raise InvalidInputError("a binary file takes no encoding, errors or newline")
        if kind == "r" and (content_type is not None or metadata is not None):
            raise InvalidInputError("content_type and metadata are for files that are written")
        if read_ahead < 1:
            raise InvalidInputError("read_ahead is at least 1 byte")
        coding = check_text(encoding, errors, newline)

        async def start() -> File[bytes]:
            if kind == "r":
                incoming = Incoming(self._store, self.bucket, key, read_ahead)
                try:
                    await incoming.open()
                except ObjectNotFoundError as exc:
                    raise await self._entries.no_file(key) from exc
                decoder = TextReader(*coding, newline) if is_text else None
                return File(key, mode, incoming, None, decoder=decoder)
            outgoing, size = await self._outgoing(key, kind, content_type, metadata)
            encoder = TextWriter(*coding, newline, is_start=not size) if is_text else None
            return File(key, mode, None, outgoing, encoder=encoder, start=size)

        # File[str] where it is text: the two differ in nothing that runs.
        return cast("Opening[File[bytes]]", Opening(start))

    async def _outgoing(
        self,
        key: str,
        kind: str,
        content_type: str | None,
        metadata: Mapping[str, str] | None,
    ) -> tuple[Outgoing, int]:
        conditional = self._store.features(self.bucket, key).conditional
        if kind == "x" and "create" not in conditional:
            raise UnsupportedError("the backend has no create-only put", key=key)
        found: ObjectInfo | None = None
        if kind != "w" and (found := await self._entries.object(key)) is not None and kind == "x":
            raise PathExistsError("the file exists", bucket=self.bucket, key=key)
        if found is None:
            try:
                await self._entries.check_place(key, by_hand=True)
            except IsDirectoryError as exc:
                if kind == "x":
                    raise PathExistsError("it is there", bucket=self.bucket, key=key) from exc
                raise
        must_match = found.etag if found is not None and "match" in conditional else None
        is_new = kind == "x" or (kind == "a" and found is None and "create" in conditional)
        if found is not None:
            content_type = content_type or found.content_type
            metadata = found.metadata if metadata is None else metadata

        async def put(body: object) -> ObjectInfo:
            if found is not None:
                reader = await self._store.get(self.bucket, key, if_match=found.etag or None)
                body = appended(reader, cast("Closable", body))
            return await self._store.put(
                self.bucket,
                key,
                body,
                content_type=content_type,
                metadata=metadata,
                if_none_match="*" if is_new else None,
                if_match=must_match,
            )

        async def published(body: object) -> ObjectInfo:
            try:
                async with self._entries.placing(key):
                    return await put(body)
            except PreconditionFailedError as exc:
                where = {"bucket": self.bucket, "key": key}
                if kind == "x":
                    raise PathExistsError("the file exists by now", **where) from exc
                raise ObjectChangedError("the file changed since it was opened", **where) from exc

        return Outgoing(published, at_once=found is None), found.size if found is not None else 0

    # -- directories -------------------------------------------------------------------------

    async def mkdir(self, path: AnyPath, *, parents: bool = True, exist_ok: bool = False) -> None:
        """Writes the marker ``path/``, so that the directory stays when it is empty.

        ``exist_ok``: one that is there gets a marker if it has none; a file is PathExistsError
        all the same. ``parents`` False: the directory above must be there."""
        key = clean(path)
        entries = self._entries
        found = await entries.look(key)
        if found is not None and (found.is_file or not exist_ok or not key):
            if not key and exist_ok:
                return
            raise PathExistsError("the path exists", bucket=self.bucket, key=key or "/")
        marker = below(key)
        if found is not None and (await entries.first(key))[0].key == marker:
            return
        if found is None:
            blocker = await entries.file_above(key)
            if blocker is not None:
                raise entries.not_directory(blocker)
            above = key.rpartition("/")[0]
            if not parents and await entries.look(above) is None:
                raise await entries.missing(above)
        async with self._entries.placing(key):
            await self._store.put(self.bucket, marker, b"", content_type=DIRECTORY)

    async def rmdir(self, path: AnyPath) -> None:
        """Removes the marker of a directory that holds nothing else."""
        key = clean(path)
        if not key:
            raise InvalidInputError("the root is the bucket: use delete_bucket")
        inside = await self._entries.first(key, 2)
        if not inside:
            if await self._entries.object(key) is not None:
                raise self._entries.not_directory(key)
            raise await self._entries.missing(key)
        if len(inside) > 1 or inside[0].key != below(key):
            raise DirectoryNotEmptyError("the directory is not empty", bucket=self.bucket, key=key)
        await self._store.delete(self.bucket, below(key))

    async def remove(self, path: AnyPath, *, missing_ok: bool = False) -> None:
        """Removes a file."""
        key = file_key(path)
        if await self._entries.object(key) is None:
            if missing_ok and not await self._entries.first(key):
                return
            raise await self._entries.no_file(key)
        await self._store.delete(self.bucket, key)

    async def remove_all(self, path: AnyPath) -> int:
        """Removes a file, or a directory with all below it, by batches. Returns how many
        objects there were; a path that is not there has none.

        The root is named ``"/"``: an empty path is refused. Errors of single keys do not keep
        the others; the first of them is raised at the end."""
        key = clean(path)
        if not key and not text_of(path).startswith("/"):
            raise InvalidInputError("to remove everything in the bucket, say '/'")
        return await self._trees.remove(key)

    async def rename(self, source: AnyPath, target: AnyPath) -> FileInfo:
        """A file replaces a file, whole, by the backend's own move where it has one; at no
        moment both are missing. Onto itself it changes nothing.

        A directory takes the place of none or of an empty one, and cannot go below itself. It
        is moved object by object: each is whole at one of its places when this is interrupted,
        and `copy` with `remove_all` can finish it."""
        return await self._trees.rename(clean(source), clean(target))

    async def copy(self, source: AnyPath, target: AnyPath) -> FileInfo:
        """A file onto a file, or a directory, merged into the one that is there. Metadata and
        content types go along. Onto itself it changes nothing."""
        return await self._trees.copy(clean(source), clean(target))

    # -- metadata ----------------------------------------------------------------------------

    async def get_metadata(self, path: AnyPath) -> dict[str, str]:
        return dict((await self._file(file_key(path))).metadata)

    async def set_metadata(self, path: AnyPath, metadata: Mapping[str, str]) -> FileInfo:
        """Replaces all metadata of the user's. ObjectChangedError when the file is replaced
        meanwhile."""
        key = file_key(path)
        found = await self._file(key)
        return file_info(
            await self._store.copy(
                self.bucket, key, self.bucket, key, metadata=metadata, if_match=found.etag or None
            )
        )

    async def _file(self, key: str) -> ObjectInfo:
        found = await self._entries.object(key)
        if found is None:
            raise await self._entries.no_file(key)
        return found


def _kind_of(mode: str) -> tuple[Literal["r", "w", "x", "a"], bool]:
    """(what is done, whether with text)."""
    if not isinstance(mode, str):
        raise TypeError(f"a mode is a str, not {type(mode).__name__}")
    letters = set(mode)
    if len(letters) != len(mode) or letters - {*_KINDS, "b", "t", "+"} or letters >= {"b", "t"}:
        raise InvalidInputError(f"invalid mode: {mode!r}")
    kinds = letters & _KINDS
    if len(kinds) != 1:
        raise InvalidInputError(f"a mode has one of r, w, x and a: {mode!r}")
    if "+" in letters:
        raise UnsupportedError("a file is read or written, not both: an object is stored whole")
    return cast("Literal['r', 'w', 'x', 'a']", kinds.pop()), "b" not in letters
